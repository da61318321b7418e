//! CREATE TABLE.

use super::Step;
use super::names::{already_exists, choose, notice, schema, taken};
use crate::bound::NewTable;
use crate::statement::State;
use toroid_common::catalog::{Catalog, IndexState, Table, TableState};
use toroid_common::error::{SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, TableId};
use toroid_common::wire::CatalogChange;

pub(super) fn table(session: &State, catalog: &Catalog, if_not_exists: bool, new: &NewTable) -> SqlResult<Step> {
    let schema = schema(&new.name)?;
    let name = &new.name.name;
    if taken(catalog, schema, name) {
        if if_not_exists {
            notice(session, SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists, skipping"));
            return Ok(Step::Nothing);
        }
        return Err(already_exists(name));
    }
    let mut table = Table {
        id: TableId(0),
        schema: schema.to_owned(),
        name: name.clone(),
        version: CatalogVersion(0),
        columns: new.columns.clone(),
        indexes: new.indexes.clone(),
        checks: new.checks.clone(),
        distribution: new.distribution.clone(),
        state: TableState::Open,
        next_column: new.columns.iter().map(|c| c.id.0).max().unwrap_or(0) + 1,
        generation: 0,
        options: new.options.clone(),
    };
    name_indexes(catalog, schema, &mut table)?;
    Ok(Step::Change(CatalogChange::CreateTable(table)))
}

/// Gives names to indexes that have none, and refuses names that are taken.
fn name_indexes(catalog: &Catalog, schema: &str, table: &mut Table) -> SqlResult<()> {
    let mut used = vec![table.name.clone()];
    for index in &mut table.indexes {
        // Nothing is there to be indexed yet.
        index.state = IndexState::Ready;
        let is_used = |name: &str| used.iter().any(|u| u == name) || taken(catalog, schema, name);
        if index.name.is_empty() {
            let columns: Vec<&str> = index
                .columns
                .iter()
                .filter_map(|c| table.columns.get(usize::from(c.column)))
                .map(|c| c.name.as_str())
                .collect();
            index.name = match index.primary {
                true => choose(&table.name, &[], "pkey", is_used),
                false => choose(&table.name, &columns, "key", is_used),
            };
        } else if is_used(&index.name) {
            return Err(already_exists(&index.name));
        }
        used.push(index.name.clone());
    }
    Ok(())
}
