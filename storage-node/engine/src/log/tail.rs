//! The end of a partition's log: a primary keeps what some follower may lack, a follower what is not applied yet.

use super::{ByteQueue, Runs};
use toroid_common::id::{Epoch, Lsn};
use toroid_common::wire::LogEnd;

/// Entries without gaps, and which epochs made them.
#[derive(Debug)]
pub struct Tail {
    entries: ByteQueue,
    /// The first entry of `entries`, or the one that comes next.
    first: Lsn,
    /// Reach back to the entry before `first`.
    runs: Runs,
}

impl Tail {
    /// An empty tail after this entry, which was made in this epoch. Before all entries no epoch made one.
    pub fn after(lsn: Lsn, created: Option<Epoch>) -> Tail {
        let mut runs = Runs::default();
        if let Some(created) = created {
            runs.note(created, lsn);
        }
        Tail { entries: ByteQueue::default(), first: lsn.next(), runs }
    }

    /// The last entry that was appended.
    pub fn last(&self) -> Lsn {
        Lsn(self.first.0 - 1 + self.entries.len() as u64)
    }

    /// The entry before the first that is kept.
    pub fn base(&self) -> Lsn {
        Lsn(self.first.0 - 1)
    }

    /// Appends the next entry.
    pub fn push(&mut self, created: Epoch, write: impl FnOnce(&mut Vec<u8>)) {
        self.runs.note(created, self.last().next());
        self.entries.push(write);
    }

    /// The next entry is one that nobody will ask for.
    pub fn pass(&mut self, created: Epoch) {
        assert!(self.entries.is_empty(), "entries are passed over behind others that are kept");
        self.runs.note(created, self.first);
        self.runs.forget_below(self.first);
        self.first = self.first.next();
    }

    /// Takes entries from `first` on back.
    pub fn cut(&mut self, first: Lsn) {
        assert!(first >= self.first, "the log is cut before entry {first}, which is finished with");
        self.entries.truncate((first.0 - self.first.0) as usize);
        self.runs.cut(first);
    }

    /// The oldest entry that is kept, with its LSN.
    pub fn front(&self) -> Option<(Lsn, &[u8])> {
        self.entries.front().map(|entry| (self.first, entry))
    }

    /// An entry that is kept.
    pub fn get(&self, lsn: Lsn) -> Option<&[u8]> {
        self.entries.get(lsn.0.checked_sub(self.first.0)? as usize)
    }

    /// The longest stretch of entries after `lsn` that were made in one epoch and are no longer than `bytes` together, but at least one: that
    /// epoch, and the stretch's last entry. `None` at the end of the log. No entry after `lsn` may have been dropped.
    pub fn stretch(&self, lsn: Lsn, bytes: usize) -> Option<(Epoch, Lsn)> {
        let first = lsn.next();
        let fitting = self.entries.fitting(self.index(lsn), bytes);
        let (created, _) = self.runs.of(first).filter(|_| fitting > 0)?;
        let last = Lsn(lsn.0 + fitting as u64);
        Some((created, self.runs.end(first).map_or(last, |end| end.min(last))))
    }

    /// Entries after `lsn` up to `last`, none of which may have been dropped.
    pub fn between(&self, lsn: Lsn, last: Lsn) -> impl ExactSizeIterator<Item = &[u8]> {
        let start = self.index(lsn);
        let end = start + last.0.saturating_sub(lsn.0) as usize;
        (start..end).map(|index| self.entries.get(index).unwrap_or_default())
    }

    fn index(&self, lsn: Lsn) -> usize {
        assert!(lsn.next() >= self.first, "entries after {lsn} are wanted, the log begins with {}", self.first);
        (lsn.next().0 - self.first.0) as usize
    }

    /// Drops the entries up to `lsn`.
    pub fn drop_to(&mut self, lsn: Lsn) {
        while self.first <= lsn && !self.entries.is_empty() {
            self.entries.pop();
            self.first = self.first.next();
        }
        self.runs.forget_below(self.base());
    }

    /// Bytes of the entries after `lsn` that are kept.
    pub fn bytes_after(&self, lsn: Lsn) -> usize {
        self.entries.bytes_from(lsn.next().0.saturating_sub(self.first.0) as usize)
    }

    /// Bytes of all entries that are kept.
    pub fn bytes(&self) -> usize {
        self.entries.bytes()
    }

    /// The epoch that made the last entry.
    pub fn newest(&self) -> Option<Epoch> {
        self.runs.newest()
    }

    /// The epoch that made the entry at `lsn`, if it is not before the one that [`Tail::base`] names.
    pub fn created(&self, lsn: Lsn) -> Option<Epoch> {
        self.runs.of(lsn).map(|(epoch, _)| epoch)
    }

    /// How the log ends, for comparing it with another one.
    pub fn log_end(&self) -> LogEnd {
        self.runs.log_end(self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_knows_its_positions() {
        let mut tail = Tail::after(Lsn(4), Some(Epoch(1)));
        assert_eq!((tail.last(), tail.base(), tail.front()), (Lsn(4), Lsn(4), None));
        for byte in 5..9 {
            tail.push(Epoch(1), |out| out.push(byte));
        }
        assert_eq!((tail.last(), tail.front()), (Lsn(8), Some((Lsn(5), &[5][..]))));
        assert_eq!(tail.between(Lsn(6), Lsn(8)).collect::<Vec<_>>(), [&[7], &[8]]);
        assert_eq!(tail.between(Lsn(8), Lsn(8)).len(), 0);
        assert_eq!((tail.bytes_after(Lsn(2)), tail.bytes_after(Lsn(7)), tail.bytes_after(Lsn(8))), (4, 1, 0));
        tail.drop_to(Lsn(7));
        assert_eq!((tail.front(), tail.bytes()), (Some((Lsn(8), &[8][..])), 1));
        tail.drop_to(Lsn(20));
        assert_eq!((tail.last(), tail.front(), tail.created(Lsn(8))), (Lsn(8), None, Some(Epoch(1))));
        tail.pass(Epoch(2));
        assert_eq!((tail.last(), tail.base(), tail.created(Lsn(9))), (Lsn(9), Lsn(9), Some(Epoch(2))));
    }

    #[test]
    fn stretches_end_with_an_epoch_or_with_the_room() {
        let mut tail = Tail::after(Lsn(0), None);
        for (epoch, bytes) in [(1, 10), (1, 10), (1, 10), (2, 50), (2, 1)] {
            tail.push(Epoch(epoch), |out| out.resize(out.len() + bytes, 0));
        }
        let mut stretches = Vec::new();
        let mut lsn = Lsn(0);
        while let Some((epoch, last)) = tail.stretch(lsn, 20) {
            stretches.push((epoch.0, last.0));
            lsn = last;
        }
        assert_eq!(stretches, [(1, 2), (1, 3), (2, 4), (2, 5)]);
        tail.cut(Lsn(4));
        assert_eq!(
            (tail.last(), tail.newest(), tail.stretch(Lsn(1), 99)),
            (Lsn(3), Some(Epoch(1)), Some((Epoch(1), Lsn(3))))
        );
    }

    #[test]
    #[should_panic(expected = "the log begins with")]
    fn entries_that_were_dropped_cannot_be_had() {
        let mut tail = Tail::after(Lsn(0), None);
        tail.push(Epoch(1), |out| out.push(1));
        tail.drop_to(Lsn(1));
        let _ = tail.between(Lsn(0), Lsn(1));
    }

    #[test]
    #[should_panic(expected = "finished with")]
    fn entries_that_were_dropped_cannot_be_cut() {
        let mut tail = Tail::after(Lsn(0), None);
        tail.push(Epoch(1), |out| out.push(1));
        tail.drop_to(Lsn(1));
        tail.cut(Lsn(1));
    }
}
