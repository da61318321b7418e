//! Changing rows: chunks and indexes together.

use super::{Chunk, TableRows, place, position};
use crate::store::cost::Cost;
use crate::store::index::{Index, KeyBytes, KeyKind};
use crate::store::position::Position;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::datum::DatumRef;
use toroid_common::id::Lsn;
use toroid_common::types::SqlType;

impl TableRows {
    /// Where the next row goes: the lowest place without a live row.
    pub fn next_position(&self) -> Position {
        let chunk = self.room.first().unwrap_or(self.chunks.len());
        position(chunk, self.chunks.get(chunk).map_or(0, |rows| rows.free_place()))
    }

    /// Puts in a complete row; where it stands. `key` is scratch.
    pub(in crate::store) fn insert(
        &mut self,
        row: &[DatumRef<'_>],
        lsn: Lsn,
        key: &mut KeyBytes,
        cost: &mut Cost,
    ) -> Position {
        assert_eq!(row.len(), self.types.len(), "a row has a value for every column of its table");
        let position = self.next_position();
        let (number, at) = place(position);
        if number == self.chunks.len() {
            self.chunks.push_back(Arc::new(Chunk::new(self.types.len(), cost)));
            self.room.set(number, true);
        }
        let Some(chunk) = self.chunks.get_mut(number) else { return position };
        let chunk = Chunk::own(chunk, cost);
        chunk.insert(at, row, &self.types, lsn, cost);
        if !chunk.has_room() {
            self.room.set(number, false);
        }
        self.live += 1;
        for index in self.indexes.iter_mut().filter(|index| index.covers(position)) {
            let kind = index.write_entry(key, position, |column| value_of(row, column));
            index.enter(kind, key, position, cost);
        }
        position
    }

    /// Gives some columns of a live row new values; `key` is scratch.
    pub(in crate::store) fn update(
        &mut self,
        position: Position,
        columns: &[u16],
        values: &[DatumRef<'_>],
        lsn: Lsn,
        key: &mut KeyBytes,
        cost: &mut Cost,
    ) {
        assert!(self.is_live(position), "an update needs a live row at {position:?}");
        let (number, at) = place(position);
        let Some(chunk) = self.chunks.get_mut(number) else { return };
        let types = &self.types;
        let mut moved: SmallVec<[(usize, KeyKind, KeyBytes); 2]> = SmallVec::new();
        let concerned = |index: &Index| index.touches(columns) && index.covers(position);
        for (number, index) in self.indexes.iter_mut().enumerate().filter(|(_, index)| concerned(index)) {
            let mut new_key = KeyBytes::new();
            let kind = index.write_entry(&mut new_key, position, |column| {
                let set = columns.iter().position(|set| *set == column).and_then(|set| values.get(set));
                set.copied().unwrap_or_else(|| cell(chunk, types, at, column))
            });
            let old_kind = index.write_entry(key, position, |column| cell(chunk, types, at, column));
            if *key != new_key {
                index.leave(old_kind, key, position, cost);
                moved.push((number, kind, new_key));
            }
        }
        for (number, kind, key) in moved {
            if let Some(index) = self.indexes.get_mut(number) {
                index.enter(kind, &key, position, cost);
            }
        }
        let chunk = Chunk::own(chunk, cost);
        for (column, value) in columns.iter().zip(values) {
            if let Some(ty) = types.get(usize::from(*column)) {
                chunk.set(at, usize::from(*column), *value, *ty, lsn, cost);
            }
        }
    }

    /// Takes a live row out; `key` is scratch.
    pub(in crate::store) fn delete(&mut self, position: Position, key: &mut KeyBytes, cost: &mut Cost) {
        assert!(self.is_live(position), "a delete needs a live row at {position:?}");
        let (number, at) = place(position);
        let Some(chunk) = self.chunks.get_mut(number) else { return };
        for index in self.indexes.iter_mut().filter(|index| index.covers(position)) {
            let kind = index.write_entry(key, position, |column| cell(chunk, &self.types, at, column));
            index.leave(kind, key, position, cost);
        }
        Chunk::own(chunk, cost).remove(at, cost);
        self.room.set(number, true);
        self.live -= 1;
    }

    /// Bytes that changing these columns of a row would copy because a root still holds them.
    pub(in crate::store) fn shared_bytes(&self, position: Position, columns: &[u16]) -> usize {
        let columns = columns.iter().map(|column| usize::from(*column));
        self.chunks.get(place(position).0).map_or(0, |chunk| chunk.shared_bytes(columns))
    }

    /// Adds what a step cost to the table's own sum.
    pub(in crate::store) fn settle(&mut self, cost: Cost) {
        self.bytes = self.bytes.saturating_add_signed(cost.grown);
    }
}

fn cell<'a>(chunk: &'a Chunk, types: &[SqlType], at: usize, column: u16) -> DatumRef<'a> {
    let column = usize::from(column);
    types.get(column).map_or(DatumRef::Null, |ty| chunk.value(at, column, *ty))
}

fn value_of<'a>(row: &[DatumRef<'a>], column: u16) -> DatumRef<'a> {
    row.get(usize::from(column)).copied().unwrap_or(DatumRef::Null)
}
