//! Values to text: results, COPY, casts to text.

use super::datum::DatumRef;
use super::interval::write_interval;
use super::{SqlType, bytea, datetime, digits, text};
use crate::env::Env;

/// Appends a value's text; NULL appends nothing. The modifier matters for `char(n)`, which is padded here.
#[inline]
pub fn write_text(out: &mut Vec<u8>, ty: SqlType, modifier: i32, value: DatumRef<'_>, env: &Env) {
    match value {
        DatumRef::Null => {}
        DatumRef::Int2(v) => digits::write_signed(out, i64::from(v)),
        DatumRef::Int4(v) => digits::write_signed(out, i64::from(v)),
        DatumRef::Int8(v) => digits::write_signed(out, v),
        DatumRef::Text(v) => {
            out.extend_from_slice(v.as_bytes());
            if ty == SqlType::Bpchar {
                text::write_padding(out, v, modifier);
            }
        }
        DatumRef::Bool(v) => out.push(if v { b't' } else { b'f' }),
        DatumRef::Float4(v) => digits::write_float(out, v, env.extra_float_digits),
        DatumRef::Float8(v) => digits::write_float(out, v, env.extra_float_digits),
        DatumRef::Numeric(v) => v.write_text(out),
        DatumRef::Bytea(v) => bytea::write_bytea(out, v),
        DatumRef::Date(v) => datetime::write_date(out, v),
        DatumRef::Time(v) => datetime::write_time(out, v),
        DatumRef::Timestamp(v) => datetime::write_timestamp(out, v),
        DatumRef::Timestamptz(v) => datetime::write_timestamptz(out, v, &env.time_zone),
        DatumRef::Interval(v) => write_interval(out, v),
        DatumRef::Uuid(v) => bytea::write_uuid(out, v),
        DatumRef::Oid(v) => match (ty, v) {
            (SqlType::Regclass | SqlType::Regtype, 0) => out.push(b'-'),
            (SqlType::Regtype, oid) => match SqlType::from_oid(oid) {
                Some(named) => out.extend_from_slice(named.to_string().as_bytes()),
                None => digits::write_unsigned(out, u64::from(oid)),
            },
            (SqlType::Regclass, oid) => match env.relations.shown(oid, &env.search_path) {
                Some(name) => out.extend_from_slice(name.as_bytes()),
                None => digits::write_unsigned(out, u64::from(oid)),
            },
            (_, oid) => digits::write_unsigned(out, u64::from(oid)),
        },
        DatumRef::Array(v) => {
            text::write_array(out, ty.element().unwrap_or(SqlType::Text), modifier, v, env);
        }
    }
}

/// A value's text as a string.
pub fn to_text(ty: SqlType, modifier: i32, value: DatumRef<'_>, env: &Env) -> String {
    let mut out = Vec::with_capacity(16);
    write_text(&mut out, ty, modifier, value, env);
    String::from_utf8(out).unwrap_or_default()
}
