//! Numeric arithmetic with PostgreSQL's result scales.

use super::int::Int;
use super::{Decimal, Numeric, Value};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::limits::MAX_NUMERIC_SCALE;
use std::cmp::Ordering;

/// Significant digits that a quotient has at least (PostgreSQL: `NUMERIC_MIN_SIG_DIGITS`).
pub(crate) const MIN_SIGNIFICANT_DIGITS: i64 = 16;
/// Largest scale that a computation chooses by itself (PostgreSQL: `NUMERIC_MAX_DISPLAY_SCALE`).
pub(crate) const MAX_DISPLAY_SCALE: i64 = 1000;
/// Largest scale that `round` and `trunc` take (PostgreSQL: `NUMERIC_MAX_RESULT_SCALE`).
const MAX_RESULT_SCALE: i32 = 2000;

#[cold]
fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

impl Value {
    /// -1, 0 or 1; NaN counts as 1.
    fn signum(&self) -> i8 {
        match self {
            Value::NaN => 1,
            Value::Infinity { negative } => {
                if *negative {
                    -1
                } else {
                    1
                }
            }
            Value::Finite(d) if d.mantissa.is_zero() => 0,
            Value::Finite(d) => {
                if d.mantissa.is_negative() {
                    -1
                } else {
                    1
                }
            }
        }
    }
}

impl Decimal {
    fn aligned(&self, other: &Decimal) -> (Int, Int, u32) {
        let scale = self.scale.max(other.scale);
        (self.mantissa.scale_up(scale - self.scale), other.mantissa.scale_up(scale - other.scale), scale)
    }

    /// Exponent and value of the first digit in base 10,000, by which PostgreSQL chooses scales.
    pub(crate) fn leading(&self) -> (i64, i64) {
        let Some(exponent) = self.exponent() else { return (0, 0) };
        let weight = (exponent - 1).div_euclid(4);
        let wanted = ((exponent - 1).rem_euclid(4) + 1) as usize;
        let first = self.mantissa.with_digits(|digits| {
            (0..wanted).fold(0, |value, i| value * 10 + digits.get(i).map_or(0, |d| i64::from(d - b'0')))
        });
        (weight, first)
    }

    /// The scale of a quotient.
    pub(crate) fn quotient_scale(&self, divisor: &Decimal) -> u32 {
        let ((weight, first), (divisor_weight, divisor_first)) = (self.leading(), divisor.leading());
        let mut quotient_weight = weight - divisor_weight;
        if first <= divisor_first {
            quotient_weight -= 1;
        }
        let scale = MIN_SIGNIFICANT_DIGITS - quotient_weight * 4;
        scale.max(i64::from(self.scale)).max(i64::from(divisor.scale)).clamp(0, MAX_DISPLAY_SCALE) as u32
    }

    /// The quotient with `scale` digits after the point, rounded half away from zero; `None` for a zero divisor.
    pub(crate) fn divide(&self, divisor: &Decimal, scale: u32) -> Option<Decimal> {
        let shift = i64::from(scale) + i64::from(divisor.scale) - i64::from(self.scale);
        let (numerator, denominator) = if shift >= 0 {
            (self.mantissa.scale_up(shift as u32), divisor.mantissa.clone())
        } else {
            (self.mantissa.clone(), divisor.mantissa.scale_up(shift.unsigned_abs() as u32))
        };
        Some(Decimal { mantissa: numerator.div_round(&denominator)?, scale })
    }

    pub(crate) fn truncate(&self, scale: u32) -> Decimal {
        if scale >= self.scale {
            return self.rescale(scale);
        }
        Decimal { mantissa: self.mantissa.scale_down_trunc(self.scale - scale), scale }
    }
}

impl Numeric {
    pub fn add(&self, other: &Numeric) -> SqlResult<Numeric> {
        if let (Some((a, s)), Some((b, t))) = (self.borrow().small(), other.borrow().small())
            && s == t
            && let Some(sum) = a.checked_add(b)
        {
            return Ok(Numeric::from_parts(sum, s));
        }
        match (self.value(), other.value()) {
            (Value::NaN, _) | (_, Value::NaN) => Ok(Numeric::nan()),
            (Value::Infinity { negative: a }, Value::Infinity { negative: b }) if a != b => Ok(Numeric::nan()),
            (Value::Infinity { negative }, _) | (_, Value::Infinity { negative }) => Ok(Numeric::infinity(negative)),
            (Value::Finite(a), Value::Finite(b)) => {
                let (a, b, scale) = a.aligned(&b);
                Numeric::make(Decimal { mantissa: a.add(&b), scale })
            }
        }
    }

    pub fn sub(&self, other: &Numeric) -> SqlResult<Numeric> {
        self.add(&other.neg())
    }

    pub fn mul(&self, other: &Numeric) -> SqlResult<Numeric> {
        match (self.value(), other.value()) {
            (Value::NaN, _) | (_, Value::NaN) => Ok(Numeric::nan()),
            (Value::Finite(a), Value::Finite(b)) => {
                let product = Decimal { mantissa: a.mantissa.mul(&b.mantissa), scale: a.scale + b.scale };
                Numeric::make(product.rescale(product.scale.min(MAX_NUMERIC_SCALE as u32)))
            }
            (a, b) => Ok(match a.signum() * b.signum() {
                0 => Numeric::nan(),
                sign => Numeric::infinity(sign < 0),
            }),
        }
    }

    /// The quotient, with at least 16 significant digits.
    pub fn div(&self, other: &Numeric) -> SqlResult<Numeric> {
        match self.special_quotient(other)? {
            Some(result) => Ok(result),
            None => self.finite_quotient(other, |a, b| a.divide(b, a.quotient_scale(b))),
        }
    }

    /// The whole part of the quotient (`div`).
    pub fn div_trunc(&self, other: &Numeric) -> SqlResult<Numeric> {
        if let Some(result) = self.special_quotient(other)? {
            return Ok(result);
        }
        self.finite_quotient(other, |a, b| {
            let (a, b, _) = a.aligned(b);
            Some(Decimal { mantissa: a.div_rem(&b)?.0, scale: 0 })
        })
    }

    fn finite_quotient(
        &self,
        other: &Numeric,
        divide: impl FnOnce(&Decimal, &Decimal) -> Option<Decimal>,
    ) -> SqlResult<Numeric> {
        match (self.value(), other.value()) {
            (Value::Finite(a), Value::Finite(b)) => divide(&a, &b).ok_or_else(division_by_zero).and_then(Numeric::make),
            _ => Ok(Numeric::nan()),
        }
    }

    /// The quotient when NaN or an infinity takes part.
    fn special_quotient(&self, other: &Numeric) -> SqlResult<Option<Numeric>> {
        Ok(match (self.value(), other.value()) {
            (Value::NaN, _) | (_, Value::NaN) | (Value::Infinity { .. }, Value::Infinity { .. }) => {
                Some(Numeric::nan())
            }
            (Value::Infinity { negative }, divisor) => match divisor.signum() {
                0 => return Err(division_by_zero()),
                sign => Some(Numeric::infinity(negative != (sign < 0))),
            },
            (Value::Finite(_), Value::Infinity { .. }) => Some(Numeric::zero()),
            (Value::Finite(_), Value::Finite(_)) => None,
        })
    }

    /// The remainder, with the dividend's sign.
    pub fn rem(&self, other: &Numeric) -> SqlResult<Numeric> {
        match (self.value(), other.value()) {
            (Value::NaN, _) | (_, Value::NaN) => Ok(Numeric::nan()),
            (Value::Infinity { .. }, divisor) => match divisor.signum() {
                0 => Err(division_by_zero()),
                _ => Ok(Numeric::nan()),
            },
            (Value::Finite(_), Value::Infinity { .. }) => Ok(self.clone()),
            (Value::Finite(a), Value::Finite(b)) => {
                let (a, b, scale) = a.aligned(&b);
                let (_, mantissa) = a.div_rem(&b).ok_or_else(division_by_zero)?;
                Numeric::make(Decimal { mantissa, scale })
            }
        }
    }

    #[must_use]
    pub fn neg(&self) -> Numeric {
        match self.value() {
            Value::NaN => Numeric::nan(),
            Value::Infinity { negative } => Numeric::infinity(!negative),
            Value::Finite(d) => self.unchecked(Decimal { mantissa: d.mantissa.neg(), scale: d.scale }),
        }
    }

    #[must_use]
    pub fn abs(&self) -> Numeric {
        if self.value().signum() < 0 { self.neg() } else { self.clone() }
    }

    /// -1, 0, 1 or NaN.
    #[must_use]
    pub fn sign(&self) -> Numeric {
        match self.value() {
            Value::NaN => Numeric::nan(),
            value => Numeric::from(i64::from(value.signum())),
        }
    }

    /// A result no larger than `self`, so within bounds.
    fn unchecked(&self, decimal: Decimal) -> Numeric {
        Numeric::make(decimal).unwrap_or_else(|_| self.clone())
    }

    pub fn ceil(&self) -> SqlResult<Numeric> {
        self.to_whole(|exact| exact == Ordering::Greater, 1)
    }

    pub fn floor(&self) -> SqlResult<Numeric> {
        self.to_whole(|exact| exact == Ordering::Less, -1)
    }

    /// Truncates, and steps by `step` where what was cut off compares to zero as `steps` says.
    fn to_whole(&self, steps: impl FnOnce(Ordering) -> bool, step: i128) -> SqlResult<Numeric> {
        let Value::Finite(decimal) = self.value() else { return Ok(self.clone()) };
        let whole = decimal.truncate(0);
        let mantissa =
            if steps(decimal.compare(&whole)) { whole.mantissa.add(&Int::Small(step)) } else { whole.mantissa };
        Numeric::make(Decimal { mantissa, scale: 0 })
    }

    /// Rounded half away from zero; a negative scale rounds before the point.
    pub fn round(&self, scale: i32) -> SqlResult<Numeric> {
        self.at_scale(scale, Decimal::rescale, Int::scale_down_round)
    }

    /// Cut toward zero; a negative scale cuts before the point.
    pub fn trunc(&self, scale: i32) -> SqlResult<Numeric> {
        self.at_scale(scale, Decimal::truncate, Int::scale_down_trunc)
    }

    fn at_scale(
        &self,
        scale: i32,
        fraction: impl FnOnce(&Decimal, u32) -> Decimal,
        whole: impl FnOnce(&Int, u32) -> Int,
    ) -> SqlResult<Numeric> {
        let Value::Finite(decimal) = self.value() else { return Ok(self.clone()) };
        let scale = scale.clamp(-MAX_RESULT_SCALE, MAX_RESULT_SCALE);
        Numeric::make(round_decimal(&decimal, scale, fraction, whole))
    }

    /// Rounds to the scale of `numeric(precision, scale)` and checks the precision.
    pub fn apply_typmod(&self, precision: i32, scale: i32) -> SqlResult<Numeric> {
        let field_overflow = |detail: String| {
            Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(detail))
        };
        let decimal = match self.value() {
            Value::NaN => return Ok(self.clone()),
            Value::Infinity { .. } => {
                return field_overflow(format!(
                    "A field with precision {precision}, scale {scale} cannot hold an infinite value."
                ));
            }
            Value::Finite(decimal) => decimal,
        };
        let rounded = round_decimal(&decimal, scale, Decimal::rescale, Int::scale_down_round);
        let digits = i64::from(precision) - i64::from(scale);
        if rounded.exponent().is_some_and(|exponent| exponent > digits) {
            let bound = if digits == 0 { "1".to_owned() } else { format!("10^{digits}") };
            return field_overflow(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
            ));
        }
        Numeric::make(rounded)
    }

    /// By a column's modifier, as `atttypmod` encodes it; -1 leaves the value as it is.
    pub fn apply_modifier(&self, modifier: i32) -> SqlResult<Numeric> {
        match precision_and_scale(modifier) {
            Some((precision, scale)) => self.apply_typmod(precision, scale),
            None => Ok(self.clone()),
        }
    }

    /// Without trailing zeros after the point (`trim_scale`).
    pub fn trim_scale(&self) -> SqlResult<Numeric> {
        let Value::Finite(decimal) = self.value() else { return Ok(self.clone()) };
        let needed = decimal.needed_scale();
        Numeric::make(decimal.rescale(needed))
    }

    /// The smallest scale that loses nothing (`min_scale`); `None` for NaN and infinities.
    pub fn min_scale(&self) -> Option<u32> {
        match self.value() {
            Value::Finite(decimal) => Some(decimal.needed_scale()),
            Value::NaN | Value::Infinity { .. } => None,
        }
    }

    /// Greatest common divisor, not negative.
    pub fn gcd(&self, other: &Numeric) -> SqlResult<Numeric> {
        match (self.value(), other.value()) {
            (Value::Finite(a), Value::Finite(b)) => {
                let (a, b, scale) = a.aligned(&b);
                Numeric::make(Decimal { mantissa: gcd(a.abs(), b.abs()), scale })
            }
            _ => Ok(Numeric::nan()),
        }
    }

    /// Least common multiple, not negative.
    pub fn lcm(&self, other: &Numeric) -> SqlResult<Numeric> {
        match (self.value(), other.value()) {
            (Value::Finite(a), Value::Finite(b)) => {
                let (a, b, scale) = a.aligned(&b);
                let divisor = gcd(a.abs(), b.abs());
                let mantissa = a.div_rem(&divisor).map_or(Int::ZERO, |(quotient, _)| quotient.mul(&b).abs());
                Numeric::make(Decimal { mantissa, scale })
            }
            _ => Ok(Numeric::nan()),
        }
    }
}

fn gcd(a: Int, b: Int) -> Int {
    let (mut a, mut b) = (a, b);
    while let Some((_, remainder)) = a.div_rem(&b) {
        (a, b) = (b, remainder);
    }
    a
}

fn round_decimal(
    decimal: &Decimal,
    scale: i32,
    fraction: impl FnOnce(&Decimal, u32) -> Decimal,
    whole: impl FnOnce(&Int, u32) -> Int,
) -> Decimal {
    match u32::try_from(scale) {
        Ok(scale) => fraction(decimal, scale),
        Err(_) => {
            let places = scale.unsigned_abs();
            Decimal { mantissa: whole(&decimal.mantissa, decimal.scale + places).scale_up(places), scale: 0 }
        }
    }
}

impl Decimal {
    fn needed_scale(&self) -> u32 {
        if self.mantissa.is_zero() {
            return 0;
        }
        let zeros = self.mantissa.with_digits(|digits| digits.iter().rev().take_while(|d| **d == b'0').count());
        self.scale.saturating_sub(zeros as u32)
    }
}

/// Precision and scale in a numeric's modifier.
pub fn precision_and_scale(modifier: i32) -> Option<(i32, i32)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    // Eleven bits with sign: PostgreSQL 15 allows scales from -1000 to 1000.
    Some(((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
}

/// The modifier of `numeric(precision, scale)`.
pub fn numeric_modifier(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | (scale & 0x7ff)) + 4
}
