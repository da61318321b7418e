//! Following the catalog: columns come and go, indexes are built over the rows that are there.

use super::{Chunk, TableRows, schema_of, types_of};
use crate::store::cost::Cost;
use crate::store::index::{Index, KeyBytes, KeyKind};
use crate::store::position::Position;
use std::sync::Arc;
use toroid_common::catalog::{self, IndexState, Table};
use toroid_common::datum::Datum;
use toroid_common::limits::MAX_KEY_BYTES;

/// Rows over which an index is built at once: a step of building, about.
const BUILT_AT_ONCE: u64 = 64;

impl TableRows {
    /// Makes the table what `definition` says. Gives back the indexes that are no more, for dropping in steps.
    pub(in crate::store) fn alter(&mut self, definition: Arc<Table>, cost: &mut Cost) -> Vec<Index> {
        let old = std::mem::replace(&mut self.definition, definition);
        let definition = Arc::clone(&self.definition);
        self.types = types_of(&definition);
        self.schema = schema_of(&definition);
        let sources: Vec<Result<usize, Arc<Datum>>> =
            definition.columns.iter().map(|column| source_of(&old, column)).collect();
        let unmoved = sources.iter().enumerate().all(|(at, source)| matches!(source, Ok(from) if *from == at));
        if !unmoved || sources.len() != old.columns.len() {
            for chunk in self.chunks.iter_mut() {
                Chunk::own(chunk, cost).rearrange(&sources, cost);
            }
        }
        let mut indexes = std::mem::take(&mut self.indexes);
        for wanted in &definition.indexes {
            let index = match indexes.iter().position(|index| index.id() == wanted.id) {
                Some(found) => {
                    let mut index = indexes.swap_remove(found);
                    index.redefine(wanted);
                    if wanted.state == IndexState::Ready {
                        // A replica that is behind with building: nobody may find the index ready and without rows.
                        self.fill(&mut index, usize::MAX, cost);
                    }
                    index
                }
                None => {
                    let mut index = Index::begin(wanted);
                    cost.resized(0, index.bytes());
                    if wanted.state == IndexState::Ready || self.live <= BUILT_AT_ONCE {
                        self.fill(&mut index, usize::MAX, cost);
                    }
                    index
                }
            };
            self.indexes.push(index);
        }
        for index in &indexes {
            // They are no longer part of the table, and not yet free.
            cost.resized(index.bytes(), 0);
            cost.copied += index.bytes();
        }
        indexes
    }

    /// Whether an index does not have all rows yet.
    pub fn is_building(&self) -> bool {
        self.indexes.iter().any(|index| !index.is_complete())
    }

    /// Enters up to `rows` rows into indexes that are being built; how many it did not need to.
    pub(in crate::store) fn build_some(&mut self, rows: usize, cost: &mut Cost) -> usize {
        let mut indexes = std::mem::take(&mut self.indexes);
        let left = indexes.iter_mut().fold(rows, |left, index| self.fill(index, left, cost));
        self.indexes = indexes;
        left
    }

    /// Enters up to `rows` rows; how many it did not need to.
    fn fill(&self, index: &mut Index, rows: usize, cost: &mut Cost) -> usize {
        let Some(start) = index.next() else { return rows };
        let mut keys = Vec::new();
        let mut key = KeyBytes::new();
        let mut entries = Vec::new();
        let mut next = None;
        for position in self.positions_from(start) {
            if entries.len() == rows {
                next = Some(position);
                break;
            }
            let kind = index.write_entry(&mut key, position, |column| self.value(position, column));
            let start = keys.len();
            keys.extend_from_slice(&key);
            entries.push((start, keys.len(), position, kind));
        }
        let bytes = |entry: &(usize, usize, Position, KeyKind)| keys.get(entry.0..entry.1).unwrap_or_default();
        // Neighbours in the tree one after the other: each finds its node at hand.
        entries.sort_by(|a, b| bytes(a).cmp(bytes(b)));
        for entry in &entries {
            index.enter(entry.3, bytes(entry), entry.2, cost);
        }
        index.filled_to(next);
        rows - entries.len()
    }

    /// A row because of which a faulty index cannot be used, with its key's length.
    pub(in crate::store) fn fault_of(&self, index: &Index) -> Option<(Position, usize)> {
        let mut key = KeyBytes::new();
        self.positions().filter(|position| index.covers(*position)).find_map(|position| {
            let kind = index.write_entry(&mut key, position, |column| self.value(position, column));
            let long = key.len() > MAX_KEY_BYTES;
            let equal = kind == KeyKind::Unique && index.get(&key) != Some(position);
            (long || equal).then_some((position, key.len()))
        })
    }
}

/// Where a column's values come from: the column of this identity before, or the constant that rows without it have.
fn source_of(old: &Table, column: &catalog::Column) -> Result<usize, Arc<Datum>> {
    let before = old.columns.iter().position(|before| before.id == column.id && before.ty.ty == column.ty.ty);
    before.ok_or_else(|| Arc::new(column.missing.clone().unwrap_or(Datum::Null)))
}
