//! Functions and operators on json and jsonb (PostgreSQL manual, "JSON Functions and Operators").

use super::json_text::{Kind, element, elements, follow, kind, member, members, unquote};
use super::kernel::{boolean, count, invalid_parameter, kernel, mismatch, output, text};
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::SqlType;
use crate::types::json::{Json, Key, normalize, write_string};

/// What json and jsonb have in common.
macro_rules! access {
    ($ty:literal, $prefix:literal) => {
        [
            Entry::new(concat!("->(", $ty, ", text) -> ", $ty), kernel!(|j: Text, key: Text| cut(member(j, key)))),
            Entry::new(concat!("->(", $ty, ", int4) -> ", $ty), kernel!(|j: Text, i: Int4| cut(element(j, i.into())))),
            Entry::new(concat!("->>(", $ty, ", text) -> text"), kernel!(|j: Text, key: Text| plain(member(j, key)))),
            Entry::new(
                concat!("->>(", $ty, ", int4) -> text"),
                kernel!(|j: Text, i: Int4| plain(element(j, i.into()))),
            ),
            Entry::new(concat!("#>(", $ty, ", text[]) -> ", $ty), |_, args| cut(at_path(args)?)),
            Entry::new(concat!("#>>(", $ty, ", text[]) -> text"), |_, args| plain(at_path(args)?)),
            Entry::new(concat!($prefix, "_extract_path(", $ty, ", variadic text) -> ", $ty), |_, args| {
                cut(at_arguments(args)?)
            }),
            Entry::new(concat!($prefix, "_extract_path_text(", $ty, ", variadic text) -> text"), |_, args| {
                plain(at_arguments(args)?)
            }),
            Entry::new(concat!($prefix, "_typeof(", $ty, ") -> text"), kernel!(|j: Text| text(type_name(kind(j))))),
            Entry::new(concat!($prefix, "_array_length(", $ty, ") -> int4"), kernel!(|j: Text| array_length(j))),
        ]
    };
}

pub(super) const ACCESS: &[[Entry; 10]] = &[access!("json", "json"), access!("jsonb", "jsonb")];

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("json_strip_nulls(json) -> json", kernel!(|j: Text| text(strip_nulls(j)))),
    Entry::new("jsonb_strip_nulls(jsonb) -> jsonb", kernel!(|j: Text| text(normalize(&strip_nulls(j))?))),
    Entry::new(
        "@>(jsonb, jsonb) -> bool",
        kernel!(|a: Text, b: Text| boolean(contains(&Json::parse(a)?, &Json::parse(b)?, true))),
    ),
    Entry::new(
        "<@(jsonb, jsonb) -> bool",
        kernel!(|a: Text, b: Text| boolean(contains(&Json::parse(b)?, &Json::parse(a)?, true))),
    ),
    Entry::new("?(jsonb, text) -> bool", kernel!(|j: Text, key: Text| boolean(exists(j, key)))),
    Entry::new(
        "?|(jsonb, text[]) -> bool",
        kernel!(|j: Text, keys: Array| {
            boolean(keys.iter().any(|key| matches!(key, DatumRef::Text(key) if exists(j, key))))
        }),
    ),
    Entry::new(
        "?&(jsonb, text[]) -> bool",
        kernel!(|j: Text, keys: Array| {
            boolean(
                keys.iter()
                    .all(|key| matches!(key, DatumRef::Null) || matches!(key, DatumRef::Text(key) if exists(j, key))),
            )
        }),
    ),
    Entry::new("jsonb_exists(jsonb, text) -> bool", kernel!(|j: Text, key: Text| boolean(exists(j, key)))),
    Entry::new(
        "||(jsonb, jsonb) -> jsonb",
        kernel!(|a: Text, b: Text| print(concatenate(Json::parse(a)?, Json::parse(b)?)?)),
    ),
    Entry::new("-(jsonb, text) -> jsonb", kernel!(|j: Text, key: Text| print(without(Json::parse(j)?, &[key])?))),
    Entry::new(
        "-(jsonb, text[]) -> jsonb",
        kernel!(|j: Text, keys: Array| {
            let keys: Vec<&str> = keys.iter().filter_map(as_text).collect();
            print(without(Json::parse(j)?, &keys)?)
        }),
    ),
    Entry::new(
        "-(jsonb, int4) -> jsonb",
        kernel!(|j: Text, index: Int4| print(without_element(Json::parse(j)?, index)?)),
    ),
    Entry::new(
        "#-(jsonb, text[]) -> jsonb",
        kernel!(|j: Text, path: Array| {
            let path: Vec<&str> = path.iter().filter_map(as_text).collect();
            let mut json = Json::parse(j)?;
            change(&mut json, &path, None, false)?;
            print(json)
        }),
    ),
    Entry::new("jsonb_set(jsonb, text[], jsonb) -> jsonb", |_, args| jsonb_set(args, true)),
    Entry::new("jsonb_set(jsonb, text[], jsonb, bool) -> jsonb", |_, args| match args {
        [rest @ .., DatumRef::Bool(create)] => jsonb_set(rest, *create),
        _ => Err(mismatch(args)),
    }),
    Entry::new(
        "jsonb_pretty(jsonb) -> text",
        kernel!(|j: Text| {
            let mut out = String::new();
            pretty(&Json::parse(j)?, 0, &mut out);
            text(out)
        }),
    ),
    Entry::new("to_json(anyelement) -> json", |cx, args| text(rendered(cx, args, 0)?)).stable(),
    Entry::new("to_jsonb(anyelement) -> jsonb", |cx, args| text(normalize(&rendered(cx, args, 0)?)?)).stable(),
    Entry::new("array_to_json(anyarray) -> json", |cx, args| text(rendered(cx, args, 0)?)).stable(),
    Entry::new("json_build_object() -> json", kernel!(|| text("{}"))),
    Entry::new("jsonb_build_object() -> jsonb", kernel!(|| text("{}"))),
    Entry::new("json_build_array() -> json", kernel!(|| text("[]"))),
    Entry::new("jsonb_build_array() -> jsonb", kernel!(|| text("[]"))),
    Entry::new("json_build_object(variadic any) -> json", |cx, args| text(build_object(cx, args)?)).stable().nullable(),
    Entry::new("jsonb_build_object(variadic any) -> jsonb", |cx, args| text(normalize(&build_object(cx, args)?)?))
        .stable()
        .nullable(),
    Entry::new("json_build_array(variadic any) -> json", |cx, args| text(build_array(cx, args)?)).stable().nullable(),
    Entry::new("jsonb_build_array(variadic any) -> jsonb", |cx, args| text(normalize(&build_array(cx, args)?)?))
        .stable()
        .nullable(),
];

fn cut(found: Option<&str>) -> SqlResult<Datum> {
    Ok(found.map_or(Datum::Null, |found| Datum::Text(found.to_owned())))
}

/// As text: a string without its quotes, NULL for null.
fn plain(found: Option<&str>) -> SqlResult<Datum> {
    Ok(match found.map(|found| (kind(found), found)) {
        None | Some((Kind::Null, _)) => Datum::Null,
        Some((Kind::String, quoted)) => Datum::Text(unquote(quoted)),
        Some((_, other)) => Datum::Text(other.to_owned()),
    })
}

fn as_text(value: DatumRef<'_>) -> Option<&str> {
    match value {
        DatumRef::Text(value) => Some(value),
        _ => None,
    }
}

fn at_path<'a>(args: &[DatumRef<'a>]) -> SqlResult<Option<&'a str>> {
    let &[DatumRef::Text(json), DatumRef::Array(path)] = args else { return Err(mismatch(args)) };
    let steps: Option<Vec<&str>> = path.iter().map(as_text).collect();
    Ok(steps.and_then(|steps| follow(json, &steps)))
}

fn at_arguments<'a>(args: &[DatumRef<'a>]) -> SqlResult<Option<&'a str>> {
    let [DatumRef::Text(json), path @ ..] = args else { return Err(mismatch(args)) };
    let steps: Vec<&str> = path.iter().filter_map(|step| as_text(*step)).collect();
    Ok(follow(json, &steps))
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "object",
        Kind::Array => "array",
        Kind::String => "string",
        Kind::Number => "number",
        Kind::Bool => "boolean",
        Kind::Null => "null",
    }
}

fn array_length(json: &str) -> SqlResult<Datum> {
    match kind(json) {
        Kind::Array => count(elements(json).len()),
        Kind::Object => Err(invalid_parameter("cannot get array length of a non-array")),
        _ => Err(invalid_parameter("cannot get array length of a scalar")),
    }
}

fn strip_nulls(json: &str) -> String {
    match kind(json) {
        Kind::Object => {
            let kept = members(json).into_iter().filter(|(_, value)| kind(value) != Kind::Null);
            let kept: Vec<String> = kept.map(|(key, value)| format!("{key}:{}", strip_nulls(value))).collect();
            format!("{{{}}}", kept.join(","))
        }
        Kind::Array => {
            let all: Vec<String> = elements(json).into_iter().map(strip_nulls).collect();
            format!("[{}]", all.join(","))
        }
        _ => json.to_owned(),
    }
}

fn print(json: Json) -> SqlResult<Datum> {
    let mut out = String::new();
    json.write(&mut out);
    text(out)
}

fn equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.compare(b).is_eq(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((ka, a), (kb, b))| ka == kb && equal(a, b))
        }
        _ => a == b,
    }
}

/// `@>`: an array may contain a primitive at the outermost level.
fn contains(whole: &Json, part: &Json, outermost: bool) -> bool {
    match (whole, part) {
        (Json::Object(whole), Json::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|found| contains(found, value, false)))
        }
        (Json::Array(whole), Json::Array(part)) => {
            part.iter().all(|wanted| whole.iter().any(|found| contains(found, wanted, false)))
        }
        (Json::Array(whole), primitive) if outermost && !matches!(primitive, Json::Object(_)) => {
            whole.iter().any(|found| equal(found, primitive))
        }
        _ => equal(whole, part),
    }
}

fn exists(json: &str, key: &str) -> bool {
    match kind(json) {
        Kind::Object => member(json, key).is_some(),
        Kind::Array => elements(json).into_iter().any(|e| kind(e) == Kind::String && unquote(e) == key),
        Kind::String => unquote(json) == key,
        _ => false,
    }
}

fn concatenate(a: Json, b: Json) -> SqlResult<Json> {
    Ok(match (a, b) {
        (Json::Object(mut a), Json::Object(b)) => {
            a.extend(b);
            Json::Object(a)
        }
        (a, b) => {
            let list = |json| if let Json::Array(list) = json { list } else { vec![json] };
            let mut all = list(a);
            all.extend(list(b));
            Json::Array(all)
        }
    })
}

fn without(json: Json, keys: &[&str]) -> SqlResult<Json> {
    match json {
        Json::Object(mut members) => {
            members.retain(|key, _| !keys.contains(&key.0.as_str()));
            Ok(Json::Object(members))
        }
        Json::Array(mut elements) => {
            elements.retain(|e| !matches!(e, Json::String(value) if keys.contains(&value.as_str())));
            Ok(Json::Array(elements))
        }
        _ => Err(invalid_parameter("cannot delete from scalar")),
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index + length as i64 } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

fn without_element(json: Json, index: i32) -> SqlResult<Json> {
    match json {
        Json::Array(mut elements) => {
            if let Some(at) = position(index.into(), elements.len()) {
                elements.remove(at);
            }
            Ok(Json::Array(elements))
        }
        Json::Object(_) => Err(invalid_parameter("cannot delete from object using integer index")),
        _ => Err(invalid_parameter("cannot delete from scalar")),
    }
}

fn jsonb_set(args: &[DatumRef<'_>], create: bool) -> SqlResult<Datum> {
    let &[DatumRef::Text(json), DatumRef::Array(path), DatumRef::Text(value)] = args else {
        return Err(mismatch(args));
    };
    let path: Vec<&str> = path.iter().filter_map(as_text).collect();
    let mut json = Json::parse(json)?;
    if !matches!(json, Json::Object(_) | Json::Array(_)) {
        return Err(invalid_parameter("cannot set path in scalar"));
    }
    change(&mut json, &path, Some(&Json::parse(value)?), create)?;
    print(json)
}

/// Sets or removes what is at the end of a path; a path that leads nowhere changes nothing.
fn change(json: &mut Json, path: &[&str], value: Option<&Json>, create: bool) -> SqlResult<()> {
    let [step, rest @ ..] = path else { return Ok(()) };
    match json {
        Json::Object(members) => {
            let key = Key((*step).to_owned());
            match (rest.is_empty(), value) {
                (true, Some(value)) if create || members.contains_key(&key) => {
                    members.insert(key, value.clone());
                }
                (true, None) => {
                    members.remove(&key);
                }
                (true, Some(_)) => {}
                (false, _) => {
                    if let Some(inner) = members.get_mut(&key) {
                        change(inner, rest, value, create)?;
                    }
                }
            }
        }
        Json::Array(elements) => {
            let index: i64 = step.trim().parse().map_err(|_| {
                let message = format!("path element at position 1 is not an integer: \"{step}\"");
                SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
            })?;
            let at = position(index, elements.len());
            match (at, rest.is_empty(), value) {
                (Some(at), true, Some(value)) => elements[at] = value.clone(),
                (Some(at), true, None) => {
                    elements.remove(at);
                }
                (Some(at), false, _) => change(&mut elements[at], rest, value, create)?,
                (None, true, Some(value)) if create && index < 0 => elements.insert(0, value.clone()),
                (None, true, Some(value)) if create => elements.push(value.clone()),
                (None, _, _) => {}
            }
        }
        _ => {}
    }
    Ok(())
}

fn pretty(json: &Json, depth: usize, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        out.push('\n');
        out.push_str(&" ".repeat(4 * depth));
    };
    match json {
        Json::Array(elements) => {
            out.push('[');
            for (i, element) in elements.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                line(depth + 1, out);
                pretty(element, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (i, (key, value)) in members.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                line(depth + 1, out);
                write_string(out, &key.0);
                out.push_str(": ");
                pretty(value, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
        scalar => scalar.write(out),
    }
}

/// An argument as JSON text.
fn rendered(cx: &Context<'_>, args: &[DatumRef<'_>], index: usize) -> SqlResult<String> {
    let ty = cx.args.get(index).copied().unwrap_or(SqlType::Text);
    render(cx, ty, args.get(index).copied().unwrap_or(DatumRef::Null))
}

/// A value of any type as JSON text, as `to_json` writes it.
pub(super) fn render(cx: &Context<'_>, ty: SqlType, value: DatumRef<'_>) -> SqlResult<String> {
    let quoted = |shown: &str| {
        let mut out = String::with_capacity(shown.len() + 2);
        write_string(&mut out, shown);
        out
    };
    Ok(match value {
        DatumRef::Null => "null".to_owned(),
        DatumRef::Bool(value) => value.to_string(),
        DatumRef::Text(value) if matches!(ty, SqlType::Json | SqlType::Jsonb) => value.to_owned(),
        DatumRef::Text(value) => quoted(value),
        DatumRef::Array(array) => {
            let element = ty.element().unwrap_or(SqlType::Text);
            let all = array.iter().map(|value| render(cx, element, value)).collect::<SqlResult<Vec<_>>>()?;
            format!("[{}]", all.join(","))
        }
        DatumRef::Timestamp(_) | DatumRef::Timestamptz(_) => {
            let shown = output(cx, ty, value)?.replacen(' ', "T", 1);
            // The offset is written in full: +00:00.
            let short = matches!(value, DatumRef::Timestamptz(_))
                && shown.len() > 3
                && shown.get(shown.len() - 3..).is_some_and(|end| end.starts_with(['+', '-']));
            quoted(&if short { shown + ":00" } else { shown })
        }
        DatumRef::Int2(_) | DatumRef::Int4(_) | DatumRef::Int8(_) => output(cx, ty, value)?,
        DatumRef::Float4(_) | DatumRef::Float8(_) | DatumRef::Numeric(_) => {
            let shown = output(cx, ty, value)?;
            if shown.ends_with(|c: char| c.is_ascii_digit()) { shown } else { quoted(&shown) }
        }
        _ => quoted(&output(cx, ty, value)?),
    })
}

fn build_array(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<String> {
    let all = (0..args.len()).map(|i| rendered(cx, args, i)).collect::<SqlResult<Vec<_>>>()?;
    Ok(format!("[{}]", all.join(", ")))
}

fn build_object(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<String> {
    if !args.len().is_multiple_of(2) {
        let function = if cx.result == SqlType::Json { "json_build_object()" } else { "jsonb_build_object()" };
        return Err(invalid_parameter("argument list must have even number of elements")
            .with_hint(format!("The arguments of {function} must consist of alternating keys and values.")));
    }
    let mut all = Vec::new();
    for i in (0..args.len()).step_by(2) {
        let ty = cx.args.get(i).copied().unwrap_or(SqlType::Text);
        let key = match args.get(i) {
            None | Some(DatumRef::Null) => {
                return Err(match cx.result {
                    SqlType::Json => invalid_parameter(format!("argument {} cannot be null", i + 1))
                        .with_hint("Object keys should be text."),
                    _ => invalid_parameter(format!("argument {}: key must not be null", i + 1)),
                });
            }
            Some(_) if ty.element().is_some() || matches!(ty, SqlType::Json | SqlType::Jsonb) => {
                return Err(invalid_parameter("key value must be scalar, not array, composite, or json"));
            }
            Some(value) => output(cx, ty, *value)?,
        };
        let mut member = String::new();
        write_string(&mut member, &key);
        all.push(format!("{member} : {}", rendered(cx, args, i + 1)?));
    }
    Ok(format!("{{{}}}", all.join(", ")))
}
