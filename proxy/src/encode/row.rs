//! Rows → DataRow, from values of any origin.

use crate::encode::value::{Style, write};
use crate::protocol::backend::{Format, Output};
use toroid_common::datum::DatumRef;
use toroid_common::types::ColumnType;

/// How each column of a result leaves: its type and its format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    pub ty: ColumnType,
    pub format: Format,
}

/// Writes one DataRow.
#[inline]
pub fn data_row<'a>(
    output: &mut Output,
    fields: &[Field],
    values: impl Iterator<Item = DatumRef<'a>>,
    style: &Style<'_>,
) {
    let start = output.begin(b'D');
    let body = output.body();
    body.extend_from_slice(&u16::try_from(fields.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (field, value) in fields.iter().zip(values) {
        write(body, *field, value, style);
    }
    output.end(start);
}
