//! Indexes and constraints as SQL text: what pg_get_indexdef and pg_get_constraintdef answer.

use toroid_common::catalog::{Index, IndexColumn, Table};

/// An identifier as it must be written to be read back (PostgreSQL: `quote_identifier`, without its list of reserved words).
pub fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The name of an index's column at this place, from 0.
pub fn index_column(table: &Table, column: &IndexColumn) -> String {
    table.columns.get(usize::from(column.column)).map_or_else(String::new, |c| quoted(&c.name))
}

fn ordered_column(table: &Table, column: &IndexColumn) -> String {
    let mut text = index_column(table, column);
    if column.descending {
        text.push_str(" DESC");
    }
    match (column.descending, column.nulls_first) {
        (false, true) => text.push_str(" NULLS FIRST"),
        (true, false) => text.push_str(" NULLS LAST"),
        (false, false) | (true, true) => {}
    }
    text
}

/// CREATE INDEX as `pg_get_indexdef` prints it.
pub fn index_definition(table: &Table, index: &Index) -> String {
    let columns: Vec<String> = index.columns.iter().map(|c| ordered_column(table, c)).collect();
    format!(
        "CREATE {}INDEX {} ON {}.{} USING btree ({})",
        if index.unique { "UNIQUE " } else { "" },
        quoted(&index.name),
        quoted(&table.schema),
        quoted(&table.name),
        columns.join(", ")
    )
}

/// The constraint that an index backs, as `pg_get_constraintdef` prints it.
pub fn constraint_definition(table: &Table, index: &Index) -> String {
    let columns: Vec<String> = index.columns.iter().map(|c| index_column(table, c)).collect();
    format!("{} ({})", if index.primary { "PRIMARY KEY" } else { "UNIQUE" }, columns.join(", "))
}
