//! The DETAIL lines of constraint violations, worded as PostgreSQL words them.

use toroid_common::catalog::{Check, Index, Table};
use toroid_common::datum::DatumRef;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::types::output::to_text;

/// Longest text of one value in "Failing row contains" (PostgreSQL: `maxfieldlen`).
const MAX_FIELD_BYTES: usize = 64;

/// 23505 for a key that another row has.
pub(super) fn duplicate_key<'a>(table: &Table, index: &Index, value: impl Fn(u16) -> DatumRef<'a>) -> SqlError {
    let message = format!("duplicate key value violates unique constraint \"{}\"", index.name);
    SqlError::new(SqlState::UNIQUE_VIOLATION, message)
        .with_detail(format!("{} already exists.", key(table, index, value)))
        .with_table(&table.name)
        .with_constraint(&index.name)
}

/// 23505 for a unique index that cannot be built.
pub(super) fn duplicated_key<'a>(table: &Table, index: &Index, value: impl Fn(u16) -> DatumRef<'a>) -> SqlError {
    SqlError::new(SqlState::UNIQUE_VIOLATION, format!("could not create unique index \"{}\"", index.name))
        .with_detail(format!("{} is duplicated.", key(table, index, value)))
        .with_table(&table.name)
        .with_constraint(&index.name)
}

/// 23502 for a row with a NULL where none may be.
pub(super) fn null_value<'a>(table: &Table, column: usize, value: impl Fn(u16) -> DatumRef<'a>) -> SqlError {
    let name = table.columns.get(column).map_or("?", |column| column.name.as_str());
    let message =
        format!("null value in column \"{name}\" of relation \"{}\" violates not-null constraint", table.name);
    SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
        .with_detail(failing_row(table, value))
        .with_table(&table.name)
        .with_column(name)
}

/// 23514 for a row of which a CHECK constraint is false.
pub(super) fn violated<'a>(table: &Table, check: &Check, value: impl Fn(u16) -> DatumRef<'a>) -> SqlError {
    let message = format!("new row for relation \"{}\" violates check constraint \"{}\"", table.name, check.name);
    SqlError::new(SqlState::CHECK_VIOLATION, message)
        .with_detail(failing_row(table, value))
        .with_table(&table.name)
        .with_constraint(&check.name)
}

fn failing_row<'a>(table: &Table, value: impl Fn(u16) -> DatumRef<'a>) -> String {
    let values: Vec<String> =
        table.visible().map(|(at, _)| shortened(text(table, at as u16, value(at as u16)))).collect();
    format!("Failing row contains ({}).", values.join(", "))
}

/// 23502 for a column that is to be NOT NULL and has NULLs.
pub(super) fn contains_nulls(table: &Table, column: &str) -> SqlError {
    let message = format!("column \"{column}\" of relation \"{}\" contains null values", table.name);
    SqlError::new(SqlState::NOT_NULL_VIOLATION, message).with_table(&table.name).with_column(column)
}

/// 54000 for a key that is too long for an index.
pub(super) fn key_too_long(table: &Table, index: &Index, bytes: usize, limit: usize) -> SqlError {
    let message =
        format!("index row size {bytes} exceeds btree version 4 maximum {limit} for index \"{}\"", index.name);
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
        .with_hint(
            "Values larger than 1/3 of a buffer page cannot be indexed.\n\
             Consider a function index of an MD5 hash of the value, or use full text indexing.",
        )
        .with_table(&table.name)
        .with_constraint(&index.name)
}

/// `Key (a, b)=(1, 2)`.
fn key<'a>(table: &Table, index: &Index, value: impl Fn(u16) -> DatumRef<'a>) -> String {
    let name = |column: u16| table.columns.get(usize::from(column)).map_or("?", |column| column.name.as_str());
    let names: Vec<&str> = index.columns.iter().map(|column| name(column.column)).collect();
    let values: Vec<String> =
        index.columns.iter().map(|column| text(table, column.column, value(column.column))).collect();
    format!("Key ({})=({})", names.join(", "), values.join(", "))
}

/// Values are shown as a session with default settings sees them.
fn text(table: &Table, column: u16, value: DatumRef<'_>) -> String {
    match table.columns.get(usize::from(column)) {
        Some(column) if !value.is_null() => to_text(column.ty.ty, column.ty.modifier, value, &Env::default()),
        _ => "null".to_owned(),
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_FIELD_BYTES {
        text.truncate(text.floor_char_boundary(MAX_FIELD_BYTES));
        text.push_str("...");
    }
    text
}
