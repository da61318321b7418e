//! POSIX regular expressions: PostgreSQL's syntax translated to that of the `regex` crate, and the functions on them.
//!
//! What the crate cannot do (back references, lookaround) is refused. PostgreSQL prefers the longest match where alternatives differ in length;
//! where a pattern has alternatives, a match found is extended to the longest one at its place.

use super::kernel::{boolean, count, invalid_parameter, kernel, mismatch, text};
use super::regex_syntax::{Flags, translate};
use super::text::bounds;
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult, SqlState};
use regex::{Captures, Regex, RegexBuilder};
use std::cell::RefCell;
use std::rc::Rc;

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
    Entry::new("regexp_count(text, text) -> int4", kernel!(|a: Text, p: Text| count(pattern(p, "")?.matches(a).len()))),
    Entry::new(
        "regexp_substr(text, text) -> text",
        kernel!(|a: Text, p: Text| {
            Ok(pattern(p, "")?
                .matches(a)
                .into_iter()
                .next()
                .map_or(Datum::Null, |m| Datum::Text(a[m.start..m.end].to_owned())))
        }),
    ),
    Entry::new("substring(text, text) -> text", kernel!(|a: Text, p: Text| substring(a, p))),
    Entry::new("substring(text, text, text) -> text", substring_sql),
    Entry::new("regexp_match(text, text) -> text[]", kernel!(|a: Text, p: Text| regexp_match(a, p, ""))),
    Entry::new(
        "regexp_match(text, text, text) -> text[]",
        kernel!(|a: Text, p: Text, flags: Text| { regexp_match(a, p, no_global(flags, "regexp_match")?) }),
    ),
    Entry::new(
        "regexp_replace(text, text, text) -> text",
        kernel!(|a: Text, p: Text, with: Text| replace(a, p, with, "", 0)),
    ),
    Entry::new(
        "regexp_replace(text, text, text, text) -> text",
        kernel!(|a: Text, p: Text, with: Text, flags: Text| {
            if flags.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(invalid_option(flags.chars().next().unwrap_or(' ')).with_hint(
                "If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly.",
            ));
            }
            replace(a, p, with, flags, 0)
        }),
    ),
    Entry::new(
        "regexp_replace(text, text, text, int4) -> text",
        kernel!(|a: Text, p: Text, with: Text, start: Int4| {
            let (from, _) = start_of(start)?;
            replace(a, p, with, "", from)
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

fn start_of(start: i32) -> SqlResult<(usize, usize)> {
    match start {
        1.. => bounds(start, None),
        _ => Err(invalid_parameter(format!("invalid value for parameter \"start\": {start}"))),
    }
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

/// A compiled pattern.
struct Pattern {
    regex: Regex,
    /// The same, for a whole slice: set when the longest match may be another than the first.
    whole: Option<Regex>,
}

/// Where a match is, and its groups.
struct Match {
    start: usize,
    end: usize,
    groups: Vec<Option<(usize, usize)>>,
}

/// Patterns kept compiled, most recently used last, as each backend of PostgreSQL keeps them.
const CACHED: usize = 32;

struct Cached {
    source: String,
    flags: String,
    pattern: Rc<Pattern>,
}

thread_local! {
    /// Compiling costs a hundred times what matching does, and kernels are called once per row. What is cached is a function of the key alone.
    static CACHE: RefCell<Vec<Cached>> = const { RefCell::new(Vec::new()) };
}

fn pattern(source: &str, flags: &str) -> SqlResult<Rc<Pattern>> {
    let known = CACHE.with_borrow_mut(|cache| {
        let at = cache.iter().rposition(|c| c.source == source && c.flags == flags)?;
        let last = cache.len() - 1;
        if at < last {
            cache[at..].rotate_left(1);
        }
        cache.last().map(|c| Rc::clone(&c.pattern))
    });
    if let Some(pattern) = known {
        return Ok(pattern);
    }
    let pattern = Rc::new(compile(source, flags)?);
    CACHE.with_borrow_mut(|cache| {
        if cache.len() == CACHED {
            cache.remove(0);
        }
        cache.push(Cached { source: source.to_owned(), flags: flags.to_owned(), pattern: Rc::clone(&pattern) });
    });
    Ok(pattern)
}

fn compile(source: &str, letters: &str) -> SqlResult<Pattern> {
    let mut flags = Flags::parse(letters)?;
    let translated = translate(source, &mut flags)?;
    let build = |source: &str| {
        RegexBuilder::new(source)
            .case_insensitive(flags.ignore_case)
            .dot_matches_new_line(!flags.dot_stops_at_newline)
            .multi_line(flags.lines)
            .ignore_whitespace(flags.expanded)
            .build()
            .map_err(|error| invalid(&error))
    };
    let regex = build(&translated)?;
    let whole = match translated.contains('|') && !translated.contains("?)") {
        true => Some(build(&format!("\\A(?:{translated})\\z"))?),
        false => None,
    };
    Ok(Pattern { regex, whole })
}

/// 2201B in PostgreSQL's words for the usual mistakes.
fn invalid(error: &regex::Error) -> SqlError {
    let detail = error.to_string();
    let found = |part: &str| detail.contains(part);
    let reason = if matches!(error, regex::Error::CompiledTooBig(_)) {
        "regular expression is too complex"
    } else if found("unclosed group") || found("unopened group") {
        "parentheses () not balanced"
    } else if found("unclosed character class") {
        "brackets [] not balanced"
    } else if found("repetition operator missing") || found("unsupported repetition") {
        "quantifier operand invalid"
    } else if found("character class range") {
        "invalid character range"
    } else if found("repetition quantifier") || found("repetition count") {
        "invalid repetition count(s)"
    } else if found("incomplete escape") {
        "invalid escape \\ sequence"
    } else {
        "invalid regexp (reg version 0.8)"
    };
    SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {reason}"))
}

impl Pattern {
    fn is_match(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    /// The first match at or after a byte position.
    fn find(&self, value: &str, from: usize) -> Option<Match> {
        let captures = self.regex.captures_at(value, from)?;
        let found = captures.get(0)?;
        if let Some(whole) = &self.whole {
            for end in (found.end() + 1..=value.len()).rev().filter(|end| value.is_char_boundary(*end)) {
                if let Some(longer) = value.get(found.start()..end).and_then(|slice| whole.captures(slice)) {
                    return Some(Match::new(&longer, found.start()));
                }
            }
        }
        Some(Match::new(&captures, 0))
    }

    fn matches(&self, value: &str) -> Vec<Match> {
        let mut all = Vec::new();
        let mut from = 0;
        while let Some(found) = (from <= value.len()).then(|| self.find(value, from)).flatten() {
            let after = value.get(found.end..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
            from = if found.end > found.start { found.end } else { found.end + after };
            all.push(found);
        }
        all
    }
}

impl Match {
    fn new(captures: &Captures<'_>, offset: usize) -> Match {
        let range = |index| captures.get(index).map(|m| (m.start() + offset, m.end() + offset));
        let (start, end) = range(0).unwrap_or_default();
        Match { start, end, groups: (1..captures.len()).map(range).collect() }
    }

    fn group(&self, value: &str, index: usize) -> Datum {
        match self.groups.get(index).copied().flatten().and_then(|(start, end)| value.get(start..end)) {
            Some(group) => Datum::Text(group.to_owned()),
            None => Datum::Null,
        }
    }
}

fn substring(value: &str, source: &str) -> SqlResult<Datum> {
    let Some(found) = pattern(source, "")?.find(value, 0) else { return Ok(Datum::Null) };
    match found.groups.is_empty() {
        true => text(value.get(found.start..found.end).unwrap_or_default()),
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
    let Some(found) = pattern(source, flags)?.find(value, 0) else { return Ok(Datum::Null) };
    Ok(Datum::Array(match found.groups.len() {
        0 => vec![Datum::Text(value.get(found.start..found.end).unwrap_or_default().to_owned())],
        groups => (0..groups).map(|i| found.group(value, i)).collect(),
    }))
}

/// All matches with their groups: `regexp_matches` with the option g.
pub fn regexp_matches(value: &str, source: &str, flags: &str) -> SqlResult<Vec<Datum>> {
    let global = flags.contains('g');
    let matches = pattern(source, &flags.replace('g', ""))?.matches(value);
    let rows = matches.into_iter().take(if global { usize::MAX } else { 1 }).map(|found| {
        Datum::Array(match found.groups.len() {
            0 => vec![Datum::Text(value.get(found.start..found.end).unwrap_or_default().to_owned())],
            groups => (0..groups).map(|i| found.group(value, i)).collect(),
        })
    });
    Ok(rows.collect())
}

fn replace(value: &str, source: &str, with: &str, flags: &str, from: usize) -> SqlResult<Datum> {
    let global = flags.contains('g');
    let pattern = pattern(source, &flags.replace('g', ""))?;
    let from = value.char_indices().nth(from).map_or(value.len(), |(at, _)| at);
    let mut out = String::with_capacity(value.len());
    let mut copied = 0;
    for found in pattern.matches(value).into_iter().filter(|m| m.start >= from) {
        out.push_str(value.get(copied..found.start).unwrap_or_default());
        expand(with, value, &found, &mut out);
        copied = found.end;
        if !global {
            break;
        }
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
            Some('&') => out.push_str(value.get(found.start..found.end).unwrap_or_default()),
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
    for found in pattern(source, flags)?.matches(value) {
        if found.end == found.start && (found.start == from || found.start == value.len()) {
            continue;
        }
        parts.push(value.get(from..found.start).unwrap_or_default().to_owned());
        from = found.end;
    }
    parts.push(value.get(from..).unwrap_or_default().to_owned());
    Ok(parts)
}
