//! Fragments: the part of a plan that runs next to the data, over roots, answered as an Arrow IPC stream.

use bytes::Bytes;
use futures::stream::BoxStream;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult};
use toroid_query::source::RowSource;

/// Runs an encoded fragment over the rows of its roots within `budget` bytes of memory; to be polled on the scan pool, never in a worker's thread.
///
/// The pieces are an Arrow IPC stream. Dropping the stream stops the fragment.
pub fn run(plan: Bytes, rows: Arc<dyn RowSource>, budget: usize) -> BoxStream<'static, SqlResult<Bytes>> {
    let _ = (plan, rows, budget);
    Box::pin(futures::stream::once(async { Err(SqlError::unsupported("a fragment")) }))
}
