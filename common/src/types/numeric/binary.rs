//! Numeric in PostgreSQL's binary format: base-10,000 digits, big-endian.

use super::int::Int;
use super::{Decimal, Numeric, NumericRef, Value};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::limits::MAX_NUMERIC_SCALE;

const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xc000;
const SIGN_INFINITY: u16 = 0xd000;
const SIGN_NEGATIVE_INFINITY: u16 = 0xf000;
/// What PostgreSQL sends as the scale of an infinity.
const INFINITE_SCALE: u16 = 0x20;

impl NumericRef<'_> {
    /// Appends what `numeric_send` gives.
    pub fn write_binary(self, out: &mut Vec<u8>) {
        let decimal = match self.value() {
            Value::NaN => return write_header(out, 0, 0, SIGN_NAN, 0),
            Value::Infinity { negative: false } => return write_header(out, 0, 0, SIGN_INFINITY, INFINITE_SCALE),
            Value::Infinity { negative: true } => {
                return write_header(out, 0, 0, SIGN_NEGATIVE_INFINITY, INFINITE_SCALE);
            }
            Value::Finite(decimal) => decimal,
        };
        let scale = decimal.scale as u16;
        if decimal.mantissa.is_zero() {
            return write_header(out, 0, 0, 0, scale);
        }
        let sign = if decimal.mantissa.is_negative() { SIGN_NEGATIVE } else { 0 };
        // Zeros at the end make the fraction a whole number of base-10,000 digits.
        let aligned = decimal.mantissa.scale_up((4 - decimal.scale % 4) % 4);
        aligned.with_digits(|digits| {
            let lead = digits.len() % 4;
            let (first, rest) = digits.split_at(if lead == 0 { 4.min(digits.len()) } else { lead });
            let number = |group: &[u8]| group.iter().fold(0_u16, |n, d| n * 10 + u16::from(d - b'0'));
            let count = 1 + rest.len() / 4;
            let groups = std::iter::once(first).chain(rest.chunks(4)).map(number);
            let kept = groups.clone().enumerate().filter(|(_, group)| *group != 0).last().map_or(0, |(i, _)| i + 1);
            let weight = count as i64 - 1 - i64::from(decimal.scale.div_ceil(4));
            write_header(out, kept as u16, weight as i16, sign, scale);
            groups.take(kept).for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
        });
    }
}

fn write_header(out: &mut Vec<u8>, digits: u16, weight: i16, sign: u16, scale: u16) {
    out.extend_from_slice(&digits.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
}

impl Numeric {
    /// What `numeric_recv` reads.
    pub fn read_binary(bytes: &[u8]) -> SqlResult<Numeric> {
        let bad = |what: &str| SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, what.to_owned());
        let short = || SqlError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message");
        let (header, digits) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
        let [a, b, c, d, e, f, g, h] = *header;
        let count = usize::from(u16::from_be_bytes([a, b]));
        let weight = i16::from_be_bytes([c, d]);
        let sign = u16::from_be_bytes([e, f]);
        let scale = u16::from_be_bytes([g, h]);
        match sign {
            0 | SIGN_NEGATIVE => {}
            SIGN_NAN => return Ok(Numeric::nan()),
            SIGN_INFINITY => return Ok(Numeric::infinity(false)),
            SIGN_NEGATIVE_INFINITY => return Ok(Numeric::infinity(true)),
            _ => return Err(bad("invalid sign in external \"numeric\" value")),
        }
        if usize::from(scale) > MAX_NUMERIC_SCALE {
            return Err(bad("invalid scale in external \"numeric\" value"));
        }
        if digits.len() < count * 2 {
            return Err(short());
        }
        if digits.len() > count * 2 {
            return Err(bad("incorrect binary data format"));
        }
        let mut text = Vec::with_capacity(count * 4);
        for pair in digits.chunks_exact(2) {
            let [high, low] = pair else { continue };
            let digit = u16::from_be_bytes([*high, *low]);
            if digit >= 10_000 {
                return Err(bad("invalid digit in external \"numeric\" value"));
            }
            text.extend([digit / 1000, digit / 100 % 10, digit / 10 % 10, digit % 10].map(|d| b'0' + d as u8));
        }
        let magnitude = Int::from_digits(&text);
        let mantissa = if sign == SIGN_NEGATIVE { magnitude.neg() } else { magnitude };
        // The digits stand for mantissa × 10000^(weight - count + 1).
        let exponent = (i64::from(weight) - count as i64 + 1) * 4;
        let decimal = if mantissa.is_zero() {
            Decimal { mantissa, scale: 0 }
        } else if exponent >= 0 {
            Decimal { mantissa: mantissa.scale_up(exponent as u32), scale: 0 }
        } else {
            Decimal { mantissa, scale: exponent.unsigned_abs() as u32 }
        };
        // Hidden digits beyond the scale are cut, as PostgreSQL does.
        Numeric::make(decimal.truncate(u32::from(scale)))
    }
}
