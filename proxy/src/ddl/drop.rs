//! DROP TABLE and TRUNCATE.

use super::Step;
use super::names::{display, skipping, table};
use crate::bound::ObjectName;
use crate::statement::State;
use toroid_common::catalog::Catalog;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::wire::CatalogChange;

pub(super) fn tables(session: &State, catalog: &Catalog, if_exists: bool, names: &[ObjectName]) -> SqlResult<Step> {
    let mut ids = Vec::new();
    for name in names {
        match table(catalog, name)? {
            Some(table) if !ids.contains(&table.id) => ids.push(table.id),
            Some(_) => {}
            None if if_exists => skipping(session, format!("table \"{}\" does not exist", name.name)),
            None => return Err(missing_table(catalog, name)),
        }
    }
    if ids.is_empty() { Ok(Step::Nothing) } else { Ok(Step::Change(CatalogChange::DropTables(ids))) }
}

fn missing_table(catalog: &Catalog, name: &ObjectName) -> SqlError {
    if catalog.find_index(toroid_common::catalog::PUBLIC_SCHEMA, &name.name).is_some() {
        let text = format!("\"{}\" is not a table", name.name);
        return SqlError::new(SqlState::WRONG_OBJECT_TYPE, text).with_hint("Use DROP INDEX to remove an index.");
    }
    SqlError::new(SqlState::UNDEFINED_TABLE, format!("table \"{}\" does not exist", name.name))
}

pub(super) fn truncate(catalog: &Catalog, names: &[ObjectName]) -> SqlResult<Step> {
    let mut ids = Vec::new();
    for name in names {
        let text = || format!("relation \"{}\" does not exist", display(name));
        let table = table(catalog, name)?.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, text()))?;
        if !ids.contains(&table.id) {
            ids.push(table.id);
        }
    }
    Ok(Step::Change(CatalogChange::Truncate(ids)))
}
