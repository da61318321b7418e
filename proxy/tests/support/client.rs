//! Sends messages written one a line, and writes down what comes back, one message a line.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Client {
    stream: TcpStream,
    pub process: u32,
    pub key: Vec<u8>,
}

pub fn frame(letter: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![letter];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn cstring(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn words(out: &mut Vec<u8>, text: &str, width: usize) {
    let items: Vec<u32> = text.split(',').filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect();
    out.extend_from_slice(&(items.len() as u16).to_be_bytes());
    for item in items {
        out.extend_from_slice(&item.to_be_bytes()[4 - width..]);
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match (b, b == b'%') {
            (_, true) => {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            (b, false) => out.push(b),
        }
    }
    out
}

/// `Q sql` | `P name|sql|oids` | `B portal|statement|formats|values|formats` | `D Sname` | `E portal|limit` | `C Pname` | `d data` | `c` | `f reason` | `S` | `H`.
fn message(line: &str) -> Vec<u8> {
    let (letter, rest) = line.split_at(1);
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let parts: Vec<&str> = rest.split('|').collect();
    let mut body = Vec::new();
    match letter {
        "Q" | "f" => cstring(&mut body, rest),
        "P" => {
            cstring(&mut body, parts[0]);
            cstring(&mut body, parts[1]);
            words(&mut body, parts[2], 4);
        }
        "B" => {
            cstring(&mut body, parts[0]);
            cstring(&mut body, parts[1]);
            words(&mut body, parts[2], 2);
            let values: Vec<&str> = parts[3].split(',').filter(|s| !s.is_empty()).collect();
            body.extend_from_slice(&(values.len() as u16).to_be_bytes());
            for value in values {
                if value == "NULL" {
                    body.extend_from_slice(&(-1_i32).to_be_bytes());
                    continue;
                }
                let bytes = unescape(value);
                body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                body.extend_from_slice(&bytes);
            }
            words(&mut body, parts[4], 2);
        }
        "D" | "C" => {
            body.push(rest.as_bytes()[0]);
            cstring(&mut body, &rest[1..]);
        }
        "E" => {
            cstring(&mut body, parts[0]);
            body.extend_from_slice(&parts[1].parse::<i32>().unwrap().to_be_bytes());
        }
        "d" => body = unescape(rest),
        _ => {}
    }
    frame(letter.as_bytes()[0], &body)
}

impl Client {
    pub fn connect(address: SocketAddr, user: &str) -> Client {
        Client::with_options(address, &[("user", user), ("database", "postgres"), ("TimeZone", "UTC")]).unwrap()
    }

    /// None with the error's text when the server refused.
    pub fn with_options(address: SocketAddr, options: &[(&str, &str)]) -> Result<Client, String> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for (name, value) in options {
            cstring(&mut body, name);
            cstring(&mut body, value);
        }
        body.push(0);
        let mut start = (body.len() as u32 + 4).to_be_bytes().to_vec();
        start.extend_from_slice(&body);
        stream.write_all(&start).unwrap();
        let mut client = Client { stream, process: 0, key: Vec::new() };
        loop {
            match client.read() {
                Some((b'K', body)) => {
                    client.process = u32::from_be_bytes(body[..4].try_into().unwrap());
                    client.key = body[4..].to_vec();
                }
                Some((b'Z', _)) => return Ok(client),
                Some((b'E', body)) => return Err(show(b'E', &body)),
                Some(_) => {}
                None => return Err("closed".to_owned()),
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
        self.stream.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }

    /// Sends all lines at once and reads until as many ReadyForQuery have come as Query and Sync went out.
    pub fn exchange(&mut self, lines: &[&str]) -> Vec<String> {
        let bytes: Vec<u8> = lines.iter().flat_map(|line| message(line)).collect();
        self.send(&bytes);
        let mut ready = lines.iter().filter(|line| line.starts_with('Q') || **line == "S").count();
        let mut shown = Vec::new();
        while ready > 0 {
            let Some((letter, body)) = self.read() else {
                shown.push("closed".to_owned());
                break;
            };
            ready -= usize::from(letter == b'Z');
            shown.push(show(letter, &body));
        }
        shown
    }
}

pub fn show(letter: u8, body: &[u8]) -> String {
    let printable = |bytes: &[u8]| -> String {
        let byte = |b: &u8| match b {
            b' '..=b'~' => char::from(*b).to_string(),
            _ => format!("%{b:02x}"),
        };
        bytes.iter().map(byte).collect()
    };
    match letter {
        b'E' | b'N' => {
            let fields = body.split(|b| *b == 0).filter(|f| !f.is_empty() && b"SCMDHPW".contains(&f[0]));
            let shown: Vec<String> = fields.map(printable).collect();
            format!("{} {}", char::from(letter), shown.join(" | "))
        }
        b'S' => format!("S {}", printable(body).replace("%00", " ").trim_end()),
        b'C' => format!("C {}", printable(&body[..body.len() - 1])),
        b'T' => {
            // The oid of a column's table differs from server to server.
            let mut out = String::from("T");
            let mut rest = &body[2..];
            while let Some(end) = rest.iter().position(|b| *b == 0) {
                let tail = &rest[end + 1..];
                out.push_str(&format!(" {}:{}", printable(&rest[..end]), printable(&tail[6..18])));
                rest = &tail[18..];
            }
            out
        }
        _ => format!("{} {}", char::from(letter), printable(body)).trim_end().to_owned(),
    }
}
