//! Whether clients could have seen what they saw if each statement had happened at one instant between its beginning and its answer.
//!
//! Keys are independent, so each is searched by itself (Wing and Gong, with the states that were already tried remembered). An operation
//! whose outcome nobody knows may happen at any time after it began, or never.

use super::super::history::{End, Record};
use super::super::workload::{Act, Response};
use std::collections::{BTreeMap, BTreeSet};

/// States that are looked at for one key before the search is given up.
const MOST_STEPS: usize = 400_000;

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// The operations of this key cannot be put in any order.
    Broken {
        key: i32,
        why: String,
    },
    /// The search of so many keys was given up.
    Undecided(usize),
}

/// What is required of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    Full,
    /// Only what changed a row: clocks ran beyond the bound under which leases keep reads from being old.
    Writes,
}

/// Judges a whole history, except for keys that `exempt` names.
#[must_use]
pub fn judge(records: &[Record], strictness: Strictness, exempt: impl Fn(i32) -> bool) -> Verdict {
    let mut by_key: BTreeMap<i32, Vec<&Record>> = BTreeMap::new();
    for record in records.iter().filter(|record| counts(record, strictness)) {
        by_key.entry(record.key).or_default().push(record);
    }
    let mut undecided = 0;
    for (key, records) in by_key.iter().filter(|(key, _)| !exempt(**key)) {
        match Search::new(records).run() {
            Some(true) => {}
            Some(false) => return Verdict::Broken { key: *key, why: explain(records) },
            None => undecided += 1,
        }
    }
    if undecided > 0 { Verdict::Undecided(undecided) } else { Verdict::Linearizable }
}

fn counts(record: &Record, strictness: Strictness) -> bool {
    match (record.end, record.act) {
        (End::Refused, _) | (End::Open | End::Unknown, Act::Read) => false,
        (End::Open | End::Unknown, _) => true,
        (End::Answered(_), Act::Read) => strictness == Strictness::Full,
        (End::Answered(Response::Value(None) | Response::Wrote(0) | Response::Duplicate), _) => {
            strictness == Strictness::Full
        }
        (End::Answered(_), _) => true,
    }
}

/// The row after an operation on `row`, with the answer that it must give.
fn happen(act: Act, row: Option<i64>) -> (Option<i64>, Response) {
    match (act, row) {
        (Act::Insert(value), None) => (Some(value), Response::Wrote(1)),
        (Act::Insert(_), Some(_)) => (row, Response::Duplicate),
        (Act::Read, _) => (row, Response::Value(row)),
        (Act::Add { .. }, Some(n)) => (Some(n + 1), Response::Value(Some(n + 1))),
        (Act::Add { .. } | Act::Delete, None) => (None, Response::Value(None)),
        (Act::Put(value), Some(_)) => (Some(value), Response::Wrote(1)),
        (Act::Put(_), None) => (None, Response::Wrote(0)),
        (Act::Delete, Some(_)) => (None, Response::Value(row)),
    }
}

struct Search<'a> {
    records: &'a [&'a Record],
    done: Vec<u64>,
    /// Answered operations that are not in the order yet.
    left: usize,
    tried: BTreeSet<(Vec<u64>, Option<i64>)>,
    steps: usize,
}

impl<'a> Search<'a> {
    fn new(records: &'a [&'a Record]) -> Search<'a> {
        let left = records.iter().filter(|record| matches!(record.end, End::Answered(_))).count();
        Search { records, done: vec![0; records.len().div_ceil(64)], left, tried: BTreeSet::new(), steps: 0 }
    }

    /// None when it took too long.
    fn run(mut self) -> Option<bool> {
        self.extend(None)
    }

    fn is_done(&self, index: usize) -> bool {
        self.done.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn flip(&mut self, index: usize) {
        if let Some(word) = self.done.get_mut(index / 64) {
            *word ^= 1 << (index % 64);
        }
    }

    /// Tries to put all that is left in order after a row of this value.
    fn extend(&mut self, row: Option<i64>) -> Option<bool> {
        if self.left == 0 {
            return Some(true);
        }
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return None;
        }
        if !self.tried.insert((self.done.clone(), row)) {
            return Some(false);
        }
        // Nothing may come before an operation that had ended when it began.
        let first_end = self
            .records
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.is_done(*index))
            .map(|(_, record)| record.ended)
            .min()
            .unwrap_or(u64::MAX);
        for answered in [true, false] {
            for (index, record) in self.records.iter().enumerate() {
                let expected = match record.end {
                    End::Answered(response) => Some(response),
                    End::Open | End::Unknown | End::Refused => None,
                };
                if expected.is_some() != answered || record.began > first_end || self.is_done(index) {
                    continue;
                }
                let (next, response) = happen(record.act, row);
                // What nobody was told and changes nothing need not be put anywhere.
                if expected.map_or(next == row, |expected| expected != response) {
                    continue;
                }
                self.flip(index);
                self.left -= usize::from(answered);
                let found = self.extend(next);
                self.left += usize::from(answered);
                self.flip(index);
                if found != Some(false) {
                    return found;
                }
            }
        }
        Some(false)
    }
}

fn explain(records: &[&Record]) -> String {
    let lines: Vec<String> = records
        .iter()
        .map(|record| {
            let ended = if record.ended == u64::MAX { "…".to_owned() } else { record.ended.to_string() };
            format!("  {}–{ended} {:?} → {:?}", record.began, record.act, record.end)
        })
        .collect();
    format!("no order of these explains the answers:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(act: Act, began: u64, ended: u64, end: End) -> Record {
        Record { key: 1, act, began, ended, end }
    }

    fn value(n: i64) -> End {
        End::Answered(Response::Value(Some(n)))
    }

    const WROTE: End = End::Answered(Response::Wrote(1));
    const ADD: Act = Act::Add { scan: false };

    fn is_fine(records: &[Record]) -> bool {
        judge(records, Strictness::Full, |_| false) == Verdict::Linearizable
    }

    #[test]
    fn a_lost_write_is_seen() {
        let insert = record(Act::Insert(5), 1, 2, WROTE);
        assert!(is_fine(&[insert, record(Act::Read, 3, 4, value(5))]));
        assert!(!is_fine(&[insert, record(Act::Read, 3, 4, End::Answered(Response::Value(None)))]));
        let overlapping = record(Act::Insert(5), 1, 5, WROTE);
        assert!(is_fine(&[overlapping, record(Act::Read, 3, 4, End::Answered(Response::Value(None)))]));
    }

    #[test]
    fn a_doubled_write_is_seen() {
        let insert = record(Act::Insert(5), 1, 2, WROTE);
        assert!(!is_fine(&[insert, record(ADD, 3, 4, value(7))]));
        assert!(!is_fine(&[insert, record(ADD, 3, 4, value(6)), record(Act::Read, 5, 6, value(7))]));
        assert!(!is_fine(&[insert, record(Act::Insert(9), 3, 4, WROTE)]));
    }

    #[test]
    fn what_nobody_knows_may_have_happened_or_not() {
        let insert = record(Act::Insert(5), 1, 2, WROTE);
        let unknown = record(ADD, 3, u64::MAX, End::Unknown);
        assert!(is_fine(&[insert, unknown, record(Act::Read, 5, 6, value(5))]));
        assert!(is_fine(&[insert, unknown, record(Act::Read, 5, 6, value(6))]));
        assert!(is_fine(&[insert, unknown, record(Act::Read, 5, 6, value(5)), record(Act::Read, 7, 8, value(6))]));
        assert!(!is_fine(&[insert, unknown, record(Act::Read, 5, 6, value(6)), record(Act::Read, 7, 8, value(5))]));
        let refused = record(ADD, 3, 4, End::Refused);
        assert!(!is_fine(&[insert, refused, record(Act::Read, 5, 6, value(6))]));
    }

    #[test]
    fn an_old_read_is_seen_unless_clocks_were_out_of_bound() {
        let records =
            [record(Act::Insert(5), 1, 2, WROTE), record(ADD, 3, 4, value(6)), record(Act::Read, 5, 6, value(5))];
        assert!(!is_fine(&records));
        assert_eq!(judge(&records, Strictness::Writes, |_| false), Verdict::Linearizable);
        assert_eq!(judge(&records, Strictness::Full, |key| key == 1), Verdict::Linearizable);
    }
}
