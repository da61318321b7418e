//! Roots, logarithms and powers of numerics, with PostgreSQL's result scales.

use super::arithmetic::{MAX_DISPLAY_SCALE, MIN_SIGNIFICANT_DIGITS};
use super::int::Int;
use super::{Decimal, Numeric, Value, overflow};
use crate::error::{SqlError, SqlResult, SqlState};
use std::cmp::Ordering;

/// Digits that intermediate results have more than what is asked for.
const GUARD: u32 = 12;
/// Results beyond this many digits before the point overflow.
const MAX_WEIGHT: f64 = 131_072.0;
/// The decimal exponent of e^6000, where PostgreSQL stops.
const MAX_EXP: f64 = 6000.0 * std::f64::consts::LOG10_E;

fn fault(state: SqlState, message: &str) -> SqlError {
    SqlError::new(state, message.to_owned())
}

/// Scales that PostgreSQL chooses lie between 0 and 1000, and not below the arguments'.
fn choose_scale(wanted: i64, least: u32) -> u32 {
    wanted.max(i64::from(least)).clamp(0, MAX_DISPLAY_SCALE) as u32
}

/// A fixed-point number: `value` × 10^-`scale`, the same scale throughout one computation.
#[derive(Clone)]
struct Fixed {
    value: Int,
    scale: u32,
}

impl Fixed {
    fn new(decimal: &Decimal, scale: u32) -> Fixed {
        Fixed { value: decimal.rescale(scale).mantissa, scale }
    }

    fn whole(value: i64, scale: u32) -> Fixed {
        Fixed { value: Int::Small(i128::from(value)).scale_up(scale), scale }
    }

    fn mul(&self, other: &Fixed) -> Fixed {
        Fixed { value: self.value.mul(&other.value).scale_down_round(self.scale), scale: self.scale }
    }

    fn div(&self, other: &Fixed) -> Fixed {
        let value = self.value.scale_up(self.scale).div_round(&other.value).unwrap_or(Int::ZERO);
        Fixed { value, scale: self.scale }
    }

    fn div_small(&self, divisor: i64) -> Fixed {
        let value = self.value.div_round(&Int::Small(i128::from(divisor))).unwrap_or(Int::ZERO);
        Fixed { value, scale: self.scale }
    }

    fn add(&self, other: &Fixed) -> Fixed {
        Fixed { value: self.value.add(&other.value), scale: self.scale }
    }

    fn sub(&self, other: &Fixed) -> Fixed {
        Fixed { value: self.value.sub(&other.value), scale: self.scale }
    }

    fn decimal(&self) -> Decimal {
        Decimal { mantissa: self.value.clone(), scale: self.scale }
    }

    /// The whole number square root of value × 10^scale.
    fn sqrt(&self) -> Fixed {
        let value = Int::from_big(self.value.scale_up(self.scale).to_big().sqrt());
        Fixed { value, scale: self.scale }
    }
}

/// The natural logarithm of a positive number, correct to about `digits` digits after the point.
fn ln_fixed(number: &Decimal, digits: u32) -> Fixed {
    // Numbers near 0 need digits in front to be told from 0.
    let leading = number.exponent().map_or(0, |exponent| (1 - exponent).max(0)) as u32;
    let scale = digits + GUARD + leading;
    let mut x = Fixed::new(number, scale);
    let one = Fixed::whole(1, scale);
    let (low, high) = (Fixed::whole(9, scale).div_small(10), Fixed::whole(11, scale).div_small(10));
    let mut factor = Int::ONE;
    while x.value.cmp(&low.value) == Ordering::Less || x.value.cmp(&high.value) == Ordering::Greater {
        x = x.sqrt();
        factor = factor.add(&factor);
    }
    // ln x = 2 artanh((x - 1) / (x + 1))
    let z = x.sub(&one).div(&x.add(&one));
    let square = z.mul(&z);
    let mut power = z.clone();
    let mut sum = z;
    let mut n = 1;
    while !power.value.is_zero() {
        power = power.mul(&square);
        n += 2;
        sum = sum.add(&power.div_small(n));
    }
    let value = sum.value.add(&sum.value).mul(&factor);
    Fixed { value, scale }
}

/// e to the power of `x`, correct to about `digits` digits after the point; `x` × log10(e) is below the largest weight.
fn exp_fixed(x: &Decimal, digits: u32, weight: u32) -> Fixed {
    let scale = digits + GUARD + weight + 8;
    let mut reduced = Fixed::new(x, scale);
    let bound = Fixed::whole(1, scale).div_small(100);
    let mut halvings = 0;
    while reduced.value.abs().cmp(&bound.value) == Ordering::Greater {
        reduced = reduced.div_small(2);
        halvings += 1;
    }
    let mut term = Fixed::whole(1, scale);
    let mut sum = term.clone();
    let mut n = 1;
    while !term.value.is_zero() {
        term = term.mul(&reduced).div_small(n);
        sum = sum.add(&term);
        n += 1;
    }
    for _ in 0..halvings {
        sum = sum.mul(&sum);
    }
    sum
}

/// log10 of a positive number as a float, good enough to choose scales by; near 1 by the distance from it.
fn estimate_log10(number: &Decimal) -> f64 {
    let one = Int::pow10(number.scale);
    let distance = Decimal { mantissa: number.mantissa.sub(&one), scale: number.scale };
    let ratio = lead_and_exponent(&distance).map_or(0.0, |(lead, exponent)| lead * 10_f64.powi(exponent as i32));
    if ratio.abs() < 0.1 {
        let sign = if distance.mantissa.is_negative() { -1.0 } else { 1.0 };
        return (sign * ratio).ln_1p() * std::f64::consts::LOG10_E;
    }
    lead_and_exponent(number).map_or(0.0, |(lead, exponent)| lead.log10() + exponent as f64)
}

/// The magnitude as a float below 1 and a power of ten; `None` for zero.
fn lead_and_exponent(number: &Decimal) -> Option<(f64, i64)> {
    let exponent = number.exponent()?;
    let lead = number.mantissa.with_digits(|digits| {
        let head: String = digits.iter().take(17).map(|d| char::from(*d)).collect();
        format!("0.{head}").parse().unwrap_or(0.5)
    });
    Some((lead, exponent))
}

/// Decimal digits before the point of the logarithm of a number (PostgreSQL: `estimate_ln_dweight`).
fn ln_weight(number: &Decimal) -> i64 {
    let near_one = number.compare(&Decimal { mantissa: Int::Small(9), scale: 1 }) != Ordering::Less
        && number.compare(&Decimal { mantissa: Int::Small(11), scale: 1 }) != Ordering::Greater;
    if near_one {
        // ln x is about x - 1 there.
        let one = Decimal { mantissa: Int::ONE, scale: 0 };
        let scale = number.scale;
        let distance = number.rescale(scale).mantissa.sub(&one.rescale(scale).mantissa);
        return match (Decimal { mantissa: distance, scale }).exponent() {
            // The distance's first digit in base 10,000 and the digits in it.
            Some(exponent) => exponent - 1,
            None => 0,
        };
    }
    if number.mantissa.is_zero() {
        return 0;
    }
    let log = estimate_log10(number) * std::f64::consts::LN_10;
    log.abs().log10() as i64
}

fn finite(value: Value) -> Decimal {
    match value {
        Value::Finite(decimal) => decimal,
        Value::NaN | Value::Infinity { .. } => Decimal { mantissa: Int::ZERO, scale: 0 },
    }
}

impl Numeric {
    pub fn sqrt(&self) -> SqlResult<Numeric> {
        let negative =
            || fault(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, "cannot take square root of a negative number");
        let x = match self.value() {
            Value::NaN => return Ok(Numeric::nan()),
            Value::Infinity { negative: true } => return Err(negative()),
            Value::Infinity { negative: false } => return Ok(self.clone()),
            Value::Finite(x) => x,
        };
        if x.mantissa.is_negative() {
            return Err(negative());
        }
        let (weight, _) = x.leading();
        let result_weight = if weight >= 0 { weight * 4 / 2 + 1 } else { 1 - (-weight * 4) / 2 };
        let scale = choose_scale(MIN_SIGNIFICANT_DIGITS - result_weight, x.scale);
        // One digit more than asked for, so that rounding sees it; the root is cut, and a root that ends exactly in 5 is exact.
        let root = Fixed::new(&x.rescale(x.scale.max(2 * scale + 2)), x.scale.max(2 * scale + 2));
        let mantissa = Int::from_big(root.value.scale_up(root.scale % 2).to_big().sqrt());
        let root = Decimal { mantissa, scale: root.scale.div_ceil(2) };
        Numeric::make(root.rescale(scale))
    }

    fn check_logarithm(&self) -> SqlResult<Option<Numeric>> {
        let state = SqlState::INVALID_ARGUMENT_FOR_LOGARITHM;
        match self.value() {
            Value::NaN => Ok(Some(Numeric::nan())),
            Value::Infinity { negative: false } => Ok(Some(self.clone())),
            Value::Infinity { negative: true } => Err(fault(state, "cannot take logarithm of a negative number")),
            Value::Finite(x) if x.mantissa.is_negative() => {
                Err(fault(state, "cannot take logarithm of a negative number"))
            }
            Value::Finite(x) if x.mantissa.is_zero() => Err(fault(state, "cannot take logarithm of zero")),
            Value::Finite(_) => Ok(None),
        }
    }

    /// The natural logarithm.
    pub fn ln(&self) -> SqlResult<Numeric> {
        if let Some(special) = self.check_logarithm()? {
            return Ok(special);
        }
        let x = finite(self.value());
        let scale = choose_scale(MIN_SIGNIFICANT_DIGITS - ln_weight(&x), x.scale);
        Numeric::make(ln_fixed(&x, scale).decimal().rescale(scale))
    }

    /// The logarithm to a base.
    pub fn log(&self, base: &Numeric) -> SqlResult<Numeric> {
        if base.borrow().is_nan() || self.borrow().is_nan() {
            return Ok(Numeric::nan());
        }
        let negative = |number: &Numeric| number.sign().compare(&Numeric::zero()) == Ordering::Less;
        if negative(self) {
            self.check_logarithm()?;
        }
        let special = (base.check_logarithm()?, self.check_logarithm()?);
        match special {
            (None, None) => {}
            (base, x) => {
                let infinite = |v: &Option<Numeric>| v.as_ref().is_some_and(|n| !n.borrow().is_nan());
                return match (infinite(&base), infinite(&x)) {
                    (true, false) if x.is_none() => Ok(Numeric::zero()),
                    (false, true) if base.is_none() => Ok(Numeric::infinity(false)),
                    _ => Ok(Numeric::nan()),
                };
            }
        }
        let (x, b) = (finite(self.value()), finite(base.value()));
        let (base_weight, weight) = (ln_weight(&b), ln_weight(&x));
        let result_weight = weight - base_weight;
        let scale = choose_scale(MIN_SIGNIFICANT_DIGITS - result_weight, x.scale.max(b.scale));
        let digits = (i64::from(scale) + result_weight.max(0) - base_weight.min(0) * 2).max(0) as u32 + 8;
        let (numerator, denominator) = (ln_fixed(&x, digits).decimal(), ln_fixed(&b, digits).decimal());
        let quotient = numerator
            .divide(&denominator, scale)
            .ok_or_else(|| fault(SqlState::DIVISION_BY_ZERO, "division by zero"))?;
        Numeric::make(quotient)
    }

    /// The logarithm to base 10.
    pub fn log10(&self) -> SqlResult<Numeric> {
        self.log(&Numeric::from(10_i64))
    }

    /// e to the power of this.
    pub fn exp(&self) -> SqlResult<Numeric> {
        let x = match self.value() {
            Value::NaN => return Ok(Numeric::nan()),
            Value::Infinity { negative: true } => return Ok(Numeric::zero()),
            Value::Infinity { negative: false } => return Ok(self.clone()),
            Value::Finite(x) => x,
        };
        let estimate = self.to_f64().unwrap_or(f64::MAX) * std::f64::consts::LOG10_E;
        let weight = estimate.clamp(-f64::from(2 * MAX_DISPLAY_SCALE as i32), f64::from(2 * MAX_DISPLAY_SCALE as i32));
        let scale = choose_scale(MIN_SIGNIFICANT_DIGITS - weight as i64, x.scale);
        exp_checked(&x, estimate, scale)
    }

    /// This to the power of `exponent`.
    pub fn power(&self, exponent: &Numeric) -> SqlResult<Numeric> {
        let state = SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION;
        if let Some(special) = self.special_power(exponent)? {
            return Ok(special);
        }
        let (base, power) = (finite(self.value()), finite(exponent.value()));
        let whole = power.truncate(0).compare(&power) == Ordering::Equal;
        if base.mantissa.is_negative() && !whole {
            return Err(fault(state, "a negative number raised to a non-integer power yields a complex result"));
        }
        if let Int::Small(n) = power.truncate(0).mantissa
            && whole
            && let Ok(n) = i32::try_from(n)
        {
            return power_whole(&base, n, power.scale);
        }
        if base.mantissa.is_zero() {
            return Numeric::make(Decimal { mantissa: Int::ZERO, scale: MIN_SIGNIFICANT_DIGITS as u32 });
        }
        let negative = base.mantissa.is_negative() && power.truncate(0).mantissa.is_odd();
        let magnitude = Decimal { mantissa: base.mantissa.abs(), scale: base.scale };
        let float_power = exponent.to_f64().unwrap_or(f64::MAX);
        let estimate = estimate_log10(&magnitude) * float_power;
        let limit = f64::from(2 * MAX_DISPLAY_SCALE as i32);
        let weight = estimate.clamp(-limit, limit) as i64;
        let scale = choose_scale(MIN_SIGNIFICANT_DIGITS - weight, base.scale.max(power.scale));
        if estimate >= MAX_EXP {
            return Err(overflow());
        }
        if estimate <= -MAX_EXP {
            return Numeric::make(Decimal { mantissa: Int::ZERO, scale: MAX_DISPLAY_SCALE as u32 });
        }
        let power_digits = power.exponent().map_or(0, |e| e.max(0)) as u32;
        let digits = scale + weight.max(0) as u32 + power_digits + 8;
        let logarithm = ln_fixed(&magnitude, digits).decimal();
        let product =
            Decimal { mantissa: logarithm.mantissa.mul(&power.mantissa), scale: logarithm.scale + power.scale };
        let result = exp_checked(&product.rescale(digits), estimate, scale)?;
        Ok(if negative { result.neg() } else { result })
    }

    /// Powers in which NaN, an infinity or 0 to a negative power takes part.
    fn special_power(&self, exponent: &Numeric) -> SqlResult<Option<Numeric>> {
        let state = SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION;
        let is = |value: &Value, n: i128| match value {
            Value::Finite(d) => d.compare(&Decimal { mantissa: Int::Small(n), scale: 0 }) == Ordering::Equal,
            Value::NaN | Value::Infinity { .. } => false,
        };
        let (base, power) = (self.value(), exponent.value());
        let one = || Some(Numeric::from(1_i64));
        Ok(match (&base, &power) {
            (Value::NaN, other) => {
                if is(other, 0) {
                    one()
                } else {
                    Some(Numeric::nan())
                }
            }
            (other, Value::NaN) => {
                if is(other, 1) {
                    one()
                } else {
                    Some(Numeric::nan())
                }
            }
            (Value::Finite(b), Value::Infinity { negative: true }) if b.mantissa.is_zero() => {
                return Err(fault(state, "zero raised to a negative power is undefined"));
            }
            (Value::Finite(b), Value::Finite(p)) => {
                if b.mantissa.is_zero() && p.mantissa.is_negative() {
                    return Err(fault(state, "zero raised to a negative power is undefined"));
                }
                None
            }
            (Value::Finite(b), Value::Infinity { negative }) => {
                if is(&base, 1) || is(&base, -1) {
                    return Ok(one());
                }
                let magnitude = Decimal { mantissa: b.mantissa.abs(), scale: b.scale };
                let grows = magnitude.compare(&Decimal { mantissa: Int::ONE, scale: 0 }) == Ordering::Greater;
                if grows == *negative { Some(Numeric::zero()) } else { Some(Numeric::infinity(false)) }
            }
            (Value::Infinity { .. }, _) if is(&power, 0) => one(),
            (Value::Infinity { .. }, Value::Infinity { negative }) => {
                if *negative {
                    Some(Numeric::zero())
                } else {
                    Some(Numeric::infinity(false))
                }
            }
            (Value::Infinity { negative }, Value::Finite(p)) => {
                if *negative && p.truncate(0).compare(p) != Ordering::Equal {
                    return Err(fault(
                        state,
                        "a negative number raised to a non-integer power yields a complex result",
                    ));
                }
                if p.mantissa.is_negative() {
                    return Ok(Some(Numeric::zero()));
                }
                Some(Numeric::infinity(*negative && p.truncate(0).mantissa.is_odd()))
            }
        })
    }
}

fn exp_checked(x: &Decimal, estimate: f64, scale: u32) -> SqlResult<Numeric> {
    if estimate >= MAX_EXP {
        return Err(overflow());
    }
    if estimate <= -MAX_EXP || estimate < -f64::from(scale) - 2.0 {
        return Numeric::make(Decimal { mantissa: Int::ZERO, scale });
    }
    Numeric::make(exp_fixed(x, scale, estimate.max(0.0) as u32 + 1).decimal().rescale(scale))
}

/// A whole power: exact where the digits allow, else rounded to 16 significant ones at least.
fn power_whole(base: &Decimal, n: i32, power_scale: u32) -> SqlResult<Numeric> {
    if n == 0 {
        let scale = choose_scale(MIN_SIGNIFICANT_DIGITS, base.scale.max(power_scale));
        return Numeric::make(Decimal { mantissa: Int::ONE, scale: 0 }.rescale(scale));
    }
    if base.mantissa.is_zero() {
        let scale = choose_scale(MIN_SIGNIFICANT_DIGITS, base.scale.max(power_scale));
        return Numeric::make(Decimal { mantissa: Int::ZERO, scale });
    }
    let magnitude = Decimal { mantissa: base.mantissa.abs(), scale: base.scale };
    let estimate = estimate_log10(&magnitude) * f64::from(n);
    if estimate > MAX_WEIGHT {
        return Err(overflow());
    }
    if estimate < -f64::from(MAX_DISPLAY_SCALE as i32) - 20.0 {
        return Numeric::make(Decimal { mantissa: Int::ZERO, scale: MAX_DISPLAY_SCALE as u32 });
    }
    let scale = choose_scale(MIN_SIGNIFICANT_DIGITS, base.scale.max(power_scale));
    // Working digits: those of the result, and what errors of the multiplications may take.
    let working = (estimate.abs() as u32) + scale + GUARD + 32 - n.unsigned_abs().leading_zeros();
    let mut result = Decimal { mantissa: Int::ONE, scale: 0 };
    let mut square = base.clone();
    let mut bits = n.unsigned_abs();
    while bits > 0 {
        if bits & 1 == 1 {
            result = significant(&product(&result, &square), working);
        }
        bits >>= 1;
        if bits > 0 {
            square = significant(&product(&square, &square), working);
        }
    }
    if n < 0 {
        let one = Decimal { mantissa: Int::ONE, scale: 0 };
        result = one.divide(&result, scale).ok_or_else(overflow)?;
    }
    Numeric::make(result.rescale(scale))
}

fn product(a: &Decimal, b: &Decimal) -> Decimal {
    Decimal { mantissa: a.mantissa.mul(&b.mantissa), scale: a.scale + b.scale }
}

/// At most `digits` significant digits, where that cuts only behind the point.
fn significant(number: &Decimal, digits: u32) -> Decimal {
    let excess = number.mantissa.digit_count().saturating_sub(digits).min(number.scale);
    if excess == 0 { number.clone() } else { number.rescale(number.scale - excess) }
}
