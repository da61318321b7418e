//! COPY's binary format: a signature, then counted rows of counted fields.

use crate::copy::rows::Rows;
use crate::statement::CopyIn;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::limits::MAX_CLIENT_MESSAGE_BYTES;

pub const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

#[derive(Debug, Default)]
pub struct Binary {
    carry: Vec<u8>,
    started: bool,
    done: bool,
}

fn bad(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

/// What could be taken from the front of the input.
enum Taken {
    Bytes(usize),
    /// More must come first.
    Incomplete,
}

impl Binary {
    pub fn decode(&mut self, chunk: &mut &[u8], rows: &mut Rows, copy: &mut CopyIn) -> Result<(), SqlError> {
        self.carry.extend_from_slice(chunk);
        *chunk = &[];
        let input = std::mem::take(&mut self.carry);
        let mut rest = input.as_slice();
        while !rest.is_empty() && !self.done {
            let taken = match self.started {
                true => self.row(rest, rows, copy)?,
                false => self.start(rest)?,
            };
            match taken {
                Taken::Bytes(count) => rest = rest.get(count..).unwrap_or_default(),
                Taken::Incomplete => break,
            }
        }
        if rest.len() > MAX_CLIENT_MESSAGE_BYTES {
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "a row of COPY data is too long"));
        }
        self.carry = rest.to_vec();
        Ok(())
    }

    fn start(&mut self, input: &[u8]) -> Result<Taken, SqlError> {
        let shown = input.len().min(SIGNATURE.len());
        if input.get(..shown) != SIGNATURE.get(..shown) {
            return Err(bad("COPY file signature not recognized"));
        }
        let (Some(flags), Some(extension)) = (word(input, 11), word(input, 15)) else { return Ok(Taken::Incomplete) };
        if flags & 0xffff_0000_u32.cast_signed() != 0 {
            return Err(bad("unrecognized critical flags in COPY file header"));
        }
        let extension = usize::try_from(extension).map_err(|_| bad("invalid COPY file header (missing length)"))?;
        if input.len() < 19 + extension {
            return Ok(Taken::Incomplete);
        }
        self.started = true;
        Ok(Taken::Bytes(19 + extension))
    }

    fn row(&mut self, input: &[u8], rows: &mut Rows, copy: &mut CopyIn) -> Result<Taken, SqlError> {
        let Some(count) = input.get(..2).and_then(|b| <[u8; 2]>::try_from(b).ok()).map(i16::from_be_bytes) else {
            return Ok(Taken::Incomplete);
        };
        if count == -1 {
            self.done = true;
            return Ok(Taken::Bytes(input.len()));
        }
        let expected = copy.targets.len();
        if usize::try_from(count) != Ok(expected) {
            rows.line += 1;
            let error = bad(format!("row field count is {count}, expected {expected}"));
            return Err(rows.located(error, copy));
        }
        let mut fields = Vec::with_capacity(expected);
        let mut at = 2;
        for _ in 0..expected {
            let Some(length) = word(input, at) else { return Ok(Taken::Incomplete) };
            at += 4;
            if length == -1 {
                fields.push(None);
                continue;
            }
            let length = usize::try_from(length).map_err(|_| rows.located(bad("invalid field size"), copy))?;
            let Some(bytes) = input.get(at..at + length) else { return Ok(Taken::Incomplete) };
            fields.push(Some(bytes));
            at += length;
        }
        rows.line += 1;
        rows.push_binary(&fields, copy).map_err(|error| rows.located(error, copy))?;
        Ok(Taken::Bytes(at))
    }

    pub fn finish(&self, rows: &Rows) -> Result<(), SqlError> {
        match self.done || (self.started && self.carry.is_empty()) {
            true => Ok(()),
            false if !self.started => Err(bad("COPY file signature not recognized")),
            false => Err(bad("unexpected EOF in COPY data").with_context(format!(
                "COPY {}, line {}",
                rows.table(),
                rows.line + 1
            ))),
        }
    }
}

fn word(input: &[u8], at: usize) -> Option<i32> {
    input.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(i32::from_be_bytes)
}
