//! Array functions and operators on one-dimensional arrays (PostgreSQL manual, "Array Functions and Operators").

use super::compare::compare;
use super::kernel::{boolean, count, kernel, mismatch, output, text};
use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::SqlResult;
use crate::types::SqlType;
use std::cmp::Ordering;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("||(anycompatiblearray, anycompatiblearray) -> anycompatiblearray", array_cat).nullable(),
    Entry::new("||(anycompatiblearray, anycompatible) -> anycompatiblearray", array_append).nullable(),
    Entry::new("||(anycompatible, anycompatiblearray) -> anycompatiblearray", array_prepend).nullable(),
    Entry::new("array_cat(anycompatiblearray, anycompatiblearray) -> anycompatiblearray", array_cat).nullable(),
    Entry::new("array_append(anycompatiblearray, anycompatible) -> anycompatiblearray", array_append).nullable(),
    Entry::new("array_prepend(anycompatible, anycompatiblearray) -> anycompatiblearray", array_prepend).nullable(),
    Entry::new(
        "array_length(anyarray, int4) -> int4",
        kernel!(|a: Array, dimension: Int4| match (a.len(), dimension) {
            (1.., 1) => count(a.len()),
            _ => Ok(Datum::Null),
        }),
    ),
    Entry::new(
        "array_upper(anyarray, int4) -> int4",
        kernel!(|a: Array, dimension: Int4| match (a.len(), dimension) {
            (1.., 1) => count(a.len()),
            _ => Ok(Datum::Null),
        }),
    ),
    Entry::new(
        "array_lower(anyarray, int4) -> int4",
        kernel!(|a: Array, dimension: Int4| match (a.len(), dimension) {
            (1.., 1) => count(1),
            _ => Ok(Datum::Null),
        }),
    ),
    Entry::new(
        "array_ndims(anyarray) -> int4",
        kernel!(|a: Array| match a.len() {
            0 => Ok(Datum::Null),
            _ => count(1),
        }),
    ),
    Entry::new(
        "array_dims(anyarray) -> text",
        kernel!(|a: Array| match a.len() {
            0 => Ok(Datum::Null),
            n => text(format!("[1:{n}]")),
        }),
    ),
    Entry::new(
        "array_element(anyarray, int4) -> anyelement",
        kernel!(|a: Array, at: Int4| {
            let index = usize::try_from(at).ok().and_then(|at| at.checked_sub(1));
            Ok(index.and_then(|index| a.iter().nth(index)).map_or(Datum::Null, |value| value.to_owned()))
        }),
    ),
    Entry::new("cardinality(anyarray) -> int4", kernel!(|a: Array| count(a.len()))),
    // The numbers from 1: what set-returning functions count rows with. NULL instead of none.
    Entry::new("toroid_series(int4) -> int4[]", kernel!(|n: Int4| Ok(numbers((1..=n).map(Datum::Int4).collect())))),
    Entry::new("toroid_series(int8) -> int8[]", kernel!(|n: Int8| Ok(numbers((1..=n).map(Datum::Int8).collect())))),
    Entry::new("array_position(anycompatiblearray, anycompatible) -> int4", array_position).nullable(),
    Entry::new("array_positions(anycompatiblearray, anycompatible) -> int4[]", array_positions).nullable(),
    Entry::new("array_remove(anycompatiblearray, anycompatible) -> anycompatiblearray", array_remove).nullable(),
    Entry::new("array_replace(anycompatiblearray, anycompatible, anycompatible) -> anycompatiblearray", array_replace)
        .nullable(),
    Entry::new("@>(anyarray, anyarray) -> bool", |cx, args| boolean(contains(cx, second(args)?, first(args)?)?)),
    Entry::new("<@(anyarray, anyarray) -> bool", |cx, args| boolean(contains(cx, first(args)?, second(args)?)?)),
    Entry::new("&&(anyarray, anyarray) -> bool", overlap),
    Entry::new("array_to_string(anyarray, text) -> text", array_to_string).stable(),
    Entry::new("array_to_string(anyarray, text, text) -> text", array_to_string).stable().nullable(),
    Entry::new("string_to_array(text, text) -> text[]", string_to_array).nullable(),
    Entry::new("string_to_array(text, text, text) -> text[]", string_to_array).nullable(),
    Entry::new(
        "trim_array(anyarray, int4) -> anyarray",
        kernel!(|a: Array, n: Int4| match usize::try_from(n) {
            Ok(n) if n <= a.len() => Ok(Datum::Array(a.iter().take(a.len() - n).map(DatumRef::to_owned).collect())),
            _ => Err(crate::error::SqlError::new(
                crate::error::SqlState::ARRAY_ELEMENT_ERROR,
                format!("number of elements to trim must be between 0 and {}", a.len()),
            )),
        }),
    ),
];

/// The elements of an array argument; none for NULL.
fn elements<'a>(value: DatumRef<'a>) -> Vec<DatumRef<'a>> {
    match value {
        DatumRef::Array(array) => array.iter().collect(),
        _ => Vec::new(),
    }
}

fn first<'a>(args: &[DatumRef<'a>]) -> SqlResult<DatumRef<'a>> {
    args.first().copied().ok_or_else(|| mismatch(args))
}

fn second<'a>(args: &[DatumRef<'a>]) -> SqlResult<DatumRef<'a>> {
    args.get(1).copied().ok_or_else(|| mismatch(args))
}

fn array_cat(_: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let (left, right) = (first(args)?, second(args)?);
    if left.is_null() && right.is_null() {
        return Ok(Datum::Null);
    }
    let all = elements(left).into_iter().chain(elements(right));
    Ok(Datum::Array(all.map(DatumRef::to_owned).collect()))
}

fn array_append(_: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let all = elements(first(args)?).into_iter().chain([second(args)?]);
    Ok(Datum::Array(all.map(DatumRef::to_owned).collect()))
}

fn array_prepend(_: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let all = [first(args)?].into_iter().chain(elements(second(args)?));
    Ok(Datum::Array(all.map(DatumRef::to_owned).collect()))
}

/// Equality in which NULL is equal to NULL, as the searching functions have it.
fn same(cx: &Context<'_>, left: DatumRef<'_>, right: DatumRef<'_>) -> SqlResult<bool> {
    match (left.is_null(), right.is_null()) {
        (true, true) => Ok(true),
        (false, false) => Ok(compare(cx, left, right)? == Ordering::Equal),
        _ => Ok(false),
    }
}

fn array_position(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let wanted = second(args)?;
    for (index, element) in elements(first(args)?).into_iter().enumerate() {
        if same(cx, element, wanted)? {
            return count(index + 1);
        }
    }
    Ok(Datum::Null)
}

fn array_positions(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let (array, wanted) = (first(args)?, second(args)?);
    if array.is_null() {
        return Ok(Datum::Null);
    }
    let mut found = Vec::new();
    for (index, element) in elements(array).into_iter().enumerate() {
        if same(cx, element, wanted)? {
            found.push(count(index + 1)?);
        }
    }
    Ok(Datum::Array(found))
}

fn array_remove(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let (array, unwanted) = (first(args)?, second(args)?);
    if array.is_null() {
        return Ok(Datum::Null);
    }
    let mut kept = Vec::new();
    for element in elements(array) {
        if !same(cx, element, unwanted)? {
            kept.push(element.to_owned());
        }
    }
    Ok(Datum::Array(kept))
}

fn array_replace(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let &[array, from, to] = args else { return Err(mismatch(args)) };
    if array.is_null() {
        return Ok(Datum::Null);
    }
    let replaced = elements(array).into_iter().map(|element| {
        let element = if same(cx, element, from)? { to } else { element };
        Ok(element.to_owned())
    });
    Ok(Datum::Array(replaced.collect::<SqlResult<_>>()?))
}

/// Whether every element of `part` is in `whole`; NULL is never found.
fn contains(cx: &Context<'_>, part: DatumRef<'_>, whole: DatumRef<'_>) -> SqlResult<bool> {
    let whole = elements(whole);
    for wanted in elements(part) {
        let mut found = false;
        for element in &whole {
            found |= !wanted.is_null() && same(cx, *element, wanted)?;
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

fn overlap(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let right = elements(second(args)?);
    for left in elements(first(args)?).into_iter().filter(|l| !l.is_null()) {
        for candidate in &right {
            if same(cx, left, *candidate)? {
                return boolean(true);
            }
        }
    }
    boolean(false)
}

fn array_to_string(cx: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let (array, DatumRef::Text(separator)) = (first(args)?, second(args)?) else { return Ok(Datum::Null) };
    if array.is_null() {
        return Ok(Datum::Null);
    }
    let null = match args.get(2) {
        Some(DatumRef::Text(null)) => Some(*null),
        _ => None,
    };
    let ty = cx.args.first().and_then(|ty| ty.element()).unwrap_or(SqlType::Text);
    let mut parts = Vec::new();
    for element in elements(array) {
        match (element, null) {
            (DatumRef::Null, None) => {}
            (DatumRef::Null, Some(null)) => parts.push(null.to_owned()),
            (element, _) => parts.push(output(cx, ty, element)?),
        }
    }
    text(parts.join(separator))
}

fn numbers(numbers: Vec<Datum>) -> Datum {
    if numbers.is_empty() { Datum::Null } else { Datum::Array(numbers) }
}

fn string_to_array(_: &Context<'_>, args: &[DatumRef<'_>]) -> SqlResult<Datum> {
    let DatumRef::Text(value) = first(args)? else { return Ok(Datum::Null) };
    let null = match args.get(2) {
        Some(DatumRef::Text(null)) => Some(*null),
        _ => None,
    };
    let part = |part: &str| if Some(part) == null { Datum::Null } else { Datum::Text(part.to_owned()) };
    let parts = match second(args)? {
        _ if value.is_empty() => Vec::new(),
        DatumRef::Text("") => vec![part(value)],
        DatumRef::Text(separator) => value.split(separator).map(part).collect(),
        _ => value.chars().map(|c| part(c.encode_utf8(&mut [0; 4]))).collect(),
    };
    Ok(Datum::Array(parts))
}
