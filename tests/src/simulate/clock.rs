//! True time, which nobody in the cluster can read; what is to happen in it; and the clocks that nodes read instead.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use toroid_engine::gate::Time;

/// Microseconds of true time since the simulation began.
pub type Instant = u64;

pub const MILLISECOND: Instant = 1_000;
pub const SECOND: Instant = 1_000_000;

/// Everything that is to happen, in the order of time; what is due at the same instant happens in the order in which it was put down.
#[derive(Debug)]
pub struct Agenda<T> {
    now: Instant,
    sequence: u64,
    due: BinaryHeap<Due>,
    /// What is due, by place: the heap moves less so.
    things: Vec<Option<T>>,
    free: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: Instant,
    sequence: u64,
    place: u32,
}

impl<T> Agenda<T> {
    #[must_use]
    pub fn new() -> Agenda<T> {
        Agenda { now: 0, sequence: 0, due: BinaryHeap::new(), things: Vec::new(), free: Vec::new() }
    }

    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Puts something down for an instant; the past means at once.
    pub fn at(&mut self, at: Instant, what: T) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.things.push(None);
            self.things.len() as u32 - 1
        });
        self.things[place as usize] = Some(what);
        self.due.push(Due { at: at.max(self.now), sequence: self.sequence, place });
    }

    pub fn after(&mut self, delay: Instant, what: T) {
        self.at(self.now + delay, what);
    }

    /// The next thing, unless it is due after `end`: then time stands at `end`.
    pub fn next_until(&mut self, end: Instant) -> Option<T> {
        if self.due.peek().is_none_or(|due| due.at > end) {
            self.now = self.now.max(end);
            return None;
        }
        let due = self.due.pop()?;
        self.now = due.at;
        self.free.push(due.place);
        self.things[due.place as usize].take()
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Agenda<T> {
        Agenda::new()
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The heap gives its greatest element: the one that is due first.
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// A machine's clock: it starts anywhere, never goes back, and runs at a rate of its own.
#[derive(Clone, Copy, Debug)]
pub struct NodeClock {
    /// Local time at `since`.
    base: u64,
    since: Instant,
    /// Local microseconds in a thousand true ones.
    per_mille: u64,
}

impl NodeClock {
    #[must_use]
    pub fn new(base: u64, per_mille: u64) -> NodeClock {
        NodeClock { base, since: 0, per_mille: per_mille.max(1) }
    }

    #[must_use]
    pub fn read(&self, now: Instant) -> Time {
        Time(self.base + (now - self.since) * self.per_mille / 1_000)
    }

    /// From now on it runs at another rate.
    pub fn set_rate(&mut self, per_mille: u64, now: Instant) {
        self.base = self.read(now).0;
        self.since = now;
        self.per_mille = per_mille.max(1);
    }

    /// The first instant, from `now` on, at which the clock shows this time or a later one.
    #[must_use]
    pub fn when(&self, time: Time, now: Instant) -> Instant {
        let local = time.0.saturating_sub(self.base);
        (self.since + (local * 1_000).div_ceil(self.per_mille)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_the_order_of_time_and_then_of_their_coming() {
        let mut agenda = Agenda::new();
        for (at, name) in [(5, "b"), (3, "a"), (5, "c"), (9, "d")] {
            agenda.at(at, name);
        }
        let mut seen = Vec::new();
        while let Some(name) = agenda.next_until(6) {
            seen.push((agenda.now(), name));
        }
        assert_eq!(seen, [(3, "a"), (5, "b"), (5, "c")]);
        assert_eq!(agenda.now(), 6);
        agenda.at(1, "late");
        assert_eq!((agenda.next_until(6), agenda.now()), (Some("late"), 6));
    }

    #[test]
    fn a_clock_shows_a_time_at_the_instant_that_it_foretells() {
        let mut clock = NodeClock::new(77, 900);
        for now in [0, 1, 999, 123_456] {
            for ahead in [0, 1, 7, 40_000] {
                let time = Time(clock.read(now).0 + ahead);
                let when = clock.when(time, now);
                assert!(clock.read(when) >= time && (when == now || clock.read(when - 1) < time));
            }
        }
        let before = clock.read(5_000);
        clock.set_rate(1_500, 5_000);
        assert_eq!(clock.read(5_000), before);
        assert_eq!(clock.read(6_000).0, before.0 + 1_500);
    }
}
