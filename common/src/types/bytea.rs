//! bytea, uuid and boolean from and to text.

use super::digits::{invalid_syntax, trim};
use crate::error::{SqlError, SqlResult, SqlState};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Hex (`\x…`) or escape form.
pub fn parse_bytea(text: &str) -> SqlResult<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(hex) => parse_hex(hex),
        None => parse_escaped(text.as_bytes())
            .ok_or_else(|| SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type bytea")),
    }
}

fn parse_hex(text: &str) -> SqlResult<Vec<u8>> {
    let invalid = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let digit =
        |c: char| c.to_digit(16).map(|d| d as u8).ok_or_else(|| invalid(format!("invalid hexadecimal digit: \"{c}\"")));
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut chars = text.chars();
    while let Some(first) = chars.next() {
        if matches!(first, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let high = digit(first)?;
        let second =
            chars.next().ok_or_else(|| invalid("invalid hexadecimal data: odd number of digits".to_owned()))?;
        out.push(high << 4 | digit(second)?);
    }
    Ok(out)
}

fn parse_escaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Some(out),
            [b'\\', b'\\', tail @ ..] => {
                out.push(b'\\');
                tail
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            [b'\\', ..] => return None,
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
        };
    }
}

/// Appends `\x…`.
pub fn write_bytea(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(2 + 2 * bytes.len());
    out.extend_from_slice(b"\\x");
    write_hex(out, bytes);
}

fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

/// 32 hex digits, a hyphen allowed after each four, braces around.
pub fn parse_uuid(text: &str) -> SqlResult<[u8; 16]> {
    uuid(text.as_bytes()).ok_or_else(|| invalid_syntax("uuid", text))
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    let mut out = [0; 16];
    let mut at = 0;
    for (i, slot) in out.iter_mut().enumerate() {
        if i > 0 && i % 2 == 0 && digits.get(at) == Some(&b'-') {
            at += 1;
        }
        let nibble = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16)).map(|d| d as u8);
        *slot = nibble(digits.get(at))? << 4 | nibble(digits.get(at + 1))?;
        at += 2;
    }
    (at == digits.len()).then_some(out)
}

/// Appends the usual form with hyphens.
pub fn write_uuid(out: &mut Vec<u8>, uuid: [u8; 16]) {
    let [a, b, c, d, e, f, g, h, i, j, rest @ ..] = uuid;
    let groups: [&[u8]; 5] = [&[a, b, c, d], &[e, f], &[g, h], &[i, j], &rest];
    for (at, group) in groups.into_iter().enumerate() {
        if at > 0 {
            out.push(b'-');
        }
        write_hex(out, group);
    }
}

/// Any unambiguous beginning of true, false, yes, no, on, off; 1 and 0.
pub fn parse_bool(text: &str) -> SqlResult<bool> {
    let word = trim(text).to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || word == "1" {
        Ok(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        Ok(false)
    } else {
        Err(invalid_syntax("boolean", text))
    }
}
