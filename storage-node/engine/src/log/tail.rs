//! The end of a partition's log: a primary keeps what some backup may lack, a backup what is not applied yet.

use super::ByteQueue;
use toroid_common::id::Lsn;

/// Entries without gaps.
#[derive(Debug)]
pub struct Tail {
    entries: ByteQueue,
    /// The first entry of `entries`, or the one that comes next.
    first: Lsn,
}

impl Tail {
    /// An empty tail after this entry.
    pub fn after(lsn: Lsn) -> Tail {
        Tail { entries: ByteQueue::default(), first: lsn.next() }
    }

    /// The last entry that was appended.
    pub fn last(&self) -> Lsn {
        Lsn(self.first.0 - 1 + self.entries.len() as u64)
    }

    /// Appends the next entry.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.entries.push(write);
    }

    /// The oldest entry that is kept, with its LSN.
    pub fn front(&self) -> Option<(Lsn, &[u8])> {
        self.entries.front().map(|entry| (self.first, entry))
    }

    /// Entries after `lsn`, of which none may have been dropped.
    pub fn since(&self, lsn: Lsn) -> impl ExactSizeIterator<Item = &[u8]> {
        assert!(lsn.next() >= self.first, "entries after {lsn} are wanted, the log begins with {}", self.first);
        let skipped = (lsn.next().0 - self.first.0) as usize;
        (skipped..self.entries.len().max(skipped)).map(|index| self.entries.get(index).unwrap_or_default())
    }

    /// Drops the entries up to `lsn`.
    pub fn drop_to(&mut self, lsn: Lsn) {
        while self.first <= lsn && !self.entries.is_empty() {
            self.entries.pop();
            self.first = self.first.next();
        }
    }

    /// Bytes of all entries that are kept.
    pub fn bytes(&self) -> usize {
        self.entries.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_knows_its_positions() {
        let mut tail = Tail::after(Lsn(4));
        assert_eq!((tail.last(), tail.front()), (Lsn(4), None));
        for byte in 5..9 {
            tail.push(|out| out.push(byte));
        }
        assert_eq!((tail.last(), tail.front()), (Lsn(8), Some((Lsn(5), &[5][..]))));
        assert_eq!(tail.since(Lsn(6)).collect::<Vec<_>>(), [&[7], &[8]]);
        assert_eq!(tail.since(Lsn(8)).len(), 0);
        tail.drop_to(Lsn(7));
        assert_eq!((tail.front(), tail.bytes()), (Some((Lsn(8), &[8][..])), 1));
        tail.drop_to(Lsn(20));
        assert_eq!((tail.last(), tail.front()), (Lsn(8), None));
    }

    #[test]
    #[should_panic(expected = "the log begins with")]
    fn entries_that_were_dropped_cannot_be_had() {
        let mut tail = Tail::after(Lsn(0));
        tail.push(|out| out.push(1));
        tail.drop_to(Lsn(1));
        let _ = tail.since(Lsn(0));
    }
}
