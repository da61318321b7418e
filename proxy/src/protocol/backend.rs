//! What the server says, written straight into one output buffer.

use crate::statement::{Column, Severity, Tag, TransactionStatus};
use bytes::BytesMut;
use pgwire::messages::Message;
use toroid_common::error::SqlError;
use toroid_common::types::{ColumnType, SqlType};

/// Bytes after which the buffer goes to the socket though more is to come.
const FLUSH_BYTES: usize = 64 << 10;

/// How a column or a parameter is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Binary,
}

impl Format {
    pub fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}

#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
}

impl Output {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether enough is gathered to be sent.
    pub fn is_big(&self) -> bool {
        self.bytes.len() >= FLUSH_BYTES
    }

    /// All has been sent.
    pub fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > 4 * FLUSH_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// Starts a message; [`Output::end`] takes what this gives.
    pub fn begin(&mut self, letter: u8) -> usize {
        self.bytes.push(letter);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        start
    }

    pub fn end(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        patch(&mut self.bytes, start, length);
    }

    /// Where fields of an open message are appended.
    pub fn body(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn u16(&mut self, value: usize) {
        self.bytes.extend_from_slice(&u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend(text.bytes().filter(|b| *b != 0));
        self.bytes.push(0);
    }

    /// A message of the connection's start, by pgwire's codec.
    pub fn start_message(&mut self, message: &impl Message) {
        let mut bytes = BytesMut::new();
        if message.encode(&mut bytes).is_ok() {
            self.bytes.extend_from_slice(&bytes);
        }
    }

    fn bare(&mut self, letter: u8) {
        self.bytes.extend_from_slice(&[letter, 0, 0, 0, 4]);
    }

    pub fn parse_complete(&mut self) {
        self.bare(b'1');
    }

    pub fn bind_complete(&mut self) {
        self.bare(b'2');
    }

    pub fn close_complete(&mut self) {
        self.bare(b'3');
    }

    pub fn no_data(&mut self) {
        self.bare(b'n');
    }

    pub fn portal_suspended(&mut self) {
        self.bare(b's');
    }

    pub fn empty_query(&mut self) {
        self.bare(b'I');
    }

    pub fn copy_done(&mut self) {
        self.bare(b'c');
    }

    pub fn ready(&mut self, status: TransactionStatus) {
        let letter = match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Open => b'T',
            TransactionStatus::Failed => b'E',
        };
        self.bytes.extend_from_slice(&[b'Z', 0, 0, 0, 5, letter]);
    }

    pub fn complete(&mut self, tag: Tag, count: u64) {
        let start = self.begin(b'C');
        match tag {
            Tag::Plain(text) => self.bytes.extend_from_slice(text.as_bytes()),
            Tag::Counted(text) => {
                self.bytes.extend_from_slice(text.as_bytes());
                self.bytes.push(b' ');
                write_u64(&mut self.bytes, count);
            }
        }
        self.bytes.push(0);
        self.end(start);
    }

    pub fn notification(&mut self, process: i32, channel: &str, payload: &str) {
        let start = self.begin(b'A');
        self.bytes.extend_from_slice(&process.to_be_bytes());
        self.text(channel);
        self.text(payload);
        self.end(start);
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        let start = self.begin(b'S');
        self.text(name);
        self.text(value);
        self.end(start);
    }

    pub fn parameter_description(&mut self, types: &[SqlType]) {
        let start = self.begin(b't');
        self.u16(types.len());
        for ty in types {
            self.bytes.extend_from_slice(&ty.oid().to_be_bytes());
        }
        self.end(start);
    }

    pub fn row_description<'a>(&mut self, columns: impl ExactSizeIterator<Item = (&'a Column, Format)>) {
        let start = self.begin(b'T');
        self.u16(columns.len());
        for (column, format) in columns {
            self.text(&column.name);
            let (table, attribute) = column.origin.map_or((0, 0), |(table, attribute)| (table.0, attribute));
            let ColumnType { ty, modifier } = visible(column.ty);
            self.bytes.extend_from_slice(&table.to_be_bytes());
            self.bytes.extend_from_slice(&attribute.to_be_bytes());
            self.bytes.extend_from_slice(&ty.oid().to_be_bytes());
            self.bytes.extend_from_slice(&ty.length().to_be_bytes());
            self.bytes.extend_from_slice(&modifier.to_be_bytes());
            self.bytes.extend_from_slice(&format.code().to_be_bytes());
        }
        self.end(start);
    }

    /// CopyInResponse (`G`) or CopyOutResponse (`H`).
    pub fn copy_response(&mut self, letter: u8, format: Format, columns: usize) {
        let start = self.begin(letter);
        let code = format.code();
        self.bytes.extend(u8::try_from(code));
        self.u16(columns);
        for _ in 0..columns {
            self.bytes.extend_from_slice(&code.to_be_bytes());
        }
        self.end(start);
    }

    pub fn error(&mut self, error: &SqlError, fatal: bool) {
        let severity = if fatal { "FATAL" } else { "ERROR" };
        self.fields(b'E', severity, error);
    }

    pub fn notice(&mut self, severity: Severity, text: &SqlError) {
        self.fields(b'N', severity.as_str(), text);
    }

    fn fields(&mut self, letter: u8, severity: &str, error: &SqlError) {
        let start = self.begin(letter);
        let state = error.state();
        let position = error.position().map(|position| position.to_string());
        let schema = error.table().map(|_| "public");
        let fields = [
            (b'S', Some(severity)),
            (b'V', Some(severity)),
            (b'C', Some(state.as_str())),
            (b'M', Some(error.message())),
            (b'D', error.detail()),
            (b'H', error.hint()),
            (b'P', position.as_deref()),
            (b'W', error.context()),
            (b's', schema),
            (b't', error.table()),
            (b'c', error.column()),
            (b'n', error.constraint()),
            (b'R', routine(error)),
        ];
        for (letter, text) in fields {
            if let Some(text) = text {
                self.bytes.push(letter);
                self.text(text);
            }
        }
        self.bytes.push(0);
        self.end(start);
    }
}

/// What PostgreSQL says when a statement's rows are no longer those that were described.
const CHANGED_RESULT: &str = "cached plan must not change result type";

/// The function that reports an error in PostgreSQL, where drivers go by it: JDBC, asyncpg and Rails prepare a statement anew after this one.
fn routine(error: &SqlError) -> Option<&'static str> {
    (error.message() == CHANGED_RESULT).then_some("RevalidateCachedQuery")
}

/// Clients never see `unknown` in results: it is text by then.
fn visible(column: ColumnType) -> ColumnType {
    match column.ty {
        SqlType::Unknown => ColumnType::from(SqlType::Text),
        _ => column,
    }
}

/// Writes a length word that was left open.
pub fn patch(bytes: &mut [u8], at: usize, length: usize) {
    if let (Some(word), Ok(length)) = (bytes.get_mut(at..at + 4), i32::try_from(length)) {
        word.copy_from_slice(&length.to_be_bytes());
    }
}

/// Decimal digits without going through `fmt`.
pub fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        count += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - count..).unwrap_or_default());
}

pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_u64(out, value.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;
    use toroid_common::error::SqlState;
    use toroid_common::id::TableId;

    #[test]
    fn errors_carry_all_their_fields() {
        let mut output = Output::default();
        let error = SqlError::new(SqlState::UNIQUE_VIOLATION, "m").with_detail("d").with_table("t").at(7);
        output.error(&error, false);
        let expected = b"E\0\0\0\x39SERROR\0VERROR\0C23505\0Mm\0Dd\0P7\0spublic\0tt\0\0";
        assert_eq!(output.bytes().get(5..), expected.get(5..));
        assert_eq!(output.bytes().len(), 1 + usize::from(output.bytes()[4]));
    }

    #[test]
    fn drivers_are_told_to_prepare_anew() {
        let mut output = Output::default();
        output.error(&SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, CHANGED_RESULT), false);
        assert!(output.bytes().ends_with(b"\0RRevalidateCachedQuery\0\0"));
    }

    #[test]
    fn columns_are_described() {
        let mut output = Output::default();
        let column = Column { name: "a".to_owned(), ty: SqlType::Int4.into(), origin: Some((TableId(16_384), 1)) };
        output.row_description([(&column, Format::Binary)].into_iter());
        let expected = b"T\0\0\0\x1a\0\x01a\0\0\0\x40\0\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01";
        assert_eq!(output.bytes(), expected);
    }

    #[test]
    fn numbers_are_written() {
        let mut out = Vec::new();
        for value in [0, 7, -10, i64::MIN, i64::MAX] {
            write_i64(&mut out, value);
            out.push(b' ');
        }
        assert_eq!(out, b"0 7 -10 -9223372036854775808 9223372036854775807 ");
    }
}
