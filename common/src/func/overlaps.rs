//! OVERLAPS: whether two spans of time, each given by its ends in either order, have a moment in common.

use super::compare::compare;
use super::kernel::{boolean, mismatch};
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::SqlResult;
use std::cmp::Ordering;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("overlaps(time, time, time, time) -> bool", overlaps).nullable(),
    Entry::new("overlaps(timestamp, timestamp, timestamp, timestamp) -> bool", overlaps).nullable(),
    Entry::new("overlaps(timestamptz, timestamptz, timestamptz, timestamptz) -> bool", overlaps).nullable(),
];

/// A span's ends in order; the second is unknown if one of both is NULL.
fn span<'a>(cx: &Context<'_>, start: DatumRef<'a>, end: DatumRef<'a>) -> SqlResult<(DatumRef<'a>, DatumRef<'a>)> {
    Ok(match (start.is_null(), end.is_null()) {
        (true, _) => (end, start),
        (false, true) => (start, end),
        (false, false) if compare(cx, start, end)? == Ordering::Greater => (end, start),
        (false, false) => (start, end),
    })
}

/// As PostgreSQL does it, so that what can be told of spans with unknown ends is told.
fn overlaps(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let &[start1, end1, start2, end2] = args else { return Err(mismatch(args)) };
    let (first, second) = (span(cx, start1, end1)?, span(cx, start2, end2)?);
    if first.0.is_null() || second.0.is_null() {
        return Ok(Datum::Null);
    }
    match compare(cx, first.0, second.0)? {
        Ordering::Equal if first.1.is_null() || second.1.is_null() => Ok(Datum::Null),
        Ordering::Equal => boolean(true),
        Ordering::Greater => begins_within(cx, first, second.1),
        Ordering::Less => begins_within(cx, second, first.1),
    }
}

/// Whether the later span begins before the earlier one ends.
fn begins_within(cx: &Context<'_>, later: (DatumRef<'_>, DatumRef<'_>), end: DatumRef<'_>) -> SqlResult<Datum> {
    if end.is_null() {
        return Ok(Datum::Null);
    }
    match compare(cx, later.0, end)? {
        Ordering::Less => boolean(true),
        Ordering::Equal | Ordering::Greater if later.1.is_null() => Ok(Datum::Null),
        Ordering::Equal | Ordering::Greater => boolean(false),
    }
}
