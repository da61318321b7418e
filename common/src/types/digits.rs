//! Whole numbers and floats from and to text, without allocation: the hot part of COPY and of results.

use crate::error::{SqlError, SqlResult, SqlState};
use std::io::Write;

const PAIRS: [u8; 200] = {
    let mut table = [0; 200];
    let mut i = 0;
    while i < 100 {
        table[2 * i] = b'0' + (i / 10) as u8;
        table[2 * i + 1] = b'0' + (i % 10) as u8;
        i += 1;
    }
    table
};

/// Appends a number.
#[inline]
pub fn write_unsigned(out: &mut Vec<u8>, value: u64) {
    write_padded(out, value, 1);
}

/// Appends a number of at least `width` digits.
#[inline]
pub(crate) fn write_padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut buffer = [b'0'; 20];
    let mut at = buffer.len();
    let mut rest = value;
    while rest >= 10 {
        let pair = 2 * (rest % 100) as usize;
        at -= 2;
        if let (Some(slot), Some(digits)) = (buffer.get_mut(at..at + 2), PAIRS.get(pair..pair + 2)) {
            slot.copy_from_slice(digits);
        }
        rest /= 100;
    }
    if rest > 0 {
        at -= 1;
        if let Some(slot) = buffer.get_mut(at) {
            *slot = b'0' + rest as u8;
        }
    }
    let start = at.min(buffer.len().saturating_sub(width));
    out.extend_from_slice(buffer.get(start..).unwrap_or_default());
}

/// Appends a number with its sign.
#[inline]
pub fn write_signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_unsigned(out, value.unsigned_abs());
}

/// A whole number between `min` and `max`, blanks around; `type_name` is what messages call its type.
#[inline]
pub fn parse_integer(text: &str, min: i64, max: i64, type_name: &str) -> SqlResult<i64> {
    match short_integer(text.as_bytes()) {
        Some(value) if (min..=max).contains(&value) => Ok(value),
        _ => parse_integer_slowly(text, min, max, type_name),
    }
}

/// An integer of at most 18 digits with nothing but a minus before it.
#[inline]
pub fn short_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

#[cold]
fn parse_integer_slowly(text: &str, min: i64, max: i64, type_name: &str) -> SqlResult<i64> {
    let trimmed = trim(text);
    let unsigned = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_syntax(type_name, text));
    }
    let value = trimmed.parse::<i64>().ok().filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| {
        SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("value \"{text}\" is out of range for type {type_name}"),
        )
    })
}

/// C's `isspace` at both ends.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}

/// `22P02`: `invalid input syntax for type …`.
#[cold]
pub(crate) fn invalid_syntax(type_name: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

/// An oid: unsigned, though PostgreSQL reads negative numbers, too, modulo 2^32.
pub fn parse_oid(text: &str) -> SqlResult<u32> {
    let value = parse_integer(text, i64::from(i32::MIN), i64::from(u32::MAX), "oid")?;
    Ok(value as u32)
}

/// The two float types and what differs between them.
pub trait Float: Copy + std::str::FromStr + std::fmt::LowerExp + PartialEq + Into<f64> {
    const TYPE_NAME: &'static str;
    /// Decimal exponents from which on PostgreSQL prints scientifically.
    const SCIENTIFIC_FROM: i32;
    /// Digits that survive a round trip through text.
    const DIGITS: i32;
}

impl Float for f64 {
    const TYPE_NAME: &'static str = "double precision";
    const SCIENTIFIC_FROM: i32 = 15;
    const DIGITS: i32 = 15;
}

impl Float for f32 {
    const TYPE_NAME: &'static str = "real";
    const SCIENTIFIC_FROM: i32 = 6;
    const DIGITS: i32 = 6;
}

/// A float, blanks around; infinities and NaN by name.
pub fn parse_float<F: Float>(text: &str) -> SqlResult<F> {
    let trimmed = trim(text);
    let value: F = trimmed.parse().map_err(|_| invalid_syntax(F::TYPE_NAME, text))?;
    let wide: f64 = value.into();
    let named = trimmed.bytes().any(|b| b.is_ascii_alphabetic() && !b.eq_ignore_ascii_case(&b'e'));
    let mantissa = trimmed.split(['e', 'E']).next().unwrap_or(trimmed);
    let lost = wide == 0.0 && mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b));
    if (wide.is_infinite() && !named) || lost {
        return Err(SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{trimmed}\" is out of range for type {}", F::TYPE_NAME),
        ));
    }
    Ok(value)
}

/// Appends a float: the shortest text that reads back alike, or `extra` digits more than the type surely holds where that is not positive.
pub fn write_float<F: Float>(out: &mut Vec<u8>, value: F, extra: i8) {
    let wide: f64 = value.into();
    if !wide.is_finite() {
        let name: &[u8] = if wide.is_nan() {
            b"NaN"
        } else if wide > 0.0 {
            b"Infinity"
        } else {
            b"-Infinity"
        };
        return out.extend_from_slice(name);
    }
    let mut buffer = [0_u8; 40];
    let mut cursor = &mut buffer[..];
    let precision = (F::DIGITS + i32::from(extra)).max(1);
    let written =
        if extra > 0 { write!(cursor, "{value:e}") } else { write!(cursor, "{value:.*e}", precision as usize - 1) };
    let left = cursor.len();
    if written.is_err() {
        return;
    }
    let text = buffer.get(..buffer.len() - left).unwrap_or_default();
    let scientific_from = if extra > 0 { F::SCIENTIFIC_FROM } else { precision };
    write_scientific(out, text, scientific_from);
}

/// Turns `-d.ddde±x` into C's `%g`.
fn write_scientific(out: &mut Vec<u8>, text: &[u8], scientific_from: i32) {
    let text = match text {
        [b'-', rest @ ..] => {
            out.push(b'-');
            rest
        }
        _ => text,
    };
    let e = text.iter().position(|b| *b == b'e').unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(e);
    let exponent =
        exponent.get(1..).and_then(|e| std::str::from_utf8(e).ok()).and_then(|e| e.parse().ok()).unwrap_or(0_i32);
    let mut digits = [b'0'; 24];
    let mut count = 0;
    for byte in mantissa.iter().filter(|b| **b != b'.') {
        if let Some(slot) = digits.get_mut(count) {
            *slot = *byte;
            count += 1;
        }
    }
    let digits = digits.get(..count).unwrap_or_default();
    let significant = digits.iter().rposition(|d| *d != b'0').map_or(1, |last| last + 1);
    let digits = digits.get(..significant).unwrap_or_default();
    if exponent < -4 || exponent >= scientific_from {
        let (first, rest) = digits.split_at(1.min(digits.len()));
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        write_padded(out, u64::from(exponent.unsigned_abs()), 2);
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        let (before, after) = digits.split_at(whole.min(digits.len()));
        out.extend_from_slice(before);
        out.resize(out.len() + whole - before.len(), b'0');
        if !after.is_empty() {
            out.push(b'.');
            out.extend_from_slice(after);
        }
    }
}
