//! Putting rows back where they stood when a checkpoint was written, in order of position.

use super::{Chunk, TableRows, place};
use crate::store::cost::Cost;
use crate::store::index::{Index, KeyBytes};
use crate::store::position::Position;
use std::sync::Arc;
use toroid_common::catalog::IndexState;
use toroid_common::datum::DatumRef;
use toroid_common::id::{IndexId, Lsn};

impl TableRows {
    /// Puts a row behind all that are there; places that are left out stay free. False when another row has one of its keys, unless that
    /// index is known to be faulty: the table is of no use then. `key` is scratch.
    #[must_use]
    pub(in crate::store) fn restore_row(
        &mut self,
        position: Position,
        row: &[DatumRef<'_>],
        lsn: Lsn,
        (key, faulty): (&mut KeyBytes, &[IndexId]),
        cost: &mut Cost,
    ) -> bool {
        assert_eq!(row.len(), self.types.len(), "a row has a value for every column of its table");
        let (number, at) = place(position);
        while self.chunks.len() <= number {
            self.room.set(self.chunks.len(), true);
            self.chunks.push_back(Arc::new(Chunk::new(self.types.len(), cost)));
        }
        let Some(chunk) = self.chunks.get_mut(number) else { return false };
        let chunk = Chunk::own(chunk, cost);
        assert!(at >= chunk.len(), "rows are put back in order of position");
        while chunk.len() < at {
            chunk.leave_free(&self.types, cost);
        }
        chunk.insert(at, row, &self.types, lsn, cost);
        self.room.set(number, chunk.has_room());
        self.live += 1;
        let value = |column: u16| row.get(usize::from(column)).copied().unwrap_or(DatumRef::Null);
        self.indexes.iter_mut().filter(|index| index.covers(position)).all(|index| {
            let kind = index.write_entry(key, position, value);
            index.enter_again(kind, key, position, faulty.contains(&index.id()), cost)
        })
    }

    /// Indexes that are being built begin anew: they need not be here before the table is.
    pub(in crate::store) fn restore_building(&mut self) {
        for (index, definition) in self.indexes.iter_mut().zip(&self.definition.indexes) {
            if definition.state == IndexState::Building {
                *index = Index::begin(definition);
            }
        }
    }
}
