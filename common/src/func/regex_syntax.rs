//! PostgreSQL's advanced regular expressions, rewritten in the syntax of the `regex` crate.

use super::regex::invalid_option;
use crate::error::{SqlError, SqlResult, SqlState};
use std::iter::Peekable;
use std::str::Chars;

/// The option letters of the `regexp_` functions and of `(?…)` at a pattern's start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) ignore_case: bool,
    pub(super) dot_stops_at_newline: bool,
    pub(super) lines: bool,
    pub(super) expanded: bool,
    literal: bool,
}

impl Flags {
    pub(super) fn parse(letters: &str) -> SqlResult<Flags> {
        let mut flags = Flags::default();
        flags.apply(letters)?;
        Ok(flags)
    }

    fn apply(&mut self, letters: &str) -> SqlResult<()> {
        for letter in letters.chars() {
            match letter {
                'i' => self.ignore_case = true,
                'c' => self.ignore_case = false,
                'n' | 'm' => (self.dot_stops_at_newline, self.lines) = (true, true),
                'p' => (self.dot_stops_at_newline, self.lines) = (true, false),
                'w' => (self.dot_stops_at_newline, self.lines) = (false, true),
                's' => (self.dot_stops_at_newline, self.lines) = (false, false),
                'x' => self.expanded = true,
                't' => self.expanded = false,
                'q' => self.literal = true,
                'e' | 'b' | 'g' => {}
                other => return Err(invalid_option(other)),
            }
        }
        Ok(())
    }
}

fn invalid(reason: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {reason}"))
}

/// Rewrites a pattern; options at its start are added to `flags`.
pub(super) fn translate(source: &str, flags: &mut Flags) -> SqlResult<String> {
    let mut rest = source.strip_prefix("***:").unwrap_or(source);
    if let Some(literal) = rest.strip_prefix("***=") {
        return Ok(regex::escape(literal));
    }
    if flags.literal {
        return Ok(regex::escape(rest));
    }
    if let Some((letters, after)) = rest.strip_prefix("(?").and_then(|rest| rest.split_once(')'))
        && !letters.is_empty()
        && letters.chars().all(|c| c.is_ascii_lowercase())
    {
        flags.apply(letters)?;
        rest = after;
    }
    let mut out = String::with_capacity(rest.len() + 8);
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, &mut out)?,
            '[' => bracket(&mut chars, &mut out, flags.dot_stops_at_newline)?,
            '(' => group(&mut chars, &mut out)?,
            '{' if !chars.peek().is_some_and(char::is_ascii_digit) => out.push_str("\\{"),
            '{' => bound(&mut chars, &mut out)?,
            '}' => out.push_str("\\}"),
            '$' if !flags.lines => out.push_str("\\z"),
            '^' if !flags.lines => out.push_str("\\A"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// `{m,n}`; a bound above 255 is an error in PostgreSQL.
fn bound(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> SqlResult<()> {
    let mut body = String::new();
    loop {
        match chars.next() {
            Some('}') => break,
            Some(c) if c.is_ascii_digit() || c == ',' => body.push(c),
            Some(_) => return Err(invalid("invalid repetition count(s)")),
            None => return Err(invalid("braces {} not balanced")),
        }
    }
    let counts: Vec<Option<u32>> = body.split(',').map(|n| n.parse().ok()).collect();
    let sound = match counts.as_slice() {
        [Some(n)] => *n <= 255,
        [Some(low), Some(high)] => low <= high && *high <= 255,
        [Some(low), None] => body.ends_with(',') && *low <= 255,
        _ => false,
    };
    if !sound {
        return Err(invalid("invalid repetition count(s)"));
    }
    out.push('{');
    out.push_str(&body);
    out.push('}');
    Ok(())
}

fn group(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> SqlResult<()> {
    out.push('(');
    if chars.next_if_eq(&'?').is_some() {
        match chars.next() {
            Some(':') => out.push_str("?:"),
            Some('=' | '!' | '<') => return Err(SqlError::unsupported("lookaround in a regular expression")),
            Some('#') => {
                // A comment: an empty group stands for it.
                out.push_str("?:)");
                for c in chars.by_ref() {
                    if c == ')' {
                        break;
                    }
                }
            }
            _ => return Err(invalid("invalid embedded option")),
        }
    }
    Ok(())
}

fn escape(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> SqlResult<()> {
    let Some(c) = chars.next() else { return Err(invalid("invalid escape \\ sequence")) };
    match c {
        'm' => out.push_str("\\b{start}"),
        'M' => out.push_str("\\b{end}"),
        'y' => out.push_str("\\b"),
        'Y' => out.push_str("\\B"),
        'A' => out.push_str("\\A"),
        'Z' => out.push_str("\\z"),
        'd' | 'D' | 'w' | 'W' | 's' | 'S' => out.extend(['\\', c]),
        '1'..='9' => return Err(SqlError::unsupported("a back reference in a regular expression")),
        _ => push_literal(character(c, chars)?, out),
    }
    Ok(())
}

/// The character that an escape stands for.
fn character(c: char, chars: &mut Peekable<Chars<'_>>) -> SqlResult<char> {
    Ok(match c {
        'a' => '\x07',
        'b' => '\x08',
        'B' => '\\',
        'e' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '0' => '\0',
        'c' => char::from((chars.next().map_or(0, u32::from) & 31) as u8),
        'u' => hexadecimal(chars, 4)?,
        'U' => hexadecimal(chars, 8)?,
        'x' => hexadecimal(chars, 255)?,
        c if c.is_alphanumeric() => return Err(invalid("invalid escape \\ sequence")),
        c => c,
    })
}

fn hexadecimal(chars: &mut Peekable<Chars<'_>>, most: usize) -> SqlResult<char> {
    let mut code = 0u32;
    let mut digits = 0;
    while digits < most {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(16)) else { break };
        code = code.checked_mul(16).map_or(u32::MAX, |code| code | digit);
        chars.next();
        digits += 1;
    }
    match (digits > 0 && (most > 8 || digits == most), char::from_u32(code)) {
        (true, Some(c)) => Ok(c),
        _ => Err(invalid("invalid escape \\ sequence")),
    }
}

fn push_literal(c: char, out: &mut String) {
    out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

/// `[…]`: all that the crate would take for set operations is escaped.
fn bracket(chars: &mut Peekable<Chars<'_>>, out: &mut String, stops_at_newline: bool) -> SqlResult<()> {
    // [[:<:]] and [[:>:]] are the word boundaries of old.
    let lookahead: String = chars.clone().take(6).collect();
    for (old, new) in [("[:<:]]", "\\b{start}"), ("[:>:]]", "\\b{end}")] {
        if lookahead == old {
            chars.nth(5);
            out.push_str(new);
            return Ok(());
        }
    }
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
        if stops_at_newline {
            out.push_str("\\n");
        }
    }
    let mut first = true;
    loop {
        match chars.next().ok_or_else(|| invalid("brackets [] not balanced"))? {
            ']' if !first => break,
            '[' if matches!(chars.peek(), Some(':' | '.' | '=')) => class(chars, out)?,
            '\\' => match chars.next() {
                Some(c @ ('d' | 'w' | 's')) => out.extend(['\\', c]),
                Some('D' | 'W' | 'S') => return Err(invalid("invalid escape \\ sequence")),
                Some(c) => push_literal(character(c, chars)?, out),
                None => return Err(invalid("brackets [] not balanced")),
            },
            '-' if first || chars.peek() == Some(&']') => out.push_str("\\-"),
            '-' => out.push('-'),
            c @ (']' | '[' | '&' | '~' | '^' | ' ' | '#') => out.extend(['\\', c]),
            c => out.push(c),
        }
        first = false;
    }
    out.push(']');
    Ok(())
}

/// `[:alpha:]`, `[.x.]` and `[=x=]` inside brackets.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> SqlResult<()> {
    let kind = chars.next().unwrap_or(':');
    let mut name = String::new();
    loop {
        match chars.next() {
            Some(c) if c == kind && chars.peek() == Some(&']') => break,
            Some(c) => name.push(c),
            None => return Err(invalid("brackets [] not balanced")),
        }
    }
    chars.next();
    if kind != ':' {
        let mut single = name.chars();
        return match (single.next(), single.next()) {
            (Some(c), None) => {
                push_literal(c, out);
                Ok(())
            }
            _ => Err(invalid("invalid collating element")),
        };
    }
    out.push_str(match name.as_str() {
        "alpha" => "\\p{Alphabetic}",
        "alnum" => "\\p{Alphabetic}\\p{Nd}",
        "digit" => "\\d",
        "upper" => "\\p{Uppercase}",
        "lower" => "\\p{Lowercase}",
        "space" => "\\s",
        "word" => "\\w",
        "punct" => "[:punct:]",
        "blank" => "[:blank:]",
        "cntrl" => "[:cntrl:]",
        "graph" => "[:graph:]",
        "print" => "[:print:]",
        "xdigit" => "[:xdigit:]",
        "ascii" => "[:ascii:]",
        _ => return Err(invalid("invalid character class")),
    });
    Ok(())
}
