//! A virtual disk with one journal: what is written stays in doubt until it is synced, and a crash leaves any part of it.
//!
//! A record that a crash cut in its middle counts as none: how the product knows one from a whole one is tested where its files are.

use super::clock::{Instant, MILLISECOND};
use crate::random::Random;

#[derive(Debug)]
pub struct Disk<R> {
    records: Vec<R>,
    /// So many of them survive whatever happens.
    synced: usize,
    /// How much longer a sync takes than usual.
    slow: Instant,
}

impl<R> Default for Disk<R> {
    fn default() -> Disk<R> {
        Disk { records: Vec::new(), synced: 0, slow: 0 }
    }
}

impl<R: Clone> Disk<R> {
    /// Appends a record.
    pub fn write(&mut self, record: R) {
        self.records.push(record);
    }

    /// What a sync that begins now will have made sure of.
    #[must_use]
    pub fn written(&self) -> usize {
        self.records.len()
    }

    /// How long a sync takes that begins now.
    pub fn latency(&self, random: &mut Random) -> Instant {
        // Now and then a sync takes much longer than usual.
        let spike = if random.percent(1) { random.below(20 * MILLISECOND) } else { 0 };
        50 + random.below(100) + spike + self.slow + random.below(self.slow / 2 + 1)
    }

    /// A sync that began when so much was written has ended.
    pub fn sync(&mut self, written: usize) {
        self.synced = self.synced.max(written.min(self.records.len()));
    }

    pub fn slow_down(&mut self, slow: Instant) {
        self.slow = slow;
    }

    /// Of what was not synced, any part from the beginning may have reached the disk.
    pub fn crash(&mut self, random: &mut Random) {
        let unsynced = self.records.len() - self.synced;
        self.records.truncate(self.synced + random.below(unsynced as u64 + 1) as usize);
        self.synced = self.records.len();
    }

    /// All is gone.
    pub fn lose(&mut self) {
        *self = Disk { slow: self.slow, ..Disk::default() };
    }

    /// What a new process finds.
    #[must_use]
    pub fn read(&self) -> Vec<R> {
        self.records.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_takes_only_what_was_not_synced() {
        let mut random = Random::new(5);
        let mut kept = [0; 3];
        for _ in 0..200 {
            let mut disk = Disk::default();
            disk.write(7);
            disk.sync(disk.written());
            disk.write(8);
            disk.write(9);
            disk.crash(&mut random);
            let records = disk.read();
            assert_eq!(records[..], [7, 8, 9][..records.len()]);
            kept[records.len() - 1] += 1;
        }
        assert!(kept.iter().all(|count| *count > 0), "{kept:?}");
    }
}
