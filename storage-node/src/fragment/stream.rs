//! Batches as an Arrow IPC stream: the schema once, then batches, then the end.

use super::compact::compact;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use std::panic::AssertUnwindSafe;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::limits::MAX_ENTRY_BYTES;
use toroid_query::error::sql_error;

/// A batch that takes more bytes than these is parted, as far as its rows allow.
const PIECE_BYTES: usize = 64 << 20;
/// What a string takes besides its bytes.
const VIEW_BYTES: usize = 16;

struct Encoding {
    batches: SendableRecordBatchStream,
    /// What is to be written next, last in line first.
    parts: Vec<RecordBatch>,
    writer: StreamWriter<Vec<u8>>,
    ended: bool,
}

/// The stream, one piece for each batch; a panic in the plan is an error like any other.
pub(super) fn encode(batches: SendableRecordBatchStream) -> BoxStream<'static, SqlResult<Bytes>> {
    let writer = match StreamWriter::try_new(Vec::new(), &batches.schema()) {
        Ok(writer) => writer,
        Err(error) => return stream::once(async move { Err(SqlError::internal(error)) }).boxed(),
    };
    let encoding = Encoding { batches, parts: Vec::new(), writer, ended: false };
    stream::unfold(encoding, |mut encoding| async move {
        if encoding.ended {
            return None;
        }
        let piece = encoding.next().await;
        encoding.ended |= piece.is_err();
        Some((piece, encoding))
    })
    .boxed()
}

impl Encoding {
    async fn next(&mut self) -> SqlResult<Bytes> {
        loop {
            if let Some(part) = self.parts.pop() {
                self.write(part)?;
            } else {
                let next = AssertUnwindSafe(self.batches.next()).catch_unwind().await;
                let next = next.map_err(|_| SqlError::internal("a fragment panicked"))?;
                match next.transpose().map_err(sql_error)? {
                    Some(batch) if batch.num_rows() == 0 => {}
                    Some(batch) => self.write(batch)?,
                    None => {
                        self.ended = true;
                        self.writer.finish().map_err(SqlError::internal)?;
                    }
                }
            }
            let written = std::mem::take(self.writer.get_mut());
            if written.len() > MAX_ENTRY_BYTES {
                let message = "a row of the result is too large";
                return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
            }
            if self.ended || !written.is_empty() {
                return Ok(Bytes::from(written));
            }
        }
    }

    /// Writes a batch, or the front half of one that is too large for that. The rest is written next.
    fn write(&mut self, batch: RecordBatch) -> SqlResult<()> {
        let mut batch = compact(batch).map_err(SqlError::internal)?;
        while bytes_of(&batch) > PIECE_BYTES && batch.num_rows() > 1 {
            let half = batch.num_rows() / 2;
            self.parts.push(batch.slice(half, batch.num_rows() - half));
            batch = compact(batch.slice(0, half)).map_err(SqlError::internal)?;
        }
        self.writer.write(&batch).map_err(SqlError::internal)
    }
}

/// About how many bytes the batch takes when it is written.
fn bytes_of(batch: &RecordBatch) -> usize {
    let column = |array: &ArrayRef| match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_buffer_bytes_used() + VIEW_BYTES * array.len(),
        DataType::BinaryView => array.as_binary_view().total_buffer_bytes_used() + VIEW_BYTES * array.len(),
        _ => array.to_data().get_slice_memory_size().unwrap_or(0),
    };
    batch.columns().iter().map(column).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringViewArray;
    use arrow::datatypes::{Field, Schema};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use std::sync::Arc;

    /// The lengths of the pieces, or the error.
    async fn pieces(rows: usize, columns: usize, bytes: usize) -> SqlResult<Vec<usize>> {
        let text: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..rows).map(|_| "x".repeat(bytes))));
        let fields: Vec<Field> = (0..columns).map(|at| Field::new(at.to_string(), DataType::Utf8View, false)).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(schema.clone(), vec![text; columns]).map_err(SqlError::internal)?;
        let batches = stream::iter([Ok(batch)]);
        let all: Vec<SqlResult<Bytes>> =
            encode(Box::pin(RecordBatchStreamAdapter::new(schema, batches))).collect().await;
        all.into_iter().map(|piece| piece.map(|bytes| bytes.len())).collect()
    }

    #[tokio::test]
    async fn large_batches_are_parted_and_what_fits_no_frame_is_an_error() {
        let lengths = pieces(5, 1, 30 << 20).await.unwrap();
        assert_eq!(lengths.len(), 4, "two, one and two rows, and the end: {lengths:?}");
        assert!(lengths.iter().all(|length| *length <= PIECE_BYTES + 4_096), "{lengths:?}");
        let error = pieces(1, 2, 160 << 20).await.unwrap_err();
        assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
    }
}
