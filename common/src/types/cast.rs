//! Casts between types: which exist, where they may be used, and what they do to values.

use super::SqlType;
use super::bytea;
use super::calendar::{
    MICROS_PER_DAY, date_to_timestamp, is_finite_timestamp, round_to_precision, split_timestamp, timestamp_to_date,
};
use super::datum::Datum;
use super::input::parse_text;
use super::interval::Interval;
use super::json::{self, Json};
use super::numeric::Numeric;
use super::output::to_text;
use super::text::fit_length;
use crate::env::Env;
use crate::error::{SqlError, SqlResult, SqlState};
use serde::{Deserialize, Serialize};

/// How a cast came to be: it decides which casts are allowed and whether too long text is cut or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CastContext {
    Implicit,
    Assignment,
    Explicit,
}

/// The weakest context in which PostgreSQL casts from one type to another; `None` when it never does.
pub fn cast_kind(from: SqlType, to: SqlType) -> Option<CastContext> {
    if from == to || from == SqlType::Unknown {
        return (to != SqlType::Void).then_some(CastContext::Implicit);
    }
    if let (Some(from), Some(to)) = (from.element(), to.element()) {
        return cast_kind(from, to);
    }
    if matches!(from, SqlType::Void) || matches!(to, SqlType::Void | SqlType::Unknown) {
        return None;
    }
    catalog_cast(from, to).or_else(|| {
        let string = |ty| matches!(ty, SqlType::Text | SqlType::Varchar | SqlType::Bpchar | SqlType::Name);
        if string(to) {
            Some(CastContext::Assignment)
        } else if string(from) {
            Some(CastContext::Explicit)
        } else {
            None
        }
    })
}

/// The casts in `pg_cast`.
fn catalog_cast(from: SqlType, to: SqlType) -> Option<CastContext> {
    use CastContext::{Assignment, Explicit, Implicit};
    use SqlType::{
        Bool, Bpchar, Char, Date, Float4, Float8, Int2, Int4, Int8, Interval, Json, Jsonb, Name, Numeric, Oid,
        Regclass, Regtype, Text, Time, Timestamp, Timestamptz, Varchar,
    };
    Some(match (from, to) {
        (Int2, Int4 | Int8 | Float4 | Float8 | Numeric | Oid | Regclass | Regtype)
        | (Int4, Int8 | Float4 | Float8 | Numeric | Oid | Regclass | Regtype)
        | (Int8, Float4 | Float8 | Numeric | Oid | Regclass | Regtype)
        | (Numeric, Float4 | Float8)
        | (Float4, Float8)
        | (Oid, Regclass | Regtype)
        | (Regclass | Regtype, Oid)
        | (Text | Varchar, Regclass)
        | (Text, Bpchar | Varchar | Name)
        | (Varchar, Text | Bpchar | Name)
        | (Bpchar, Text | Varchar | Name)
        | (Name | Char, Text)
        | (Date, Timestamp | Timestamptz)
        | (Time, Interval)
        | (Timestamp, Timestamptz) => Implicit,
        (Int4, Int2)
        | (Int8, Int2 | Int4)
        | (Float4 | Float8, Int2 | Int4 | Int8 | Numeric)
        | (Float8, Float4)
        | (Numeric, Int2 | Int4 | Int8)
        | (Oid | Regclass | Regtype, Int4 | Int8)
        | (Bool, Text | Varchar | Bpchar)
        | (Name | Char, Varchar | Bpchar)
        | (Text | Varchar | Bpchar, Char)
        | (Timestamp, Date | Time)
        | (Timestamptz, Date | Time | Timestamp)
        | (Interval, Time)
        | (Json, Jsonb)
        | (Jsonb, Json) => Assignment,
        (Bool | Char, Int4) | (Int4, Bool | Char) | (Jsonb, Bool | Int2 | Int4 | Int8 | Float4 | Float8 | Numeric) => {
            Explicit
        }
        _ => return None,
    })
}

/// A value of type `from` as one of type `to`. Whether the cast is allowed was decided before; the context says what happens to too long text.
pub fn cast(
    value: Datum,
    from: SqlType,
    to: SqlType,
    modifier: i32,
    context: CastContext,
    env: &Env,
) -> SqlResult<Datum> {
    if value.is_null() {
        return Ok(Datum::Null);
    }
    let converted = if from == to { value } else { convert(value, from, to, context, env)? };
    if modifier < 0 { Ok(converted) } else { apply_modifier(converted, to, modifier, context) }
}

/// The length, precision or scale of a modifier on a value that has the type already.
pub fn apply_modifier(value: Datum, ty: SqlType, modifier: i32, context: CastContext) -> SqlResult<Datum> {
    Ok(match (value, ty) {
        (Datum::Text(text), SqlType::Varchar | SqlType::Bpchar) => {
            let fitted = fit_length(&text, ty, modifier, context == CastContext::Explicit)?.len();
            let mut text = text;
            text.truncate(fitted);
            Datum::Text(text)
        }
        (Datum::Numeric(v), _) => Datum::Numeric(v.apply_modifier(modifier)?),
        (Datum::Time(v), _) => Datum::Time(round_to_precision(v, modifier)),
        (Datum::Timestamp(v), _) => Datum::Timestamp(round_to_precision(v, modifier)),
        (Datum::Timestamptz(v), _) => Datum::Timestamptz(round_to_precision(v, modifier)),
        (Datum::Interval(v), _) => Datum::Interval(v.round_to(modifier)),
        (Datum::Array(values), SqlType::Array(element)) => Datum::Array(
            values
                .into_iter()
                .map(|value| apply_modifier(value, element.ty(), modifier, context))
                .collect::<SqlResult<_>>()?,
        ),
        (other, _) => other,
    })
}

fn convert(value: Datum, from: SqlType, to: SqlType, context: CastContext, env: &Env) -> SqlResult<Datum> {
    match (value, to) {
        (Datum::Array(values), SqlType::Array(element)) => {
            let from = from.element().unwrap_or(SqlType::Unknown);
            let cast_one = |value| cast(value, from, element.ty(), -1, context, env);
            values.into_iter().map(cast_one).collect::<SqlResult<_>>().map(Datum::Array)
        }
        (Datum::Text(text), _) => convert_text(text, from, to, env),
        (Datum::Bool(v), SqlType::Text | SqlType::Varchar | SqlType::Bpchar) => {
            Ok(Datum::Text(if v { "true" } else { "false" }.to_owned()))
        }
        (value, SqlType::Text | SqlType::Varchar | SqlType::Bpchar | SqlType::Name | SqlType::Unknown) => {
            if from == SqlType::Regclass {
                env.relations.lookup()?;
            }
            Ok(Datum::Text(to_text(from, -1, value.borrow(), env)))
        }
        (Datum::Int2(v), _) => convert_integer(i64::from(v), from, to),
        (Datum::Int4(v), _) => convert_integer(i64::from(v), from, to),
        (Datum::Int8(v), _) => convert_integer(v, from, to),
        (Datum::Bool(v), SqlType::Int4) => Ok(Datum::Int4(i32::from(v))),
        (Datum::Oid(v), SqlType::Int4) => Ok(Datum::Int4(v as i32)),
        (Datum::Oid(v), SqlType::Int8) => Ok(Datum::Int8(i64::from(v))),
        (Datum::Oid(v), SqlType::Oid | SqlType::Regclass | SqlType::Regtype) => Ok(Datum::Oid(v)),
        (Datum::Float4(v), SqlType::Float8) => Ok(Datum::Float8(f64::from(v))),
        (Datum::Float4(v), SqlType::Numeric) => Ok(Datum::Numeric(Numeric::from(v))),
        (Datum::Float4(v), _) => convert_float(f64::from(v), from, to),
        (Datum::Float8(v), SqlType::Numeric) => Ok(Datum::Numeric(Numeric::from(v))),
        (Datum::Float8(v), _) => convert_float(v, from, to),
        (Datum::Numeric(v), _) => convert_numeric(&v, from, to),
        (value, _) => convert_time(value, from, to, env),
    }
}

#[cold]
fn impossible(from: SqlType, to: SqlType) -> SqlError {
    SqlError::new(SqlState::CANNOT_COERCE, format!("cannot cast type {from} to {to}"))
}

#[cold]
fn number_out_of_range(what: impl std::fmt::Display) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{what} out of range"))
}

fn convert_integer(value: i64, from: SqlType, to: SqlType) -> SqlResult<Datum> {
    Ok(match to {
        SqlType::Int2 => Datum::Int2(i16::try_from(value).map_err(|_| number_out_of_range(to))?),
        SqlType::Int4 => Datum::Int4(i32::try_from(value).map_err(|_| number_out_of_range(to))?),
        SqlType::Int8 => Datum::Int8(value),
        SqlType::Float4 => Datum::Float4(value as f32),
        SqlType::Float8 => Datum::Float8(value as f64),
        SqlType::Numeric => Datum::Numeric(Numeric::from(value)),
        SqlType::Bool => Datum::Bool(value != 0),
        SqlType::Oid | SqlType::Regclass | SqlType::Regtype => Datum::Oid(match from {
            SqlType::Int8 => u32::try_from(value).map_err(|_| number_out_of_range("OID"))?,
            _ => value as u32,
        }),
        SqlType::Char => {
            let byte = i8::try_from(value).map_err(|_| number_out_of_range("\"char\""))? as u8;
            if byte >= 0x80 {
                return Err(SqlError::unsupported("a \"char\" that is not ASCII"));
            }
            Datum::Text(if byte == 0 { String::new() } else { char::from(byte).to_string() })
        }
        _ => return Err(impossible(from, to)),
    })
}

fn convert_float(value: f64, from: SqlType, to: SqlType) -> SqlResult<Datum> {
    let whole = value.round_ties_even();
    let between = |min: f64, end: f64| (min..end).contains(&whole);
    let two = |power: i32| 2_f64.powi(power);
    Ok(match to {
        SqlType::Int2 if between(-two(15), two(15)) => Datum::Int2(whole as i16),
        SqlType::Int4 if between(-two(31), two(31)) => Datum::Int4(whole as i32),
        SqlType::Int8 if between(-two(63), two(63)) => Datum::Int8(whole as i64),
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => return Err(number_out_of_range(to)),
        SqlType::Float4 => {
            let narrow = value as f32;
            let fault =
                |what: &str| SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("value out of range: {what}"));
            if narrow.is_infinite() && value.is_finite() {
                return Err(fault("overflow"));
            }
            if narrow == 0.0 && value != 0.0 {
                return Err(fault("underflow"));
            }
            Datum::Float4(narrow)
        }
        _ => return Err(impossible(from, to)),
    })
}

fn convert_numeric(value: &Numeric, from: SqlType, to: SqlType) -> SqlResult<Datum> {
    Ok(match to {
        SqlType::Int2 => Datum::Int2(value.to_i16()?),
        SqlType::Int4 => Datum::Int4(value.to_i32()?),
        SqlType::Int8 => Datum::Int8(value.to_i64()?),
        SqlType::Float4 => Datum::Float4(value.to_f32()?),
        SqlType::Float8 => Datum::Float8(value.to_f64()?),
        _ => return Err(impossible(from, to)),
    })
}

fn convert_time(value: Datum, from: SqlType, to: SqlType, env: &Env) -> SqlResult<Datum> {
    let zone = &env.time_zone;
    let time_of = |local: i64| match is_finite_timestamp(local) {
        true => Datum::Time(split_timestamp(local).1),
        false => Datum::Null,
    };
    Ok(match (value, to) {
        (Datum::Date(v), SqlType::Timestamp) => Datum::Timestamp(date_to_timestamp(v)?),
        (Datum::Date(v), SqlType::Timestamptz) => Datum::Timestamptz(zone.to_utc(date_to_timestamp(v)?)),
        (Datum::Timestamp(v), SqlType::Timestamptz) => Datum::Timestamptz(zone.to_utc(v)),
        (Datum::Timestamp(v), SqlType::Date) => Datum::Date(timestamp_to_date(v)),
        (Datum::Timestamp(v), SqlType::Time) => time_of(v),
        (Datum::Timestamptz(v), SqlType::Timestamp) => Datum::Timestamp(zone.to_local(v)),
        (Datum::Timestamptz(v), SqlType::Date) => Datum::Date(timestamp_to_date(zone.to_local(v))),
        (Datum::Timestamptz(v), SqlType::Time) => time_of(zone.to_local(v)),
        (Datum::Time(v), SqlType::Interval) => Datum::Interval(Interval { months: 0, days: 0, micros: v }),
        (Datum::Interval(v), SqlType::Time) => Datum::Time(v.micros.rem_euclid(MICROS_PER_DAY)),
        _ => return Err(impossible(from, to)),
    })
}

fn convert_text(text: String, from: SqlType, to: SqlType, env: &Env) -> SqlResult<Datum> {
    Ok(match (from, to) {
        (SqlType::Jsonb, SqlType::Json) => Datum::Text(text),
        (SqlType::Json, SqlType::Jsonb) => Datum::Text(json::normalize(&text)?),
        (SqlType::Jsonb, SqlType::Bool) => match Json::parse(&text)? {
            Json::Bool(v) => Datum::Bool(v),
            other => return Err(json_mismatch(&other, to)),
        },
        (
            SqlType::Jsonb,
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Float4 | SqlType::Float8 | SqlType::Numeric,
        ) => match Json::parse(&text)? {
            Json::Number(v) if to == SqlType::Numeric => Datum::Numeric(v),
            Json::Number(v) => convert_numeric(&v, from, to)?,
            other => return Err(json_mismatch(&other, to)),
        },
        (SqlType::Char, SqlType::Int4) => Datum::Int4(text.bytes().next().map_or(0, |byte| i32::from(byte as i8))),
        (_, SqlType::Text | SqlType::Unknown) => Datum::Text(text),
        (_, SqlType::Varchar | SqlType::Bpchar) => {
            let kept = fit_length(&text, to, -1, true)?.len();
            let mut text = text;
            text.truncate(kept);
            Datum::Text(text)
        }
        (_, SqlType::Bytea) => Datum::Bytea(bytea::parse_bytea(&text)?.into()),
        (_, to) => parse_text(to, -1, &text, env)?,
    })
}

#[cold]
fn json_mismatch(value: &Json, to: SqlType) -> SqlError {
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "numeric",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("cannot cast jsonb {kind} to type {to}"))
}
