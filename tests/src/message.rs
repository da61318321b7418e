//! PostgreSQL's protocol 3.0 as a client sees it: messages to the server as bytes, messages from it as values.

use std::fmt;

/// What the client sends; each call adds one message. The bytes are plain, so that tests can also damage them.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    pub bytes: Vec<u8>,
}

/// Format of a parameter or a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text = 0,
    Binary = 1,
}

/// What a Describe or Close names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Statement = b'S' as isize,
    Portal = b'P' as isize,
}

/// A parameter's bytes, or NULL.
pub type Value = Option<Vec<u8>>;

impl Outgoing {
    pub fn new() -> Outgoing {
        Outgoing::default()
    }

    /// The start of a session, with no type byte.
    pub fn startup(parameters: &[(&str, &str)]) -> Outgoing {
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        for (name, value) in parameters {
            text(&mut body, name);
            text(&mut body, value);
        }
        body.push(0);
        Outgoing { bytes: framed(&body) }
    }

    /// The request for encryption, with no type byte.
    pub fn ssl_request() -> Outgoing {
        Outgoing { bytes: framed(&80_877_103_i32.to_be_bytes()) }
    }

    /// The request to cancel what another connection runs.
    pub fn cancel_request(process: i32, secret: &[u8]) -> Outgoing {
        let mut body = 80_877_102_i32.to_be_bytes().to_vec();
        body.extend(process.to_be_bytes());
        body.extend(secret);
        Outgoing { bytes: framed(&body) }
    }

    /// A message of any type and body.
    pub fn raw(mut self, tag: u8, body: &[u8]) -> Outgoing {
        self.bytes.push(tag);
        self.bytes.extend(framed(body));
        self
    }

    pub fn query(self, sql: &str) -> Outgoing {
        let mut body = Vec::new();
        text(&mut body, sql);
        self.raw(b'Q', &body)
    }

    pub fn parse(self, name: &str, sql: &str, types: &[u32]) -> Outgoing {
        let mut body = Vec::new();
        text(&mut body, name);
        text(&mut body, sql);
        body.extend((types.len() as u16).to_be_bytes());
        types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
        self.raw(b'P', &body)
    }

    /// All parameters in `format`, all results in `results`.
    pub fn bind(self, portal: &str, statement: &str, format: Format, values: &[Value], results: Format) -> Outgoing {
        let mut body = Vec::new();
        text(&mut body, portal);
        text(&mut body, statement);
        body.extend([0, 1, 0, format as u8]);
        body.extend((values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                Some(bytes) => {
                    body.extend((bytes.len() as u32).to_be_bytes());
                    body.extend(bytes);
                }
                None => body.extend((-1_i32).to_be_bytes()),
            }
        }
        body.extend([0, 1, 0, results as u8]);
        self.raw(b'B', &body)
    }

    pub fn describe(self, target: Target, name: &str) -> Outgoing {
        self.named(b'D', target, name)
    }

    pub fn close(self, target: Target, name: &str) -> Outgoing {
        self.named(b'C', target, name)
    }

    fn named(self, tag: u8, target: Target, name: &str) -> Outgoing {
        let mut body = vec![target as u8];
        text(&mut body, name);
        self.raw(tag, &body)
    }

    /// At most `rows` rows; 0 means all.
    pub fn execute(self, portal: &str, rows: u32) -> Outgoing {
        let mut body = Vec::new();
        text(&mut body, portal);
        body.extend(rows.to_be_bytes());
        self.raw(b'E', &body)
    }

    pub fn sync(self) -> Outgoing {
        self.raw(b'S', &[])
    }

    pub fn flush(self) -> Outgoing {
        self.raw(b'H', &[])
    }

    pub fn copy_data(self, data: &[u8]) -> Outgoing {
        self.raw(b'd', data)
    }

    pub fn copy_done(self) -> Outgoing {
        self.raw(b'c', &[])
    }

    pub fn copy_fail(self, reason: &str) -> Outgoing {
        let mut body = Vec::new();
        text(&mut body, reason);
        self.raw(b'f', &body)
    }

    pub fn terminate(self) -> Outgoing {
        self.raw(b'X', &[])
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(text.as_bytes());
    body.push(0);
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// A column of RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub table: u32,
    pub attribute: u16,
    pub oid: u32,
    pub size: i16,
    pub modifier: i32,
    pub format: u16,
}

/// The fields of ErrorResponse and NoticeResponse, by their letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub fields: Vec<(char, String)>,
}

impl Report {
    pub fn field(&self, letter: char) -> Option<&str> {
        self.fields.iter().find(|(name, _)| *name == letter).map(|(_, value)| value.as_str())
    }

    pub fn severity(&self) -> &str {
        self.field('V').or_else(|| self.field('S')).unwrap_or("")
    }

    pub fn state(&self) -> &str {
        self.field('C').unwrap_or("")
    }

    pub fn message(&self) -> &str {
        self.field('M').unwrap_or("")
    }

    pub fn position(&self) -> Option<u32> {
        self.field('P')?.parse().ok()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity(), self.state(), self.message())
    }
}

/// What the server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    Authentication(u32),
    ParameterStatus(String, String),
    BackendKey(i32, Vec<u8>),
    Ready(char),
    RowDescription(Vec<Field>),
    DataRow(Vec<Value>),
    CommandComplete(String),
    EmptyQuery,
    Error(Report),
    Notice(Report),
    ParseComplete,
    BindComplete,
    CloseComplete,
    NoData,
    ParameterDescription(Vec<u32>),
    PortalSuspended,
    CopyIn {
        format: u8,
        columns: Vec<u16>,
    },
    CopyOut {
        format: u8,
        columns: Vec<u16>,
    },
    CopyData(Vec<u8>),
    CopyDone,
    NegotiateVersion(u32),
    Notification {
        process: u32,
        channel: String,
        payload: String,
    },
    /// A type or a body that the protocol does not know.
    Unknown(u8, Vec<u8>),
}

impl Incoming {
    /// Decodes one message; what does not follow the protocol to the last byte is `Unknown`.
    pub fn decode(tag: u8, body: &[u8]) -> Incoming {
        let mut reader = Reader { rest: body };
        match decode(tag, &mut reader) {
            Some(message) if reader.rest.is_empty() => message,
            _ => Incoming::Unknown(tag, body.to_vec()),
        }
    }
}

fn decode(tag: u8, reader: &mut Reader<'_>) -> Option<Incoming> {
    Some(match tag {
        b'R' => {
            let kind = reader.u32()?;
            reader.rest = &[];
            Incoming::Authentication(kind)
        }
        b'S' => Incoming::ParameterStatus(reader.text()?, reader.text()?),
        b'K' => Incoming::BackendKey(reader.u32()? as i32, std::mem::take(&mut reader.rest).to_vec()),
        b'Z' => Incoming::Ready(reader.u8()? as char),
        b'T' => Incoming::RowDescription(reader.list(Reader::field)?),
        b'D' => Incoming::DataRow(reader.list(Reader::value)?),
        b'C' => Incoming::CommandComplete(reader.text()?),
        b'I' => Incoming::EmptyQuery,
        b'E' => Incoming::Error(reader.report()?),
        b'N' => Incoming::Notice(reader.report()?),
        b'A' => Incoming::Notification { process: reader.u32()?, channel: reader.text()?, payload: reader.text()? },
        b'1' => Incoming::ParseComplete,
        b'2' => Incoming::BindComplete,
        b'3' => Incoming::CloseComplete,
        b'n' => Incoming::NoData,
        b't' => Incoming::ParameterDescription(reader.list(Reader::u32)?),
        b's' => Incoming::PortalSuspended,
        b'G' => Incoming::CopyIn { format: reader.u8()?, columns: reader.list(Reader::u16)? },
        b'H' => Incoming::CopyOut { format: reader.u8()?, columns: reader.list(Reader::u16)? },
        b'd' => Incoming::CopyData(std::mem::take(&mut reader.rest).to_vec()),
        b'c' => Incoming::CopyDone,
        b'v' => {
            let version = reader.u32()?;
            reader.rest = &[];
            Incoming::NegotiateVersion(version)
        }
        _ => return None,
    })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(length)?;
        self.rest = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.rest.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }

    fn list<T>(&mut self, item: fn(&mut Reader<'a>) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u16()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn field(&mut self) -> Option<Field> {
        Some(Field {
            name: self.text()?,
            table: self.u32()?,
            attribute: self.u16()?,
            oid: self.u32()?,
            size: self.u16()? as i16,
            modifier: self.u32()? as i32,
            format: self.u16()?,
        })
    }

    fn value(&mut self) -> Option<Value> {
        match self.u32()? {
            u32::MAX => Some(None),
            length => self.take(length as usize).map(|bytes| Some(bytes.to_vec())),
        }
    }

    fn report(&mut self) -> Option<Report> {
        let mut report = Report::default();
        loop {
            match self.u8()? {
                0 => return Some(report),
                letter => report.fields.push((letter as char, self.text()?)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_length() {
        assert_eq!(Outgoing::new().query("a").sync().bytes, b"Q\0\0\0\x06a\0S\0\0\0\x04");
        assert_eq!(Outgoing::startup(&[("user", "u")]).bytes, b"\0\0\0\x10\0\x03\0\0user\0u\0\0");
        let bind = Outgoing::new().bind("", "s", Format::Text, &[Some(b"x".to_vec()), None], Format::Binary);
        assert_eq!(bind.bytes, b"B\0\0\0\x1a\0s\0\0\x01\0\0\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01\0\x01");
    }

    #[test]
    fn replies_are_decoded_to_the_last_byte() {
        assert_eq!(Incoming::decode(b'Z', b"I"), Incoming::Ready('I'));
        assert_eq!(Incoming::decode(b'Z', b"II"), Incoming::Unknown(b'Z', b"II".to_vec()));
        assert_eq!(
            Incoming::decode(b'D', b"\0\x02\0\0\0\x01x\xff\xff\xff\xff"),
            Incoming::DataRow(vec![Some(b"x".to_vec()), None])
        );
        let Incoming::Error(report) = Incoming::decode(b'E', b"SERROR\0C42601\0Mno\0P7\0\0") else {
            panic!("no error")
        };
        assert_eq!((report.to_string().as_str(), report.position()), ("ERROR 42601: no", Some(7)));
    }
}
