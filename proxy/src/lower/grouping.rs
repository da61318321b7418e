//! GROUP BY, aggregates, DISTINCT and DISTINCT ON.

use super::{Lowering, Result, built};
use crate::bound::{AggregateCall, BoundExpr, ColId, Rel, SortKey};
use datafusion::common::Column;
use datafusion::logical_expr::expr::{AggregateFunction, GroupingSet};
use datafusion::logical_expr::{Expr as Df, LogicalPlan, LogicalPlanBuilder, lit};
use std::sync::Arc;
use toroid_common::error::SqlError;
use toroid_common::func::aggregate::Aggregate;
use toroid_common::types::SqlType;
use toroid_query::aggregate::{AggregateKind, Definition, OrderKey, aggregate};
use toroid_query::scalar::order::Comparison;

impl Lowering<'_> {
    pub(super) fn aggregate(
        &mut self,
        input: &Rel,
        groups: &[(ColId, BoundExpr)],
        sets: Option<&[Vec<usize>]>,
        aggregates: &[(ColId, AggregateCall)],
    ) -> Result<LogicalPlan> {
        let plan = self.rel(input)?;
        let computed = groups
            .iter()
            .map(|(id, expr)| Ok((*id, self.expr(expr)?, expr.ty())))
            .collect::<Result<Vec<(ColId, Df, SqlType)>>>()?;
        let mut calls = Vec::with_capacity(aggregates.len());
        for (id, call) in aggregates {
            calls.push((*id, self.aggregate_call(call)?));
        }
        self.grouped(plan, computed, sets, calls)
    }

    /// Groups rows by computed values, which leave under their identities beside the aggregates.
    fn grouped(
        &mut self,
        plan: LogicalPlan,
        groups: Vec<(ColId, Df, SqlType)>,
        sets: Option<&[Vec<usize>]>,
        calls: Vec<(ColId, Df)>,
    ) -> Result<LogicalPlan> {
        let kept: Vec<Df> = plan.schema().columns().into_iter().map(Df::Column).collect();
        let (mut computed, mut keys, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (id, expr, ty) in groups {
            let name = Self::column_name(id);
            let value = match expr {
                Df::Column(column) => column,
                other => {
                    computed.push(other.alias(&name));
                    Column::new_unqualified(&name)
                }
            };
            if Comparison::of(ty) == Comparison::Native {
                keys.push(Df::Column(value.clone()));
                self.columns.insert(id, value);
                continue;
            }
            if sets.is_some() {
                return Err(SqlError::unsupported(format_args!("GROUPING SETS, ROLLUP and CUBE over {ty}")));
            }
            // The key groups; the value itself is the same in all rows of a group as far as PostgreSQL can tell.
            let key = format!("k{}", id.0);
            let key_expr = self.comparable(Df::Column(value.clone()), ty)?;
            computed_key(&mut computed, key_expr, &value, &key);
            keys.push(Df::Column(Column::new_unqualified(&key)));
            let definition = Definition {
                kind: AggregateKind::First,
                args: vec![ty],
                result: ty,
                distinct: false,
                order: Vec::new(),
            };
            outputs.push((id, call_of(definition, vec![Df::Column(value)], None)));
        }
        let plan = self.with_computed(plan, kept, computed)?;
        let keys = match sets {
            None => dedup(keys),
            Some(sets) => {
                let set = |set: &Vec<usize>| set.iter().filter_map(|i| keys.get(*i).cloned()).collect();
                vec![Df::GroupingSet(GroupingSet::GroupingSets(sets.iter().map(set).collect()))]
            }
        };
        let mut calls: Vec<Df> = outputs
            .into_iter()
            .chain(calls)
            .map(|(id, call)| {
                let name = format!("a{}", id.0);
                self.columns.insert(id, Column::new_unqualified(&name));
                call.alias(name)
            })
            .collect();
        if keys.is_empty() && calls.is_empty() {
            calls.push(count_star().alias("a"));
        }
        built(LogicalPlanBuilder::from(plan).aggregate(keys, calls).and_then(LogicalPlanBuilder::build))
    }

    /// Adds computed columns; expressions over columns computed here too are given those columns' expressions by the caller.
    fn with_computed(&mut self, plan: LogicalPlan, kept: Vec<Df>, computed: Vec<Df>) -> Result<LogicalPlan> {
        match computed.is_empty() {
            true => Ok(plan),
            false => {
                let columns = kept.into_iter().chain(computed);
                built(LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build))
            }
        }
    }

    pub(super) fn aggregate_call(&mut self, call: &AggregateCall) -> Result<Df> {
        if call.distinct
            && let Some(arg) = call.args.iter().find(|arg| Comparison::of(arg.ty()) == Comparison::None)
        {
            self.comparable(lit(true), arg.ty())?;
        }
        let order = call.order.iter().map(|key| {
            let (ty, descending, nulls_first) = (key.expr.ty(), key.descending, key.nulls_first);
            self.sortable(lit(true), ty).map(|_| OrderKey { ty, descending, nulls_first })
        });
        let kind = match call.aggregate {
            Aggregate::AnyValue => AggregateKind::First,
            aggregate => AggregateKind::Pg(aggregate),
        };
        let definition = Definition {
            kind,
            args: call.args.iter().map(BoundExpr::ty).collect(),
            result: call.ty,
            distinct: call.distinct,
            order: order.collect::<Result<_>>()?,
        };
        let args = call.args.iter().chain(call.order.iter().map(|key| &key.expr));
        let mut args = args.map(|e| self.expr(e)).collect::<Result<Vec<_>>>()?;
        if args.is_empty() {
            args.push(lit(true));
        }
        let filter = call.filter.as_ref().map(|e| self.condition(e)).transpose()?;
        Ok(call_of(definition, args, filter))
    }

    /// Distinct rows of these columns, which are then the output.
    pub(super) fn distinct(&mut self, plan: LogicalPlan, columns: &[(ColId, SqlType)]) -> Result<LogicalPlan> {
        let groups =
            columns.iter().map(|(id, ty)| Ok((*id, self.column_expr(*id)?, *ty))).collect::<Result<Vec<_>>>()?;
        self.grouped(plan, groups, None, Vec::new())
    }

    /// The first row of each group in the order of `keys`.
    pub(super) fn distinct_on(&mut self, input: &Rel, on: &[BoundExpr], keys: &[SortKey]) -> Result<LogicalPlan> {
        let plan = self.rel(input)?;
        let mut partition = Vec::with_capacity(on.len());
        for expr in on {
            let lowered = self.expr(expr)?;
            partition.push(self.comparable(lowered, expr.ty())?);
        }
        let order = self.sort_keys(keys)?;
        let columns: Vec<Df> = plan.schema().columns().into_iter().map(Df::Column).collect();
        let (plan, number) = self.row_numbers(plan, partition, order.clone())?;
        let first = Df::Column(number).eq(lit(1_u64));
        let builder = LogicalPlanBuilder::from(plan).filter(first).and_then(|b| b.project(columns));
        built(
            builder
                .and_then(|b| if order.is_empty() { Ok(b) } else { b.sort(order) })
                .and_then(LogicalPlanBuilder::build),
        )
    }
}

/// A key column over a value that may be computed in the same projection.
fn computed_key(computed: &mut Vec<Df>, key: Df, value: &Column, name: &str) {
    let source = computed.iter().find_map(|expr| match expr {
        Df::Alias(alias) if value.relation.is_none() && alias.name == value.name => Some((*alias.expr).clone()),
        _ => None,
    });
    let key = match (source, key) {
        (Some(source), Df::ScalarFunction(mut function)) => {
            function.args = vec![source];
            Df::ScalarFunction(function)
        }
        (_, key) => key,
    };
    computed.push(key.alias(name));
}

fn dedup(keys: Vec<Df>) -> Vec<Df> {
    let mut seen: Vec<Df> = Vec::with_capacity(keys.len());
    for key in keys {
        if !seen.contains(&key) {
            seen.push(key);
        }
    }
    seen
}

pub(super) fn call_of(definition: Definition, args: Vec<Df>, filter: Option<Df>) -> Df {
    let udaf = Arc::new(aggregate(definition));
    Df::AggregateFunction(AggregateFunction::new_udf(udaf, args, false, filter.map(Box::new), Vec::new(), None))
}

fn count_star() -> Df {
    let definition = Definition {
        kind: AggregateKind::Pg(Aggregate::CountStar),
        args: Vec::new(),
        result: SqlType::Int8,
        distinct: false,
        order: Vec::new(),
    };
    call_of(definition, vec![lit(true)], None)
}
