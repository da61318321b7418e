//! The node's one reader of the clock.

use std::time::{Duration, Instant};
use toroid_engine::gate::Time;

/// Measures from its making. The same one serves all threads of a node, so that their times compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(self) -> Time {
        Time(self.start.elapsed().as_micros() as u64)
    }

    /// How long until then; nothing when it is past.
    pub fn until(self, time: Time) -> Duration {
        Duration::from_micros(time.0.saturating_sub(self.now().0))
    }
}
