//! Reading rows by position and by key.

use super::{Chunk, TableRows, place, position};
use crate::store::index::Index;
use crate::store::position::Position;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{IndexId, Lsn};
use toroid_common::row::RowReader;
use toroid_common::types::SqlType;

impl TableRows {
    pub fn index(&self, id: IndexId) -> Option<&Index> {
        self.indexes.iter().find(|index| index.id() == id)
    }

    pub fn indexes(&self) -> &[Index] {
        &self.indexes
    }

    /// The values of these columns, as [`crate::store::change::Change::Update`] carries them; an error when they are not what the columns have.
    pub fn read_values<'a>(
        &self,
        columns: impl Iterator<Item = u16>,
        values: &'a [u8],
    ) -> SqlResult<Vec<DatumRef<'a>>> {
        let types = columns.map(|column| self.types.get(usize::from(column)).copied());
        let types: Option<SmallVec<[SqlType; 8]>> = types.collect();
        let types = types.ok_or_else(|| SqlError::internal("a change names a column that its table does not have"))?;
        let mut read = Vec::with_capacity(types.len());
        RowReader::new(values).read(&types, &mut read)?;
        Ok(read)
    }

    /// The row with this full key in a unique index, from [`Index::key`].
    pub fn get(&self, index: &Index, key: &[u8]) -> Option<Position> {
        index.get(key)
    }

    /// Rows whose key in this index starts with `prefix` (from [`Index::key`] with some or all columns), in key order.
    pub fn find<'a>(&'a self, index: &'a Index, prefix: &[u8]) -> impl Iterator<Item = Position> + use<'a> {
        index.find(prefix)
    }

    /// Every live row in order of position.
    pub fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        (0..self.chunks()).flat_map(|chunk| self.chunk_positions(chunk))
    }

    /// Every live row from a position on.
    pub(in crate::store) fn positions_from(&self, start: Position) -> impl Iterator<Item = Position> + '_ {
        let (chunk, at) = place(start);
        self.places(chunk, at).chain((chunk + 1..self.chunks()).flat_map(|chunk| self.chunk_positions(chunk)))
    }

    /// The chunks that are not the very same in an earlier state of the table that is still held.
    pub fn chunks_changed_since<'a>(&'a self, before: &'a TableRows) -> impl Iterator<Item = usize> + 'a {
        let same = |(number, chunk): &(usize, &Arc<Chunk>)| {
            before.chunks.get(*number).is_some_and(|before| Arc::ptr_eq(before, chunk))
        };
        self.chunks.iter().enumerate().filter(move |chunk| !same(chunk)).map(|(number, _)| number)
    }

    /// The positions of one chunk's live rows, in the order of [`TableRows::batch`].
    pub fn chunk_positions(&self, chunk: usize) -> impl Iterator<Item = Position> + '_ {
        self.places(chunk, 0)
    }

    fn places(&self, chunk: usize, first: usize) -> impl Iterator<Item = Position> + '_ {
        let rows = self.chunks.get(chunk);
        let len = rows.map_or(0, |rows| rows.len());
        (first..len).filter(move |at| rows.is_some_and(|rows| rows.is_live(*at))).map(move |at| position(chunk, at))
    }

    /// Whether a live row stands there.
    pub fn is_live(&self, position: Position) -> bool {
        let (chunk, at) = place(position);
        self.chunks.get(chunk).is_some_and(|rows| rows.is_live(at))
    }

    /// One value of a live row.
    pub fn value(&self, position: Position, column: u16) -> DatumRef<'_> {
        let (chunk, at) = place(position);
        match (self.chunks.get(chunk), self.types.get(usize::from(column))) {
            (Some(rows), Some(ty)) => rows.value(at, usize::from(column), *ty),
            _ => DatumRef::Null,
        }
    }

    /// All values of a live row in table order, appended to `out`.
    pub fn row<'a>(&'a self, position: Position, out: &mut Vec<DatumRef<'a>>) {
        let (chunk, at) = place(position);
        let Some(rows) = self.chunks.get(chunk) else { return };
        out.extend(self.types.iter().enumerate().map(|(column, ty)| rows.value(at, column, *ty)));
    }

    /// The entry that last changed the live row at `position`.
    pub fn changed(&self, position: Position) -> Lsn {
        let (chunk, at) = place(position);
        self.chunks.get(chunk).map_or(Lsn(0), |rows| rows.changed(at))
    }

    /// Number of chunks: bounds for [`TableRows::batch`] and [`TableRows::chunk_positions`].
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }
}
