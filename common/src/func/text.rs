//! String functions (PostgreSQL manual, "String Functions and Operators"); positions count characters from 1.

use super::Entry;
use super::kernel::{count, int4, invalid_parameter, kernel, text};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::limits::MAX_VALUE_BYTES;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("||(text, text) -> text", kernel!(|a: Text, b: Text| text([a, b].concat()))),
    Entry::new("textcat(text, text) -> text", kernel!(|a: Text, b: Text| text([a, b].concat()))),
    Entry::new("length(text) -> int4", kernel!(|a: Text| count(a.chars().count()))),
    Entry::new("length(bpchar) -> int4", kernel!(|a: Text| count(a.chars().count()))),
    Entry::new("char_length(text) -> int4", kernel!(|a: Text| count(a.chars().count()))),
    Entry::new("char_length(bpchar) -> int4", kernel!(|a: Text| count(a.chars().count()))),
    Entry::new("character_length(text) -> int4", kernel!(|a: Text| count(a.chars().count()))),
    Entry::new("character_length(bpchar) -> int4", kernel!(|a: Text| count(a.chars().count()))),
    Entry::new("octet_length(text) -> int4", kernel!(|a: Text| count(a.len()))),
    Entry::new("bit_length(text) -> int4", kernel!(|a: Text| count(a.len() * 8))),
    Entry::new("lower(text) -> text", kernel!(|a: Text| text(lower(a)))),
    Entry::new("upper(text) -> text", kernel!(|a: Text| text(upper(a)))),
    Entry::new("initcap(text) -> text", kernel!(|a: Text| text(initcap(a)))),
    Entry::new("substring(text, int4) -> text", kernel!(|a: Text, from: Int4| slice(a, from, None))),
    Entry::new("substring(text, int4, int4) -> text", kernel!(|a: Text, from: Int4, n: Int4| slice(a, from, Some(n)))),
    Entry::new("substr(text, int4) -> text", kernel!(|a: Text, from: Int4| slice(a, from, None))),
    Entry::new("substr(text, int4, int4) -> text", kernel!(|a: Text, from: Int4, n: Int4| slice(a, from, Some(n)))),
    Entry::new("left(text, int4) -> text", kernel!(|a: Text, n: Int4| text(split_at(a, n).0))),
    Entry::new("right(text, int4) -> text", kernel!(|a: Text, n: Int4| text(right(a, n)))),
    Entry::new("btrim(text) -> text", kernel!(|a: Text| text(a.trim_matches(' ')))),
    Entry::new("ltrim(text) -> text", kernel!(|a: Text| text(a.trim_start_matches(' ')))),
    Entry::new("rtrim(text) -> text", kernel!(|a: Text| text(a.trim_end_matches(' ')))),
    Entry::new("btrim(text, text) -> text", kernel!(|a: Text, set: Text| text(a.trim_matches(|c| set.contains(c))))),
    Entry::new(
        "ltrim(text, text) -> text",
        kernel!(|a: Text, set: Text| text(a.trim_start_matches(|c| set.contains(c)))),
    ),
    Entry::new(
        "rtrim(text, text) -> text",
        kernel!(|a: Text, set: Text| text(a.trim_end_matches(|c| set.contains(c)))),
    ),
    Entry::new("lpad(text, int4) -> text", kernel!(|a: Text, n: Int4| pad(a, n, " ", true))),
    Entry::new("rpad(text, int4) -> text", kernel!(|a: Text, n: Int4| pad(a, n, " ", false))),
    Entry::new("lpad(text, int4, text) -> text", kernel!(|a: Text, n: Int4, fill: Text| pad(a, n, fill, true))),
    Entry::new("rpad(text, int4, text) -> text", kernel!(|a: Text, n: Int4, fill: Text| pad(a, n, fill, false))),
    Entry::new(
        "replace(text, text, text) -> text",
        kernel!(|a: Text, from: Text, to: Text| match from.is_empty() {
            true => text(a),
            false => text(a.replace(from, to)),
        }),
    ),
    Entry::new("strpos(text, text) -> int4", kernel!(|a: Text, part: Text| position(a, part))),
    Entry::new("position(text, text) -> int4", kernel!(|a: Text, part: Text| position(a, part))),
    Entry::new("repeat(text, int4) -> text", kernel!(|a: Text, n: Int4| repeat(a, n))),
    Entry::new("reverse(text) -> text", kernel!(|a: Text| text(a.chars().rev().collect::<String>()))),
    Entry::new("split_part(text, text, int4) -> text", kernel!(|a: Text, by: Text, n: Int4| split_part(a, by, n))),
    Entry::new(
        "translate(text, text, text) -> text",
        kernel!(|a: Text, from: Text, to: Text| text(translate(a, from, to))),
    ),
    Entry::new(
        "ascii(text) -> int4",
        kernel!(|a: Text| int4(a.chars().next().map_or(Some(0), |c| i32::try_from(u32::from(c)).ok()))),
    ),
    Entry::new("chr(int4) -> text", kernel!(|code: Int4| chr(code))),
    Entry::new(
        "starts_with(text, text) -> bool",
        kernel!(|a: Text, prefix: Text| Ok(Datum::Bool(a.starts_with(prefix)))),
    ),
    Entry::new("^@(text, text) -> bool", kernel!(|a: Text, prefix: Text| Ok(Datum::Bool(a.starts_with(prefix))))),
    Entry::new("to_hex(int4) -> text", kernel!(|a: Int4| text(format!("{a:x}")))),
    Entry::new("to_hex(int8) -> text", kernel!(|a: Int8| text(format!("{a:x}")))),
    Entry::new(
        "overlay(text, text, int4) -> text",
        kernel!(|a: Text, with: Text, from: Int4| {
            overlay(a, with, from, i32::try_from(with.chars().count()).unwrap_or(i32::MAX))
        }),
    ),
    Entry::new(
        "overlay(text, text, int4, int4) -> text",
        kernel!(|a: Text, with: Text, from: Int4, n: Int4| overlay(a, with, from, n)),
    ),
    Entry::new("text(bpchar) -> text", kernel!(|a: Text| text(a))),
];

/// Letter by letter, as libc does: one character stays one character.
pub(super) fn lower(value: &str) -> String {
    match value.is_ascii() {
        true => value.to_ascii_lowercase(),
        false => value.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect(),
    }
}

fn upper(value: &str) -> String {
    match value.is_ascii() {
        true => value.to_ascii_uppercase(),
        false => value.chars().map(|c| single(c, c.to_uppercase())).collect(),
    }
}

fn single(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn initcap(value: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        out.push(if inside { single(c, c.to_lowercase()) } else { single(c, c.to_uppercase()) });
        inside = c.is_alphanumeric();
    }
    out
}

/// The byte position of a character, or the end.
fn byte_of(value: &str, chars: usize) -> usize {
    match value.is_ascii() {
        true => chars.min(value.len()),
        false => value.char_indices().nth(chars).map_or(value.len(), |(at, _)| at),
    }
}

pub(super) fn negative_length() -> SqlError {
    SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed")
}

/// First and one past the last character, from 0, of `from` for `length` as SQL counts.
pub(super) fn bounds(from: i32, length: Option<i32>) -> SqlResult<(usize, usize)> {
    let from = i64::from(from) - 1;
    let end = match length {
        Some(length) if length < 0 => return Err(negative_length()),
        Some(length) => (from + i64::from(length)).max(0) as usize,
        None => usize::MAX,
    };
    Ok((from.max(0) as usize, end))
}

fn slice(value: &str, from: i32, length: Option<i32>) -> SqlResult<Datum> {
    let (from, end) = bounds(from, length)?;
    text(value.get(byte_of(value, from)..byte_of(value, end)).unwrap_or_default())
}

/// The first `n` characters and the rest; a negative `n` counts from the end.
fn split_at(value: &str, n: i32) -> (&str, &str) {
    let count = match n {
        0.. => n as usize,
        _ => value.chars().count().saturating_sub(n.unsigned_abs() as usize),
    };
    value.split_at(byte_of(value, count))
}

fn right(value: &str, n: i32) -> &str {
    match n {
        0.. => {
            let count = value.chars().count().saturating_sub(n as usize);
            value.split_at(byte_of(value, count)).1
        }
        _ => value.split_at(byte_of(value, n.unsigned_abs() as usize)).1,
    }
}

/// 54000 before memory is asked for.
pub(super) fn check_length(bytes: usize) -> SqlResult<()> {
    match bytes > MAX_VALUE_BYTES {
        true => Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large")),
        false => Ok(()),
    }
}

fn pad(value: &str, n: i32, fill: &str, front: bool) -> SqlResult<Datum> {
    let wanted = n.max(0) as usize;
    check_length(wanted)?;
    let have = value.chars().count();
    if have >= wanted || fill.is_empty() {
        return text(value.split_at(byte_of(value, wanted)).0);
    }
    let padding: String = fill.chars().cycle().take(wanted - have).collect();
    text(if front { padding + value } else { [value, &padding].concat() })
}

fn position(value: &str, part: &str) -> SqlResult<Datum> {
    match value.find(part).and_then(|at| value.get(..at)) {
        Some(before) => count(before.chars().count() + 1),
        None => count(0),
    }
}

fn repeat(value: &str, n: i32) -> SqlResult<Datum> {
    let n = n.max(0) as usize;
    check_length(value.len().saturating_mul(n))?;
    text(value.repeat(n))
}

fn split_part(value: &str, by: &str, n: i32) -> SqlResult<Datum> {
    if n == 0 {
        return Err(invalid_parameter("field position must not be zero"));
    }
    let index = n.unsigned_abs() as usize - 1;
    let part = match (by.is_empty(), n > 0) {
        (true, _) => (index == 0).then_some(value),
        (false, true) => value.split(by).nth(index),
        (false, false) => value.rsplit(by).nth(index),
    };
    text(part.unwrap_or_default())
}

fn translate(value: &str, from: &str, to: &str) -> String {
    let to: Vec<char> = to.chars().collect();
    value
        .chars()
        .filter_map(|c| match from.chars().position(|f| f == c) {
            Some(index) => to.get(index).copied(),
            None => Some(c),
        })
        .collect()
}

fn chr(code: i32) -> SqlResult<Datum> {
    let refuse = |message: String| Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
    match u32::try_from(code) {
        Err(_) => Err(invalid_parameter("character number must be positive")),
        Ok(0) => refuse("null character not permitted".to_owned()),
        Ok(code) if code > 0x10_ffff => refuse(format!("requested character too large for encoding: {code}")),
        Ok(code) => match char::from_u32(code) {
            Some(c) => text(c),
            None => refuse(format!("requested character not valid for encoding: {code}")),
        },
    }
}

fn overlay(value: &str, with: &str, from: i32, length: i32) -> SqlResult<Datum> {
    if from <= 0 {
        return Err(negative_length());
    }
    let after = (i64::from(from) - 1 + i64::from(length)).max(0) as usize;
    let head = value.split_at(byte_of(value, from as usize - 1)).0;
    let tail = value.split_at(byte_of(value, after)).1;
    text([head, with, tail].concat())
}
