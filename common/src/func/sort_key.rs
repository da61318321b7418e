//! `sort_key`: bytes that compare as the value does, for types whose column bytes do not. Plans order, group and join by it.

use super::Entry;
use super::kernel::{kernel, mismatch};
use crate::datum::{Datum, DatumRef};
use crate::error::SqlResult;
use crate::key::write_ascending;
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
    write_ascending(&mut out, *value);
    Ok(Datum::Bytea(Bytes::from(out)))
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
            write_ascending(out, DatumRef::Text(value));
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
                write_ascending(out, DatumRef::Text(&key.0));
                write_json(out, value);
            }
        }
    }
}
