//! Text to values: what literals, text parameters and COPY bring.

use super::datum::Datum;
use super::interval::Interval;
use super::numeric::Numeric;
use super::{SqlType, bytea, datetime, digits, json, text};
use crate::env::Env;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::limits::MAX_IDENTIFIER_BYTES;

/// A value of `ty` from its text; the modifier's length, precision and scale hold (-1: none).
#[inline]
pub fn parse_text(ty: SqlType, modifier: i32, input: &str, env: &Env) -> SqlResult<Datum> {
    Ok(match ty {
        SqlType::Int4 => {
            Datum::Int4(digits::parse_integer(input, i64::from(i32::MIN), i64::from(i32::MAX), "integer")? as i32)
        }
        SqlType::Int8 => Datum::Int8(digits::parse_integer(input, i64::MIN, i64::MAX, "bigint")?),
        SqlType::Int2 => {
            Datum::Int2(digits::parse_integer(input, i64::from(i16::MIN), i64::from(i16::MAX), "smallint")? as i16)
        }
        SqlType::Text | SqlType::Unknown => Datum::Text(input.to_owned()),
        SqlType::Varchar | SqlType::Bpchar => Datum::Text(text::fit_length(input, ty, modifier, false)?.to_owned()),
        _ => return parse_other(ty, modifier, input, env),
    })
}

fn parse_other(ty: SqlType, modifier: i32, input: &str, env: &Env) -> SqlResult<Datum> {
    Ok(match ty {
        SqlType::Bool => Datum::Bool(bytea::parse_bool(input)?),
        SqlType::Float4 => Datum::Float4(digits::parse_float(input)?),
        SqlType::Float8 => Datum::Float8(digits::parse_float(input)?),
        SqlType::Numeric => {
            let value = Numeric::parse(input)?;
            Datum::Numeric(if modifier < 0 { value } else { value.apply_modifier(modifier)? })
        }
        SqlType::Bytea => Datum::Bytea(bytea::parse_bytea(input)?.into()),
        SqlType::Date => Datum::Date(datetime::parse_date(input, env)?),
        SqlType::Time => Datum::Time(datetime::parse_time(input, modifier, env)?),
        SqlType::Timestamp => Datum::Timestamp(datetime::parse_timestamp(input, modifier, env)?),
        SqlType::Timestamptz => Datum::Timestamptz(datetime::parse_timestamptz(input, modifier, env)?),
        SqlType::Interval => Datum::Interval(Interval::parse(input, modifier)?),
        SqlType::Uuid => Datum::Uuid(bytea::parse_uuid(input)?),
        SqlType::Json => {
            json::check_json(input)?;
            Datum::Text(input.to_owned())
        }
        SqlType::Jsonb => Datum::Text(json::normalize(input)?),
        SqlType::Oid => Datum::Oid(digits::parse_oid(input)?),
        SqlType::Name => Datum::Text(cut(input, MAX_IDENTIFIER_BYTES).to_owned()),
        SqlType::Char => Datum::Text(input.chars().next().map(String::from).unwrap_or_default()),
        SqlType::Regclass => Datum::Oid(parse_relation(input, env)?),
        SqlType::Regtype => Datum::Oid(match type_by_name(input) {
            Some(ty) => ty.oid(),
            None => parse_registered(input, "type")?,
        }),
        SqlType::Void => Datum::Null,
        SqlType::Array(element) => Datum::Array(text::parse_array(element.ty(), modifier, input, env)?),
        SqlType::Int2
        | SqlType::Int4
        | SqlType::Int8
        | SqlType::Text
        | SqlType::Varchar
        | SqlType::Bpchar
        | SqlType::Unknown => return parse_text(ty, modifier, input, env),
    })
}

/// A relation by oid or by name, quoted as in SQL.
fn parse_relation(input: &str, env: &Env) -> SqlResult<u32> {
    if input == "-" || (!input.is_empty() && input.bytes().all(|b| b.is_ascii_digit())) {
        return parse_registered(input, "relation");
    }
    let parts = split_name(input);
    let (schema, name) = match parts.as_slice() {
        [name] => (None, name.as_str()),
        [schema, name] | [_, schema, name] => (Some(schema.as_str()), name.as_str()),
        _ => return Err(SqlError::new(SqlState::INVALID_NAME, "invalid name syntax")),
    };
    let found = env.relations.lookup()?.relation_oid(schema, name, &env.search_path);
    found.ok_or_else(|| {
        SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{}\" does not exist", parts.join(".")))
    })
}

/// The parts of a name in a string: `public."My Table"`.
pub fn split_name(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let Some(part) = parts.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => part.push(c),
            c => part.push(c.to_ascii_lowercase()),
        }
    }
    parts
}

/// An oid in digits or `-`.
fn parse_registered(input: &str, what: &str) -> SqlResult<u32> {
    if input == "-" {
        return Ok(0);
    }
    if !input.is_empty() && input.bytes().all(|b| b.is_ascii_digit()) {
        return digits::parse_oid(input);
    }
    let state = if what == "type" { SqlState::UNDEFINED_OBJECT } else { SqlState::UNDEFINED_TABLE };
    Err(SqlError::new(state, format!("{what} \"{input}\" does not exist")))
}

/// A type by its SQL name or PostgreSQL's internal one, `[]` for arrays.
pub fn type_by_name(name: &str) -> Option<SqlType> {
    let lower = name.trim().to_ascii_lowercase();
    let lower = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
    if let Some(element) = lower.strip_suffix("[]") {
        return type_by_name(element)?.array();
    }
    if let Some(element) = lower.strip_prefix('_') {
        return type_by_name(element)?.array();
    }
    Some(match lower {
        "bool" => SqlType::Bool,
        "int2" => SqlType::Int2,
        "int4" | "int" => SqlType::Int4,
        "int8" => SqlType::Int8,
        "float4" => SqlType::Float4,
        "float8" | "float" => SqlType::Float8,
        "decimal" => SqlType::Numeric,
        "varchar" => SqlType::Varchar,
        "bpchar" | "char" => SqlType::Bpchar,
        "time" => SqlType::Time,
        "timestamp" => SqlType::Timestamp,
        "timestamptz" => SqlType::Timestamptz,
        other => return SqlType::all().find(|ty| ty.to_string() == other),
    })
}

/// At most `limit` bytes, no character broken.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or(text)
}
