//! UNION ALL where its rows meet: all rows of the first input, then all of the next, as PostgreSQL's Append gives them.

use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::stream::{self, StreamExt};
use std::fmt;
use std::sync::Arc;
use toroid_query::column::renamed;
use toroid_query::error::external;

use super::place::Plan;

/// The operator; every input has one stream.
#[derive(Debug)]
pub(super) struct AppendExec {
    inputs: Vec<Plan>,
    properties: Arc<PlanProperties>,
}

impl AppendExec {
    /// In the place of `union`, whose schema all inputs have but for names.
    pub(super) fn new(union: &Plan, inputs: Vec<Plan>) -> AppendExec {
        let single = |input: Plan| match input.output_partitioning().partition_count() {
            1 => input,
            _ => Arc::new(CoalescePartitionsExec::new(input)) as Plan,
        };
        let inputs: Vec<Plan> = inputs.into_iter().map(single).collect();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(union.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        AppendExec { inputs, properties: Arc::new(properties) }
    }
}

impl DisplayAs for AppendExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Append")
    }
}

impl ExecutionPlan for AppendExec {
    fn name(&self) -> &str {
        "AppendExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Plan> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, inputs: Vec<Plan>, _: ReplaceChildrenOptions) -> Result<Plan> {
        let this: Plan = Arc::clone(&self) as Plan;
        Ok(Arc::new(AppendExec::new(&this, inputs)))
    }

    fn with_new_children(self: Arc<Self>, inputs: Vec<Plan>) -> Result<Plan> {
        let this: Plan = Arc::clone(&self) as Plan;
        Ok(Arc::new(AppendExec::new(&this, inputs)))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        // All begin at once, so that workers run side by side and see the same moment, about; each waits for its turn to be read.
        let started = self.inputs.iter().map(|input| input.execute(0, Arc::clone(&context)));
        let started = started.collect::<Result<Vec<_>>>()?;
        let schema = self.schema();
        let named = Arc::clone(&schema);
        let rows =
            stream::iter(started).flatten().map(move |batch| renamed(&batch?, Arc::clone(&named)).map_err(external));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
