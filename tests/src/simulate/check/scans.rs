//! Whether what a scan saw of each partition is a state that the partition had at one instant while the scan ran.
//!
//! Partitions are judged one by one: nothing is promised across them yet. A scan that happened at an instant is a read of every key of the
//! partition there; once the instants are chosen, the keys are independent again. So instants are searched, scan after scan.

use super::super::history::{End, Record, Rows, Step};
use super::super::workload::{Act, Response, table};
use super::linear::{Certainty, Event, Verdict, What, explain, possible};
use std::collections::BTreeMap;
use toroid_common::id::PartitionId;

/// Choices of instants that are looked at for one partition before the search is given up.
const MOST_CHOICES: usize = 20_000;

/// Events of a partition's keys, with stamps doubled so that there are instants between them.
type Keys = BTreeMap<i32, Vec<Event>>;

/// Judges all answered scans.
#[must_use]
pub fn judge(records: &[Record], by_key: &BTreeMap<i32, Vec<Event>>, partitions: u16) -> Verdict {
    let mut of_partition: BTreeMap<PartitionId, Keys> = BTreeMap::new();
    for (key, events) in by_key {
        let doubled = |event: &Event| Event { began: event.began * 2, ended: event.ended.saturating_mul(2), ..*event };
        let keys = of_partition.entry(table::partition(*key, partitions)).or_default();
        keys.insert(*key, events.iter().map(doubled).collect());
    }
    let mut undecided = 0;
    for partition in (0..partitions).map(PartitionId) {
        let scans: Vec<Scan<'_>> = records.iter().filter_map(|record| Scan::of(record, partition)).collect();
        let keys = of_partition.remove(&partition).unwrap_or_default();
        let stranger = |scan: &&Scan<'_>| scan.rows.keys().any(|key| !keys.contains_key(key));
        if let Some(scan) = scans.iter().find(stranger) {
            return Verdict::Broken(format!("partition {partition}: a scan saw rows that nobody wrote: {scan:?}"));
        }
        let mut search = Search { scans: &scans, choices: 0, furthest: 0 };
        match search.place(0, keys.clone()) {
            Some(true) => {}
            Some(false) => {
                let scan = scans.get(search.furthest);
                let events = keys.iter().map(|(key, events)| format!("key {key}: {}", explain(events)));
                let events = events.collect::<Vec<_>>().join("\n");
                return Verdict::Broken(format!(
                    "partition {partition} never was what a scan saw (stamps doubled): {scan:?}\n{events}"
                ));
            }
            None => undecided += 1,
        }
    }
    if undecided > 0 { Verdict::Undecided(undecided) } else { Verdict::Linearizable }
}

/// What a scan saw of one partition.
#[derive(Debug)]
struct Scan<'a> {
    began: u64,
    ended: u64,
    rows: &'a BTreeMap<i32, i64>,
}

impl<'a> Scan<'a> {
    fn of(record: &'a Record, partition: PartitionId) -> Option<Scan<'a>> {
        let told = |step: &'a Step| match step {
            Step::Scan { told } => told.as_ref(),
            Step::On { .. } => None,
        };
        let rows: &Rows = record.steps.iter().find_map(told).filter(|_| record.end == End::Answered)?;
        Some(Scan { began: record.began * 2, ended: record.ended * 2, rows: rows.get(&partition)? })
    }

    /// Instants that something lies between: one right after the beginning, one after each stamp of the partition's events and of other scans.
    fn instants(&self, keys: &Keys, scans: &[Scan<'_>]) -> Vec<u64> {
        let events = keys.values().flatten().map(|event| (event.began, event.ended));
        let stamps = events.chain(scans.iter().map(|scan| (scan.began, scan.ended))).flat_map(<[u64; 2]>::from);
        let within = stamps.filter(|stamp| (self.began..self.ended).contains(stamp));
        let mut instants: Vec<u64> = within.chain([self.began]).map(|stamp| stamp + 1).collect();
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// The events with this scan as reads at an instant.
    fn at(&self, instant: u64, keys: &Keys) -> Keys {
        let mut keys = keys.clone();
        for (key, events) in &mut keys {
            let told = Response::Value(self.rows.get(key).copied());
            let (what, certainty) = (What::Act(Act::Read), Certainty::Told(told));
            events.push(Event { began: instant, ended: instant, what, certainty });
        }
        keys
    }
}

struct Search<'a> {
    scans: &'a [Scan<'a>],
    choices: usize,
    /// The last scan that could not be placed by itself.
    furthest: usize,
}

impl Search<'_> {
    /// Finds instants for this scan and those after it.
    fn place(&mut self, index: usize, keys: Keys) -> Option<bool> {
        let Some(scan) = self.scans.get(index) else { return Some(true) };
        self.furthest = self.furthest.max(index);
        for instant in scan.instants(&keys, self.scans) {
            self.choices += 1;
            if self.choices > MOST_CHOICES {
                return None;
            }
            let with = scan.at(instant, &keys);
            // A search that was given up is no proof against this instant.
            if with.values().any(|events| possible(events) == Some(false)) {
                continue;
            }
            let rest = self.place(index + 1, with);
            if rest != Some(false) {
                return rest;
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::linear::{self, Strictness};
    use super::*;

    fn insert(key: i32, began: u64, ended: u64) -> Record {
        let told = Some(Response::Wrote(1));
        let step = Step::On { key, act: Act::Insert(i64::from(key)), told };
        Record { steps: vec![step], began, ended, end: End::Answered }
    }

    fn scan(keys: &[i32], began: u64, ended: u64) -> Record {
        let rows = keys.iter().map(|key| (*key, i64::from(*key))).collect();
        let told = Some(Rows::from([(PartitionId(0), rows)]));
        Record { steps: vec![Step::Scan { told }], began, ended, end: End::Answered }
    }

    fn is_fine(records: &[Record]) -> bool {
        judge(records, &linear::events(records, &[], Strictness::Full, 1), 1) == Verdict::Linearizable
    }

    #[test]
    fn a_scan_sees_one_instant() {
        // Both run while it does, one after the other.
        let writes = [insert(1, 2, 3), insert(2, 4, 5)];
        for (seen, fine) in [(&[][..], true), (&[1], true), (&[1, 2], true), (&[2], false), (&[9], false)] {
            let records: Vec<Record> = writes.iter().cloned().chain([scan(seen, 1, 6)]).collect();
            assert_eq!(is_fine(&records), fine, "{seen:?}");
        }
    }

    #[test]
    fn two_scans_agree_on_the_order_of_writes() {
        let both = |one: &[i32], other: &[i32]| {
            is_fine(&[insert(1, 1, 10), insert(2, 2, 11), scan(one, 3, 4), scan(other, 5, 6)])
        };
        assert!(both(&[1], &[1, 2]) && both(&[2], &[1, 2]) && both(&[], &[2]));
        assert!(!both(&[1], &[2]) && !both(&[1], &[]));
        // One that began earlier may have happened later.
        assert!(is_fine(&[insert(1, 1, 10), scan(&[1], 2, 6), scan(&[], 3, 4)]));
        assert!(!is_fine(&[insert(1, 1, 10), scan(&[1], 2, 3), scan(&[], 4, 5)]));
    }
}
