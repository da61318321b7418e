//! JSON: PostgreSQL's checks and messages for `json`, and the normal form in which `jsonb` is held.
//!
//! jsonb is held as the text that PostgreSQL prints: keys by length and then bytes, the last of equal ones, numbers as numeric, `", "` and `": "`.

mod parse;

use super::numeric::Numeric;
use crate::error::SqlResult;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Numeric),
    String(String),
    Array(Vec<Json>),
    /// In jsonb's order, without duplicates.
    Object(BTreeMap<Key, Json>),
}

/// An object's key; shorter ones come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub String);

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Checks that text is JSON, as `json` input does; the text itself is the value.
pub fn check_json(text: &str) -> SqlResult<()> {
    parse::Parser::new(text).check()
}

/// The normal form of JSON text, which is how jsonb is held.
pub fn normalize(text: &str) -> SqlResult<String> {
    let mut out = String::with_capacity(text.len() + 8);
    Json::parse(text)?.write(&mut out);
    Ok(out)
}

impl Json {
    pub fn parse(text: &str) -> SqlResult<Json> {
        parse::Parser::new(text).parse()
    }

    /// Appends jsonb's text.
    pub fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Number(number) => out.push_str(&number.to_string()),
            Json::String(text) => write_string(out, text),
            Json::Array(elements) => {
                out.push('[');
                for (i, element) in elements.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    element.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    write_string(out, &key.0);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// Appends a JSON string with its quotes, escaping what must be.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}
