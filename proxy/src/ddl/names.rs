//! Names in schema changes: which schema is meant, which table, and whether a name is still free.

use crate::bound::ObjectName;
use crate::statement::{Severity, State};
use crate::virtual_table;
use std::sync::Arc;
use toroid_common::catalog::{Catalog, PUBLIC_SCHEMA, Table};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::limits::MAX_IDENTIFIER_BYTES;

/// SQLSTATE of notices that are no warnings.
const SUCCESSFUL_COMPLETION: SqlState = SqlState(*b"00000");

/// The schema that a name means; only `public` can be changed.
pub(super) fn schema(name: &ObjectName) -> SqlResult<&str> {
    match name.schema.as_deref() {
        None | Some(PUBLIC_SCHEMA) => Ok(PUBLIC_SCHEMA),
        Some(schema @ ("pg_catalog" | "information_schema" | "toroid")) => {
            Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied for schema {schema}")))
        }
        Some(schema) => {
            Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{schema}\" does not exist")))
        }
    }
}

/// The table of this name, if there is one. `pg_catalog` is searched first, as in queries.
pub(super) fn table<'c>(catalog: &'c Catalog, name: &ObjectName) -> SqlResult<Option<&'c Arc<Table>>> {
    if name.schema.is_none() && virtual_table::find(None, &name.name).is_some() {
        let text = format!("permission denied: \"{}\" is a system catalog", name.name);
        return Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, text));
    }
    Ok(catalog.find(schema(name)?, &name.name))
}

pub(super) fn display(name: &ObjectName) -> String {
    match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    }
}

pub(super) fn taken(catalog: &Catalog, schema: &str, name: &str) -> bool {
    catalog.find(schema, name).is_some() || catalog.find_index(schema, name).is_some()
}

pub(super) fn already_exists(name: &str) -> SqlError {
    SqlError::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))
}

pub(super) fn notice(session: &State, state: SqlState, text: String) {
    session.notify(Severity::Notice, SqlError::new(state, text));
}

pub(super) fn skipping(session: &State, text: String) {
    notice(session, SUCCESSFUL_COMPLETION, format!("{text}, skipping"));
}

/// A free name made of parts (PostgreSQL: `ChooseRelationName`): `t_a_b_idx`, `t_a_b_idx1`, …
pub(super) fn choose(table: &str, columns: &[&str], suffix: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut stem = table.to_owned();
    for column in columns {
        stem.push('_');
        stem.push_str(column);
    }
    let mut number = String::new();
    for count in 1u32.. {
        let tail = format!("_{suffix}{number}");
        let mut end = stem.len().min(MAX_IDENTIFIER_BYTES.saturating_sub(tail.len()));
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        let name = format!("{}{tail}", stem.get(..end).unwrap_or_default());
        if !is_taken(&name) {
            return name;
        }
        number = count.to_string();
    }
    stem
}
