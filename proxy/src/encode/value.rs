//! One value as a field of a row, in text or binary.

use crate::encode::row::Field;
use crate::protocol::backend::{Format, patch};
use crate::statement::State;
use std::cell::Ref;
use toroid_common::datum::DatumRef;
use toroid_common::env::Env;
use toroid_common::types::binary::write_framed;
use toroid_common::types::output;
use toroid_common::types::{ColumnType, SqlType};

/// A session's settings that change how values are printed, kept still while rows are written.
pub struct Style<'a> {
    env: Ref<'a, Env>,
    escape_bytea: bool,
}

impl<'a> Style<'a> {
    pub fn of(session: &'a State) -> Style<'a> {
        Style { env: session.env(), escape_bytea: session.settings().escape_bytea() }
    }
}

/// Appends a field of a DataRow: its length and its bytes.
pub fn write(out: &mut Vec<u8>, field: Field, value: DatumRef<'_>, style: &Style<'_>) {
    match (field.format, value) {
        (_, DatumRef::Null) => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        // What a function gives that gives nothing is there all the same.
        (_, _) if field.ty.ty == SqlType::Void => out.extend_from_slice(&[0; 4]),
        (Format::Binary, value) => write_framed(out, field.ty.ty, field.ty.modifier, value),
        (Format::Text, value) => {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            write_text(out, field.ty, value, style);
            let length = out.len() - start - 4;
            patch(out, start, length);
        }
    }
}

/// Appends a value's text without its length; nothing for NULL.
pub fn write_text(out: &mut Vec<u8>, ty: ColumnType, value: DatumRef<'_>, style: &Style<'_>) {
    match value {
        DatumRef::Bytea(bytes) if style.escape_bytea => escape(out, bytes),
        other => output::write_text(out, ty.ty, ty.modifier, other, &style.env),
    }
}

/// `bytea_output = escape`.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b' '..=b'~' => out.push(*byte),
            _ => out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
        }
    }
}
