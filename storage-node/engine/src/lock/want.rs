//! What a statement needs of a partition's locks before it may go on, one thing at a time.

use crate::store::position::Position;
use std::sync::Arc;
use toroid_common::id::{IndexId, TableId, TransactionId};
use toroid_common::plan::{AdvisoryKey, Strength, TableLock};

/// A key or the beginning of one, kept.
pub type Key = Arc<[u8]>;

/// One need. Keys are index entries ([`crate::store::index::Index::write_entry`]), prefixes are whole leading columns of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<K> {
    /// A row, at this strength.
    Row { table: TableId, position: Position, strength: Strength },
    /// A key comes into a unique index: nobody else may bring it or take it away.
    Bring { index: IndexId, key: K },
    /// A row changes that has this key in this index, before or after: nobody else may have read the range.
    Touch { index: IndexId, key: K },
    /// Rows of the table change: nobody else may have read all of it.
    Write { table: TableId },
    /// The table itself, in this mode. [`Want::Write`] stands for [`TableLock::RowExclusive`], too.
    Table { table: TableId, mode: TableLock },
    /// What has such a key is read: nobody else may have touched it, and nobody will.
    Range { index: IndexId, prefix: K },
    /// The whole table is read, and stays so.
    Read { table: TableId },
    /// Nobody else who is prepared, and so may have committed already, touched such a key. Nothing is held afterwards.
    SettledRange { index: IndexId, prefix: K },
    /// The same of the whole table.
    SettledTable { table: TableId },
    /// An advisory lock, for a transaction of this session or for the session itself ([`TransactionId::of_session`]), which never stands in its own way.
    Advisory { key: AdvisoryKey, shared: bool, session: TransactionId },
}

impl<K: AsRef<[u8]>> Want<K> {
    pub fn borrow(&self) -> Want<&[u8]> {
        self.with(AsRef::as_ref)
    }

    pub fn keep(&self) -> Want<Key> {
        self.with(|key| Key::from(key.as_ref()))
    }

    fn with<'a, L>(&'a self, key_of: impl FnOnce(&'a K) -> L) -> Want<L> {
        match self {
            Want::Row { table, position, strength } => {
                Want::Row { table: *table, position: *position, strength: *strength }
            }
            Want::Bring { index, key } => Want::Bring { index: *index, key: key_of(key) },
            Want::Touch { index, key } => Want::Touch { index: *index, key: key_of(key) },
            Want::Write { table } => Want::Write { table: *table },
            Want::Table { table, mode } => Want::Table { table: *table, mode: *mode },
            Want::Range { index, prefix } => Want::Range { index: *index, prefix: key_of(prefix) },
            Want::Read { table } => Want::Read { table: *table },
            Want::SettledRange { index, prefix } => Want::SettledRange { index: *index, prefix: key_of(prefix) },
            Want::SettledTable { table } => Want::SettledTable { table: *table },
            Want::Advisory { key, shared, session } => Want::Advisory { key: *key, shared: *shared, session: *session },
        }
    }

    /// The key that it names.
    pub(super) fn key(&self) -> Option<&K> {
        match self {
            Want::Bring { key, .. } | Want::Touch { key, .. } => Some(key),
            Want::Range { prefix, .. } | Want::SettledRange { prefix, .. } => Some(prefix),
            Want::Row { .. }
            | Want::Write { .. }
            | Want::Table { .. }
            | Want::Read { .. }
            | Want::SettledTable { .. }
            | Want::Advisory { .. } => None,
        }
    }

    /// Whether only prepared transactions stand in its way.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Want::SettledRange { .. } | Want::SettledTable { .. })
    }
}
