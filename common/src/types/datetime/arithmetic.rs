//! Dates and times plus and minus intervals, and differences between them.

use super::super::calendar::{
    MICROS_PER_DAY, check_date, check_timestamp, civil_from_days, date_to_timestamp, days_from_civil, days_in_month,
    is_finite_date, is_finite_timestamp, join_timestamp, out_of_range, split_timestamp,
};
use super::super::interval::Interval;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zone::Zone;

/// Adds months with the day clamped to the month's end, then days.
fn move_days(days: i64, months: i32, more: i32) -> i64 {
    let mut days = days;
    if months != 0 {
        let (year, month, day) = civil_from_days(days);
        let total = year * 12 + month - 1 + i64::from(months);
        let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
        days = days_from_civil(year, month, day.min(days_in_month(year, month)));
    }
    days + i64::from(more)
}

/// timestamp + interval.
pub fn add_to_timestamp(timestamp: i64, interval: Interval) -> SqlResult<i64> {
    if !is_finite_timestamp(timestamp) {
        return Ok(timestamp);
    }
    let (days, time) = split_timestamp(timestamp);
    join_timestamp(move_days(days, interval.months, interval.days), time)
        .and_then(|moved| moved.checked_add(interval.micros))
        .and_then(check_timestamp)
        .ok_or_else(|| out_of_range("timestamp"))
}

/// timestamptz + interval: months and days move the local date, time counts real hours.
pub fn add_to_timestamptz(timestamp: i64, interval: Interval, zone: &Zone) -> SqlResult<i64> {
    if !is_finite_timestamp(timestamp) {
        return Ok(timestamp);
    }
    let mut moved = timestamp;
    if interval.months != 0 || interval.days != 0 {
        let (days, time) = split_timestamp(zone.to_local(timestamp));
        let local = join_timestamp(move_days(days, interval.months, interval.days), time);
        moved = zone.to_utc(local.ok_or_else(|| out_of_range("timestamp"))?);
    }
    moved.checked_add(interval.micros).and_then(check_timestamp).ok_or_else(|| out_of_range("timestamp"))
}

/// date + interval, a timestamp.
pub fn add_to_date(date: i32, interval: Interval) -> SqlResult<i64> {
    add_to_timestamp(date_to_timestamp(date)?, interval)
}

/// date + days.
pub fn add_days(date: i32, days: i32) -> SqlResult<i32> {
    if !is_finite_date(date) {
        return Ok(date);
    }
    check_date(i64::from(date) + i64::from(days)).ok_or_else(|| out_of_range("date"))
}

/// date - days.
pub fn sub_days(date: i32, days: i32) -> SqlResult<i32> {
    if !is_finite_date(date) {
        return Ok(date);
    }
    check_date(i64::from(date) - i64::from(days)).ok_or_else(|| out_of_range("date"))
}

/// date - date: days.
pub fn date_difference(a: i32, b: i32) -> SqlResult<i32> {
    if !is_finite_date(a) || !is_finite_date(b) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite dates"));
    }
    a.checked_sub(b).ok_or_else(|| out_of_range("date"))
}

/// timestamp - timestamp: days and time, no months.
pub fn timestamp_difference(a: i64, b: i64) -> SqlResult<Interval> {
    if !is_finite_timestamp(a) || !is_finite_timestamp(b) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite timestamps"));
    }
    let micros = a.checked_sub(b).ok_or_else(|| out_of_range("interval"))?;
    Interval { months: 0, days: 0, micros }.justify_hours()
}

/// time + interval, round the clock; the interval's months and days do not count.
pub fn add_to_time(time: i64, interval: Interval) -> i64 {
    (time + interval.micros % MICROS_PER_DAY).rem_euclid(MICROS_PER_DAY)
}

/// time - time.
pub fn time_difference(a: i64, b: i64) -> Interval {
    Interval { months: 0, days: 0, micros: a - b }
}

/// `age(a, b)` of local timestamps: years, months and days as the calendar counts them.
pub fn age(a: i64, b: i64) -> SqlResult<Interval> {
    if !is_finite_timestamp(a) || !is_finite_timestamp(b) {
        return Err(out_of_range("timestamp"));
    }
    let (later, earlier) = if a < b { (b, a) } else { (a, b) };
    let ((later_days, later_time), (earlier_days, earlier_time)) = (split_timestamp(later), split_timestamp(earlier));
    let (year, month, day) = civil_from_days(later_days);
    let (from_year, from_month, from_day) = civil_from_days(earlier_days);
    let mut micros = later_time - earlier_time;
    let mut days = day - from_day;
    let mut months = (year - from_year) * 12 + month - from_month;
    if micros < 0 {
        micros += MICROS_PER_DAY;
        days -= 1;
    }
    if days < 0 {
        // The month that is broken up is the earlier one's.
        days += days_in_month(from_year, from_month);
        months -= 1;
    }
    let span = Interval { months: months as i32, days: days as i32, micros };
    if a < b { span.negated() } else { Ok(span) }
}

/// `AT TIME ZONE` on a timestamp: the instant of that local time in the zone.
pub fn timestamp_at_zone(timestamp: i64, zone: &Zone) -> SqlResult<i64> {
    if !is_finite_timestamp(timestamp) {
        return Ok(timestamp);
    }
    check_timestamp(zone.to_utc(timestamp)).ok_or_else(|| out_of_range("timestamp"))
}

/// `AT TIME ZONE` on a timestamptz: the local time there.
pub fn timestamptz_at_zone(timestamp: i64, zone: &Zone) -> SqlResult<i64> {
    if !is_finite_timestamp(timestamp) {
        return Ok(timestamp);
    }
    check_timestamp(zone.to_local(timestamp)).ok_or_else(|| out_of_range("timestamp"))
}

/// `date_bin`: the start of the span of length `stride`, counted from `origin`, that a timestamp lies in.
pub fn bin(stride: Interval, at: i64, origin: i64) -> SqlResult<i64> {
    let refuse = |message: &str| Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message));
    if !is_finite_timestamp(at) {
        return Ok(at);
    }
    if !is_finite_timestamp(origin) {
        return refuse("origin out of range");
    }
    if stride.months != 0 {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let length = i128::from(stride.days) * i128::from(MICROS_PER_DAY) + i128::from(stride.micros);
    if length <= 0 {
        return refuse("stride must be greater than zero");
    }
    let steps = (i128::from(at) - i128::from(origin)).div_euclid(length);
    let found = i64::try_from(i128::from(origin) + steps * length).ok().and_then(check_timestamp);
    found.ok_or_else(|| out_of_range("interval"))
}
