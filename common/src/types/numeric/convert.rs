//! Numeric from and to the other number types.

use super::int::Int;
use super::{Decimal, Numeric, Value, encode_small};
use crate::error::{SqlError, SqlResult, SqlState};
use num_bigint::BigInt;

impl From<i64> for Numeric {
    fn from(value: i64) -> Numeric {
        encode_small(i128::from(value), 0)
    }
}

impl From<i32> for Numeric {
    fn from(value: i32) -> Numeric {
        encode_small(i128::from(value), 0)
    }
}

impl From<i128> for Numeric {
    fn from(value: i128) -> Numeric {
        encode_small(value, 0)
    }
}

impl From<f64> for Numeric {
    /// With 15 significant digits, as PostgreSQL's cast.
    fn from(value: f64) -> Numeric {
        from_scientific(&format!("{value:.14e}"), value)
    }
}

impl From<f32> for Numeric {
    /// With 6 significant digits, as PostgreSQL's cast.
    fn from(value: f32) -> Numeric {
        from_scientific(&format!("{value:.5e}"), f64::from(value))
    }
}

fn from_scientific(text: &str, value: f64) -> Numeric {
    if value.is_nan() {
        return Numeric::nan();
    }
    if value.is_infinite() {
        return Numeric::infinity(value < 0.0);
    }
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    Numeric::parse(&format!("{digits}e{exponent}")).unwrap_or_else(|_| Numeric::zero())
}

impl Numeric {
    /// The nearest whole number, halves away from zero; `type_name` is what messages call the target.
    fn to_whole_number(&self, type_name: &str) -> SqlResult<i128> {
        let refuse = |what: &str| {
            Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot convert {what} to {type_name}")))
        };
        match self.value() {
            Value::NaN => refuse("NaN"),
            Value::Infinity { .. } => refuse("infinity"),
            Value::Finite(decimal) => match decimal.rescale(0).mantissa {
                Int::Small(value) => Ok(value),
                Int::Big(_) => Err(out_of_range(type_name)),
            },
        }
    }

    pub fn to_i64(&self) -> SqlResult<i64> {
        i64::try_from(self.to_whole_number("bigint")?).map_err(|_| out_of_range("bigint"))
    }

    pub fn to_i32(&self) -> SqlResult<i32> {
        i32::try_from(self.to_whole_number("integer")?).map_err(|_| out_of_range("integer"))
    }

    pub fn to_i16(&self) -> SqlResult<i16> {
        i16::try_from(self.to_whole_number("smallint")?).map_err(|_| out_of_range("smallint"))
    }

    pub fn to_f64(&self) -> SqlResult<f64> {
        match self.value() {
            Value::NaN => Ok(f64::NAN),
            Value::Infinity { negative } => Ok(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
            Value::Finite(decimal) => {
                let text = self.to_string();
                let value: f64 = text.parse().unwrap_or(f64::INFINITY);
                let lost = value.is_infinite() || (value == 0.0 && !decimal.mantissa.is_zero());
                if lost { Err(float_out_of_range(&text, "double precision")) } else { Ok(value) }
            }
        }
    }

    pub fn to_f32(&self) -> SqlResult<f32> {
        match self.value() {
            Value::NaN => Ok(f32::NAN),
            Value::Infinity { negative } => Ok(if negative { f32::NEG_INFINITY } else { f32::INFINITY }),
            Value::Finite(decimal) => {
                let text = self.to_string();
                let value: f32 = text.parse().unwrap_or(f32::INFINITY);
                let lost = value.is_infinite() || (value == 0.0 && !decimal.mantissa.is_zero());
                if lost { Err(float_out_of_range(&text, "real")) } else { Ok(value) }
            }
        }
    }

    /// From a whole number of any size, given as little-endian two's complement bytes: what exact sums end in.
    pub fn from_signed_bytes(bytes: &[u8], scale: u16) -> SqlResult<Numeric> {
        let mantissa = Int::from_big(BigInt::from_signed_bytes_le(bytes));
        Numeric::make(Decimal { mantissa, scale: u32::from(scale) })
    }
}

#[cold]
fn out_of_range(type_name: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{type_name} out of range"))
}

#[cold]
fn float_out_of_range(text: &str, type_name: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("\"{text}\" is out of range for type {type_name}"))
}
