//! Rows as bytes: parameters, rows of bulk writes, answers and log entries; written once, read borrowed.
//!
//! A row of n columns is a bitmap of ⌈n/8⌉ bytes (bit set: the value is NULL), then the values that are not NULL, in order: fixed-width ones
//! little-endian, variable ones as a `u32` length and bytes. The types are known from where the row stands and not repeated in it.

use crate::datum::{Datum, DatumRef};
use crate::error::SqlError;
use crate::types::SqlType;
use crate::types::array::{is_null, write_nulls_and_values};
use crate::types::codec::{read_value, skip_value, take_slice};

/// Appends one row.
#[inline]
pub fn write_row<'a>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = DatumRef<'a>>) {
    write_nulls_and_values(out, values);
}

/// Appends one row whose values stand side by side.
#[inline]
pub fn write_row_slice(out: &mut Vec<u8>, values: &[DatumRef<'_>]) {
    write_nulls_and_values(out, values.iter().copied());
}

/// Reads one row from the front of `input` and leaves the rest there; values borrow from it.
pub struct RowReader<'a> {
    input: &'a [u8],
}

impl<'a> RowReader<'a> {
    pub fn new(input: &'a [u8]) -> RowReader<'a> {
        RowReader { input }
    }

    /// True at the end of the input.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.input
    }

    /// The next row's values, appended to `out`; an error when the bytes are not a row of these types.
    pub fn read(&mut self, types: &[SqlType], out: &mut Vec<DatumRef<'a>>) -> Result<(), SqlError> {
        let mut input = self.input;
        let nulls = take_slice(&mut input, types.len().div_ceil(8))?;
        out.reserve(types.len());
        for (i, ty) in types.iter().enumerate() {
            out.push(if is_null(nulls, i) { DatumRef::Null } else { read_value(&mut input, *ty)? });
        }
        self.input = input;
        Ok(())
    }

    /// The next row's bytes without looking into its values further than needed to find its end.
    pub fn skip(&mut self, types: &[SqlType]) -> Result<&'a [u8], SqlError> {
        let mut input = self.input;
        let nulls = take_slice(&mut input, types.len().div_ceil(8))?;
        for (i, ty) in types.iter().enumerate() {
            if !is_null(nulls, i) {
                skip_value(&mut input, *ty)?;
            }
        }
        let length = self.input.len() - input.len();
        take_slice(&mut self.input, length)
    }
}

/// Owned values of one row.
pub fn read_owned(input: &[u8], types: &[SqlType]) -> Result<Vec<Datum>, SqlError> {
    let mut values = Vec::with_capacity(types.len());
    RowReader::new(input).read(types, &mut values)?;
    Ok(values.into_iter().map(DatumRef::to_owned).collect())
}
