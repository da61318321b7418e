//! The rows of one table in one partition: chunks of columns, and the indexes over them.

mod chunk;
mod room;
mod read;
mod batch;
mod write;
mod alter;
mod restore;

pub use crate::store::position::Position;
pub(in crate::store) use chunk::Chunk;

use crate::store::index::Index;
use arrow::datatypes::{Field, Schema, SchemaRef};
use room::Room;
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::limits::CHUNK_ROWS;
use toroid_common::types::SqlType;

/// A table's rows in one partition after some LSN.
#[derive(Clone, Debug)]
pub struct TableRows {
    definition: Arc<Table>,
    types: Arc<[SqlType]>,
    schema: SchemaRef,
    chunks: imbl::Vector<Arc<Chunk>>,
    room: Room,
    indexes: Vec<Index>,
    live: u64,
    bytes: usize,
}

impl TableRows {
    /// A table without rows.
    pub fn new(definition: Arc<Table>) -> TableRows {
        let indexes: Vec<Index> = definition.indexes.iter().map(Index::new).collect();
        let bytes = indexes.iter().map(Index::bytes).sum();
        TableRows {
            types: types_of(&definition),
            schema: schema_of(&definition),
            chunks: imbl::Vector::new(),
            room: Room::default(),
            indexes,
            live: 0,
            bytes,
            definition,
        }
    }

    /// The table as the catalog of this root has it.
    pub fn definition(&self) -> &Arc<Table> {
        &self.definition
    }

    /// The columns' types in table order: what rows of this table are encoded by.
    pub fn types(&self) -> &[SqlType] {
        &self.types
    }

    pub(in crate::store) fn shared_types(&self) -> Arc<[SqlType]> {
        Arc::clone(&self.types)
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
        self.bytes
    }

    /// Takes the table apart for dropping in steps.
    pub(in crate::store) fn into_parts(self) -> (imbl::Vector<Arc<Chunk>>, Vec<Index>) {
        (self.chunks, self.indexes)
    }
}

fn types_of(definition: &Table) -> Arc<[SqlType]> {
    definition.columns.iter().map(|column| column.ty.ty).collect()
}

fn schema_of(definition: &Table) -> SchemaRef {
    let fields = definition.columns.iter().map(|column| Field::new(&column.name, column.ty.ty.arrow(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The chunk of a position, and its place there.
fn place(position: Position) -> (usize, usize) {
    let position = position.0 as usize;
    (position / CHUNK_ROWS, position % CHUNK_ROWS)
}

fn position(chunk: usize, at: usize) -> Position {
    Position((chunk * CHUNK_ROWS + at) as u32)
}
