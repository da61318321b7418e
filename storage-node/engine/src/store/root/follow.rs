//! Whether the rows of this partition allow a new catalog.

use super::{Root, detail};
use crate::store::cost::Cost;
use crate::store::index::Index;
use crate::store::table::TableRows;
use toroid_common::catalog::{self, Catalog, Column, IndexState, Table};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{IndexId, TableId};
use toroid_common::types::SqlType;

impl Root {
    /// NOT NULL and unique indexes over the rows that are there; a column keeps its type.
    pub(super) fn check_catalog(&self, catalog: &Catalog) -> SqlResult<()> {
        for (id, definition) in &catalog.tables {
            definition.columns.iter().try_for_each(check_storable)?;
            let Some(table) = self.table(*id) else { continue };
            if **table.definition() != **definition && table.definition().generation == definition.generation {
                check_columns(table, definition)?;
                check_indexes(table, definition)?;
            }
        }
        Ok(())
    }

    /// Why an index in state *building* must not become *ready*: the error that CREATE UNIQUE INDEX reports.
    pub fn index_fault(&self, table: TableId, index: IndexId) -> Option<SqlError> {
        let table = self.table(table)?;
        let definition = table.definition().indexes.iter().find(|definition| definition.id == index)?;
        fault(table, table.definition(), table.index(index)?, definition)
    }
}

fn check_storable(column: &Column) -> SqlResult<()> {
    match column.ty.ty {
        SqlType::Array(_) | SqlType::Unknown | SqlType::Void => {
            Err(SqlError::unsupported(format!("a column of type {}", column.ty.ty)))
        }
        _ => Ok(()),
    }
}

fn check_columns(table: &TableRows, definition: &Table) -> SqlResult<()> {
    let old = table.definition();
    for column in &definition.columns {
        let before = old.columns.iter().position(|before| before.id == column.id);
        let missing_is_null = column.missing.as_ref().is_none_or(|value| value.is_null());
        let has_nulls = match before {
            Some(at) => {
                let same_type = old.columns.get(at).is_some_and(|before| before.ty.ty == column.ty.ty);
                if !same_type && !table.is_empty() {
                    return Err(SqlError::unsupported(format!("changing the type of column \"{}\"", column.name)));
                }
                let was_not_null = old.columns.get(at).is_some_and(|before| before.not_null);
                !was_not_null && table.positions().any(|position| table.value(position, at as u16).is_null())
            }
            None => missing_is_null && !table.is_empty(),
        };
        if column.not_null && has_nulls {
            return Err(detail::contains_nulls(definition, &column.name));
        }
    }
    Ok(())
}

/// An index that is to be ready at once, or from now on, must hold.
fn check_indexes(table: &TableRows, definition: &Table) -> SqlResult<()> {
    for wanted in definition.indexes.iter().filter(|index| index.unique && index.state == IndexState::Ready) {
        let found = match table.index(wanted.id) {
            Some(index) => fault(table, table.definition(), index, wanted),
            None => {
                // Built over the table as it will be, and thrown away: the same happens again when the change is applied.
                let mut altered = table.clone();
                altered.alter(definition.clone().into(), &mut Cost::default());
                altered.index(wanted.id).and_then(|index| fault(&altered, definition, index, wanted))
            }
        };
        if let Some(error) = found {
            return Err(error);
        }
    }
    Ok(())
}

fn fault(table: &TableRows, definition: &Table, index: &Index, wanted: &catalog::Index) -> Option<SqlError> {
    let (position, _) = index.duplicates()?;
    Some(detail::duplicated_key(definition, wanted, |column| table.value(position, column)))
}
