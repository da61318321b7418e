//! A root on its way to a joining replica, a few pieces at a time.

use crate::store::checkpoint::Writer;
use crate::store::root::Root;
use bytes::Bytes;
use toroid_common::id::{Epoch, Lsn};

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;
/// Most bytes of a piece: a record of the root may be far longer, and goes in several.
const MOST_PIECE_BYTES: usize = 4 << 20;
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
    /// The root is written to its end.
    whole: bool,
    /// What was written and is not in a piece yet.
    rest: Bytes,
}

impl Sending {
    /// The entry that the root ends with was made in the epoch `created`.
    pub(in super::super) fn new(root: Root, created: Option<Epoch>) -> Sending {
        Sending { writer: Writer::new(created), root, made: 0, taken: 0, whole: false, rest: Bytes::new() }
    }

    /// Appends the next piece, if it may be sent now; its number, and whether it is the last. The root has what was applied here, which may be more
    /// than others hold: nobody gets it whole before all of it is `held` by all that answer.
    pub(in super::super) fn piece(&mut self, held: Lsn, out: &mut Vec<u8>) -> Option<(u32, bool)> {
        let finish = held >= self.root.lsn();
        let is_done = self.whole || (self.writer.is_at_end() && !finish);
        if self.made - self.taken >= WINDOW || (is_done && self.rest.is_empty()) {
            return None;
        }
        if self.rest.is_empty() {
            self.whole = self.writer.piece(&self.root, PIECE_BYTES, finish, out);
            if out.len() > MOST_PIECE_BYTES {
                self.rest = Bytes::from(std::mem::take(out));
            }
        }
        if !self.rest.is_empty() {
            out.extend_from_slice(&self.rest.split_to(self.rest.len().min(MOST_PIECE_BYTES)));
        }
        let number = self.made;
        self.made += 1;
        Some((number, self.whole && self.rest.is_empty()))
    }

    /// The receiver has taken this piece, or one of a root that it was sent before.
    pub(in super::super) fn took(&mut self, number: u32) {
        if number == self.taken && number < self.made {
            self.taken += 1;
        }
    }
}
