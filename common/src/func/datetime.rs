//! Arithmetic of dates, times, timestamps and intervals (PostgreSQL manual, "Date/Time Functions and Operators").

use super::Entry;
use super::kernel::{invalid_parameter, kernel};
use crate::datum::Datum;
use crate::env::Env;
use crate::error::SqlResult;
use crate::types::calendar::{
    MICROS_PER_SECOND, date_to_timestamp, is_finite_date, is_finite_timestamp, split_timestamp, timestamp_to_date,
};
use crate::types::datetime::arithmetic::{
    add_days, add_to_date, add_to_time, add_to_timestamp, add_to_timestamptz, age, date_difference, sub_days,
    time_difference, timestamp_at_zone, timestamp_difference, timestamptz_at_zone,
};
use crate::types::datetime::make::{make_date, make_interval, make_time, make_timestamp, timestamptz_from_epoch};
use crate::types::interval::Interval;
use crate::zone::Zone;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("+(date, int4) -> date", kernel!(|d: Date, n: Int4| add_days(d, n).map(Datum::Date))),
    Entry::new("+(int4, date) -> date", kernel!(|n: Int4, d: Date| add_days(d, n).map(Datum::Date))),
    Entry::new("-(date, int4) -> date", kernel!(|d: Date, n: Int4| sub_days(d, n).map(Datum::Date))),
    Entry::new("-(date, date) -> int4", kernel!(|a: Date, b: Date| date_difference(a, b).map(Datum::Int4))),
    Entry::new("+(date, interval) -> timestamp", kernel!(|d: Date, i: Interval| timestamp(add_to_date(d, i)))),
    Entry::new("+(interval, date) -> timestamp", kernel!(|i: Interval, d: Date| timestamp(add_to_date(d, i)))),
    Entry::new(
        "-(date, interval) -> timestamp",
        kernel!(|d: Date, i: Interval| timestamp(add_to_date(d, i.negated()?))),
    ),
    Entry::new("+(date, time) -> timestamp", kernel!(|d: Date, t: Time| timestamp(at_time(d, t)))),
    Entry::new("+(time, date) -> timestamp", kernel!(|t: Time, d: Date| timestamp(at_time(d, t)))),
    Entry::new(
        "+(timestamp, interval) -> timestamp",
        kernel!(|t: Timestamp, i: Interval| timestamp(add_to_timestamp(t, i))),
    ),
    Entry::new(
        "+(interval, timestamp) -> timestamp",
        kernel!(|i: Interval, t: Timestamp| timestamp(add_to_timestamp(t, i))),
    ),
    Entry::new(
        "-(timestamp, interval) -> timestamp",
        kernel!(|t: Timestamp, i: Interval| timestamp(add_to_timestamp(t, i.negated()?))),
    ),
    Entry::new(
        "+(timestamptz, interval) -> timestamptz",
        kernel!(cx |t: Timestamptz, i: Interval| timestamptz(add_to_timestamptz(t, i, &cx.env.time_zone))),
    )
    .stable(),
    Entry::new(
        "+(interval, timestamptz) -> timestamptz",
        kernel!(cx |i: Interval, t: Timestamptz| timestamptz(add_to_timestamptz(t, i, &cx.env.time_zone))),
    )
    .stable(),
    Entry::new(
        "-(timestamptz, interval) -> timestamptz",
        kernel!(cx |t: Timestamptz, i: Interval| {
            timestamptz(add_to_timestamptz(t, i.negated()?, &cx.env.time_zone))
        }),
    )
    .stable(),
    Entry::new(
        "-(timestamp, timestamp) -> interval",
        kernel!(|a: Timestamp, b: Timestamp| interval(timestamp_difference(a, b))),
    ),
    Entry::new(
        "-(timestamptz, timestamptz) -> interval",
        kernel!(|a: Timestamptz, b: Timestamptz| interval(timestamp_difference(a, b))),
    ),
    Entry::new("+(time, interval) -> time", kernel!(|t: Time, i: Interval| Ok(Datum::Time(add_to_time(t, i))))),
    Entry::new("+(interval, time) -> time", kernel!(|i: Interval, t: Time| Ok(Datum::Time(add_to_time(t, i))))),
    Entry::new(
        "-(time, interval) -> time",
        kernel!(|t: Time, i: Interval| Ok(Datum::Time(add_to_time(t, i.negated()?)))),
    ),
    Entry::new("-(time, time) -> interval", kernel!(|a: Time, b: Time| interval(Ok(time_difference(a, b))))),
    Entry::new("+(interval, interval) -> interval", kernel!(|a: Interval, b: Interval| interval(a.plus(b)))),
    Entry::new("-(interval, interval) -> interval", kernel!(|a: Interval, b: Interval| interval(a.minus(b)))),
    Entry::new("-(interval) -> interval", kernel!(|i: Interval| interval(i.negated()))),
    Entry::new("*(interval, float8) -> interval", kernel!(|i: Interval, f: Float8| interval(i.times(f)))),
    Entry::new("*(float8, interval) -> interval", kernel!(|f: Float8, i: Interval| interval(i.times(f)))),
    Entry::new("/(interval, float8) -> interval", kernel!(|i: Interval, f: Float8| interval(i.divided_by(f)))),
    Entry::new("age(timestamp, timestamp) -> interval", kernel!(|a: Timestamp, b: Timestamp| interval(age(a, b)))),
    Entry::new("age(timestamp) -> interval", kernel!(cx |t: Timestamp| interval(age(today(cx.env)?, t)))).stable(),
    Entry::new(
        "age(timestamptz, timestamptz) -> interval",
        kernel!(cx |a: Timestamptz, b: Timestamptz| {
            interval(age(cx.env.time_zone.to_local(a), cx.env.time_zone.to_local(b)))
        }),
    )
    .stable(),
    Entry::new(
        "age(timestamptz) -> interval",
        kernel!(cx |t: Timestamptz| interval(age(today(cx.env)?, cx.env.time_zone.to_local(t)))),
    )
    .stable(),
    Entry::new("justify_hours(interval) -> interval", kernel!(|i: Interval| interval(i.justify_hours()))),
    Entry::new("justify_days(interval) -> interval", kernel!(|i: Interval| interval(i.justify_days()))),
    Entry::new("justify_interval(interval) -> interval", kernel!(|i: Interval| interval(i.justify()))),
    Entry::new(
        "make_date(int4, int4, int4) -> date",
        kernel!(|y: Int4, m: Int4, d: Int4| make_date(y, m, d).map(Datum::Date)),
    ),
    Entry::new(
        "make_time(int4, int4, float8) -> time",
        kernel!(|h: Int4, m: Int4, s: Float8| make_time(h, m, s).map(Datum::Time)),
    ),
    Entry::new(
        "make_timestamp(int4, int4, int4, int4, int4, float8) -> timestamp",
        kernel!(|y: Int4, mo: Int4, d: Int4, h: Int4, mi: Int4, s: Float8| {
            timestamp(make_timestamp(y, mo, d, h, mi, s))
        }),
    ),
    Entry::new(
        "make_timestamptz(int4, int4, int4, int4, int4, float8) -> timestamptz",
        kernel!(cx |y: Int4, mo: Int4, d: Int4, h: Int4, mi: Int4, s: Float8| {
            timestamptz(timestamp_at_zone(make_timestamp(y, mo, d, h, mi, s)?, &cx.env.time_zone))
        }),
    )
    .stable(),
    Entry::new("make_interval() -> interval", kernel!(|| Ok(Datum::Interval(Interval::default())))),
    Entry::new("make_interval(int4) -> interval", kernel!(|y: Int4| interval(make_interval([y, 0, 0, 0, 0, 0], 0.0)))),
    Entry::new(
        "make_interval(int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4| interval(make_interval([y, m, 0, 0, 0, 0], 0.0))),
    ),
    Entry::new(
        "make_interval(int4, int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4| interval(make_interval([y, m, w, 0, 0, 0], 0.0))),
    ),
    Entry::new(
        "make_interval(int4, int4, int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4, d: Int4| interval(make_interval([y, m, w, d, 0, 0], 0.0))),
    ),
    Entry::new(
        "make_interval(int4, int4, int4, int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4, d: Int4, h: Int4| interval(make_interval([y, m, w, d, h, 0], 0.0))),
    ),
    Entry::new(
        "make_interval(int4, int4, int4, int4, int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4, d: Int4, h: Int4, mi: Int4| interval(make_interval(
            [y, m, w, d, h, mi],
            0.0
        ))),
    ),
    Entry::new(
        "make_interval(int4, int4, int4, int4, int4, int4, float8) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4, d: Int4, h: Int4, mi: Int4, s: Float8| {
            interval(make_interval([y, m, w, d, h, mi], s))
        }),
    ),
    Entry::new("isfinite(date) -> bool", kernel!(|d: Date| Ok(Datum::Bool(is_finite_date(d))))),
    Entry::new("isfinite(timestamp) -> bool", kernel!(|t: Timestamp| Ok(Datum::Bool(is_finite_timestamp(t))))),
    Entry::new("isfinite(timestamptz) -> bool", kernel!(|t: Timestamptz| Ok(Datum::Bool(is_finite_timestamp(t))))),
    Entry::new("isfinite(interval) -> bool", kernel!(|_i: Interval| Ok(Datum::Bool(true)))),
    Entry::new("now() -> timestamptz", kernel!(cx || timestamptz(Ok(cx.env.transaction_time)))).stable(),
    Entry::new("current_timestamp() -> timestamptz", kernel!(cx || timestamptz(Ok(cx.env.transaction_time)))).stable(),
    Entry::new("transaction_timestamp() -> timestamptz", kernel!(cx || timestamptz(Ok(cx.env.transaction_time))))
        .stable(),
    Entry::new("statement_timestamp() -> timestamptz", kernel!(cx || timestamptz(Ok(cx.env.statement_time)))).stable(),
    Entry::new("clock_timestamp() -> timestamptz", kernel!(cx || timestamptz(Ok(cx.env.clock_time())))).volatile(),
    Entry::new(
        "localtimestamp() -> timestamp",
        kernel!(cx || { timestamp(Ok(cx.env.time_zone.to_local(cx.env.transaction_time))) }),
    )
    .stable(),
    Entry::new("current_date() -> date", kernel!(cx || Ok(Datum::Date(timestamp_to_date(today(cx.env)?))))).stable(),
    Entry::new(
        "localtime() -> time",
        kernel!(cx || { Ok(Datum::Time(split_timestamp(cx.env.time_zone.to_local(cx.env.transaction_time)).1)) }),
    )
    .stable(),
    Entry::new(
        "timezone(text, timestamptz) -> timestamp",
        kernel!(|zone: Text, t: Timestamptz| { timestamp(timestamptz_at_zone(t, &find_zone(zone)?)) }),
    ),
    Entry::new(
        "timezone(text, timestamp) -> timestamptz",
        kernel!(|zone: Text, t: Timestamp| { timestamptz(timestamp_at_zone(t, &find_zone(zone)?)) }),
    ),
    Entry::new(
        "timezone(interval, timestamptz) -> timestamp",
        kernel!(|zone: Interval, t: Timestamptz| { timestamp(timestamptz_at_zone(t, &fixed_zone(zone)?)) }),
    ),
    Entry::new(
        "timezone(interval, timestamp) -> timestamptz",
        kernel!(|zone: Interval, t: Timestamp| { timestamptz(timestamp_at_zone(t, &fixed_zone(zone)?)) }),
    ),
    Entry::new(
        "to_timestamp(float8) -> timestamptz",
        kernel!(|seconds: Float8| timestamptz(timestamptz_from_epoch(seconds))),
    ),
];

pub(super) fn timestamp(value: SqlResult<i64>) -> SqlResult<Datum> {
    value.map(Datum::Timestamp)
}

pub(super) fn timestamptz(value: SqlResult<i64>) -> SqlResult<Datum> {
    value.map(Datum::Timestamptz)
}

pub(super) fn interval(value: SqlResult<Interval>) -> SqlResult<Datum> {
    value.map(Datum::Interval)
}

fn today(env: &Env) -> SqlResult<i64> {
    date_to_timestamp(timestamp_to_date(env.time_zone.to_local(env.transaction_time)))
}

fn at_time(date: i32, time: i64) -> SqlResult<i64> {
    add_to_date(date, Interval { months: 0, days: 0, micros: time })
}

/// A zone by name, as AT TIME ZONE takes it.
pub(super) fn find_zone(name: &str) -> SqlResult<Zone> {
    Zone::parse(name).ok_or_else(|| invalid_parameter(format!("time zone \"{name}\" not recognized")))
}

fn fixed_zone(offset: Interval) -> SqlResult<Zone> {
    if offset.months != 0 || offset.days != 0 {
        return Err(invalid_parameter("interval time zone must not include months or days"));
    }
    let zone = i32::try_from(offset.micros / MICROS_PER_SECOND).ok().and_then(Zone::fixed);
    zone.ok_or_else(|| invalid_parameter("interval time zone is out of range"))
}
