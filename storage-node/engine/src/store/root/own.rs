//! Where the rows stand that a write set inserts, while it is applied.

use crate::store::position::Position;
use smallvec::SmallVec;
use toroid_common::id::TableId;

/// By table, the position of each row that was inserted so far, by its number.
#[derive(Clone, Debug, Default)]
pub struct OwnRows {
    tables: SmallVec<[(TableId, Vec<Option<Position>>); 1]>,
}

impl OwnRows {
    pub(super) fn add(&mut self, table: TableId, position: Position) {
        match self.tables.iter_mut().find(|(id, _)| *id == table) {
            Some((_, rows)) => rows.push(Some(position)),
            None => self.tables.push((table, vec![Some(position)])),
        }
    }

    /// Where the row of this number stands; none once it is deleted.
    pub fn position(&self, table: TableId, own: u32) -> Option<Position> {
        self.rows(table).get(own as usize).copied().flatten()
    }

    /// Forgets where it stands, because it is deleted.
    pub(super) fn remove(&mut self, table: TableId, own: u32) -> Option<Position> {
        let rows = self.tables.iter_mut().find(|(id, _)| *id == table)?;
        rows.1.get_mut(own as usize)?.take()
    }

    /// All rows of a table by number.
    pub fn rows(&self, table: TableId) -> &[Option<Position>] {
        self.tables.iter().find(|(id, _)| *id == table).map_or(&[], |(_, rows)| rows)
    }
}
