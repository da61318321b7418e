//! How kernels take their arguments apart and report what can go wrong in all of them.

use super::Context;
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::SqlType;
use crate::types::output::to_text;

/// A kernel from a body over typed arguments: `kernel!(|a: Int4, b: Int4| …)`, with the context first where it is needed: `kernel!(cx |a: Text| …)`.
macro_rules! kernel {
    (|| $body:expr) => {
        |_, _| $body
    };
    ($cx:ident || $body:expr) => {
        |$cx, _| $body
    };
    (|$($name:ident: $variant:ident),*| $body:expr) => {
        |_, args| match args {
            &[$(crate::datum::DatumRef::$variant($name)),*] => $body,
            _ => Err(crate::func::kernel::mismatch(args)),
        }
    };
    ($cx:ident |$($name:ident: $variant:ident),*| $body:expr) => {
        |$cx, args| match args {
            &[$(crate::datum::DatumRef::$variant($name)),*] => $body,
            _ => Err(crate::func::kernel::mismatch(args)),
        }
    };
}
pub(crate) use kernel;

/// Arguments that are not of the declared types: a fault of the caller, which has to write out all casts.
pub(crate) fn mismatch(args: &[DatumRef<'_>]) -> SqlError {
    SqlError::internal(format_args!("a function got arguments of the wrong kind: {args:?}"))
}

/// 22003 in the words of a type.
pub(crate) fn out_of_range(ty: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{ty} out of range"))
}

/// 22012.
pub(crate) fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// 22023.
pub(crate) fn invalid_parameter(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

pub(crate) fn text(value: impl Into<String>) -> SqlResult<Datum> {
    Ok(Datum::Text(value.into()))
}

pub(crate) fn boolean(value: bool) -> SqlResult<Datum> {
    Ok(Datum::Bool(value))
}

pub(crate) fn int4(value: Option<i32>) -> SqlResult<Datum> {
    value.map(Datum::Int4).ok_or_else(|| out_of_range("integer"))
}

/// A count that PostgreSQL gives as int4.
pub(crate) fn count(value: usize) -> SqlResult<Datum> {
    int4(i32::try_from(value).ok())
}

/// The text of a value, as its type prints it.
pub(crate) fn output(cx: &Context<'_>, ty: SqlType, value: DatumRef<'_>) -> SqlResult<String> {
    Ok(to_text(ty, -1, value, cx.env))
}
