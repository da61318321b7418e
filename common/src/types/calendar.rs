//! The proleptic Gregorian calendar in days and microseconds since 1970-01-01, and the ranges of the date types.

use crate::error::{SqlError, SqlResult, SqlState};

pub const MICROS_PER_SECOND: i64 = 1_000_000;
pub const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
pub const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
pub const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;
/// 2000-01-01, from which PostgreSQL's binary formats count, in days since 1970-01-01.
pub const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// The Julian day of 1970-01-01; day 0 is PostgreSQL's first date.
pub const JULIAN_EPOCH: i64 = 2_440_588;
/// The first date, 4714-11-24 BC.
pub const MIN_DATE: i32 = -2_440_588;
/// The last date, 5874897-12-31.
pub const MAX_DATE: i32 = 2_145_042_905;
/// The first timestamp, 4714-11-24 00:00 BC.
pub const MIN_TIMESTAMP: i64 = -2_440_588 * MICROS_PER_DAY;
/// The last timestamp: what 64 bits hold since 1970, in January 294247.
pub const MAX_TIMESTAMP: i64 = i64::MAX - 1;

/// Days since 1970-01-01 of a date; year 0 is 1 BC. The month may be any number: it carries into the year.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    // Years begin in March, so that the leap day is the last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year (0 is 1 BC), month and day.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

pub fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap(year)),
        _ => 31,
    }
}

/// Days and microseconds within the day.
#[inline]
pub fn split_timestamp(micros: i64) -> (i64, i64) {
    (micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY))
}

/// A date in range; infinities pass.
pub fn check_date(days: i64) -> Option<i32> {
    (i64::from(MIN_DATE)..=i64::from(MAX_DATE)).contains(&days).then_some(days as i32)
}

/// A finite timestamp in range, from days and microseconds.
pub fn join_timestamp(days: i64, micros: i64) -> Option<i64> {
    let total = i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(micros);
    i64::try_from(total).ok().and_then(check_timestamp)
}

pub fn check_timestamp(micros: i64) -> Option<i64> {
    (MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(&micros).then_some(micros)
}

pub fn is_finite_date(days: i32) -> bool {
    days != i32::MIN && days != i32::MAX
}

pub fn is_finite_timestamp(micros: i64) -> bool {
    micros != i64::MIN && micros != i64::MAX
}

/// `22008`: `timestamp out of range` and its like.
#[cold]
pub fn out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} out of range"))
}

/// A date as a timestamp at midnight.
pub fn date_to_timestamp(days: i32) -> SqlResult<i64> {
    match days {
        i32::MIN => Ok(i64::MIN),
        i32::MAX => Ok(i64::MAX),
        _ => i64::from(days)
            .checked_mul(MICROS_PER_DAY)
            .and_then(check_timestamp)
            .ok_or_else(|| SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range for timestamp")),
    }
}

/// A timestamp's date.
pub fn timestamp_to_date(micros: i64) -> i32 {
    match micros {
        i64::MIN => i32::MIN,
        i64::MAX => i32::MAX,
        _ => split_timestamp(micros).0 as i32,
    }
}

/// Rounds microseconds to `precision` digits of a second, halves away from zero, as a modifier asks; -1 leaves them.
pub fn round_to_precision(micros: i64, precision: i32) -> i64 {
    if !(0..6).contains(&precision) || !is_finite_timestamp(micros) {
        return micros;
    }
    let unit = 10_i64.pow(6 - precision as u32);
    let half = if micros < 0 { -(unit / 2) } else { unit / 2 };
    micros.saturating_add(half) / unit * unit
}
