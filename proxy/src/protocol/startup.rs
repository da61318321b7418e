//! The start of a connection: what kind it is, which protocol, which options.

use crate::protocol::backend::Output;
use crate::protocol::input::{Input, violation};
use bytes::{Bytes, BytesMut};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::response::{GssEncResponse, SslResponse};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey, Startup};
use pgwire::messages::startup::{GssEncRequest, SslRequest};
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};
use toroid_common::error::{SqlError, SqlState};

/// Most bytes of a message before the session starts (PostgreSQL: `MAX_STARTUP_PACKET_LENGTH`).
const MAX_START_BYTES: usize = 10_000;
/// Bytes of a cancel key of protocol 3.2; 3.0 has four.
pub const LONG_KEY_BYTES: usize = 32;
pub const SHORT_KEY_BYTES: usize = 4;

/// What a client opened the connection for.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// Encryption was asked for and refused: one byte to send, then the client tries again.
    Refused,
    Cancel {
        process: i32,
        key: Bytes,
    },
    Session(Options),
}

/// The options of a startup message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The minor protocol version that both sides speak.
    pub minor: u16,
    pub user: String,
    pub database: String,
    /// Settings in the order in which they count: `options` first.
    pub settings: Vec<(String, String)>,
}

/// Reads the next message of a connection's start; what must be answered before anything else goes to `output`.
pub fn opening(input: &mut Input, output: &mut Output) -> Result<Option<Opening>, SqlError> {
    let Some(mut frame) = input.start_frame(MAX_START_BYTES)? else { return Ok(None) };
    if SslRequest::is_ssl_request_packet(&frame) || GssEncRequest::is_gss_enc_request_packet(&frame) {
        refuse(&frame, output);
        return match input.is_empty() {
            true => Ok(Some(Opening::Refused)),
            false => Err(violation("received unencrypted data after SSL request")),
        };
    }
    if CancelRequest::is_cancel_request_packet(&frame) {
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
        return match CancelRequest::decode(&mut frame, &context) {
            Ok(Some(request)) => Ok(Some(Opening::Cancel { process: request.pid, key: request.secret_key.to_bytes() })),
            _ => Err(violation("invalid length of startup packet")),
        };
    }
    session(&mut frame, output).map(|options| Some(Opening::Session(options)))
}

fn refuse(frame: &[u8], output: &mut Output) {
    let mut bytes = BytesMut::new();
    let written = match SslRequest::is_ssl_request_packet(frame) {
        true => SslResponse::Refuse.encode(&mut bytes),
        false => GssEncResponse::Refuse.encode(&mut bytes),
    };
    if written.is_ok() {
        output.body().extend_from_slice(&bytes);
    }
}

fn session(frame: &mut BytesMut, output: &mut Output) -> Result<Options, SqlError> {
    let version = frame.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map_or(0, u32::from_be_bytes);
    let (major, asked) = (version >> 16, version & 0xffff);
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{asked}: server supports 3.0 to 3.2");
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    if frame.last() != Some(&0) {
        return Err(violation("invalid startup packet layout: expected terminator as last byte"));
    }
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    let startup = match Startup::decode(frame, &context) {
        Ok(Some(startup)) => startup,
        _ => return Err(violation("invalid startup packet layout: expected terminator as last byte")),
    };
    let minor = if asked >= 2 { 2 } else { 0 };
    let mut options = Options { minor, ..Options::default() };
    let mut unknown = Vec::new();
    for (name, value) in startup.parameters {
        match name.as_str() {
            "user" => options.user = value,
            "database" => options.database = value,
            "options" => {
                let mut given = command_line(&value)?;
                given.append(&mut options.settings);
                options.settings = given;
            }
            "replication" => match value.as_str() {
                "false" | "off" | "no" | "0" => {}
                _ => return Err(SqlError::unsupported("replication")),
            },
            name if name.starts_with("_pq_.") => unknown.push(name.to_owned()),
            _ => options.settings.push((name, value)),
        }
    }
    if options.user.is_empty() {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(SqlError::new(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, message));
    }
    if options.database.is_empty() {
        options.database.clone_from(&options.user);
    }
    if u32::from(minor) != asked || !unknown.is_empty() {
        let spoken = i32::from(3_u16) << 16 | i32::from(minor);
        output.start_message(&NegotiateProtocolVersion::new(spoken, unknown));
    }
    Ok(options)
}

/// `-c name=value`, `-cname=value` and `--name=value`, separated by spaces; a backslash takes the next character as it is.
fn command_line(text: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, words.last_mut()) {
            ('\\', Some(word)) => word.extend(chars.next()),
            (c, Some(word)) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(String::new());
                }
            }
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(long), _) => long.to_owned(),
            (None, Some("")) => words.next().unwrap_or_default(),
            (None, Some(short)) => short.to_owned(),
            (None, None) => return Err(bad_option(&word)),
        };
        match assignment.split_once('=') {
            Some((name, value)) => settings.push((name.replace('-', "_"), value.to_owned())),
            None => return Err(bad_option(&word)),
        }
    }
    Ok(settings)
}

fn bad_option(word: &str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, format!("invalid command-line argument for server process: {word}"))
}

/// The client is in: there are no passwords yet.
pub fn welcome(output: &mut Output) {
    output.start_message(&Authentication::Ok);
}

/// BackendKeyData: what a cancel request must name.
pub fn cancel_key(output: &mut Output, process: i32, key: &[u8]) {
    let key = SecretKey::Bytes(Bytes::copy_from_slice(key));
    output.start_message(&BackendKeyData::new(process, key));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(bytes: &[u8]) -> (Result<Option<Opening>, SqlError>, Vec<u8>) {
        let (mut input, mut output) = (Input::default(), Output::default());
        input.space().extend_from_slice(bytes);
        let opening = opening(&mut input, &mut output);
        (opening, output.bytes().to_vec())
    }

    #[test]
    fn encryption_is_refused_and_cancel_understood() {
        assert_eq!(start(b"\0\0\0\x08\x04\xd2\x16\x2f"), (Ok(Some(Opening::Refused)), b"N".to_vec()));
        assert_eq!(start(b"\0\0\0\x08\x04\xd2\x16\x30"), (Ok(Some(Opening::Refused)), b"N".to_vec()));
        assert!(start(b"\0\0\0\x08\x04\xd2\x16\x2fQ").0.is_err());
        let cancel = start(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07abcd").0.unwrap();
        assert_eq!(cancel, Some(Opening::Cancel { process: 7, key: Bytes::from_static(b"abcd") }));
    }

    #[test]
    fn options_become_settings() {
        let body = b"\0\x03\0\0user\0me\0application_name\0psql\0options\0-c work_mem=1MB --time-zone=a\\ b\0\0";
        let mut bytes = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        let (opening, output) = start(&bytes);
        let Ok(Some(Opening::Session(options))) = opening else { panic!("{opening:?}") };
        assert_eq!((options.user.as_str(), options.database.as_str(), options.minor), ("me", "me", 0));
        let settings: Vec<_> = options.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(settings, [("work_mem", "1MB"), ("time_zone", "a b"), ("application_name", "psql")]);
        assert!(output.is_empty());
    }

    #[test]
    fn newer_protocols_are_negotiated_down() {
        let (opening, output) = start(b"\0\0\0\x11\0\x03\x27\x0fuser\0me\0\0");
        assert!(opening.is_ok(), "{opening:?}");
        assert_eq!(output, b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
        assert!(start(b"\0\0\0\x09\0\x02\0\0\0").0.is_err());
    }
}
