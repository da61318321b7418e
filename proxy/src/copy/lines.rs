//! Cuts chunks into lines, keeping the beginning of a line until its end comes.

use toroid_common::error::{SqlError, SqlState};
use toroid_common::limits::MAX_CLIENT_MESSAGE_BYTES;

/// How lines end; the first line tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    #[default]
    Unknown,
    Newline,
    CarriageReturnNewline,
}

/// What decides whether a newline ends a line.
pub trait Scan {
    /// Finds the newline that ends the line, from `at` on; keeps what it must know to go on later.
    fn end(&mut self, bytes: &[u8], at: usize) -> Option<usize>;
    /// A new line begins.
    fn restart(&mut self);
}

#[derive(Debug, Default)]
pub struct Lines<S> {
    scan: S,
    carry: Vec<u8>,
    ending: Ending,
}

impl<S: Scan> Lines<S> {
    pub fn new(scan: S) -> Lines<S> {
        Lines { scan, carry: Vec::new(), ending: Ending::Unknown }
    }

    /// The next complete line without its end, given to `action`; false when `chunk` has none and was kept.
    pub fn next<T>(
        &mut self,
        chunk: &mut &[u8],
        action: impl FnOnce(&[u8]) -> Result<T, SqlError>,
    ) -> Result<Option<T>, SqlError> {
        if self.carry.is_empty() {
            if let Some(end) = self.scan.end(chunk, 0) {
                let (line, rest) = chunk.split_at(end);
                *chunk = rest.get(1..).unwrap_or_default();
                self.scan.restart();
                return action(self.ending.strip(line)?).map(Some);
            }
            self.carry.extend_from_slice(chunk);
            *chunk = &[];
            return Ok(None);
        }
        let before = self.carry.len();
        if before + chunk.len() > MAX_CLIENT_MESSAGE_BYTES {
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "a line of COPY data is too long"));
        }
        // Only as much as the line may need is moved together.
        let mut taken = 0;
        while taken < chunk.len() {
            let step = chunk.get(taken..).unwrap_or_default();
            let step =
                step.get(..step.iter().position(|b| *b == b'\n').map_or(step.len(), |at| at + 1)).unwrap_or_default();
            let at = self.carry.len();
            self.carry.extend_from_slice(step);
            taken += step.len();
            if let Some(end) = self.scan.end(&self.carry, at) {
                *chunk = chunk.get(taken..).unwrap_or_default();
                self.scan.restart();
                let mut line = std::mem::take(&mut self.carry);
                line.truncate(end);
                let result = self.ending.strip(&line).and_then(action);
                line.clear();
                self.carry = line;
                return result.map(Some);
            }
        }
        *chunk = &[];
        Ok(None)
    }

    /// The last line, if it has no end.
    pub fn last(&mut self) -> Result<Option<Vec<u8>>, SqlError> {
        let line = std::mem::take(&mut self.carry);
        match line.is_empty() {
            true => Ok(None),
            false => Ok(Some(self.ending.strip(&line)?.to_vec())),
        }
    }
}

impl Ending {
    fn strip<'a>(&mut self, line: &'a [u8]) -> Result<&'a [u8], SqlError> {
        let (body, carriage_return) = match line.strip_suffix(b"\r") {
            Some(body) => (body, true),
            None => (line, false),
        };
        match (*self, carriage_return) {
            (Ending::Unknown, true) => *self = Ending::CarriageReturnNewline,
            (Ending::Unknown, false) => *self = Ending::Newline,
            (Ending::Newline, true) => {
                return Err(SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, "literal carriage return found in data")
                    .with_hint("Use \"\\r\" to represent carriage return."));
            }
            (Ending::Newline, false) | (Ending::CarriageReturnNewline, true) => {}
            (Ending::CarriageReturnNewline, false) => {
                return Err(SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, "literal newline found in data")
                    .with_hint("Use \"\\n\" to represent newline."));
            }
        }
        Ok(body)
    }
}
