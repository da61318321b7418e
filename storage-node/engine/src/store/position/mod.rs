//! Where rows stand.

/// Where a row stands in its table and partition; the same on every replica, because a new row takes the lowest place without a live row:
/// that follows from which rows live, not from what happened before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);
