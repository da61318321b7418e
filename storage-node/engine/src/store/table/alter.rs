//! Following the catalog: columns come and go, indexes are built over the rows that are there.

use super::{Chunk, TableRows, schema_of, types_of};
use crate::store::cost::Cost;
use crate::store::index::{Index, KeyBytes, KeyKind};
use crate::store::position::Position;
use std::sync::Arc;
use toroid_common::catalog::{self, Table};
use toroid_common::datum::Datum;

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
                    index
                }
                None => self.build_index(wanted, cost),
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

    /// An index over all rows. When two rows of a unique index are equal, it names them ([`Index::duplicates`]) and is of no use.
    pub(in crate::store) fn build_index(&self, definition: &catalog::Index, cost: &mut Cost) -> Index {
        let mut index = Index::new(definition);
        cost.resized(0, index.bytes());
        let mut keys = Vec::new();
        let mut key = KeyBytes::new();
        let mut entries = Vec::with_capacity(self.live as usize);
        for position in self.positions() {
            let kind = index.write_entry(&mut key, position, |column| self.value(position, column));
            let start = keys.len();
            keys.extend_from_slice(&key);
            entries.push((start, keys.len(), position, kind));
        }
        let bytes = |entry: &(usize, usize, Position, KeyKind)| keys.get(entry.0..entry.1).unwrap_or_default();
        // Equal keys stay in the order of their positions: which pair is reported does not depend on the sort.
        entries.sort_by(|a, b| bytes(a).cmp(bytes(b)));
        for entry in &entries {
            if let Some(other) = index.insert(bytes(entry), entry.2, cost) {
                index.set_duplicates(other, entry.2);
            }
        }
        index
    }
}

/// Where a column's values come from: the column of this identity before, or the constant that rows without it have.
fn source_of(old: &Table, column: &catalog::Column) -> Result<usize, Arc<Datum>> {
    let before = old.columns.iter().position(|before| before.id == column.id && before.ty.ty == column.ty.ty);
    before.ok_or_else(|| Arc::new(column.missing.clone().unwrap_or(Datum::Null)))
}
