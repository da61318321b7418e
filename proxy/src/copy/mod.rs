//! COPY's three formats: client's bytes → rows by partition, and rows → client's bytes.

pub mod binary;
pub mod csv;
pub mod format;
pub mod lines;
pub mod rows;
pub mod text;

use crate::bound::{CopyFormat, CopyOptions};
use crate::statement::CopyIn;
use rows::Rows;
use toroid_common::env::Env;
use toroid_common::error::SqlError;

/// Reads the rows of one COPY FROM out of chunks whose borders mean nothing.
pub struct Decoder {
    format: Format,
    pub rows: Rows,
}

enum Format {
    Text(text::Text),
    Csv(csv::Csv),
    Binary(binary::Binary),
}

impl Decoder {
    pub fn new(copy: &CopyIn, env: Env) -> Decoder {
        let format = match copy.options.format {
            CopyFormat::Text => Format::Text(text::Text::new(&copy.options)),
            CopyFormat::Csv => Format::Csv(csv::Csv::new(&copy.options)),
            CopyFormat::Binary => Format::Binary(binary::Binary::default()),
        };
        Decoder { format, rows: Rows::new(copy, env) }
    }

    /// Takes from `chunk` until it is empty or a batch is ready to be sent ([`Rows::full`]).
    pub fn decode(&mut self, chunk: &mut &[u8], copy: &mut CopyIn) -> Result<(), SqlError> {
        match &mut self.format {
            Format::Text(text) => text.decode(chunk, &mut self.rows, copy),
            Format::Csv(csv) => csv.decode(chunk, &mut self.rows, copy),
            Format::Binary(binary) => binary.decode(chunk, &mut self.rows, copy),
        }
    }

    /// The client has sent all: what is left must be a row.
    pub fn finish(&mut self, copy: &mut CopyIn) -> Result<(), SqlError> {
        match &mut self.format {
            Format::Text(text) => text.finish(&mut self.rows, copy),
            Format::Csv(csv) => csv.finish(&mut self.rows, copy),
            Format::Binary(binary) => binary.finish(&self.rows),
        }
    }
}

/// Whether the options ask for binary, for CopyInResponse and CopyOutResponse.
pub fn is_binary(options: &CopyOptions) -> bool {
    options.format == CopyFormat::Binary
}

#[cfg(test)]
mod tests;
