//! Intervals from and to text: PostgreSQL's verbose form, ISO 8601 designators, `hh:mm:ss`.

use super::Interval;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::calendar::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND};
use crate::types::datetime::{Fault, Token, fraction_micros, tokenize, write_time};
use crate::types::digits::{trim, write_signed};

/// A unit of time in interval text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Decade,
    Century,
    Millennium,
}

fn unit(name: &str) -> Option<Unit> {
    Some(match name.to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "microsecond" | "microseconds" | "microsecon" => Unit::Microsecond,
        "ms" | "msec" | "msecs" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => Unit::Millisecond,
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Minute,
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Hour,
        "d" | "day" | "days" => Unit::Day,
        "w" | "week" | "weeks" => Unit::Week,
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Year,
        "dec" | "decs" | "decade" | "decades" => Unit::Decade,
        "c" | "cent" | "century" | "centuries" => Unit::Century,
        "mil" | "mils" | "millennia" | "millennium" => Unit::Millennium,
        _ => return None,
    })
}

/// What has been read; wide enough to see overflow at the end.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    micros: i128,
    seen: u32,
}

impl Sum {
    /// Adds `value` + `fraction` units, fractions falling to the next smaller parts.
    fn add(&mut self, unit: Unit, value: i128, fraction: f64) -> Result<(), Fault> {
        let bit = 1_u32 << unit as u32;
        if self.seen & bit != 0 {
            return Err(Fault::Format);
        }
        self.seen |= bit;
        match unit {
            Unit::Microsecond => self.micros += value + fraction.round_ties_even() as i128,
            Unit::Millisecond => self.add_micros(value, fraction, 1000),
            Unit::Second => self.add_micros(value, fraction, MICROS_PER_SECOND),
            Unit::Minute => self.add_micros(value, fraction, MICROS_PER_MINUTE),
            Unit::Hour => self.add_micros(value, fraction, MICROS_PER_HOUR),
            Unit::Day => self.add_days(value, fraction),
            Unit::Week => self.add_days(value * 7, fraction * 7.0),
            Unit::Month => {
                self.months += value;
                self.add_days(0, fraction * 30.0);
            }
            Unit::Year => self.add_years(value, fraction, 1),
            Unit::Decade => self.add_years(value, fraction, 10),
            Unit::Century => self.add_years(value, fraction, 100),
            Unit::Millennium => self.add_years(value, fraction, 1000),
        }
        Ok(())
    }

    fn add_micros(&mut self, value: i128, fraction: f64, unit: i64) {
        self.micros += value * i128::from(unit) + (fraction * unit as f64).round_ties_even() as i128;
    }

    fn add_days(&mut self, value: i128, fraction: f64) {
        let whole = fraction.trunc();
        self.days += value + whole as i128;
        self.micros += ((fraction - whole) * MICROS_PER_DAY as f64).round_ties_even() as i128;
    }

    fn add_years(&mut self, value: i128, fraction: f64, years: i32) {
        let months = (fraction * f64::from(years) * 12.0).round_ties_even();
        self.months += value * i128::from(years) * 12 + months as i128;
    }

    fn finish(self, negate: bool) -> Result<Interval, Fault> {
        let sign = if negate { -1 } else { 1 };
        Ok(Interval {
            months: i32::try_from(self.months * sign).map_err(|_| Fault::IntervalOverflow)?,
            days: i32::try_from(self.days * sign).map_err(|_| Fault::IntervalOverflow)?,
            micros: i64::try_from(self.micros * sign).map_err(|_| Fault::IntervalOverflow)?,
        })
    }
}

impl Interval {
    /// From text; `modifier` says what a bare number counts, which fields are kept, and how many digits of the seconds.
    pub fn parse(text: &str, modifier: i32) -> SqlResult<Interval> {
        let trimmed = trim(text);
        let iso = matches!(trimmed.as_bytes(), [b'P' | b'p', b'0'..=b'9' | b'-' | b'+' | b'T' | b't' | b'.', ..]);
        let parsed = if iso { parse_iso(trimmed) } else { parse_verbose(trimmed, smallest_unit(modifier)) };
        parsed.map(|interval| interval.round_to(modifier)).map_err(|fault| match fault {
            Fault::Overflow | Fault::MonthDayOverflow => SqlError::new(
                SqlState::INTERVAL_FIELD_OVERFLOW,
                format!("interval field value out of range: \"{text}\""),
            ),
            fault => fault.error("interval", text),
        })
    }

    /// Cut to the fields in the modifier's high half, seconds rounded to the digits in its low half.
    #[must_use]
    pub fn round_to(self, modifier: i32) -> Interval {
        if modifier < 0 {
            return self;
        }
        let cut = |unit: i64| self.micros / unit * unit;
        let kept = match smallest_field(modifier) {
            Some(Unit::Year) => Interval { months: self.months / 12 * 12, days: 0, micros: 0 },
            Some(Unit::Month) => Interval { days: 0, micros: 0, ..self },
            Some(Unit::Day) => Interval { micros: 0, ..self },
            Some(Unit::Hour) => Interval { micros: cut(MICROS_PER_HOUR), ..self },
            Some(Unit::Minute) => Interval { micros: cut(MICROS_PER_MINUTE), ..self },
            _ => self,
        };
        match modifier & 0xffff {
            0xffff => kept,
            precision => {
                Interval { micros: crate::types::calendar::round_to_precision(kept.micros, precision), ..kept }
            }
        }
    }
}

/// The smallest field of `interval day to minute` and its like, from the modifier's high half; `None` if no fields are named.
fn smallest_field(modifier: i32) -> Option<Unit> {
    let mask = modifier >> 16;
    if modifier < 0 || mask & 0x7fff == 0x7fff {
        return None;
    }
    let fields =
        [(12, Unit::Second), (11, Unit::Minute), (10, Unit::Hour), (3, Unit::Day), (1, Unit::Month), (2, Unit::Year)];
    fields.into_iter().find(|(bit, _)| mask & (1 << bit) != 0).map(|(_, unit)| unit)
}

fn smallest_unit(modifier: i32) -> Unit {
    smallest_field(modifier).unwrap_or(Unit::Second)
}

/// Signs, whole part and fraction of `-12.5`; both parts carry the sign.
fn number(text: &str) -> Result<(i128, f64), Fault> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest.trim_start()),
        None => (1, text.strip_prefix('+').unwrap_or(text).trim_start()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) || digits.is_empty() || digits == "." {
        return Err(Fault::Format);
    }
    let value = if whole.is_empty() { 0 } else { whole.parse::<i64>().map_err(|_| Fault::IntervalOverflow)? };
    let fraction: f64 =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().map_err(|_| Fault::Format)? };
    Ok((sign * i128::from(value), sign as f64 * fraction))
}

/// Reads from the right, as units stand after their numbers.
fn parse_verbose(text: &str, bare: Unit) -> Result<Interval, Fault> {
    let tokens = tokenize(text)?;
    let mut sum = Sum::default();
    let mut pending: Option<Unit> = None;
    let mut default = bare;
    let mut ago = false;
    let mut read = false;
    for (i, token) in tokens.iter().enumerate().rev() {
        match *token {
            Token::Word(name) if name.eq_ignore_ascii_case("ago") && i + 1 == tokens.len() => ago = true,
            Token::Word(name) if pending.is_none() => pending = Some(unit(name).ok_or(Fault::Format)?),
            Token::Time(time) => {
                read_time(&mut sum, time)?;
                (default, read) = (Unit::Day, true);
            }
            Token::Signed(time) if time.contains(':') => {
                read_time(&mut sum, time)?;
                (default, read) = (Unit::Day, true);
            }
            Token::Date(pair) | Token::Signed(pair) if is_year_month(pair) => {
                read_year_month(&mut sum, pair)?;
                (default, read) = (Unit::Month, true);
            }
            Token::Number(digits) | Token::Signed(digits) => {
                let (value, fraction) = number(digits)?;
                sum.add(pending.take().unwrap_or(default), value, fraction)?;
                read = true;
            }
            Token::Word(_) | Token::Date(_) | Token::SignedWord(_) => return Err(Fault::Format),
        }
    }
    if !read || pending.is_some() { Err(Fault::Format) } else { sum.finish(ago) }
}

/// `1-2`: years and months.
fn is_year_month(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.split_once('-').is_some_and(|(years, months)| {
        !years.is_empty() && !months.is_empty() && years.bytes().chain(months.bytes()).all(|b| b.is_ascii_digit())
    })
}

fn read_year_month(sum: &mut Sum, text: &str) -> Result<(), Fault> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (years, months) = digits.split_once('-').ok_or(Fault::Format)?;
    let years: i128 = years.parse().map_err(|_| Fault::IntervalOverflow)?;
    let months: i128 = months.parse().map_err(|_| Fault::IntervalOverflow)?;
    if months >= 12 {
        return Err(Fault::IntervalOverflow);
    }
    sum.add(Unit::Year, sign * years, 0.0)?;
    sum.add(Unit::Month, sign * months, 0.0)
}

/// `hh:mm`, `hh:mm:ss.f` and `mm:ss.f`, hours of any size.
fn read_time(sum: &mut Sum, text: &str) -> Result<(), Fault> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest.trim_start()),
        None => (1, text.strip_prefix('+').unwrap_or(text).trim_start()),
    };
    let parts: Vec<&str> = digits.split(':').collect();
    let whole = |text: &str| text.parse::<i64>().map_err(|_| Fault::Format);
    let seconds = |text: &str| -> Result<(i64, i64), Fault> {
        let (second, fraction) = text.split_once('.').unwrap_or((text, ""));
        Ok((whole(second)?, fraction_micros(fraction)?))
    };
    let (hours, minutes, (second, fraction)) = match parts.as_slice() {
        [minutes, rest] if rest.contains('.') => (0, whole(minutes)?, seconds(rest)?),
        [hours, minutes] => (whole(hours)?, whole(minutes)?, (0, 0)),
        [hours, minutes, rest] => (whole(hours)?, whole(minutes)?, seconds(rest)?),
        _ => return Err(Fault::Format),
    };
    if minutes >= 60 || second > 60 {
        return Err(Fault::Overflow);
    }
    sum.add(Unit::Hour, sign * i128::from(hours), 0.0)?;
    sum.add(Unit::Minute, sign * i128::from(minutes), 0.0)?;
    sum.add(Unit::Second, sign * i128::from(second), 0.0)?;
    sum.micros += sign * i128::from(fraction);
    Ok(())
}

/// `P1Y2M3DT4H5M6.7S`, `P2W`, `P0001-02-03T04:05:06`.
fn parse_iso(text: &str) -> Result<Interval, Fault> {
    let mut sum = Sum::default();
    let mut rest = text.get(1..).unwrap_or("");
    let mut time = false;
    if rest.is_empty() {
        return Err(Fault::Format);
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(['T', 't']) {
            if time || after.is_empty() {
                return Err(Fault::Format);
            }
            (time, rest) = (true, after);
            continue;
        }
        let end = rest
            .char_indices()
            .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '-' | '+'))))
            .map_or(rest.len(), |(i, _)| i);
        let (digits, after) = rest.split_at(end);
        let designator = after.chars().next();
        match (designator, time) {
            (Some('-'), false) => return read_iso_alternative(sum, rest),
            (Some(':'), true) => {
                read_time(&mut sum, rest)?;
                return sum.finish(false);
            }
            _ => {}
        }
        let unit = match (designator.map(|c| c.to_ascii_uppercase()), time) {
            (Some('Y'), false) => Unit::Year,
            (Some('M'), false) => Unit::Month,
            (Some('W'), false) => Unit::Week,
            (Some('D'), false) => Unit::Day,
            (Some('H'), true) => Unit::Hour,
            (Some('M'), true) => Unit::Minute,
            (Some('S'), true) => Unit::Second,
            _ => return Err(Fault::Format),
        };
        let (value, fraction) = number(digits)?;
        sum.add(unit, value, fraction)?;
        rest = after.get(1..).unwrap_or("");
    }
    sum.finish(false)
}

fn read_iso_alternative(mut sum: Sum, text: &str) -> Result<Interval, Fault> {
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let parts: Result<Vec<i128>, Fault> =
        date.split('-').map(|part| part.parse::<i32>().map(i128::from).map_err(|_| Fault::Format)).collect();
    match parts?.as_slice() {
        [years, months] => {
            sum.add(Unit::Year, *years, 0.0)?;
            sum.add(Unit::Month, *months, 0.0)?;
        }
        [years, months, days] => {
            sum.add(Unit::Year, *years, 0.0)?;
            sum.add(Unit::Month, *months, 0.0)?;
            sum.add(Unit::Day, *days, 0.0)?;
        }
        _ => return Err(Fault::Format),
    }
    if let Some(time) = time {
        read_time(&mut sum, time)?;
    }
    sum.finish(false)
}

/// Appends an interval in style `postgres`.
pub fn write_interval(out: &mut Vec<u8>, interval: Interval) {
    let start = out.len();
    let mut negative_before = false;
    let (years, months) = (interval.months / 12, interval.months % 12);
    for (value, unit) in [(years, "year"), (months, "mon"), (interval.days, "day")] {
        if value == 0 {
            continue;
        }
        if out.len() > start {
            out.push(b' ');
        }
        if negative_before && value > 0 {
            out.push(b'+');
        }
        write_signed(out, i64::from(value));
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        negative_before = value < 0;
    }
    if interval.micros == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.push(b' ');
    }
    if interval.micros < 0 {
        out.push(b'-');
    } else if negative_before {
        out.push(b'+');
    }
    write_time(out, interval.micros);
}
