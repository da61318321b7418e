//! Rows → CopyData messages of COPY TO.

use crate::bound::{CopyFormat, CopyOptions};
use crate::copy::binary::SIGNATURE;
use crate::encode::row::Field;
use crate::encode::value;
use crate::encode::value::{Style, write_text};
use crate::protocol::Output;
use crate::protocol::backend::Format;
use crate::statement::Column;
use toroid_common::datum::DatumRef;
use toroid_common::types::ColumnType;

/// Writes rows as the options of a COPY TO say.
pub struct Writer<'a> {
    options: &'a CopyOptions,
    scratch: Vec<u8>,
    /// The signature goes out with the first row, or with the end.
    signature: bool,
}

impl<'a> Writer<'a> {
    pub fn new(options: &'a CopyOptions) -> Writer<'a> {
        Writer { options, scratch: Vec::new(), signature: false }
    }

    /// What stands before the first row.
    pub fn begin(&mut self, output: &mut Output, columns: &[Column]) {
        match self.options.format {
            CopyFormat::Binary => self.signature = true,
            CopyFormat::Text | CopyFormat::Csv if self.options.header => {
                let start = output.begin(b'd');
                for (index, column) in columns.iter().enumerate() {
                    self.delimit(output, index);
                    self.field(output, false, column.name.as_bytes(), columns.len() == 1);
                }
                output.body().push(b'\n');
                output.end(start);
            }
            CopyFormat::Text | CopyFormat::Csv => {}
        }
    }

    /// What stands behind the last row.
    pub fn end(&mut self, output: &mut Output) {
        if self.options.format == CopyFormat::Binary {
            let start = output.begin(b'd');
            self.sign(output);
            output.body().extend_from_slice(&(-1_i16).to_be_bytes());
            output.end(start);
        }
    }

    pub fn row<'v>(
        &mut self,
        output: &mut Output,
        types: &[ColumnType],
        values: impl Iterator<Item = DatumRef<'v>>,
        style: &Style<'_>,
    ) {
        let start = output.begin(b'd');
        if self.options.format == CopyFormat::Binary {
            self.sign(output);
            let body = output.body();
            body.extend_from_slice(&u16::try_from(types.len()).unwrap_or(u16::MAX).to_be_bytes());
            for (ty, value) in types.iter().zip(values) {
                value::write(body, Field { ty: *ty, format: Format::Binary }, value, style);
            }
            output.end(start);
            return;
        }
        for (index, (ty, value)) in types.iter().zip(values).enumerate() {
            self.delimit(output, index);
            if value.is_null() {
                output.body().extend_from_slice(self.options.null.as_bytes());
                continue;
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            write_text(&mut scratch, *ty, value, style);
            let forced = self.options.force_quote.as_ref().is_some_and(|columns| columns.contains(&index));
            self.field(output, forced, &scratch, types.len() == 1);
            self.scratch = scratch;
        }
        output.body().push(b'\n');
        output.end(start);
    }

    fn sign(&mut self, output: &mut Output) {
        if std::mem::take(&mut self.signature) {
            output.body().extend_from_slice(SIGNATURE);
            output.body().extend_from_slice(&[0; 8]);
        }
    }

    fn delimit(&self, output: &mut Output, index: usize) {
        if index > 0 {
            output.body().push(self.options.delimiter);
        }
    }

    fn field(&self, output: &mut Output, forced: bool, bytes: &[u8], single: bool) {
        match self.options.format {
            CopyFormat::Csv => self.quoted(output.body(), forced, bytes, single),
            CopyFormat::Text | CopyFormat::Binary => escaped(output.body(), bytes, self.options.delimiter),
        }
    }

    fn quoted(&self, out: &mut Vec<u8>, forced: bool, bytes: &[u8], single: bool) {
        let CopyOptions { delimiter, quote, escape, .. } = *self.options;
        let special = |b: &u8| *b == delimiter || *b == quote || *b == b'\n' || *b == b'\r';
        let confusing = bytes == self.options.null.as_bytes() || (single && bytes == b"\\.");
        if !forced && !confusing && !bytes.iter().any(special) {
            out.extend_from_slice(bytes);
            return;
        }
        out.push(quote);
        for byte in bytes {
            if *byte == quote || *byte == escape {
                out.push(escape);
            }
            out.push(*byte);
        }
        out.push(quote);
    }
}

fn escaped(out: &mut Vec<u8>, bytes: &[u8], delimiter: u8) {
    for byte in bytes {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            other if *other == delimiter => *other,
            other => {
                out.push(*other);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}
