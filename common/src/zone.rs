//! Time zones: an IANA name or a fixed offset, looked up once and then asked for offsets.

use chrono::{DateTime, Datelike, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{OffsetName, TZ_VARIANTS, Tz};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// Largest offset from UTC that text may name, in seconds (PostgreSQL: `MAX_TZDISP_HOUR` 15 and 59:59).
pub const MAX_OFFSET_SECONDS: i32 = 16 * 3600 - 1;
/// The zone data ends before 2100; later years repeat the rules of the years before this one.
const LAST_RULED_YEAR: i32 = 2090;

/// The microseconds of 400 years.
const CYCLE: i64 = 146_097 * 86_400 * MICROS_PER_SECOND;

/// A time zone as a session sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Seconds east of Greenwich.
    Fixed(i32),
    Named(Tz),
}

impl Default for Zone {
    fn default() -> Zone {
        Zone { kind: Kind::Fixed(0), name: "UTC".to_owned() }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        let name = String::deserialize(deserializer)?;
        Zone::parse(&name).ok_or_else(|| serde::de::Error::custom(format!("time zone {name} does not exist here")))
    }
}

impl Zone {
    /// From an IANA name in any case, a number of hours east (`-5`, `5.5`), or a POSIX name with an offset *west* (`UTC+3`, `<-05>+05`).
    pub fn parse(text: &str) -> Option<Zone> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("utc") {
            return Some(Zone::default());
        }
        if let Some(hours) = text.parse::<f64>().ok().filter(|hours| hours.is_finite()) {
            return Zone::fixed((hours * 3600.0) as i32);
        }
        if text.starts_with(['+', '-']) {
            return Zone::fixed(parse_offset(text)?);
        }
        let named =
            text.parse().ok().or_else(|| TZ_VARIANTS.iter().copied().find(|tz| tz.name().eq_ignore_ascii_case(text)));
        if let Some(tz) = named {
            return Some(Zone { kind: Kind::Named(tz), name: tz.name().to_owned() });
        }
        let end = match text.strip_prefix('<') {
            Some(rest) => rest.find('>')? + 2,
            None => text.find(|c: char| !c.is_ascii_alphabetic())?,
        };
        let (label, offset) = text.split_at_checked(end)?;
        let seconds = parse_offset(offset)?;
        (label.len() >= 3 && seconds.abs() <= MAX_OFFSET_SECONDS)
            .then(|| Zone { kind: Kind::Fixed(-seconds), name: text.to_owned() })
    }

    /// A fixed offset, named as PostgreSQL names the result of `SET TIME ZONE -5`.
    pub fn fixed(seconds_east: i32) -> Option<Zone> {
        if seconds_east.abs() > MAX_OFFSET_SECONDS {
            return None;
        }
        let magnitude = seconds_east.unsigned_abs();
        let mut digits = format!("{:02}", magnitude / 3600);
        if !magnitude.is_multiple_of(3600) {
            digits.push_str(&format!(":{:02}", magnitude / 60 % 60));
        }
        if !magnitude.is_multiple_of(60) {
            digits.push_str(&format!(":{:02}", magnitude % 60));
        }
        let (sign, opposite) = if seconds_east < 0 { ('-', '+') } else { ('+', '-') };
        Some(Zone { kind: Kind::Fixed(seconds_east), name: format!("<{sign}{digits}>{opposite}{digits}") })
    }

    /// What `SHOW TimeZone` prints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seconds east of Greenwich at an instant (microseconds since 1970-01-01 UTC).
    #[inline]
    pub fn offset_at(&self, utc: i64) -> i32 {
        match self.kind {
            Kind::Fixed(seconds) => seconds,
            Kind::Named(tz) => tz.offset_from_utc_datetime(&civil(utc)).fix().local_minus_utc(),
        }
    }

    /// Seconds east of Greenwich at a local time. Where clocks go forward the offset before counts, where they go back the one after.
    pub fn offset_of_local(&self, local: i64) -> i32 {
        let tz = match self.kind {
            Kind::Fixed(seconds) => return seconds,
            Kind::Named(tz) => tz,
        };
        let civil_time = civil(local);
        match tz.offset_from_local_datetime(&civil_time) {
            MappedLocalTime::Single(offset) => offset.fix().local_minus_utc(),
            MappedLocalTime::Ambiguous(_, after) => after.fix().local_minus_utc(),
            // A day earlier lies before the gap, and no zone changes twice within a day.
            MappedLocalTime::None => self.offset_at(local.saturating_sub(86_400 * MICROS_PER_SECOND)),
        }
    }

    /// Local time at an instant; both in microseconds. Infinities stay.
    #[inline]
    pub fn to_local(&self, utc: i64) -> i64 {
        if utc == i64::MIN || utc == i64::MAX {
            return utc;
        }
        utc.saturating_add(i64::from(self.offset_at(utc)) * MICROS_PER_SECOND)
    }

    /// The instant of a local time; both in microseconds. Infinities stay.
    pub fn to_utc(&self, local: i64) -> i64 {
        if local == i64::MIN || local == i64::MAX {
            return local;
        }
        local.saturating_sub(i64::from(self.offset_of_local(local)) * MICROS_PER_SECOND)
    }

    /// The abbreviation in force at an instant (`CEST`), or the offset where there is none.
    pub fn abbreviation(&self, utc: i64) -> String {
        match self.kind {
            Kind::Fixed(_) => match self.name.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
                Some((label, _)) => label.to_owned(),
                None => self.name.chars().take_while(char::is_ascii_alphabetic).collect(),
            },
            Kind::Named(tz) => {
                let offset = tz.offset_from_utc_datetime(&civil(utc));
                offset.abbreviation().map_or_else(|| offset.fix().to_string(), str::to_owned)
            }
        }
    }
}

/// The civil time that the zone data is asked for: years beyond it stand for a year of like calendar.
fn civil(micros: i64) -> NaiveDateTime {
    // The calendar repeats itself every 400 years.
    let near = if micros > CYCLE { micros % CYCLE + CYCLE } else { micros };
    let time = DateTime::from_timestamp_micros(near).unwrap_or_default().naive_utc();
    if time.year() <= LAST_RULED_YEAR {
        return time;
    }
    let first_day = |year: i32| NaiveDate::from_ymd_opt(year, 1, 1).map(|day| (day.weekday(), day.leap_year()));
    let wanted = first_day(time.year());
    let like = (LAST_RULED_YEAR - 27..=LAST_RULED_YEAR).find(|year| first_day(*year) == wanted);
    like.and_then(|year| time.with_year(year)).unwrap_or(time)
}

/// `+05`, `-5:30`, `+0530`, `+05:30:15`: seconds, with the sign as written.
pub fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return None;
    }
    let number = |part: &str| part.parse::<i32>().ok().filter(|_| part.len() <= 2);
    let mut parts = rest.split(':');
    let head = parts.next()?;
    let (hours, minutes, seconds) = if rest.contains(':') {
        let minutes = number(parts.next()?)?;
        let seconds = parts.next().map_or(Some(0), number)?;
        (number(head)?, minutes, seconds)
    } else {
        match head.len() {
            1 | 2 => (number(head)?, 0, 0),
            3 | 4 => {
                let (hours, minutes) = head.split_at(head.len() - 2);
                (number(hours)?, number(minutes)?, 0)
            }
            6 => {
                let (hours, rest) = head.split_at(2);
                let (minutes, seconds) = rest.split_at(2);
                (number(hours)?, number(minutes)?, number(seconds)?)
            }
            _ => return None,
        }
    };
    (parts.next().is_none() && hours <= 15 && minutes < 60 && seconds < 60)
        .then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}
