//! The node's one reader of the clock.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;
use toroid_engine::gate::Time;

/// Measures from its making, and while the machine is suspended, too: a lease must not outlive a sleep. The same one serves all threads of a node, so
/// that their times compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
}

impl Clock {
    pub fn start() -> Clock {
        // Not 0, which stands for a time that is long past.
        Clock { start: boot_micros().saturating_sub(1) }
    }

    pub fn now(self) -> Time {
        Time(boot_micros().saturating_sub(self.start))
    }

    /// How long until then; nothing when it is past.
    pub fn until(self, time: Time) -> Duration {
        Duration::from_micros(time.0.saturating_sub(self.now().0))
    }
}

/// Microseconds since the machine was started.
fn boot_micros() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    tv_sec.unsigned_abs() * 1_000_000 + tv_nsec.unsigned_abs() / 1_000
}
