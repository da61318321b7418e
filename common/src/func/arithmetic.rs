//! Operators on integers and floats: exact in type, overflow and division errors.

use super::kernel::{division_by_zero, kernel, out_of_range};
use super::{Entry, Native};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};

/// The four operations of a pair of integer types, in the wider one.
macro_rules! integer_pair {
    ($params:literal, $result:literal, $word:literal, $a:ident, $b:ident, $r:ident, $int:ty) => {
        [
            Entry::new(
                concat!("+(", $params, ") -> ", $result),
                kernel!(|a: $a, b: $b| <$int>::from(a)
                    .checked_add(b.into())
                    .map(Datum::$r)
                    .ok_or_else(|| out_of_range($word))),
            )
            .native(Native::Add),
            Entry::new(
                concat!("-(", $params, ") -> ", $result),
                kernel!(|a: $a, b: $b| <$int>::from(a)
                    .checked_sub(b.into())
                    .map(Datum::$r)
                    .ok_or_else(|| out_of_range($word))),
            )
            .native(Native::Subtract),
            Entry::new(
                concat!("*(", $params, ") -> ", $result),
                kernel!(|a: $a, b: $b| <$int>::from(a)
                    .checked_mul(b.into())
                    .map(Datum::$r)
                    .ok_or_else(|| out_of_range($word))),
            )
            .native(Native::Multiply),
            Entry::new(
                concat!("/(", $params, ") -> ", $result),
                kernel!(|a: $a, b: $b| match b {
                    0 => Err(division_by_zero()),
                    _ => <$int>::from(a).checked_div(b.into()).map(Datum::$r).ok_or_else(|| out_of_range($word)),
                }),
            )
            .native(Native::Divide),
        ]
    };
}

/// What an integer type has of its own.
macro_rules! integer_own {
    ($ty:literal, $word:literal, $v:ident) => {
        [
            Entry::new(
                concat!("%(", $ty, ", ", $ty, ") -> ", $ty),
                kernel!(|a: $v, b: $v| match b {
                    0 => Err(division_by_zero()),
                    _ => Ok(Datum::$v(a.wrapping_rem(b))),
                }),
            )
            .native(Native::Modulo),
            Entry::new(
                concat!("mod(", $ty, ", ", $ty, ") -> ", $ty),
                kernel!(|a: $v, b: $v| match b {
                    0 => Err(division_by_zero()),
                    _ => Ok(Datum::$v(a.wrapping_rem(b))),
                }),
            ),
            Entry::new(
                concat!("-(", $ty, ") -> ", $ty),
                kernel!(|a: $v| a.checked_neg().map(Datum::$v).ok_or_else(|| out_of_range($word))),
            )
            .native(Native::Negate),
            Entry::new(concat!("+(", $ty, ") -> ", $ty), kernel!(|a: $v| Ok(Datum::$v(a)))),
            Entry::new(
                concat!("@(", $ty, ") -> ", $ty),
                kernel!(|a: $v| a.checked_abs().map(Datum::$v).ok_or_else(|| out_of_range($word))),
            ),
            Entry::new(
                concat!("abs(", $ty, ") -> ", $ty),
                kernel!(|a: $v| a.checked_abs().map(Datum::$v).ok_or_else(|| out_of_range($word))),
            ),
            Entry::new(concat!("&(", $ty, ", ", $ty, ") -> ", $ty), kernel!(|a: $v, b: $v| Ok(Datum::$v(a & b)))),
            Entry::new(concat!("|(", $ty, ", ", $ty, ") -> ", $ty), kernel!(|a: $v, b: $v| Ok(Datum::$v(a | b)))),
            Entry::new(concat!("#(", $ty, ", ", $ty, ") -> ", $ty), kernel!(|a: $v, b: $v| Ok(Datum::$v(a ^ b)))),
            Entry::new(concat!("~(", $ty, ") -> ", $ty), kernel!(|a: $v| Ok(Datum::$v(!a)))),
        ]
    };
}

/// Operations of a pair of float types, computed and checked in the wider one.
macro_rules! float_pair {
    ($params:literal, $result:literal, $a:ident, $b:ident, $r:ident, $float:ty) => {
        [
            Entry::new(
                concat!("+(", $params, ") -> ", $result),
                kernel!(|a: $a, b: $b| {
                    let (a, b) = (<$float>::from(a), <$float>::from(b));
                    let sum = a + b;
                    overflows(sum.is_infinite() && a.is_finite() && b.is_finite())?;
                    Ok(Datum::$r(sum))
                }),
            )
            .native(Native::Add),
            Entry::new(
                concat!("-(", $params, ") -> ", $result),
                kernel!(|a: $a, b: $b| {
                    let (a, b) = (<$float>::from(a), <$float>::from(b));
                    let difference = a - b;
                    overflows(difference.is_infinite() && a.is_finite() && b.is_finite())?;
                    Ok(Datum::$r(difference))
                }),
            )
            .native(Native::Subtract),
            Entry::new(
                concat!("*(", $params, ") -> ", $result),
                kernel!(|a: $a, b: $b| {
                    let (a, b) = (<$float>::from(a), <$float>::from(b));
                    let product = a * b;
                    overflows(product.is_infinite() && a.is_finite() && b.is_finite())?;
                    underflows(product == 0.0 && a != 0.0 && b != 0.0)?;
                    Ok(Datum::$r(product))
                }),
            )
            .native(Native::Multiply),
            Entry::new(
                concat!("/(", $params, ") -> ", $result),
                kernel!(|a: $a, b: $b| {
                    let (a, b) = (<$float>::from(a), <$float>::from(b));
                    if b == 0.0 && !a.is_nan() {
                        return Err(division_by_zero());
                    }
                    let quotient = a / b;
                    overflows(quotient.is_infinite() && a.is_finite())?;
                    underflows(quotient == 0.0 && a != 0.0 && b.is_finite())?;
                    Ok(Datum::$r(quotient))
                }),
            )
            .native(Native::Divide),
        ]
    };
}

macro_rules! float_own {
    ($ty:literal, $v:ident) => {
        [
            Entry::new(concat!("-(", $ty, ") -> ", $ty), kernel!(|a: $v| Ok(Datum::$v(-a)))).native(Native::Negate),
            Entry::new(concat!("+(", $ty, ") -> ", $ty), kernel!(|a: $v| Ok(Datum::$v(a)))),
            Entry::new(concat!("@(", $ty, ") -> ", $ty), kernel!(|a: $v| Ok(Datum::$v(a.abs())))),
            Entry::new(concat!("abs(", $ty, ") -> ", $ty), kernel!(|a: $v| Ok(Datum::$v(a.abs())))),
        ]
    };
}

pub(super) const INTEGER_PAIRS: &[[Entry; 4]] = &[
    integer_pair!("int4, int4", "int4", "integer", Int4, Int4, Int4, i32),
    integer_pair!("int8, int8", "int8", "bigint", Int8, Int8, Int8, i64),
    integer_pair!("int2, int2", "int2", "smallint", Int2, Int2, Int2, i16),
    integer_pair!("int2, int4", "int4", "integer", Int2, Int4, Int4, i32),
    integer_pair!("int4, int2", "int4", "integer", Int4, Int2, Int4, i32),
    integer_pair!("int2, int8", "int8", "bigint", Int2, Int8, Int8, i64),
    integer_pair!("int8, int2", "int8", "bigint", Int8, Int2, Int8, i64),
    integer_pair!("int4, int8", "int8", "bigint", Int4, Int8, Int8, i64),
    integer_pair!("int8, int4", "int8", "bigint", Int8, Int4, Int8, i64),
];

pub(super) const INTEGERS: &[[Entry; 10]] = &[
    integer_own!("int4", "integer", Int4),
    integer_own!("int8", "bigint", Int8),
    integer_own!("int2", "smallint", Int2),
];

pub(super) const FLOAT_PAIRS: &[[Entry; 4]] = &[
    float_pair!("float8, float8", "float8", Float8, Float8, Float8, f64),
    float_pair!("float4, float4", "float4", Float4, Float4, Float4, f32),
    float_pair!("float4, float8", "float8", Float4, Float8, Float8, f64),
    float_pair!("float8, float4", "float8", Float8, Float4, Float8, f64),
];

pub(super) const FLOATS: &[[Entry; 4]] = &[float_own!("float8", Float8), float_own!("float4", Float4)];

/// A shift counts modulo the width, as the processor does for PostgreSQL.
pub(super) const SHIFTS: &[Entry] = &[
    Entry::new("<<(int4, int4) -> int4", kernel!(|a: Int4, n: Int4| Ok(Datum::Int4(a.wrapping_shl(n as u32))))),
    Entry::new(">>(int4, int4) -> int4", kernel!(|a: Int4, n: Int4| Ok(Datum::Int4(a.wrapping_shr(n as u32))))),
    Entry::new("<<(int8, int4) -> int8", kernel!(|a: Int8, n: Int4| Ok(Datum::Int8(a.wrapping_shl(n as u32))))),
    Entry::new(">>(int8, int4) -> int8", kernel!(|a: Int8, n: Int4| Ok(Datum::Int8(a.wrapping_shr(n as u32))))),
    Entry::new(
        "<<(int2, int4) -> int2",
        kernel!(|a: Int2, n: Int4| Ok(Datum::Int2(i32::from(a).wrapping_shl(n as u32) as i16))),
    ),
    Entry::new(
        ">>(int2, int4) -> int2",
        kernel!(|a: Int2, n: Int4| Ok(Datum::Int2(i32::from(a).wrapping_shr(n as u32) as i16))),
    ),
];

/// 22003 when a float became infinite that was not.
pub(super) fn overflows(is: bool) -> SqlResult<()> {
    match is {
        true => Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")),
        false => Ok(()),
    }
}

/// 22003 when a float became zero that was not.
pub(super) fn underflows(is: bool) -> SqlResult<()> {
    match is {
        true => Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow")),
        false => Ok(()),
    }
}
