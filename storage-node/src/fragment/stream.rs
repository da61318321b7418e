//! Batches as an Arrow IPC stream: the schema once, then batches, then the end.

use super::compact::compact;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use std::panic::AssertUnwindSafe;
use toroid_common::error::{SqlError, SqlResult};
use toroid_query::error::sql_error;

struct Encoding {
    batches: SendableRecordBatchStream,
    writer: StreamWriter<Vec<u8>>,
    ended: bool,
}

/// The stream, one piece for each batch; a panic in the plan is an error like any other.
pub(super) fn encode(batches: SendableRecordBatchStream) -> BoxStream<'static, SqlResult<Bytes>> {
    let writer = match StreamWriter::try_new(Vec::new(), &batches.schema()) {
        Ok(writer) => writer,
        Err(error) => return stream::once(async move { Err(SqlError::internal(error)) }).boxed(),
    };
    let encoding = Encoding { batches, writer, ended: false };
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
            let next = AssertUnwindSafe(self.batches.next()).catch_unwind().await;
            let next = next.map_err(|_| SqlError::internal("a fragment panicked"))?;
            match next.transpose().map_err(sql_error)? {
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => self.write(batch).map_err(SqlError::internal)?,
                None => {
                    self.ended = true;
                    self.writer.finish().map_err(SqlError::internal)?;
                }
            }
            let written = std::mem::take(self.writer.get_mut());
            if self.ended || !written.is_empty() {
                return Ok(Bytes::from(written));
            }
        }
    }

    fn write(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        self.writer.write(&compact(batch)?)
    }
}
