//! Numeric from and to text, as PostgreSQL reads and prints it.

use super::int::Int;
use super::{Decimal, Numeric, NumericRef, Value, overflow};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::limits::{MAX_NUMERIC_INTEGRAL_DIGITS, MAX_NUMERIC_SCALE};
use std::fmt;

/// Exponents beyond this overflow whatever the digits are (PostgreSQL: `INT_MAX / 2`).
const MAX_EXPONENT: i64 = (i32::MAX / 2) as i64;

impl Numeric {
    /// From text: sign, digits with a point, exponent, `NaN`, `Infinity`, blanks around.
    pub fn parse(text: &str) -> SqlResult<Numeric> {
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        match parse_finite(trimmed.as_bytes())? {
            Some(numeric) => Ok(numeric),
            None => parse_special(trimmed).ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    format!("invalid input syntax for type numeric: \"{text}\""),
                )
            }),
        }
    }
}

fn parse_special(text: &str) -> Option<Numeric> {
    if text.eq_ignore_ascii_case("nan") {
        return Some(Numeric::nan());
    }
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    (rest.eq_ignore_ascii_case("inf") || rest.eq_ignore_ascii_case("infinity")).then(|| Numeric::infinity(negative))
}

/// `None` when the text is no decimal number.
fn parse_finite(text: &[u8]) -> SqlResult<Option<Numeric>> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let whole = digit_run(unsigned);
    let after = unsigned.get(whole..).unwrap_or_default();
    let (fraction, rest) = match after {
        [b'.', rest @ ..] => {
            let length = digit_run(rest);
            (rest.get(..length).unwrap_or_default(), rest.get(length..).unwrap_or_default())
        }
        _ => (&[][..], after),
    };
    if whole + fraction.len() == 0 {
        return Ok(None);
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', digits @ ..] => match parse_exponent(digits)? {
            Some(exponent) => exponent,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let integral = unsigned.get(..whole).unwrap_or_default();
    let mantissa = if integral.len() + fraction.len() <= 38 {
        let high = Int::from_digits(integral);
        high.scale_up(fraction.len() as u32).add(&Int::from_digits(fraction))
    } else {
        Int::from_digits(&[integral, fraction].concat())
    };
    let mantissa = if negative { mantissa.neg() } else { mantissa };
    place_point(mantissa, fraction.len(), exponent).map(Some)
}

fn place_point(mantissa: Int, fraction: usize, exponent: i64) -> SqlResult<Numeric> {
    let scale = fraction as i64 - exponent;
    if scale >= 0 {
        if scale > MAX_NUMERIC_SCALE as i64 {
            return Err(overflow());
        }
        return Numeric::make(Decimal { mantissa, scale: scale as u32 });
    }
    if mantissa.is_zero() {
        return Ok(Numeric::zero());
    }
    if i64::from(mantissa.digit_count()) - scale > MAX_NUMERIC_INTEGRAL_DIGITS as i64 {
        return Err(overflow());
    }
    Numeric::make(Decimal { mantissa: mantissa.scale_up(scale.unsigned_abs() as u32), scale: 0 })
}

fn parse_exponent(text: &[u8]) -> SqlResult<Option<i64>> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digit_run(digits) != digits.len() {
        return Ok(None);
    }
    let value = digits.iter().fold(0_i64, |value, d| value.saturating_mul(10).saturating_add(i64::from(d - b'0')));
    if value >= MAX_EXPONENT {
        return Err(overflow());
    }
    Ok(Some(if negative { -value } else { value }))
}

fn digit_run(text: &[u8]) -> usize {
    text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len())
}

impl NumericRef<'_> {
    /// Appends PostgreSQL's text.
    pub fn write_text(self, out: &mut Vec<u8>) {
        match self.value() {
            Value::NaN => out.extend_from_slice(b"NaN"),
            Value::Infinity { negative: false } => out.extend_from_slice(b"Infinity"),
            Value::Infinity { negative: true } => out.extend_from_slice(b"-Infinity"),
            Value::Finite(decimal) => {
                if decimal.mantissa.is_negative() {
                    out.push(b'-');
                }
                decimal.mantissa.with_digits(|digits| write_point(out, digits, decimal.scale as usize));
            }
        }
    }
}

fn write_point(out: &mut Vec<u8>, digits: &[u8], scale: usize) {
    if scale == 0 {
        out.extend_from_slice(digits);
        return;
    }
    match digits.len().checked_sub(scale) {
        None | Some(0) => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + scale - digits.len(), b'0');
            out.extend_from_slice(digits);
        }
        Some(whole) => {
            let (whole, fraction) = digits.split_at(whole);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.borrow().write_text(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}
