//! Whether clients could have seen what they saw if each statement had happened at one instant between its beginning and its answer.
//!
//! Keys are independent, so each is searched by itself (Wing and Gong, with the states that were already tried remembered). An operation
//! whose outcome nobody knows may happen at any time after it began, or never. When a partition was given up, its rows vanished at that instant;
//! what was under way then may have happened before it and again after it.

use super::super::history::{Emptied, End, Record, Step};
use super::super::workload::{Act, Response, table};
use std::collections::{BTreeMap, BTreeSet};

/// States that are looked at for one key before the search is given up.
const MOST_STEPS: usize = 400_000;

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// What happened cannot be put in any order.
    Broken(String),
    /// So many searches were given up.
    Undecided(usize),
}

/// What is required of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    Full,
    /// Only what changed a row: clocks ran beyond the bound under which leases keep reads from being old.
    Writes,
}

/// Something that happened to the row of a key, or may have.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub began: u64,
    pub ended: u64,
    pub what: What,
    pub certainty: Certainty,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    Act(Act),
    /// The partition was given up.
    Vanish,
}

#[derive(Clone, Copy, Debug)]
pub enum Certainty {
    /// It happened, and was told this.
    Told(Response),
    /// It happened, and nobody was told anything.
    Sure,
    /// It happened before anything that began after its end, or never.
    Maybe,
}

/// What happened to each key.
#[must_use]
pub fn events(
    records: &[Record],
    emptied: &[Emptied],
    strictness: Strictness,
    partitions: u16,
) -> BTreeMap<i32, Vec<Event>> {
    let mut by_key: BTreeMap<i32, Vec<Event>> = BTreeMap::new();
    for record in records {
        for step in &record.steps {
            if let Step::On { key, act, told } = step
                && let Some(event) = event(record, *act, *told, strictness)
            {
                by_key.entry(*key).or_default().push(event);
            }
        }
    }
    for (key, events) in by_key.iter_mut().filter(|_| !emptied.is_empty()) {
        let partition = table::partition(*key, partitions);
        for Emptied { at, .. } in emptied.iter().filter(|emptied| emptied.partition == partition) {
            vanish(events, *at);
        }
    }
    by_key
}

fn event(record: &Record, act: Act, told: Option<Response>, strictness: Strictness) -> Option<Event> {
    let Record { began, ended, end, .. } = *record;
    let certainty = match (end, told) {
        (End::Refused, _) => return None,
        (End::Answered, Some(told)) => Certainty::Told(told),
        (End::Open | End::Unknown | End::Answered, _) => Certainty::Maybe,
    };
    let changed_nothing = matches!(told, Some(Response::Value(None) | Response::Wrote(0) | Response::Duplicate));
    let counts = match certainty {
        Certainty::Told(_) => strictness == Strictness::Full || (act.writes() && !changed_nothing),
        Certainty::Sure | Certainty::Maybe => act.writes(),
    };
    counts.then_some(Event { began, ended, what: What::Act(act), certainty })
}

fn vanish(events: &mut Vec<Event>, at: u64) {
    let spans =
        |event: &&Event| event.began < at && event.ended > at && matches!(event.what, What::Act(act) if act.writes());
    let ghosts: Vec<Event> = events
        .iter()
        .filter(spans)
        .map(|event| Event { ended: at - 1, certainty: Certainty::Maybe, ..*event })
        .collect();
    events.extend(ghosts);
    events.push(Event { began: at, ended: at, what: What::Vanish, certainty: Certainty::Sure });
}

/// Judges every key by itself.
#[must_use]
pub fn judge(by_key: &BTreeMap<i32, Vec<Event>>) -> Verdict {
    let mut undecided = 0;
    for (key, events) in by_key {
        match possible(events) {
            Some(true) => {}
            Some(false) => return Verdict::Broken(format!("key {key}: {}", explain(events))),
            None => undecided += 1,
        }
    }
    if undecided > 0 { Verdict::Undecided(undecided) } else { Verdict::Linearizable }
}

/// Whether these events of one key can be put in an order that explains them; none when that took too long to find out.
#[must_use]
pub fn possible(events: &[Event]) -> Option<bool> {
    Search::new(events).extend(None, 0)
}

/// The row after an act on `row`, with the answer that it must give.
fn happen(act: Act, row: Option<i64>) -> (Option<i64>, Response) {
    match (act, row) {
        (Act::Insert(value), None) => (Some(value), Response::Wrote(1)),
        (Act::Insert(_), Some(_)) => (row, Response::Duplicate),
        (Act::Read | Act::Lock(_), _) => (row, Response::Value(row)),
        (Act::Add { by, .. }, Some(n)) => (Some(n + by), Response::Value(Some(n + by))),
        (Act::Add { .. } | Act::Delete, None) => (None, Response::Value(None)),
        (Act::Put(value), Some(_)) => (Some(value), Response::Wrote(1)),
        (Act::Put(_), None) => (None, Response::Wrote(0)),
        (Act::Delete, Some(_)) => (None, Response::Value(row)),
    }
}

struct Search<'a> {
    events: &'a [Event],
    done: Vec<u64>,
    /// Events that must happen and are not in the order yet.
    left: usize,
    tried: BTreeSet<(Vec<u64>, Option<i64>)>,
    steps: usize,
}

impl<'a> Search<'a> {
    fn new(events: &'a [Event]) -> Search<'a> {
        let left = events.iter().filter(|event| !matches!(event.certainty, Certainty::Maybe)).count();
        Search { events, done: vec![0; events.len().div_ceil(64)], left, tried: BTreeSet::new(), steps: 0 }
    }

    fn is_done(&self, index: usize) -> bool {
        self.done.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn flip(&mut self, index: usize) {
        if let Some(word) = self.done.get_mut(index / 64) {
            *word ^= 1 << (index % 64);
        }
    }

    /// Tries to put all that is left in order after a row of this value; `latest` is the latest beginning of what is in the order.
    fn extend(&mut self, row: Option<i64>, latest: u64) -> Option<bool> {
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
        let events = self.events;
        let must = |event: &Event| !matches!(event.certainty, Certainty::Maybe);
        let waiting = events.iter().enumerate().filter(|(index, event)| must(event) && !self.is_done(*index));
        let first_end = waiting.map(|(_, event)| event.ended).min().unwrap_or(u64::MAX);
        for sure in [true, false] {
            for (index, event) in events.iter().enumerate() {
                if must(event) != sure || event.began > first_end || event.ended < latest || self.is_done(index) {
                    continue;
                }
                let (next, response) = match event.what {
                    What::Act(act) => happen(act, row),
                    What::Vanish => (None, Response::Value(row)),
                };
                let fits = match event.certainty {
                    Certainty::Told(told) => told == response,
                    Certainty::Sure => true,
                    // What nobody was told and changes nothing need not be put anywhere.
                    Certainty::Maybe => next != row,
                };
                if !fits {
                    continue;
                }
                self.flip(index);
                self.left -= usize::from(sure);
                let found = self.extend(next, latest.max(event.began));
                self.left += usize::from(sure);
                self.flip(index);
                if found != Some(false) {
                    return found;
                }
            }
        }
        Some(false)
    }
}

/// The events, for who wonders.
#[must_use]
pub fn explain(events: &[Event]) -> String {
    let lines: Vec<String> = events
        .iter()
        .map(|event| {
            let ended = if event.ended == u64::MAX { "…".to_owned() } else { event.ended.to_string() };
            format!("  {}–{ended} {:?} {:?}", event.began, event.what, event.certainty)
        })
        .collect();
    format!("no order of these explains the answers:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a record says when it ends so.
    #[derive(Clone, Copy)]
    enum Ends {
        Told(Response),
        Not(End),
    }

    fn record(act: Act, began: u64, ended: u64, ends: Ends) -> Record {
        let (end, told) = match ends {
            Ends::Told(told) => (End::Answered, Some(told)),
            Ends::Not(end) => (end, None),
        };
        Record { steps: vec![Step::On { key: 1, act, told }], began, ended, end }
    }

    fn value(n: i64) -> Ends {
        Ends::Told(Response::Value(Some(n)))
    }

    const NOTHING: Ends = Ends::Told(Response::Value(None));
    const WROTE: Ends = Ends::Told(Response::Wrote(1));
    const ADD: Act = Act::Add { scan: false, by: 1 };

    fn is_fine(records: &[Record]) -> bool {
        judge(&events(records, &[], Strictness::Full, 1)) == Verdict::Linearizable
    }

    #[test]
    fn a_lost_write_is_seen() {
        let insert = record(Act::Insert(5), 1, 2, WROTE);
        assert!(is_fine(&[insert.clone(), record(Act::Read, 3, 4, value(5))]));
        assert!(!is_fine(&[insert.clone(), record(Act::Read, 3, 4, NOTHING)]));
        let overlapping = record(Act::Insert(5), 1, 5, WROTE);
        assert!(is_fine(&[overlapping, record(Act::Read, 3, 4, NOTHING)]));
    }

    #[test]
    fn a_doubled_write_is_seen() {
        let insert = record(Act::Insert(5), 1, 2, WROTE);
        assert!(!is_fine(&[insert.clone(), record(ADD, 3, 4, value(7))]));
        assert!(!is_fine(&[insert.clone(), record(ADD, 3, 4, value(6)), record(Act::Read, 5, 6, value(7))]));
        assert!(!is_fine(&[insert.clone(), record(Act::Insert(9), 3, 4, WROTE)]));
    }

    #[test]
    fn what_nobody_knows_may_have_happened_or_not() {
        let insert = record(Act::Insert(5), 1, 2, WROTE);
        let unknown = record(ADD, 3, u64::MAX, Ends::Not(End::Unknown));
        assert!(is_fine(&[insert.clone(), unknown.clone(), record(Act::Read, 5, 6, value(5))]));
        assert!(is_fine(&[insert.clone(), unknown.clone(), record(Act::Read, 5, 6, value(6))]));
        assert!(is_fine(&[
            insert.clone(),
            unknown.clone(),
            record(Act::Read, 5, 6, value(5)),
            record(Act::Read, 7, 8, value(6))
        ]));
        assert!(!is_fine(&[
            insert.clone(),
            unknown.clone(),
            record(Act::Read, 5, 6, value(6)),
            record(Act::Read, 7, 8, value(5))
        ]));
        let refused = record(ADD, 3, 4, Ends::Not(End::Refused));
        assert!(!is_fine(&[insert.clone(), refused, record(Act::Read, 5, 6, value(6))]));
    }

    #[test]
    fn an_old_read_is_seen_unless_clocks_were_out_of_bound() {
        let records =
            [record(Act::Insert(5), 1, 2, WROTE), record(ADD, 3, 4, value(6)), record(Act::Read, 5, 6, value(5))];
        assert!(!is_fine(&records));
        assert_eq!(judge(&events(&records, &[], Strictness::Writes, 1)), Verdict::Linearizable);
    }

    #[test]
    fn rows_vanish_with_their_partition_and_at_no_other_time() {
        let insert = record(Act::Insert(5), 1, 2, WROTE);
        let given_up = [Emptied { partition: table::partition(1, 1), at: 6 }];
        let judge = |records: &[Record]| judge(&events(records, &given_up, Strictness::Full, 1));
        let after = record(Act::Read, 7, 8, NOTHING);
        assert_eq!(judge(&[insert.clone(), record(Act::Read, 3, 4, value(5)), after.clone()]), Verdict::Linearizable);
        assert_ne!(judge(&[insert.clone(), record(Act::Read, 3, 4, NOTHING)]), Verdict::Linearizable);
        assert_ne!(judge(&[insert, record(Act::Read, 7, 8, value(5))]), Verdict::Linearizable);
        // Seen before, asked for again after.
        let again = record(Act::Insert(5), 1, 9, WROTE);
        let seen = record(Act::Read, 3, 4, value(5));
        assert_eq!(judge(&[again.clone(), seen, record(Act::Read, 10, 11, value(5))]), Verdict::Linearizable);
        // Answered late: it may have happened before, and vanished with the rest.
        assert_eq!(judge(&[again, record(Act::Read, 10, 11, NOTHING)]), Verdict::Linearizable);
    }
}
