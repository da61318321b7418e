//! COPY's CSV format: quoted fields may hold delimiters, quotes and newlines.

use crate::bound::CopyOptions;
use crate::copy::lines::{Lines, Scan};
use crate::copy::rows::Rows;
use crate::copy::text::Fields;
use crate::statement::CopyIn;
use toroid_common::error::{SqlError, SqlState};

/// A newline ends a line unless it stands in quotes.
#[derive(Debug)]
pub struct Quotes {
    quote: u8,
    /// None when it is the quote itself.
    escape: Option<u8>,
    inside: bool,
    escaped: bool,
}

impl Scan for Quotes {
    fn end(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        for (i, byte) in bytes.iter().copied().enumerate().skip(at) {
            if self.inside && Some(byte) == self.escape {
                self.escaped = !self.escaped;
                continue;
            }
            if byte == self.quote && !self.escaped {
                self.inside = !self.inside;
            }
            self.escaped = false;
            if byte == b'\n' && !self.inside {
                return Some(i);
            }
        }
        None
    }

    fn restart(&mut self) {
        self.inside = false;
        self.escaped = false;
    }
}

pub struct Csv {
    lines: Lines<Quotes>,
    options: CopyOptions,
    header: bool,
    done: bool,
    fields: Fields,
}

impl Csv {
    pub fn new(options: &CopyOptions) -> Csv {
        let escape = (options.escape != options.quote).then_some(options.escape);
        let scan = Quotes { quote: options.quote, escape, inside: false, escaped: false };
        Csv {
            lines: Lines::new(scan),
            options: options.clone(),
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
            let Csv { lines, options, header, done, fields } = self;
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
                    row(line, options, fields, rows, copy)
                })
                .map_err(|error| rows.located(error, copy))?;
        }
        Ok(())
    }

    pub fn finish(&mut self, rows: &mut Rows, copy: &mut CopyIn) -> Result<(), SqlError> {
        match self.lines.last()? {
            Some(line) if !self.done && line != b"\\." && !std::mem::take(&mut self.header) => {
                rows.line += 1;
                row(&line, &self.options, &mut self.fields, rows, copy).map_err(|error| rows.located(error, copy))
            }
            _ => Ok(()),
        }
    }
}

fn row(
    line: &[u8],
    options: &CopyOptions,
    fields: &mut Fields,
    rows: &mut Rows,
    copy: &mut CopyIn,
) -> Result<(), SqlError> {
    fields.found.clear();
    if !line.contains(&options.quote) {
        let mut start = 0;
        for field in line.split(|b| *b == options.delimiter) {
            let (end, column) = (start + field.len(), fields.found.len());
            let null = field == options.null.as_bytes() && !options.force_not_null.contains(&column);
            fields.found.push((!null).then_some(start..end));
            start = end + 1;
        }
        return rows.push(line, fields, copy);
    }
    // Newlines in quotes count as lines, but for the first line's, as in PostgreSQL, which does not know yet how lines end.
    if rows.line > 1 {
        rows.line += line.iter().filter(|b| **b == b'\n').count() as u64;
    }
    unquote(line, options, fields).map_err(|error| error.with_context(rows.line_context(copy, line)))?;
    let plain = std::mem::take(&mut fields.plain);
    let pushed = rows.push_from(line, &plain, fields, copy);
    fields.plain = plain;
    pushed
}

fn unquote(line: &[u8], options: &CopyOptions, fields: &mut Fields) -> Result<(), SqlError> {
    fields.plain.clear();
    let (mut start, mut quoted, mut inside) = (0, false, false);
    let mut bytes = line.iter().copied().peekable();
    loop {
        let byte = bytes.next();
        match byte {
            Some(byte) if inside => {
                let next = bytes.peek().copied();
                let escapes = byte == options.escape && next.is_some_and(|n| n == options.escape || n == options.quote);
                if escapes {
                    fields.plain.extend(bytes.next());
                } else if byte == options.quote {
                    inside = false;
                } else {
                    fields.plain.push(byte);
                }
            }
            Some(byte) if byte == options.quote => {
                inside = true;
                quoted = true;
            }
            Some(byte) if byte != options.delimiter => fields.plain.push(byte),
            None if inside => {
                return Err(SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, "unterminated CSV quoted field"));
            }
            ended => {
                let column = fields.found.len();
                let same = fields.plain.get(start..) == Some(options.null.as_bytes());
                let null = same
                    && match quoted {
                        true => options.force_null.contains(&column),
                        false => !options.force_not_null.contains(&column),
                    };
                fields.found.push((!null).then_some(start..fields.plain.len()));
                if ended.is_none() {
                    return Ok(());
                }
                (start, quoted) = (fields.plain.len(), false);
            }
        }
    }
}
