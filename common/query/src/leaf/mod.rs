//! Leaves of plans: stored tables, and rows that the proxy has at hand.

mod rows;
mod scan;
mod series;

pub use rows::{Batches, RowSupply, RowsExec, SuppliedTable};
pub use scan::{Rows, ScanColumn, ScanExec, ScannedTable, StoredTable};
pub use series::Series;

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::{Partitioning, PlanProperties};
use std::sync::Arc;

fn properties(schema: SchemaRef, partitions: usize) -> Arc<PlanProperties> {
    Arc::new(
        PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative),
    )
}
