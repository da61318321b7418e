//! extract, date_part, date_trunc and date_bin.

use super::datetime::{find_zone, timestamp, timestamptz};
use super::kernel::{invalid_parameter, kernel};
use super::text::lower;
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::SqlType;
use crate::types::calendar::{
    JULIAN_EPOCH, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, check_timestamp,
    civil_from_days, date_to_timestamp, days_from_civil, is_finite_date, is_finite_timestamp, join_timestamp,
    out_of_range, split_timestamp,
};
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("extract(text, date) -> numeric", |cx, args| extract(cx, args).map(Part::numeric)),
    Entry::new("extract(text, time) -> numeric", |cx, args| extract(cx, args).map(Part::numeric)),
    Entry::new("extract(text, timestamp) -> numeric", |cx, args| extract(cx, args).map(Part::numeric)),
    Entry::new("extract(text, timestamptz) -> numeric", |cx, args| extract(cx, args).map(Part::numeric)).stable(),
    Entry::new("extract(text, interval) -> numeric", |cx, args| extract(cx, args).map(Part::numeric)),
    Entry::new("date_part(text, date) -> float8", |cx, args| match args {
        // PostgreSQL computes it on the timestamp at midnight, so that times of day are allowed.
        &[field, DatumRef::Date(date)] => {
            extract(cx, &[field, DatumRef::Timestamp(date_to_timestamp(date)?)]).map(Part::float)
        }
        _ => Err(super::kernel::mismatch(args)),
    }),
    Entry::new("date_part(text, time) -> float8", |cx, args| extract(cx, args).map(Part::float)),
    Entry::new("date_part(text, timestamp) -> float8", |cx, args| extract(cx, args).map(Part::float)),
    Entry::new("date_part(text, timestamptz) -> float8", |cx, args| extract(cx, args).map(Part::float)).stable(),
    Entry::new("date_part(text, interval) -> float8", |cx, args| extract(cx, args).map(Part::float)),
    Entry::new(
        "date_trunc(text, timestamp) -> timestamp",
        kernel!(|unit: Text, t: Timestamp| { timestamp(truncate(unit, t, SqlType::Timestamp)) }),
    ),
    Entry::new(
        "date_trunc(text, timestamptz) -> timestamptz",
        kernel!(cx |unit: Text, t: Timestamptz| {
            let zone = &cx.env.time_zone;
            timestamptz(truncate(unit, zone.to_local(t), SqlType::Timestamptz).map(|local| zone.to_utc(local)))
        }),
    )
    .stable(),
    Entry::new(
        "date_trunc(text, timestamptz, text) -> timestamptz",
        kernel!(|unit: Text, t: Timestamptz, zone: Text| {
            let zone = find_zone(zone)?;
            timestamptz(truncate(unit, zone.to_local(t), SqlType::Timestamptz).map(|local| zone.to_utc(local)))
        }),
    ),
    Entry::new("date_trunc(text, interval) -> interval", kernel!(|unit: Text, i: Interval| truncate_interval(unit, i))),
    Entry::new(
        "date_bin(interval, timestamp, timestamp) -> timestamp",
        kernel!(|by: Interval, t: Timestamp, origin: Timestamp| { timestamp(bin(by, t, origin)) }),
    ),
    Entry::new(
        "date_bin(interval, timestamptz, timestamptz) -> timestamptz",
        kernel!(|by: Interval, t: Timestamptz, origin: Timestamptz| timestamptz(bin(by, t, origin))),
    ),
];

/// A field's value before it becomes numeric or float8.
enum Part {
    Null,
    Infinity {
        negative: bool,
    },
    /// `value` × 10^-`scale`.
    Decimal {
        value: i128,
        scale: u16,
    },
    Exact(Numeric),
}

impl Part {
    fn numeric(self) -> Datum {
        match self {
            Part::Null => Datum::Null,
            Part::Infinity { negative } => Datum::Numeric(Numeric::infinity(negative)),
            Part::Decimal { value, scale } => Datum::Numeric(Numeric::from_parts(value, scale)),
            Part::Exact(value) => Datum::Numeric(value),
        }
    }

    fn float(self) -> Datum {
        match self {
            Part::Null => Datum::Null,
            Part::Infinity { negative: true } => Datum::Float8(f64::NEG_INFINITY),
            Part::Infinity { negative: false } => Datum::Float8(f64::INFINITY),
            Part::Decimal { value, scale } => Datum::Float8(value as f64 / 10f64.powi(scale.into())),
            Part::Exact(value) => value.to_f64().map_or(Datum::Null, Datum::Float8),
        }
    }

    fn whole(value: i64) -> Part {
        Part::Decimal { value: value.into(), scale: 0 }
    }
}

/// The fields that extract knows, after their many spellings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
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
    Zone,
    ZoneHour,
    ZoneMinute,
}

impl Field {
    fn parse(unit: &str) -> Option<Field> {
        Some(match lower(unit).as_str() {
            "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecon" | "microsecond" | "microseconds" => {
                Field::Microseconds
            }
            "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" => Field::Milliseconds,
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
            "mil" | "mils" | "millennium" | "millennia" => Field::Millennium,
            "j" | "jd" | "julian" => Field::Julian,
            "isoyear" => Field::IsoYear,
            "dow" => Field::DayOfWeek,
            "isodow" => Field::IsoDayOfWeek,
            "doy" => Field::DayOfYear,
            "epoch" => Field::Epoch,
            "timezone" => Field::Zone,
            "timezone_h" | "timezone_hour" => Field::ZoneHour,
            "timezone_m" | "timezone_minute" => Field::ZoneMinute,
            _ => return None,
        })
    }
}

fn unknown_unit(unit: &str, ty: SqlType) -> SqlError {
    invalid_parameter(format!("unit \"{}\" not recognized for type {ty}", lower(unit)))
}

fn unsupported_unit(unit: &str, ty: SqlType) -> SqlError {
    let message = format!("unit \"{}\" not supported for type {ty}", lower(unit));
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

fn extract(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Part> {
    let &[DatumRef::Text(unit), value] = args else { return Err(super::kernel::mismatch(args)) };
    let ty = match value {
        DatumRef::Date(_) => SqlType::Date,
        DatumRef::Time(_) => SqlType::Time,
        DatumRef::Timestamp(_) => SqlType::Timestamp,
        DatumRef::Timestamptz(_) => SqlType::Timestamptz,
        _ => SqlType::Interval,
    };
    let field = Field::parse(unit).ok_or_else(|| unknown_unit(unit, ty))?;
    let found = match value {
        DatumRef::Date(date) => of_date(field, date),
        DatumRef::Time(time) => of_time(field, time, true),
        DatumRef::Timestamp(at) => of_timestamp(field, at, at, None)?,
        DatumRef::Timestamptz(at) => {
            let offset = if is_finite_timestamp(at) { cx.env.time_zone.offset_at(at) } else { 0 };
            of_timestamp(field, cx.env.time_zone.to_local(at), at, Some(offset))?
        }
        DatumRef::Interval(interval) => of_interval(field, interval),
        _ => return Err(super::kernel::mismatch(args)),
    };
    found.ok_or_else(|| unsupported_unit(unit, ty))
}

/// Fields that grow without end are infinite with the date, the others are NULL.
fn of_infinite(field: Field, negative: bool) -> Part {
    match field {
        Field::Year
        | Field::Decade
        | Field::Century
        | Field::Millennium
        | Field::Julian
        | Field::IsoYear
        | Field::Epoch => Part::Infinity { negative },
        _ => Part::Null,
    }
}

fn of_time(field: Field, time: i64, alone: bool) -> Option<Part> {
    let within_minute = time % MICROS_PER_MINUTE;
    Some(match field {
        Field::Microseconds => Part::whole(within_minute),
        Field::Milliseconds => Part::Decimal { value: within_minute.into(), scale: 3 },
        Field::Second => Part::Decimal { value: within_minute.into(), scale: 6 },
        Field::Minute => Part::whole(time / MICROS_PER_MINUTE % 60),
        Field::Hour => Part::whole(time / MICROS_PER_HOUR),
        Field::Epoch if alone => Part::Decimal { value: time.into(), scale: 6 },
        _ => return None,
    })
}

fn of_date(field: Field, date: i32) -> Option<Part> {
    let by_clock =
        matches!(field, Field::Microseconds | Field::Milliseconds | Field::Second | Field::Minute | Field::Hour);
    if by_clock || matches!(field, Field::Zone | Field::ZoneHour | Field::ZoneMinute) {
        return None;
    }
    if !is_finite_date(date) {
        return Some(of_infinite(field, date < 0));
    }
    Some(match field {
        Field::Epoch => Part::whole(i64::from(date) * 86_400),
        Field::Julian => Part::whole(i64::from(date) + JULIAN_EPOCH),
        _ => Part::whole(of_day(field, date.into())?),
    })
}

/// Years without a year 0: 1 BC is -1.
fn display_year(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

fn of_day(field: Field, day: i64) -> Option<i64> {
    let (year, month, of_month) = civil_from_days(day);
    let sunday_based = (day + 4).rem_euclid(7);
    Some(match field {
        Field::Day => of_month,
        Field::Month => month,
        Field::Quarter => (month - 1) / 3 + 1,
        Field::Year => display_year(year),
        Field::Decade => year.div_euclid(10),
        Field::Century if year > 0 => (year + 99) / 100,
        Field::Century => -((99 - (year - 1)) / 100),
        Field::Millennium if year > 0 => (year + 999) / 1000,
        Field::Millennium => -((999 - (year - 1)) / 1000),
        Field::Week => iso_week(day).1,
        Field::IsoYear => display_year(iso_week(day).0),
        Field::DayOfWeek => sunday_based,
        Field::IsoDayOfWeek => (sunday_based + 6) % 7 + 1,
        Field::DayOfYear => day - days_from_civil(year, 1, 1) + 1,
        _ => return None,
    })
}

/// The ISO 8601 year and week of a day.
pub(super) fn iso_week(day: i64) -> (i64, i64) {
    let thursday = day - (day + 3).rem_euclid(7) + 3;
    let (year, _, _) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// `local` is what the fields are read from, `utc` what epoch counts; `offset` in seconds for timestamptz.
fn of_timestamp(field: Field, local: i64, utc: i64, offset: Option<i32>) -> SqlResult<Option<Part>> {
    if offset.is_none() && matches!(field, Field::Zone | Field::ZoneHour | Field::ZoneMinute) {
        return Ok(None);
    }
    if !is_finite_timestamp(local) {
        return Ok(Some(of_infinite(field, local < 0)));
    }
    let (day, time) = split_timestamp(local);
    let offset = offset.map_or(0, i64::from);
    Ok(match field {
        Field::Epoch => Some(Part::Decimal { value: utc.into(), scale: 6 }),
        Field::Julian => {
            let fraction = Numeric::from_parts(time.into(), 0).div(&Numeric::from_parts(MICROS_PER_DAY.into(), 0))?;
            Some(Part::Exact(Numeric::from_parts((day + JULIAN_EPOCH).into(), 0).add(&fraction)?))
        }
        Field::Zone => Some(Part::whole(offset)),
        Field::ZoneHour => Some(Part::whole(offset / 3600)),
        Field::ZoneMinute => Some(Part::whole(offset % 3600 / 60)),
        _ => of_time(field, time, false).or_else(|| of_day(field, day).map(Part::whole)),
    })
}

fn of_interval(field: Field, i: Interval) -> Option<Part> {
    let (years, months) = (i64::from(i.months / 12), i64::from(i.months % 12));
    let within_minute = i.micros % MICROS_PER_MINUTE;
    Some(match field {
        Field::Microseconds => Part::whole(within_minute),
        Field::Milliseconds => Part::Decimal { value: within_minute.into(), scale: 3 },
        Field::Second => Part::Decimal { value: within_minute.into(), scale: 6 },
        Field::Minute => Part::whole(i.micros / MICROS_PER_MINUTE % 60),
        Field::Hour => Part::whole(i.micros / MICROS_PER_HOUR),
        Field::Day => Part::whole(i.days.into()),
        Field::Month => Part::whole(months),
        Field::Quarter => Part::whole(months / 3 + 1),
        Field::Year => Part::whole(years),
        Field::Decade => Part::whole(years / 10),
        Field::Century => Part::whole(years / 100),
        Field::Millennium => Part::whole(years / 1000),
        Field::Epoch => {
            // A year counts 365.25 days here, the months beyond it 30 days each.
            let quarter_days = i128::from(years) * 1461 + i128::from(months) * 120 + i128::from(i.days) * 4;
            Part::Decimal { value: quarter_days * i128::from(MICROS_PER_DAY / 4) + i128::from(i.micros), scale: 6 }
        }
        _ => return None,
    })
}

/// The first day of the span of years that `year` lies in.
fn first_year(field: Field, year: i64) -> i64 {
    match field {
        Field::Decade => year.div_euclid(10) * 10,
        Field::Century => (year - 1).div_euclid(100) * 100 + 1,
        Field::Millennium => (year - 1).div_euclid(1000) * 1000 + 1,
        _ => year,
    }
}

fn truncate(unit: &str, at: i64, ty: SqlType) -> SqlResult<i64> {
    let field = Field::parse(unit).ok_or_else(|| unknown_unit(unit, ty))?;
    let (day, time) = if is_finite_timestamp(at) { split_timestamp(at) } else { (0, 0) };
    let (year, month, _) = civil_from_days(day);
    let to = |step: i64| (day, time - time % step);
    let (day, time) = match field {
        Field::Microseconds => (day, time),
        Field::Milliseconds => to(1_000),
        Field::Second => to(MICROS_PER_SECOND),
        Field::Minute => to(MICROS_PER_MINUTE),
        Field::Hour => to(MICROS_PER_HOUR),
        Field::Day => (day, 0),
        Field::Week => (day - (day + 3).rem_euclid(7), 0),
        Field::Month => (days_from_civil(year, month, 1), 0),
        Field::Quarter => (days_from_civil(year, (month - 1) / 3 * 3 + 1, 1), 0),
        Field::Year | Field::Decade | Field::Century | Field::Millennium => {
            (days_from_civil(first_year(field, year), 1, 1), 0)
        }
        Field::DayOfWeek | Field::IsoDayOfWeek | Field::DayOfYear | Field::IsoYear | Field::Julian | Field::Epoch => {
            return Err(unknown_unit(unit, ty));
        }
        _ => return Err(unsupported_unit(unit, ty)),
    };
    match is_finite_timestamp(at) {
        true => join_timestamp(day, time).ok_or_else(|| out_of_range("timestamp")),
        false => Ok(at),
    }
}

fn truncate_interval(unit: &str, i: Interval) -> SqlResult<Datum> {
    let field = Field::parse(unit).ok_or_else(|| unknown_unit(unit, SqlType::Interval))?;
    let months = |n: i32| Interval { months: i.months - i.months % n, days: 0, micros: 0 };
    let micros = |n: i64| Interval { micros: i.micros - i.micros % n, ..i };
    Ok(Datum::Interval(match field {
        Field::Microseconds => i,
        Field::Milliseconds => micros(1_000),
        Field::Second => micros(MICROS_PER_SECOND),
        Field::Minute => micros(MICROS_PER_MINUTE),
        Field::Hour => micros(MICROS_PER_HOUR),
        Field::Day => Interval { micros: 0, ..i },
        Field::Month => months(1),
        Field::Quarter => months(3),
        Field::Year => months(12),
        Field::Decade => months(120),
        Field::Century => months(1_200),
        Field::Millennium => months(12_000),
        Field::Week => {
            return Err(unsupported_unit(unit, SqlType::Interval).with_detail("Months usually have fractional weeks."));
        }
        _ => return Err(unsupported_unit(unit, SqlType::Interval)),
    }))
}

fn bin(by: Interval, at: i64, origin: i64) -> SqlResult<i64> {
    let refuse = |message: &str| Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message));
    if !is_finite_timestamp(at) {
        return Ok(at);
    }
    if !is_finite_timestamp(origin) {
        return refuse("origin out of range");
    }
    if by.months != 0 {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let stride = i128::from(by.days) * i128::from(MICROS_PER_DAY) + i128::from(by.micros);
    if stride <= 0 {
        return refuse("stride must be greater than zero");
    }
    let steps = (i128::from(at) - i128::from(origin)).div_euclid(stride);
    let found = i64::try_from(i128::from(origin) + steps * stride).ok().and_then(check_timestamp);
    found.ok_or_else(|| out_of_range("interval"))
}
