//! Arithmetic of dates, times, timestamps and intervals (PostgreSQL manual, "Date/Time Functions and Operators").

use super::Entry;
use super::kernel::{division_by_zero, invalid_parameter, kernel};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::calendar::{
    MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, check_date, check_timestamp,
    civil_from_days, date_to_timestamp, days_from_civil, days_in_month, is_finite_date, is_finite_timestamp,
    join_timestamp, out_of_range, split_timestamp, timestamp_to_date,
};
use crate::types::interval::Interval;
use crate::zone::Zone;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("+(date, int4) -> date", kernel!(|d: Date, n: Int4| add_days(d, n.into()))),
    Entry::new("+(int4, date) -> date", kernel!(|n: Int4, d: Date| add_days(d, n.into()))),
    Entry::new("-(date, int4) -> date", kernel!(|d: Date, n: Int4| add_days(d, -i64::from(n)))),
    Entry::new(
        "-(date, date) -> int4",
        kernel!(|a: Date, b: Date| match is_finite_date(a) && is_finite_date(b) {
            true => Ok(Datum::Int4(a.wrapping_sub(b))),
            false => Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite dates")),
        }),
    ),
    Entry::new(
        "+(date, interval) -> timestamp",
        kernel!(|d: Date, i: Interval| timestamp(shift(date_to_timestamp(d)?, i))),
    ),
    Entry::new(
        "+(interval, date) -> timestamp",
        kernel!(|i: Interval, d: Date| timestamp(shift(date_to_timestamp(d)?, i))),
    ),
    Entry::new(
        "-(date, interval) -> timestamp",
        kernel!(|d: Date, i: Interval| { timestamp(shift(date_to_timestamp(d)?, negate(i)?)) }),
    ),
    Entry::new("+(date, time) -> timestamp", kernel!(|d: Date, t: Time| timestamp(at_time(d, t)))),
    Entry::new("+(time, date) -> timestamp", kernel!(|t: Time, d: Date| timestamp(at_time(d, t)))),
    Entry::new("+(timestamp, interval) -> timestamp", kernel!(|t: Timestamp, i: Interval| timestamp(shift(t, i)))),
    Entry::new("+(interval, timestamp) -> timestamp", kernel!(|i: Interval, t: Timestamp| timestamp(shift(t, i)))),
    Entry::new(
        "-(timestamp, interval) -> timestamp",
        kernel!(|t: Timestamp, i: Interval| timestamp(shift(t, negate(i)?))),
    ),
    Entry::new(
        "+(timestamptz, interval) -> timestamptz",
        kernel!(cx |t: Timestamptz, i: Interval| {
            timestamptz(shift_in(&cx.env.time_zone, t, i))
        }),
    )
    .stable(),
    Entry::new(
        "+(interval, timestamptz) -> timestamptz",
        kernel!(cx |i: Interval, t: Timestamptz| {
            timestamptz(shift_in(&cx.env.time_zone, t, i))
        }),
    )
    .stable(),
    Entry::new(
        "-(timestamptz, interval) -> timestamptz",
        kernel!(cx |t: Timestamptz, i: Interval| {
            timestamptz(shift_in(&cx.env.time_zone, t, negate(i)?))
        }),
    )
    .stable(),
    Entry::new("-(timestamp, timestamp) -> interval", kernel!(|a: Timestamp, b: Timestamp| difference(a, b))),
    Entry::new("-(timestamptz, timestamptz) -> interval", kernel!(|a: Timestamptz, b: Timestamptz| difference(a, b))),
    Entry::new("+(time, interval) -> time", kernel!(|t: Time, i: Interval| time(t, i.micros))),
    Entry::new("+(interval, time) -> time", kernel!(|i: Interval, t: Time| time(t, i.micros))),
    Entry::new("-(time, interval) -> time", kernel!(|t: Time, i: Interval| time(t, negate(i)?.micros))),
    Entry::new("-(time, time) -> interval", kernel!(|a: Time, b: Time| interval(0, 0, a - b))),
    Entry::new("+(interval, interval) -> interval", kernel!(|a: Interval, b: Interval| add(a, b))),
    Entry::new("-(interval, interval) -> interval", kernel!(|a: Interval, b: Interval| add(a, negate(b)?))),
    Entry::new("-(interval) -> interval", kernel!(|i: Interval| negate(i).map(Datum::Interval))),
    Entry::new("*(interval, float8) -> interval", kernel!(|i: Interval, f: Float8| scale(i, f, false))),
    Entry::new("*(float8, interval) -> interval", kernel!(|f: Float8, i: Interval| scale(i, f, false))),
    Entry::new(
        "/(interval, float8) -> interval",
        kernel!(|i: Interval, f: Float8| match f == 0.0 {
            true => Err(division_by_zero()),
            false => scale(i, f, true),
        }),
    ),
    Entry::new("age(timestamp, timestamp) -> interval", kernel!(|a: Timestamp, b: Timestamp| age(a, b))),
    Entry::new("age(timestamp) -> interval", kernel!(cx |t: Timestamp| age(today(cx.env)?, t))).stable(),
    Entry::new(
        "age(timestamptz, timestamptz) -> interval",
        kernel!(cx |a: Timestamptz, b: Timestamptz| {
            age(cx.env.time_zone.to_local(a), cx.env.time_zone.to_local(b))
        }),
    )
    .stable(),
    Entry::new(
        "age(timestamptz) -> interval",
        kernel!(cx |t: Timestamptz| age(today(cx.env)?, cx.env.time_zone.to_local(t))),
    )
    .stable(),
    Entry::new("justify_hours(interval) -> interval", kernel!(|i: Interval| justify_hours(i).map(Datum::Interval))),
    Entry::new("justify_days(interval) -> interval", kernel!(|i: Interval| justify_days(i).map(Datum::Interval))),
    Entry::new(
        "justify_interval(interval) -> interval",
        kernel!(|i: Interval| justify_interval(i).map(Datum::Interval)),
    ),
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
        kernel!(|y: Int4, mo: Int4, d: Int4, h: Int4, mi: Int4, s: Float8| timestamp(make_timestamp(
            (y, mo, d),
            h,
            mi,
            s
        ))),
    ),
    Entry::new(
        "make_timestamptz(int4, int4, int4, int4, int4, float8) -> timestamptz",
        kernel!(cx |y: Int4, mo: Int4, d: Int4, h: Int4, mi: Int4, s: Float8| {
            timestamptz(make_timestamp((y, mo, d), h, mi, s).map(|local| cx.env.time_zone.to_utc(local)))
        }),
    )
    .stable(),
    Entry::new("make_interval() -> interval", kernel!(|| interval(0, 0, 0))),
    Entry::new("make_interval(int4) -> interval", kernel!(|y: Int4| make_interval([y, 0, 0, 0, 0, 0], 0.0))),
    Entry::new(
        "make_interval(int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4| make_interval([y, m, 0, 0, 0, 0], 0.0)),
    ),
    Entry::new(
        "make_interval(int4, int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4| { make_interval([y, m, w, 0, 0, 0], 0.0) }),
    ),
    Entry::new(
        "make_interval(int4, int4, int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4, d: Int4| { make_interval([y, m, w, d, 0, 0], 0.0) }),
    ),
    Entry::new(
        "make_interval(int4, int4, int4, int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4, d: Int4, h: Int4| make_interval([y, m, w, d, h, 0], 0.0)),
    ),
    Entry::new(
        "make_interval(int4, int4, int4, int4, int4, int4) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4, d: Int4, h: Int4, mi: Int4| make_interval([y, m, w, d, h, mi], 0.0)),
    ),
    Entry::new(
        "make_interval(int4, int4, int4, int4, int4, int4, float8) -> interval",
        kernel!(|y: Int4, m: Int4, w: Int4, d: Int4, h: Int4, mi: Int4, s: Float8| make_interval(
            [y, m, w, d, h, mi],
            s
        )),
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
        kernel!(|zone: Text, t: Timestamptz| { timestamp(Ok(find_zone(zone)?.to_local(t))) }),
    ),
    Entry::new(
        "timezone(text, timestamp) -> timestamptz",
        kernel!(|zone: Text, t: Timestamp| { timestamptz(Ok(find_zone(zone)?.to_utc(t))) }),
    ),
    Entry::new(
        "timezone(interval, timestamptz) -> timestamp",
        kernel!(|zone: Interval, t: Timestamptz| { timestamp(Ok(fixed_zone(zone)?.to_local(t))) }),
    ),
    Entry::new(
        "timezone(interval, timestamp) -> timestamptz",
        kernel!(|zone: Interval, t: Timestamp| { timestamptz(Ok(fixed_zone(zone)?.to_utc(t))) }),
    ),
    Entry::new("to_timestamp(float8) -> timestamptz", kernel!(|seconds: Float8| timestamptz(from_epoch(seconds)))),
];

pub(super) fn timestamp(value: SqlResult<i64>) -> SqlResult<Datum> {
    value.map(Datum::Timestamp)
}

pub(super) fn timestamptz(value: SqlResult<i64>) -> SqlResult<Datum> {
    value.map(Datum::Timestamptz)
}

fn interval(months: i32, days: i32, micros: i64) -> SqlResult<Datum> {
    Ok(Datum::Interval(Interval { months, days, micros }))
}

fn today(env: &crate::env::Env) -> SqlResult<i64> {
    date_to_timestamp(timestamp_to_date(env.time_zone.to_local(env.transaction_time)))
}

fn add_days(date: i32, days: i64) -> SqlResult<Datum> {
    match is_finite_date(date) {
        false => Ok(Datum::Date(date)),
        true => check_date(i64::from(date) + days).map(Datum::Date).ok_or_else(|| out_of_range("date")),
    }
}

fn at_time(date: i32, time: i64) -> SqlResult<i64> {
    match date_to_timestamp(date)? {
        midnight if !is_finite_timestamp(midnight) => Ok(midnight),
        midnight => midnight.checked_add(time).and_then(check_timestamp).ok_or_else(|| out_of_range("timestamp")),
    }
}

fn time(time: i64, micros: i64) -> SqlResult<Datum> {
    Ok(Datum::Time((time + micros % MICROS_PER_DAY).rem_euclid(MICROS_PER_DAY)))
}

/// Months first, keeping the day where the month has it, then days, then time.
pub(super) fn shift(from: i64, by: Interval) -> SqlResult<i64> {
    if !is_finite_timestamp(from) {
        return Ok(from);
    }
    let (mut day, time) = split_timestamp(from);
    if by.months != 0 {
        let (year, month, of_month) = civil_from_days(day);
        let months = year * 12 + month - 1 + i64::from(by.months);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        day = days_from_civil(year, month, of_month.min(days_in_month(year, month)));
    }
    join_timestamp(day + i64::from(by.days), time)
        .and_then(|moved| moved.checked_add(by.micros))
        .and_then(check_timestamp)
        .ok_or_else(|| out_of_range("timestamp"))
}

/// Months and days are of the local calendar, time is of the clock that runs through.
pub(super) fn shift_in(zone: &Zone, from: i64, by: Interval) -> SqlResult<i64> {
    if !is_finite_timestamp(from) {
        return Ok(from);
    }
    let mut at = from;
    if by.months != 0 || by.days != 0 {
        at = zone.to_utc(shift(zone.to_local(from), Interval { micros: 0, ..by })?);
    }
    at.checked_add(by.micros).and_then(check_timestamp).ok_or_else(|| out_of_range("timestamp"))
}

fn difference(a: i64, b: i64) -> SqlResult<Datum> {
    if !is_finite_timestamp(a) || !is_finite_timestamp(b) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite timestamps"));
    }
    let micros = a.checked_sub(b).ok_or_else(|| out_of_range("interval"))?;
    justify_hours(Interval { months: 0, days: 0, micros }).map(Datum::Interval)
}

fn negate(i: Interval) -> SqlResult<Interval> {
    let parts = (i.months.checked_neg(), i.days.checked_neg(), i.micros.checked_neg());
    match parts {
        (Some(months), Some(days), Some(micros)) => Ok(Interval { months, days, micros }),
        _ => Err(out_of_range("interval")),
    }
}

fn add(a: Interval, b: Interval) -> SqlResult<Datum> {
    let parts = (a.months.checked_add(b.months), a.days.checked_add(b.days), a.micros.checked_add(b.micros));
    match parts {
        (Some(months), Some(days), Some(micros)) => interval(months, days, micros),
        _ => Err(out_of_range("interval")),
    }
}

/// Multiplies or divides; what is less than a month goes to days, what is less than a day to time.
fn scale(i: Interval, factor: f64, divide: bool) -> SqlResult<Datum> {
    let apply = |value: f64| if divide { value / factor } else { value * factor };
    let whole = |value: f64| match !(-2_147_483_648.0..2_147_483_648.0).contains(&value) {
        true => Err(out_of_range("interval")),
        false => Ok(value as i32),
    };
    let rounded = |value: f64| (value * 1e6).round_ties_even() / 1e6;
    let (months, days) = (f64::from(i.months), f64::from(i.days));
    let result_months = whole(apply(months))?;
    let mut result_days = whole(apply(days))?;
    let month_rest = rounded((apply(months) - f64::from(result_months)) * 30.0);
    let mut seconds = rounded((apply(days) - f64::from(result_days) + month_rest - month_rest.trunc()) * 86_400.0);
    if seconds.abs() >= 86_400.0 {
        let carried = (seconds / 86_400.0) as i32;
        result_days = result_days.checked_add(carried).ok_or_else(|| out_of_range("interval"))?;
        seconds -= f64::from(carried) * 86_400.0;
    }
    let result_days = result_days.checked_add(month_rest as i32).ok_or_else(|| out_of_range("interval"))?;
    let micros = (apply(i.micros as f64) + seconds * 1e6).round_ties_even();
    match micros.is_nan() || !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&micros) {
        true => Err(out_of_range("interval")),
        false => interval(result_months, result_days, micros as i64),
    }
}

/// The difference in years, months and days as people count them.
fn age(a: i64, b: i64) -> SqlResult<Datum> {
    if !is_finite_timestamp(a) || !is_finite_timestamp(b) {
        return Err(out_of_range("timestamp"));
    }
    let ((later, earlier), negative) = if a < b { ((b, a), true) } else { ((a, b), false) };
    let ((day_a, time_a), (day_b, time_b)) = (split_timestamp(later), split_timestamp(earlier));
    let ((year_a, month_a, of_month_a), (year_b, month_b, of_month_b)) =
        (civil_from_days(day_a), civil_from_days(day_b));
    let mut micros = time_a - time_b;
    let mut days = of_month_a - of_month_b;
    let mut months = (year_a - year_b) * 12 + month_a - month_b;
    if micros < 0 {
        micros += MICROS_PER_DAY;
        days -= 1;
    }
    while days < 0 {
        // Borrowed from the month of the earlier one, or of the later one when the order was turned.
        let (year, month) = if negative { (year_a, month_a) } else { (year_b, month_b) };
        days += days_in_month(year, month);
        months -= 1;
    }
    let found = Interval { months: months as i32, days: days as i32, micros };
    Ok(Datum::Interval(if negative { negate(found)? } else { found }))
}

fn justify_hours(mut i: Interval) -> SqlResult<Interval> {
    i.days = i32::try_from(i.micros / MICROS_PER_DAY)
        .ok()
        .and_then(|days| i.days.checked_add(days))
        .ok_or_else(|| out_of_range("interval"))?;
    i.micros %= MICROS_PER_DAY;
    if i.days > 0 && i.micros < 0 {
        i.micros += MICROS_PER_DAY;
        i.days -= 1;
    } else if i.days < 0 && i.micros > 0 {
        i.micros -= MICROS_PER_DAY;
        i.days += 1;
    }
    Ok(i)
}

fn justify_days(mut i: Interval) -> SqlResult<Interval> {
    i.months = i.months.checked_add(i.days / 30).ok_or_else(|| out_of_range("interval"))?;
    i.days %= 30;
    if i.months > 0 && i.days < 0 {
        i.days += 30;
        i.months -= 1;
    } else if i.months < 0 && i.days > 0 {
        i.days -= 30;
        i.months += 1;
    }
    Ok(i)
}

fn justify_interval(i: Interval) -> SqlResult<Interval> {
    let mut i = justify_days(justify_hours(i)?)?;
    if i.months > 0 && (i.days < 0 || (i.days == 0 && i.micros < 0)) {
        i.days += 30;
        i.months -= 1;
    } else if i.months < 0 && (i.days > 0 || (i.days == 0 && i.micros > 0)) {
        i.days -= 30;
        i.months += 1;
    }
    if i.days > 0 && i.micros < 0 {
        i.micros += MICROS_PER_DAY;
        i.days -= 1;
    } else if i.days < 0 && i.micros > 0 {
        i.micros -= MICROS_PER_DAY;
        i.days += 1;
    }
    Ok(i)
}

fn overflow(message: String) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
}

fn make_date(year: i32, month: i32, day: i32) -> SqlResult<i32> {
    let refuse = || overflow(format!("date field value out of range: {year}-{month:02}-{day:02}"));
    // Negative years are BC; there is no year 0.
    let civil = i64::from(year) + i64::from(year < 0);
    let (month_, day_) = (i64::from(month), i64::from(day));
    if year == 0 || !(1..=12).contains(&month) || day_ < 1 || day_ > days_in_month(civil, month_) {
        return Err(refuse());
    }
    check_date(days_from_civil(civil, month_, day_))
        .ok_or_else(|| overflow(format!("date out of range: {year}-{month:02}-{day:02}")))
}

fn make_time(hour: i32, minute: i32, second: f64) -> SqlResult<i64> {
    let refuse = || overflow(format!("time field value out of range: {hour}:{minute:02}:{second:02}"));
    if !(0..=24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..=60.0).contains(&second) {
        return Err(refuse());
    }
    let micros = i64::from(hour) * MICROS_PER_HOUR
        + i64::from(minute) * MICROS_PER_MINUTE
        + (second * MICROS_PER_SECOND as f64).round_ties_even() as i64;
    if micros > MICROS_PER_DAY { Err(refuse()) } else { Ok(micros) }
}

fn make_timestamp(date: (i32, i32, i32), hour: i32, minute: i32, second: f64) -> SqlResult<i64> {
    let days = make_date(date.0, date.1, date.2)?;
    let time = make_time(hour, minute, second)?;
    join_timestamp(days.into(), time).ok_or_else(|| out_of_range("timestamp"))
}

fn make_interval(parts: [i32; 6], seconds: f64) -> SqlResult<Datum> {
    let [years, months, weeks, days, hours, minutes] = parts.map(i64::from);
    let micros = (seconds * MICROS_PER_SECOND as f64).round_ties_even();
    let total = i128::from(hours) * i128::from(MICROS_PER_HOUR) + i128::from(minutes) * i128::from(MICROS_PER_MINUTE);
    let parts = (
        i32::try_from(years * 12 + months).ok(),
        i32::try_from(weeks * 7 + days).ok(),
        if micros.is_finite() && micros.abs() < 9e18 { i64::try_from(total + micros as i128).ok() } else { None },
    );
    match parts {
        (Some(months), Some(days), Some(micros)) => interval(months, days, micros),
        _ => Err(out_of_range("interval")),
    }
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

fn from_epoch(seconds: f64) -> SqlResult<i64> {
    if seconds.is_nan() {
        return Err(overflow("timestamp cannot be NaN".to_owned()));
    }
    if seconds.is_infinite() {
        return Ok(if seconds > 0.0 { i64::MAX } else { i64::MIN });
    }
    let micros = (seconds * 1e6).round_ties_even();
    match micros.abs() < 9.223_372e18 {
        true => {
            check_timestamp(micros as i64).ok_or_else(|| overflow(format!("timestamp out of range: \"{seconds}\"")))
        }
        false => Err(overflow(format!("timestamp out of range: \"{seconds}\""))),
    }
}
