//! CREATE INDEX and DROP INDEX.

use super::Step;
use super::names::{already_exists, choose, notice, schema, skipping, taken};
use crate::bind::indexable;
use crate::bound::ObjectName;
use crate::statement::State;
use toroid_common::catalog::{Catalog, Distribution, Index, IndexState, Table};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::IndexId;
use toroid_common::wire::CatalogChange;

pub(super) fn create(
    session: &State,
    catalog: &Catalog,
    if_not_exists: bool,
    bound: &Table,
    index: &Index,
) -> SqlResult<Step> {
    let table = catalog.table(bound.id).ok_or_else(|| {
        SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{}\" does not exist", bound.name))
    })?;
    let mut index = index.clone();
    // The statement was bound against `bound`; columns may stand elsewhere by now.
    for column in &mut index.columns {
        let id = bound.columns.get(usize::from(column.column)).map(|c| c.id);
        let place = table.columns.iter().position(|c| Some(c.id) == id);
        let place = place.ok_or_else(|| {
            SqlError::new(SqlState::UNDEFINED_COLUMN, format!("a column of table \"{}\" was dropped", table.name))
        })?;
        table.columns.get(place).map_or(Ok(()), |column| indexable(column.ty.ty))?;
        column.column = place as u16;
    }
    let names: Vec<&str> = index
        .columns
        .iter()
        .filter_map(|c| table.columns.get(usize::from(c.column)))
        .map(|c| c.name.as_str())
        .collect();
    if index.name.is_empty() {
        index.name = choose(&table.name, &names, "idx", |name| taken(catalog, &table.schema, name));
    } else if taken(catalog, &table.schema, &index.name) {
        if if_not_exists {
            let text = format!("relation \"{}\" already exists, skipping", index.name);
            notice(session, SqlState::DUPLICATE_TABLE, text);
            return Ok(Step::Nothing);
        }
        return Err(already_exists(&index.name));
    }
    if index.unique {
        check_unique(table, &index)?;
    }
    index.state = IndexState::Building;
    let mut changed = (**table).clone();
    changed.indexes.push(index);
    Ok(Step::Change(CatalogChange::AlterTable(changed)))
}

/// Rows that could be equal must meet in one partition, or nobody would see that they are.
pub(super) fn check_unique(table: &Table, index: &Index) -> SqlResult<()> {
    let Distribution::Hash(columns) = &table.distribution else { return Ok(()) };
    for column in columns {
        if !index.columns.iter().any(|c| c.column == *column) {
            let name = table.columns.get(usize::from(*column)).map_or("", |c| if c.hidden { "" } else { &c.name });
            let reason = if name.is_empty() {
                format!("table \"{}\" has no distribution key; give it a primary key first", table.name)
            } else {
                format!("the index must include the distribution key column \"{name}\"")
            };
            return Err(SqlError::unsupported("a unique index without the distribution key").with_detail(reason));
        }
    }
    Ok(())
}

pub(super) fn drop(session: &State, catalog: &Catalog, if_exists: bool, names: &[ObjectName]) -> SqlResult<Step> {
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        let id = dropped(session, catalog, if_exists, name)?;
        ids.extend(id.filter(|id| !ids.contains(id)));
    }
    if ids.is_empty() { Ok(Step::Nothing) } else { Ok(Step::Change(CatalogChange::DropIndexes(ids))) }
}

/// The index that may be dropped; none when there is none and none is needed.
fn dropped(session: &State, catalog: &Catalog, if_exists: bool, name: &ObjectName) -> SqlResult<Option<IndexId>> {
    let Some((table, index)) = catalog.find_index(schema(name)?, &name.name) else {
        let text = format!("index \"{}\" does not exist", name.name);
        if catalog.find(schema(name)?, &name.name).is_some() {
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not an index", name.name))
                .with_hint("Use DROP TABLE to remove a table."));
        }
        if if_exists {
            skipping(session, text);
            return Ok(None);
        }
        return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, text));
    };
    if index.constraint {
        let (index, table) = (&index.name, &table.name);
        let text = format!("cannot drop index {index} because constraint {index} on table {table} requires it");
        return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, text)
            .with_hint(format!("You can drop constraint {index} on table {table} instead.")));
    }
    Ok(Some(index.id))
}
