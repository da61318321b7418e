//! Window functions.

use super::{Lowering, Result, built};
use crate::bound::{BoundExpr, ColId, FrameBound, FrameUnits, Rel, WindowCall, WindowFunction};
use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions_window::{lead_lag, nth_value, rank, row_number};
use datafusion::logical_expr::expr::{Sort, WindowFunction as DfWindow};
use datafusion::logical_expr::{
    Cast, Expr as Df, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, lit,
};
use std::sync::Arc;
use toroid_common::error::SqlError;
use toroid_common::func::aggregate::Aggregate;
use toroid_common::types::SqlType;
use toroid_query::aggregate::{AggregateKind, Definition, aggregate};

impl Lowering<'_> {
    pub(super) fn windows(&mut self, input: &Rel, columns: &[(ColId, WindowCall)]) -> Result<LogicalPlan> {
        let plan = self.rel(input)?;
        let mut inputs = Inputs { kept: plan.schema().columns(), computed: Vec::new() };
        let mut calls: Vec<Df> = Vec::with_capacity(columns.len());
        let mut results = Vec::with_capacity(columns.len());
        for (id, call) in columns {
            let lowered = self.window_call(call, &mut inputs)?;
            let value = Df::Column(Column::new_unqualified(lowered.schema_name().to_string()));
            if !calls.contains(&lowered) {
                calls.push(lowered);
            }
            let counted =
                matches!(call.function, WindowFunction::RowNumber | WindowFunction::Rank | WindowFunction::DenseRank);
            let value = if counted { Df::Cast(Cast::new(Box::new(value), DataType::Int64)) } else { value };
            results.push((*id, value));
        }
        // The calls' own columns end here: the same call above would have the same name.
        let kept: Vec<Df> = inputs.kept.iter().cloned().map(Df::Column).collect();
        let plan = inputs.project(plan)?;
        let plan = built(LogicalPlanBuilder::window_plan(plan, calls))?;
        let results = results.into_iter().map(|(id, value)| value.alias(self.define(id))).collect::<Vec<_>>();
        let columns = kept.into_iter().chain(results);
        built(LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build))
    }

    fn window_call(&mut self, call: &WindowCall, inputs: &mut Inputs) -> Result<Df> {
        let mut args = Vec::with_capacity(call.args.len());
        for expr in &call.args {
            let lowered = self.expr(expr)?;
            args.push(self.input(lowered, inputs));
        }
        let (function, args): (WindowFunctionDefinition, Vec<Df>) = match call.function {
            WindowFunction::Aggregate(function) => self.window_aggregate(function, call, args),
            WindowFunction::RowNumber => (row_number::row_number_udwf().into(), args),
            WindowFunction::Rank => (rank::rank_udwf().into(), args),
            WindowFunction::DenseRank => (rank::dense_rank_udwf().into(), args),
            WindowFunction::FirstValue => (nth_value::first_value_udwf().into(), args),
            WindowFunction::LastValue => (nth_value::last_value_udwf().into(), args),
            WindowFunction::Lag => (lead_lag::lag_udwf().into(), shift_args(args)?),
            WindowFunction::Lead => (lead_lag::lead_udwf().into(), shift_args(args)?),
        };
        let mut window = DfWindow::new(function, args);
        let mut partition = Vec::with_capacity(call.partition.len());
        for expr in &call.partition {
            let lowered = self.expr(expr)?;
            let key = self.comparable(lowered, expr.ty())?;
            partition.push(self.input(key, inputs));
        }
        let order = self.sort_keys(&call.order)?;
        window.params.partition_by = partition;
        window.params.order_by =
            order.into_iter().map(|key| Sort { expr: self.input(key.expr, inputs), ..key }).collect();
        window.params.window_frame = self.frame(call, &mut window.params.order_by)?;
        Ok(Df::WindowFunction(Box::new(window)))
    }

    /// A column that holds what a window function reads: calls go by their text, and only columns have texts of their own.
    fn input(&mut self, expr: Df, inputs: &mut Inputs) -> Df {
        if matches!(expr, Df::Column(_) | Df::Literal(..)) {
            return expr;
        }
        if let Some((name, _)) = inputs.computed.iter().find(|(_, known)| *known == expr) {
            return Df::Column(Column::new_unqualified(name));
        }
        let name = self.name("i");
        inputs.computed.push((name.clone(), expr));
        Df::Column(Column::new_unqualified(name))
    }

    fn window_aggregate(
        &self,
        function: Aggregate,
        call: &WindowCall,
        mut args: Vec<Df>,
    ) -> (WindowFunctionDefinition, Vec<Df>) {
        let definition = Definition {
            kind: AggregateKind::Pg(function),
            args: call.args.iter().map(BoundExpr::ty).collect(),
            result: call.ty,
            distinct: false,
            order: Vec::new(),
        };
        if args.is_empty() {
            args.push(lit(true));
        }
        (WindowFunctionDefinition::AggregateUDF(Arc::new(aggregate(definition))), args)
    }

    fn frame(&self, call: &WindowCall, order: &mut Vec<Sort>) -> Result<WindowFrame> {
        let Some(frame) = &call.frame else { return Ok(WindowFrame::new((!order.is_empty()).then_some(false))) };
        let units = match frame.units {
            FrameUnits::Rows => WindowFrameUnits::Rows,
            FrameUnits::Range => WindowFrameUnits::Range,
            FrameUnits::Groups => WindowFrameUnits::Groups,
        };
        let (start, end) = (frame_bound(frame.start), frame_bound(frame.end));
        let moving = !matches!(&start, WindowFrameBound::Preceding(value) if value.is_null());
        if moving && !slides(&call.function, call.args.first().map(BoundExpr::ty)) {
            return Err(SqlError::unsupported(
                "this aggregate over a window frame that does not begin with the partition",
            ));
        }
        let frame = WindowFrame::new_bounds(units, start, end);
        built(frame.regularize_order_bys(order))?;
        Ok(frame)
    }

    /// The input with a column that numbers the rows of each partition from 1.
    pub(super) fn row_numbers(
        &mut self,
        plan: LogicalPlan,
        partition: Vec<Df>,
        order: Vec<Sort>,
    ) -> Result<(LogicalPlan, Column)> {
        let mut inputs = Inputs { kept: plan.schema().columns(), computed: Vec::new() };
        let kept: Vec<Df> = inputs.kept.iter().cloned().map(Df::Column).collect();
        let mut window = DfWindow::new(row_number::row_number_udwf(), Vec::new());
        window.params.partition_by = partition.into_iter().map(|e| self.input(e, &mut inputs)).collect();
        window.params.window_frame = WindowFrame::new((!order.is_empty()).then_some(false));
        window.params.order_by =
            order.into_iter().map(|key| Sort { expr: self.input(key.expr, &mut inputs), ..key }).collect();
        let call = Df::WindowFunction(Box::new(window));
        let number = Df::Column(Column::new_unqualified(call.schema_name().to_string()));
        let plan = inputs.project(plan)?;
        let plan = built(LogicalPlanBuilder::window_plan(plan, vec![call]))?;
        let name = self.name("n");
        let columns = kept.into_iter().chain([number.alias(&name)]);
        let plan = built(LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build))?;
        Ok((plan, Column::new_unqualified(name)))
    }
}

/// What window functions read: the input's columns, and computed ones.
struct Inputs {
    kept: Vec<Column>,
    computed: Vec<(String, Df)>,
}

impl Inputs {
    fn project(self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if self.computed.is_empty() {
            return Ok(plan);
        }
        let computed = self.computed.into_iter().map(|(name, expr)| expr.alias(name));
        let columns: Vec<Df> = self.kept.into_iter().map(Df::Column).chain(computed).collect();
        built(LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build))
    }
}

/// Whether a function can forget rows that leave its frame.
fn slides(function: &WindowFunction, arg: Option<SqlType>) -> bool {
    match function {
        WindowFunction::Aggregate(Aggregate::Count | Aggregate::CountStar) => true,
        WindowFunction::Aggregate(Aggregate::Sum | Aggregate::Avg) => {
            matches!(arg, Some(SqlType::Int2 | SqlType::Int4 | SqlType::Int8))
        }
        WindowFunction::Aggregate(_) => false,
        WindowFunction::RowNumber
        | WindowFunction::Rank
        | WindowFunction::DenseRank
        | WindowFunction::Lag
        | WindowFunction::Lead
        | WindowFunction::FirstValue
        | WindowFunction::LastValue => true,
    }
}

/// `lag` and `lead` count rows in bigint here and take a constant.
fn shift_args(args: Vec<Df>) -> Result<Vec<Df>> {
    let mut args = args.into_iter();
    let value = args.next().ok_or_else(|| SqlError::internal("lag or lead without an argument"))?;
    let offset = match args.next() {
        None => 1,
        Some(Df::Literal(ScalarValue::Int32(Some(rows)), _)) => i64::from(rows),
        Some(Df::Literal(ScalarValue::Int64(Some(rows)), _)) => rows,
        Some(_) => return Err(SqlError::unsupported("lag or lead by an offset that is no constant")),
    };
    let default = args.next();
    if default.as_ref().is_some_and(|e| !matches!(e, Df::Literal(_, _))) {
        return Err(SqlError::unsupported("lag or lead with a default that is no constant"));
    }
    Ok([Some(value), Some(lit(offset)), default].into_iter().flatten().collect())
}

fn frame_bound(bound: FrameBound) -> WindowFrameBound {
    match bound {
        FrameBound::Preceding(rows) => WindowFrameBound::Preceding(ScalarValue::UInt64(rows)),
        FrameBound::CurrentRow => WindowFrameBound::CurrentRow,
        FrameBound::Following(rows) => WindowFrameBound::Following(ScalarValue::UInt64(rows)),
    }
}
