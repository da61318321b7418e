//! Comparison operators of all types, and the total order that they share with ORDER BY and indexes.

use super::kernel::{boolean, mismatch};
use super::sort_key::jsonb_key;
use super::{Context, Entry, Native};
use crate::datum::{Datum, DatumRef};
use crate::error::SqlResult;
use crate::types::SqlType;
use crate::types::array::ArrayRef;
use crate::types::calendar::date_to_timestamp;
use std::cmp::Ordering;

macro_rules! comparisons {
    ($($params:literal)*; $($plain:literal)*; $($zoned:literal)*) => {
        &[
            $(
                Entry::new(concat!("=(", $params, ") -> bool"), equal).native(Native::Equal),
                Entry::new(concat!("<>(", $params, ") -> bool"), not_equal).native(Native::NotEqual),
                Entry::new(concat!("<(", $params, ") -> bool"), less).native(Native::Less),
                Entry::new(concat!("<=(", $params, ") -> bool"), less_or_equal).native(Native::LessOrEqual),
                Entry::new(concat!(">(", $params, ") -> bool"), greater).native(Native::Greater),
                Entry::new(concat!(">=(", $params, ") -> bool"), greater_or_equal).native(Native::GreaterOrEqual),
            )*
            $(
                Entry::new(concat!("=(", $plain, ") -> bool"), equal),
                Entry::new(concat!("<>(", $plain, ") -> bool"), not_equal),
                Entry::new(concat!("<(", $plain, ") -> bool"), less),
                Entry::new(concat!("<=(", $plain, ") -> bool"), less_or_equal),
                Entry::new(concat!(">(", $plain, ") -> bool"), greater),
                Entry::new(concat!(">=(", $plain, ") -> bool"), greater_or_equal),
            )*
            $(
                Entry::new(concat!("=(", $zoned, ") -> bool"), equal).stable(),
                Entry::new(concat!("<>(", $zoned, ") -> bool"), not_equal).stable(),
                Entry::new(concat!("<(", $zoned, ") -> bool"), less).stable(),
                Entry::new(concat!("<=(", $zoned, ") -> bool"), less_or_equal).stable(),
                Entry::new(concat!(">(", $zoned, ") -> bool"), greater).stable(),
                Entry::new(concat!(">=(", $zoned, ") -> bool"), greater_or_equal).stable(),
            )*
        ]
    };
}

pub(super) const FUNCTIONS: &[Entry] = comparisons! {
    "int4, int4" "int8, int8" "int2, int2" "text, text" "float8, float8" "bool, bool" "date, date" "time, time"
    "timestamp, timestamp" "timestamptz, timestamptz" "float4, float4" "bpchar, bpchar" "name, name" "name, text" "text, name"
    "char, char" "bytea, bytea" "uuid, uuid" "oid, oid"
    "int2, int4" "int4, int2" "int2, int8" "int8, int2" "int4, int8" "int8, int4" "float4, float8" "float8, float4";
    "numeric, numeric" "interval, interval" "jsonb, jsonb" "anyarray, anyarray"
    "date, timestamp" "timestamp, date";
    "date, timestamptz" "timestamptz, date" "timestamp, timestamptz" "timestamptz, timestamp"
};

fn equal(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    test(cx, args, Ordering::is_eq)
}

fn not_equal(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    test(cx, args, Ordering::is_ne)
}

fn less(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    test(cx, args, Ordering::is_lt)
}

fn less_or_equal(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    test(cx, args, Ordering::is_le)
}

fn greater(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    test(cx, args, Ordering::is_gt)
}

fn greater_or_equal(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    test(cx, args, Ordering::is_ge)
}

fn test(cx: &Context<'_>, args: &[DatumRef<'_>], outcome: fn(Ordering) -> bool) -> SqlResult<Datum> {
    match args {
        [left, right] => boolean(outcome(compare(cx, *left, *right)?)),
        _ => Err(mismatch(args)),
    }
}

/// PostgreSQL's order of floats: NaN equals NaN and is above all others; zeros are equal.
pub fn compare_floats(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

/// The order of two values that an operator exists for.
pub(super) fn compare(cx: &Context<'_>, left: DatumRef<'_>, right: DatumRef<'_>) -> SqlResult<Ordering> {
    use DatumRef as D;
    Ok(match (left, right) {
        (D::Int4(a), D::Int4(b)) => a.cmp(&b),
        (D::Int8(a), D::Int8(b)) => a.cmp(&b),
        (D::Text(a), D::Text(b)) if is_jsonb(cx) => jsonb_key(a)?.cmp(&jsonb_key(b)?),
        (D::Text(a), D::Text(b)) => a.cmp(b),
        (D::Int2(a), D::Int2(b)) => a.cmp(&b),
        (D::Int4(a), D::Int8(b)) => i64::from(a).cmp(&b),
        (D::Int8(a), D::Int4(b)) => a.cmp(&i64::from(b)),
        (D::Int2(a), D::Int4(b)) => i32::from(a).cmp(&b),
        (D::Int4(a), D::Int2(b)) => a.cmp(&i32::from(b)),
        (D::Int2(a), D::Int8(b)) => i64::from(a).cmp(&b),
        (D::Int8(a), D::Int2(b)) => a.cmp(&i64::from(b)),
        (D::Float8(a), D::Float8(b)) => compare_floats(a, b),
        (D::Float4(a), D::Float4(b)) => compare_floats(a.into(), b.into()),
        (D::Float4(a), D::Float8(b)) => compare_floats(a.into(), b),
        (D::Float8(a), D::Float4(b)) => compare_floats(a, b.into()),
        (D::Bool(a), D::Bool(b)) => a.cmp(&b),
        (D::Bytea(a), D::Bytea(b)) => a.cmp(b),
        (D::Date(a), D::Date(b)) => a.cmp(&b),
        (D::Time(a), D::Time(b)) => a.cmp(&b),
        (D::Timestamp(a), D::Timestamp(b)) | (D::Timestamptz(a), D::Timestamptz(b)) => a.cmp(&b),
        (D::Interval(a), D::Interval(b)) => a.comparable().cmp(&b.comparable()),
        (D::Uuid(a), D::Uuid(b)) => a.cmp(&b),
        (D::Oid(a), D::Oid(b)) => a.cmp(&b),
        (D::Numeric(a), D::Numeric(b)) => a.compare(b),
        (D::Date(a), D::Timestamp(b)) => midnight(a).cmp(&b),
        (D::Timestamp(a), D::Date(b)) => a.cmp(&midnight(b)),
        (D::Date(a), D::Timestamptz(b)) => cx.env.time_zone.to_utc(midnight(a)).cmp(&b),
        (D::Timestamptz(a), D::Date(b)) => a.cmp(&cx.env.time_zone.to_utc(midnight(b))),
        (D::Timestamp(a), D::Timestamptz(b)) => cx.env.time_zone.to_utc(a).cmp(&b),
        (D::Timestamptz(a), D::Timestamp(b)) => a.cmp(&cx.env.time_zone.to_utc(b)),
        (D::Array(a), D::Array(b)) => return compare_arrays(cx, a, b),
        _ => return Err(mismatch(&[left, right])),
    })
}

/// jsonb is held as text, but its order is another.
fn is_jsonb(cx: &Context<'_>) -> bool {
    match cx.args.first() {
        Some(SqlType::Jsonb) => true,
        Some(SqlType::Array(element)) => element.ty() == SqlType::Jsonb,
        _ => false,
    }
}

/// A date as a timestamp; one beyond the range of timestamps is above them all.
fn midnight(date: i32) -> i64 {
    date_to_timestamp(date).unwrap_or(i64::MAX)
}

/// Element by element, NULL above all; then the shorter one is less.
fn compare_arrays(cx: &Context<'_>, left: ArrayRef<'_>, right: ArrayRef<'_>) -> SqlResult<Ordering> {
    for (a, b) in left.iter().zip(right.iter()) {
        let order = match (a.is_null(), b.is_null()) {
            (false, false) => compare(cx, a, b)?,
            (a, b) => a.cmp(&b),
        };
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(left.len().cmp(&right.len()))
}
