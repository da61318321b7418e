//! What clients say, borrowed from their frames.

use crate::protocol::input::{Frame, violation};
use toroid_common::error::{SqlError, SqlState};

/// Which of the two kinds of names Describe and Close mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Message<'a> {
    Query { text: &'a [u8] },
    Parse { name: &'a [u8], text: &'a [u8], types: Words<'a, 4> },
    Bind(Bind<'a>),
    Describe { target: Target, name: &'a [u8] },
    Execute { portal: &'a [u8], limit: i32 },
    Close { target: Target, name: &'a [u8] },
    Flush,
    Sync,
    CopyData(&'a [u8]),
    CopyDone,
    CopyFail { reason: &'a [u8] },
    FunctionCall,
    Terminate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    pub formats: Words<'a, 2>,
    pub count: u16,
    values: &'a [u8],
    pub results: Words<'a, 2>,
}

/// A counted list of big-endian words of `N` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Words<'a, const N: usize>(&'a [u8]);

impl<'a, const N: usize> Words<'a, N> {
    pub fn len(self) -> usize {
        self.0.len() / N
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn chunks(self) -> impl Iterator<Item = [u8; N]> + 'a {
        self.0.as_chunks::<N>().0.iter().copied()
    }
}

impl<'a> Words<'a, 2> {
    pub fn iter(self) -> impl Iterator<Item = i16> + 'a {
        self.chunks().map(i16::from_be_bytes)
    }
}

impl<'a> Words<'a, 4> {
    pub fn iter(self) -> impl Iterator<Item = u32> + 'a {
        self.chunks().map(u32::from_be_bytes)
    }
}

/// The fields of one body, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], SqlError> {
        let (head, tail) =
            self.0.split_at_checked(count).ok_or_else(|| violation("insufficient data left in message"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SqlError> {
        self.take(N)?.try_into().map_err(|_| violation("insufficient data left in message"))
    }

    fn u16(&mut self) -> Result<u16, SqlError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, SqlError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn words<const N: usize>(&mut self) -> Result<Words<'a, N>, SqlError> {
        let count = usize::from(self.u16()?);
        Ok(Words(self.take(count * N)?))
    }

    /// Text up to its zero byte.
    fn text(&mut self) -> Result<&'a [u8], SqlError> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(|| violation("invalid string in message"))?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    fn target(&mut self) -> Result<Target, SqlError> {
        match self.array()? {
            [b'S'] => Ok(Target::Statement),
            [b'P'] => Ok(Target::Portal),
            [other] => Err(violation(format!("invalid message subtype {other}"))),
        }
    }

    fn end(self) -> Result<(), SqlError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(violation("invalid message format")),
        }
    }
}

impl<'a> Message<'a> {
    pub fn read(frame: &'a Frame) -> Result<Message<'a>, SqlError> {
        let mut fields = Fields(&frame.body);
        let message = match frame.letter {
            b'Q' => Message::Query { text: fields.text()? },
            b'P' => Message::Parse { name: fields.text()?, text: fields.text()?, types: fields.words()? },
            b'B' => Message::Bind(bind(&mut fields)?),
            b'D' => Message::Describe { target: fields.target()?, name: fields.text()? },
            b'E' => Message::Execute { portal: fields.text()?, limit: fields.i32()? },
            b'C' => Message::Close { target: fields.target()?, name: fields.text()? },
            b'H' => Message::Flush,
            b'S' => Message::Sync,
            b'd' => return Ok(Message::CopyData(&frame.body)),
            b'c' => Message::CopyDone,
            b'f' => Message::CopyFail { reason: fields.text()? },
            b'F' => return Ok(Message::FunctionCall),
            b'X' => return Ok(Message::Terminate),
            other => return Err(violation(format!("invalid frontend message type {other}"))),
        };
        fields.end()?;
        Ok(message)
    }
}

fn bind<'a>(fields: &mut Fields<'a>) -> Result<Bind<'a>, SqlError> {
    let (portal, statement, formats, count) = (fields.text()?, fields.text()?, fields.words()?, fields.u16()?);
    let start = fields.0;
    for _ in 0..count {
        value(fields)?;
    }
    let values = start.get(..start.len() - fields.0.len()).unwrap_or_default();
    Ok(Bind { portal, statement, formats, count, values, results: fields.words()? })
}

fn value<'a>(fields: &mut Fields<'a>) -> Result<Option<&'a [u8]>, SqlError> {
    match fields.i32()? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => fields.take(length).map(Some),
            Err(_) => Err(violation("insufficient data left in message")),
        },
    }
}

impl<'a> Bind<'a> {
    /// The parameters; none is NULL.
    pub fn values(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut fields = Fields(self.values);
        std::iter::from_fn(move || match fields.0.is_empty() {
            true => None,
            false => value(&mut fields).ok(),
        })
    }
}

/// Text of a client; its encoding is always UTF-8.
pub fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    let invalid = match (std::str::from_utf8(bytes), bytes.iter().position(|b| *b == 0)) {
        (Ok(text), None) => return Ok(text),
        (Ok(_), Some(zero)) => zero,
        (Err(error), zero) => error.valid_up_to().min(zero.unwrap_or(usize::MAX)),
    };
    Err({
        let rest = bytes.get(invalid..).unwrap_or_default();
        let expected = match rest.first() {
            Some(0xC2..=0xDF) => 2,
            Some(0xE0..=0xEF) => 3,
            Some(0xF0..=0xF7) => 4,
            _ => 1,
        };
        let shown: Vec<String> = rest.iter().take(expected).map(|b| format!("0x{b:02x}")).collect();
        let message = format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" "));
        SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(letter: u8, body: &'static [u8]) -> Frame {
        Frame { letter, body: Bytes::from_static(body) }
    }

    #[test]
    fn a_bind_gives_its_values() {
        let frame = frame(b'B', b"p\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x02hi\0\0");
        let Message::Bind(bind) = Message::read(&frame).unwrap() else { panic!() };
        assert_eq!((bind.portal, bind.statement, bind.count), (&b"p"[..], &b"s"[..], 2));
        assert_eq!(bind.formats.iter().collect::<Vec<_>>(), [1]);
        assert_eq!(bind.values().collect::<Vec<_>>(), [None, Some(&b"hi"[..])]);
        assert!(bind.results.is_empty());
    }

    #[test]
    fn short_long_and_senseless_bodies_are_violations() {
        for (letter, body, message) in [
            (b'B', &b"\0\0\0\0\0\x01\0\0\0\x09hi"[..], "insufficient data left in message"),
            (b'B', b"\0\0\0\x7f", "insufficient data left in message"),
            (b'B', b"\0\0\0\0\xff\xff", "insufficient data left in message"),
            (b'P', b"name", "invalid string in message"),
            (b'Q', b"x\0y", "invalid message format"),
            (b'D', b"Xn\0", "invalid message subtype 88"),
            (b'S', b"a", "invalid message format"),
        ] {
            let frame = frame(letter, body);
            assert_eq!(Message::read(&frame).unwrap_err().message(), message);
        }
    }

    #[test]
    fn bad_text_names_its_bytes() {
        let error = utf8(b"a\xe4b").unwrap_err();
        assert_eq!(error.message(), "invalid byte sequence for encoding \"UTF8\": 0xe4 0x62");
    }
}
