//! Roots: the immutable value that is a partition's state after some LSN, and how changes make the next one.

mod answers;
mod detail;
mod keys;
mod check;
mod follow;
mod apply;
mod restore;

pub use answers::Answers;

use crate::store::account::Account;
use crate::store::table::TableRows;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlError;
use toroid_common::id::{Lsn, TableId};

/// A partition's state after some LSN. Cloning it is the only snapshot there is: a clone never changes.
#[derive(Clone, Debug)]
pub struct Root {
    lsn: Lsn,
    catalog: Arc<Catalog>,
    /// Why the catalog cannot stay.
    forbidden: Option<SqlError>,
    tables: imbl::OrdMap<TableId, Arc<TableRows>>,
    /// Tables with indexes that do not have all rows yet.
    building: Vec<TableId>,
    /// Requests that this partition has executed, with what it answered.
    pub answers: Answers,
}

impl Root {
    /// A partition that has seen no entry, with all tables of `catalog` empty.
    pub fn new(catalog: Arc<Catalog>, account: &mut Account) -> Root {
        let mut root = Root {
            lsn: Lsn(0),
            catalog: Arc::default(),
            forbidden: None,
            tables: imbl::OrdMap::new(),
            building: Vec::new(),
            answers: Answers::default(),
        };
        root.follow(catalog, account);
        root
    }

    /// The last entry that was applied.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Why the catalog cannot stay, as the primary found that followed it first.
    pub fn forbidden(&self) -> Option<&SqlError> {
        self.forbidden.as_ref()
    }

    pub fn table(&self, id: TableId) -> Option<&TableRows> {
        self.tables.get(&id).map(|table| &**table)
    }

    pub fn tables(&self) -> impl Iterator<Item = &TableRows> {
        self.tables.values().map(|table| &**table)
    }

    /// Bytes of all tables with their indexes.
    pub fn bytes(&self) -> usize {
        self.tables().map(TableRows::bytes).sum()
    }

    /// Gives a finished root back: what only it still holds is dropped by [`Account::drop_some`].
    pub fn finish(self, account: &mut Account) {
        for table in self.tables.values() {
            account.finish_table(Arc::clone(table));
        }
    }
}
