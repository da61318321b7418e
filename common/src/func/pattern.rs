//! LIKE and ILIKE, and what SIMILAR TO makes of its pattern.

use super::kernel::{boolean, kernel, text};
use super::text::lower;
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("~~(text, text) -> bool", kernel!(|a: Text, p: Text| boolean(like(a.as_bytes(), p.as_bytes(), true)?))),
    Entry::new(
        "!~~(text, text) -> bool",
        kernel!(|a: Text, p: Text| boolean(!like(a.as_bytes(), p.as_bytes(), true)?)),
    ),
    Entry::new(
        "~~(bpchar, text) -> bool",
        kernel!(|a: Text, p: Text| boolean(like(a.as_bytes(), p.as_bytes(), true)?)),
    ),
    Entry::new(
        "!~~(bpchar, text) -> bool",
        kernel!(|a: Text, p: Text| boolean(!like(a.as_bytes(), p.as_bytes(), true)?)),
    ),
    Entry::new("~~(name, text) -> bool", kernel!(|a: Text, p: Text| boolean(like(a.as_bytes(), p.as_bytes(), true)?))),
    Entry::new(
        "!~~(name, text) -> bool",
        kernel!(|a: Text, p: Text| boolean(!like(a.as_bytes(), p.as_bytes(), true)?)),
    ),
    Entry::new("~~(bytea, bytea) -> bool", kernel!(|a: Bytea, p: Bytea| boolean(like(a, p, false)?))),
    Entry::new("!~~(bytea, bytea) -> bool", kernel!(|a: Bytea, p: Bytea| boolean(!like(a, p, false)?))),
    Entry::new("~~*(text, text) -> bool", ilike),
    Entry::new("!~~*(text, text) -> bool", not_ilike),
    Entry::new("~~*(bpchar, text) -> bool", ilike),
    Entry::new("!~~*(bpchar, text) -> bool", not_ilike),
    Entry::new("~~*(name, text) -> bool", ilike),
    Entry::new("!~~*(name, text) -> bool", not_ilike),
    Entry::new("like_escape(text, text) -> text", kernel!(|p: Text, escape: Text| text(like_escape(p, escape)?))),
    Entry::new("similar_to_escape(text) -> text", kernel!(|p: Text| text(similar_to_regex(p, Some('\\'))?))),
    Entry::new(
        "similar_to_escape(text, text) -> text",
        kernel!(|p: Text, escape: Text| { text(similar_to_regex(p, escape_char(escape)?)?) }),
    ),
];

fn ilike(_: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    match args {
        [DatumRef::Text(value), DatumRef::Text(pattern)] => {
            boolean(like(lower(value).as_bytes(), lower(pattern).as_bytes(), true)?)
        }
        _ => Err(super::kernel::mismatch(args)),
    }
}

fn not_ilike(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    match ilike(cx, args)? {
        Datum::Bool(matched) => boolean(!matched),
        other => Ok(other),
    }
}

/// Whether a value is like a pattern with backslash as escape; `utf8` makes `_` one character rather than one byte. Backtracks to the last
/// `%` only, so it takes at most length times length steps.
pub fn like(value: &[u8], pattern: &[u8], utf8: bool) -> SqlResult<bool> {
    let (mut v, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(b'%') => {
                p += 1;
                retry = Some((v, p));
                continue;
            }
            None if v == value.len() => return Ok(true),
            Some(b'_') if v < value.len() => {
                v += step(value, v, utf8);
                p += 1;
                continue;
            }
            Some(b'\\') => match pattern.get(p + 1) {
                None if v < value.len() || retry.is_some() => {
                    let message = "LIKE pattern must not end with escape character";
                    return Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, message));
                }
                Some(literal) if value.get(v) == Some(literal) => {
                    (v, p) = (v + 1, p + 2);
                    continue;
                }
                _ => {}
            },
            Some(literal) if value.get(v) == Some(literal) => {
                (v, p) = (v + 1, p + 1);
                continue;
            }
            _ => {}
        }
        match retry {
            Some((from, after)) if from < value.len() => {
                v = from + step(value, from, utf8);
                p = after;
                retry = Some((v, after));
            }
            _ => return Ok(false),
        }
    }
}

fn step(value: &[u8], at: usize, utf8: bool) -> usize {
    match utf8 {
        true => 1 + value.get(at + 1..).unwrap_or_default().iter().take_while(|b| **b & 0xc0 == 0x80).count(),
        false => 1,
    }
}

fn escape_char(escape: &str) -> SqlResult<Option<char>> {
    let mut chars = escape.chars();
    match (chars.next(), chars.next()) {
        (first, None) => Ok(first),
        _ => Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .with_hint("Escape string must be empty or one character.")),
    }
}

/// Rewrites a pattern to one whose escape is the backslash.
fn like_escape(pattern: &str, escape: &str) -> SqlResult<String> {
    let escape = escape_char(escape)?;
    if escape == Some('\\') {
        return Ok(pattern.to_owned());
    }
    let mut out = String::with_capacity(pattern.len());
    let mut escaped = false;
    for c in pattern.chars() {
        match c {
            _ if Some(c) == escape && !escaped => {
                out.push('\\');
                escaped = true;
                continue;
            }
            '\\' if !escaped => out.push_str("\\\\"),
            _ => out.push(c),
        }
        escaped = false;
    }
    Ok(out)
}

/// The regular expression that an SQL pattern means, in the syntax of the `~` operator.
pub fn similar_to_regex(pattern: &str, escape: Option<char>) -> SqlResult<String> {
    let mut out = String::from("^(?:");
    let (mut escaped, mut bracket, mut first) = (false, false, false);
    let mut quotes = 0;
    for c in pattern.chars() {
        if escaped {
            match c {
                '"' if !bracket => {
                    out.push_str(if quotes == 0 { "){1,1}?(" } else { "){1,1}(?:" });
                    quotes += 1;
                }
                _ => {
                    out.push('\\');
                    out.push(c);
                }
            }
            escaped = false;
        } else if Some(c) == escape {
            escaped = true;
        } else if bracket {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
            bracket = c != ']' || first;
            first = first && c == '^';
        } else {
            match c {
                '[' => {
                    bracket = true;
                    first = true;
                    out.push('[');
                }
                '%' => out.push_str(".*"),
                '_' => out.push('.'),
                '(' => out.push_str("(?:"),
                '\\' | '.' | '^' | '$' => {
                    out.push('\\');
                    out.push(c);
                }
                _ => out.push(c),
            }
        }
    }
    if quotes > 2 {
        let message = "SQL regular expression may not contain more than two escape-double-quote separators";
        return Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, message));
    }
    out.push_str(")$");
    Ok(out)
}
