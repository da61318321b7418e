//! Lengths of character types, and arrays' text.

use super::SqlType;
use super::array::ArrayRef;
use super::datum::{Datum, DatumRef};
use super::input::parse_text;
use super::output::write_text;
use crate::env::Env;
use crate::error::{SqlError, SqlResult, SqlState};

/// The length in the modifier of `varchar(n)` and `char(n)`.
pub fn length_limit(modifier: i32) -> Option<usize> {
    usize::try_from(modifier.checked_sub(4)?).ok()
}

/// Text as a value of `ty` with this modifier: too long is an error unless the excess is blanks, or is cut when `truncate` says so.
/// Blanks at the end of `char(n)` are not held.
pub fn fit_length(text: &str, ty: SqlType, modifier: i32, truncate: bool) -> SqlResult<&str> {
    let text = if ty == SqlType::Bpchar { text.trim_end_matches(' ') } else { text };
    let Some(limit) = length_limit(modifier).filter(|_| matches!(ty, SqlType::Varchar | SqlType::Bpchar)) else {
        return Ok(text);
    };
    // Characters are never more than bytes.
    if text.len() <= limit {
        return Ok(text);
    }
    let Some((cut, _)) = text.char_indices().nth(limit) else { return Ok(text) };
    let (head, excess) = text.split_at(cut);
    if !truncate && excess.bytes().any(|b| b != b' ') {
        return Err(SqlError::new(
            SqlState::STRING_DATA_RIGHT_TRUNCATION,
            format!("value too long for type {ty}({limit})"),
        ));
    }
    Ok(if ty == SqlType::Bpchar { head.trim_end_matches(' ') } else { head })
}

/// Appends the blanks that `char(n)` is held without.
pub fn write_padding(out: &mut Vec<u8>, text: &str, modifier: i32) {
    if let Some(limit) = length_limit(modifier) {
        let length = if text.is_ascii() { text.len() } else { text.chars().count() };
        out.resize(out.len() + limit.saturating_sub(length), b' ');
    }
}

#[cold]
fn malformed(text: &str, detail: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{text}\""))
        .with_detail(detail)
}

/// `{1,2,NULL,"a b"}`: one dimension.
pub fn parse_array(element: SqlType, modifier: i32, text: &str, env: &Env) -> SqlResult<Vec<Datum>> {
    let trimmed = super::digits::trim(text);
    if trimmed.starts_with('[') {
        return Err(SqlError::unsupported("an array with explicit dimensions"));
    }
    let Some(inner) = trimmed.strip_prefix('{') else {
        return Err(malformed(text, "Array value must start with \"{\" or dimension information."));
    };
    let mut values = Vec::new();
    let mut chars = inner.chars().peekable();
    let blank = |c: &char| c.is_ascii_whitespace() || *c == '\x0b';
    loop {
        while chars.next_if(blank).is_some() {}
        match chars.peek() {
            None => return Err(malformed(text, "Unexpected end of input.")),
            Some('{') => return Err(SqlError::unsupported("an array of several dimensions")),
            Some('}') if values.is_empty() => {
                chars.next();
                break;
            }
            Some(c @ (',' | '}')) => return Err(malformed(text, &format!("Unexpected \"{c}\" character."))),
            Some(_) => {}
        }
        let (item, quoted) = array_item(&mut chars, text)?;
        values.push(if !quoted && item.eq_ignore_ascii_case("null") {
            Datum::Null
        } else {
            parse_text(element, modifier, &item, env)?
        });
        while chars.next_if(blank).is_some() {}
        match chars.next() {
            Some(',') => {}
            Some('}') => break,
            Some(_) => return Err(malformed(text, "Unexpected array element.")),
            None => return Err(malformed(text, "Unexpected end of input.")),
        }
        while chars.next_if(blank).is_some() {}
        if chars.peek() == Some(&'}') {
            return Err(malformed(text, "Unexpected \"}\" character."));
        }
    }
    if chars.next().is_some() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    Ok(values)
}

fn array_item(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, text: &str) -> SqlResult<(String, bool)> {
    let mut item = String::new();
    let ended = || malformed(text, "Unexpected end of input.");
    if chars.next_if_eq(&'"').is_some() {
        loop {
            match chars.next().ok_or_else(ended)? {
                '"' => return Ok((item, true)),
                '\\' => item.push(chars.next().ok_or_else(ended)?),
                c => item.push(c),
            }
        }
    }
    // Blanks at the end go, but not those that were escaped.
    let mut keep = 0;
    while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '}' | '{' | '"')) {
        let escaped = c == '\\';
        let c = if escaped { chars.next().ok_or_else(ended)? } else { c };
        item.push(c);
        if escaped || !c.is_ascii_whitespace() {
            keep = item.len();
        }
    }
    item.truncate(keep);
    Ok((item, false))
}

/// Appends an array's text; elements are quoted where they must be.
pub fn write_array(out: &mut Vec<u8>, element: SqlType, modifier: i32, array: ArrayRef<'_>, env: &Env) {
    out.push(b'{');
    let mut item = Vec::new();
    for (i, value) in array.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if value == DatumRef::Null {
            out.extend_from_slice(b"NULL");
            continue;
        }
        item.clear();
        write_text(&mut item, element, modifier, value, env);
        let plain = !item.is_empty()
            && !item.eq_ignore_ascii_case(b"null")
            && !item.iter().any(|b| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',' | 0x0b) || b.is_ascii_whitespace());
        if plain {
            out.extend_from_slice(&item);
            continue;
        }
        out.push(b'"');
        for byte in &item {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    out.push(b'}');
}
