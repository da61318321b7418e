//! Memcomparable keys: bytes whose order is the order of the values, for indexes.
//!
//! A column is one byte that places NULL before or after all values, then the value: whole numbers as eight big-endian bytes with the sign
//! bit flipped (one form for all widths), floats likewise by their total order, text and bytea with 00 escaped as 00 FF and closed by 00 00,
//! numeric by [`NumericRef::write_sort_key`](crate::types::numeric::NumericRef::write_sort_key). A descending column has its value's bytes inverted.

use crate::datum::DatumRef;

const NULL_FIRST: u8 = 0x00;
const VALUE: u8 = 0x01;
const NULL_LAST: u8 = 0x02;

/// Appends one column of a key. Equal values of `int2/4/8` encode alike. Never fails: values were checked against
/// [`crate::limits::MAX_KEY_BYTES`] before.
#[inline]
pub fn write_key(out: &mut Vec<u8>, value: DatumRef<'_>, descending: bool, nulls_first: bool) {
    if value.is_null() {
        out.push(if nulls_first { NULL_FIRST } else { NULL_LAST });
        return;
    }
    out.push(VALUE);
    let start = out.len();
    write_ascending(out, value);
    if descending {
        for byte in out.iter_mut().skip(start) {
            *byte = !*byte;
        }
    }
}

/// Appends a value's bytes alone, ascending; NULL appends nothing.
pub fn write_ascending(out: &mut Vec<u8>, value: DatumRef<'_>) {
    match value {
        DatumRef::Null => {}
        DatumRef::Bool(v) => out.push(u8::from(v)),
        DatumRef::Int2(v) => write_integer(out, i64::from(v)),
        DatumRef::Int4(v) | DatumRef::Date(v) => write_integer(out, i64::from(v)),
        DatumRef::Int8(v) | DatumRef::Time(v) | DatumRef::Timestamp(v) | DatumRef::Timestamptz(v) => {
            write_integer(out, v);
        }
        DatumRef::Float4(v) => out.extend_from_slice(&float_order(f64::from(v)).to_be_bytes()),
        DatumRef::Float8(v) => out.extend_from_slice(&float_order(v).to_be_bytes()),
        DatumRef::Oid(v) => write_integer(out, i64::from(v)),
        DatumRef::Interval(v) => {
            let flipped = (v.comparable() as u128) ^ (1 << 127);
            out.extend_from_slice(&flipped.to_be_bytes());
        }
        DatumRef::Uuid(v) => out.extend_from_slice(&v),
        DatumRef::Text(v) => write_escaped(out, v.as_bytes()),
        DatumRef::Bytea(v) => write_escaped(out, v),
        DatumRef::Numeric(v) => v.write_sort_key(out),
        DatumRef::Array(v) => {
            for element in v.iter() {
                // PostgreSQL orders NULL elements last, and a shorter array before a longer one that it begins.
                write_key(out, element, false, false);
            }
            out.push(NULL_FIRST);
        }
    }
}

#[inline]
fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&((value as u64) ^ (1 << 63)).to_be_bytes());
}

/// PostgreSQL's order of floats as an unsigned number: -0 equals 0, NaN is greatest and equals itself.
#[inline]
pub(crate) fn float_order(value: f64) -> u64 {
    if value.is_nan() {
        return u64::MAX;
    }
    // Adding zero turns -0 into 0.
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    let mut rest = bytes;
    while let Some(zero) = rest.iter().position(|b| *b == 0) {
        let (head, tail) = rest.split_at(zero);
        out.extend_from_slice(head);
        out.extend_from_slice(&[0x00, 0xff]);
        rest = tail.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0x00, 0x00]);
}
