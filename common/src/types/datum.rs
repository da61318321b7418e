//! One value: owned in plans and results, borrowed on the hot path.

use super::array::ArrayRef;
use super::interval::Interval;
use super::numeric::{Numeric, NumericRef};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A value of any type; which [`crate::types::SqlType`] it has is known from where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Datum {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Float4(f32),
    Float8(f64),
    Numeric(Numeric),
    /// text, varchar, char(n) without padding, json, jsonb in its normal form, name, "char", unknown.
    Text(String),
    Bytea(Bytes),
    /// Days since 1970-01-01; `i32::MIN` and `i32::MAX` are -infinity and infinity.
    Date(i32),
    /// Microseconds since midnight; 24:00:00 is allowed.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00; `i64::MIN` and `i64::MAX` are the infinities.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 00:00 UTC; infinities as for timestamp.
    Timestamptz(i64),
    Interval(Interval),
    Uuid([u8; 16]),
    /// oid, regclass, regtype.
    Oid(u32),
    /// One-dimensional, elements of the array's element type.
    Array(Vec<Datum>),
}

/// A borrowed [`Datum`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DatumRef<'a> {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Float4(f32),
    Float8(f64),
    Numeric(NumericRef<'a>),
    Text(&'a str),
    Bytea(&'a [u8]),
    Date(i32),
    Time(i64),
    Timestamp(i64),
    Timestamptz(i64),
    Interval(Interval),
    Uuid([u8; 16]),
    Oid(u32),
    Array(ArrayRef<'a>),
}

impl Datum {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    pub fn borrow(&self) -> DatumRef<'_> {
        match self {
            Datum::Null => DatumRef::Null,
            Datum::Bool(v) => DatumRef::Bool(*v),
            Datum::Int2(v) => DatumRef::Int2(*v),
            Datum::Int4(v) => DatumRef::Int4(*v),
            Datum::Int8(v) => DatumRef::Int8(*v),
            Datum::Float4(v) => DatumRef::Float4(*v),
            Datum::Float8(v) => DatumRef::Float8(*v),
            Datum::Numeric(v) => DatumRef::Numeric(v.borrow()),
            Datum::Text(v) => DatumRef::Text(v),
            Datum::Bytea(v) => DatumRef::Bytea(v),
            Datum::Date(v) => DatumRef::Date(*v),
            Datum::Time(v) => DatumRef::Time(*v),
            Datum::Timestamp(v) => DatumRef::Timestamp(*v),
            Datum::Timestamptz(v) => DatumRef::Timestamptz(*v),
            Datum::Interval(v) => DatumRef::Interval(*v),
            Datum::Uuid(v) => DatumRef::Uuid(*v),
            Datum::Oid(v) => DatumRef::Oid(*v),
            Datum::Array(v) => DatumRef::Array(ArrayRef::Values(v)),
        }
    }
}

impl DatumRef<'_> {
    pub fn is_null(&self) -> bool {
        matches!(self, DatumRef::Null)
    }

    /// Bytes of a value of variable length, about as many as its encoding has; 0 for the others.
    pub fn variable_bytes(self) -> usize {
        match self {
            DatumRef::Text(v) => v.len(),
            DatumRef::Bytea(v) => v.len(),
            DatumRef::Array(v) => v.bytes(),
            DatumRef::Numeric(_)
            | DatumRef::Null
            | DatumRef::Bool(_)
            | DatumRef::Int2(_)
            | DatumRef::Int4(_)
            | DatumRef::Int8(_)
            | DatumRef::Float4(_)
            | DatumRef::Float8(_)
            | DatumRef::Date(_)
            | DatumRef::Time(_)
            | DatumRef::Timestamp(_)
            | DatumRef::Timestamptz(_)
            | DatumRef::Interval(_)
            | DatumRef::Uuid(_)
            | DatumRef::Oid(_) => 0,
        }
    }

    pub fn to_owned(self) -> Datum {
        match self {
            DatumRef::Null => Datum::Null,
            DatumRef::Bool(v) => Datum::Bool(v),
            DatumRef::Int2(v) => Datum::Int2(v),
            DatumRef::Int4(v) => Datum::Int4(v),
            DatumRef::Int8(v) => Datum::Int8(v),
            DatumRef::Float4(v) => Datum::Float4(v),
            DatumRef::Float8(v) => Datum::Float8(v),
            DatumRef::Numeric(v) => Datum::Numeric(v.to_owned()),
            DatumRef::Text(v) => Datum::Text(v.to_owned()),
            DatumRef::Bytea(v) => Datum::Bytea(Bytes::copy_from_slice(v)),
            DatumRef::Date(v) => Datum::Date(v),
            DatumRef::Time(v) => Datum::Time(v),
            DatumRef::Timestamp(v) => Datum::Timestamp(v),
            DatumRef::Timestamptz(v) => Datum::Timestamptz(v),
            DatumRef::Interval(v) => Datum::Interval(v),
            DatumRef::Uuid(v) => Datum::Uuid(v),
            DatumRef::Oid(v) => Datum::Oid(v),
            DatumRef::Array(v) => Datum::Array(v.to_vec()),
        }
    }
}
