//! Strings that go over the wire without the buffers that they only point into a little.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use std::sync::Arc;

/// A view column is copied when less than half of its buffers is in use.
const WORTH: usize = 2;

/// The batch with view columns whose buffers are mostly in use.
pub(super) fn compact(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let views = |array: &ArrayRef| matches!(array.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !batch.columns().iter().any(views) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(compact_column).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn compact_column(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => {
            let views = array.as_string_view();
            let held: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
            match views.total_buffer_bytes_used() * WORTH < held {
                true => Arc::new(views.gc()),
                false => Arc::clone(array),
            }
        }
        DataType::BinaryView => {
            let views = array.as_binary_view();
            let held: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
            match views.total_buffer_bytes_used() * WORTH < held {
                true => Arc::new(views.gc()),
                false => Arc::clone(array),
            }
        }
        _ => Arc::clone(array),
    }
}
