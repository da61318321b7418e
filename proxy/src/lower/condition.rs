//! Conditions and the subqueries in them: EXISTS, IN, ANY and ALL become joins where their outcome decides whether a row stays.

use super::apply::{Apply, Runner, initial_kind};
use super::expression::{has_subquery, truth};
use super::initial::Initial;
use super::shape::below_list;
use super::{Lowering, Result, built};
use crate::bound::{AggregateCall, BoundExpr, BoundLeaf, ColId, Query, Rel, SortKey, Subquery, SubqueryKind};
use datafusion::common::Spans;
use datafusion::logical_expr::async_udf::AsyncScalarUDF;
use datafusion::logical_expr::expr::{Exists, ScalarFunction};
use datafusion::logical_expr::{Expr as Df, LogicalPlan, LogicalPlanBuilder, Subquery as DfSubquery};
use std::sync::Arc;
use toroid_common::error::SqlError;
use toroid_common::expr::{BoolTest, Expr};
use toroid_common::func::aggregate::Aggregate;
use toroid_common::types::SqlType;

impl Lowering<'_> {
    /// A condition of WHERE, HAVING or ON: true keeps a row, false and NULL alike drop it.
    pub(super) fn condition(&mut self, expr: &BoundExpr) -> Result<Df> {
        match expr {
            _ if self.runner.is_some() || !has_subquery(expr) => self.expr(expr),
            Expr::And(args) => self.conditions(args, true),
            Expr::Or(args) => self.conditions(args, false),
            Expr::Leaf(BoundLeaf::Subquery(subquery)) => match &subquery.kind {
                SubqueryKind::Exists { negated } => self.exists(&subquery.query, *negated, None),
                SubqueryKind::Quantified { arg, op, all } => {
                    let column = self.first_column(&subquery.query)?;
                    let test = Expr::Call { func: *op, args: vec![outer(arg)?, column], ty: SqlType::Bool };
                    // ALL holds where no row fails to pass, and NULL does not pass.
                    let counterexample = || Expr::BoolTest { arg: Box::new(test.clone()), test: BoolTest::NotTrue };
                    let rows = if *all { counterexample() } else { test.clone() };
                    self.exists(&subquery.query, *all, Some(rows))
                }
                SubqueryKind::Scalar | SubqueryKind::Array => self.expr(expr),
            },
            Expr::Not(arg) => match &**arg {
                Expr::Leaf(BoundLeaf::Subquery(subquery)) => match &subquery.kind {
                    SubqueryKind::Exists { negated } => self.exists(&subquery.query, !negated, None),
                    SubqueryKind::Quantified { arg, op, all } => {
                        let column = self.first_column(&subquery.query)?;
                        let test = Expr::Call { func: *op, args: vec![outer(arg)?, column], ty: SqlType::Bool };
                        let wanted = if *all { BoolTest::False } else { BoolTest::NotFalse };
                        let rows = Expr::BoolTest { arg: Box::new(test), test: wanted };
                        self.exists(&subquery.query, !*all, Some(rows))
                    }
                    SubqueryKind::Scalar | SubqueryKind::Array => self.expr(expr),
                },
                _ => self.expr(expr),
            },
            _ => self.expr(expr),
        }
    }

    fn conditions(&mut self, args: &[BoundExpr], and: bool) -> Result<Df> {
        let parts = args.iter().map(|arg| self.condition(arg)).collect::<Result<Vec<_>>>()?;
        let joined = parts.into_iter().reduce(|a, b| if and { a.and(b) } else { a.or(b) });
        Ok(joined.unwrap_or_else(|| truth(Some(and))))
    }

    fn first_column(&self, query: &Query) -> Result<BoundExpr> {
        let column = query.output.first().ok_or_else(|| SqlError::internal("a subquery without columns"))?;
        Ok(Expr::Leaf(BoundLeaf::Column { id: column.id, ty: column.ty.ty }))
    }

    /// `[NOT] EXISTS` of the subquery's rows that pass `filter`, whose columns are the subquery's own and those around it.
    fn exists(&mut self, query: &Query, negated: bool, filter: Option<BoundExpr>) -> Result<Df> {
        // One filter: of two, the join would find the columns of one alone.
        let (input, own) = match (&query.rel, &filter) {
            (Rel::Filter { input, predicate }, Some(_)) => (&**input, Some(predicate)),
            (rel, Some(_)) => (rel, None),
            (rel, None) => (below_list(rel), None),
        };
        let plan = self.rel(input)?;
        let mut conditions = Vec::new();
        for predicate in own.into_iter().chain(&filter) {
            conditions.push(self.condition(predicate)?);
        }
        let plan = match conditions.into_iter().reduce(Df::and) {
            Some(all) => built(LogicalPlanBuilder::from(plan).filter(all).and_then(LogicalPlanBuilder::build))?,
            None => plan,
        };
        Ok(Df::Exists(Exists::new(subquery_of(plan), negated)))
    }

    /// A subquery's value where it is more than a condition.
    pub(super) fn subquery_value(&mut self, subquery: &Subquery) -> Result<Df> {
        if let Some(runner) = self.runner.clone() {
            return self.applied(subquery, &runner);
        }
        let query = &subquery.query;
        match &subquery.kind {
            SubqueryKind::Scalar => {
                let column = self.first_column(query)?;
                let plan = match is_single_row(&query.rel) {
                    true => self.query(query)?,
                    false => {
                        self.aggregated(query, Aggregate::SingleValue, vec![column.clone()], column.ty(), Vec::new())?
                    }
                };
                Ok(Df::ScalarSubquery(subquery_of(plan)))
            }
            SubqueryKind::Exists { negated } => {
                let plan = self.aggregated(query, Aggregate::CountStar, Vec::new(), SqlType::Int8, Vec::new())?;
                let count = Df::ScalarSubquery(subquery_of(plan));
                let zero = datafusion::logical_expr::lit(0_i64);
                Ok(if *negated { count.eq(zero) } else { count.gt(zero) })
            }
            SubqueryKind::Array => Err(SqlError::unsupported("ARRAY of a correlated subquery")),
            SubqueryKind::Quantified { .. } => {
                Err(SqlError::unsupported("a correlated subquery with IN, ANY or ALL outside of a condition of WHERE"))
            }
        }
    }

    /// A subquery that runs for each set of values that it reads from here.
    fn applied(&mut self, subquery: &Subquery, runner: &Arc<dyn Runner>) -> Result<Df> {
        let column = subquery.query.output.first().map_or(SqlType::Unknown, |c| c.ty.ty);
        let result = match &subquery.kind {
            SubqueryKind::Exists { .. } => SqlType::Bool,
            SubqueryKind::Scalar => column,
            SubqueryKind::Array => column.array().unwrap_or(SqlType::Unknown),
            SubqueryKind::Quantified { arg, op, all } => {
                let rows = Subquery { kind: SubqueryKind::Array, query: subquery.query.clone() };
                let array = Box::new(Expr::Leaf(BoundLeaf::Subquery(Box::new(rows))));
                let test = Expr::Quantified { op: *op, left: arg.clone(), array, all: *all };
                return self.expr(&test);
            }
        };
        self.names += 1;
        let initial = Initial { kind: initial_kind(&subquery.kind), query: subquery.query.clone() };
        let apply = Apply::new(initial, result, runner, self.names);
        let args = apply.outer.iter().map(|(id, _)| self.column_expr(*id)).collect::<Result<Vec<_>>>()?;
        let function = AsyncScalarUDF::new(Arc::new(apply)).into_scalar_udf();
        Ok(Df::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args)))
    }

    /// A filter whose subqueries run only for rows that pass its other conditions.
    pub(super) fn applied_filter(&mut self, input: &Rel, predicate: &BoundExpr) -> Result<LogicalPlan> {
        let parts = match predicate {
            Expr::And(args) => args.clone(),
            other => vec![other.clone()],
        };
        let (costly, cheap): (Vec<_>, Vec<_>) = parts.into_iter().partition(has_subquery);
        let mut plan = self.rel(input)?;
        if !cheap.is_empty() {
            let cheap = self.expr(&Expr::And(cheap))?;
            plan = built(LogicalPlanBuilder::from(plan).filter(cheap).and_then(LogicalPlanBuilder::build))?;
        }
        for condition in costly {
            let (id, condition) = (self.fresh(), self.expr(&condition)?);
            plan = self.project(plan, vec![(id, condition)])?;
            let passed = self.column_expr(id)?;
            plan = built(LogicalPlanBuilder::from(plan).filter(passed).and_then(LogicalPlanBuilder::build))?;
        }
        Ok(plan)
    }

    /// One row: the aggregate over the subquery.
    fn aggregated(
        &mut self,
        query: &Query,
        aggregate: Aggregate,
        args: Vec<BoundExpr>,
        ty: SqlType,
        order: Vec<SortKey>,
    ) -> Result<LogicalPlan> {
        let call = AggregateCall { aggregate, args, ty, distinct: false, filter: None, order };
        let id = self.fresh();
        let rel = Rel::Aggregate {
            input: Box::new(query.rel.clone()),
            groups: Vec::new(),
            sets: None,
            aggregates: vec![(id, call)],
        };
        let plan = self.rel(&rel)?;
        let column = self.column_expr(id)?;
        built(LogicalPlanBuilder::from(plan).project([column]).and_then(LogicalPlanBuilder::build))
    }

    /// An identity that no column of the statement has.
    pub(super) fn fresh(&mut self) -> ColId {
        self.names += 1;
        ColId(u32::MAX - self.names)
    }
}

/// Whether a relation has exactly one row: an aggregate without groups, whatever is computed from it.
fn is_single_row(rel: &Rel) -> bool {
    match rel {
        Rel::Aggregate { groups, sets, .. } => groups.is_empty() && sets.is_none(),
        Rel::Project { input, .. } => is_single_row(input),
        Rel::Unit => true,
        _ => false,
    }
}

fn subquery_of(plan: LogicalPlan) -> DfSubquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    DfSubquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() }
}

/// An expression of the enclosing query as seen from inside the subquery.
fn outer(expr: &BoundExpr) -> Result<BoundExpr> {
    expr.clone().map_leaves(&mut |leaf| match leaf {
        BoundLeaf::Column { id, ty } => Ok(Expr::Leaf(BoundLeaf::Outer { id, depth: 1, ty })),
        BoundLeaf::Outer { id, depth, ty } => Ok(Expr::Leaf(BoundLeaf::Outer { id, depth: depth + 1, ty })),
        BoundLeaf::Subquery(_) => Err(SqlError::unsupported("a subquery as the left side of IN, ANY or ALL")),
    })
}
