//! Tokens of date and time text to fields, in the order that the session's `DateStyle` asks for.

use super::super::calendar::{
    JULIAN_EPOCH, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, days_from_civil,
    days_in_month, split_timestamp,
};
use super::words::{Word, word};
use super::{Fault, Token, tokenize};
use crate::env::{DateOrder, Env};
use crate::zone::{MAX_OFFSET_SECONDS, Zone, parse_offset};

/// What date text stands for besides fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Moment {
    #[default]
    Fields,
    Now,
    Epoch,
    Infinity,
    NegativeInfinity,
}

/// A zone as text names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ZoneField {
    /// Seconds east of Greenwich.
    Offset(i32),
    Named(Box<Zone>),
}

/// What date and time text says.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) moment: Moment,
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    /// Days since 1970-01-01, when it was given whole (`today`, a Julian day).
    whole_date: Option<i64>,
    /// Days from today.
    relative: Option<i64>,
    text_month: bool,
    short_year: bool,
    bc: bool,
    meridiem: Option<bool>,
    /// Microseconds since midnight.
    pub(super) time: Option<i64>,
    pub(super) zone: Option<ZoneField>,
}

/// Reads a date, a time, or both.
pub(super) fn decode(text: &str, env: &Env) -> Result<Fields, Fault> {
    let mut fields = read_tokens(text, env, false)?;
    fields.finish_time()?;
    Ok(fields)
}

/// Reads a time; a date may stand before it.
pub(super) fn decode_time_only(text: &str, env: &Env) -> Result<Fields, Fault> {
    let mut fields = read_tokens(text, env, true)?;
    fields.finish_time()?;
    Ok(fields)
}

fn read_tokens(text: &str, env: &Env, time_only: bool) -> Result<Fields, Fault> {
    let tokens = tokenize(text)?;
    if tokens.is_empty() {
        return Err(Fault::Format);
    }
    let mut fields = Fields::default();
    let mut iso_time = false;
    let mut julian = false;
    for token in &tokens {
        match *token {
            Token::Time(time) => fields.set_time(parse_time_of_day(time)?)?,
            Token::Date(date) => fields.read_date(date, env)?,
            Token::Number(number) if julian => {
                julian = false;
                fields.read_julian(number)?;
            }
            Token::Number(number) => {
                fields.read_number(number, iso_time || time_only, env)?;
            }
            Token::Signed(zone) => fields.read_signed(zone, env)?,
            Token::SignedWord(name) => match word(name.get(1..).unwrap_or("").trim()) {
                Some(Word::Infinity) if fields.is_blank() => {
                    let negative = name.starts_with('-');
                    fields.moment = if negative { Moment::NegativeInfinity } else { Moment::Infinity };
                }
                _ => return Err(Fault::Format),
            },
            Token::Word(name) => match word(name) {
                Some(Word::IsoTime) if fields.has_date() || time_only => iso_time = true,
                Some(Word::Julian) => julian = true,
                Some(meaning) => fields.read_word(meaning)?,
                None => fields.read_zone_name(name)?,
            },
        }
    }
    if julian || !(fields.is_complete() || time_only) { Err(Fault::Format) } else { Ok(fields) }
}

impl Fields {
    fn is_blank(&self) -> bool {
        self.moment == Moment::Fields && !self.has_date() && self.time.is_none()
    }

    fn has_date(&self) -> bool {
        self.whole_date.is_some()
            || self.relative.is_some()
            || self.year.is_some()
            || self.month.is_some()
            || self.day.is_some()
    }

    fn is_complete(&self) -> bool {
        self.moment != Moment::Fields
            || self.whole_date.is_some()
            || self.relative.is_some()
            || (self.year.is_some() && (self.day_of_year.is_some() || (self.month.is_some() && self.day.is_some())))
    }

    fn set_time(&mut self, micros: i64) -> Result<(), Fault> {
        if self.time.is_some() {
            return Err(Fault::Format);
        }
        self.time = Some(micros);
        Ok(())
    }

    fn set_zone(&mut self, zone: ZoneField) -> Result<(), Fault> {
        if self.zone.is_some() {
            return Err(Fault::Format);
        }
        self.zone = Some(zone);
        Ok(())
    }

    fn set(slot: &mut Option<i64>, value: i64) -> Result<(), Fault> {
        if slot.is_some() {
            return Err(Fault::Format);
        }
        *slot = Some(value);
        Ok(())
    }

    fn read_word(&mut self, meaning: Word) -> Result<(), Fault> {
        match meaning {
            Word::Month(month) => {
                // A number that was taken for the month is the day after all: `31 Jan`.
                if let (Some(number), None, false) = (self.month, self.day, self.text_month) {
                    self.day = Some(number);
                    self.month = None;
                }
                self.text_month = true;
                Self::set(&mut self.month, month)?;
            }
            Word::Weekday | Word::Noise => {}
            Word::Now if self.is_blank() => self.moment = Moment::Now,
            Word::Epoch if self.is_blank() => self.moment = Moment::Epoch,
            Word::Infinity if self.is_blank() => self.moment = Moment::Infinity,
            Word::Today => Self::set(&mut self.relative, 0)?,
            Word::Tomorrow => Self::set(&mut self.relative, 1)?,
            Word::Yesterday => Self::set(&mut self.relative, -1)?,
            Word::AllBalls => {
                self.set_time(0)?;
                self.set_zone(ZoneField::Offset(0))?;
            }
            Word::Am => self.meridiem = Some(false),
            Word::Pm => self.meridiem = Some(true),
            Word::Ad => self.bc = false,
            Word::Bc => self.bc = true,
            Word::Zone(seconds) => self.set_zone(ZoneField::Offset(seconds))?,
            Word::Dst => match &mut self.zone {
                Some(ZoneField::Offset(seconds)) => *seconds += 3600,
                _ => return Err(Fault::Format),
            },
            Word::Now | Word::Epoch | Word::Infinity | Word::IsoTime | Word::Julian => return Err(Fault::Format),
        }
        Ok(())
    }

    fn read_zone_name(&mut self, name: &str) -> Result<(), Fault> {
        // `T040506` and `J2451187` reach here never: digits end a word.
        let zone = Zone::parse(name).ok_or(Fault::UnknownZone)?;
        self.set_zone(ZoneField::Named(Box::new(zone)))
    }

    fn read_signed(&mut self, text: &str, env: &Env) -> Result<(), Fault> {
        let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        if self.time.is_some() || self.has_date() {
            let seconds = parse_offset(&text).ok_or(Fault::ZoneOverflow)?;
            if seconds.abs() > MAX_OFFSET_SECONDS {
                return Err(Fault::ZoneOverflow);
            }
            // After an abbreviation a signed number counts west of it, as in POSIX zones.
            return match self.zone.take() {
                Some(ZoneField::Offset(base)) => {
                    self.zone = Some(ZoneField::Offset(base - seconds));
                    Ok(())
                }
                Some(ZoneField::Named(_)) => Err(Fault::Format),
                None => {
                    self.zone = Some(ZoneField::Offset(seconds));
                    Ok(())
                }
            };
        }
        let _ = env;
        Err(Fault::Format)
    }

    fn read_julian(&mut self, number: &str) -> Result<(), Fault> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let day: i64 = whole.parse().map_err(|_| Fault::Overflow)?;
        Self::set(&mut self.whole_date, day - JULIAN_EPOCH)?;
        if !fraction.is_empty() {
            let part: f64 = format!("0.{fraction}").parse().map_err(|_| Fault::Format)?;
            self.set_time((part * MICROS_PER_DAY as f64).round_ties_even() as i64)?;
        }
        Ok(())
    }

    /// A number that stands alone: a field of a date, a date or a time without separators.
    fn read_number(&mut self, text: &str, time: bool, env: &Env) -> Result<(), Fault> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        if time || (self.is_complete() && self.time.is_none()) {
            return self.read_compact_time(whole, fraction);
        }
        if let Some(fraction) = fraction {
            // `1999.008` is a year and a day in it.
            if fraction.len() == 3 && whole.len() == 4 {
                self.day_of_year = Some(fraction.parse().map_err(|_| Fault::Format)?);
                return Self::set(&mut self.year, whole.parse().map_err(|_| Fault::Format)?);
            }
            return if whole.len() > 2 { self.read_compact_time(whole, Some(fraction)) } else { Err(Fault::Format) };
        }
        match whole.len() {
            8.. if !self.has_date() => {
                let (year, rest) = whole.split_at(whole.len() - 4);
                self.set_compact_date(year, rest)
            }
            6 if !self.has_date() => {
                let (year, rest) = whole.split_at(2);
                self.short_year = true;
                self.set_compact_date(year, rest)
            }
            5 | 7 if !self.has_date() && whole.len() == 7 => {
                let (year, day) = whole.split_at(4);
                self.day_of_year = Some(day.parse().map_err(|_| Fault::Format)?);
                Self::set(&mut self.year, year.parse().map_err(|_| Fault::Format)?)
            }
            _ => self.read_field(whole, env),
        }
    }

    fn set_compact_date(&mut self, year: &str, month_day: &str) -> Result<(), Fault> {
        let (month, day) = month_day.split_at(2);
        let number = |text: &str| text.parse::<i64>().map_err(|_| Fault::Overflow);
        (self.year, self.month, self.day) = (Some(number(year)?), Some(number(month)?), Some(number(day)?));
        Ok(())
    }

    fn read_compact_time(&mut self, whole: &str, fraction: Option<&str>) -> Result<(), Fault> {
        let number = |range: std::ops::Range<usize>| {
            whole.get(range).and_then(|digits| digits.parse::<i64>().ok()).ok_or(Fault::Format)
        };
        let (hour, minute, second) = match whole.len() {
            6 => (number(0..2)?, number(2..4)?, number(4..6)?),
            4 => (number(0..2)?, number(2..4)?, 0),
            _ => return Err(Fault::Format),
        };
        let fraction = fraction.map_or(Ok(0), fraction_micros)?;
        self.set_time(check_time(hour, minute, second, fraction)?)
    }

    /// Takes a number for the field that is due.
    fn read_field(&mut self, text: &str, env: &Env) -> Result<(), Fault> {
        let value: i64 = text.parse().map_err(|_| Fault::Overflow)?;
        let long = text.len() >= 3;
        let order = env.date_order;
        match (self.year.is_some(), self.month.is_some(), self.day.is_some()) {
            (false, false, false) if long || order == DateOrder::Ymd => self.take_year(text, value),
            (false, false, false) if order == DateOrder::Dmy => self.day = Some(value),
            (false, false, false) => self.month = Some(value),
            (true, false, false) => self.month = Some(value),
            (false, true, false) if self.text_month && (long || order == DateOrder::Ymd) => self.take_year(text, value),
            (false, true, false) => self.day = Some(value),
            (true, true, false) if self.text_month && long && self.short_year => {
                self.day = self.year.take();
                self.take_year(text, value);
            }
            (true, true, false) => self.day = Some(value),
            (false, false, true) => self.month = Some(value),
            (false, true, true) => self.take_year(text, value),
            (true, false, true) | (true, true, true) => return Err(Fault::Format),
        }
        Ok(())
    }

    fn take_year(&mut self, text: &str, value: i64) {
        self.short_year = text.len() <= 2;
        self.year = Some(value);
    }

    /// Fields joined by separators; a month's name counts first, wherever it stands.
    fn read_date(&mut self, text: &str, env: &Env) -> Result<(), Fault> {
        let parts: Vec<&str> = text.split(['-', '/', '.']).filter(|part| !part.is_empty()).collect();
        if parts.len() > 3 || self.is_complete() {
            return Err(Fault::Format);
        }
        for part in parts.iter().filter(|part| part.starts_with(|c: char| c.is_ascii_alphabetic())) {
            match word(part) {
                Some(meaning @ Word::Month(_)) => self.read_word(meaning)?,
                _ => return Err(Fault::Format),
            }
        }
        for part in parts.iter().filter(|part| part.starts_with(|c: char| c.is_ascii_digit())) {
            if !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Fault::Format);
            }
            if part.len() == 3 && parts.len() == 2 && self.year.is_some() && self.month.is_none() {
                self.day_of_year = Some(part.parse().map_err(|_| Fault::Format)?);
                continue;
            }
            self.read_field(part, env)?;
        }
        if self.is_complete() { Ok(()) } else { Err(Fault::Format) }
    }

    fn finish_time(&mut self) -> Result<(), Fault> {
        let (Some(pm), Some(time)) = (self.meridiem, self.time) else {
            return if self.meridiem.is_some() { Err(Fault::Format) } else { Ok(()) };
        };
        let hour = time / MICROS_PER_HOUR;
        if hour > 12 {
            return Err(Fault::Overflow);
        }
        let hour_of_half = hour % 12 + if pm { 12 } else { 0 };
        self.time = Some(time % MICROS_PER_HOUR + hour_of_half * MICROS_PER_HOUR);
        Ok(())
    }

    /// Days since 1970-01-01.
    pub(super) fn date(&self, env: &Env) -> Result<i64, Fault> {
        if let Some(days) = self.whole_date {
            return Ok(days);
        }
        if let Some(days) = self.relative {
            return Ok(split_timestamp(env.time_zone.to_local(env.transaction_time)).0 + days);
        }
        let mut year = self.year.ok_or(Fault::Format)?;
        if self.bc {
            if year <= 0 {
                return Err(Fault::Overflow);
            }
            year = 1 - year;
        } else if self.short_year {
            year += if year < 70 { 2000 } else { 1900 };
        } else if year <= 0 {
            return Err(Fault::Overflow);
        }
        if year > 10_000_000 {
            return Err(Fault::Overflow);
        }
        if let Some(day) = self.day_of_year {
            let days = days_from_civil(year, 1, 1) + day - 1;
            return if day >= 1 && days < days_from_civil(year + 1, 1, 1) { Ok(days) } else { Err(Fault::Overflow) };
        }
        let (month, day) = (self.month.ok_or(Fault::Format)?, self.day.ok_or(Fault::Format)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Fault::MonthDayOverflow);
        }
        if day > days_in_month(year, month) {
            return Err(Fault::Overflow);
        }
        Ok(days_from_civil(year, month, day))
    }
}

/// Digits after a decimal point as microseconds, rounded to the nearest.
pub(crate) fn fraction_micros(digits: &str) -> Result<i64, Fault> {
    let mut micros = 0_i64;
    let mut unit = MICROS_PER_SECOND;
    let mut round_up = false;
    for (i, byte) in digits.bytes().enumerate() {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if !(0..=9).contains(&digit) {
            return Err(Fault::Format);
        }
        if i < 6 {
            unit /= 10;
            micros += digit * unit;
        } else if i == 6 {
            round_up = digit >= 5;
        }
    }
    Ok(micros + i64::from(round_up))
}

/// `HH:MM`, `HH:MM:SS`, `HH:MM:SS.ffffff`: microseconds since midnight.
fn parse_time_of_day(text: &str) -> Result<i64, Fault> {
    let mut parts = text.split(':');
    let number = |part: Option<&str>| part.and_then(|p| p.parse::<i64>().ok()).ok_or(Fault::Format);
    let hour = number(parts.next())?;
    let minute_text = parts.next();
    let Some(seconds) = parts.next() else {
        let minute_text = minute_text.unwrap_or("");
        if let Some((minutes, fraction)) = minute_text.split_once('.') {
            // Without hours: minutes, seconds and a fraction.
            return check_time(0, hour, number(Some(minutes))?, fraction_micros(fraction)?);
        }
        return check_time(hour, number(Some(minute_text))?, 0, 0);
    };
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    if parts.next().is_some() {
        return Err(Fault::Format);
    }
    check_time(hour, number(minute_text)?, number(Some(whole))?, fraction_micros(fraction)?)
}

fn check_time(hour: i64, minute: i64, second: i64, fraction: i64) -> Result<i64, Fault> {
    let total = hour * MICROS_PER_HOUR + minute * MICROS_PER_MINUTE + second * MICROS_PER_SECOND + fraction;
    let valid = hour <= 24 && minute < 60 && second <= 60 && total <= MICROS_PER_DAY;
    if valid { Ok(total) } else { Err(Fault::Overflow) }
}

fn two(bytes: &[u8], at: usize) -> Option<i64> {
    let digit = |byte: Option<&u8>| byte.map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9).map(i64::from);
    Some(digit(bytes.get(at))? * 10 + digit(bytes.get(at + 1))?)
}

/// `YYYY-MM-DD` and what follows: the quick way for the usual form.
pub(super) fn iso_date(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let year = two(bytes, 0)? * 100 + two(bytes, 2)?;
    let (month, day) = (two(bytes, 5)?, two(bytes, 8)?);
    let shaped = bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    let valid = year > 0 && (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    (shaped && valid).then(|| (days_from_civil(year, month, day), bytes.get(10..).unwrap_or_default()))
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]` and what follows.
pub(super) fn iso_timestamp(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (days, rest) = iso_date(bytes)?;
    if !matches!(rest.first(), Some(b' ' | b'T')) || rest.get(3) != Some(&b':') || rest.get(6) != Some(&b':') {
        return None;
    }
    let (hour, minute, second) = (two(rest, 1)?, two(rest, 4)?, two(rest, 7)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut tail = rest.get(9..).unwrap_or_default();
    let mut fraction = 0;
    if let [b'.', digits @ ..] = tail {
        let count = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
        let text = std::str::from_utf8(digits.get(..count)?).ok()?;
        fraction = fraction_micros(text).ok()?;
        tail = digits.get(count..)?;
    }
    let time = hour * MICROS_PER_HOUR + minute * MICROS_PER_MINUTE + second * MICROS_PER_SECOND + fraction;
    Some((days * MICROS_PER_DAY + time, tail))
}
