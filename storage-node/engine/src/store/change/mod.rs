//! Changes: what a log entry does to a partition's rows, by position and deterministic, with its encoding.

mod codec;
mod list;

pub use list::ChangeList;
pub(in crate::store) use list::changes_in;

use crate::store::fence::Fence;
use crate::store::table::Position;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlError;
use toroid_common::id::{Incarnation, IndexId, PartitionId, TableId, TransactionId};
use toroid_common::plan::{AdvisoryKey, Strength};
use toroid_common::transaction::Fate;

/// Positions in `Table::columns`.
pub type ColumnList = SmallVec<[u16; 8]>;
/// The other participants of a transaction.
pub type Participants = SmallVec<[PartitionId; 4]>;

/// What a transaction has locked without changing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep<'a> {
    Row {
        table: TableId,
        position: Position,
        strength: Strength,
    },
    /// All that has a key which begins so.
    Range {
        index: IndexId,
        prefix: &'a [u8],
    },
    Table {
        table: TableId,
    },
    /// An advisory lock of a transaction of this session.
    Advisory {
        key: AdvisoryKey,
        shared: bool,
        session: TransactionId,
    },
}

/// One step of an entry. Rows and values are in [`toroid_common::row`]'s encoding and borrow from the request or the entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<'a> {
    /// `count` complete rows in table order, one after the other. Each takes the table's lowest dead position, or a new one at the end.
    Insert {
        table: TableId,
        count: u32,
        rows: &'a [u8],
    },
    /// New values of some columns of the row at a position, as one row of just these columns.
    Update {
        table: TableId,
        position: Position,
        columns: ColumnList,
        values: &'a [u8],
    },
    Delete {
        table: TableId,
        position: Position,
    },
    /// [`Change::Update`] of a row that the same write set inserted: the `own`-th (from 0) of all rows that it inserted into the table, also of those
    /// that it deleted again. Where it stands is known only when the write set is applied.
    UpdateOwn {
        table: TableId,
        own: u32,
        columns: ColumnList,
        values: &'a [u8],
    },
    /// [`Change::Delete`] of a row that the same write set inserted.
    DeleteOwn {
        table: TableId,
        own: u32,
    },
    /// Changes nothing: in a write set that is prepared, this stays as it is until the outcome is known. A new primary takes the lock again.
    Keep(Keep<'a>),
    /// Empties the table in this partition.
    Truncate {
        table: TableId,
    },
    /// The catalog from here on: makes, drops and rebuilds tables, columns and indexes by the difference to the one before.
    Catalog(Arc<Catalog>),
    /// The catalog that this entry brings cannot stay, for this reason: whoever is primary says so until another one comes.
    Forbidden(SqlError),
    /// These proxies are dead: their answers go, and their requests are refused.
    Fence(Fence),
    /// This proxy has its answers to all requests below this sequence but these: they go, and these requests are refused.
    Answered {
        proxy: Incarnation,
        below: u64,
        but: Vec<u64>,
    },
    /// A part of a large write set, remembered and not applied: it comes behind the first `keep` bytes of what came before, the rest of which was
    /// rolled back.
    Chunk {
        transaction: TransactionId,
        keep: u64,
        changes: &'a [u8],
    },
    /// A write set that can be applied whatever happens, remembered until the outcome is known: behind the first `keep` bytes of its chunks.
    Prepare {
        transaction: TransactionId,
        /// Knows the outcome.
        anchor: PartitionId,
        /// Bytes that applying it may take, kept free until then.
        reserve: u64,
        keep: u64,
        changes: &'a [u8],
    },
    /// Applies the write set that was prepared, or that is in chunks.
    Commit {
        transaction: TransactionId,
    },
    /// Forgets the write set that was prepared, or that is in chunks.
    Abort {
        transaction: TransactionId,
    },
    /// At the anchor: whether the transaction happened, remembered until these participants have confirmed. Those of an outcome that is known already
    /// are added.
    Outcome {
        transaction: TransactionId,
        fate: Fate,
        participants: Participants,
    },
    /// At the anchor: the participant has applied the outcome.
    Confirmed {
        transaction: TransactionId,
        participant: PartitionId,
    },
    /// At the anchor: all participants have.
    Forget {
        transaction: TransactionId,
    },
    /// A session ([`TransactionId::of_session`]) takes an advisory lock once more, or gives it back once.
    Advise {
        session: TransactionId,
        key: AdvisoryKey,
        shared: bool,
        takes: bool,
    },
    /// A session gives all its advisory locks back.
    Dismiss {
        session: TransactionId,
    },
    /// Sends a notification; in a write set, when that is applied.
    Notify {
        channel: &'a str,
        payload: &'a str,
        process: u32,
    },
}

impl Change<'_> {
    /// The table whose rows it changes, for what may stand in a write set.
    pub fn table_of_rows(&self) -> Option<TableId> {
        match self {
            Change::Insert { table, .. }
            | Change::Update { table, .. }
            | Change::Delete { table, .. }
            | Change::UpdateOwn { table, .. }
            | Change::DeleteOwn { table, .. } => Some(*table),
            Change::Keep(_)
            | Change::Truncate { .. }
            | Change::Catalog(_)
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
            | Change::Dismiss { .. }
            | Change::Notify { .. } => None,
        }
    }

    /// About how many bytes its encoding takes, for what may stand in a write set.
    pub fn encoded_bytes(&self) -> usize {
        match self {
            Change::Insert { rows, .. } => 13 + rows.len(),
            Change::Update { columns, values, .. } | Change::UpdateOwn { columns, values, .. } => {
                15 + 2 * columns.len() + values.len()
            }
            Change::Keep(Keep::Range { prefix, .. }) => 10 + prefix.len(),
            Change::Keep(Keep::Row { .. } | Keep::Table { .. }) => 11,
            Change::Keep(Keep::Advisory { .. }) => 26,
            Change::Notify { channel, payload, .. } => 13 + channel.len() + payload.len(),
            Change::Delete { .. }
            | Change::DeleteOwn { .. }
            | Change::Truncate { .. }
            | Change::Catalog(_)
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
            | Change::Dismiss { .. } => 9,
        }
    }

    /// Whether it names a row by its number.
    pub fn names_own(&self) -> bool {
        matches!(self, Change::UpdateOwn { .. } | Change::DeleteOwn { .. })
    }
}
