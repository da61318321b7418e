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

/// A statement that a client has asked to execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executes<'a> {
    /// It comes as a text.
    Text(&'a [u8]),
    /// A prepared one of this name.
    Statement(&'a [u8]),
}

/// The letter and the body of a complete message, and what stands behind it.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let letter = *bytes.first()?;
    let length = bytes.get(1..5).and_then(|word| <[u8; 4]>::try_from(word).ok()).map(u32::from_be_bytes)? as usize;
    let end = length.checked_add(1)?;
    Some((letter, bytes.get(5..end)?, bytes.get(end..)?))
}

/// The string of this number in a message that begins with strings.
fn word(body: &[u8], number: usize) -> Option<&[u8]> {
    body.split(|byte| *byte == 0).nth(number)
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
        while let Some(b'C' | b'H') = rest.first() {
            let Some((_, _, next)) = split(rest) else { return false };
            rest = next;
        }
        rest.first() == Some(&b'S')
    }

    /// The statement that is executed next, if all that is needed for that has come and nothing else stands before it.
    pub fn executes_next(&self) -> Option<Executes<'_>> {
        let mut frames = self.frames().filter(|(letter, _)| *letter != b'D');
        let (mut letter, mut body) = frames.next()?;
        let parsed = match letter {
            b'P' => {
                let parsed = (word(body, 0)?, word(body, 1)?);
                (letter, body) = frames.next()?;
                Some(parsed)
            }
            _ => None,
        };
        let (portal, statement) = (word(body, 0)?, word(body, 1)?);
        let (last, execute) = frames.next()?;
        let is_executed = (letter, last) == (b'B', b'E') && word(execute, 0)? == portal;
        let is_bound = parsed.is_none_or(|(name, _)| name == statement);
        let executes = parsed.map_or(Executes::Statement(statement), |(_, text)| Executes::Text(text));
        (is_executed && is_bound).then_some(executes)
    }

    /// The complete messages that have come: letters and bodies.
    fn frames(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest: &[u8] = &self.buffer;
        std::iter::from_fn(move || {
            let (letter, body, next) = split(rest)?;
            rest = next;
            Some((letter, body))
        })
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

    fn message(letter: u8, body: &[u8]) -> Vec<u8> {
        [&[letter], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn what_is_executed_next_is_seen_before_it_is_taken() {
        let (parse, bind) = (message(b'P', b"s\0COMMIT\0\0\0"), message(b'B', b"p\0s\0\0\0\0\0\0\0"));
        let (describe, execute, sync) = (message(b'D', b"Pp\0"), message(b'E', b"p\0\0\0\0\0"), message(b'S', b""));
        let next = |messages: &[&Vec<u8>]| {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| message.iter().copied()).collect();
            let input = input(&bytes);
            format!("{:?} {}", input.executes_next(), input.is_at_sync())
        };
        let (statement, text) = (Executes::Statement(b"s"), Executes::Text(b"COMMIT"));
        assert_eq!(next(&[&bind, &describe, &execute, &sync]), format!("{:?} false", Some(statement)));
        assert_eq!(next(&[&parse, &bind, &execute]), format!("{:?} false", Some(text)));
        assert_eq!(next(&[&parse, &describe, &bind, &describe, &execute]), format!("{:?} false", Some(text)));
        let other = message(b'E', b"q\0\0\0\0\0");
        for messages in [&[&bind, &other][..], &[&bind, &bind, &execute], &[&parse, &parse, &bind], &[&bind], &[&sync]]
        {
            assert_eq!(next(messages), format!("None {}", messages == [&sync]));
        }
        let unfinished = bind[..7].to_vec();
        assert_eq!(next(&[&unfinished]), "None false");
        assert_eq!(next(&[&message(b'B', b"p"), &message(b'E', b"")]), "None false");
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
