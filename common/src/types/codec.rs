//! One value as bytes, inside rows and arrays: fixed-width ones little-endian, variable ones as a `u32` length and bytes.

use super::SqlType;
use super::array::{self, ArrayRef};
use super::datum::DatumRef;
use super::interval::Interval;
use super::numeric::NumericRef;
use crate::error::{SqlError, SqlResult, SqlState};

/// Appends a value that is not NULL; NULL appends nothing, whoever calls keeps it in a bitmap.
#[inline]
pub fn write_value(out: &mut Vec<u8>, value: DatumRef<'_>) {
    match value {
        DatumRef::Null => {}
        DatumRef::Bool(v) => out.push(u8::from(v)),
        DatumRef::Int2(v) => out.extend_from_slice(&v.to_le_bytes()),
        DatumRef::Int4(v) | DatumRef::Date(v) => out.extend_from_slice(&v.to_le_bytes()),
        DatumRef::Int8(v) | DatumRef::Time(v) | DatumRef::Timestamp(v) | DatumRef::Timestamptz(v) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        DatumRef::Float4(v) => out.extend_from_slice(&v.to_le_bytes()),
        DatumRef::Float8(v) => out.extend_from_slice(&v.to_le_bytes()),
        DatumRef::Oid(v) => out.extend_from_slice(&v.to_le_bytes()),
        DatumRef::Interval(v) => out.extend_from_slice(&v.to_bytes()),
        DatumRef::Uuid(v) => out.extend_from_slice(&v),
        DatumRef::Text(v) => write_variable(out, v.as_bytes()),
        DatumRef::Bytea(v) => write_variable(out, v),
        DatumRef::Numeric(v) => write_variable(out, v.encode()),
        DatumRef::Array(v) => array::write(out, v),
    }
}

#[inline]
fn write_variable(out: &mut Vec<u8>, bytes: &[u8]) {
    // Values are bounded by `limits::MAX_VALUE_BYTES`, far below 4 GiB.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes a value of `ty` from the front of `input`.
#[inline]
pub fn read_value<'a>(input: &mut &'a [u8], ty: SqlType) -> SqlResult<DatumRef<'a>> {
    Ok(match ty {
        SqlType::Bool => DatumRef::Bool(match take::<1>(input)? {
            [0] => false,
            [1] => true,
            _ => return Err(malformed("boolean")),
        }),
        SqlType::Int2 => DatumRef::Int2(i16::from_le_bytes(take(input)?)),
        SqlType::Int4 => DatumRef::Int4(i32::from_le_bytes(take(input)?)),
        SqlType::Int8 => DatumRef::Int8(i64::from_le_bytes(take(input)?)),
        SqlType::Float4 => DatumRef::Float4(f32::from_le_bytes(take(input)?)),
        SqlType::Float8 => DatumRef::Float8(f64::from_le_bytes(take(input)?)),
        SqlType::Date => DatumRef::Date(i32::from_le_bytes(take(input)?)),
        SqlType::Time => DatumRef::Time(i64::from_le_bytes(take(input)?)),
        SqlType::Timestamp => DatumRef::Timestamp(i64::from_le_bytes(take(input)?)),
        SqlType::Timestamptz => DatumRef::Timestamptz(i64::from_le_bytes(take(input)?)),
        SqlType::Interval => DatumRef::Interval(Interval::from_bytes(take(input)?)),
        SqlType::Uuid => DatumRef::Uuid(take(input)?),
        SqlType::Oid | SqlType::Regclass | SqlType::Regtype => DatumRef::Oid(u32::from_le_bytes(take(input)?)),
        SqlType::Numeric => {
            let bytes = take_variable(input)?;
            DatumRef::Numeric(NumericRef::decode(bytes).ok_or_else(|| malformed("numeric"))?)
        }
        SqlType::Bytea => DatumRef::Bytea(take_variable(input)?),
        SqlType::Text
        | SqlType::Varchar
        | SqlType::Bpchar
        | SqlType::Json
        | SqlType::Jsonb
        | SqlType::Name
        | SqlType::Char
        | SqlType::Unknown => {
            let bytes = take_variable(input)?;
            DatumRef::Text(std::str::from_utf8(bytes).map_err(|_| malformed("text"))?)
        }
        SqlType::Void => {
            take_variable(input)?;
            DatumRef::Text("")
        }
        SqlType::Array(element) => DatumRef::Array(ArrayRef::read(input, element.ty())?),
    })
}

/// Passes over a value of `ty`.
#[inline]
pub fn skip_value(input: &mut &[u8], ty: SqlType) -> SqlResult<()> {
    let width = match ty {
        SqlType::Bool => 1,
        SqlType::Int2 => 2,
        SqlType::Int4 | SqlType::Float4 | SqlType::Date | SqlType::Oid | SqlType::Regclass | SqlType::Regtype => 4,
        SqlType::Int8 | SqlType::Float8 | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz => 8,
        SqlType::Interval | SqlType::Uuid => 16,
        SqlType::Numeric
        | SqlType::Bytea
        | SqlType::Text
        | SqlType::Varchar
        | SqlType::Bpchar
        | SqlType::Json
        | SqlType::Jsonb
        | SqlType::Name
        | SqlType::Char
        | SqlType::Unknown
        | SqlType::Void => return take_variable(input).map(|_| ()),
        SqlType::Array(element) => return ArrayRef::skip(input, element.ty()),
    };
    take_slice(input, width).map(|_| ())
}

/// The next `n` bytes.
#[inline]
pub(crate) fn take_slice<'a>(input: &mut &'a [u8], n: usize) -> SqlResult<&'a [u8]> {
    let (head, rest) = input.split_at_checked(n).ok_or_else(|| malformed("row"))?;
    *input = rest;
    Ok(head)
}

#[inline]
pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> SqlResult<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or_else(|| malformed("row"))?;
    *input = rest;
    Ok(*head)
}

#[inline]
fn take_variable<'a>(input: &mut &'a [u8]) -> SqlResult<&'a [u8]> {
    let len = u32::from_le_bytes(take(input)?);
    take_slice(input, len as usize)
}

/// Bytes that are no row: a fault of the sender, never of the client's statement.
#[cold]
pub(crate) fn malformed(what: &str) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, format!("malformed {what} encoding"))
}
