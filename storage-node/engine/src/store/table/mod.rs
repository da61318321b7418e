//! The rows of one table in one partition.

use crate::store::index::Index;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::datum::DatumRef;
use toroid_common::id::{IndexId, Lsn};
use toroid_common::types::SqlType;

/// Where a row stands in its table and partition; the same on every replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

/// A table's rows in one partition after some LSN.
#[derive(Clone, Debug)]
pub struct TableRows {
    definition: Arc<Table>,
    types: Arc<[SqlType]>,
    schema: SchemaRef,
    indexes: Vec<Index>,
    live: u64,
}

impl TableRows {
    /// The table as the catalog of this root has it.
    pub fn definition(&self) -> &Arc<Table> {
        &self.definition
    }

    /// The columns' types in table order: what rows of this table are encoded by.
    pub fn types(&self) -> &[SqlType] {
        &self.types
    }

    /// All columns as Arrow fields, hidden ones too, all nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Live rows.
    pub fn len(&self) -> u64 {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes of rows and indexes.
    pub fn bytes(&self) -> usize {
        0
    }

    pub fn index(&self, id: IndexId) -> Option<&Index> {
        self.indexes.iter().find(|index| index.id() == id)
    }

    /// The row with this full key in a unique index, from [`Index::key`].
    pub fn get(&self, index: &Index, key: &[u8]) -> Option<Position> {
        let _ = (index, key);
        None
    }

    /// Rows whose key in this index starts with `prefix` (from [`Index::key`] with some or all columns), in key order.
    pub fn find<'a>(&'a self, index: &'a Index, prefix: &[u8]) -> impl Iterator<Item = Position> + 'a {
        let _ = (index, prefix);
        std::iter::empty()
    }

    /// Every live row in order of position.
    pub fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        std::iter::empty()
    }

    /// Whether a live row stands there.
    pub fn is_live(&self, position: Position) -> bool {
        let _ = position;
        false
    }

    /// One value of a live row.
    pub fn value(&self, position: Position, column: u16) -> DatumRef<'_> {
        let _ = (position, column);
        DatumRef::Null
    }

    /// All values of a live row in table order, appended to `out`.
    pub fn row<'a>(&'a self, position: Position, out: &mut Vec<DatumRef<'a>>) {
        let _ = (position, out);
    }

    /// The entry that last changed the live row at `position`.
    pub fn changed(&self, position: Position) -> Lsn {
        let _ = position;
        Lsn(0)
    }

    /// Number of chunks: bounds for [`TableRows::batch`] and [`TableRows::chunk_positions`].
    pub fn chunks(&self) -> usize {
        0
    }

    /// The live rows of one chunk with these columns (positions in `Table::columns`), borrowed from the store where all rows live.
    /// `None` when the chunk has no live row. Let go of batches before the root that lent them.
    pub fn batch(&self, chunk: usize, columns: &[usize]) -> Option<RecordBatch> {
        let _ = (chunk, columns);
        None
    }

    /// The positions of one chunk's live rows, in the order of [`TableRows::batch`].
    pub fn chunk_positions(&self, chunk: usize) -> impl Iterator<Item = Position> + '_ {
        let _ = chunk;
        std::iter::empty()
    }
}
