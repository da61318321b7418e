//! What a change did to memory, gathered while it is applied.

use std::ops::AddAssign;

/// Bytes taken and given back by one step; the table and the worker's account add them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How much larger (or smaller) the current state became.
    pub grown: isize,
    /// What was copied because a root still holds the original: the original lives on beside the current state.
    pub copied: usize,
}

impl Cost {
    /// Notes that something of `before` bytes has `after` now.
    pub fn resized(&mut self, before: usize, after: usize) {
        self.grown += after as isize - before as isize;
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.grown += other.grown;
        self.copied += other.copied;
    }
}
