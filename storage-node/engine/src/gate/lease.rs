//! The lease under which a primary answers, and the time it is measured in.

/// An instant of the node's clock that runs through suspend: microseconds since some start. Only the shell reads clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This instant and so many microseconds.
    #[must_use]
    pub fn after(self, micros: u64) -> Time {
        Time(self.0.saturating_add(micros))
    }
}

/// Until when this node may answer; counted from when its renewal was *sent*.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    until: Time,
}

impl Lease {
    pub fn holds(self, now: Time) -> bool {
        now < self.until
    }

    /// A renewal never shortens the lease: replies may overtake each other.
    pub fn renew(&mut self, until: Time) {
        self.until = self.until.max(until);
    }
}
