//! Text made from values of any type: concat, format, quoting.

use super::kernel::{invalid_parameter, kernel, mismatch, output, text};
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::SqlType;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("||(anynonarray, text) -> text", append_text).stable(),
    Entry::new("||(text, anynonarray) -> text", append_text).stable(),
    Entry::new("concat(variadic any) -> text", join).stable().nullable(),
    Entry::new("concat_ws(text, variadic any) -> text", concat_ws).stable().nullable(),
    Entry::new("format(text) -> text", format).stable().nullable(),
    Entry::new("format(text, variadic any) -> text", format).stable().nullable(),
    Entry::new("quote_ident(text) -> text", kernel!(|a: Text| text(quote_ident(a)))),
    Entry::new("quote_literal(text) -> text", kernel!(|a: Text| text(quote_literal(a)))),
    Entry::new("quote_literal(anyelement) -> text", |cx, args| text(quote_literal(&output_at(cx, args, 0)?))).stable(),
    Entry::new("quote_nullable(text) -> text", quote_nullable).nullable(),
    Entry::new("quote_nullable(anyelement) -> text", quote_nullable).stable().nullable(),
];

/// Words that cannot stand as a name without quotes (`pg_get_keywords()`, all but the unreserved).
const RESERVED: &str = "\
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case cast char \
character check coalesce collate collation column concurrently constraint create cross current_catalog current_date \
current_role current_schema current_time current_timestamp current_user dec decimal default deferrable desc distinct do \
else end except exists extract false fetch float for foreign freeze from full grant greatest group grouping having ilike \
in initially inner inout int integer intersect interval into is isnull join lateral leading least left like limit \
localtime localtimestamp national natural nchar none normalize not notnull null nullif numeric offset on only or order \
out outer overlaps overlay placing position precision primary real references returning right row select session_user \
setof similar smallint some substring symmetric table tablesample then time timestamp to trailing treat trim true union \
unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists \
xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";

/// The text of an argument; empty for NULL.
fn output_at(cx: &Context<'_>, args: &[DatumRef<'_>], index: usize) -> SqlResult<String> {
    match args.get(index) {
        None | Some(DatumRef::Null) => Ok(String::new()),
        Some(value) => output(cx, cx.args.get(index).copied().unwrap_or(SqlType::Text), *value),
    }
}

fn join(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let parts = (0..args.len()).map(|i| output_at(cx, args, i));
    text(parts.collect::<SqlResult<Vec<_>>>()?.concat())
}

/// `||` casts to text, which writes booleans in full, where concat takes what clients are sent.
fn append_text(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let part = |(index, value): (usize, &DatumRef<'_>)| match value {
        DatumRef::Bool(value) => Ok(value.to_string()),
        _ => output_at(cx, args, index),
    };
    text(args.iter().enumerate().map(part).collect::<SqlResult<Vec<_>>>()?.concat())
}

fn concat_ws(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let Some(DatumRef::Text(separator)) = args.first() else { return Ok(Datum::Null) };
    let parts = (1..args.len()).filter(|i| !args[*i].is_null()).map(|i| output_at(cx, args, i));
    text(parts.collect::<SqlResult<Vec<_>>>()?.join(separator))
}

/// A name, in double quotes where it needs them.
pub fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.split(' ').any(|word| word == name);
    match plain {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// A string literal; with backslashes it is an escape string.
pub fn quote_literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

fn quote_nullable(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    match args {
        [DatumRef::Null] => text("NULL"),
        _ => text(quote_literal(&output_at(cx, args, 0)?)),
    }
}

/// One `%…` of a format string.
#[derive(Default)]
struct Directive {
    position: Option<usize>,
    left: bool,
    width: Width,
}

#[derive(Default)]
enum Width {
    #[default]
    None,
    Fixed(usize),
    Next,
    Argument(usize),
}

fn format(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let template = match args.first() {
        Some(DatumRef::Text(template)) => *template,
        Some(DatumRef::Null) => return Ok(Datum::Null),
        _ => return Err(mismatch(args)),
    };
    let mut out = String::new();
    let mut next = 0;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (directive, after) = parse_directive(after)?;
        let mut letters = after.chars();
        let kind = letters.next().ok_or_else(unterminated)?;
        rest = letters.as_str();
        append(cx, args, &directive, kind, &mut next, &mut out)?;
    }
    out.push_str(rest);
    text(out)
}

fn unterminated() -> SqlError {
    invalid_parameter("unterminated format() type specifier").with_hint("For a single \"%\" use \"%%\".")
}

fn number(input: &str) -> SqlResult<(Option<usize>, &str)> {
    let end = input.find(|c: char| !c.is_ascii_digit()).unwrap_or(input.len());
    let (digits, rest) = input.split_at(end);
    match digits {
        "" => Ok((None, rest)),
        _ => match digits.parse::<i32>() {
            Ok(number) => Ok((Some(number as usize), rest)),
            Err(_) => Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "number is out of range")),
        },
    }
}

fn parse_directive(input: &str) -> SqlResult<(Directive, &str)> {
    let mut directive = Directive::default();
    let (leading, after) = number(input)?;
    let mut rest = input;
    match (leading, after.strip_prefix('$')) {
        (Some(0), Some(_)) => {
            return Err(invalid_parameter("format specifies argument 0, but arguments are numbered from 1"));
        }
        (Some(position), Some(after)) => {
            directive.position = Some(position);
            rest = after;
        }
        (Some(width), None) => {
            directive.width = Width::Fixed(width);
            return Ok((directive, after));
        }
        (None, _) => {}
    }
    while let Some(after) = rest.strip_prefix('-') {
        directive.left = true;
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('*') {
        let (argument, after) = number(after)?;
        directive.width = match (argument, after.strip_prefix('$')) {
            (Some(0), _) => {
                return Err(invalid_parameter("format specifies argument 0, but arguments are numbered from 1"));
            }
            (Some(argument), Some(after)) => {
                rest = after;
                Width::Argument(argument)
            }
            (Some(_), None) => return Err(invalid_parameter("width argument position must be ended by \"$\"")),
            (None, _) => {
                rest = after;
                Width::Next
            }
        };
    } else {
        let (width, after) = number(rest)?;
        directive.width = width.map_or(Width::None, Width::Fixed);
        rest = after;
    }
    Ok((directive, rest))
}

/// Appends one argument as its directive says.
fn append(
    cx: &Context<'_>,
    args: &[DatumRef<'_>],
    directive: &Directive,
    kind: char,
    next: &mut usize,
    out: &mut String,
) -> SqlResult<()> {
    let mut take = |position: Option<usize>| {
        *next = position.unwrap_or(*next + 1);
        match args.get(*next) {
            Some(value) => Ok((*next, *value)),
            None => Err(invalid_parameter("too few arguments for format()")),
        }
    };
    let mut left = directive.left;
    let width = match directive.width {
        Width::None => 0,
        Width::Fixed(width) => width,
        Width::Next | Width::Argument(_) => {
            let position = if let Width::Argument(position) = directive.width { Some(position) } else { None };
            let width = match take(position)?.1 {
                DatumRef::Null => 0,
                DatumRef::Int2(width) => width.into(),
                DatumRef::Int4(width) => width,
                other => return Err(mismatch(&[other])),
            };
            left |= width < 0;
            width.unsigned_abs() as usize
        }
    };
    if !matches!(kind, 's' | 'I' | 'L') {
        return Err(invalid_parameter(format!("unrecognized format() type specifier \"{kind}\""))
            .with_hint("For a single \"%\" use \"%%\"."));
    }
    let (index, value) = take(directive.position)?;
    let shown = match (kind, value) {
        ('I', DatumRef::Null) => {
            let message = "null values cannot be formatted as an SQL identifier";
            return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
        }
        ('L', DatumRef::Null) => "NULL".to_owned(),
        ('I', _) => quote_ident(&output_at(cx, args, index)?),
        ('L', _) => quote_literal(&output_at(cx, args, index)?),
        _ => output_at(cx, args, index)?,
    };
    super::text::check_length(width)?;
    let padding = " ".repeat(width.saturating_sub(shown.chars().count()));
    out.push_str(&if left { shown + &padding } else { padding + &shown });
    Ok(())
}
