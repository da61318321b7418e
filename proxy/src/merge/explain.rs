//! A distributed plan as EXPLAIN shows it.

use super::place::Plan;
use super::remote::RemoteExec;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use std::any::Any;

/// One line per operator; what a fragment does stands below its place in the plan.
pub(super) fn explain(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    walk(plan, 0, &mut lines);
    lines
}

fn walk(plan: &Plan, depth: usize, lines: &mut Vec<String>) {
    let arrow = if depth == 0 { String::new() } else { format!("{}->  ", "  ".repeat(depth)) };
    let line = DisplayableExecutionPlan::new(plan.as_ref()).one_line().to_string();
    lines.push(format!("{arrow}{}", line.trim_end()));
    let any: &dyn Any = plan.as_ref();
    if let Some(remote) = any.downcast_ref::<RemoteExec>() {
        walk(remote.fragment(), depth + 1, lines);
    }
    for child in plan.children() {
        walk(child, depth + 1, lines);
    }
}
