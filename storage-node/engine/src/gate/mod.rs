//! The reply gate of a partition: an answer leaves once every entry that it may have seen is acknowledged by all replicas, under the lease, and no
//! capture that came before it stands in its way.

mod lease;

pub use lease::{Lease, Time};

use crate::log::ByteQueue;
use std::collections::VecDeque;
use toroid_common::id::Lsn;

/// Answers that wait, in the order of execution. `T` says what each answer is for.
#[derive(Debug)]
pub struct Gate<T> {
    waiting: VecDeque<(Lsn, T)>,
    answers: ByteQueue,
    /// While there is a bar: how many of those that wait stand before it, and the last entry. The others stay.
    before_bar: Option<(usize, Lsn)>,
}

impl<T> Default for Gate<T> {
    fn default() -> Gate<T> {
        Gate { waiting: VecDeque::new(), answers: ByteQueue::default(), before_bar: None }
    }
}

impl<T> Gate<T> {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a bar behind those that wait: what is executed from now on stays until the bar is lifted. A bar that stands stays where it is.
    pub fn bar(&mut self, last: Lsn) {
        self.before_bar.get_or_insert((self.waiting.len(), last));
    }

    /// Takes the bar away.
    pub fn lift(&mut self) {
        self.before_bar = None;
    }

    /// The last entry before the bar, if there is one.
    pub fn barred_at(&self) -> Option<Lsn> {
        self.before_bar.map(|(_, last)| last)
    }

    pub fn is_barred(&self) -> bool {
        self.before_bar.is_some()
    }

    /// Bytes of the answers that wait.
    pub fn bytes(&self) -> usize {
        self.answers.bytes()
    }

    /// Adds an answer, whose bytes `write` appends, that saw the entries up to `lsn`.
    pub fn hold<R>(&mut self, lsn: Lsn, reply: T, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        debug_assert!(self.waiting.back().is_none_or(|(last, _)| *last <= lsn));
        self.waiting.push_back((lsn, reply));
        self.answers.push(write)
    }

    /// Lets the next answer out, if what it saw is acknowledged. The caller has checked the lease at this moment.
    pub fn release<R>(&mut self, acknowledged: Lsn, deliver: impl FnOnce(T, &[u8]) -> R) -> Option<R> {
        if self.before_bar.is_some_and(|(before, _)| before == 0) {
            return None;
        }
        let (_, reply) = self.waiting.pop_front_if(|(lsn, _)| *lsn <= acknowledged)?;
        self.before_bar = self.before_bar.map(|(before, last)| (before - 1, last));
        let result = deliver(reply, self.answers.front().unwrap_or_default());
        self.answers.pop();
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_wait_for_what_they_saw_and_leave_in_order() {
        let mut gate = Gate::default();
        for (lsn, name) in [(1, "write 1"), (1, "read after it"), (2, "write 2"), (2, "error after it")] {
            gate.hold(Lsn(lsn), name, |out| out.extend_from_slice(name.as_bytes()));
        }
        let mut left = Vec::new();
        let mut drain = |gate: &mut Gate<&'static str>, acknowledged| {
            while let Some(name) = gate.release(Lsn(acknowledged), |name, bytes| {
                assert_eq!(name.as_bytes(), bytes);
                name
            }) {
                left.push(name);
            }
            left.len()
        };
        assert_eq!(drain(&mut gate, 0), 0);
        assert_eq!(drain(&mut gate, 1), 2);
        assert_eq!(drain(&mut gate, 2), 4);
        assert_eq!(left, ["write 1", "read after it", "write 2", "error after it"]);
        assert!(gate.is_empty());
    }

    #[test]
    fn what_came_after_a_bar_stays_until_it_is_lifted() {
        let mut gate = Gate::default();
        let drain = |gate: &mut Gate<&'static str>| {
            std::iter::from_fn(|| gate.release(Lsn(9), |name, _| name)).collect::<Vec<_>>()
        };
        gate.hold(Lsn(1), "before", |_| ());
        gate.bar(Lsn(1));
        gate.hold(Lsn(1), "after", |_| ());
        // A second one does not let through what the first one stops.
        gate.bar(Lsn(2));
        assert_eq!(gate.barred_at(), Some(Lsn(1)));
        assert_eq!(drain(&mut gate), ["before"]);
        gate.hold(Lsn(2), "later", |_| ());
        assert_eq!(drain(&mut gate), [""; 0]);
        gate.lift();
        assert_eq!(drain(&mut gate), ["after", "later"]);
        assert!(!gate.is_barred());
    }
}
