//! Whether the rows of this partition allow a new catalog.

use super::{Root, detail};
use crate::store::account::Account;
use crate::store::cost::Cost;
use crate::store::index::Index;
use crate::store::table::TableRows;
use toroid_common::catalog::{self, Catalog, Column, IndexState, Table};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{IndexId, TableId};
use toroid_common::limits::MAX_KEY_BYTES;
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

    /// Whether a catalog must wait until prepared transactions are finished here, because it alters or drops tables whose rows they change. Nothing
    /// may be prepared meanwhile that changes rows of these tables.
    pub fn waits_for_prepared(&self, catalog: &Catalog) -> bool {
        self.transactions.all_prepared().any(|(_, prepared)| {
            prepared.tables().iter().any(|id| self.catalog.tables.get(id) != catalog.tables.get(id))
        })
    }

    /// Why an index in state *building*, when it has all rows, must not become *ready*: the error that CREATE INDEX reports.
    pub fn index_fault(&self, table: TableId, index: IndexId) -> Option<SqlError> {
        let table = self.table(table)?;
        let definition = table.definition().indexes.iter().find(|definition| definition.id == index)?;
        fault(table, table.definition(), table.index(index)?, definition)
    }

    /// Whether an index does not have all rows yet: [`Root::build_some`] enters them.
    pub fn is_building(&self) -> bool {
        !self.building.is_empty()
    }

    /// Enters up to `rows` rows into indexes in state *building*; how many it did not need to.
    pub fn build_some(&mut self, rows: usize, account: &mut Account) -> usize {
        let mut left = rows;
        while let Some(id) = self.building.last().copied() {
            if left == 0 {
                break;
            }
            let mut done = false;
            self.change(id, account, |table, cost| {
                left = table.build_some(left, cost);
                done = !table.is_building();
            });
            if done {
                self.building.pop();
            }
        }
        left
    }

    /// This root was not looked after for a while.
    pub(crate) fn go_on_building(&self, account: &mut Account) {
        if self.is_building() {
            account.note_building();
        }
    }

    /// Gives indexes all rows at once. A backup that becomes primary must: what forbids equal keys is the primary's complete index.
    pub fn finish_building(&mut self, account: &mut Account) {
        self.build_some(usize::MAX, account);
    }

    /// Leaves indexes as they are: they will be taken back.
    pub fn give_up_building(&mut self) {
        self.building.clear();
    }

    /// Finds the tables that have indexes to be built.
    pub(super) fn note_building(&mut self, account: &mut Account) {
        self.building = self.tables().filter(|table| table.is_building()).map(|table| table.definition().id).collect();
        if self.is_building() {
            account.note_building();
        }
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
                let null = |position| table.value(position, at as u16).is_null();
                // Only where the answer matters: it takes a look at every row.
                column.not_null && !was_not_null && table.positions().any(null)
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
            Some(index) if index.is_complete() => fault(table, table.definition(), index, wanted),
            Some(_) | None => {
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
    if !index.is_faulty() {
        return None;
    }
    let (position, length) = table.fault_of(index)?;
    Some(match length > MAX_KEY_BYTES {
        true => detail::key_too_long(definition, wanted, length, MAX_KEY_BYTES),
        false => detail::duplicated_key(definition, wanted, |column| table.value(position, column)),
    })
}
