//! Conditions in the order written: what could fail on a row is not evaluated where an earlier condition has dropped it.

use super::place::Plan;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::expressions::{case, lit};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, split_conjunction};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use std::any::Any;
use std::sync::Arc;
use toroid_common::error::SqlResult;
use toroid_query::error::sql_error;
use toroid_query::scalar::{ScalarKind, kind_of};

/// The filter over a new input.
pub(super) fn filter(filter: &FilterExec, input: Plan) -> SqlResult<Plan> {
    let parts = split_conjunction(filter.predicate());
    let predicate = match parts.iter().skip(1).any(|part| may_fail(part)) {
        true => in_order(&parts)?,
        false => Arc::clone(filter.predicate()),
    };
    let rebuilt = FilterExecBuilder::from(filter).with_input(input).with_predicate(predicate).build();
    Ok(Arc::new(rebuilt.map_err(sql_error)?))
}

/// `CASE WHEN first THEN CASE WHEN second THEN … ELSE false END ELSE false END`
fn in_order(parts: &[&Arc<dyn PhysicalExpr>]) -> SqlResult<Arc<dyn PhysicalExpr>> {
    let mut parts = parts.iter().rev();
    let mut rest = parts.next().map_or_else(|| lit(true), |part| Arc::clone(part));
    for part in parts {
        let no = lit(ScalarValue::Boolean(Some(false)));
        rest = case(None, vec![(Arc::clone(part), rest)], Some(no)).map_err(sql_error)?;
    }
    Ok(rest)
}

fn may_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut found = false;
    // Nothing in this walk fails.
    let _ = expr.apply(|node| {
        let any: &dyn Any = node.as_ref();
        if let Some(function) = any.downcast_ref::<ScalarFunctionExpr>() {
            found |= !matches!(kind_of(function.fun()), Some(ScalarKind::Order(_)));
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
