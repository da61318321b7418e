//! Indexes and constraints as SQL text: what pg_get_indexdef and pg_get_constraintdef answer.

use toroid_common::catalog::{Index, IndexColumn, Table};
use toroid_common::func::quote_ident;

/// The name of an index's column at this place, from 0.
pub fn index_column(table: &Table, column: &IndexColumn) -> String {
    table.columns.get(usize::from(column.column)).map_or_else(String::new, |c| quote_ident(&c.name))
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

/// CREATE INDEX as `pg_get_indexdef` prints it; the table stands without its schema where that is in `hidden`.
pub fn index_definition(table: &Table, index: &Index, hidden: &[String]) -> String {
    let columns: Vec<String> = index.columns.iter().map(|c| ordered_column(table, c)).collect();
    let schema = if hidden.contains(&table.schema) { String::new() } else { quote_ident(&table.schema) + "." };
    format!(
        "CREATE {}INDEX {} ON {schema}{} USING btree ({})",
        if index.unique { "UNIQUE " } else { "" },
        quote_ident(&index.name),
        quote_ident(&table.name),
        columns.join(", ")
    )
}

/// The constraint that an index backs, as `pg_get_constraintdef` prints it.
pub fn constraint_definition(table: &Table, index: &Index) -> String {
    let columns: Vec<String> = index.columns.iter().map(|c| index_column(table, c)).collect();
    format!("{} ({})", if index.primary { "PRIMARY KEY" } else { "UNIQUE" }, columns.join(", "))
}
