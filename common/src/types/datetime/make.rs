//! `make_date` and its like: dates and times from numbers.

use super::super::calendar::{
    MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, check_date, days_from_civil, days_in_month,
    join_timestamp, out_of_range,
};
use super::super::interval::Interval;
use crate::error::{SqlError, SqlResult, SqlState};

fn field_out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, what.to_owned())
}

/// `make_date`: a negative year is BC.
pub fn make_date(year: i32, month: i32, day: i32) -> SqlResult<i32> {
    let (y, m, d) = (i64::from(year), i64::from(month), i64::from(day));
    let astronomical = if y < 0 { y + 1 } else { y };
    let valid = y != 0 && (1..=12).contains(&m) && d >= 1 && d <= days_in_month(astronomical, m);
    if !valid {
        return Err(field_out_of_range(&format!("date field value out of range: {year}-{month:02}-{day:02}")));
    }
    check_date(days_from_civil(astronomical, m, d))
        .ok_or_else(|| field_out_of_range(&format!("date out of range: {year}-{month:02}-{day:02}")))
}

/// `make_time`.
pub fn make_time(hour: i32, minute: i32, second: f64) -> SqlResult<i64> {
    let micros = (second * MICROS_PER_SECOND as f64).round_ties_even();
    let in_range = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&second);
    let total = i64::from(hour) * MICROS_PER_HOUR + i64::from(minute) * MICROS_PER_MINUTE + micros as i64;
    if !in_range || total > MICROS_PER_DAY {
        let second = if second.fract() == 0.0 { format!("{second:02}") } else { format!("{second}") };
        return Err(field_out_of_range(&format!("time field value out of range: {hour}:{minute:02}:{second}")));
    }
    Ok(total)
}

/// `make_timestamp`; with a zone's help `make_timestamptz`, too.
pub fn make_timestamp(year: i32, month: i32, day: i32, hour: i32, minute: i32, second: f64) -> SqlResult<i64> {
    let days = make_date(year, month, day)?;
    let time = make_time(hour, minute, second)?;
    join_timestamp(i64::from(days), time).ok_or_else(|| {
        field_out_of_range(&format!(
            "timestamp out of range: {year}-{month:02}-{day:02} {hour}:{minute:02}:{second:02}"
        ))
    })
}

/// `make_interval`: years, months, weeks, days, hours, minutes, seconds.
pub fn make_interval(parts: [i32; 6], seconds: f64) -> SqlResult<Interval> {
    let [years, months, weeks, days, hours, minutes] = parts.map(i64::from);
    let interval_range = || out_of_range("interval");
    if !seconds.is_finite() {
        return Err(interval_range());
    }
    let fraction = (seconds * MICROS_PER_SECOND as f64).round_ties_even();
    if fraction.abs() >= 2_f64.powi(63) {
        return Err(interval_range());
    }
    Ok(Interval {
        months: i32::try_from(years * 12 + months).map_err(|_| interval_range())?,
        days: i32::try_from(weeks * 7 + days).map_err(|_| interval_range())?,
        micros: (hours * MICROS_PER_HOUR + minutes * MICROS_PER_MINUTE)
            .checked_add(fraction as i64)
            .ok_or_else(interval_range)?,
    })
}

/// `to_timestamp(seconds since 1970)`.
pub fn timestamptz_from_epoch(seconds: f64) -> SqlResult<i64> {
    if seconds.is_nan() {
        return Err(field_out_of_range("timestamp cannot be NaN"));
    }
    if seconds.is_infinite() {
        return Ok(if seconds > 0.0 { i64::MAX } else { i64::MIN });
    }
    let micros = (seconds * MICROS_PER_SECOND as f64).round_ties_even();
    let in_range = micros.abs() < 2_f64.powi(63);
    in_range
        .then_some(micros as i64)
        .and_then(super::super::calendar::check_timestamp)
        .ok_or_else(|| field_out_of_range(&format!("timestamp out of range: \"{seconds}\"")))
}
