//! extract, date_part, date_trunc and date_bin.

use super::datetime::{find_zone, interval, timestamp, timestamptz};
use super::kernel::{kernel, mismatch};
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::SqlResult;
use crate::types::calendar::date_to_timestamp;
use crate::types::datetime::arithmetic::bin;
use crate::types::datetime::extract::{
    extract_date, extract_interval, extract_time, extract_timestamp, extract_timestamptz, truncate_interval,
    truncate_timestamp, truncate_timestamptz,
};
use crate::types::numeric::Numeric;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("extract(text, date) -> numeric", |cx, args| extract(cx, args).map(numeric)),
    Entry::new("extract(text, time) -> numeric", |cx, args| extract(cx, args).map(numeric)),
    Entry::new("extract(text, timestamp) -> numeric", |cx, args| extract(cx, args).map(numeric)),
    Entry::new("extract(text, timestamptz) -> numeric", |cx, args| extract(cx, args).map(numeric)).stable(),
    Entry::new("extract(text, interval) -> numeric", |cx, args| extract(cx, args).map(numeric)),
    Entry::new("date_part(text, date) -> float8", |cx, args| match args {
        // PostgreSQL computes it on the timestamp at midnight, so that times of day are allowed.
        &[field, DatumRef::Date(date)] => {
            extract(cx, &[field, DatumRef::Timestamp(date_to_timestamp(date)?)]).and_then(float)
        }
        _ => Err(mismatch(args)),
    }),
    Entry::new("date_part(text, time) -> float8", |cx, args| extract(cx, args).and_then(float)),
    Entry::new("date_part(text, timestamp) -> float8", |cx, args| extract(cx, args).and_then(float)),
    Entry::new("date_part(text, timestamptz) -> float8", |cx, args| extract(cx, args).and_then(float)).stable(),
    Entry::new("date_part(text, interval) -> float8", |cx, args| extract(cx, args).and_then(float)),
    Entry::new(
        "date_trunc(text, timestamp) -> timestamp",
        kernel!(|unit: Text, t: Timestamp| timestamp(truncate_timestamp(unit, t))),
    ),
    Entry::new(
        "date_trunc(text, timestamptz) -> timestamptz",
        kernel!(cx |unit: Text, t: Timestamptz| timestamptz(truncate_timestamptz(unit, t, &cx.env.time_zone))),
    )
    .stable(),
    Entry::new(
        "date_trunc(text, timestamptz, text) -> timestamptz",
        kernel!(|unit: Text, t: Timestamptz, zone: Text| {
            timestamptz(truncate_timestamptz(unit, t, &find_zone(zone)?))
        }),
    ),
    Entry::new(
        "date_trunc(text, interval) -> interval",
        kernel!(|unit: Text, i: Interval| interval(truncate_interval(unit, i))),
    ),
    Entry::new(
        "date_bin(interval, timestamp, timestamp) -> timestamp",
        kernel!(|by: Interval, t: Timestamp, origin: Timestamp| { timestamp(bin(by, t, origin)) }),
    ),
    Entry::new(
        "date_bin(interval, timestamptz, timestamptz) -> timestamptz",
        kernel!(|by: Interval, t: Timestamptz, origin: Timestamptz| timestamptz(bin(by, t, origin))),
    ),
];

/// The field's value; `None` is NULL.
fn extract(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Option<Numeric>> {
    let &[DatumRef::Text(unit), value] = args else { return Err(mismatch(args)) };
    match value {
        DatumRef::Date(date) => extract_date(unit, date),
        DatumRef::Time(time) => extract_time(unit, time).map(Some),
        DatumRef::Timestamp(at) => extract_timestamp(unit, at),
        DatumRef::Timestamptz(at) => extract_timestamptz(unit, at, &cx.env.time_zone),
        DatumRef::Interval(interval) => extract_interval(unit, interval).map(Some),
        _ => Err(mismatch(args)),
    }
}

fn numeric(value: Option<Numeric>) -> Datum {
    value.map_or(Datum::Null, Datum::Numeric)
}

fn float(value: Option<Numeric>) -> SqlResult<Datum> {
    value.map_or(Ok(Datum::Null), |value| value.to_f64().map(Datum::Float8))
}
