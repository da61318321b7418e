//! Dates, times and timestamps from and to text, as PostgreSQL reads them and prints them in ISO style.

pub mod arithmetic;
mod decode;
pub mod extract;
pub mod make;
mod token;
mod words;

use super::calendar::{
    MICROS_PER_SECOND, check_timestamp, civil_from_days, is_finite_timestamp, join_timestamp, round_to_precision,
    split_timestamp, timestamp_to_date,
};
use super::digits::{write_padded, write_unsigned};
use crate::env::Env;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zone::Zone;
use decode::{Fields, Moment};

pub(crate) use decode::fraction_micros;
pub(crate) use token::{Token, tokenize};

/// Why text is no date or time; it becomes PostgreSQL's message when type and text are at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Format,
    Overflow,
    /// Month or day: the order of fields may be another.
    MonthDayOverflow,
    IntervalOverflow,
    ZoneOverflow,
    UnknownZone,
}

impl Fault {
    pub(crate) fn error(self, type_name: &str, text: &str) -> SqlError {
        match self {
            Fault::Format => SqlError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type {type_name}: \"{text}\""),
            ),
            // A name with a slash can only have been meant as a zone's.
            Fault::UnknownZone => match text.split_whitespace().rfind(|word| word.contains('/')) {
                Some(zone) => {
                    let message = format!("time zone \"{}\" not recognized", zone.to_lowercase());
                    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
                }
                None => Fault::Format.error(type_name, text),
            },
            Fault::Overflow => field_overflow(text),
            Fault::MonthDayOverflow => {
                field_overflow(text).with_hint("Perhaps you need a different \"datestyle\" setting.")
            }
            Fault::IntervalOverflow => SqlError::new(
                SqlState::INTERVAL_FIELD_OVERFLOW,
                format!("interval field value out of range: \"{text}\""),
            ),
            Fault::ZoneOverflow => SqlError::new(
                SqlState::INVALID_TIME_ZONE_DISPLACEMENT_VALUE,
                format!("time zone displacement out of range: \"{text}\""),
            ),
        }
    }
}

fn field_overflow(text: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date/time field value out of range: \"{text}\""))
}

fn range_error(type_name: &str, text: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{type_name} out of range: \"{text}\""))
}

/// Days since 1970-01-01.
pub fn parse_date(text: &str, env: &Env) -> SqlResult<i32> {
    if let Some((days, [])) = decode::iso_date(text.as_bytes()) {
        return Ok(days as i32);
    }
    let fields = decode::decode(text, env).map_err(|fault| fault.error("date", text))?;
    match fields.moment {
        Moment::Infinity => Ok(i32::MAX),
        Moment::NegativeInfinity => Ok(i32::MIN),
        Moment::Epoch => Ok(0),
        Moment::Now => Ok(timestamp_to_date(env.time_zone.to_local(env.transaction_time))),
        Moment::Fields => {
            let days = fields.date(env).map_err(|fault| fault.error("date", text))?;
            super::calendar::check_date(days).ok_or_else(|| range_error("date", text))
        }
    }
}

/// Microseconds since midnight; a date and a zone in the text are read and dropped.
pub fn parse_time(text: &str, precision: i32, env: &Env) -> SqlResult<i64> {
    let fields = decode::decode_time_only(text, env).map_err(|fault| fault.error("time", text))?;
    match fields.moment {
        Moment::Now => Ok(split_timestamp(env.time_zone.to_local(env.transaction_time)).1),
        Moment::Fields => {
            let time = fields.time.ok_or_else(|| Fault::Format.error("time", text))?;
            Ok(round_to_precision(time, precision))
        }
        Moment::Infinity | Moment::NegativeInfinity | Moment::Epoch => Err(Fault::Format.error("time", text)),
    }
}

/// Microseconds since 1970-01-01 00:00, without zone: one in the text is read and dropped.
pub fn parse_timestamp(text: &str, precision: i32, env: &Env) -> SqlResult<i64> {
    if let Some((local, [])) = decode::iso_timestamp(text.as_bytes()) {
        return Ok(round_to_precision(local, precision));
    }
    let name = "timestamp";
    let fields = decode::decode(text, env).map_err(|fault| fault.error(name, text))?;
    match fixed_moment(&fields, env) {
        Some(Moment::Now) => Ok(round_to_precision(env.time_zone.to_local(env.transaction_time), precision)),
        Some(moment) => Ok(constant(moment)),
        None => {
            let local = local_time(&fields, env, name, text)?;
            Ok(round_to_precision(local, precision))
        }
    }
}

/// Microseconds since 1970-01-01 00:00 UTC; text without a zone means the session's.
pub fn parse_timestamptz(text: &str, precision: i32, env: &Env) -> SqlResult<i64> {
    let name = "timestamp with time zone";
    if let Some((local, rest)) = decode::iso_timestamp(text.as_bytes()) {
        match rest {
            [] => return zoned(env.time_zone.offset_of_local(local), local, precision, text),
            [b'Z'] | [b'+', b'0', b'0'] => return zoned(0, local, precision, text),
            _ => {}
        }
    }
    let fields = decode::decode(text, env).map_err(|fault| fault.error(name, text))?;
    match fixed_moment(&fields, env) {
        Some(Moment::Now) => Ok(round_to_precision(env.transaction_time, precision)),
        Some(moment) => Ok(constant(moment)),
        None => {
            let local = local_time(&fields, env, name, text)?;
            let offset = match &fields.zone {
                None => env.time_zone.offset_of_local(local),
                Some(decode::ZoneField::Offset(seconds)) => *seconds,
                Some(decode::ZoneField::Named(zone)) => zone.offset_of_local(local),
            };
            zoned(offset, local, precision, text)
        }
    }
}

fn zoned(offset: i32, local: i64, precision: i32, text: &str) -> SqlResult<i64> {
    local
        .checked_sub(i64::from(offset) * MICROS_PER_SECOND)
        .and_then(check_timestamp)
        .map(|utc| round_to_precision(utc, precision))
        .ok_or_else(|| range_error("timestamp", text))
}

fn fixed_moment(fields: &Fields, _env: &Env) -> Option<Moment> {
    (fields.moment != Moment::Fields).then_some(fields.moment)
}

fn constant(moment: Moment) -> i64 {
    match moment {
        Moment::Infinity => i64::MAX,
        Moment::NegativeInfinity => i64::MIN,
        Moment::Epoch | Moment::Now | Moment::Fields => 0,
    }
}

fn local_time(fields: &Fields, env: &Env, name: &str, text: &str) -> SqlResult<i64> {
    let days = fields.date(env).map_err(|fault| fault.error(name, text))?;
    join_timestamp(days, fields.time.unwrap_or(0)).ok_or_else(|| range_error("timestamp", text))
}

/// Appends a date in ISO style.
pub fn write_date(out: &mut Vec<u8>, days: i32) {
    match days {
        i32::MIN => out.extend_from_slice(b"-infinity"),
        i32::MAX => out.extend_from_slice(b"infinity"),
        _ => {
            let era = write_civil(out, i64::from(days));
            out.extend_from_slice(era);
        }
    }
}

/// Appends year, month and day, and answers what has to stand at the end.
fn write_civil(out: &mut Vec<u8>, days: i64) -> &'static [u8] {
    let (year, month, day) = civil_from_days(days);
    let (shown, era): (i64, &[u8]) = if year <= 0 { (1 - year, b" BC") } else { (year, b"") };
    if shown > 9999 {
        write_unsigned(out, shown.unsigned_abs());
    } else {
        write_padded(out, shown.unsigned_abs(), 4);
    }
    out.push(b'-');
    write_padded(out, month.unsigned_abs(), 2);
    out.push(b'-');
    write_padded(out, day.unsigned_abs(), 2);
    era
}

/// Appends a time of day; fractions of a second without trailing zeros.
pub fn write_time(out: &mut Vec<u8>, micros: i64) {
    let micros = micros.unsigned_abs();
    let seconds = micros / 1_000_000;
    write_padded(out, seconds / 3600, 2);
    out.push(b':');
    write_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    write_padded(out, seconds % 60, 2);
    write_fraction(out, micros % 1_000_000);
}

fn write_fraction(out: &mut Vec<u8>, micros: u64) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    write_padded(out, micros, 6);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// Appends a timestamp without zone in ISO style.
pub fn write_timestamp(out: &mut Vec<u8>, micros: i64) {
    if !is_finite_timestamp(micros) {
        return write_date(out, timestamp_to_date(micros));
    }
    let (days, time) = split_timestamp(micros);
    let era = write_civil(out, days);
    out.push(b' ');
    write_time(out, time);
    out.extend_from_slice(era);
}

/// Appends a timestamp with the zone's offset in ISO style.
pub fn write_timestamptz(out: &mut Vec<u8>, micros: i64, zone: &Zone) {
    if !is_finite_timestamp(micros) {
        return write_date(out, timestamp_to_date(micros));
    }
    let offset = zone.offset_at(micros);
    let (days, time) = split_timestamp(micros.saturating_add(i64::from(offset) * MICROS_PER_SECOND));
    let era = write_civil(out, days);
    out.push(b' ');
    write_time(out, time);
    write_offset(out, offset);
    out.extend_from_slice(era);
}

/// Appends `+02`, `-03:30` or `+00:53:28`.
pub fn write_offset(out: &mut Vec<u8>, seconds_east: i32) {
    out.push(if seconds_east < 0 { b'-' } else { b'+' });
    let seconds = u64::from(seconds_east.unsigned_abs());
    write_padded(out, seconds / 3600, 2);
    if seconds % 3600 != 0 {
        out.push(b':');
        write_padded(out, seconds / 60 % 60, 2);
    }
    if seconds % 60 != 0 {
        out.push(b':');
        write_padded(out, seconds % 60, 2);
    }
}
