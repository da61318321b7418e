//! `to_date` and `to_timestamp`: text read by a template.

use super::Entry;
use super::kernel::kernel;
use super::template::{DAYS, Field, MONTHS, Piece, ROMAN_MONTHS, parse};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::calendar::{
    JULIAN_EPOCH, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, check_date, days_from_civil, days_in_month,
    join_timestamp, out_of_range,
};

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("to_date(text, text) -> date", kernel!(|value: Text, template: Text| {
        let read = read(value, template)?;
        check_date(read.days(value)?).map(Datum::Date).ok_or_else(|| {
            SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date out of range: \"{value}\""))
        })
    }))
    .stable(),
    Entry::new("to_timestamp(text, text) -> timestamptz", kernel!(cx |value: Text, template: Text| {
        let read = read(value, template)?;
        let local = join_timestamp(read.days(value)?, read.micros(value)?).ok_or_else(|| out_of_range("timestamp"))?;
        Ok(Datum::Timestamptz(match read.zone() {
            Some(offset) => local - offset * MICROS_PER_SECOND,
            None => cx.env.time_zone.to_utc(local),
        }))
    }))
    .stable(),
];

/// What was found in the text.
#[derive(Default)]
struct Read {
    year: Option<i64>,
    year_digits: u8,
    century: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    week_of_month: Option<i64>,
    week_of_year: Option<i64>,
    hour: Option<i64>,
    twelve_hours: bool,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    second_of_day: Option<i64>,
    micros: i64,
    before_christ: bool,
    zone_negative: bool,
    zone_hour: Option<i64>,
    zone_minute: i64,
}

fn invalid(value: &str, name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_DATETIME_FORMAT, format!("invalid value \"{value}\" for \"{name}\""))
}

fn read(value: &str, template: &str) -> SqlResult<Read> {
    let pieces = parse(template);
    let mut found = Read::default();
    let mut rest = value;
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Literal(_) => {
                let mut chars = rest.chars();
                chars.next();
                rest = chars.as_str();
            }
            Piece::Separator(_) => {
                let mut chars = rest.chars();
                let sign_of_zone = rest.starts_with(['+', '-'])
                    && matches!(
                        pieces.get(index + 1),
                        Some(Piece::Field { field: Field::ZoneHour | Field::Offset, .. })
                    );
                if chars.next().is_some_and(|c| !c.is_alphanumeric()) && !sign_of_zone {
                    rest = chars.as_str();
                }
            }
            Piece::Field { field, fill, ordinal, name, .. } => {
                rest = rest.trim_start();
                if rest.is_empty() {
                    break;
                }
                let open_end = *fill
                    || match pieces.get(index + 1) {
                        None | Some(Piece::Separator(_)) => true,
                        Some(Piece::Literal(c)) => !c.is_ascii_digit(),
                        Some(Piece::Field { field, .. }) => is_word(*field),
                    };
                rest = found.field(*field, rest, open_end, name)?;
                if ordinal.is_some() {
                    rest = rest.get(2..).unwrap_or_default();
                }
            }
        }
    }
    Ok(found)
}

fn is_word(field: Field) -> bool {
    matches!(
        field,
        Field::Era { .. }
            | Field::Meridiem { .. }
            | Field::DayName
            | Field::DayAbbreviation
            | Field::MonthName
            | Field::MonthAbbreviation
            | Field::MonthRoman
            | Field::Zone
    )
}

/// Most digits of a field when another number follows at once.
fn digits_of(field: Field) -> usize {
    match field {
        Field::Year(digits) | Field::IsoYear(digits) | Field::Fraction(digits) => digits.into(),
        Field::DayOfYear | Field::IsoDayOfYear | Field::Millisecond => 3,
        Field::Microsecond | Field::Julian => {
            if field == Field::Julian {
                9
            } else {
                6
            }
        }
        Field::SecondOfDay => 5,
        Field::DayOfWeek | Field::IsoDayOfWeek | Field::Quarter | Field::WeekOfMonth => 1,
        _ => 2,
    }
}

/// The name at the front of `input`, by its position in `names`; whole names first.
fn name_in(input: &str, names: &[&str], short: bool) -> Option<(usize, usize)> {
    let starts = |name: &str| input.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name));
    names.iter().enumerate().find_map(|(index, name)| {
        let length = if short { 3.min(name.len()) } else { name.len() };
        starts(&name[..length]).then_some((index, length))
    })
}

impl Read {
    /// Takes one field from the front of `input` and gives what follows it.
    fn field<'a>(&mut self, field: Field, input: &'a str, open_end: bool, name: &str) -> SqlResult<&'a str> {
        if is_word(field) {
            return self.word(field, input, name);
        }
        if let Field::ZoneHour | Field::Offset = field {
            let rest = input.strip_prefix(['+', '-']);
            self.zone_negative = input.starts_with('-');
            let (hours, rest) = integer(rest.unwrap_or(input), 2, false, name)?;
            self.zone_hour = Some(hours);
            if field == Field::Offset
                && let Some(minutes) = rest.strip_prefix(':')
            {
                let (minutes, rest) = integer(minutes, 2, false, name)?;
                self.zone_minute = minutes;
                return Ok(rest);
            }
            return Ok(rest);
        }
        if let Field::YearWithComma = field {
            let (thousands, rest) = integer(input, 9, true, name)?;
            let (ones, rest) = integer(rest.strip_prefix(',').unwrap_or(rest), 3, false, name)?;
            self.year = Some(thousands * 1000 + ones);
            self.year_digits = 4;
            return Ok(rest);
        }
        let (number, rest) = integer(input, digits_of(field), open_end, name)?;
        let used = input.len() - rest.len();
        self.number(field, number, used);
        Ok(rest)
    }

    fn word<'a>(&mut self, field: Field, input: &'a str, name: &str) -> SqlResult<&'a str> {
        let unknown = || {
            invalid(&input.chars().take(name.len()).collect::<String>(), name)
                .with_detail("The given value did not match any of the allowed values for this field.")
        };
        let (index, length) = match field {
            Field::MonthName => name_in(input, &MONTHS, false).ok_or_else(unknown)?,
            Field::MonthAbbreviation => name_in(input, &MONTHS, true).ok_or_else(unknown)?,
            Field::DayName => name_in(input, &DAYS, false).ok_or_else(unknown)?,
            Field::DayAbbreviation => name_in(input, &DAYS, true).ok_or_else(unknown)?,
            Field::MonthRoman => {
                let longest =
                    (0..12).rev().filter_map(|i| name_in(input, &ROMAN_MONTHS[i..=i], false).map(|(_, n)| (i, n)));
                longest.max_by_key(|(_, length)| *length).ok_or_else(unknown)?
            }
            Field::Era { .. } => name_in(input, &["A.D.", "B.C.", "AD", "BC"], false).ok_or_else(unknown)?,
            Field::Meridiem { .. } => name_in(input, &["A.M.", "P.M.", "AM", "PM"], false).ok_or_else(unknown)?,
            _ => return Err(SqlError::unsupported("the formatting code TZ in to_timestamp")),
        };
        match field {
            Field::MonthName | Field::MonthAbbreviation | Field::MonthRoman => self.month = Some(index as i64 + 1),
            Field::Era { .. } => self.before_christ = index % 2 == 1,
            Field::Meridiem { .. } => {
                self.afternoon = Some(index % 2 == 1);
                self.twelve_hours = true;
            }
            _ => {}
        }
        Ok(input.get(length..).unwrap_or_default())
    }

    fn number(&mut self, field: Field, number: i64, used: usize) {
        let fraction = |number: i64, used: usize| match used {
            0..=6 => number * 10_i64.pow(6 - used as u32),
            _ => number / 10_i64.pow((used - 6) as u32),
        };
        match field {
            Field::Year(digits) => {
                self.year = Some(match digits {
                    4 => number,
                    _ => complete_year(number, digits),
                });
                self.year_digits = digits;
            }
            Field::IsoYear(digits) => {
                self.iso_year = Some(if digits == 4 { number } else { complete_year(number, digits) });
            }
            Field::Century => self.century = Some(number),
            Field::Month => self.month = Some(number),
            Field::DayOfMonth => self.day = Some(number),
            Field::DayOfYear | Field::IsoDayOfYear => self.day_of_year = Some(number),
            Field::IsoDayOfWeek => self.iso_day = Some(number),
            Field::Julian => self.julian = Some(number),
            Field::IsoWeek => self.iso_week = Some(number),
            Field::WeekOfYear => self.week_of_year = Some(number),
            Field::WeekOfMonth => self.week_of_month = Some(number),
            Field::Hour24 => self.hour = Some(number),
            Field::Hour12 => {
                self.hour = Some(number);
                self.twelve_hours = true;
            }
            Field::Minute => self.minute = number,
            Field::Second => self.second = number,
            Field::SecondOfDay => self.second_of_day = Some(number),
            Field::Millisecond | Field::Microsecond | Field::Fraction(_) => self.micros = fraction(number, used),
            Field::ZoneMinute => self.zone_minute = number,
            _ => {}
        }
    }

    fn days(&self, text: &str) -> SqlResult<i64> {
        let refuse = || {
            SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date/time field value out of range: \"{text}\""))
        };
        if let Some(julian) = self.julian {
            return Ok(julian - JULIAN_EPOCH);
        }
        if let (Some(year), Some(week)) = (self.iso_year, self.iso_week) {
            let fourth = days_from_civil(year, 1, 4);
            let monday = fourth - (fourth + 3).rem_euclid(7);
            return Ok(monday + (week - 1) * 7 + self.iso_day.unwrap_or(1) - 1);
        }
        let year = match (self.year, self.century) {
            (Some(year), Some(century)) if self.year_digits <= 2 => (century - 1) * 100 + year % 100,
            (Some(year), _) => year,
            (None, Some(century)) => (century - 1) * 100 + 1,
            (None, None) => self.iso_year.unwrap_or(0),
        };
        let year = match (self.before_christ, year) {
            (true, year) if year > 0 => 1 - year,
            (_, year) if year < 0 => year + 1,
            (_, year) => year,
        };
        if let Some(day) = self.day_of_year.or(self.week_of_year.map(|week| (week - 1) * 7 + 1)) {
            let length = 337 + days_in_month(year, 2);
            return match (1..=length).contains(&day) {
                true => Ok(days_from_civil(year, 1, 1) + day - 1),
                false => Err(refuse()),
            };
        }
        let day = self.day.or(self.week_of_month.map(|week| (week - 1) * 7 + 1)).unwrap_or(1);
        let month = self.month.unwrap_or(1);
        match (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day) {
            true => Ok(days_from_civil(year, month, day)),
            false => Err(refuse()),
        }
    }

    fn micros(&self, text: &str) -> SqlResult<i64> {
        if let Some(second) = self.second_of_day {
            return Ok(second * MICROS_PER_SECOND + self.micros);
        }
        let mut hour = self.hour.unwrap_or(0);
        if self.twelve_hours {
            if self.hour.is_some() && !(1..=12).contains(&hour) {
                let message = format!("hour \"{hour}\" is invalid for the 12-hour clock");
                return Err(SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message)
                    .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            hour = match (self.afternoon, hour) {
                (Some(true), 0..12) => hour + 12,
                (Some(false), 12) => 0,
                _ => hour,
            };
        }
        match hour < 24 && self.minute < 60 && self.second < 60 {
            true => Ok(hour * MICROS_PER_HOUR
                + self.minute * MICROS_PER_MINUTE
                + self.second * MICROS_PER_SECOND
                + self.micros),
            false => Err(SqlError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            )),
        }
    }

    /// Seconds east of Greenwich.
    fn zone(&self) -> Option<i64> {
        let size = self.zone_hour? * 3600 + self.zone_minute * 60;
        Some(if self.zone_negative { -size } else { size })
    }
}

/// Years of less than four digits are the ones nearest to 2020.
fn complete_year(year: i64, digits: u8) -> i64 {
    match (digits, year) {
        (3, 100..520) => year + 2000,
        (3, 520..) => year + 1000,
        (_, 0..70) => year + 2000,
        (_, 70..100) => year + 1900,
        _ => year,
    }
}

/// An integer of at most `most` digits, or of any number of them where nothing that is a number follows.
fn integer<'a>(input: &'a str, most: usize, open_end: bool, name: &str) -> SqlResult<(i64, &'a str)> {
    let unsigned = input.strip_prefix('-').filter(|_| open_end).unwrap_or(input);
    let run = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let length = if open_end { run } else { run.min(most) };
    let shown: String = input.chars().take(most.max(1)).collect();
    let digits = unsigned.get(..length).unwrap_or_default();
    let Ok(number) = digits.parse::<i32>() else {
        return Err(match digits.is_empty() {
            true => invalid(&shown, name).with_detail("Value must be an integer."),
            false => SqlError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("value for \"{name}\" in source string is out of range"),
            )
            .with_detail("Value must be in the range -2147483648 to 2147483647."),
        });
    };
    let negative = unsigned.len() != input.len();
    let rest = unsigned.get(length..).unwrap_or_default();
    Ok((if negative { -i64::from(number) } else { i64::from(number) }, rest))
}
