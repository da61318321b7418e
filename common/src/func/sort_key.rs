//! `sort_key`: bytes that compare as the value does, for types whose column bytes do not. Plans order, group and join by it.

use super::Entry;
use super::compare::compare_floats;
use super::kernel::{kernel, mismatch};
use crate::datum::{Datum, DatumRef};
use crate::error::SqlResult;
use crate::types::json::Json;
use bytes::Bytes;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("sort_key(numeric) -> bytea", |_, args| key(args)),
    Entry::new("sort_key(interval) -> bytea", |_, args| key(args)),
    Entry::new("sort_key(jsonb) -> bytea", kernel!(|j: Text| Ok(Datum::Bytea(Bytes::from(jsonb_key(j)?))))),
    Entry::new("sort_key(anyarray) -> bytea", |_, args| key(args)),
];

fn key(args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let [value] = args else { return Err(mismatch(args)) };
    let mut out = Vec::with_capacity(16);
    write(&mut out, *value)?;
    Ok(Datum::Bytea(Bytes::from(out)))
}

/// Zero bytes are escaped, so that the end is below every continuation.
fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend([0, 0]);
}

fn write_float(out: &mut Vec<u8>, value: f64) {
    // One zero, one NaN, as comparisons have it.
    let value = if compare_floats(value, 0.0).is_eq() { 0.0 } else if value.is_nan() { f64::NAN.abs() } else { value };
    let bits = value.to_bits();
    let flipped = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.extend(flipped.to_be_bytes());
}

fn write_int(out: &mut Vec<u8>, value: i64) {
    out.extend((value as u64 ^ 1 << 63).to_be_bytes());
}

fn write(out: &mut Vec<u8>, value: DatumRef<'_>) -> SqlResult<()> {
    match value {
        DatumRef::Null => return Err(mismatch(&[value])),
        DatumRef::Bool(v) => out.push(v.into()),
        DatumRef::Int2(v) => write_int(out, v.into()),
        DatumRef::Int4(v) | DatumRef::Date(v) => write_int(out, v.into()),
        DatumRef::Int8(v) | DatumRef::Time(v) | DatumRef::Timestamp(v) | DatumRef::Timestamptz(v) => write_int(out, v),
        DatumRef::Float4(v) => write_float(out, v.into()),
        DatumRef::Float8(v) => write_float(out, v),
        DatumRef::Numeric(v) => v.write_sort_key(out),
        DatumRef::Text(v) => write_bytes(out, v.as_bytes()),
        DatumRef::Bytea(v) => write_bytes(out, v),
        DatumRef::Interval(v) => out.extend((v.comparable() as u128 ^ 1 << 127).to_be_bytes()),
        DatumRef::Uuid(v) => out.extend(v),
        DatumRef::Oid(v) => out.extend(v.to_be_bytes()),
        DatumRef::Array(array) => {
            for element in array.iter() {
                // The end is below all elements, NULL above.
                out.push(if element.is_null() { 2 } else { 1 });
                if !element.is_null() {
                    write(out, element)?;
                }
            }
            out.push(0);
        }
    }
    Ok(())
}

/// Objects above arrays above booleans above numbers above strings above null; an empty array at the top is below all, as in PostgreSQL.
pub(super) fn jsonb_key(text: &str) -> SqlResult<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    match Json::parse(text)? {
        Json::Array(elements) if elements.is_empty() => out.push(0),
        json => write_json(&mut out, &json),
    }
    Ok(out)
}

fn write_json(out: &mut Vec<u8>, json: &Json) {
    match json {
        Json::Null => out.push(1),
        Json::String(value) => {
            out.push(2);
            write_bytes(out, value.as_bytes());
        }
        Json::Number(value) => {
            out.push(3);
            value.borrow().write_sort_key(out);
        }
        Json::Bool(value) => out.extend([4, u8::from(*value)]),
        Json::Array(elements) => {
            out.push(5);
            out.extend((elements.len() as u32).to_be_bytes());
            elements.iter().for_each(|element| write_json(out, element));
        }
        Json::Object(members) => {
            out.push(6);
            out.extend((members.len() as u32).to_be_bytes());
            for (key, value) in members {
                write_bytes(out, key.0.as_bytes());
                write_json(out, value);
            }
        }
    }
}
