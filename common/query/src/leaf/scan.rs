//! The scan of a stored table: a place in the plan at the proxy, rows of a partition's root at a storage node.

use super::properties;
use crate::column::renamed;
use crate::error::external;
use crate::source::RowSource;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use toroid_common::catalog::Distribution;
use toroid_common::id::{CatalogVersion, TableId};
use toroid_common::types::SqlType;

/// A column of a scan's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanColumn {
    /// The name under which the plan knows it.
    pub name: String,
    /// Position in `Table::columns`.
    pub position: u16,
    pub ty: SqlType,
    pub nullable: bool,
}

/// What is scanned: how it travels in fragments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredTable {
    pub table: TableId,
    pub version: CatalogVersion,
    pub name: String,
    pub distribution: Distribution,
    pub columns: Vec<ScanColumn>,
}

impl StoredTable {
    fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|c| Field::new(&c.name, c.ty.arrow(), c.nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// Where the scans of a fragment find their rows: an extension of the task's session configuration.
pub struct Rows(pub Arc<dyn RowSource>);

/// The scan.
#[derive(Debug)]
pub struct ScanExec {
    stored: StoredTable,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    /// `partitions` is what the planner sees: one for each worker that holds a part; 1 at a node.
    pub fn new(stored: StoredTable, partitions: usize) -> ScanExec {
        let properties = properties(stored.schema(), partitions);
        ScanExec { stored, properties }
    }

    pub fn stored(&self) -> &StoredTable {
        &self.stored
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.stored.columns.iter().map(|c| c.name.as_str()).collect();
        write!(f, "Scan: {} [{}]", self.stored.name, columns.join(", "))
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    crate::childless!();

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(rows) = context.session_config().get_extension::<Rows>() else {
            return internal_err!("a stored table was scanned where no rows are");
        };
        let positions: Vec<u16> = self.stored.columns.iter().map(|c| c.position).collect();
        let batches = rows.0.scan(self.stored.table, self.stored.version, &positions).map_err(external)?;
        let schema = self.schema();
        let named = Arc::clone(&schema);
        let batches = batches.map(move |batch| {
            // Columns go by the plan's names here, and by the table's in the store.
            batch.and_then(|batch| renamed(&batch, Arc::clone(&named))).map_err(external)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches))))
    }
}

/// The table that a plan's builder sees.
#[derive(Debug)]
pub struct ScannedTable {
    pub stored: StoredTable,
    /// How many workers hold parts of it.
    pub workers: usize,
}

#[async_trait]
impl TableProvider for ScannedTable {
    fn schema(&self) -> SchemaRef {
        self.stored.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut stored = self.stored.clone();
        if let Some(projection) = projection {
            stored.columns = projection.iter().filter_map(|i| self.stored.columns.get(*i).cloned()).collect();
        }
        Ok(Arc::new(ScanExec::new(stored, self.workers)))
    }
}
