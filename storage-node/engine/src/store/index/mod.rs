//! A table's index in one partition: which columns make its keys, and the tree from keys to positions.
//!
//! A unique index has a row's key as it is. Other indexes, and unique ones for rows with a NULL in the key (NULLs are distinct), have the row's
//! position behind it, so that every entry of a tree is distinct.

use crate::store::cost::Cost;
use crate::store::position::Position;
use crate::store::tree::Tree;
use smallvec::SmallVec;
use toroid_common::catalog::{self, IndexColumn, IndexState};
use toroid_common::datum::DatumRef;
use toroid_common::id::IndexId;
use toroid_common::key::write_key;

/// The bytes of a key.
pub type KeyBytes = Vec<u8>;

/// An index over the rows of one partition.
#[derive(Clone, Debug)]
pub struct Index {
    id: IndexId,
    columns: SmallVec<[IndexColumn; 4]>,
    unique: bool,
    state: IndexState,
    tree: Tree,
    /// Two rows with equal keys that were there when a unique index was built.
    duplicates: Option<(Position, Position)>,
}

/// What makes up the key of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// No other row may have it.
    Unique,
    /// Ends in the row's position.
    Many,
}

impl Index {
    /// An index without entries.
    pub fn new(definition: &catalog::Index) -> Index {
        Index {
            id: definition.id,
            columns: SmallVec::from_slice(&definition.columns),
            unique: definition.unique,
            state: definition.state,
            tree: Tree::default(),
            duplicates: None,
        }
    }

    /// Takes over what the catalog says now: the state, and where the columns stand.
    pub fn redefine(&mut self, definition: &catalog::Index) {
        self.columns = SmallVec::from_slice(&definition.columns);
        self.state = definition.state;
    }

    pub fn id(&self) -> IndexId {
        self.id
    }

    /// The key's columns in order, as positions in `Table::columns`.
    pub fn columns(&self) -> &[IndexColumn] {
        &self.columns
    }

    pub fn is_unique(&self) -> bool {
        self.unique
    }

    /// Entries: as many as the table has rows.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The key for equality on the leading columns, one value for each; `None` when one is NULL, which equals nothing.
    pub fn key<'a>(&self, values: impl IntoIterator<Item = DatumRef<'a>>) -> Option<KeyBytes> {
        let mut key = KeyBytes::with_capacity(24);
        for (column, value) in self.columns.iter().zip(values) {
            if value.is_null() {
                return None;
            }
            write_key(&mut key, value, column.descending, column.nulls_first);
        }
        Some(key)
    }

    /// The row with exactly this key, in a unique index.
    pub fn get(&self, key: &[u8]) -> Option<Position> {
        self.tree.get(key).map(Position)
    }

    /// Rows whose keys start with `prefix`, in key order.
    pub fn find(&self, prefix: &[u8]) -> impl Iterator<Item = Position> + use<'_> {
        self.tree.prefix(prefix).map(Position)
    }

    /// Writes the entry of the row at `position` into `key`.
    pub fn write_entry<'a>(
        &self,
        key: &mut KeyBytes,
        position: Position,
        value: impl Fn(u16) -> DatumRef<'a>,
    ) -> KeyKind {
        key.clear();
        let mut kind = if self.unique { KeyKind::Unique } else { KeyKind::Many };
        for column in &self.columns {
            let value = value(column.column);
            if value.is_null() {
                kind = KeyKind::Many;
            }
            write_key(key, value, column.descending, column.nulls_first);
        }
        if kind == KeyKind::Many {
            key.extend_from_slice(&position.0.to_be_bytes());
        }
        kind
    }

    /// Whether any of these columns (positions in `Table::columns`) is part of the key.
    pub fn touches(&self, columns: &[u16]) -> bool {
        self.columns.iter().any(|column| columns.contains(&column.column))
    }

    /// Whether rows must differ in this index: a unique index that was built over duplicates can no longer ask that.
    pub fn enforces(&self) -> bool {
        self.unique && self.duplicates.is_none()
    }

    /// Two rows that were equal when a unique index was built over them: it cannot be used.
    pub fn duplicates(&self) -> Option<(Position, Position)> {
        self.duplicates
    }

    /// Enters a row; the row that already had this entry.
    pub(in crate::store) fn insert(&mut self, key: &[u8], position: Position, cost: &mut Cost) -> Option<Position> {
        self.tree.insert(key, position.0, cost).map(Position)
    }

    pub(in crate::store) fn remove(&mut self, key: &[u8], cost: &mut Cost) -> Option<Position> {
        self.tree.remove(key, cost).map(Position)
    }

    /// Notes that two rows have one key.
    pub(in crate::store) fn set_duplicates(&mut self, one: Position, other: Position) {
        self.duplicates.get_or_insert((one, other));
    }

    /// Bytes of the tree; walks it.
    pub fn bytes(&self) -> usize {
        self.tree.bytes()
    }

    pub(in crate::store) fn into_tree(self) -> Tree {
        self.tree
    }
}
