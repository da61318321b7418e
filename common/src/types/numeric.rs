//! PostgreSQL's numeric: exact decimal numbers with a display scale, NaN and infinities.
//!
//! Column encoding: two little-endian bytes of header, then the magnitude of *value × 10^scale* as little-endian bytes without trailing zeros.
//! The header's low 14 bits are the scale, the high two 00 for a positive number or zero, 01 for a negative one; C000, C001 and C002 are NaN,
//! infinity and -infinity. Up to 24 digits fit into 12 bytes, which an Arrow view holds inline.

mod arithmetic;
mod binary;
mod convert;
mod int;
mod roots;
mod text;

use crate::error::{SqlError, SqlResult, SqlState};
use crate::limits::{MAX_NUMERIC_INTEGRAL_DIGITS, MAX_NUMERIC_SCALE};
pub use arithmetic::{numeric_modifier, precision_and_scale};
use int::Int;
use num_bigint::{BigInt, Sign};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;
use std::cmp::Ordering;

const NEGATIVE: u16 = 0x4000;
const SPECIAL: u16 = 0xc000;
const SCALE_MASK: u16 = 0x3fff;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xc001;
const NEGATIVE_INFINITY: u16 = 0xc002;

/// An exact decimal number, held in its column encoding. `==` compares the encoding (1.1 is not 1.10); [`Numeric::compare`] the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numeric(SmallVec<[u8; 16]>);

/// A borrowed [`Numeric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumericRef<'a>(&'a [u8]);

/// A decoded numeric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    NaN,
    Infinity { negative: bool },
    Finite(Decimal),
}

/// `mantissa` × 10^-`scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) mantissa: Int,
    pub(crate) scale: u32,
}

impl Serialize for Numeric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Numeric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Numeric, D::Error> {
        let bytes = bytes::Bytes::deserialize(deserializer)?;
        match NumericRef::decode(&bytes) {
            Some(numeric) => Ok(numeric.to_owned()),
            None => Err(serde::de::Error::custom("malformed numeric encoding")),
        }
    }
}

impl Numeric {
    pub fn nan() -> Numeric {
        Numeric::special(NAN)
    }

    pub fn infinity(negative: bool) -> Numeric {
        Numeric::special(if negative { NEGATIVE_INFINITY } else { INFINITY })
    }

    pub fn zero() -> Numeric {
        Numeric::from(0_i64)
    }

    fn special(header: u16) -> Numeric {
        Numeric(SmallVec::from_slice(&header.to_le_bytes()))
    }

    /// `mantissa` × 10^-`scale`; `scale` is at most [`MAX_NUMERIC_SCALE`].
    pub fn from_parts(mantissa: i128, scale: u16) -> Numeric {
        encode_small(mantissa, scale & SCALE_MASK)
    }

    pub fn borrow(&self) -> NumericRef<'_> {
        NumericRef(&self.0)
    }

    /// The bytes by which columns and rows hold it; not comparable as bytes.
    pub fn encode(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn value(&self) -> Value {
        self.borrow().value()
    }

    /// PostgreSQL's order: -infinity, numbers, infinity, NaN; NaN equals itself.
    pub fn compare(&self, other: &Numeric) -> Ordering {
        self.borrow().compare(other.borrow())
    }

    /// A finite result: checked against PostgreSQL's bounds.
    pub(crate) fn make(decimal: Decimal) -> SqlResult<Numeric> {
        let Decimal { mantissa, scale } = decimal;
        if scale as usize > MAX_NUMERIC_SCALE {
            return Err(overflow());
        }
        match mantissa {
            Int::Small(v) => Ok(encode_small(v, scale as u16)),
            Int::Big(ref v) => {
                // A quick bound by bits, exact only near the limit.
                if v.bits() > 3 * MAX_NUMERIC_INTEGRAL_DIGITS as u64
                    && mantissa.digit_count() as usize > MAX_NUMERIC_INTEGRAL_DIGITS + scale as usize
                {
                    return Err(overflow());
                }
                let sign = if v.sign() == Sign::Minus { NEGATIVE } else { 0 };
                let mut bytes = SmallVec::from_slice(&(scale as u16 | sign).to_le_bytes());
                bytes.extend_from_slice(&v.magnitude().to_bytes_le());
                Ok(Numeric(bytes))
            }
        }
    }
}

/// `value overflows numeric format`.
#[cold]
pub(crate) fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

fn encode_small(mantissa: i128, scale: u16) -> Numeric {
    let header = scale | if mantissa < 0 { NEGATIVE } else { 0 };
    let magnitude = mantissa.unsigned_abs();
    let used = 16 - magnitude.leading_zeros() as usize / 8;
    let mut bytes = SmallVec::from_slice(&header.to_le_bytes());
    bytes.extend_from_slice(magnitude.to_le_bytes().get(..used).unwrap_or_default());
    Numeric(bytes)
}

impl<'a> NumericRef<'a> {
    /// From the column encoding; `None` when the bytes are not what [`Numeric::encode`] gives.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Option<NumericRef<'a>> {
        let ([low, high], magnitude) = bytes.split_first_chunk::<2>()?;
        let header = u16::from_le_bytes([*low, *high]);
        let valid = if header & SPECIAL == SPECIAL {
            magnitude.is_empty() && header <= NEGATIVE_INFINITY
        } else {
            match magnitude.last() {
                None => header & SPECIAL == 0,
                Some(last) => *last != 0 && header & SPECIAL != 0x8000,
            }
        };
        valid.then_some(NumericRef(bytes))
    }

    pub fn encode(self) -> &'a [u8] {
        self.0
    }

    pub fn to_owned(self) -> Numeric {
        Numeric(SmallVec::from_slice(self.0))
    }

    #[inline]
    fn header(self) -> u16 {
        match self.0 {
            [low, high, ..] => u16::from_le_bytes([*low, *high]),
            _ => NAN,
        }
    }

    #[inline]
    fn magnitude(self) -> &'a [u8] {
        self.0.get(2..).unwrap_or_default()
    }

    pub fn is_nan(self) -> bool {
        self.header() == NAN
    }

    pub fn is_finite(self) -> bool {
        self.header() & SPECIAL != SPECIAL
    }

    /// Digits after the point; 0 for NaN and infinities.
    pub fn scale(self) -> u16 {
        if self.is_finite() { self.header() & SCALE_MASK } else { 0 }
    }

    /// Mantissa and scale, when it is finite and the mantissa fits: the fast path of sums and comparisons.
    #[inline]
    pub fn small(self) -> Option<(i128, u16)> {
        let header = self.header();
        let magnitude = self.magnitude();
        if header & SPECIAL == SPECIAL || magnitude.len() > 16 {
            return None;
        }
        let mut bytes = [0; 16];
        bytes.get_mut(..magnitude.len())?.copy_from_slice(magnitude);
        let value = i128::try_from(u128::from_le_bytes(bytes)).ok()?;
        Some((if header & NEGATIVE != 0 { -value } else { value }, header & SCALE_MASK))
    }

    pub(crate) fn value(self) -> Value {
        if let Some((mantissa, scale)) = self.small() {
            return Value::Finite(Decimal { mantissa: Int::Small(mantissa), scale: u32::from(scale) });
        }
        let header = self.header();
        match header {
            NAN => Value::NaN,
            INFINITY => Value::Infinity { negative: false },
            NEGATIVE_INFINITY => Value::Infinity { negative: true },
            _ => {
                let sign = if header & NEGATIVE != 0 { Sign::Minus } else { Sign::Plus };
                let mantissa = Int::from_big(BigInt::from_bytes_le(sign, self.magnitude()));
                Value::Finite(Decimal { mantissa, scale: u32::from(header & SCALE_MASK) })
            }
        }
    }

    /// PostgreSQL's order: -infinity, numbers, infinity, NaN; NaN equals itself.
    pub fn compare(self, other: NumericRef<'_>) -> Ordering {
        if let (Some((a, s)), Some((b, t))) = (self.small(), other.small())
            && s == t
        {
            return a.cmp(&b);
        }
        match (self.value(), other.value()) {
            (Value::Finite(a), Value::Finite(b)) => a.compare(&b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    /// Appends bytes whose order is that of the values, whatever their scales: a class (-infinity, negative, zero, positive, infinity, NaN), the
    /// decimal exponent, the digits without trailing zeros two to a byte, and a terminator; all but the class inverted for negative numbers.
    pub fn write_sort_key(self, out: &mut Vec<u8>) {
        let decimal = match self.value() {
            Value::NaN => return out.push(6),
            Value::Infinity { negative } => return out.push(if negative { 1 } else { 5 }),
            Value::Finite(decimal) => decimal,
        };
        if decimal.mantissa.is_zero() {
            return out.push(3);
        }
        let negative = decimal.mantissa.is_negative();
        out.push(if negative { 2 } else { 4 });
        let start = out.len();
        decimal.mantissa.with_digits(|digits| {
            let exponent = (digits.len() as u32 + 0x80_0000).saturating_sub(decimal.scale);
            let [_, a, b, c] = exponent.to_be_bytes();
            out.extend_from_slice(&[a, b, c]);
            let used = digits.iter().rposition(|d| *d != b'0').map_or(0, |last| last + 1);
            for pair in digits.get(..used).unwrap_or_default().chunks(2) {
                let (high, low) = match pair {
                    [high, low] => (*high, *low),
                    [high] => (*high, b'0'),
                    _ => (b'0', b'0'),
                };
                out.push((high - b'0') * 10 + (low - b'0') + 1);
            }
        });
        out.push(0);
        if negative {
            out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
        }
    }
}

impl Value {
    fn rank(&self) -> i8 {
        match self {
            Value::Infinity { negative: true } => -1,
            Value::Finite(_) => 0,
            Value::Infinity { negative: false } => 1,
            Value::NaN => 2,
        }
    }
}

impl Decimal {
    pub(crate) fn compare(&self, other: &Decimal) -> Ordering {
        let scale = self.scale.max(other.scale);
        self.mantissa.scale_up(scale - self.scale).cmp(&other.mantissa.scale_up(scale - other.scale))
    }

    /// The same number with another scale, rounded half away from zero.
    pub(crate) fn rescale(&self, scale: u32) -> Decimal {
        let mantissa = if scale >= self.scale {
            self.mantissa.scale_up(scale - self.scale)
        } else {
            self.mantissa.scale_down_round(self.scale - scale)
        };
        Decimal { mantissa, scale }
    }

    /// Decimal exponent of the first digit plus one (1 for 1..10, 0 for 0.1..1); `None` for zero.
    pub(crate) fn exponent(&self) -> Option<i64> {
        let digits = self.mantissa.digit_count();
        (digits > 0).then(|| i64::from(digits) - i64::from(self.scale))
    }
}
