//! How DataFusion plans here: which of its rules run, and with which settings.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::config::SessionConfig;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use futures::FutureExt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use toroid_common::error::{SqlError, SqlResult};
use toroid_query::error::sql_error;

/// Settings for planning and for what runs at the proxy.
fn config() -> SessionConfig {
    let mut options = ConfigOptions::new();
    // One thread merges; workers are what runs side by side.
    options.execution.target_partitions = 1;
    options.execution.collect_statistics = false;
    options.execution.skip_physical_aggregate_schema_check = true;
    let optimizer = &mut options.optimizer;
    optimizer.enable_round_robin_repartition = false;
    optimizer.repartition_aggregations = false;
    optimizer.repartition_joins = false;
    optimizer.repartition_sorts = false;
    optimizer.repartition_windows = false;
    // They link operators by shared memory, which does not reach into a fragment.
    optimizer.enable_dynamic_filter_pushdown = false;
    optimizer.enable_topk_dynamic_filter_pushdown = false;
    optimizer.enable_join_dynamic_filter_pushdown = false;
    optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // Uncorrelated subqueries ran before; what is left becomes joins.
    optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    SessionConfig::from(options)
}

static STATE: LazyLock<SessionState> = LazyLock::new(|| {
    let physical: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = vec![Arc::new(EnsureRequirements::new())];
    SessionStateBuilder::new()
        .with_config(config())
        .with_analyzer_rules(Vec::new())
        .with_optimizer_rules(Vec::new())
        .with_physical_optimizer_rules(physical)
        .build()
});

/// No rule here evaluates constants, coerces types or rewrites expressions: their meaning is settled.
static OPTIMIZER: LazyLock<Optimizer> = LazyLock::new(|| {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(OptimizeProjections::new()),
    ];
    Optimizer::with_rules(rules)
});

/// Settings for running what merges at the proxy.
pub(super) fn session_config() -> SessionConfig {
    STATE.config().clone()
}

/// From a logical plan to one that could run on one machine that has all rows.
pub(super) fn physical(logical: LogicalPlan) -> SqlResult<Arc<dyn ExecutionPlan>> {
    let context = OptimizerContext::new_with_config_options(Arc::clone(STATE.config_options())).with_max_passes(1);
    let optimized = OPTIMIZER.optimize(logical, &context, |_, _| {}).map_err(sql_error)?;
    if has_subquery(&optimized)? {
        return Err(SqlError::unsupported("this correlated subquery"));
    }
    let planner = DefaultPhysicalPlanner::default();
    let physical = planner.create_physical_plan(&optimized, &*STATE);
    at_once(physical)?.map_err(sql_error)
}

/// Whether a subquery is left that no rule made a join of.
fn has_subquery(plan: &LogicalPlan) -> SqlResult<bool> {
    let mut found = false;
    let walked = plan.apply(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| {
                Ok(matches!(
                    e,
                    Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::OuterReferenceColumn(..)
                ))
            })?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(sql_error)?;
    Ok(found)
}

/// The result of a future that waits for nothing.
fn at_once<F: Future>(future: F) -> SqlResult<F::Output> {
    let mut future = pin!(future.fuse());
    let mut context = Context::from_waker(Waker::noop());
    // Combinators may yield for fairness though all is ready.
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
    }
    Err(SqlError::internal("planning waits for something"))
}
