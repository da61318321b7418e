//! What a change did to memory, gathered while it is applied.

/// Bytes taken and given back by one step; the table and the worker's account add them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How much larger (or smaller) the current state became.
    pub grown: isize,
    /// What was copied because a root still holds the original: the original lives on beside the current state.
    pub copied: usize,
}
