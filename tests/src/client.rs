//! A blocking client that hides nothing: bytes go out as they are given, every message comes in as a value.

use crate::message::{Incoming, Outgoing, Report};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where a server listens, and as whom to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or number for TCP, or the directory of a socket when it begins with a slash.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub database: String,
}

impl Address {
    /// Reads `postgresql://user@host:port/database?host=/directory`.
    pub fn parse(url: &str) -> Option<Address> {
        let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"))?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = place.rsplit_once('@').unwrap_or(("postgres", place));
        let (host, port) = place.rsplit_once(':').unwrap_or((place, "5432"));
        let mut address =
            Address { host: host.into(), port: port.parse().ok()?, user: user.into(), database: database.into() };
        for (name, value) in options.split('&').filter_map(|option| option.split_once('=')) {
            match name {
                "host" => address.host = value.into(),
                "port" => address.port = value.parse().ok()?,
                "user" => address.user = value.into(),
                "dbname" => address.database = value.into(),
                _ => return None,
            }
        }
        if address.database.is_empty() {
            address.database.clone_from(&address.user);
        }
        Some(address)
    }

    fn open(&self, timeout: Duration) -> io::Result<Box<dyn Socket>> {
        if self.host.starts_with('/') {
            let stream = UnixStream::connect(format!("{}/.s.PGSQL.{}", self.host, self.port))?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            return Ok(Box::new(stream));
        }
        let stream = TcpStream::connect((self.host.as_str(), self.port))?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

trait Socket: Read + Write + Send {
    fn set_patience(&self, timeout: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn set_patience(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }
}

impl Socket for UnixStream {
    fn set_patience(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }
}

/// How long a reply may take before it counts as missing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Largest message that is believed.
const MAX_MESSAGE: usize = 1 << 30;

/// One connection.
pub struct Client {
    socket: Box<dyn Socket>,
    received: Vec<u8>,
    at: usize,
    /// The server's parameters as last reported.
    pub parameters: BTreeMap<String, String>,
    /// Process and secret for a cancel request.
    pub key: Option<(i32, Vec<u8>)>,
}

impl Client {
    /// A connection on which nothing was said yet.
    pub fn open(address: &Address) -> io::Result<Client> {
        let socket = address.open(PATIENCE)?;
        Ok(Client { socket, received: Vec::new(), at: 0, parameters: BTreeMap::new(), key: None })
    }

    /// A session ready for statements, in UTC and with PostgreSQL's default styles.
    pub fn connect(address: &Address) -> io::Result<Client> {
        let named = [("user", address.user.as_str()), ("database", address.database.as_str())];
        let styles = [
            ("application_name", "toroid-tests"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("TimeZone", "UTC"),
        ];
        let mut client = Client::open(address)?;
        client.send(&Outgoing::startup(&[named.as_slice(), styles.as_slice()].concat()))?;
        match client.until_ready()?.into_iter().find_map(error) {
            Some(report) => Err(io::Error::other(report.to_string())),
            None => Ok(client),
        }
    }

    pub fn send(&mut self, messages: &Outgoing) -> io::Result<()> {
        self.send_bytes(&messages.bytes)
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)?;
        self.socket.flush()
    }

    /// From now on a reply may take this long.
    pub fn set_patience(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_patience(timeout)
    }

    /// The next message. A closed connection is `UnexpectedEof`.
    pub fn receive(&mut self) -> io::Result<Incoming> {
        self.need(5)?;
        let head = &self.received[self.at..self.at + 5];
        let (tag, length) = (head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize);
        if !(4..MAX_MESSAGE).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message {tag} of length {length}")));
        }
        self.need(1 + length)?;
        let body = &self.received[self.at + 5..self.at + 1 + length];
        let message = Incoming::decode(tag, body);
        self.at += 1 + length;
        match &message {
            Incoming::ParameterStatus(name, value) => {
                self.parameters.insert(name.clone(), value.clone());
            }
            Incoming::BackendKey(process, secret) => self.key = Some((*process, secret.clone())),
            _ => {}
        }
        Ok(message)
    }

    /// One byte outside of any message: the answer to an SSL request.
    pub fn receive_byte(&mut self) -> io::Result<u8> {
        self.need(1)?;
        self.at += 1;
        Ok(self.received[self.at - 1])
    }

    fn need(&mut self, length: usize) -> io::Result<()> {
        if self.received.len() - self.at >= length {
            return Ok(());
        }
        self.received.drain(..self.at);
        self.at = 0;
        let mut chunk = [0; 1 << 16];
        while self.received.len() < length {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                // A signal to this process says nothing of the server.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All messages up to and with ReadyForQuery, or up to a fatal error's end of the connection.
    pub fn until_ready(&mut self) -> io::Result<Vec<Incoming>> {
        let mut messages = Vec::new();
        loop {
            match self.receive() {
                Ok(message @ Incoming::Ready(_)) => {
                    messages.push(message);
                    return Ok(messages);
                }
                Ok(message) => messages.push(message),
                Err(_) if messages.iter().any(is_fatal) => return Ok(messages),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a simple query and gives all replies.
    pub fn query(&mut self, sql: &str) -> io::Result<Vec<Incoming>> {
        self.send(&Outgoing::new().query(sql))?;
        self.until_ready()
    }

    /// The first column of the first row of a simple query, as text; an error of the server is an error here.
    pub fn value(&mut self, sql: &str) -> io::Result<Option<String>> {
        let mut value = None;
        for message in self.query(sql)? {
            match message {
                Incoming::Error(report) => return Err(io::Error::other(report.to_string())),
                Incoming::DataRow(row) if value.is_none() => {
                    value = row.into_iter().next().flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                }
                _ => {}
            }
        }
        Ok(value)
    }

    /// The SQLSTATE of the first error of a simple query, if it has one.
    pub fn state(&mut self, sql: &str) -> io::Result<Option<String>> {
        let messages = self.query(sql)?;
        Ok(messages.iter().find_map(|message| match message {
            Incoming::Error(report) => Some(report.state().to_owned()),
            _ => None,
        }))
    }

    /// Runs a statement for its effect.
    pub fn run(&mut self, sql: &str) -> io::Result<()> {
        self.value(sql).map(drop)
    }

    /// Whether the server ended this connection; what it still says before is read and given.
    pub fn until_closed(&mut self) -> io::Result<Vec<Incoming>> {
        let mut messages = Vec::new();
        loop {
            match self.receive() {
                Ok(message) => messages.push(message),
                Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                    return Ok(messages);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn error(message: Incoming) -> Option<Report> {
    match message {
        Incoming::Error(report) => Some(report),
        _ => None,
    }
}

fn is_fatal(message: &Incoming) -> bool {
    matches!(message, Incoming::Error(report) if matches!(report.severity(), "FATAL" | "PANIC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_urls() {
        let tcp = Address::parse("postgresql://127.0.0.1:5433/toroid").expect("an address");
        assert_eq!(
            (tcp.host.as_str(), tcp.port, tcp.user.as_str(), tcp.database.as_str()),
            ("127.0.0.1", 5433, "postgres", "toroid")
        );
        let unix = Address::parse("postgresql:///a?host=/tmp/x&port=7&user=u").expect("an address");
        assert_eq!(
            (unix.host.as_str(), unix.port, unix.user.as_str(), unix.database.as_str()),
            ("/tmp/x", 7, "u", "a")
        );
        assert_eq!(Address::parse("mysql://x"), None);
    }
}
