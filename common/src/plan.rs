//! Point plans: statements that a worker runs by itself, over the rows of one partition.

use crate::datum::DatumRef;
use crate::expr::Expr;
use crate::hash::partition_of;
use crate::id::{CatalogVersion, IndexId, PartitionId, TableId};
use crate::types::SqlType;
use serde::{Deserialize, Serialize};

/// A statement on one table that workers execute with their own evaluator, no DataFusion involved.
///
/// Expressions read the table's row: [`crate::expr::Slot`] positions are positions in `Table::columns`. In INSERT … RETURNING and UPDATE … RETURNING
/// they read the new row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointPlan {
    pub table: TableId,
    /// `Table::version` that this plan was made for; a worker that has another one refuses as stale.
    pub table_version: CatalogVersion,
    /// The types of the parameters, as requests encode them.
    pub params: Vec<SqlType>,
    pub verb: Verb,
    /// Whether requests carry an [`crate::env::Env`] (the plan calls a stable or volatile function).
    pub needs_env: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verb {
    Select {
        access: Access,
        filter: Option<Expr>,
        output: Vec<Expr>,
        /// FOR UPDATE and its kin: the rows that are returned stay locked until the transaction ends.
        lock: Option<RowLock>,
    },
    /// Rows come with the request, complete, in table order, cast and checked for type by the proxy; before them, where the plan has parameters, a row
    /// of these.
    Insert {
        conflict: Option<Conflict>,
        /// Where there is `conflict`, too, what is sent back begins with a bit for each row of the request: set if it was inserted or updated another.
        returning: Vec<Expr>,
    },
    Update {
        access: Access,
        filter: Option<Expr>,
        set: Vec<(u16, Expr)>,
        returning: Vec<Expr>,
    },
    Delete {
        access: Access,
        filter: Option<Expr>,
        returning: Vec<Expr>,
    },
    /// Beside all tables: `table` and its version mean nothing.
    Act(Act),
}

/// What a session does beside tables, in the partition of a key ([`AdvisoryKey::partition`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Takes an advisory lock. Its parameters, [`Act::OF_KEY`]: the session's process, whether the key is a pair, the key. Done with the count 1, or 0
    /// where it was not to `wait`. One of a transaction is a request within it, one of a session is not.
    Lock { shared: bool, scope: LockScope, wait: bool },
    /// Gives such a lock of the session back, once. The same parameters; the count is 0 where the session does not hold it.
    Unlock { shared: bool },
    /// Gives back all advisory locks of the session here. Its parameter is the session's process.
    UnlockAll,
    /// Sends a notification with its transaction. Its parameters: the session's process, channel and payload, both text.
    Notify,
    /// From now on the connection is told of a channel's notifications, from the one after a number on; of those that come if it is negative. Its
    /// parameters: 0, the channel, and that number as int8. Done with twice the number of the last one there was, and one more where some after the
    /// number that was given are not known any more.
    Listen,
    /// The connection need not be told of a channel any more. Its parameters: 0 and the channel.
    Unlisten,
}

/// Until when an advisory lock is held, unless it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockScope {
    Session,
    Transaction,
}

impl Act {
    /// The parameters of those that concern a key.
    pub const OF_KEY: [SqlType; 3] = [SqlType::Int4, SqlType::Bool, SqlType::Int8];

    /// Whether it is remembered with its answer, even if the transaction that the session is in is rolled back.
    pub fn writes(self) -> bool {
        match self {
            Act::Lock { scope, .. } => scope == LockScope::Session,
            Act::Unlock { .. } | Act::UnlockAll | Act::Notify => true,
            Act::Listen | Act::Unlisten => false,
        }
    }

    /// The types of its parameters.
    pub fn params(self) -> &'static [SqlType] {
        match self {
            Act::Lock { .. } | Act::Unlock { .. } => &Act::OF_KEY,
            Act::UnlockAll => &[SqlType::Int4],
            Act::Notify => &[SqlType::Int4, SqlType::Text, SqlType::Text],
            Act::Listen => &[SqlType::Int4, SqlType::Text, SqlType::Int8],
            Act::Unlisten => &[SqlType::Int4, SqlType::Text],
        }
    }
}

/// The partition that numbers a channel's notifications.
pub fn partition_of_channel(channel: &str, partitions: u16) -> PartitionId {
    partition_of([DatumRef::Text(channel)].into_iter(), partitions)
}

/// The key of an advisory lock: one int8, or two int4 in a space of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AdvisoryKey {
    pub pair: bool,
    /// The pair's first half stands above.
    pub key: i64,
}

impl AdvisoryKey {
    pub fn of_pair(first: i32, second: i32) -> AdvisoryKey {
        AdvisoryKey { pair: true, key: i64::from(first) << 32 | i64::from(second as u32) }
    }

    /// Whose primary knows who holds it.
    pub fn partition(self, partitions: u16) -> PartitionId {
        partition_of([DatumRef::Bool(self.pair), DatumRef::Int8(self.key)].into_iter(), partitions)
    }
}

/// ON CONFLICT: what becomes of a row whose key another one has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// The unique indexes that are meant; a key that is in another one already is an error.
    pub arbiters: Vec<IndexId>,
    /// None is DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// DO UPDATE of the row that has the key. Expressions read that row and, behind its columns, those of the row that could not be inserted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConflictUpdate {
    pub filter: Option<Expr>,
    pub set: Vec<(u16, Expr)>,
}

/// A row lock that a SELECT takes ("Explicit Locking", "Row-Level Locks" in PostgreSQL's manual).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowLock {
    pub strength: Strength,
    pub wait: LockWait,
}

/// Row locks from weakest to strongest. An UPDATE that leaves unique keys alone takes [`Strength::NoKeyUpdate`], any other and DELETE [`Strength::Update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Strength {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

impl Strength {
    /// As a query says it and PostgreSQL's errors repeat it.
    pub fn clause(self) -> &'static str {
        match self {
            Strength::KeyShare => "FOR KEY SHARE",
            Strength::Share => "FOR SHARE",
            Strength::NoKeyUpdate => "FOR NO KEY UPDATE",
            Strength::Update => "FOR UPDATE",
        }
    }

    /// Whether two transactions cannot hold these on one row at once: PostgreSQL's table of conflicting row-level locks.
    pub fn conflicts(self, other: Strength) -> bool {
        match (self.min(other), self.max(other)) {
            (_, Strength::Update) => true,
            (Strength::KeyShare, _) => false,
            (Strength::Share, Strength::Share) => false,
            (Strength::Share | Strength::NoKeyUpdate | Strength::Update, _) => true,
        }
    }
}

/// Locks of whole tables, from the weakest to the strongest. Statements take some by themselves: SELECT the first, with a locking clause the second, and
/// what writes the third.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TableLock {
    AccessShare,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

impl TableLock {
    pub const ALL: [TableLock; 8] = [
        TableLock::AccessShare,
        TableLock::RowShare,
        TableLock::RowExclusive,
        TableLock::ShareUpdateExclusive,
        TableLock::Share,
        TableLock::ShareRowExclusive,
        TableLock::Exclusive,
        TableLock::AccessExclusive,
    ];

    /// Whether two transactions cannot hold these on one table at once: PostgreSQL's table of conflicting lock modes.
    pub fn conflicts(self, other: TableLock) -> bool {
        let (weak, strong) = (self.min(other), self.max(other));
        match strong {
            TableLock::AccessShare | TableLock::RowShare | TableLock::RowExclusive => false,
            TableLock::ShareUpdateExclusive => weak == TableLock::ShareUpdateExclusive,
            TableLock::Share => matches!(weak, TableLock::RowExclusive | TableLock::ShareUpdateExclusive),
            TableLock::ShareRowExclusive => weak >= TableLock::RowExclusive,
            TableLock::Exclusive => weak >= TableLock::RowShare,
            TableLock::AccessExclusive => true,
        }
    }
}

/// What to do about a row that somebody else has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockWait {
    Wait,
    /// NOWAIT: 55P03.
    Fail,
    /// SKIP LOCKED: as if the row were not there.
    Skip,
}

/// How a worker finds the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Access {
    /// Equality on a leading part of an index's columns (all of them where `exact`); expressions over parameters and constants only. A NULL key finds no row.
    Index { index: IndexId, key: Vec<Expr>, exact: bool },
    /// All rows of the partition. The worker finds candidates on a root outside its thread and evaluates again on current rows. Where reads are locked
    /// ([`crate::wire::Within::locks_reads`]) the whole table is, in this partition; a SELECT whose filter is the constant FALSE does just that, for
    /// fragments that read after it.
    Scan,
    /// Of a locking SELECT: the rows whose complete keys in this unique index come with the request, in the order of these; before them, where the plan has
    /// parameters, a row of these. What is sent back begins with a [`KeyFate`] for each key.
    Keys { index: IndexId },
    /// Of a locking SELECT: no rows. The table itself is locked, in this partition.
    Table { mode: TableLock },
}

/// What became of a key of [`Access::Keys`], in a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFate {
    /// Its row is locked, and among those that are sent back.
    Locked,
    /// Its row does not meet the condition.
    Unwanted,
    /// No row has it.
    Gone,
    /// Somebody else has locked its row, which is passed over.
    Skipped,
}

impl KeyFate {
    pub fn to_byte(self) -> u8 {
        match self {
            KeyFate::Locked => 0,
            KeyFate::Unwanted => 1,
            KeyFate::Gone => 2,
            KeyFate::Skipped => 3,
        }
    }

    pub fn from_byte(byte: u8) -> Option<KeyFate> {
        [KeyFate::Locked, KeyFate::Unwanted, KeyFate::Gone, KeyFate::Skipped]
            .into_iter()
            .find(|fate| fate.to_byte() == byte)
    }
}

impl Verb {
    pub fn writes(&self) -> bool {
        match self {
            Verb::Select { .. } => false,
            Verb::Insert { .. } | Verb::Update { .. } | Verb::Delete { .. } => true,
            Verb::Act(act) => act.writes(),
        }
    }

    /// The rows that are sent back.
    pub fn output(&self) -> &[Expr] {
        match self {
            Verb::Select { output, .. } => output,
            Verb::Insert { returning, .. } | Verb::Update { returning, .. } | Verb::Delete { returning, .. } => {
                returning
            }
            Verb::Act(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_locks_conflict_as_in_postgresql() {
        // "Conflicting Lock Modes" in PostgreSQL's manual, a line for each mode.
        let manual = ["       x", "      xx", "    xxxx", "   xxxxx", "  xx xxx", "  xxxxxx", " xxxxxxx", "xxxxxxxx"];
        for (a, line) in TableLock::ALL.into_iter().zip(manual) {
            for (b, mark) in TableLock::ALL.into_iter().zip(line.chars()) {
                assert_eq!(a.conflicts(b), mark == 'x', "{a:?} and {b:?}");
            }
        }
    }
}
