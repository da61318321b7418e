//! PostgreSQL's binary format of each type: parameters, results and binary COPY.

use super::calendar::{
    MICROS_PER_DAY, POSTGRES_EPOCH_DAYS, check_date, check_timestamp, is_finite_date, is_finite_timestamp,
    out_of_range, round_to_precision,
};
use super::datum::{Datum, DatumRef};
use super::interval::Interval;
use super::numeric::Numeric;
use super::{SqlType, json, text};
use crate::error::{SqlError, SqlResult, SqlState};

const POSTGRES_EPOCH_MICROS: i64 = POSTGRES_EPOCH_DAYS as i64 * MICROS_PER_DAY;

#[cold]
fn malformed() -> SqlError {
    SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, "incorrect binary data format")
}

#[cold]
fn insufficient() -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
}

fn exact<const N: usize>(bytes: &[u8]) -> SqlResult<[u8; N]> {
    <[u8; N]>::try_from(bytes).map_err(|_| if bytes.len() < N { insufficient() } else { malformed() })
}

/// A value of `ty` from its binary form; the modifier holds as in [`super::input::parse_text`].
pub fn read_binary(ty: SqlType, modifier: i32, bytes: &[u8]) -> SqlResult<Datum> {
    Ok(match ty {
        SqlType::Bool => Datum::Bool(exact::<1>(bytes)? != [0]),
        SqlType::Int2 => Datum::Int2(i16::from_be_bytes(exact(bytes)?)),
        SqlType::Int4 => Datum::Int4(i32::from_be_bytes(exact(bytes)?)),
        SqlType::Int8 => Datum::Int8(i64::from_be_bytes(exact(bytes)?)),
        SqlType::Float4 => Datum::Float4(f32::from_be_bytes(exact(bytes)?)),
        SqlType::Float8 => Datum::Float8(f64::from_be_bytes(exact(bytes)?)),
        SqlType::Oid | SqlType::Regclass | SqlType::Regtype => Datum::Oid(u32::from_be_bytes(exact(bytes)?)),
        SqlType::Numeric => Datum::Numeric(Numeric::read_binary(bytes)?.apply_modifier(modifier)?),
        SqlType::Text | SqlType::Name | SqlType::Unknown => Datum::Text(utf8(bytes)?.to_owned()),
        SqlType::Char => Datum::Text(utf8(bytes)?.trim_end_matches('\0').to_owned()),
        SqlType::Varchar | SqlType::Bpchar => {
            Datum::Text(text::fit_length(utf8(bytes)?, ty, modifier, false)?.to_owned())
        }
        SqlType::Json => {
            let text = utf8(bytes)?;
            json::check_json(text)?;
            Datum::Text(text.to_owned())
        }
        SqlType::Jsonb => match bytes.split_first() {
            Some((1, rest)) => Datum::Text(json::normalize(utf8(rest)?)?),
            Some((version, _)) => {
                return Err(SqlError::internal(format_args!("unsupported jsonb version number {version}")));
            }
            None => return Err(insufficient()),
        },
        SqlType::Bytea => Datum::Bytea(bytes.to_vec().into()),
        SqlType::Date => Datum::Date(read_date(i32::from_be_bytes(exact(bytes)?))?),
        SqlType::Time => {
            let micros = i64::from_be_bytes(exact(bytes)?);
            if !(0..=MICROS_PER_DAY).contains(&micros) {
                return Err(out_of_range("time"));
            }
            Datum::Time(round_to_precision(micros, modifier))
        }
        SqlType::Timestamp => Datum::Timestamp(read_timestamp(i64::from_be_bytes(exact(bytes)?), modifier)?),
        SqlType::Timestamptz => Datum::Timestamptz(read_timestamp(i64::from_be_bytes(exact(bytes)?), modifier)?),
        SqlType::Interval => {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = exact(bytes)?;
            let interval = Interval {
                micros: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
                days: i32::from_be_bytes([i, j, k, l]),
                months: i32::from_be_bytes([m, n, o, p]),
            };
            Datum::Interval(interval.round_to(modifier))
        }
        SqlType::Uuid => Datum::Uuid(exact(bytes)?),
        SqlType::Void => Datum::Null,
        SqlType::Array(element) => Datum::Array(read_array(element.ty(), modifier, bytes)?),
    })
}

fn utf8(bytes: &[u8]) -> SqlResult<&str> {
    let invalid = |at: usize| {
        let shown: Vec<String> = bytes.iter().skip(at).take(1).map(|b| format!("0x{b:02x}")).collect();
        SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
        )
    };
    let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.valid_up_to()))?;
    match bytes.iter().position(|b| *b == 0) {
        Some(zero) => Err(invalid(zero)),
        None => Ok(text),
    }
}

fn read_date(days: i32) -> SqlResult<i32> {
    if !is_finite_date(days) {
        return Ok(days);
    }
    check_date(i64::from(days) + i64::from(POSTGRES_EPOCH_DAYS)).ok_or_else(|| out_of_range("date"))
}

fn read_timestamp(micros: i64, modifier: i32) -> SqlResult<i64> {
    if !is_finite_timestamp(micros) {
        return Ok(micros);
    }
    let shifted = micros.checked_add(POSTGRES_EPOCH_MICROS).and_then(check_timestamp);
    shifted.map(|micros| round_to_precision(micros, modifier)).ok_or_else(|| out_of_range("timestamp"))
}

fn read_array(element: SqlType, modifier: i32, bytes: &[u8]) -> SqlResult<Vec<Datum>> {
    let mut rest = bytes;
    let mut word = || -> SqlResult<i32> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(insufficient)?;
        rest = tail;
        Ok(i32::from_be_bytes(*head))
    };
    let (dimensions, _flags, oid) = (word()?, word()?, word()?);
    if oid as u32 != element.oid() {
        return Err(SqlError::new(
            SqlState::DATATYPE_MISMATCH,
            format!("binary data has array element type {oid} instead of expected {}", element.oid()),
        ));
    }
    match dimensions {
        0 => return Ok(Vec::new()),
        1 => {}
        2..=6 => return Err(SqlError::unsupported("an array of several dimensions")),
        _ => return Err(malformed()),
    }
    let (count, _lower) = (word()?, word()?);
    // Each element takes four bytes at least: a count beyond that is a lie.
    let count = usize::try_from(count).ok().filter(|count| *count <= bytes.len() / 4).ok_or_else(malformed)?;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(insufficient)?;
        rest = tail;
        let length = i32::from_be_bytes(*head);
        if length == -1 {
            values.push(Datum::Null);
            continue;
        }
        let length = usize::try_from(length).map_err(|_| malformed())?;
        let (value, tail) = rest.split_at_checked(length).ok_or_else(insufficient)?;
        rest = tail;
        values.push(read_binary(element, modifier, value)?);
    }
    if rest.is_empty() { Ok(values) } else { Err(malformed()) }
}

/// Appends a value's binary form; NULL appends nothing. `char(n)` is padded here.
#[inline]
pub fn write_binary(out: &mut Vec<u8>, ty: SqlType, modifier: i32, value: DatumRef<'_>) {
    match value {
        DatumRef::Null => {}
        DatumRef::Bool(v) => out.push(u8::from(v)),
        DatumRef::Int2(v) => out.extend_from_slice(&v.to_be_bytes()),
        DatumRef::Int4(v) => out.extend_from_slice(&v.to_be_bytes()),
        DatumRef::Int8(v) | DatumRef::Time(v) => out.extend_from_slice(&v.to_be_bytes()),
        DatumRef::Float4(v) => out.extend_from_slice(&v.to_be_bytes()),
        DatumRef::Float8(v) => out.extend_from_slice(&v.to_be_bytes()),
        DatumRef::Oid(v) => out.extend_from_slice(&v.to_be_bytes()),
        DatumRef::Numeric(v) => v.write_binary(out),
        DatumRef::Text(v) => {
            if ty == SqlType::Jsonb {
                out.push(1);
            }
            out.extend_from_slice(v.as_bytes());
            if ty == SqlType::Bpchar {
                text::write_padding(out, v, modifier);
            }
            // "char" is one byte, zero where its text is empty.
            if ty == SqlType::Char && v.is_empty() {
                out.push(0);
            }
        }
        DatumRef::Bytea(v) => out.extend_from_slice(v),
        DatumRef::Date(v) => {
            let days = if is_finite_date(v) { v - POSTGRES_EPOCH_DAYS } else { v };
            out.extend_from_slice(&days.to_be_bytes());
        }
        DatumRef::Timestamp(v) | DatumRef::Timestamptz(v) => {
            let micros = if is_finite_timestamp(v) { v.saturating_sub(POSTGRES_EPOCH_MICROS) } else { v };
            out.extend_from_slice(&micros.to_be_bytes());
        }
        DatumRef::Interval(v) => {
            out.extend_from_slice(&v.micros.to_be_bytes());
            out.extend_from_slice(&v.days.to_be_bytes());
            out.extend_from_slice(&v.months.to_be_bytes());
        }
        DatumRef::Uuid(v) => out.extend_from_slice(&v),
        DatumRef::Array(array) => {
            let element = ty.element().unwrap_or(SqlType::Text);
            let nulls = array.iter().any(|value| value.is_null());
            let dimensions = i32::from(!array.is_empty());
            out.extend_from_slice(&dimensions.to_be_bytes());
            out.extend_from_slice(&i32::from(nulls).to_be_bytes());
            out.extend_from_slice(&element.oid().to_be_bytes());
            if dimensions == 1 {
                out.extend_from_slice(&(array.len() as i32).to_be_bytes());
                out.extend_from_slice(&1_i32.to_be_bytes());
            }
            for value in array.iter() {
                write_framed(out, element, modifier, value);
            }
        }
    }
}

/// Appends a value's binary form after its length, as messages and arrays carry it; NULL is length -1.
#[inline]
pub fn write_framed(out: &mut Vec<u8>, ty: SqlType, modifier: i32, value: DatumRef<'_>) {
    if value.is_null() {
        return out.extend_from_slice(&(-1_i32).to_be_bytes());
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write_binary(out, ty, modifier, value);
    let length = (out.len() - start - 4) as u32;
    if let Some(slot) = out.get_mut(start..start + 4) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}
