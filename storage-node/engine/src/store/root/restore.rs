//! Filling a root from a checkpoint.

use super::{Root, Transactions};
use crate::store::account::Account;
use crate::store::advisory::Advisory;
use crate::store::cost::Cost;
use crate::store::notices::Notices;
use crate::store::table::TableRows;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{Lsn, TableId};

impl Root {
    /// The entry after which a root was written, and what was wrong with its catalog.
    pub(in crate::store) fn restore_head(&mut self, lsn: Lsn, forbidden: Option<SqlError>) {
        (self.lsn, self.forbidden) = (lsn, forbidden);
    }

    pub(in crate::store) fn restore_transactions(&mut self) -> &mut Transactions {
        Arc::make_mut(&mut self.transactions)
    }

    pub(in crate::store) fn restore_advisory(&mut self) -> &mut Advisory {
        Arc::make_mut(&mut self.advisory)
    }

    pub(in crate::store) fn restore_notices(&mut self) -> &mut Notices {
        Arc::make_mut(&mut self.notices)
    }

    /// All tables are as they were: what was being built goes on.
    pub(in crate::store) fn restored(&mut self, account: &mut Account) {
        self.note_building(account);
    }

    /// Changes a table outside of any entry.
    pub(in crate::store) fn restore(
        &mut self,
        id: TableId,
        account: &mut Account,
        change: impl FnOnce(&mut TableRows, &mut Cost) -> SqlResult<()>,
    ) -> SqlResult<()> {
        let table = Arc::make_mut(&mut self.tables).get_mut(&id);
        let table = table.ok_or_else(|| SqlError::internal(format!("table {id} is not there")))?;
        let table = Arc::make_mut(table);
        let mut cost = Cost::default();
        let result = change(table, &mut cost);
        // What an error left half done is accounted for, too: it will be given back.
        table.settle(cost);
        account.settle(cost);
        result
    }
}
