//! Integer and real settings: text with a unit → value → text with the largest unit that fits.

use crate::settings::definition::Unit;
use toroid_common::error::{SqlError, SqlState};

/// Names with how many bytes, or microseconds, they are, largest first.
const MEMORY: &[(&str, u64)] = &[("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10), ("B", 1)];
const TIME: &[(&str, u64)] =
    &[("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];
const MEMORY_HINT: &str = "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".";
const TIME_HINT: &str = "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".";

type Units = &'static [(&'static str, u64)];

/// Bytes or microseconds in one step of a setting, with the units of its family.
fn family(unit: Unit) -> Option<(u64, Units, &'static str)> {
    match unit {
        Unit::None => None,
        Unit::Bytes => Some((1, MEMORY, MEMORY_HINT)),
        Unit::Kilobytes => Some((1 << 10, MEMORY, MEMORY_HINT)),
        Unit::Pages => Some((8 << 10, MEMORY, MEMORY_HINT)),
        Unit::Megabytes => Some((1 << 20, MEMORY, MEMORY_HINT)),
        Unit::Milliseconds => Some((1_000, TIME, TIME_HINT)),
        Unit::Seconds => Some((1_000_000, TIME, TIME_HINT)),
    }
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "",
        Unit::Bytes => " B",
        Unit::Kilobytes => " kB",
        Unit::Pages => " 8kB",
        Unit::Megabytes => " MB",
        Unit::Milliseconds => " ms",
        Unit::Seconds => " s",
    }
}

pub(super) fn invalid(name: &str, text: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid value for parameter \"{name}\": \"{text}\""))
}

fn out_of_range(name: &str, value: &str, unit: Unit, min: &str, max: &str) -> SqlError {
    let unit = unit_name(unit);
    let message = format!("{value}{unit} is outside the valid range for parameter \"{name}\" ({min} .. {max})");
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Splits into number and the rest; hexadecimal and octal as C's strtol takes them.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let sign = if negative { -1.0 } else { 1.0 };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        let (number, rest) = hex.split_at(end);
        return Some((sign * u64::from_str_radix(number, 16).ok()? as f64, rest));
    }
    let mut end = 0;
    let bytes = digits.as_bytes();
    while let Some(byte) = bytes.get(end) {
        let exponent = matches!(byte, b'e' | b'E') && exponent_follows(bytes, end);
        let signed = matches!(byte, b'+' | b'-') && end > 0 && matches!(bytes.get(end - 1), Some(b'e' | b'E'));
        if !(byte.is_ascii_digit() || *byte == b'.' || exponent || signed) {
            break;
        }
        end += 1;
    }
    let (number, rest) = digits.split_at(end);
    let octal = number.len() > 1 && number.starts_with('0') && number.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let value = if octal { i64::from_str_radix(number, 8).ok()? as f64 } else { number.parse::<f64>().ok()? };
    Some((sign * value, rest))
}

fn exponent_follows(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at + 1) {
        Some(b'+' | b'-') => bytes.get(at + 2).is_some_and(u8::is_ascii_digit),
        Some(byte) => byte.is_ascii_digit(),
        None => false,
    }
}

/// The value in steps of the setting's unit.
fn scaled(name: &str, text: &str, unit: Unit) -> Result<f64, SqlError> {
    let (number, rest) = leading_number(text).ok_or_else(|| invalid(name, text))?;
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(number);
    }
    let (step, units, hint) = family(unit).ok_or_else(|| invalid(name, text))?;
    match units.iter().find(|(known, _)| *known == rest) {
        Some((_, size)) => Ok(number * *size as f64 / step as f64),
        None => Err(invalid(name, text).with_hint(hint)),
    }
}

pub(super) fn parse_integer(name: &str, text: &str, unit: Unit, min: i32, max: i32) -> Result<i32, SqlError> {
    let value = scaled(name, text, unit)?.round_ties_even();
    if !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value) {
        return Err(invalid(name, text).with_hint("Value exceeds integer range."));
    }
    let value = value as i32;
    if value < min || value > max {
        return Err(out_of_range(name, &value.to_string(), unit, &min.to_string(), &max.to_string()));
    }
    Ok(value)
}

/// As SHOW prints it.
pub(super) fn show_integer(value: i32, unit: Unit) -> String {
    let (Some((step, units, _)), Ok(count)) = (family(unit), u64::try_from(value)) else { return value.to_string() };
    let total = count.saturating_mul(step);
    match units.iter().find(|(_, size)| total > 0 && total.is_multiple_of(*size)) {
        Some((name, size)) => format!("{}{name}", total / size),
        None => value.to_string(),
    }
}

pub(super) fn parse_real(name: &str, text: &str, unit: Unit, min: f64, max: f64) -> Result<f64, SqlError> {
    let value = scaled(name, text, unit)?;
    if !value.is_finite() {
        return Err(invalid(name, text));
    }
    if value < min || value > max {
        return Err(out_of_range(name, &show_real(value), unit, &show_real(min), &show_real(max)));
    }
    Ok(value)
}

/// C's `%g`.
pub(super) fn show_real(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{value:.*}", usize::try_from(5 - exponent).unwrap_or(0)))
}

/// The milliseconds of a setting in milliseconds, from its canonical text.
pub(super) fn milliseconds(canonical: &str) -> u64 {
    parse_integer("", canonical, Unit::Milliseconds, 0, i32::MAX).map_or(0, |v| u64::from(v.unsigned_abs()))
}
