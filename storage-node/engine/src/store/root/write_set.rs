//! Whether a write set can still be applied, and what applying it may take.

use super::Root;
use super::check::{expect_live, inserted_bytes, updated_bytes};
use crate::store::account::Account;
use crate::store::change::{Change, ChangeList};
use crate::store::notices::Notices;
use crate::store::table::TableRows;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{TableId, TransactionId};

impl Root {
    /// Most bytes that applying these changes of a write set takes. An error when a row is not there that should be locked, or bytes cannot be read:
    /// nothing that a client did.
    pub(in crate::store) fn cost_of<'a>(
        &self,
        changes: impl Iterator<Item = SqlResult<Change<'a>>>,
    ) -> SqlResult<usize> {
        let mut bytes = 0;
        for change in changes {
            bytes += match change? {
                Change::Insert { table, count, rows } => inserted_bytes(self.written(table)?, count, rows),
                Change::Update { table, position, columns, values } => {
                    let table = self.written(table)?;
                    expect_live(table, position)?;
                    values_bytes(table, &columns, values)? + table.shared_bytes(position, &columns)
                }
                Change::UpdateOwn { table, columns, values, .. } => {
                    values_bytes(self.written(table)?, &columns, values)?
                }
                Change::Delete { table, position } => {
                    expect_live(self.written(table)?, position)?;
                    0
                }
                Change::Notify { channel, payload, .. } => Notices::bytes_of(channel, payload),
                Change::DeleteOwn { .. } | Change::Keep(_) | Change::Truncate { .. } => 0,
                Change::Catalog(_)
                | Change::Forbidden(_)
                | Change::Fence(_)
                | Change::Answered { .. }
                | Change::Chunk { .. }
                | Change::Prepare { .. }
                | Change::Commit { .. }
                | Change::Abort { .. }
                | Change::Outcome { .. }
                | Change::Confirmed { .. }
                | Change::Forget { .. }
                | Change::Advise { .. }
                | Change::Dismiss { .. } => {
                    return Err(SqlError::internal("a write set changes more than rows"));
                }
            };
        }
        Ok(bytes)
    }

    fn written(&self, table: TableId) -> SqlResult<&TableRows> {
        self.table(table).ok_or_else(|| SqlError::internal(format!("table {table} is not in this partition")))
    }

    /// This state, with the write sets laid over it that these transactions have prepared here: as if they were committed. The clone is finished by
    /// whoever asked for it.
    pub fn with_committed(&self, transactions: &[TransactionId], account: &mut Account) -> Root {
        let mut root = self.clone();
        for transaction in transactions {
            let list: Option<ChangeList> = self.transactions.prepared(*transaction).map(|p| p.changes().clone());
            if let Some(list) = list {
                root.apply_list(&list, self.lsn.next(), account);
            }
        }
        root
    }
}

fn values_bytes(table: &TableRows, columns: &[u16], values: &[u8]) -> SqlResult<usize> {
    // Values that are not longer than this stand in their column.
    if values.len() <= 12 {
        return Ok(0);
    }
    Ok(updated_bytes(&table.read_values(columns.iter().copied(), values)?))
}
