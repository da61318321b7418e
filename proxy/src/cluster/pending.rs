//! Requests of one proxy thread that have no answer yet: sequence numbers, their slots, and the low marks that let partitions forget answers.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use toroid_common::id::{PartitionId, WorkerId};
use toroid_common::routing::Trouble;

/// What came for a request.
#[derive(Debug)]
pub(super) enum Event<A> {
    Answer(A),
    Trouble(Trouble),
}

enum Slot<A> {
    /// Sent to this worker; who waits for it.
    Sent {
        worker: WorkerId,
        waker: Option<Waker>,
    },
    Came(Event<A>),
    /// Nobody waits any more; `answered` tells whether the partition may forget it.
    Left {
        answered: bool,
    },
}

/// The table of open requests.
pub(super) struct Pending<A> {
    /// The sequence of the first slot.
    base: u64,
    slots: VecDeque<Slot<A>>,
    /// Per partition, ascending: sequences that may be unanswered.
    open: Vec<VecDeque<u64>>,
}

impl<A> Pending<A> {
    pub(super) fn new() -> Pending<A> {
        Pending { base: 1, slots: VecDeque::new(), open: Vec::new() }
    }

    /// A new sequence for a request in this partition, with the partition's low mark.
    pub(super) fn begin(&mut self, partition: PartitionId, worker: WorkerId) -> u64 {
        let sequence = self.base + self.slots.len() as u64;
        self.slots.push_back(Slot::Sent { worker, waker: None });
        let place = usize::from(partition.0);
        if self.open.len() <= place {
            self.open.resize_with(place + 1, VecDeque::new);
        }
        if let Some(queue) = self.open.get_mut(place) {
            queue.push_back(sequence);
        }
        sequence
    }

    /// The lowest sequence that is unanswered in this partition; at most `sequence`, which is.
    pub(super) fn low(&mut self, partition: PartitionId, sequence: u64) -> u64 {
        let Some(queue) = self.open.get_mut(usize::from(partition.0)) else { return sequence };
        while let Some(&first) = queue.front() {
            let done = match first.checked_sub(self.base).and_then(|i| self.slots.get(i as usize)) {
                None | Some(Slot::Left { answered: true }) => true,
                Some(Slot::Sent { .. } | Slot::Came(_) | Slot::Left { answered: false }) => false,
            };
            if !done {
                return first.min(sequence);
            }
            queue.pop_front();
        }
        sequence
    }

    /// The request is sent again, perhaps to another worker.
    pub(super) fn resend(&mut self, sequence: u64, worker: WorkerId) {
        if let Some(slot) = self.slot(sequence) {
            *slot = Slot::Sent { worker, waker: None };
        }
    }

    /// Something came for a request; late and repeated answers are dropped.
    pub(super) fn deliver(&mut self, sequence: u64, event: Event<A>) {
        let Some(slot) = self.slot(sequence) else { return };
        match slot {
            Slot::Sent { waker, .. } => {
                let waker = waker.take();
                *slot = Slot::Came(event);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Slot::Left { answered } => {
                *answered = true;
                self.trim();
            }
            Slot::Came(_) => {}
        }
    }

    /// A connection is gone: all that was sent over it is in trouble.
    pub(super) fn lose(&mut self, lost: WorkerId) {
        for slot in &mut self.slots {
            match slot {
                Slot::Sent { worker, waker } if *worker == lost => {
                    let waker = waker.take();
                    *slot = Slot::Came(Event::Trouble(Trouble::Lost));
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
                Slot::Sent { .. } | Slot::Came(_) | Slot::Left { .. } => {}
            }
        }
    }

    /// Takes what came for a request; the slot stays until [`Pending::end`] or a resend.
    pub(super) fn poll(&mut self, sequence: u64, waker: &Waker) -> Poll<Event<A>> {
        let Some(slot) = self.slot(sequence) else { return Poll::Ready(Event::Trouble(Trouble::Lost)) };
        match slot {
            Slot::Sent { waker: place, .. } => {
                match place {
                    Some(known) if known.will_wake(waker) => {}
                    other => *other = Some(waker.clone()),
                }
                Poll::Pending
            }
            Slot::Came(_) => match std::mem::replace(slot, Slot::Left { answered: false }) {
                Slot::Came(event) => Poll::Ready(event),
                Slot::Sent { .. } | Slot::Left { .. } => Poll::Ready(Event::Trouble(Trouble::Lost)),
            },
            Slot::Left { .. } => Poll::Ready(Event::Trouble(Trouble::Lost)),
        }
    }

    /// Nobody waits for this request any more. One that was given up without an answer keeps its partition's mark low only until an answer comes.
    pub(super) fn end(&mut self, sequence: u64, answered: bool) {
        if let Some(slot) = self.slot(sequence) {
            let answered = answered || matches!(slot, Slot::Came(Event::Answer(_)));
            *slot = Slot::Left { answered };
        }
        self.trim();
    }

    /// Requests without an answer, for the metrics.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot<A>> {
        let place = sequence.checked_sub(self.base)?;
        self.slots.get_mut(place as usize)
    }

    fn trim(&mut self) {
        while let Some(Slot::Left { answered: true }) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: WorkerId = WorkerId { node: toroid_common::id::NodeId(1), index: 0 };
    const P: PartitionId = PartitionId(3);

    fn take(pending: &mut Pending<u8>, sequence: u64) -> Poll<Event<u8>> {
        pending.poll(sequence, Waker::noop())
    }

    #[test]
    fn the_low_mark_of_a_partition_waits_for_its_own_oldest_request_only() {
        let mut pending = Pending::new();
        let other = pending.begin(PartitionId(9), WORKER);
        let first = pending.begin(P, WORKER);
        let second = pending.begin(P, WORKER);
        assert_eq!(pending.low(P, second), first);
        pending.deliver(first, Event::Answer(1));
        assert_eq!(pending.low(P, second), first, "the session has not taken the answer");
        assert!(matches!(take(&mut pending, first), Poll::Ready(Event::Answer(1))));
        pending.end(first, true);
        assert_eq!(pending.low(P, second), second);
        assert_eq!(pending.low(PartitionId(9), other), other);
    }

    #[test]
    fn an_abandoned_request_keeps_the_mark_until_it_is_answered() {
        let mut pending = Pending::new();
        let first = pending.begin(P, WORKER);
        let second = pending.begin(P, WORKER);
        pending.end(first, false);
        assert_eq!(pending.low(P, second), first);
        pending.deliver(first, Event::Answer(1));
        assert_eq!(pending.low(P, second), second);
    }

    #[test]
    fn a_lost_connection_troubles_what_was_sent_over_it() {
        let mut pending: Pending<u8> = Pending::new();
        let first = pending.begin(P, WORKER);
        let other = WorkerId { index: 7, ..WORKER };
        let second = pending.begin(P, other);
        pending.lose(WORKER);
        assert!(matches!(take(&mut pending, first), Poll::Ready(Event::Trouble(Trouble::Lost))));
        assert!(take(&mut pending, second).is_pending());
        pending.resend(first, other);
        pending.deliver(first, Event::Answer(5));
        assert!(matches!(take(&mut pending, first), Poll::Ready(Event::Answer(5))));
    }
}
