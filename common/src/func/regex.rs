//! The functions and operators on regular expressions: PostgreSQL's syntax translated to that of the `regex` crate.
//!
//! What the crate cannot do (back references, lookaround) is refused, and so are groups that might come out differently.

use super::kernel::{boolean, count, invalid_parameter, kernel, mismatch, text};
use super::regex_match::{Match, pattern};
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult};

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("~(text, text) -> bool", kernel!(|a: Text, p: Text| boolean(pattern(p, "")?.is_match(a)))),
    Entry::new("!~(text, text) -> bool", kernel!(|a: Text, p: Text| boolean(!pattern(p, "")?.is_match(a)))),
    Entry::new("~*(text, text) -> bool", kernel!(|a: Text, p: Text| boolean(pattern(p, "i")?.is_match(a)))),
    Entry::new("!~*(text, text) -> bool", kernel!(|a: Text, p: Text| boolean(!pattern(p, "i")?.is_match(a)))),
    Entry::new("~(bpchar, text) -> bool", kernel!(|a: Text, p: Text| boolean(pattern(p, "")?.is_match(a)))),
    Entry::new("!~(bpchar, text) -> bool", kernel!(|a: Text, p: Text| boolean(!pattern(p, "")?.is_match(a)))),
    Entry::new("~*(bpchar, text) -> bool", kernel!(|a: Text, p: Text| boolean(pattern(p, "i")?.is_match(a)))),
    Entry::new("!~*(bpchar, text) -> bool", kernel!(|a: Text, p: Text| boolean(!pattern(p, "i")?.is_match(a)))),
    Entry::new("~(name, text) -> bool", kernel!(|a: Text, p: Text| boolean(pattern(p, "")?.is_match(a)))),
    Entry::new("!~(name, text) -> bool", kernel!(|a: Text, p: Text| boolean(!pattern(p, "")?.is_match(a)))),
    Entry::new("~*(name, text) -> bool", kernel!(|a: Text, p: Text| boolean(pattern(p, "i")?.is_match(a)))),
    Entry::new("!~*(name, text) -> bool", kernel!(|a: Text, p: Text| boolean(!pattern(p, "i")?.is_match(a)))),
    Entry::new("regexp_like(text, text) -> bool", kernel!(|a: Text, p: Text| boolean(pattern(p, "")?.is_match(a)))),
    Entry::new(
        "regexp_like(text, text, text) -> bool",
        kernel!(|a: Text, p: Text, flags: Text| { boolean(pattern(p, no_global(flags, "regexp_like")?)?.is_match(a)) }),
    ),
    Entry::new("regexp_count(text, text) -> int4", kernel!(|a: Text, p: Text| regexp_count(a, p, 1, ""))),
    Entry::new(
        "regexp_count(text, text, int4) -> int4",
        kernel!(|a: Text, p: Text, start: Int4| regexp_count(a, p, start, "")),
    ),
    Entry::new(
        "regexp_count(text, text, int4, text) -> int4",
        kernel!(|a: Text, p: Text, start: Int4, flags: Text| regexp_count(a, p, start, flags)),
    ),
    Entry::new("regexp_substr(text, text) -> text", regexp_substr),
    Entry::new("regexp_substr(text, text, int4) -> text", regexp_substr),
    Entry::new("regexp_substr(text, text, int4, int4) -> text", regexp_substr),
    Entry::new("regexp_substr(text, text, int4, int4, text) -> text", regexp_substr),
    Entry::new("regexp_substr(text, text, int4, int4, text, int4) -> text", regexp_substr),
    Entry::new("regexp_instr(text, text) -> int4", regexp_instr),
    Entry::new("regexp_instr(text, text, int4) -> int4", regexp_instr),
    Entry::new("regexp_instr(text, text, int4, int4) -> int4", regexp_instr),
    Entry::new("regexp_instr(text, text, int4, int4, int4) -> int4", regexp_instr),
    Entry::new("regexp_instr(text, text, int4, int4, int4, text) -> int4", regexp_instr),
    Entry::new("regexp_instr(text, text, int4, int4, int4, text, int4) -> int4", regexp_instr),
    Entry::new("substring(text, text) -> text", kernel!(|a: Text, p: Text| substring(a, p))),
    Entry::new("substring(text, text, text) -> text", substring_sql),
    Entry::new("regexp_match(text, text) -> text[]", kernel!(|a: Text, p: Text| regexp_match(a, p, ""))),
    Entry::new(
        "regexp_match(text, text, text) -> text[]",
        kernel!(|a: Text, p: Text, flags: Text| { regexp_match(a, p, no_global(flags, "regexp_match")?) }),
    ),
    Entry::new(
        "regexp_replace(text, text, text) -> text",
        kernel!(|a: Text, p: Text, with: Text| replace(a, p, with, "", 1, Some(1))),
    ),
    Entry::new(
        "regexp_replace(text, text, text, text) -> text",
        kernel!(|a: Text, p: Text, with: Text, flags: Text| {
            if flags.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(invalid_option(flags.chars().next().unwrap_or(' ')).with_hint(
                "If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly.",
            ));
            }
            replace(a, p, with, flags, 1, None)
        }),
    ),
    Entry::new(
        "regexp_replace(text, text, text, int4) -> text",
        kernel!(|a: Text, p: Text, with: Text, start: Int4| replace(a, p, with, "", start, Some(1))),
    ),
    Entry::new(
        "regexp_replace(text, text, text, int4, int4) -> text",
        kernel!(|a: Text, p: Text, with: Text, start: Int4, n: Int4| replace(a, p, with, "", start, Some(n))),
    ),
    Entry::new(
        "regexp_replace(text, text, text, int4, int4, text) -> text",
        kernel!(|a: Text, p: Text, with: Text, start: Int4, n: Int4, flags: Text| {
            replace(a, p, with, flags, start, Some(n))
        }),
    ),
    Entry::new(
        "regexp_split_to_array(text, text) -> text[]",
        kernel!(|a: Text, p: Text| { Ok(Datum::Array(split(a, p, "")?.into_iter().map(Datum::Text).collect())) }),
    ),
    Entry::new(
        "regexp_split_to_array(text, text, text) -> text[]",
        kernel!(|a: Text, p: Text, flags: Text| {
            Ok(Datum::Array(
                split(a, p, no_global(flags, "regexp_split_to_array")?)?.into_iter().map(Datum::Text).collect(),
            ))
        }),
    ),
];

/// The byte position of a start parameter, which counts characters from 1; `None` beyond the end.
fn start_of(value: &str, start: i32) -> SqlResult<Option<usize>> {
    let refuse = || invalid_parameter(format!("invalid value for parameter \"start\": {start}"));
    let skipped = usize::try_from(start).ok().and_then(|start| start.checked_sub(1)).ok_or_else(refuse)?;
    let mut starts = value.char_indices().map(|(at, _)| at).chain([value.len()]);
    Ok(starts.nth(skipped))
}

fn no_less(name: &str, value: i32, least: i32) -> SqlResult<usize> {
    let refuse = || invalid_parameter(format!("invalid value for parameter \"{name}\": {value}"));
    if value < least { Err(refuse()) } else { usize::try_from(value).map_err(|_| refuse()) }
}

/// 22023 for an unknown option letter.
pub(super) fn invalid_option(option: char) -> SqlError {
    invalid_parameter(format!("invalid regular expression option: \"{option}\""))
}

fn no_global<'a>(flags: &'a str, function: &str) -> SqlResult<&'a str> {
    match flags.contains('g') {
        true => Err(invalid_parameter(format!("{function}() does not support the \"global\" option")).with_hint(
            match function {
                "regexp_match" => "Use the regexp_matches function instead.",
                _ => "",
            },
        )),
        false => Ok(flags),
    }
}

fn all_matches(value: &str, source: &str, start: i32, flags: &str, groups: bool) -> SqlResult<Vec<Match>> {
    match start_of(value, start)? {
        Some(from) => pattern(source, flags)?.matches(value, from, groups),
        None => pattern(source, flags).map(|_| Vec::new()),
    }
}

fn regexp_count(value: &str, source: &str, start: i32, flags: &str) -> SqlResult<Datum> {
    count(all_matches(value, source, start, no_global(flags, "regexp_count")?, false)?.len())
}

/// The `n`th match, or the part of it that a group takes, as `regexp_substr` and `regexp_instr` choose it.
fn nth(
    function: &str,
    (value, source): (&str, &str),
    (start, n, group): (i32, i32, i32),
    flags: &str,
) -> SqlResult<Option<(usize, usize)>> {
    let n = no_less("n", n, 1)?;
    let group = no_less("subexpr", group, 0)?;
    let flags = no_global(flags, function)?;
    let found = all_matches(value, source, start, flags, group > 0)?.into_iter().nth(n - 1);
    Ok(found.and_then(|found| match group.checked_sub(1) {
        None => Some((found.start, found.end)),
        Some(index) => found.groups.get(index).copied().flatten(),
    }))
}

fn regexp_substr(_: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let &[DatumRef::Text(value), DatumRef::Text(source), ref options @ ..] = args else { return Err(mismatch(args)) };
    let (numbers, flags) = match *options {
        [] => ((1, 1, 0), ""),
        [DatumRef::Int4(start)] => ((start, 1, 0), ""),
        [DatumRef::Int4(start), DatumRef::Int4(n)] => ((start, n, 0), ""),
        [DatumRef::Int4(start), DatumRef::Int4(n), DatumRef::Text(flags)] => ((start, n, 0), flags),
        [DatumRef::Int4(start), DatumRef::Int4(n), DatumRef::Text(flags), DatumRef::Int4(group)] => {
            ((start, n, group), flags)
        }
        _ => return Err(mismatch(args)),
    };
    let found = nth("regexp_substr", (value, source), numbers, flags)?;
    Ok(found.and_then(|(start, end)| value.get(start..end)).map_or(Datum::Null, |part| Datum::Text(part.to_owned())))
}

fn regexp_instr(_: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let &[DatumRef::Text(value), DatumRef::Text(source), ref options @ ..] = args else { return Err(mismatch(args)) };
    let (start, n, end, flags, group) = match *options {
        [] => (1, 1, 0, "", 0),
        [DatumRef::Int4(start)] => (start, 1, 0, "", 0),
        [DatumRef::Int4(start), DatumRef::Int4(n)] => (start, n, 0, "", 0),
        [DatumRef::Int4(start), DatumRef::Int4(n), DatumRef::Int4(end)] => (start, n, end, "", 0),
        [DatumRef::Int4(start), DatumRef::Int4(n), DatumRef::Int4(end), DatumRef::Text(flags)] => {
            (start, n, end, flags, 0)
        }
        [
            DatumRef::Int4(start),
            DatumRef::Int4(n),
            DatumRef::Int4(end),
            DatumRef::Text(flags),
            DatumRef::Int4(group),
        ] => (start, n, end, flags, group),
        _ => return Err(mismatch(args)),
    };
    if !(0..=1).contains(&end) {
        return Err(invalid_parameter(format!("invalid value for parameter \"endoption\": {end}")));
    }
    let found = nth("regexp_instr", (value, source), (start, n, group), flags)?;
    let place = found.map(|(from, to)| if end == 1 { to } else { from });
    count(place.and_then(|at| value.get(..at)).map_or(0, |before| before.chars().count() + 1))
}

fn substring(value: &str, source: &str) -> SqlResult<Datum> {
    let Some(found) = pattern(source, "")?.find_groups(value, 0)? else { return Ok(Datum::Null) };
    match found.groups.is_empty() {
        true => text(found.text(value)),
        false => Ok(found.group(value, 0)),
    }
}

/// `substring(value SIMILAR pattern ESCAPE escape)`.
fn substring_sql(_: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let [DatumRef::Text(value), DatumRef::Text(source), DatumRef::Text(escape)] = args else {
        return Err(mismatch(args));
    };
    let regex = super::pattern::similar_to_regex(source, escape.chars().next())?;
    substring(value, &regex)
}

fn regexp_match(value: &str, source: &str, flags: &str) -> SqlResult<Datum> {
    Ok(pattern(source, flags)?.find_groups(value, 0)?.map_or(Datum::Null, |found| found.array(value)))
}

/// The rows of `regexp_matches`: one match, or all with the option g.
pub fn regexp_matches(value: &str, source: &str, flags: &str) -> SqlResult<Vec<Datum>> {
    let pattern = pattern(source, &flags.replace('g', ""))?;
    let found = match flags.contains('g') {
        true => pattern.matches(value, 0, true)?,
        false => pattern.find_groups(value, 0)?.into_iter().collect(),
    };
    Ok(found.iter().map(|found| found.array(value)).collect())
}

/// Replaces the `n`th match from a place on, all for 0; without `n` the option g decides.
fn replace(value: &str, source: &str, with: &str, flags: &str, start: i32, n: Option<i32>) -> SqlResult<Datum> {
    let n = no_less("n", n.unwrap_or(i32::from(!flags.contains('g'))), 0)?;
    let groups = with.as_bytes().windows(2).any(|pair| matches!(pair, [b'\\', b'1'..=b'9']));
    let found = all_matches(value, source, start, &flags.replace('g', ""), groups)?;
    let mut out = String::with_capacity(value.len());
    let mut copied = 0;
    for found in found.into_iter().skip(n.saturating_sub(1)).take(if n == 0 { usize::MAX } else { 1 }) {
        out.push_str(value.get(copied..found.start).unwrap_or_default());
        expand(with, value, &found, &mut out);
        copied = found.end;
    }
    out.push_str(value.get(copied..).unwrap_or_default());
    text(out)
}

/// `\1` to `\9` are groups, `\&` the whole match.
fn expand(with: &str, value: &str, found: &Match, out: &mut String) {
    let mut chars = with.chars().peekable();
    while let Some(c) = chars.next() {
        let next = if c == '\\' { chars.peek().copied() } else { None };
        match next {
            Some('&') => out.push_str(found.text(value)),
            Some(digit @ '1'..='9') => {
                if let Datum::Text(group) = found.group(value, digit as usize - '1' as usize) {
                    out.push_str(&group);
                }
            }
            Some('\\') => out.push('\\'),
            _ => {
                out.push(c);
                continue;
            }
        }
        chars.next();
    }
}

/// The parts between matches; empty matches at the ends and right after another match do not count.
pub fn split(value: &str, source: &str, flags: &str) -> SqlResult<Vec<String>> {
    let mut parts = Vec::new();
    let mut from = 0;
    for found in pattern(source, flags)?.matches(value, 0, false)? {
        if found.end == found.start && (found.start == from || found.start == value.len()) {
            continue;
        }
        parts.push(value.get(from..found.start).unwrap_or_default().to_owned());
        from = found.end;
    }
    parts.push(value.get(from..).unwrap_or_default().to_owned());
    Ok(parts)
}
