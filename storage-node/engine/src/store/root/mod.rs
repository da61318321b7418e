//! Roots: the immutable value that is a partition's state after some LSN, and how changes make the next one.

mod answers;
mod transactions;
mod own;
mod detail;
mod keys;
mod check;
mod follow;
mod apply;
mod write_set;
mod restore;

pub use answers::{Answers, Passed};
pub use keys::NewKeys;
pub use own::OwnRows;
pub use transactions::{Known, Prepared, Transactions};

use crate::store::account::Account;
use crate::store::advisory::Advisory;
use crate::store::notices::Notices;
use crate::store::table::TableRows;
use smallvec::SmallVec;
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
    /// Shared as a whole, since most roots that are taken and given back are those of a partition that nobody wrote to meanwhile.
    tables: Arc<imbl::OrdMap<TableId, Arc<TableRows>>>,
    /// Tables with indexes that do not have all rows yet.
    building: Vec<TableId>,
    /// Requests that this partition has executed, with what it answered.
    pub answers: Answers,
    /// Transactions that are prepared, partly replicated, or decided and not confirmed.
    transactions: Arc<Transactions>,
    /// Advisory locks of sessions.
    advisory: Arc<Advisory>,
    /// The last notifications.
    notices: Arc<Notices>,
}

impl Root {
    /// A partition that has seen no entry, with all tables of `catalog` empty.
    pub fn new(catalog: Arc<Catalog>, account: &mut Account) -> Root {
        let mut root = Root {
            lsn: Lsn(0),
            catalog: Arc::default(),
            forbidden: None,
            tables: Arc::default(),
            building: Vec::new(),
            answers: Answers::default(),
            transactions: Arc::default(),
            advisory: Arc::default(),
            notices: Arc::default(),
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

    pub(in crate::store) fn shared_table(&self, id: TableId) -> Option<Arc<TableRows>> {
        self.tables.get(&id).map(Arc::clone)
    }

    /// Whether the table is this very value.
    pub(in crate::store) fn has_table(&self, id: TableId, table: &Arc<TableRows>) -> bool {
        self.tables.get(&id).is_some_and(|here| Arc::ptr_eq(here, table))
    }

    /// Shares a table with another root, in the place of its own.
    pub fn take_table(&mut self, id: TableId, other: &Root, account: &mut Account) {
        if let Some(table) = other.shared_table(id)
            && let Some(old) = Arc::make_mut(&mut self.tables).insert(id, table)
        {
            account.finish_table(old);
        }
    }

    pub fn tables(&self) -> impl Iterator<Item = &TableRows> {
        self.tables.values().map(|table| &**table)
    }

    /// Transactions that are prepared, partly replicated, or decided and not confirmed.
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Advisory locks of sessions.
    pub fn advisory(&self) -> &Advisory {
        &self.advisory
    }

    /// The last notifications.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Bytes of all tables with their indexes, of the write sets that are not applied, and of what sessions hold.
    pub fn bytes(&self) -> usize {
        let tables = self.tables().map(TableRows::bytes).sum::<usize>();
        tables + self.transactions.memory() + self.advisory.memory() + self.notices.memory()
    }

    /// Gives a finished root back: what only it still holds is dropped by [`Account::drop_some`].
    pub fn finish(self, account: &mut Account) {
        if let Some(shares) = Arc::into_inner(self.tables) {
            let tables: SmallVec<[Arc<TableRows>; 8]> = shares.values().cloned().collect();
            // These go first: whose clone is then the last one is no longer needed by anybody.
            drop(shares);
            tables.into_iter().for_each(|table| account.finish_table(table));
        }
        if let Some(transactions) = Arc::into_inner(self.transactions) {
            transactions.finish(account);
        }
        if let Some(advisory) = Arc::into_inner(self.advisory) {
            advisory.finish(account);
        }
        if let Some(notices) = Arc::into_inner(self.notices) {
            notices.finish(account);
        }
    }
}
