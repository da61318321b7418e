//! Functions on bytea, its text encodings, and digests.

use super::Entry;
use super::kernel::{count, invalid_parameter, kernel, text};
use super::text::{bounds, check_length, negative_length};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};
use bytes::Bytes;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("||(bytea, bytea) -> bytea", kernel!(|a: Bytea, b: Bytea| bytea([a, b].concat()))),
    Entry::new("length(bytea) -> int4", kernel!(|a: Bytea| count(a.len()))),
    Entry::new("octet_length(bytea) -> int4", kernel!(|a: Bytea| count(a.len()))),
    Entry::new("bit_length(bytea) -> int4", kernel!(|a: Bytea| count(a.len() * 8))),
    Entry::new("substring(bytea, int4) -> bytea", kernel!(|a: Bytea, from: Int4| slice(a, from, None))),
    Entry::new(
        "substring(bytea, int4, int4) -> bytea",
        kernel!(|a: Bytea, from: Int4, n: Int4| slice(a, from, Some(n))),
    ),
    Entry::new("substr(bytea, int4) -> bytea", kernel!(|a: Bytea, from: Int4| slice(a, from, None))),
    Entry::new("substr(bytea, int4, int4) -> bytea", kernel!(|a: Bytea, from: Int4, n: Int4| slice(a, from, Some(n)))),
    Entry::new(
        "position(bytea, bytea) -> int4",
        kernel!(|a: Bytea, part: Bytea| {
            count(if part.is_empty() {
                1
            } else {
                a.windows(part.len()).position(|w| w == part).map_or(0, |at| at + 1)
            })
        }),
    ),
    Entry::new(
        "overlay(bytea, bytea, int4) -> bytea",
        kernel!(|a: Bytea, with: Bytea, from: Int4| overlay(a, with, from, with.len())),
    ),
    Entry::new(
        "overlay(bytea, bytea, int4, int4) -> bytea",
        kernel!(|a: Bytea, with: Bytea, from: Int4, n: Int4| { overlay(a, with, from, n.max(0) as usize) }),
    ),
    Entry::new(
        "get_byte(bytea, int4) -> int4",
        kernel!(|a: Bytea, at: Int4| {
            match usize::try_from(at).ok().and_then(|at| a.get(at)) {
                Some(byte) => Ok(Datum::Int4((*byte).into())),
                None => Err(SqlError::new(
                    SqlState::ARRAY_SUBSCRIPT_ERROR,
                    format!("index {at} out of valid range, 0..{}", a.len() as i64 - 1),
                )),
            }
        }),
    ),
    Entry::new("md5(text) -> text", kernel!(|a: Text| text(hex(&md5(a.as_bytes()))))),
    Entry::new("md5(bytea) -> text", kernel!(|a: Bytea| text(hex(&md5(a))))),
    Entry::new("sha224(bytea) -> bytea", kernel!(|a: Bytea| bytea(Sha224::digest(a).to_vec()))),
    Entry::new("sha256(bytea) -> bytea", kernel!(|a: Bytea| bytea(Sha256::digest(a).to_vec()))),
    Entry::new("sha384(bytea) -> bytea", kernel!(|a: Bytea| bytea(Sha384::digest(a).to_vec()))),
    Entry::new("sha512(bytea) -> bytea", kernel!(|a: Bytea| bytea(Sha512::digest(a).to_vec()))),
    Entry::new("encode(bytea, text) -> text", kernel!(|a: Bytea, format: Text| encode(a, format))),
    Entry::new("decode(text, text) -> bytea", kernel!(|a: Text, format: Text| decode(a, format))),
    Entry::new(
        "convert_to(text, name) -> bytea",
        kernel!(|a: Text, encoding: Text| {
            utf8(encoding)?;
            bytea(a.as_bytes().to_vec())
        }),
    ),
    Entry::new(
        "convert_from(bytea, name) -> text",
        kernel!(|a: Bytea, encoding: Text| {
            utf8(encoding)?;
            match std::str::from_utf8(a) {
                Ok(value) => text(value),
                Err(error) => {
                    let bad = a.get(error.valid_up_to()..).unwrap_or_default();
                    let bad = bad.iter().take(error.error_len().unwrap_or(bad.len()));
                    let bytes: Vec<String> = bad.map(|b| format!("0x{b:02x}")).collect();
                    let message = format!("invalid byte sequence for encoding \"UTF8\": {}", bytes.join(" "));
                    Err(SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message))
                }
            }
        }),
    ),
];

fn bytea(value: Vec<u8>) -> SqlResult<Datum> {
    Ok(Datum::Bytea(Bytes::from(value)))
}

fn utf8(encoding: &str) -> SqlResult<()> {
    match encoding.to_ascii_lowercase().as_str() {
        "utf8" | "utf-8" | "unicode" => Ok(()),
        _ => Err(SqlError::unsupported(format_args!("encoding \"{encoding}\""))),
    }
}

fn slice(value: &[u8], from: i32, length: Option<i32>) -> SqlResult<Datum> {
    let (from, end) = bounds(from, length)?;
    bytea(value.get(from..end.min(value.len())).unwrap_or_default().to_vec())
}

fn overlay(value: &[u8], with: &[u8], from: i32, length: usize) -> SqlResult<Datum> {
    if from <= 0 {
        return Err(negative_length());
    }
    let start = from as usize - 1;
    let head = value.get(..start.min(value.len())).unwrap_or_default();
    let tail = value.get(start.saturating_add(length)..).unwrap_or_default();
    bytea([head, with, tail].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(value: &[u8], format: &str) -> SqlResult<Datum> {
    check_length(value.len().saturating_mul(4))?;
    match format.to_ascii_lowercase().as_str() {
        "hex" => text(hex(value)),
        "base64" => text(base64(value)),
        "escape" => text(escape(value)),
        _ => Err(invalid_parameter(format!("unrecognized encoding: \"{format}\""))),
    }
}

fn decode(value: &str, format: &str) -> SqlResult<Datum> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => bytea(from_hex(value)?),
        "base64" => bytea(from_base64(value)?),
        "escape" => bytea(from_escape(value)?),
        _ => Err(invalid_parameter(format!("unrecognized encoding: \"{format}\""))),
    }
}

fn base64(value: &[u8]) -> String {
    let mut out = String::new();
    for (index, group) in value.chunks(3).enumerate() {
        if index > 0 && index % 19 == 0 {
            out.push('\n');
        }
        let bits = group.iter().fold(0u32, |bits, b| (bits << 8) | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i)) & 63;
            out.push(if i <= group.len() { char::from(BASE64[sextet as usize]) } else { '=' });
        }
    }
    out
}

fn from_base64(value: &str) -> SqlResult<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut count, mut padding) = (0u32, 0, 0);
    for c in value.chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')) {
        let sextet = match u8::try_from(c).ok().and_then(|c| BASE64.iter().position(|b| *b == c)) {
            Some(sextet) if padding == 0 => sextet as u32,
            None if c == '=' && count >= 2 => {
                padding += 1;
                0
            }
            None if c == '=' => return Err(invalid_parameter("unexpected \"=\" while decoding base64 sequence")),
            _ => return Err(invalid_parameter(format!("invalid symbol \"{c}\" found while decoding base64 sequence"))),
        };
        bits = (bits << 6) | sextet;
        count += 1;
        if count == 4 {
            let bytes = bits.to_be_bytes();
            out.extend_from_slice(&bytes[1..4 - padding.min(2)]);
            (bits, count) = (0, 0);
        }
    }
    match count {
        0 => Ok(out),
        _ => Err(invalid_parameter("invalid base64 end sequence")
            .with_hint("Input data is missing padding, is truncated, or is otherwise corrupted.")),
    }
}

fn from_hex(value: &str) -> SqlResult<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() / 2);
    let mut high = None;
    for c in value.chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')) {
        let digit =
            c.to_digit(16).ok_or_else(|| invalid_parameter(format!("invalid hexadecimal digit: \"{c}\"")))? as u8;
        match high.take() {
            None => high = Some(digit),
            Some(high) => out.push(high << 4 | digit),
        }
    }
    match high {
        None => Ok(out),
        Some(_) => Err(invalid_parameter("invalid hexadecimal data: odd number of digits")),
    }
}

fn escape(value: &[u8]) -> String {
    let mut out = String::new();
    for byte in value {
        match byte {
            0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
            b'\\' => out.push_str("\\\\"),
            _ => out.push(char::from(*byte)),
        }
    }
    out
}

fn from_escape(value: &str) -> SqlResult<Vec<u8>> {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                out.push(b'\\');
                tail
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            (b'\\', _) => {
                return Err(SqlError::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
            (byte, tail) => {
                out.push(*byte);
                tail
            }
        };
    }
    Ok(out)
}

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// RFC 1321.
fn md5(message: &[u8]) -> [u8; 16] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64), 0);
    let length = (message.len() as u64).wrapping_mul(8).to_le_bytes();
    let at = padded.len() - 8;
    padded[at..].copy_from_slice(&length);
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let words: Vec<u32> =
            block.chunks_exact(4).map(|w| w.iter().rev().fold(0, |word, b| (word << 8) | u32::from(*b))).collect();
        let [mut a, mut b, mut c, mut d] = state;
        for i in 0..64 {
            let (mixed, word) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                2 => (b ^ c ^ d, (3 * i + 5) % 16),
                _ => (c ^ (b | !d), (7 * i) % 16),
            };
            let constant = (((i + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mixed).wrapping_add(constant).wrapping_add(words[word]);
            let rotated = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
            (a, d, c, b) = (d, c, b, rotated);
        }
        for (total, add) in state.iter_mut().zip([a, b, c, d]) {
            *total = total.wrapping_add(add);
        }
    }
    let mut digest = [0; 16];
    for (out, word) in digest.chunks_exact_mut(4).zip(state) {
        out.copy_from_slice(&word.to_le_bytes());
    }
    digest
}
