//! A JSON parser that fails in PostgreSQL's words.

use super::{Json, Key};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::numeric::Numeric;
use std::collections::BTreeMap;

/// Deeper values are refused, so that no text exhausts the stack.
const MAX_DEPTH: usize = 1_000;

pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Whether values are built, or the text only checked.
    build: bool,
}

/// A token's kind and extent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    End,
    Punctuation(u8),
    String,
    Number,
    True,
    False,
    Null,
}

#[derive(Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Parser<'a> {
        Parser { text, at: 0, build: false }
    }

    pub(super) fn check(mut self) -> SqlResult<()> {
        self.document().map(|_| ())
    }

    pub(super) fn parse(mut self) -> SqlResult<Json> {
        self.build = true;
        self.document()
    }

    fn document(&mut self) -> SqlResult<Json> {
        let first = self.token()?;
        let value = self.value(first, "JSON value", 0)?;
        let end = self.token()?;
        if end.kind == Kind::End { Ok(value) } else { Err(self.unexpected(end, "end of input")) }
    }

    fn value(&mut self, token: Token<'a>, expected: &str, depth: usize) -> SqlResult<Json> {
        if depth > MAX_DEPTH {
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded"));
        }
        match token.kind {
            Kind::Null => Ok(Json::Null),
            Kind::True => Ok(Json::Bool(true)),
            Kind::False => Ok(Json::Bool(false)),
            Kind::Number if self.build => Numeric::parse(token.text).map(Json::Number),
            Kind::Number => Ok(Json::Null),
            Kind::String if self.build => self.unescape(token.text).map(Json::String),
            Kind::String => Ok(Json::Null),
            Kind::Punctuation(b'{') => self.object(depth),
            Kind::Punctuation(b'[') => self.array(depth),
            Kind::End | Kind::Punctuation(_) => Err(self.unexpected(token, expected)),
        }
    }

    fn array(&mut self, depth: usize) -> SqlResult<Json> {
        let mut elements = Vec::new();
        let mut token = self.token()?;
        if token.kind == Kind::Punctuation(b']') {
            return Ok(Json::Array(elements));
        }
        let expected = "JSON value";
        loop {
            let element = self.value(token, expected, depth + 1)?;
            if self.build {
                elements.push(element);
            }
            let next = self.token()?;
            match next.kind {
                Kind::Punctuation(b',') => token = self.token()?,
                Kind::Punctuation(b']') => return Ok(Json::Array(elements)),
                _ => return Err(self.unexpected(next, "\",\" or \"]\"")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> SqlResult<Json> {
        let mut members = BTreeMap::new();
        let mut token = self.token()?;
        if token.kind == Kind::Punctuation(b'}') {
            return Ok(Json::Object(members));
        }
        let mut expected = "string or \"}\"";
        loop {
            if token.kind != Kind::String {
                return Err(self.unexpected(token, expected));
            }
            let key = if self.build { self.unescape(token.text)? } else { String::new() };
            let colon = self.token()?;
            if colon.kind != Kind::Punctuation(b':') {
                return Err(self.unexpected(colon, "\":\""));
            }
            let first = self.token()?;
            let value = self.value(first, "JSON value", depth + 1)?;
            if self.build {
                members.insert(Key(key), value);
            }
            let next = self.token()?;
            match next.kind {
                Kind::Punctuation(b',') => token = self.token()?,
                Kind::Punctuation(b'}') => return Ok(Json::Object(members)),
                _ => return Err(self.unexpected(next, "\",\" or \"}\"")),
            }
            expected = "string";
        }
    }

    fn token(&mut self) -> SqlResult<Token<'a>> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let start = self.at;
        let (kind, length) = match bytes.get(start) {
            None => (Kind::End, 0),
            Some(b @ (b'{' | b'}' | b'[' | b']' | b',' | b':')) => (Kind::Punctuation(*b), 1),
            Some(b'"') => (Kind::String, self.string_length(start)?),
            Some(b'-' | b'0'..=b'9') => (Kind::Number, self.number_length(start)?),
            Some(_) => self.word(start)?,
        };
        self.at = start + length;
        Ok(Token { kind, text: self.text.get(start..self.at).unwrap_or("") })
    }

    fn word(&self, start: usize) -> SqlResult<(Kind, usize)> {
        let length = self.word_length(start);
        match self.text.get(start..start + length) {
            Some("true") => Ok((Kind::True, 4)),
            Some("false") => Ok((Kind::False, 5)),
            Some("null") => Ok((Kind::Null, 4)),
            _ => Err(self.invalid_token(start, length)),
        }
    }

    /// Letters, digits, underscores and whatever is not ASCII; one character at least.
    fn word_length(&self, start: usize) -> usize {
        let rest = self.text.get(start..).unwrap_or("");
        let length = rest.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80));
        match length.unwrap_or(rest.len()) {
            0 => rest.chars().next().map_or(0, char::len_utf8),
            length => length,
        }
    }

    fn number_length(&self, start: usize) -> SqlResult<usize> {
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let digits = |from: usize| rest.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
        let mut at = usize::from(rest.first() == Some(&b'-'));
        let whole = digits(at);
        let mut valid = whole == 1 || (whole > 1 && rest.get(at) != Some(&b'0'));
        at += if rest.get(at) == Some(&b'0') { 1 } else { whole };
        if rest.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            valid &= fraction > 0;
            at += 1 + fraction;
        }
        if matches!(rest.get(at), Some(b'e' | b'E')) {
            at += 1 + usize::from(matches!(rest.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at);
            valid &= exponent > 0;
            at += exponent;
        }
        // What follows a number without a gap belongs to the bad token.
        let extra =
            rest.iter().skip(at).take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80).count();
        if valid && extra == 0 { Ok(at) } else { Err(self.invalid_token(start, at + extra)) }
    }

    fn string_length(&self, start: usize) -> SqlResult<usize> {
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        loop {
            match bytes.get(at) {
                None => return Err(self.invalid_token(start, bytes.len() - start)),
                Some(b'"') => return Ok(at + 1 - start),
                Some(b @ 0..0x20) => {
                    let detail = format!("Character with value 0x{b:02x} must be escaped.");
                    return Err(self.fault(&detail, at));
                }
                Some(b'\\') => at += self.escape_length(at)?,
                Some(_) => at += 1,
            }
        }
    }

    fn escape_length(&self, at: usize) -> SqlResult<usize> {
        let rest = self.text.get(at + 1..).unwrap_or("");
        match rest.chars().next() {
            Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => Ok(2),
            Some('u') => {
                let hex = rest.bytes().skip(1).take(4).take_while(u8::is_ascii_hexdigit).count();
                if hex == 4 {
                    return Ok(6);
                }
                let bad = rest.chars().nth(1 + hex).map_or(0, char::len_utf8);
                Err(self.fault("\"\\u\" must be followed by four hexadecimal digits.", at + 2 + hex + bad))
            }
            Some(c) => Err(self.fault(&format!("Escape sequence \"\\{c}\" is invalid."), at + 1 + c.len_utf8())),
            None => Err(self.invalid_token(at, 1)),
        }
    }

    /// A string token's contents.
    fn unescape(&self, token: &str) -> SqlResult<String> {
        let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or("");
        if !inner.contains('\\') {
            return Ok(inner.to_owned());
        }
        let mut out = String::with_capacity(inner.len());
        let mut chars = inner.chars();
        let mut high: Option<u32> = None;
        while let Some(c) = chars.next() {
            let escaped = if c == '\\' { chars.next() } else { None };
            if escaped == Some('u') {
                let hex: String = chars.by_ref().take(4).collect();
                let unit = u32::from_str_radix(&hex, 16).unwrap_or(0);
                high = self.push_unit(&mut out, high, unit)?;
                continue;
            }
            if high.is_some() {
                return Err(self.fault("Unicode low surrogate must follow a high surrogate.", self.at));
            }
            out.push(match escaped {
                None => c,
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(other) => other,
            });
        }
        if high.is_some() {
            return Err(self.fault("Unicode low surrogate must follow a high surrogate.", self.at));
        }
        Ok(out)
    }

    /// Takes a UTF-16 unit; answers the high surrogate that waits for its low one.
    fn push_unit(&self, out: &mut String, high: Option<u32>, unit: u32) -> SqlResult<Option<u32>> {
        let code = match (high, unit) {
            (None, 0) => {
                return Err(SqlError::new(SqlState::UNTRANSLATABLE_CHARACTER, "unsupported Unicode escape sequence")
                    .with_detail("\\u0000 cannot be converted to text.")
                    .with_context(self.context(self.at)));
            }
            (None, 0xd800..0xdc00) => return Ok(Some(unit)),
            (Some(_), 0xd800..0xdc00) => {
                return Err(self.fault("Unicode high surrogate must not follow a high surrogate.", self.at));
            }
            (Some(high), 0xdc00..0xe000) => 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00),
            (Some(_), _) | (None, 0xdc00..0xe000) => {
                return Err(self.fault("Unicode low surrogate must follow a high surrogate.", self.at));
            }
            (None, unit) => unit,
        };
        out.extend(char::from_u32(code));
        Ok(None)
    }

    #[cold]
    fn unexpected(&self, token: Token<'_>, expected: &str) -> SqlError {
        if token.kind == Kind::End {
            return self.fault("The input string ended unexpectedly.", self.at);
        }
        let what = if expected == "JSON value" || expected == "end of input" || expected.starts_with(['"', 's', 'a']) {
            expected
        } else {
            "JSON value"
        };
        self.fault(&format!("Expected {what}, but found \"{}\".", token.text), self.at)
    }

    #[cold]
    fn invalid_token(&self, start: usize, length: usize) -> SqlError {
        let token = self.text.get(start..start + length).unwrap_or("");
        self.fault(&format!("Token \"{token}\" is invalid."), start + length)
    }

    #[cold]
    fn fault(&self, detail: &str, end: usize) -> SqlError {
        SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
            .with_detail(detail)
            .with_context(self.context(end))
    }

    /// The line and what was read of it, up to `end`.
    fn context(&self, end: usize) -> String {
        let read = self.text.get(..end).unwrap_or(self.text);
        let line = 1 + read.bytes().filter(|b| *b == b'\n').count();
        let start = read.rfind('\n').map_or(0, |at| at + 1);
        let mut shown = read.get(start..).unwrap_or("");
        let mut prefix = "";
        if shown.len() >= 50 {
            let cut = (shown.len() - 50..shown.len()).find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
            shown = shown.get(cut..).unwrap_or("");
            prefix = "...";
        }
        let rest = self.text.get(read.len()..).unwrap_or("");
        let suffix = if rest.is_empty() || rest.starts_with(['\n', '\r']) { "" } else { "..." };
        format!("JSON data, line {line}: {prefix}{shown}{suffix}")
    }
}
