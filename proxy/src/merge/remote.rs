//! The place in a plan where rows arrive from workers.

use super::FragmentClient;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{self, BoxStream, StreamExt};
use std::fmt;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{Epoch, PartitionId, WorkerId};
use toroid_query::column::renamed;
use toroid_query::error::external;

/// One worker's share of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub worker: WorkerId,
    pub partitions: Vec<(PartitionId, Epoch)>,
}

/// How fragments reach workers: an extension of the task's session configuration.
pub(super) struct Client(pub(super) Arc<dyn FragmentClient>);

/// A fragment, run by each of its sites; one output partition for each.
#[derive(Debug)]
pub struct RemoteExec {
    fragment: Arc<dyn ExecutionPlan>,
    encoded: Bytes,
    sites: Vec<Site>,
    properties: Arc<PlanProperties>,
}

impl RemoteExec {
    pub(super) fn new(fragment: Arc<dyn ExecutionPlan>, sites: Vec<Site>) -> SqlResult<RemoteExec> {
        let encoded = toroid_query::codec::encode(Arc::clone(&fragment))?;
        let properties = PlanProperties::new(
            fragment.properties().eq_properties.clone(),
            Partitioning::UnknownPartitioning(sites.len().max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(RemoteExec { fragment, encoded, sites, properties: Arc::new(properties) })
    }

    /// What runs at the sites.
    pub fn fragment(&self) -> &Arc<dyn ExecutionPlan> {
        &self.fragment
    }

    pub fn sites(&self) -> &[Site] {
        &self.sites
    }
}

impl DisplayAs for RemoteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions: usize = self.sites.iter().map(|site| site.partitions.len()).sum();
        write!(f, "Remote: workers={}, partitions={partitions}", self.sites.len())
    }
}

impl ExecutionPlan for RemoteExec {
    fn name(&self) -> &str {
        "RemoteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    toroid_query::childless!();

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let Some(client) = context.session_config().get_extension::<Client>() else {
            return internal_err!("a fragment without a client");
        };
        // A query that is known to find nothing asks nobody.
        let Some(site) = self.sites.get(partition) else {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::empty())));
        };
        let plan = toroid_query::codec::address(&self.encoded, partition as u32);
        let pieces = client.0.run(site.worker, site.partitions.clone(), plan);
        let batches = decode(pieces, Arc::clone(&schema)).map(|batch| batch.map_err(external));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

struct Decoding {
    pieces: BoxStream<'static, SqlResult<Bytes>>,
    decoder: StreamDecoder,
    /// What came and was not decoded yet.
    rest: Buffer,
    schema: SchemaRef,
    failed: bool,
}

/// The batches of an Arrow IPC stream that arrives in pieces.
pub(super) fn decode(
    pieces: BoxStream<'static, SqlResult<Bytes>>,
    schema: SchemaRef,
) -> BoxStream<'static, SqlResult<RecordBatch>> {
    let decoding =
        Decoding { pieces, decoder: StreamDecoder::new(), rest: Buffer::from(Bytes::new()), schema, failed: false };
    stream::unfold(decoding, |mut decoding| async move {
        if decoding.failed {
            return None;
        }
        let item = decoding.next().await.transpose()?;
        decoding.failed = item.is_err();
        Some((item, decoding))
    })
    .boxed()
}

impl Decoding {
    async fn next(&mut self) -> SqlResult<Option<RecordBatch>> {
        loop {
            let malformed = |error| SqlError::internal(format_args!("a fragment's answer: {error}"));
            if let Some(batch) = self.decoder.decode(&mut self.rest).map_err(malformed)? {
                // Field names and nullability are the plan's; the types must be the same.
                return renamed(&batch, Arc::clone(&self.schema)).map(Some);
            }
            match self.pieces.next().await {
                Some(piece) => self.rest = Buffer::from(piece?),
                None => {
                    self.decoder.finish().map_err(malformed)?;
                    return Ok(None);
                }
            }
        }
    }
}
