//! Lending chunks as Arrow record batches.

use super::TableRows;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter;
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

impl TableRows {
    /// The fields of these columns, for [`TableRows::batch_as`].
    pub fn projection(&self, columns: &[usize]) -> SchemaRef {
        let fields = columns.iter().filter_map(|column| self.schema.fields().get(*column).cloned());
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The live rows of one chunk with these columns (positions in `Table::columns`), borrowed from the store where all rows live.
    /// `None` when the chunk has no live row. Let go of batches before the root that lent them.
    pub fn batch(&self, chunk: usize, columns: &[usize]) -> Option<RecordBatch> {
        self.batch_as(chunk, columns, &self.projection(columns))
    }

    /// [`TableRows::batch`] with a schema made before, for a scan of many chunks.
    pub fn batch_as(&self, chunk: usize, columns: &[usize], schema: &SchemaRef) -> Option<RecordBatch> {
        let rows = self.chunks.get(chunk).filter(|rows| rows.live() > 0)?;
        let len = rows.len();
        let alive = rows.alive().map(|alive| BooleanArray::new(alive.lend(), None));
        let lend = |column: &usize| -> Option<ArrayRef> {
            let ty = *self.types.get(*column)?;
            let array = match rows.column(*column) {
                Some(values) => values.array(ty, len),
                None => new_null_array(&ty.arrow(), len),
            };
            match &alive {
                Some(alive) => filter(&array, alive).ok(),
                None => Some(array),
            }
        };
        let arrays = columns.iter().map(lend).collect::<Option<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.live()));
        RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).ok()
    }
}
