//! The bytes that came from a client, cut into frames.

use bytes::{Buf, Bytes, BytesMut};
use toroid_common::error::{SqlError, SqlState};
use toroid_common::limits::MAX_CLIENT_MESSAGE_BYTES;

/// Room that is made for one read.
const READ_BYTES: usize = 8 << 10;
/// Room that is made at most for a frame that has been announced and is not there yet.
const READ_AHEAD_BYTES: usize = 256 << 10;
/// Most bytes of a message that carries no text, values or rows.
const SMALL_MESSAGE_BYTES: usize = 10_000;

/// A message: its letter and its body.
#[derive(Clone, Debug)]
pub struct Frame {
    pub letter: u8,
    pub body: Bytes,
}

#[derive(Debug, Default)]
pub struct Input {
    buffer: BytesMut,
}

/// A violation of the protocol, after which the connection cannot go on.
pub fn violation(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, message)
}

/// The longest body of each message; none for letters that are no message of a client.
fn limit(letter: u8) -> Option<usize> {
    match letter {
        b'Q' | b'P' | b'B' | b'd' | b'F' => Some(MAX_CLIENT_MESSAGE_BYTES),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => Some(SMALL_MESSAGE_BYTES),
        _ => None,
    }
}

impl Input {
    /// The next complete message, if it is there.
    pub fn frame(&mut self) -> Result<Option<Frame>, SqlError> {
        let Some(&letter) = self.buffer.first() else { return Ok(None) };
        let limit = limit(letter).ok_or_else(|| violation(format!("invalid frontend message type {letter}")))?;
        let Some(length) = self.length(1)? else { return Ok(None) };
        if length > limit {
            return Err(violation("invalid message length"));
        }
        if self.buffer.len() < 1 + length {
            self.expect(1 + length);
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(1 + length);
        frame.advance(5);
        Ok(Some(Frame { letter, body: frame.freeze() }))
    }

    /// Whether nothing is left of a pipeline but its Sync, as far as has come.
    pub fn is_at_sync(&self) -> bool {
        let mut rest: &[u8] = &self.buffer;
        loop {
            match rest.first() {
                Some(b'S') => return true,
                Some(b'C' | b'H') => {}
                Some(_) | None => return false,
            }
            let length = rest.get(1..5).and_then(|word| <[u8; 4]>::try_from(word).ok()).map(u32::from_be_bytes);
            let Some(next) = length.and_then(|length| rest.get(1 + length as usize..)) else { return false };
            rest = next;
        }
    }

    /// The next complete message of a connection's start, which has no letter; with its length word.
    pub fn start_frame(&mut self, limit: usize) -> Result<Option<BytesMut>, SqlError> {
        let Some(length) = self.length(0)? else { return Ok(None) };
        if !(8..=limit).contains(&length) {
            return Err(violation("invalid length of startup packet"));
        }
        Ok((self.buffer.len() >= length).then(|| self.buffer.split_to(length)))
    }

    fn length(&self, at: usize) -> Result<Option<usize>, SqlError> {
        let Some(word) = self.buffer.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) else {
            return Ok(None);
        };
        match usize::try_from(i32::from_be_bytes(word)) {
            Ok(length) if length >= 4 => Ok(Some(length)),
            _ => Err(violation("invalid message length")),
        }
    }

    /// Makes room for a frame step by step: what a client announces costs nothing until it comes.
    fn expect(&mut self, length: usize) {
        let missing = length.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.min(READ_AHEAD_BYTES));
    }

    /// Where the socket's next bytes go.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 2 {
            self.buffer.reserve(READ_BYTES);
        }
        &mut self.buffer
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Gives memory back while the client is silent.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > READ_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Bytes that are buffered.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> Input {
        let mut input = Input::default();
        input.space().extend_from_slice(bytes);
        input
    }

    #[test]
    fn frames_are_cut_one_by_one() {
        let mut input = input(b"S\0\0\0\x04Q\0\0\0\x07ab\0E\0\0");
        assert_eq!(input.frame().unwrap().unwrap().letter, b'S');
        let query = input.frame().unwrap().unwrap();
        assert_eq!((query.letter, &query.body[..]), (b'Q', &b"ab\0"[..]));
        assert!(input.frame().unwrap().is_none());
        assert_eq!(input.len(), 3);
    }

    #[test]
    fn the_end_of_a_pipeline_is_seen_where_it_has_come() {
        let close = b"C\0\0\0\x06P\0";
        let at_sync = |parts: &[&[u8]]| input(&parts.concat()).is_at_sync();
        assert!(at_sync(&[b"S\0\0\0\x04"]));
        assert!(at_sync(&[close, b"H\0\0\0\x04", b"S"]));
        assert!(!at_sync(&[close]));
        assert!(!at_sync(&[b"C\0\0\0\x06P"]));
        assert!(!at_sync(&[b"B\0\0\0\x04", b"S\0\0\0\x04"]));
        assert!(!at_sync(&[]));
    }

    #[test]
    fn bad_frames_are_refused_before_they_are_read() {
        assert_eq!(input(b"@").frame().unwrap_err().message(), "invalid frontend message type 64");
        assert_eq!(input(b"S\0\0\0\x03").frame().unwrap_err().message(), "invalid message length");
        assert_eq!(input(b"Q\xff\xff\xff\xff").frame().unwrap_err().message(), "invalid message length");
        assert_eq!(input(b"E\x7f\xff\xff\xff").frame().unwrap_err().message(), "invalid message length");
        assert_eq!(input(b"\0\0\0\x07").start_frame(100).unwrap_err().message(), "invalid length of startup packet");
    }
}
