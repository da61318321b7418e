//! A table's index in one partition: which columns make its keys, and the tree from keys to positions.
//!
//! A unique index has a row's key as it is. Other indexes, and unique ones for rows with a NULL in the key (NULLs are distinct), have the row's
//! position behind it, so that every entry of a tree is distinct.
//!
//! An index that is being built has the rows before some position, and follows their changes; the others are entered step by step. Its content depends
//! on the rows and that position alone, never on the order of what happened: replicas that build at different paces end up with the same.

use crate::store::cost::Cost;
use crate::store::position::Position;
use crate::store::tree::Tree;
use smallvec::SmallVec;
use toroid_common::catalog::{self, IndexColumn, IndexState};
use toroid_common::datum::DatumRef;
use toroid_common::id::IndexId;
use toroid_common::key::write_key;
use toroid_common::limits::MAX_KEY_BYTES;

/// The bytes of a key.
pub type KeyBytes = Vec<u8>;

/// Most keys are no longer than this, and so are not moved while they are written.
const USUAL_BYTES: usize = 24;

/// An index over the rows of one partition.
#[derive(Clone, Debug)]
pub struct Index {
    id: IndexId,
    columns: SmallVec<[IndexColumn; 4]>,
    unique: bool,
    state: IndexState,
    tree: Tree,
    /// Rows from here on are not in it yet; none when it is complete.
    next: Option<Position>,
    /// Entries of a unique index whose key another entry has: they have their position behind the key.
    equal: usize,
    /// Rows whose key is too long to be entered.
    long: usize,
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
    /// The index of a table without rows.
    pub fn new(definition: &catalog::Index) -> Index {
        Index {
            id: definition.id,
            columns: SmallVec::from_slice(&definition.columns),
            unique: definition.unique,
            state: definition.state,
            tree: Tree::default(),
            next: None,
            equal: 0,
            long: 0,
        }
    }

    /// An index over rows that are there, of which it has none yet.
    pub(in crate::store) fn begin(definition: &catalog::Index) -> Index {
        Index { next: Some(Position(0)), ..Index::new(definition) }
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

    /// Entries: as many as the table has rows, once it is complete.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The key for equality on the leading columns, one value for each; `None` when one is NULL, which equals nothing.
    pub fn key<'a>(&self, values: impl IntoIterator<Item = DatumRef<'a>>) -> Option<KeyBytes> {
        let mut key = KeyBytes::with_capacity(USUAL_BYTES);
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
        key.reserve(USUAL_BYTES);
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

    /// Whether rows must differ in this index: not before it is complete, nor when it was built over rows that don't.
    pub fn enforces(&self) -> bool {
        self.unique && self.next.is_none() && self.equal == 0
    }

    /// Whether it has all rows.
    pub fn is_complete(&self) -> bool {
        self.next.is_none()
    }

    /// Rows from here on are not in it yet.
    pub(in crate::store) fn next(&self) -> Option<Position> {
        self.next
    }

    /// Has been filled up to here; none when there are no more rows.
    pub(in crate::store) fn filled_to(&mut self, next: Option<Position>) {
        self.next = next;
    }

    /// Whether a row at this position is to be in it already.
    pub(in crate::store) fn covers(&self, position: Position) -> bool {
        self.next.is_none_or(|next| position < next)
    }

    /// Whether rows in it forbid its use: equal ones in a unique index, or keys that are too long.
    pub fn is_faulty(&self) -> bool {
        self.equal > 0 || self.long > 0
    }

    /// Enters a row with what [`Index::write_entry`] made of it.
    pub(in crate::store) fn enter(&mut self, kind: KeyKind, key: &[u8], position: Position, cost: &mut Cost) {
        if key.len() > MAX_KEY_BYTES {
            self.long += 1;
            return;
        }
        // What was prepared before it was complete was not judged by it.
        let tolerates = !self.enforces() || self.state == IndexState::Building;
        if kind == KeyKind::Unique && tolerates && self.tree.get(key).is_some() {
            self.equal += 1;
            let other = self.tree.insert(&behind(key, position.0), position.0, cost);
            assert!(other.is_none(), "a row was entered twice");
            return;
        }
        let other = self.tree.insert(key, position.0, cost);
        assert!(other.is_none(), "an entry was applied that puts two rows under one key");
    }

    /// Enters a row of a checkpoint; false when another row has its key, which only a faulty index allows.
    #[must_use]
    pub(in crate::store) fn enter_again(
        &mut self,
        kind: KeyKind,
        key: &[u8],
        position: Position,
        faulty: bool,
        cost: &mut Cost,
    ) -> bool {
        if kind == KeyKind::Many || self.tree.get(key).is_none() {
            self.enter(kind, key, position, cost);
            return true;
        }
        self.equal += 1;
        faulty && self.tree.insert(&behind(key, position.0), position.0, cost).is_none()
    }

    /// Takes a row out that was entered with this.
    pub(in crate::store) fn leave(&mut self, kind: KeyKind, key: &[u8], position: Position, cost: &mut Cost) {
        if key.len() > MAX_KEY_BYTES {
            self.long -= 1;
            return;
        }
        if kind == KeyKind::Many || self.equal == 0 {
            self.tree.remove(key, cost);
            return;
        }
        if self.tree.get(key) != Some(position.0) {
            self.equal -= 1;
            self.tree.remove(&behind(key, position.0), cost);
            return;
        }
        self.tree.remove(key, cost);
        // One of those with the same key takes its place.
        let heir = self.tree.prefix(key).next();
        if let Some(heir) = heir {
            self.equal -= 1;
            self.tree.remove(&behind(key, heir), cost);
            self.tree.insert(key, heir, cost);
        }
    }

    /// Bytes of the tree; walks it.
    pub fn bytes(&self) -> usize {
        self.tree.bytes()
    }

    pub(in crate::store) fn into_tree(self) -> Tree {
        self.tree
    }
}

/// The entry of a row whose key another row has: no complete key begins with another one, so it cannot be a third row's.
fn behind(key: &[u8], row: u32) -> KeyBytes {
    [key, &row.to_be_bytes()].concat()
}
