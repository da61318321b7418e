//! Distributed plans: DataFusion's physical plan, cut where rows must travel; what is below a cut runs next to the data.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{Epoch, PartitionId, WorkerId};
use toroid_common::map::ClusterMap;

use crate::bound::Query;

/// How fragments reach the workers.
pub trait FragmentClient: Send + Sync + 'static {
    /// Runs a fragment over a worker's partitions; the answer is an Arrow IPC stream in pieces of any size: schema, batches, end.
    /// Dropping the stream cancels the fragment.
    fn run(
        &self,
        worker: WorkerId,
        partitions: Vec<(PartitionId, Epoch)>,
        plan: Bytes,
    ) -> BoxStream<'static, SqlResult<Bytes>>;
}

/// Tables that the proxy makes up: pg_catalog, information_schema, toroid.
pub trait VirtualTables: Send + Sync + 'static {
    /// All rows with all columns in the order of the table's definition, as [`toroid_common::types::SqlType::arrow`] has them.
    fn rows(&self, schema: &str, name: &str) -> SqlResult<RecordBatch>;
}

/// A query ready to run, once.
pub struct Planned {
    schema: SchemaRef,
}

/// Batches of a result, in order.
pub type ResultStream = BoxStream<'static, SqlResult<RecordBatch>>;

/// Plans a query with its parameters' values for the cluster as the map shows it.
pub fn plan(
    query: &Query,
    params: &[Datum],
    env: &Env,
    map: &Arc<ClusterMap>,
    virtuals: &Arc<dyn VirtualTables>,
) -> SqlResult<Planned> {
    let _ = (query, params, env, map, virtuals);
    Err(SqlError::unsupported("a query of several partitions"))
}

impl Planned {
    /// The result's columns, in the order of `Query::output`; their PostgreSQL types are there.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The plan as EXPLAIN shows it: what runs where, what merges here.
    pub fn explain(&self) -> Vec<String> {
        Vec::new()
    }

    /// Starts the query; dropping the stream cancels it everywhere.
    pub fn execute(self, client: Arc<dyn FragmentClient>) -> ResultStream {
        let _ = client;
        Box::pin(futures::stream::empty())
    }
}
