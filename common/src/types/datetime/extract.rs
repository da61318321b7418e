//! `extract`, `date_trunc` and the units that they name.

use super::super::SqlType;
use super::super::calendar::{
    JULIAN_EPOCH, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, check_timestamp,
    civil_from_days, days_from_civil, is_finite_date, is_finite_timestamp, out_of_range, split_timestamp,
};
use super::super::interval::Interval;
use super::super::numeric::Numeric;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zone::Zone;

/// What `extract` and `date_trunc` can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Julian,
    IsoYear,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Field {
    pub fn parse(name: &str) -> Option<Field> {
        Some(match name.to_ascii_lowercase().as_str() {
            "us" | "usec" | "usecs" | "useconds" | "microsecond" | "microseconds" | "microsecon" => Field::Microseconds,
            "ms" | "msec" | "msecs" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => Field::Milliseconds,
            "s" | "sec" | "secs" | "second" | "seconds" => Field::Second,
            "m" | "min" | "mins" | "minute" | "minutes" => Field::Minute,
            "h" | "hr" | "hrs" | "hour" | "hours" => Field::Hour,
            "d" | "day" | "days" => Field::Day,
            "w" | "week" | "weeks" => Field::Week,
            "mon" | "mons" | "month" | "months" => Field::Month,
            "qtr" | "quarter" => Field::Quarter,
            "y" | "yr" | "yrs" | "year" | "years" => Field::Year,
            "dec" | "decs" | "decade" | "decades" => Field::Decade,
            "c" | "cent" | "century" | "centuries" => Field::Century,
            "mil" | "mils" | "millennia" | "millennium" => Field::Millennium,
            "j" | "jd" | "julian" => Field::Julian,
            "isoyear" => Field::IsoYear,
            "dow" => Field::DayOfWeek,
            "isodow" => Field::IsoDayOfWeek,
            "doy" => Field::DayOfYear,
            "epoch" => Field::Epoch,
            "timezone" => Field::Timezone,
            "timezone_h" | "timezone_hour" => Field::TimezoneHour,
            "timezone_m" | "timezone_minute" => Field::TimezoneMinute,
            _ => return None,
        })
    }

    /// Whether it grows with time, so that infinities have it.
    fn grows(self) -> bool {
        matches!(
            self,
            Field::Year
                | Field::Decade
                | Field::Century
                | Field::Millennium
                | Field::Julian
                | Field::IsoYear
                | Field::Epoch
        )
    }
}

#[cold]
fn unsupported(unit: &str, ty: SqlType) -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unit \"{}\" not supported for type {ty}", unit.to_ascii_lowercase()),
    )
}

#[cold]
fn unrecognized(unit: &str, ty: SqlType) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unit \"{}\" not recognized for type {ty}", unit.to_ascii_lowercase()),
    )
}

fn field(unit: &str, ty: SqlType) -> SqlResult<Field> {
    Field::parse(unit).ok_or_else(|| unrecognized(unit, ty))
}

/// A unit to cut at; those that only `extract` knows are not recognized.
fn cut_unit(unit: &str, ty: SqlType) -> SqlResult<Field> {
    let what = field(unit, ty)?;
    let only_extract = matches!(
        what,
        Field::Julian | Field::IsoYear | Field::DayOfWeek | Field::IsoDayOfWeek | Field::DayOfYear | Field::Epoch
    );
    if only_extract { Err(unrecognized(unit, ty)) } else { Ok(what) }
}

fn integer(value: i64) -> Numeric {
    Numeric::from(value)
}

/// ISO 8601's year and week of a date.
pub(crate) fn iso_week(days: i64) -> (i64, i64) {
    // The week belongs to the year of its Thursday.
    let thursday = days - (days + 3).rem_euclid(7) + 3;
    let (year, ..) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// Years before 1 AD are counted without a year 0.
fn shown_year(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

fn century_like(year: i64, length: i64) -> i64 {
    if year > 0 { (year + length - 1) / length } else { -((length - 1 - (year - 1)) / length) }
}

/// Fields of a date, as whole numbers.
fn date_field(field: Field, days: i64) -> Option<i64> {
    let (year, month, day) = civil_from_days(days);
    Some(match field {
        Field::Day => day,
        Field::Week => iso_week(days).1,
        Field::Month => month,
        Field::Quarter => (month - 1) / 3 + 1,
        Field::Year => shown_year(year),
        Field::Decade => {
            if year >= 0 {
                year / 10
            } else {
                -((8 - (year - 1)) / 10)
            }
        }
        Field::Century => century_like(year, 100),
        Field::Millennium => century_like(year, 1000),
        Field::IsoYear => shown_year(iso_week(days).0),
        Field::DayOfWeek => (days + 4).rem_euclid(7),
        Field::IsoDayOfWeek => (days + 3).rem_euclid(7) + 1,
        Field::DayOfYear => days - days_from_civil(year, 1, 1) + 1,
        Field::Microseconds
        | Field::Milliseconds
        | Field::Second
        | Field::Minute
        | Field::Hour
        | Field::Julian
        | Field::Epoch
        | Field::Timezone
        | Field::TimezoneHour
        | Field::TimezoneMinute => return None,
    })
}

/// Fields of a time of day or of an interval's time.
fn time_field(field: Field, micros: i64) -> Option<Numeric> {
    let in_minute = i128::from(micros % MICROS_PER_MINUTE);
    Some(match field {
        Field::Microseconds => Numeric::from_parts(in_minute, 0),
        Field::Milliseconds => Numeric::from_parts(in_minute, 3),
        Field::Second => Numeric::from_parts(in_minute, 6),
        Field::Minute => integer(micros / MICROS_PER_MINUTE % 60),
        Field::Hour => integer(micros / MICROS_PER_HOUR),
        _ => return None,
    })
}

/// The value of an infinite date or timestamp: `None` is NULL.
fn infinite(field: Field, negative: bool) -> Option<Numeric> {
    field.grows().then(|| Numeric::infinity(negative))
}

/// `extract(unit from date)`; `None` is NULL.
pub fn extract_date(unit: &str, date: i32) -> SqlResult<Option<Numeric>> {
    let what = field(unit, SqlType::Date)?;
    let days = i64::from(date);
    if !is_finite_date(date) {
        let supported = what.grows() || date_field(what, 0).is_some();
        return if supported { Ok(infinite(what, date < 0)) } else { Err(unsupported(unit, SqlType::Date)) };
    }
    let value = match what {
        Field::Julian => days + JULIAN_EPOCH,
        Field::Epoch => days * 86_400,
        other => date_field(other, days).ok_or_else(|| unsupported(unit, SqlType::Date))?,
    };
    Ok(Some(integer(value)))
}

/// `extract(unit from time)`.
pub fn extract_time(unit: &str, time: i64) -> SqlResult<Numeric> {
    let what = field(unit, SqlType::Time)?;
    match what {
        Field::Epoch => Ok(Numeric::from_parts(i128::from(time), 6)),
        other => time_field(other, time).ok_or_else(|| unsupported(unit, SqlType::Time)),
    }
}

/// `extract(unit from timestamp)`; `None` is NULL.
pub fn extract_timestamp(unit: &str, timestamp: i64) -> SqlResult<Option<Numeric>> {
    extract_local(unit, timestamp, timestamp, SqlType::Timestamp)
}

/// `extract(unit from timestamptz)`; `None` is NULL.
pub fn extract_timestamptz(unit: &str, timestamp: i64, zone: &Zone) -> SqlResult<Option<Numeric>> {
    let what = field(unit, SqlType::Timestamptz)?;
    let timezone = matches!(what, Field::Timezone | Field::TimezoneHour | Field::TimezoneMinute);
    if timezone && is_finite_timestamp(timestamp) {
        let offset = i64::from(zone.offset_at(timestamp));
        return Ok(Some(integer(match what {
            Field::TimezoneHour => offset / 3600,
            Field::TimezoneMinute => offset / 60 % 60,
            _ => offset,
        })));
    }
    if timezone {
        return Ok(None);
    }
    extract_local(unit, zone.to_local(timestamp), timestamp, SqlType::Timestamptz)
}

fn extract_local(unit: &str, local: i64, instant: i64, ty: SqlType) -> SqlResult<Option<Numeric>> {
    let what = field(unit, ty)?;
    if !is_finite_timestamp(local) {
        return Ok(infinite(what, local < 0));
    }
    let (days, time) = split_timestamp(local);
    let value = match what {
        Field::Epoch => Numeric::from_parts(i128::from(instant), 6),
        Field::Julian => {
            let part = integer(time).div(&integer(MICROS_PER_DAY))?;
            integer(days + JULIAN_EPOCH).add(&part)?
        }
        other => match date_field(other, days) {
            Some(value) => integer(value),
            None => time_field(other, time).ok_or_else(|| unsupported(unit, ty))?,
        },
    };
    Ok(Some(value))
}

/// `extract(unit from interval)`.
pub fn extract_interval(unit: &str, interval: Interval) -> SqlResult<Numeric> {
    let what = field(unit, SqlType::Interval)?;
    let (years, months) = (i64::from(interval.months / 12), i64::from(interval.months % 12));
    let value = match what {
        Field::Day => i64::from(interval.days),
        Field::Month => months,
        Field::Quarter => months / 3 + 1,
        Field::Year => years,
        Field::Decade => years / 10,
        Field::Century => years / 100,
        Field::Millennium => years / 1000,
        Field::Epoch => {
            // A year has 365.25 days, a month that is no whole year 30: counted in quarters of days.
            let quarter_days = i128::from(years * 1461 + months * 120 + i64::from(interval.days) * 4);
            let micros = quarter_days * i128::from(MICROS_PER_DAY / 4) + i128::from(interval.micros);
            return Ok(Numeric::from_parts(micros, 6));
        }
        other => return time_field(other, interval.micros).ok_or_else(|| unsupported(unit, SqlType::Interval)),
    };
    Ok(integer(value))
}

/// The length of a unit within a day.
fn unit_micros(field: Field) -> Option<i64> {
    Some(match field {
        Field::Microseconds => 1,
        Field::Milliseconds => 1000,
        Field::Second => MICROS_PER_SECOND,
        Field::Minute => MICROS_PER_MINUTE,
        Field::Hour => MICROS_PER_HOUR,
        _ => return None,
    })
}

/// The first day of the unit that a date lies in.
fn truncate_days(field: Field, days: i64) -> Option<i64> {
    let (year, month, _) = civil_from_days(days);
    let first_year = |year: i64| days_from_civil(year, 1, 1);
    Some(match field {
        Field::Day => days,
        Field::Week => days - (days + 3).rem_euclid(7),
        Field::Month => days_from_civil(year, month, 1),
        Field::Quarter => days_from_civil(year, (month - 1) / 3 * 3 + 1, 1),
        Field::Year => first_year(year),
        Field::Decade => first_year(if year > 0 { year / 10 * 10 } else { -((8 - (year - 1)) / 10) * 10 }),
        Field::Century => first_year(first_of(year, 100)),
        Field::Millennium => first_year(first_of(year, 1000)),
        _ => return None,
    })
}

/// The first year of a century or millennium.
fn first_of(year: i64, length: i64) -> i64 {
    if year > 0 {
        (year + length - 1) / length * length - (length - 1)
    } else {
        -((length - 1 - (year - 1)) / length) * length + 1
    }
}

/// `date_trunc(unit, timestamp)`.
pub fn truncate_timestamp(unit: &str, timestamp: i64) -> SqlResult<i64> {
    truncate_local(unit, timestamp, SqlType::Timestamp)
}

fn truncate_local(unit: &str, local: i64, ty: SqlType) -> SqlResult<i64> {
    let what = cut_unit(unit, ty)?;
    if !is_finite_timestamp(local) {
        return Ok(local);
    }
    if let Some(length) = unit_micros(what) {
        return Ok(local - local.rem_euclid(length));
    }
    let days = truncate_days(what, split_timestamp(local).0).ok_or_else(|| unsupported(unit, ty))?;
    days.checked_mul(MICROS_PER_DAY).and_then(check_timestamp).ok_or_else(|| out_of_range("timestamp"))
}

/// `date_trunc(unit, timestamptz)`, by the clocks of a zone.
pub fn truncate_timestamptz(unit: &str, timestamp: i64, zone: &Zone) -> SqlResult<i64> {
    let local = truncate_local(unit, zone.to_local(timestamp), SqlType::Timestamptz)?;
    if !is_finite_timestamp(timestamp) {
        return Ok(timestamp);
    }
    // Within a day the offset stays that of the instant, so that a repeated hour stays the one it was.
    match Field::parse(unit).and_then(unit_micros) {
        Some(_) => Ok(local - i64::from(zone.offset_at(timestamp)) * MICROS_PER_SECOND),
        None => check_timestamp(zone.to_utc(local)).ok_or_else(|| out_of_range("timestamp")),
    }
}

/// `date_trunc(unit, interval)`.
pub fn truncate_interval(unit: &str, interval: Interval) -> SqlResult<Interval> {
    let what = cut_unit(unit, SqlType::Interval)?;
    if let Some(length) = unit_micros(what) {
        return Ok(Interval { micros: interval.micros / length * length, ..interval });
    }
    let months = match what {
        Field::Day => return Ok(Interval { micros: 0, ..interval }),
        Field::Month => 1,
        Field::Quarter => 3,
        Field::Year => 12,
        Field::Decade => 120,
        Field::Century => 1_200,
        Field::Millennium => 12_000,
        Field::Week => {
            return Err(unsupported(unit, SqlType::Interval).with_detail("Months usually have fractional weeks."));
        }
        _ => return Err(unsupported(unit, SqlType::Interval)),
    };
    Ok(Interval { months: interval.months / months * months, days: 0, micros: 0 })
}
