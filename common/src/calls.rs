//! Requests of one sender that have no answer yet: sequence numbers, whom each was sent to, and the low marks that let partitions forget answers. Pure.

use crate::id::{PartitionId, WorkerId};
use crate::map::ClusterMap;
use crate::routing::{self, Trouble};
use crate::wire::Answered;
use std::collections::{BTreeMap, VecDeque};
use std::task::{Poll, Waker};

/// With so many requests of one partition those that were answered are looked for among those that were not.
const CROWD: usize = 256;
/// So many times that many slots stand in a row; older ones that are open are kept apart, so that one that waits for hours costs nothing but itself.
const ROW_OF_CROWDS: usize = 16;

/// What came for a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<A> {
    Answer(A),
    Trouble(Trouble),
}

#[derive(Debug)]
enum Slot<A> {
    /// Sent to this worker; who waits for it.
    Sent {
        partition: PartitionId,
        worker: WorkerId,
        waker: Option<Waker>,
    },
    Came(Event<A>),
    /// Its trouble was taken by who waits: it will be sent again.
    Troubled,
    /// Nobody waits for it any more, but the worker may still answer: until then the partition remembers it.
    Abandoned {
        partition: PartitionId,
        worker: WorkerId,
    },
    /// Nobody waits for it, and nothing more will come of it.
    Ended,
}

/// What was asked of one partition.
#[derive(Debug)]
struct Asked {
    /// Ascending: sequences that may be unanswered.
    open: VecDeque<u64>,
    /// With so many in `open` those that were answered are taken out.
    limit: usize,
    /// The next sequence when that was done last.
    before: u64,
    /// The partition is to be told which are answered below this one.
    due: Option<u64>,
}

/// The table of open requests. `A` is what an answer is kept as.
#[derive(Debug)]
pub struct Calls<A> {
    /// The sequence of the first slot.
    base: u64,
    slots: VecDeque<Slot<A>>,
    /// Those below it that have not ended.
    old: BTreeMap<u64, Slot<A>>,
    /// By partition.
    asked: Vec<Asked>,
    /// Requests that only the worker may answer that they went to last.
    held: BTreeMap<u64, Held>,
    crowd: usize,
}

/// Who may answer a request.
#[derive(Debug)]
struct Held {
    partition: PartitionId,
    worker: WorkerId,
    /// Who had it before, or was not the primary for a while: their answers cannot be told from those of what they forgot.
    former: Vec<WorkerId>,
}

impl Held {
    fn leave(&mut self) {
        if !self.former.contains(&self.worker) {
            self.former.push(self.worker);
        }
    }
}

impl Asked {
    fn new(crowd: usize) -> Asked {
        Asked { open: VecDeque::new(), limit: crowd, before: 0, due: None }
    }
}

impl<A> Default for Calls<A> {
    fn default() -> Calls<A> {
        Calls::new()
    }
}

impl<A> Calls<A> {
    pub fn new() -> Calls<A> {
        Calls::crowded_at(CROWD)
    }

    /// One that looks for answered ones, and tells partitions of them, as soon as so many requests are open or were answered behind an open one.
    pub fn crowded_at(crowd: usize) -> Calls<A> {
        Calls { base: 1, slots: VecDeque::new(), old: BTreeMap::new(), asked: Vec::new(), held: BTreeMap::new(), crowd }
    }

    /// Whether no request is open.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.old.is_empty()
    }

    /// A new sequence for a request in this partition, which goes to this worker.
    pub fn begin(&mut self, partition: PartitionId, worker: WorkerId) -> u64 {
        let sequence = self.base + self.slots.len() as u64;
        self.slots.push_back(Slot::Sent { partition, worker, waker: None });
        let place = usize::from(partition.0);
        if self.asked.len() <= place {
            let crowd = self.crowd;
            self.asked.resize_with(place + 1, || Asked::new(crowd));
        }
        let crowded = self.asked.get_mut(place).is_some_and(|asked| {
            asked.open.push_back(sequence);
            asked.open.len() >= asked.limit
        });
        if crowded {
            self.thin(place);
        }
        sequence
    }

    /// Takes answered ones out from between those that are not.
    fn thin(&mut self, place: usize) {
        let next = self.base + self.slots.len() as u64;
        let Some(asked) = self.asked.get_mut(place) else { return };
        let mut open = std::mem::take(&mut asked.open);
        open.retain(|sequence| self.is_open(*sequence));
        if let Some(asked) = self.asked.get_mut(place) {
            let waits = open.front().is_some_and(|first| *first < asked.before);
            let due = waits.then_some(asked.before);
            *asked = Asked { limit: self.crowd.max(2 * open.len()), open, before: next, due };
        }
    }

    fn is_open(&self, sequence: u64) -> bool {
        match self.look(sequence) {
            None | Some(Slot::Ended) => false,
            Some(Slot::Sent { .. } | Slot::Came(_) | Slot::Troubled | Slot::Abandoned { .. }) => true,
        }
    }

    /// The lowest sequence that is unanswered in this partition; at most `sequence`, which is.
    pub fn low(&mut self, partition: PartitionId, sequence: u64) -> u64 {
        let place = usize::from(partition.0);
        while let Some(first) = self.asked.get(place).and_then(|asked| asked.open.front().copied()) {
            if self.is_open(first) {
                return first.min(sequence);
            }
            self.asked.get_mut(place).and_then(|asked| asked.open.pop_front());
        }
        sequence
    }

    /// What the partition is to be told besides low marks, because one of its requests has waited while many others were answered. One that nobody waits
    /// for any more holds the mark all the same: until it is answered nobody knows what became of its transaction.
    pub fn answered(&mut self, partition: PartitionId) -> Option<Answered> {
        let asked = self.asked.get_mut(usize::from(partition.0))?;
        let due = asked.due.take()?;
        let asked = self.asked.get(usize::from(partition.0))?;
        let abandoned = |sequence: &&u64| matches!(self.look(**sequence), Some(Slot::Abandoned { .. }));
        let below = asked.open.iter().find(abandoned).map_or(due, |abandoned| due.min(*abandoned));
        let older = asked.open.iter().copied().take_while(|sequence| *sequence < below);
        Some(Answered { partition, below, but: older.filter(|sequence| self.is_open(*sequence)).collect() })
    }

    /// The request is to be sent again, perhaps to another worker. False when its answer has come meanwhile: it must not be sent.
    #[must_use]
    pub fn resend(&mut self, sequence: u64, partition: PartitionId, worker: WorkerId) -> bool {
        match self.slot(sequence) {
            Some(Slot::Came(Event::Answer(_))) | None => false,
            Some(
                slot @ (Slot::Sent { .. }
                | Slot::Came(Event::Trouble(_))
                | Slot::Troubled
                | Slot::Abandoned { .. }
                | Slot::Ended),
            ) => {
                *slot = Slot::Sent { partition, worker, waker: None };
                true
            }
        }
    }

    /// The request, which goes to this worker now, changes what a worker remembers of a transaction and no other replica knows: the late answer of a former
    /// worker would tell of what is lost, while this one does it again. False when that cannot be: it must not be sent, since this worker has had it before and
    /// forgotten it, and what it answered then may still come.
    #[must_use]
    pub fn hold(&mut self, sequence: u64, partition: PartitionId, worker: WorkerId) -> bool {
        let held = self.held.entry(sequence).or_insert_with(|| Held { partition, worker, former: Vec::new() });
        if held.former.contains(&worker) {
            return false;
        }
        if held.worker != worker {
            held.leave();
            held.worker = worker;
        }
        true
    }

    /// The worker that has this request, unless it has been answered or is in trouble.
    pub fn sent_to(&self, sequence: u64) -> Option<WorkerId> {
        match self.look(sequence) {
            Some(Slot::Sent { worker, .. }) => Some(*worker),
            Some(Slot::Came(_) | Slot::Troubled | Slot::Abandoned { .. } | Slot::Ended) | None => None,
        }
    }

    /// Something came from a worker for a request; late and repeated answers are dropped. A refusal counts only from the worker that the request was sent
    /// to last: one of a former worker says nothing of the copy that is under way. Where that [`Calls::hold`]s the request, neither does an answer.
    pub fn deliver(&mut self, sequence: u64, from: WorkerId, event: Event<A>) {
        if self.held.get(&sequence).is_some_and(|held| held.worker != from) {
            return;
        }
        let Some(slot) = self.slot(sequence) else { return };
        match slot {
            Slot::Sent { worker, .. } if *worker != from && matches!(event, Event::Trouble(_)) => {}
            Slot::Sent { waker, .. } => {
                let waker = waker.take();
                *slot = Slot::Came(event);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Slot::Abandoned { .. } => self.over(sequence),
            // A former worker was only slow: what it says counts, unless it is that it did nothing.
            Slot::Troubled if matches!(event, Event::Answer(_)) => *slot = Slot::Came(event),
            Slot::Troubled | Slot::Came(_) | Slot::Ended => {}
        }
    }

    /// A connection is gone: all that was sent over it is in trouble.
    pub fn lose(&mut self, lost: WorkerId) {
        self.trouble(Trouble::Lost, |_, worker| worker == lost);
    }

    /// Nothing that was sent will be answered: everybody who waits gets this.
    pub fn answer_all(&mut self, answer: impl Fn() -> A) {
        for slot in self.old.values_mut().chain(&mut self.slots) {
            match slot {
                Slot::Sent { waker, .. } => {
                    let waker = waker.take();
                    *slot = Slot::Came(Event::Answer(answer()));
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
                Slot::Troubled => *slot = Slot::Came(Event::Answer(answer())),
                Slot::Abandoned { .. } => *slot = Slot::Ended,
                Slot::Came(_) | Slot::Ended => {}
            }
        }
        self.sweep();
    }

    /// A new map: what was sent to a worker that is the partition's primary no more is in trouble, for that worker may be unable to say so.
    pub fn moved(&mut self, map: &ClusterMap) {
        let is_former = |partition, worker| routing::route(map, partition).is_none_or(|route| route.worker != worker);
        self.held.values_mut().filter(|held| is_former(held.partition, held.worker)).for_each(Held::leave);
        self.trouble(Trouble::Moved, is_former);
    }

    fn trouble(&mut self, trouble: Trouble, concerns: impl Fn(PartitionId, WorkerId) -> bool) {
        for slot in self.old.values_mut().chain(&mut self.slots) {
            match slot {
                Slot::Sent { partition, worker, waker } if concerns(*partition, *worker) => {
                    let waker = waker.take();
                    *slot = Slot::Came(Event::Trouble(trouble));
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
                // Nobody will hear from that worker; should a copy of it still arrive there, it is below the mark by then, and refused.
                Slot::Abandoned { partition, worker } if concerns(*partition, *worker) => *slot = Slot::Ended,
                Slot::Sent { .. } | Slot::Came(_) | Slot::Troubled | Slot::Abandoned { .. } | Slot::Ended => {}
            }
        }
        self.sweep();
    }

    /// Takes what came for a request; the slot stays until [`Calls::end`] or a resend.
    pub fn poll(&mut self, sequence: u64, waker: &Waker) -> Poll<Event<A>> {
        let Some(slot) = self.slot(sequence) else { return Poll::Ready(Event::Trouble(Trouble::Lost)) };
        match slot {
            Slot::Sent { waker: place, .. } => {
                match place {
                    Some(known) if known.will_wake(waker) => {}
                    other => *other = Some(waker.clone()),
                }
                Poll::Pending
            }
            Slot::Came(_) => match std::mem::replace(slot, Slot::Ended) {
                Slot::Came(Event::Trouble(trouble)) => {
                    *slot = Slot::Troubled;
                    Poll::Ready(Event::Trouble(trouble))
                }
                Slot::Came(answer @ Event::Answer(_)) => Poll::Ready(answer),
                Slot::Sent { .. } | Slot::Troubled | Slot::Abandoned { .. } | Slot::Ended => {
                    Poll::Ready(Event::Trouble(Trouble::Lost))
                }
            },
            Slot::Troubled | Slot::Abandoned { .. } | Slot::Ended => Poll::Ready(Event::Trouble(Trouble::Lost)),
        }
    }

    /// Nobody waits for this request any more. One that was given up without an answer keeps its partition's mark low only until an answer comes, or
    /// none can come any more.
    pub fn end(&mut self, sequence: u64, answered: bool) {
        self.held.remove(&sequence);
        match self.slot(sequence) {
            Some(slot @ &mut Slot::Sent { partition, worker, .. }) if !answered => {
                *slot = Slot::Abandoned { partition, worker };
            }
            Some(Slot::Sent { .. } | Slot::Came(_) | Slot::Troubled | Slot::Abandoned { .. } | Slot::Ended) => {
                self.over(sequence);
            }
            None => {}
        }
    }

    /// Nothing more will come of it.
    fn over(&mut self, sequence: u64) {
        if sequence < self.base {
            self.old.remove(&sequence);
        } else if let Some(slot) = self.slot(sequence) {
            *slot = Slot::Ended;
            self.trim();
        }
    }

    /// Requests without an answer, for the metrics.
    pub fn len(&self) -> usize {
        self.old.len() + self.slots.len()
    }

    fn look(&self, sequence: u64) -> Option<&Slot<A>> {
        match sequence.checked_sub(self.base) {
            Some(place) => self.slots.get(place as usize),
            None => self.old.get(&sequence),
        }
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot<A>> {
        match sequence.checked_sub(self.base) {
            Some(place) => self.slots.get_mut(place as usize),
            None => self.old.get_mut(&sequence),
        }
    }

    fn sweep(&mut self) {
        self.old.retain(|_, slot| !matches!(slot, Slot::Ended));
        self.trim();
    }

    fn trim(&mut self) {
        while let Some(first) = self.slots.front()
            && (matches!(first, Slot::Ended) || self.slots.len() > self.crowd * ROW_OF_CROWDS)
        {
            let sequence = self.base;
            self.base += 1;
            match self.slots.pop_front() {
                Some(Slot::Ended) | None => {}
                Some(open) => drop(self.old.insert(sequence, open)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ClusterId, Epoch, MapVersion};
    use crate::map::Assignment;

    const WORKER: WorkerId = WorkerId { node: crate::id::NodeId(1), index: 0 };
    const P: PartitionId = PartitionId(3);

    fn take(calls: &mut Calls<u8>, sequence: u64) -> Poll<Event<u8>> {
        calls.poll(sequence, Waker::noop())
    }

    fn map(primary: Option<WorkerId>) -> ClusterMap {
        let other = Assignment::fresh(Epoch(1), WORKER, Vec::new());
        let mut partitions = vec![other; 4];
        partitions[3] = Assignment { primary, ..Assignment::fresh(Epoch(2), WORKER, Vec::new()) };
        ClusterMap {
            cluster: ClusterId(1),
            version: MapVersion(2),
            copies: 1,
            min_copies: 1,
            nodes: Vec::new(),
            partitions,
        }
    }

    #[test]
    fn the_low_mark_of_a_partition_waits_for_its_own_oldest_request_only() {
        let mut calls = Calls::new();
        let other = calls.begin(PartitionId(9), WORKER);
        let first = calls.begin(P, WORKER);
        let second = calls.begin(P, WORKER);
        assert_eq!(calls.low(P, second), first);
        calls.deliver(first, WORKER, Event::Answer(1));
        assert_eq!(calls.low(P, second), first, "the session has not taken the answer");
        assert!(matches!(take(&mut calls, first), Poll::Ready(Event::Answer(1))));
        calls.end(first, true);
        assert_eq!(calls.low(P, second), second);
        assert_eq!(calls.low(PartitionId(9), other), other);
    }

    #[test]
    fn what_a_former_worker_did_in_a_transaction_is_lost_with_it() {
        let mut calls = Calls::new();
        let other = WorkerId { index: WORKER.index + 1, ..WORKER };
        let (held, free) = (calls.begin(P, WORKER), calls.begin(P, WORKER));
        assert!(calls.hold(held, P, WORKER));
        for sequence in [held, free] {
            assert!(calls.resend(sequence, P, other));
        }
        assert!(calls.hold(held, P, other));
        calls.deliver(held, WORKER, Event::Answer(1));
        calls.deliver(free, WORKER, Event::Answer(1));
        assert!(take(&mut calls, held).is_pending());
        assert!(matches!(take(&mut calls, free), Poll::Ready(Event::Answer(1))), "that is replicated");
        calls.deliver(held, other, Event::Answer(2));
        assert!(matches!(take(&mut calls, held), Poll::Ready(Event::Answer(2))));
        calls.end(held, true);
        assert!(calls.held.is_empty());
    }

    #[test]
    fn who_has_forgotten_a_request_of_a_transaction_does_not_get_it_again() {
        let mut calls: Calls<u8> = Calls::new();
        let other = WorkerId { index: WORKER.index + 1, ..WORKER };
        let held = calls.begin(P, WORKER);
        assert!(
            calls.hold(held, P, WORKER) && calls.hold(held, P, WORKER),
            "its connection may have been lost, no more"
        );
        assert!(calls.hold(held, P, other));
        assert!(!calls.hold(held, P, WORKER), "its first answer may be on its way");
        assert!(calls.hold(held, P, other), "nobody else has it");
        calls.end(held, false);

        let held = calls.begin(P, WORKER);
        assert!(calls.hold(held, P, WORKER));
        calls.moved(&map(Some(WORKER)));
        assert!(calls.hold(held, P, WORKER), "it was the primary all the time");
        calls.moved(&map(Some(other)));
        assert!(!calls.hold(held, P, WORKER), "it was another one's for a while");
    }

    #[test]
    fn a_request_that_waits_for_long_keeps_nothing_but_itself() {
        let mut calls = Calls::new();
        let waits = calls.begin(P, WORKER);
        let mut told = Vec::new();
        for _ in 0..100_000 {
            let other = calls.begin(P, WORKER);
            assert_eq!(calls.low(P, other), waits);
            told.extend(calls.answered(P));
            calls.deliver(other, WORKER, Event::Answer(1));
            assert!(take(&mut calls, other).is_ready());
            calls.end(other, true);
        }
        let row = CROWD * ROW_OF_CROWDS;
        assert!(calls.len() <= row + 1 && calls.slots.capacity() <= 2 * row, "{} slots", calls.len());
        assert!(calls.asked[usize::from(P.0)].open.len() <= CROWD);
        let last = told.last().unwrap();
        assert_eq!(last.but, [waits]);
        assert!(last.below > 99_000 && told.len() < 500, "{} {}", last.below, told.len());
        calls.moved(&ClusterMap { partitions: Vec::new(), ..map(Some(WORKER)) });
        assert_eq!(take(&mut calls, waits), Poll::Ready(Event::Trouble(Trouble::Moved)));
        assert!(calls.resend(waits, P, WORKER));
        assert_eq!(calls.sent_to(waits), Some(WORKER));
        calls.deliver(waits, WORKER, Event::Answer(2));
        assert_eq!(take(&mut calls, waits), Poll::Ready(Event::Answer(2)));
        calls.end(waits, true);
        let next = calls.begin(P, WORKER);
        assert_eq!((calls.low(P, next), calls.len()), (next, 1));
    }

    #[test]
    fn one_that_nobody_waits_for_any_more_is_not_passed_over() {
        let mut calls: Calls<u8> = Calls::new();
        let waits = calls.begin(P, WORKER);
        let left = calls.begin(P, WORKER);
        let mut told = Vec::new();
        calls.end(left, false);
        for _ in 0..1_000 {
            let other = calls.begin(P, WORKER);
            told.extend(calls.answered(P));
            calls.end(other, true);
        }
        assert!(told.len() > 1 && told.iter().all(|told| (told.below, &told.but[..]) == (left, &[waits][..])));
    }

    #[test]
    fn an_abandoned_request_keeps_the_mark_until_it_is_answered() {
        let mut calls = Calls::new();
        let first = calls.begin(P, WORKER);
        let second = calls.begin(P, WORKER);
        calls.end(first, false);
        assert_eq!(calls.low(P, second), first);
        calls.deliver(first, WORKER, Event::Answer(1));
        assert_eq!(calls.low(P, second), second);
        calls.end(second, false);
        calls.lose(WORKER);
        assert!(calls.is_empty(), "no answer can come any more");
    }

    #[test]
    fn a_late_answer_of_a_former_worker_is_the_answer() {
        let mut calls: Calls<u8> = Calls::new();
        let first = calls.begin(P, WORKER);
        calls.lose(WORKER);
        assert!(matches!(take(&mut calls, first), Poll::Ready(Event::Trouble(Trouble::Lost))));
        calls.deliver(first, WORKER, Event::Trouble(Trouble::Moved));
        assert_eq!(calls.len(), 1, "it is to be sent again");
        calls.deliver(first, WORKER, Event::Answer(7));
        assert!(!calls.resend(first, P, WORKER), "it has its answer");
        assert_eq!(take(&mut calls, first), Poll::Ready(Event::Answer(7)));
        calls.end(first, true);
        assert!(calls.is_empty());
    }

    #[test]
    fn a_new_map_troubles_what_waits_at_a_former_primary() {
        let mut calls: Calls<u8> = Calls::new();
        let other = calls.begin(PartitionId(1), WORKER);
        let first = calls.begin(P, WORKER);
        calls.moved(&map(Some(WORKER)));
        assert!(take(&mut calls, first).is_pending());
        calls.moved(&map(Some(WorkerId { index: 7, ..WORKER })));
        assert_eq!(take(&mut calls, first), Poll::Ready(Event::Trouble(Trouble::Moved)));
        assert!(calls.resend(first, P, WORKER));
        calls.moved(&map(None));
        assert_eq!(take(&mut calls, first), Poll::Ready(Event::Trouble(Trouble::Moved)));
        assert!(take(&mut calls, other).is_pending());
    }

    #[test]
    fn a_lost_connection_troubles_what_was_sent_over_it() {
        let mut calls: Calls<u8> = Calls::new();
        let first = calls.begin(P, WORKER);
        let other = WorkerId { index: 7, ..WORKER };
        let second = calls.begin(P, other);
        calls.lose(WORKER);
        assert!(matches!(take(&mut calls, first), Poll::Ready(Event::Trouble(Trouble::Lost))));
        assert!(take(&mut calls, second).is_pending());
        assert_eq!((calls.sent_to(first), calls.sent_to(second)), (None, Some(other)));
        assert!(calls.resend(first, P, other));
        calls.deliver(first, WORKER, Event::Trouble(Trouble::Lost));
        assert!(take(&mut calls, first).is_pending(), "a former worker's refusal says nothing");
        calls.deliver(first, other, Event::Answer(5));
        assert!(matches!(take(&mut calls, first), Poll::Ready(Event::Answer(5))));
    }
}
