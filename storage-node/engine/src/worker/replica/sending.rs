//! A root on its way to a joining replica, a few pieces at a time.

use crate::store::checkpoint::Writer;
use crate::store::root::Root;
use toroid_common::id::{Epoch, Lsn};

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that may be under way.
const WINDOW: u32 = 4;

#[derive(Debug)]
pub(in super::super) struct Sending {
    pub root: Root,
    writer: Writer,
    /// Pieces that were made.
    made: u32,
    /// Pieces that the receiver has taken.
    pub taken: u32,
    whole: bool,
}

impl Sending {
    /// The entry that the root ends with was made in the epoch `created`.
    pub(in super::super) fn new(root: Root, created: Option<Epoch>) -> Sending {
        Sending { writer: Writer::new(created), root, made: 0, taken: 0, whole: false }
    }

    /// Appends the next piece, if it may be sent now; its number, and whether it is the last. The root has what was applied here, which may be more
    /// than is `acknowledged`: nobody gets it whole before all of it is.
    pub(in super::super) fn piece(&mut self, acknowledged: Lsn, out: &mut Vec<u8>) -> Option<(u32, bool)> {
        let finish = acknowledged >= self.root.lsn();
        if self.whole || self.made - self.taken >= WINDOW || (self.writer.is_at_end() && !finish) {
            return None;
        }
        let number = self.made;
        self.made += 1;
        self.whole = self.writer.piece(&self.root, PIECE_BYTES, finish, out);
        Some((number, self.whole))
    }

    /// The receiver has taken this piece, or one of a root that it was sent before.
    pub(in super::super) fn took(&mut self, number: u32) {
        if number == self.taken && number < self.made {
            self.taken += 1;
        }
    }
}
