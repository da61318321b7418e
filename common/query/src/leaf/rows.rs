//! Rows that the proxy has or makes: VALUES, virtual tables, series.

use super::properties;
use crate::error::external;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream;
use std::fmt;
use std::sync::Arc;
use toroid_common::error::SqlResult;

/// Makes rows, as often as a plan asks for them.
pub trait RowSupply: fmt::Debug + Send + Sync + 'static {
    fn schema(&self) -> SchemaRef;
    /// For EXPLAIN.
    fn label(&self) -> String;
    fn open(&self) -> Box<dyn Iterator<Item = SqlResult<RecordBatch>> + Send>;
}

/// Rows at hand.
#[derive(Debug)]
pub struct Batches {
    pub label: String,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl RowSupply for Batches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn open(&self) -> Box<dyn Iterator<Item = SqlResult<RecordBatch>> + Send> {
        Box::new(self.batches.clone().into_iter().map(Ok))
    }
}

/// The leaf.
#[derive(Debug)]
pub struct RowsExec {
    supply: Arc<dyn RowSupply>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl RowsExec {
    pub fn new(supply: Arc<dyn RowSupply>, projection: Option<Vec<usize>>) -> Result<RowsExec> {
        let schema = match &projection {
            Some(columns) => Arc::new(supply.schema().project(columns)?),
            None => supply.schema(),
        };
        Ok(RowsExec { supply, projection, properties: properties(schema, 1) })
    }
}

impl DisplayAs for RowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows: {}", self.supply.label())
    }
}

impl ExecutionPlan for RowsExec {
    fn name(&self) -> &str {
        "RowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    crate::childless!();

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let projection = self.projection.clone();
        let batches = self.supply.open().map(move |batch| {
            let batch = batch.map_err(external)?;
            match &projection {
                Some(columns) => Ok(batch.project(columns)?),
                None => Ok(batch),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(batches))))
    }
}

/// The table that a plan's builder sees.
#[derive(Debug)]
pub struct SuppliedTable(pub Arc<dyn RowSupply>);

#[async_trait]
impl TableProvider for SuppliedTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(RowsExec::new(Arc::clone(&self.0), projection.cloned())?))
    }
}
