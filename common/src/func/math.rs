//! Mathematical functions on floats and integers (PostgreSQL manual, "Mathematical Functions and Operators").

use super::Entry;
use super::arithmetic::{overflows, underflows};
use super::kernel::{int4, kernel, out_of_range};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("ceil(float8) -> float8", kernel!(|a: Float8| float(a.ceil()))),
    Entry::new("ceiling(float8) -> float8", kernel!(|a: Float8| float(a.ceil()))),
    Entry::new("floor(float8) -> float8", kernel!(|a: Float8| float(a.floor()))),
    Entry::new("round(float8) -> float8", kernel!(|a: Float8| float(a.round_ties_even()))),
    Entry::new("trunc(float8) -> float8", kernel!(|a: Float8| float(a.trunc()))),
    Entry::new(
        "sign(float8) -> float8",
        kernel!(|a: Float8| float(if a == 0.0 || a.is_nan() { a } else { a.signum() })),
    ),
    Entry::new("sqrt(float8) -> float8", kernel!(|a: Float8| sqrt(a))),
    Entry::new("|/(float8) -> float8", kernel!(|a: Float8| sqrt(a))),
    Entry::new("cbrt(float8) -> float8", kernel!(|a: Float8| float(a.cbrt()))),
    Entry::new("||/(float8) -> float8", kernel!(|a: Float8| float(a.cbrt()))),
    Entry::new(
        "exp(float8) -> float8",
        kernel!(|a: Float8| {
            let result = a.exp();
            overflows(result.is_infinite() && a.is_finite())?;
            underflows(result == 0.0 && a.is_finite())?;
            float(result)
        }),
    ),
    Entry::new("ln(float8) -> float8", kernel!(|a: Float8| logarithm(a, f64::ln))),
    Entry::new("log(float8) -> float8", kernel!(|a: Float8| logarithm(a, f64::log10))),
    Entry::new("log10(float8) -> float8", kernel!(|a: Float8| logarithm(a, f64::log10))),
    Entry::new("power(float8, float8) -> float8", kernel!(|a: Float8, b: Float8| power(a, b))),
    Entry::new("pow(float8, float8) -> float8", kernel!(|a: Float8, b: Float8| power(a, b))),
    Entry::new("^(float8, float8) -> float8", kernel!(|a: Float8, b: Float8| power(a, b))),
    Entry::new("pi() -> float8", kernel!(|| float(std::f64::consts::PI))),
    Entry::new(
        "degrees(float8) -> float8",
        kernel!(|a: Float8| {
            let result = a / (std::f64::consts::PI / 180.0);
            overflows(result.is_infinite() && a.is_finite())?;
            float(result)
        }),
    ),
    Entry::new("radians(float8) -> float8", kernel!(|a: Float8| float(a * (std::f64::consts::PI / 180.0)))),
    Entry::new("sin(float8) -> float8", kernel!(|a: Float8| finite(a, f64::sin))),
    Entry::new("cos(float8) -> float8", kernel!(|a: Float8| finite(a, f64::cos))),
    Entry::new("tan(float8) -> float8", kernel!(|a: Float8| finite(a, f64::tan))),
    Entry::new("cot(float8) -> float8", kernel!(|a: Float8| finite(a, |a| 1.0 / a.tan()))),
    Entry::new("asin(float8) -> float8", kernel!(|a: Float8| unit(a, f64::asin))),
    Entry::new("acos(float8) -> float8", kernel!(|a: Float8| unit(a, f64::acos))),
    Entry::new("atan(float8) -> float8", kernel!(|a: Float8| float(a.atan()))),
    Entry::new("atan2(float8, float8) -> float8", kernel!(|a: Float8, b: Float8| float(a.atan2(b)))),
    Entry::new("sinh(float8) -> float8", kernel!(|a: Float8| float(a.sinh()))),
    Entry::new("cosh(float8) -> float8", kernel!(|a: Float8| float(a.cosh()))),
    Entry::new("tanh(float8) -> float8", kernel!(|a: Float8| float(a.tanh()))),
    Entry::new("asinh(float8) -> float8", kernel!(|a: Float8| float(a.asinh()))),
    Entry::new(
        "acosh(float8) -> float8",
        kernel!(|a: Float8| match a < 1.0 {
            true => Err(not_in_range()),
            false => float(a.acosh()),
        }),
    ),
    Entry::new("atanh(float8) -> float8", kernel!(|a: Float8| unit(a, f64::atanh))),
    Entry::new(
        "gcd(int4, int4) -> int4",
        kernel!(|a: Int4, b: Int4| { int4(i32::try_from(gcd(a.unsigned_abs().into(), b.unsigned_abs().into())).ok()) }),
    ),
    Entry::new(
        "gcd(int8, int8) -> int8",
        kernel!(|a: Int8, b: Int8| { int8(i64::try_from(gcd(a.unsigned_abs(), b.unsigned_abs())).ok()) }),
    ),
    Entry::new(
        "lcm(int4, int4) -> int4",
        kernel!(|a: Int4, b: Int4| {
            int4(lcm(a.unsigned_abs().into(), b.unsigned_abs().into()).and_then(|v| v.try_into().ok()))
        }),
    ),
    Entry::new(
        "lcm(int8, int8) -> int8",
        kernel!(|a: Int8, b: Int8| { int8(lcm(a.unsigned_abs(), b.unsigned_abs()).and_then(|v| v.try_into().ok())) }),
    ),
    Entry::new(
        "width_bucket(float8, float8, float8, int4) -> int4",
        kernel!(|operand: Float8, low: Float8, high: Float8, count: Int4| width_bucket(operand, low, high, count)),
    ),
    Entry::new("random() -> float8", kernel!(cx || float((cx.env.draw() >> 11) as f64 / (1u64 << 53) as f64)))
        .volatile(),
];

fn float(value: f64) -> SqlResult<Datum> {
    Ok(Datum::Float8(value))
}

fn int8(value: Option<i64>) -> SqlResult<Datum> {
    value.map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))
}

fn not_in_range() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range")
}

fn sqrt(a: f64) -> SqlResult<Datum> {
    match a < 0.0 {
        true => Err(SqlError::new(
            SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            "cannot take square root of a negative number",
        )),
        false => float(a.sqrt()),
    }
}

/// 2201E in PostgreSQL's words.
pub(super) fn no_logarithm(zero: bool) -> SqlError {
    let of = if zero { "zero" } else { "a negative number" };
    SqlError::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, format!("cannot take logarithm of {of}"))
}

fn logarithm(a: f64, log: fn(f64) -> f64) -> SqlResult<Datum> {
    match a <= 0.0 {
        true => Err(no_logarithm(a == 0.0)),
        false => float(log(a)),
    }
}

fn power(a: f64, b: f64) -> SqlResult<Datum> {
    let refuse = |message| Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message));
    if a == 0.0 && b < 0.0 {
        return refuse("zero raised to a negative power is undefined");
    }
    if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
        return refuse("a negative number raised to a non-integer power yields a complex result");
    }
    let result = a.powf(b);
    overflows(result.is_infinite() && a.is_finite() && b.is_finite())?;
    underflows(result == 0.0 && a != 0.0 && a.is_finite() && b.is_finite())?;
    float(result)
}

fn finite(a: f64, f: fn(f64) -> f64) -> SqlResult<Datum> {
    match a.is_infinite() {
        true => Err(not_in_range()),
        false => float(f(a)),
    }
}

fn unit(a: f64, f: fn(f64) -> f64) -> SqlResult<Datum> {
    match a.abs() > 1.0 {
        true => Err(not_in_range()),
        false => float(f(a)),
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn lcm(a: u64, b: u64) -> Option<u64> {
    match gcd(a, b) {
        0 => Some(0),
        divisor => (a / divisor).checked_mul(b),
    }
}

fn width_bucket(operand: f64, low: f64, high: f64, count: i32) -> SqlResult<Datum> {
    let refuse = |message: &str| Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION, message));
    if count <= 0 {
        return refuse("count must be greater than zero");
    }
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return refuse("operand, lower bound, and upper bound cannot be NaN");
    }
    if low.is_infinite() || high.is_infinite() {
        return refuse("lower and upper bounds must be finite");
    }
    if low == high {
        return refuse("lower bound cannot equal upper bound");
    }
    let (below, above) = if low < high { (operand < low, operand >= high) } else { (operand > low, operand <= high) };
    match (below, above) {
        (true, _) => Ok(Datum::Int4(0)),
        (_, true) => int4(count.checked_add(1)),
        _ => {
            let bucket = f64::from(count) * ((operand - low) / (high - low));
            Ok(Datum::Int4((bucket as i32).min(count - 1) + 1))
        }
    }
}

/// `factorial(bigint)` stays below PostgreSQL's own limit on the digits of numeric.
pub(super) fn check_factorial(n: i64) -> SqlResult<()> {
    match n {
        i64::MIN..0 => {
            Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "factorial of a negative number is undefined"))
        }
        0..=32_177 => Ok(()),
        _ => Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")),
    }
}
