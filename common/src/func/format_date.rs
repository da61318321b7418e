//! `to_char` of timestamps and intervals.

use super::Entry;
use super::kernel::{kernel, text};
use super::template::{Case, DAYS, Field, MONTHS, Piece, ROMAN_MONTHS, in_case, ordinal, parse};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::calendar::{
    JULIAN_EPOCH, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, civil_from_days, days_from_civil,
    is_finite_timestamp, split_timestamp,
};
use crate::types::datetime::extract::iso_week;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new(
        "to_char(timestamp, text) -> text",
        kernel!(|at: Timestamp, template: Text| {
            match is_finite_timestamp(at) && !template.is_empty() {
                true => text(print(template, &Moment::at(at))?),
                false => Ok(Datum::Null),
            }
        }),
    )
    .stable(),
    Entry::new(
        "to_char(timestamptz, text) -> text",
        kernel!(cx |at: Timestamptz, template: Text| {
            if !is_finite_timestamp(at) || template.is_empty() {
                return Ok(Datum::Null);
            }
            let zone = &cx.env.time_zone;
            let mut moment = Moment::at(zone.to_local(at));
            moment.zone = Some((zone.abbreviation(at), zone.offset_at(at)));
            text(print(template, &moment)?)
        }),
    )
    .stable(),
    Entry::new(
        "to_char(interval, text) -> text",
        kernel!(|i: Interval, template: Text| {
            if template.is_empty() {
                return Ok(Datum::Null);
            }
            text(print(
                template,
                &Moment {
                    interval: true,
                    year: (i.months / 12).into(),
                    month: (i.months % 12).into(),
                    day: i.days.into(),
                    days: i64::from(i.months) * 30 + i64::from(i.days),
                    micros: i.micros,
                    zone: None,
                },
            )?)
        }),
    )
    .stable(),
];

/// The parts that a template can show.
struct Moment {
    interval: bool,
    /// Astronomical: 0 is 1 BC.
    year: i64,
    month: i64,
    day: i64,
    days: i64,
    micros: i64,
    zone: Option<(String, i32)>,
}

impl Moment {
    fn at(local: i64) -> Moment {
        let (days, micros) = split_timestamp(local);
        let (year, month, day) = civil_from_days(days);
        Moment { interval: false, year, month, day, days, micros, zone: None }
    }

    fn hour(&self) -> i64 {
        self.micros / MICROS_PER_HOUR
    }

    fn shown_year(&self, year: i64) -> i64 {
        if self.interval || year > 0 { year } else { 1 - year }
    }
}

fn print(template: &str, moment: &Moment) -> SqlResult<String> {
    let mut out = String::new();
    for piece in parse(template) {
        match piece {
            Piece::Literal(c) | Piece::Separator(c) => out.push(c),
            Piece::Field { field, case, fill, ordinal: suffix, .. } => {
                let shown = match worded(field, case, fill, moment)? {
                    Some(word) => word,
                    None => {
                        let (value, width) = number(field, moment);
                        match (fill, value < 0) {
                            (true, _) => value.to_string(),
                            (false, false) => format!("{value:0width$}"),
                            (false, true) => format!("-{:0width$}", -value),
                        }
                    }
                };
                let suffix = suffix.map_or("", |case| ordinal(&shown, case));
                out.push_str(&shown);
                out.push_str(suffix);
            }
        }
    }
    Ok(out)
}

/// Fields that are not a plain number.
fn worded(field: Field, case: Case, fill: bool, moment: &Moment) -> SqlResult<Option<String>> {
    let padded = |word: &str, width: usize| if fill { word.to_owned() } else { format!("{word:<width$}") };
    let dotted =
        |word: &str, dots: bool| if dots { word.chars().flat_map(|c| [c, '.']).collect() } else { word.to_owned() };
    if moment.interval
        && matches!(
            field,
            Field::DayName | Field::DayAbbreviation | Field::Era { .. } | Field::DayOfWeek | Field::IsoDayOfWeek
        )
    {
        return Err(SqlError::new(
            SqlState::INVALID_DATETIME_FORMAT,
            "invalid format specification for an interval value",
        )
        .with_hint("Intervals are not tied to specific calendar dates."));
    }
    let day_name = DAYS.get((moment.days + 4).rem_euclid(7) as usize).copied().unwrap_or_default();
    let month_name = MONTHS.get((moment.month - 1) as usize).copied().unwrap_or_default();
    let three = |name: &str| name.chars().take(3).collect::<String>();
    let lower_or_upper = |word: String| if case == Case::Lower { word.to_lowercase() } else { word };
    Ok(Some(match field {
        Field::Era { dots } => lower_or_upper(dotted(if moment.year > 0 { "AD" } else { "BC" }, dots)),
        Field::Meridiem { dots } => {
            let afternoon = moment.hour().rem_euclid(24) >= 12;
            lower_or_upper(dotted(if afternoon { "PM" } else { "AM" }, dots))
        }
        Field::DayName => padded(&in_case(day_name, case), 9),
        Field::DayAbbreviation => in_case(&three(day_name), case),
        Field::MonthName if month_name.is_empty() => String::new(),
        Field::MonthName => padded(&in_case(month_name, case), 9),
        Field::MonthAbbreviation => in_case(&three(month_name), case),
        Field::MonthRoman => {
            let month = if moment.interval { moment.month.rem_euclid(12) } else { moment.month };
            let roman = ROMAN_MONTHS.get((month - 1).rem_euclid(12) as usize).copied().unwrap_or_default();
            padded(&lower_or_upper(roman.to_owned()), 4)
        }
        Field::YearWithComma => {
            let year = moment.shown_year(moment.year);
            format!("{},{:03}", year / 1000, year % 1000)
        }
        Field::Zone => lower_or_upper(moment.zone.as_ref().map_or(String::new(), |(name, _)| name.clone())),
        Field::ZoneHour | Field::ZoneMinute | Field::Offset => {
            let offset = moment.zone.as_ref().map_or(0, |(_, offset)| *offset);
            let (sign, size) = (if offset < 0 { '-' } else { '+' }, offset.abs());
            match field {
                Field::ZoneHour => format!("{sign}{:02}", size / 3600),
                Field::ZoneMinute => format!("{:02}", size / 60 % 60),
                _ if size / 60 % 60 == 0 => format!("{sign}{:02}", size / 3600),
                _ => format!("{sign}{:02}:{:02}", size / 3600, size / 60 % 60),
            }
        }
        _ => return Ok(None),
    }))
}

/// A field's number and the digits to which it is filled with zeros.
fn number(field: Field, moment: &Moment) -> (i64, usize) {
    let fraction = moment.micros % MICROS_PER_SECOND;
    let day_of_year = moment.days - days_from_civil(moment.year, 1, 1) + 1;
    let year_digits = |year: i64, digits: u8| match digits {
        4 => (moment.shown_year(year), 4),
        digits => (moment.shown_year(year) % 10_i64.pow(digits.into()), digits.into()),
    };
    match field {
        Field::Century => {
            let year = moment.year;
            match () {
                () if moment.interval => (year / 100, 2),
                () if year > 0 => ((year - 1) / 100 + 1, 2),
                () => ((year - 1) / 100 - 1, 2),
            }
        }
        Field::DayOfYear if moment.interval => (moment.days, 3),
        Field::DayOfYear => (day_of_year, 3),
        Field::IsoDayOfYear => {
            let (year, week) = iso_week(moment.days);
            let _ = year;
            ((week - 1) * 7 + (moment.days + 3).rem_euclid(7) + 1, 3)
        }
        Field::DayOfMonth => (moment.day, 2),
        Field::DayOfWeek => ((moment.days + 4).rem_euclid(7) + 1, 1),
        Field::IsoDayOfWeek => ((moment.days + 3).rem_euclid(7) + 1, 1),
        Field::Fraction(digits) => (fraction / 10_i64.pow(6 - u32::from(digits)), digits.into()),
        Field::Hour24 => (moment.hour(), 2),
        Field::Hour12 => (if moment.hour() % 12 == 0 { 12 } else { moment.hour() % 12 }, 2),
        Field::Minute => (moment.micros / MICROS_PER_MINUTE % 60, 2),
        Field::Second => (moment.micros / MICROS_PER_SECOND % 60, 2),
        Field::SecondOfDay => (moment.micros / MICROS_PER_SECOND, 1),
        Field::Millisecond => (fraction / 1000, 3),
        Field::Microsecond => (fraction, 6),
        Field::Month => (moment.month, 2),
        Field::Quarter => ((moment.month - 1) / 3 + 1, 1),
        Field::Julian => (moment.days + JULIAN_EPOCH, 1),
        Field::WeekOfYear => ((day_of_year - 1) / 7 + 1, 2),
        Field::WeekOfMonth => ((moment.day - 1) / 7 + 1, 1),
        Field::IsoWeek => (iso_week(moment.days).1, 2),
        Field::Year(digits) => year_digits(moment.year, digits),
        Field::IsoYear(digits) => year_digits(iso_week(moment.days).0, digits),
        Field::Era { .. }
        | Field::Meridiem { .. }
        | Field::DayName
        | Field::DayAbbreviation
        | Field::MonthName
        | Field::MonthAbbreviation
        | Field::MonthRoman
        | Field::YearWithComma
        | Field::Zone
        | Field::ZoneHour
        | Field::ZoneMinute
        | Field::Offset => (0, 1),
    }
}
