//! UNION, INTERSECT and EXCEPT, with and without ALL.

use super::{Lowering, Result, built};
use crate::bound::{ColId, Query, SetOp};
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::logical_expr::{Expr as Df, LogicalPlan, LogicalPlanBuilder};
use toroid_common::types::SqlType;

impl Lowering<'_> {
    pub(super) fn set_operation(
        &mut self,
        op: SetOp,
        all: bool,
        left: &Query,
        right: &Query,
        columns: &[(ColId, SqlType)],
    ) -> Result<LogicalPlan> {
        let left = self.side(left, columns)?;
        let right = self.side(right, columns)?;
        for (id, _) in columns {
            self.define(*id);
        }
        match (op, all) {
            (SetOp::Union, _) => {
                let plan = built(LogicalPlanBuilder::from(left).union(right).and_then(LogicalPlanBuilder::build))?;
                match all {
                    true => Ok(plan),
                    false => self.distinct(plan, columns),
                }
            }
            (SetOp::Intersect, false) => {
                let left = self.distinct(left, columns)?;
                self.matched(left, right, columns, JoinType::LeftSemi, None)
            }
            (SetOp::Except, false) => {
                let left = self.distinct(left, columns)?;
                self.matched(left, right, columns, JoinType::LeftAnti, None)
            }
            // The nth of equal rows on the left meets the nth on the right.
            (SetOp::Intersect, true) => self.numbered(left, right, columns, JoinType::LeftSemi),
            (SetOp::Except, true) => self.numbered(left, right, columns, JoinType::LeftAnti),
        }
    }

    /// One input with its output under the operation's column names.
    fn side(&mut self, query: &Query, columns: &[(ColId, SqlType)]) -> Result<LogicalPlan> {
        let plan = self.rel(&query.rel)?;
        let exprs = query
            .output
            .iter()
            .zip(columns)
            .map(|(from, (id, _))| Ok(self.column_expr(from.id)?.alias(Self::column_name(*id))))
            .collect::<Result<Vec<_>>>()?;
        built(LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build))
    }

    fn keys(&mut self, columns: &[(ColId, SqlType)]) -> Result<Vec<Df>> {
        columns
            .iter()
            .map(|(id, ty)| self.comparable(Df::Column(Column::new_unqualified(Self::column_name(*id))), *ty))
            .collect()
    }

    fn numbered(
        &mut self,
        left: LogicalPlan,
        right: LogicalPlan,
        columns: &[(ColId, SqlType)],
        join: JoinType,
    ) -> Result<LogicalPlan> {
        let keys = self.keys(columns)?;
        let (left, left_number) = self.row_numbers(left, keys.clone(), Vec::new())?;
        let (right, right_number) = self.row_numbers(right, keys, Vec::new())?;
        self.matched(left, right, columns, join, Some((left_number, right_number)))
    }

    /// Left rows with (or without) an equal one on the right; NULLs are equal here.
    fn matched(
        &mut self,
        left: LogicalPlan,
        right: LogicalPlan,
        columns: &[(ColId, SqlType)],
        join: JoinType,
        numbers: Option<(Column, Column)>,
    ) -> Result<LogicalPlan> {
        let mut keys = Vec::with_capacity(columns.len() + 1);
        for (id, ty) in columns {
            let value = self.column_expr(*id)?;
            keys.push(self.comparable(value, *ty)?);
        }
        // Right columns get names of their own; the left ones go on under theirs.
        let (left_keys, left_names) =
            named("l", keys.iter().cloned().chain(numbers.iter().map(|n| Df::Column(n.0.clone()))));
        let plain: Vec<Df> = columns
            .iter()
            .map(|(id, ty)| self.comparable(Df::Column(Column::new_unqualified(Self::column_name(*id))), *ty))
            .collect::<Result<_>>()?;
        let (right_keys, right_names) =
            named("r", plain.into_iter().chain(numbers.iter().map(|n| Df::Column(n.1.clone()))));
        let kept: Vec<Df> = left.schema().columns().into_iter().map(Df::Column).collect();
        let left = built(LogicalPlanBuilder::from(left).project(kept.iter().cloned().chain(left_keys)))?;
        let right = built(LogicalPlanBuilder::from(right).project(right_keys).and_then(LogicalPlanBuilder::build))?;
        let on = (left_names, right_names);
        let joined = left.join_detailed(right, join, on, None, NullEquality::NullEqualsNull);
        built(joined.and_then(|b| b.project(kept)).and_then(LogicalPlanBuilder::build))
    }
}

/// The expressions under new names.
fn named(prefix: &str, exprs: impl Iterator<Item = Df>) -> (Vec<Df>, Vec<Column>) {
    let (mut aliased, mut names) = (Vec::new(), Vec::new());
    for (i, expr) in exprs.enumerate() {
        let name = format!("{prefix}{i}");
        aliased.push(expr.alias(&name));
        names.push(Column::new_unqualified(name));
    }
    (aliased, names)
}
