//! Fragments: the part of a plan that runs next to the data, over roots, answered as an Arrow IPC stream.

mod compact;
mod stream;

use bytes::Bytes;
use datafusion::execution::TaskContext;
use datafusion::execution::config::SessionConfig;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use toroid_common::env::Env;
use toroid_common::error::SqlResult;
use toroid_query::error::sql_error;
use toroid_query::leaf::Rows;
use toroid_query::memory::Share;
use toroid_query::source::RowSource;

/// Runs an encoded fragment over the rows of its roots within a share of the node's memory for fragments; to be polled on the scan pool, never in a worker's thread.
/// `env` is the statement's environment.
///
/// The pieces are an Arrow IPC stream. Dropping the stream stops the fragment.
pub fn run(
    plan: Bytes,
    env: Env,
    rows: Arc<dyn RowSource>,
    memory: &Arc<Share>,
) -> BoxStream<'static, SqlResult<Bytes>> {
    match start(&plan, env, rows, memory) {
        Ok(batches) => stream::encode(batches),
        Err(error) => futures::stream::once(async { Err(error) }).boxed(),
    }
}

fn start(plan: &[u8], env: Env, rows: Arc<dyn RowSource>, memory: &Arc<Share>) -> SqlResult<SendableRecordBatchStream> {
    let context = context(rows, memory);
    let plan = toroid_query::codec::receive(plan, env, &context)?;
    plan.execute(0, context).map_err(sql_error)
}

static CONFIG: LazyLock<SessionConfig> = LazyLock::new(|| {
    let config = SessionConfig::new();
    // A worker's fragments are one stream each: workers are what runs side by side.
    config.with_target_partitions(1)
});

fn context(rows: Arc<dyn RowSource>, memory: &Arc<Share>) -> Arc<TaskContext> {
    Arc::new(TaskContext::new(
        None,
        String::new(),
        CONFIG.clone().with_extension(Arc::new(Rows(rows))),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        memory.runtime(),
    ))
}
