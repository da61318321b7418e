//! Release: a cut is complete and may be read, or there is none; and the end of cuts that nobody reads any more.

use super::super::Worker;
use super::super::cuts::Standing;
use super::super::event::{Actions, ConnectionId};
use crate::gate::Time;
use std::sync::Arc;
use toroid_common::id::{CutId, TransactionId};
use toroid_common::wire::{Message, RawFrame};

/// Messages of proxies that wait for one release.
const MAX_READERS: usize = 4_096;

impl Worker {
    pub(in super::super) fn release(
        &mut self,
        cut: CutId,
        committed: Option<Arc<[TransactionId]>>,
        now: Time,
        actions: &mut Actions,
    ) {
        match (self.cuts.open.take_if(|open| open.cut == cut && open.told), committed) {
            (Some(mut open), Some(committed)) => {
                let (since, readers) = (open.since, std::mem::take(&mut open.readers));
                self.cuts.release(open, committed);
                self.open_gates(since, now, actions);
                self.read_again(readers, now, actions);
            }
            (open, _) => {
                self.cuts.open = open.or(self.cuts.open.take());
                if self.cuts.open.as_ref().is_some_and(|open| open.cut == cut) {
                    self.void(now, actions);
                }
            }
        }
    }

    pub(in super::super) fn drop_cut(&mut self, cut: CutId) {
        self.cuts.drop_cut(cut, &mut self.account);
    }

    /// A leader begins to speak to this node: what it said over an earlier line may be lost.
    pub(in super::super) fn cuts_are(&mut self, term: u64, read: &[CutId], now: Time, actions: &mut Actions) {
        if term < self.cuts.term() {
            return;
        }
        self.void(now, actions);
        self.cuts.hear(CutId { term, round: 0 }, now);
        self.cuts.keep(term, read, &mut self.account);
    }

    /// Where a cut stands here: who wants to read one that is open waits by [`Worker::await_release`].
    pub(in super::super) fn standing(&self, cut: CutId) -> Standing {
        self.cuts.standing(cut)
    }

    /// The message comes again when the open cut is released, or void.
    pub(in super::super) fn await_release(
        &mut self,
        connection: ConnectionId,
        message: &Message<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        match self.cuts.open.as_mut().filter(|open| open.readers.len() < MAX_READERS) {
            Some(open) => open.readers.push((connection, bytes)),
            None => self.close(connection, "too many wait for a cut".to_owned(), now, actions),
        }
    }

    /// Whether such a message of this connection waits for a release. What is sent after it and is about it must not overtake it.
    pub(super) fn awaits_release(&self, connection: ConnectionId, is: impl Fn(&Message<'_>) -> bool) -> bool {
        let waits = |(from, bytes): &(ConnectionId, Vec<u8>)| {
            let frame = if *from == connection { RawFrame::split(bytes).ok().flatten() } else { None };
            frame.and_then(|(frame, _)| Message::decode(frame).ok()).is_some_and(|message| is(&message))
        };
        self.cuts.open.as_ref().is_some_and(|open| open.readers.iter().any(waits))
    }

    /// Takes messages that waited for a release.
    pub(super) fn read_again(&mut self, readers: Vec<(ConnectionId, Vec<u8>)>, now: Time, actions: &mut Actions) {
        for (connection, bytes) in readers {
            if let Ok(Some((frame, _))) = RawFrame::split(&bytes) {
                self.frame(connection, frame, now, actions);
            }
        }
    }
}
