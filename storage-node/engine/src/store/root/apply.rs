//! Applying the changes of an entry.

use super::Root;
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::cost::Cost;
use crate::store::index::KeyBytes;
use crate::store::table::TableRows;
use std::sync::Arc;
use toroid_common::catalog::{Catalog, Table};
use toroid_common::id::{Lsn, TableId};
use toroid_common::row::RowReader;
use toroid_common::types::SqlType;

impl Root {
    /// Applies the checked changes of the entry `lsn`, here or at a backup of the primary that checked them. Cannot fail: it panics when the
    /// changes do not fit this state, because going on would make replicas differ.
    pub fn apply(&mut self, changes: &[Change<'_>], lsn: Lsn, account: &mut Account) {
        assert!(lsn > self.lsn, "entry {lsn} was applied after {}", self.lsn);
        for change in changes {
            match change {
                Change::Insert { table, count, rows } => {
                    self.change(*table, account, |rows_of, cost| insert(rows_of, *count, rows, lsn, cost));
                }
                Change::Update { table, position, columns, values } => {
                    self.change(*table, account, |rows_of, cost| {
                        let types: Vec<SqlType> = columns
                            .iter()
                            .filter_map(|column| rows_of.types().get(usize::from(*column)).copied())
                            .collect();
                        let mut row = Vec::with_capacity(types.len());
                        let read = RowReader::new(values).read(&types, &mut row);
                        assert!(read.is_ok(), "an entry was applied whose values cannot be read");
                        rows_of.update(*position, columns, &row, lsn, &mut KeyBytes::new(), cost);
                    });
                }
                Change::Delete { table, position } => {
                    self.change(*table, account, |rows_of, cost| {
                        rows_of.delete(*position, &mut KeyBytes::new(), cost);
                    });
                }
                Change::Truncate { table } => {
                    if let Some(definition) = self.table(*table).map(|table| Arc::clone(table.definition())) {
                        self.replace(definition, account);
                        self.note_building(account);
                    }
                }
                Change::Catalog(catalog) => self.follow(Arc::clone(catalog), account),
                Change::Forbidden(error) => self.forbidden = Some(error.clone()),
                Change::Fence(fence) => self.answers.fence(fence),
            }
        }
        self.lsn = lsn;
    }

    pub(super) fn change(
        &mut self,
        id: TableId,
        account: &mut Account,
        change: impl FnOnce(&mut TableRows, &mut Cost),
    ) {
        let Some(table) = self.tables.get_mut(&id) else {
            panic!("an entry was applied to table {id}, which is not there")
        };
        let table = Arc::make_mut(table);
        let mut cost = Cost::default();
        change(table, &mut cost);
        table.settle(cost);
        account.settle(cost);
    }

    /// Makes the tables what a catalog says.
    pub(super) fn follow(&mut self, catalog: Arc<Catalog>, account: &mut Account) {
        self.forbidden = None;
        let before = std::mem::replace(&mut self.catalog, Arc::clone(&catalog));
        for id in before.tables.keys().filter(|id| !catalog.tables.contains_key(id)) {
            if let Some(table) = self.tables.remove(id) {
                account.finish_table(table);
            }
        }
        for (id, definition) in &catalog.tables {
            match before.tables.get(id) {
                Some(old) if old == definition => {}
                Some(old) if old.generation == definition.generation => {
                    let definition = Arc::clone(definition);
                    let mut finished = Vec::new();
                    self.change(*id, account, |table, cost| finished = table.alter(definition, cost));
                    finished.into_iter().for_each(|index| account.finish_node(index.into_tree().into_root()));
                }
                _ => self.replace(Arc::clone(definition), account),
            }
        }
        self.note_building(account);
    }

    /// Puts an empty table in the place of what was there.
    fn replace(&mut self, definition: Arc<Table>, account: &mut Account) {
        let table = TableRows::new(definition);
        let mut cost = Cost::default();
        cost.resized(0, table.bytes());
        account.settle(cost);
        if let Some(old) = self.tables.insert(table.definition().id, Arc::new(table)) {
            account.finish_table(old);
        }
    }
}

fn insert(table: &mut TableRows, count: u32, rows: &[u8], lsn: Lsn, cost: &mut Cost) {
    let types: Arc<[SqlType]> = table.shared_types();
    let mut reader = RowReader::new(rows);
    let mut row = Vec::with_capacity(types.len());
    let mut key = KeyBytes::new();
    for _ in 0..count {
        row.clear();
        let read = reader.read(&types, &mut row);
        assert!(read.is_ok(), "an entry was applied whose rows cannot be read");
        table.insert(&row, lsn, &mut key, cost);
    }
    assert!(reader.is_empty(), "an entry was applied that has bytes behind its rows");
}
