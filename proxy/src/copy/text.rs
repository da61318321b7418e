//! COPY's text format: fields between delimiters, backslash escapes, `\.` at the end.

use crate::bound::CopyOptions;
use crate::copy::lines::{Lines, Scan};
use crate::copy::rows::Rows;
use crate::statement::CopyIn;
use std::ops::Range;
use toroid_common::error::{SqlError, SqlState};

/// A newline ends a line unless a backslash stands before it.
#[derive(Debug, Default)]
pub struct Backslashes;

impl Scan for Backslashes {
    fn end(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let mut from = at;
        loop {
            let end = from + bytes.get(from..)?.iter().position(|b| *b == b'\n')?;
            let backslashes = bytes.get(..end)?.iter().rev().take_while(|b| **b == b'\\').count();
            if backslashes % 2 == 0 {
                return Some(end);
            }
            from = end + 1;
        }
    }

    fn restart(&mut self) {}
}

pub struct Text {
    lines: Lines<Backslashes>,
    delimiter: u8,
    null: Vec<u8>,
    /// The header is still to come.
    header: bool,
    done: bool,
    fields: Fields,
}

/// The fields of one line: where they are in the line, or in `plain` when they had escapes.
#[derive(Debug, Default)]
pub struct Fields {
    pub found: Vec<Option<Range<usize>>>,
    pub plain: Vec<u8>,
}

impl Text {
    pub fn new(options: &CopyOptions) -> Text {
        Text {
            lines: Lines::new(Backslashes),
            delimiter: options.delimiter,
            null: options.null.clone().into_bytes(),
            header: options.header,
            done: false,
            fields: Fields::default(),
        }
    }

    pub fn decode(&mut self, chunk: &mut &[u8], rows: &mut Rows, copy: &mut CopyIn) -> Result<(), SqlError> {
        while !chunk.is_empty() && !rows.full() {
            if self.done {
                *chunk = &[];
                return Ok(());
            }
            let Text { lines, delimiter, null, header, done, fields } = self;
            lines
                .next(chunk, |line| {
                    rows.line += 1;
                    if std::mem::take(header) {
                        return Ok(());
                    }
                    if line == b"\\." {
                        *done = true;
                        return Ok(());
                    }
                    row(line, *delimiter, null, fields, rows, copy)
                })
                .map_err(|error| rows.located(error, copy))?;
        }
        Ok(())
    }

    pub fn finish(&mut self, rows: &mut Rows, copy: &mut CopyIn) -> Result<(), SqlError> {
        match self.lines.last()? {
            Some(line) if !self.done && line != b"\\." => {
                rows.line += 1;
                row(&line, self.delimiter, &self.null, &mut self.fields, rows, copy)
                    .map_err(|error| rows.located(error, copy))
            }
            _ => Ok(()),
        }
    }
}

fn row(
    line: &[u8],
    delimiter: u8,
    null: &[u8],
    fields: &mut Fields,
    rows: &mut Rows,
    copy: &mut CopyIn,
) -> Result<(), SqlError> {
    fields.found.clear();
    if line.is_empty() && copy.targets.is_empty() {
        return rows.push(line, fields, copy);
    }
    if line.contains(&b'\\') {
        unescape(line, delimiter, null, fields).map_err(|error| error.with_context(rows.line_context(copy, line)))?;
        let plain = std::mem::take(&mut fields.plain);
        let pushed = rows.push_from(line, &plain, fields, copy);
        fields.plain = plain;
        return pushed;
    }
    let mut start = 0;
    for field in line.split(|b| *b == delimiter) {
        let end = start + field.len();
        fields.found.push((field != null).then_some(start..end));
        start = end + 1;
    }
    rows.push(line, fields, copy)
}

/// Fills `plain` with the fields' real bytes.
fn unescape(line: &[u8], delimiter: u8, null: &[u8], fields: &mut Fields) -> Result<(), SqlError> {
    fields.plain.clear();
    let mut bytes = line.iter().copied().enumerate().peekable();
    let (mut raw_start, mut start) = (0, 0);
    loop {
        let next = bytes.next();
        match next {
            Some((_, b'\\')) => {
                let Some((_, escaped)) = bytes.next() else { continue };
                let byte = match escaped {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    b'0'..=b'7' => number(u32::from(escaped - b'0'), &mut bytes, 8, 2),
                    b'x' if bytes.peek().is_some_and(|(_, b)| b.is_ascii_hexdigit()) => number(0, &mut bytes, 16, 2),
                    b'.' => {
                        return Err(SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, "end-of-copy marker corrupt"));
                    }
                    other => other,
                };
                fields.plain.push(byte);
            }
            Some((_, byte)) if byte != delimiter => fields.plain.push(byte),
            ended => {
                let raw_end = ended.map_or(line.len(), |(at, _)| at);
                let is_null = line.get(raw_start..raw_end) == Some(null);
                fields.found.push((!is_null).then_some(start..fields.plain.len()));
                match ended {
                    Some((at, _)) => raw_start = at + 1,
                    None => return Ok(()),
                }
                start = fields.plain.len();
            }
        }
    }
}

/// Up to `most` further digits of an octal or hexadecimal byte.
fn number(
    first: u32,
    bytes: &mut std::iter::Peekable<impl Iterator<Item = (usize, u8)>>,
    radix: u32,
    most: usize,
) -> u8 {
    let mut value = first;
    for _ in 0..most {
        match bytes.peek().and_then(|(_, b)| char::from(*b).to_digit(radix)) {
            Some(digit) => value = value * radix + digit,
            None => break,
        }
        bytes.next();
    }
    (value & 0xff) as u8
}
