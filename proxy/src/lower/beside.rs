//! A correlated subquery beside the rows around it: those rows are numbered and joined to the subquery's, whose operators then work within each number.

use super::expression::{has_subquery, may_fail};
use super::initial::reads_outside;
use super::shape::leaf;
use super::{Lowering, Result};
use crate::bound::{
    AggregateCall, BoundExpr, BoundLeaf, ColId, JoinKind, OutputColumn, Query, Rel, SetFunction, SortKey, SubqueryKind,
    WindowCall, WindowFunction, counted,
};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::expr::{BoolTest, Expr};
use toroid_common::func::aggregate::Aggregate;
use toroid_common::func::{equal_of, less_of};
use toroid_common::types::SqlType;

/// Rows around a subquery and the subquery's rows beside them. Each row around it is here at least once.
pub(super) struct Beside {
    pub(super) rel: Rel,
    /// The number of the row around the subquery.
    pub(super) number: ColId,
    /// The columns of the rows around.
    carried: Vec<(ColId, SqlType)>,
    /// Whether the subquery has this row; without it, the subquery has exactly one row for each one around it.
    pub(super) marker: Option<BoundExpr>,
    /// The order of the subquery's rows.
    order: Vec<SortKey>,
}

impl Lowering<'_> {
    /// Numbers the rows around a subquery. Where `guard` does not hold, the subquery's value is of no interest.
    pub(super) fn beside(&mut self, around: Rel, guard: Option<BoundExpr>) -> Result<Beside> {
        let carried = around.columns();
        let number = self.fresh();
        let rel = numbered(around, number, Vec::new(), Vec::new());
        Ok(Beside { rel, number, carried, marker: guard, order: Vec::new() })
    }

    /// Computes a subquery for each row of `around`: a relation with the same rows, and the expression of the value.
    pub(super) fn apply(
        &mut self,
        around: Rel,
        kind: SubqueryKind,
        query: Query,
        guard: Option<BoundExpr>,
    ) -> Result<(Rel, BoundExpr)> {
        let beside = self.beside(around, guard)?;
        let mut beside = self.rows_of(beside, query.rel)?;
        let column = query.output.first().map(column_of);
        let missing = || SqlError::internal("a subquery without columns");
        match kind {
            SubqueryKind::Scalar => {
                let column = column.ok_or_else(missing)?;
                if beside.marker.is_none() {
                    return Ok((beside.rel, column));
                }
                let (rel, value) = self.folded(beside, Aggregate::SingleValue, column)?;
                Ok((rel, leaf(value.0, value.1)))
            }
            SubqueryKind::Exists { negated } => {
                let marker = beside.marker.take().unwrap_or_else(|| truth(true));
                let (rel, value) = self.folded(beside, Aggregate::BoolOr, marker)?;
                let test = if negated { BoolTest::NotTrue } else { BoolTest::True };
                Ok((rel, Expr::BoolTest { arg: Box::new(leaf(value.0, value.1)), test }))
            }
            SubqueryKind::Array => {
                let column = column.ok_or_else(missing)?;
                let (rel, (id, ty)) = self.folded(beside, Aggregate::ArrayAgg, column)?;
                let empty = Expr::Const { value: Datum::Array(Vec::new()), ty };
                Ok((rel, Expr::Coalesce { args: vec![leaf(id, ty), empty], ty }))
            }
            SubqueryKind::Quantified { arg, op, all } => {
                let test = Expr::Call { func: op, args: vec![*arg, column.ok_or_else(missing)?], ty: SqlType::Bool };
                self.quantified_over(beside, test, all)
            }
        }
    }

    /// ANY is true where one row passes, and unknown where none does but one might; ALL is the same of failing.
    fn quantified_over(&mut self, mut beside: Beside, test: BoundExpr, all: bool) -> Result<(Rel, BoundExpr)> {
        let (outcome, known, unknown) = (self.fresh(), self.fresh(), self.fresh());
        let outcome_column = || Box::new(leaf(outcome, SqlType::Bool));
        let marker = beside.marker.take();
        let guarded = guarded(test, marker.as_ref(), true);
        beside.rel = projected(beside.rel, vec![(outcome, guarded)]);
        let decides = if all { BoolTest::False } else { BoolTest::True };
        let decided = Expr::BoolTest { arg: outcome_column(), test: decides };
        let open = Expr::BoolTest { arg: outcome_column(), test: BoolTest::Unknown };
        let open = Expr::And(marker.into_iter().chain([open]).collect());
        let calls = vec![(known, call(Aggregate::BoolOr, decided)), (unknown, call(Aggregate::BoolOr, open))];
        let rel = self.regrouped(beside, calls);
        let when = |id: ColId| Expr::BoolTest { arg: Box::new(leaf(id, SqlType::Bool)), test: BoolTest::True };
        let null = Expr::Const { value: Datum::Null, ty: SqlType::Bool };
        let value = Expr::Case {
            whens: vec![(when(known), truth(!all)), (when(unknown), null)],
            otherwise: Some(Box::new(truth(all))),
            ty: SqlType::Bool,
        };
        Ok((rel, value))
    }

    /// One value of the subquery's rows for each row around.
    fn folded(&mut self, beside: Beside, aggregate: Aggregate, arg: BoundExpr) -> Result<(Rel, (ColId, SqlType))> {
        let ty = match aggregate {
            Aggregate::ArrayAgg => {
                let missing = || SqlError::unsupported(format_args!("ARRAY of a subquery of type {}", arg.ty()));
                arg.ty().array().ok_or_else(missing)?
            }
            _ => arg.ty(),
        };
        let mut call = AggregateCall { ty, ..call(aggregate, arg) };
        call.filter.clone_from(&beside.marker);
        if aggregate == Aggregate::ArrayAgg {
            call.order.clone_from(&beside.order);
        }
        let id = self.fresh();
        Ok((self.regrouped(beside, vec![(id, call)]), (id, ty)))
    }

    /// One row for each row around, with these aggregates over the subquery's rows.
    fn regrouped(&mut self, beside: Beside, mut aggregates: Vec<(ColId, AggregateCall)>) -> Rel {
        aggregates.extend(carried_calls(&beside.carried));
        let groups = vec![(beside.number, leaf(beside.number, SqlType::Int8))];
        Rel::Aggregate { input: Box::new(beside.rel), groups, sets: None, aggregates }
    }

    /// The rows of a relation that reads columns around it.
    pub(super) fn rows_of(&mut self, beside: Beside, rel: Rel) -> Result<Beside> {
        if !reads_outside(&rel) {
            return self.joined(beside, rel, None);
        }
        match rel {
            Rel::Filter { input, predicate } if !reads_outside(&input) && !has_subquery(&predicate) => {
                self.joined(beside, *input, Some(near(predicate)))
            }
            Rel::Filter { input, predicate } => {
                let beside = self.rows_of(beside, *input)?;
                self.restricted(beside, predicate)
            }
            Rel::Project { input, columns } => {
                let beside = self.rows_of(beside, *input)?;
                self.computed(beside, columns)
            }
            Rel::Aggregate { input, groups, sets: None, aggregates } => {
                let beside = self.rows_of(beside, *input)?;
                self.aggregated_beside(beside, groups, aggregates)
            }
            Rel::Window { input, columns } => {
                let beside = self.rows_of(beside, *input)?;
                self.windows_beside(beside, columns)
            }
            Rel::Distinct { input, columns } => {
                let beside = self.rows_of(beside, *input)?;
                let partition = columns.iter().map(|(id, ty)| leaf(*id, *ty)).collect();
                let mut beside = self.cut(beside, partition, Vec::new(), None, 1)?;
                beside.order = Vec::new();
                Ok(beside)
            }
            Rel::DistinctOn { input, on, keys } => {
                let beside = self.rows_of(beside, *input)?;
                let beside = self.ordered(beside, keys)?;
                let on: Vec<BoundExpr> = on.into_iter().map(near).collect();
                let order = beside.order.clone();
                self.cut(beside, on, order, None, 1)
            }
            Rel::Sort { input, keys } => {
                let beside = self.rows_of(beside, *input)?;
                self.ordered(beside, keys)
            }
            Rel::Limit { input, limit, offset } => {
                let beside = self.rows_of(beside, *input)?;
                self.limited(beside, limit.map(near).as_ref(), offset.map(near).as_ref())
            }
            Rel::Derived { query, columns } => {
                let beside = self.rows_of(beside, query.rel)?;
                let renamed = query.output.iter().zip(columns).map(|(from, id)| (id, column_of(from))).collect();
                Ok(Beside { rel: projected(beside.rel, renamed), ..beside })
            }
            Rel::Join { kind, left, right, on, lateral } => self.join_beside(beside, kind, *left, *right, on, lateral),
            Rel::Values { columns, rows } => {
                let (ids, types): (Vec<ColId>, Vec<SqlType>) = columns.iter().map(|(id, ty)| (*id, ty.ty)).unzip();
                self.values_beside(beside, &ids, &types, &rows)
            }
            Rel::Aggregate { sets: Some(_), .. } => Err(unsupported("GROUPING SETS")),
            Rel::SetOp { .. } | Rel::Lock { .. } => Err(unsupported("a set operation or a locking clause")),
            Rel::Unnest { input, arrays, .. } => {
                self.rows_of(beside, *input).and_then(|b| self.elements_beside(b, arrays))
            }
            Rel::Series { function: SetFunction::Unnest, args, column, ordinality } => {
                let mut arrays: Vec<(ColId, BoundExpr)> = args.into_iter().map(|array| (column.0, array)).collect();
                arrays.extend(counted(&arrays, ordinality)?);
                self.elements_beside(beside, arrays)
            }
            Rel::Series { .. } => Err(unsupported("a function in FROM")),
            Rel::Unit | Rel::Scan { .. } | Rel::Virtual { .. } => Err(SqlError::internal("a leaf reads outside")),
        }
    }

    /// Sets rows that stand alone beside those that are there, where the condition holds.
    fn joined(&mut self, mut beside: Beside, rel: Rel, on: Option<BoundExpr>) -> Result<Beside> {
        if rel == Rel::Unit {
            return match on {
                Some(on) => self.restricted(beside, on),
                None => Ok(beside),
            };
        }
        let there = self.fresh();
        let right = projected(self.unnested_rel(rel)?, vec![(there, truth(true))]);
        let mut conditions: Vec<BoundExpr> = beside.marker.take().into_iter().collect();
        match on {
            Some(Expr::And(args)) => conditions.extend(args),
            Some(on) => conditions.push(on),
            None => {}
        }
        beside.rel = left_join(beside.rel, right, conditions);
        beside.marker = Some(Expr::IsNull { arg: Box::new(leaf(there, SqlType::Bool)), negated: true });
        beside.order = Vec::new();
        Ok(beside)
    }

    fn join_beside(
        &mut self,
        beside: Beside,
        kind: JoinKind,
        left: Rel,
        right: Rel,
        on: Option<BoundExpr>,
        lateral: bool,
    ) -> Result<Beside> {
        if lateral && reads_outside(&right) {
            return Err(unsupported("LATERAL"));
        }
        let (first, second) = (reads_outside(&left), reads_outside(&right));
        let (inner, outer) = match kind {
            JoinKind::Inner | JoinKind::Cross if second => (right, left),
            JoinKind::Right => (right, left),
            JoinKind::Inner | JoinKind::Cross | JoinKind::Left | JoinKind::Full => (left, right),
        };
        if (first && second) || (kind == JoinKind::Full) || reads_outside(&outer) {
            return Err(unsupported("a join of relations that both read columns around it"));
        }
        let beside = self.rows_of(beside, inner)?;
        let late = on.as_ref().is_some_and(has_subquery);
        match kind {
            JoinKind::Inner | JoinKind::Cross if late => {
                let beside = self.joined(beside, outer, None)?;
                on.map_or_else(|| Err(SqlError::internal("no condition")), |on| self.restricted(beside, on))
            }
            JoinKind::Inner | JoinKind::Cross => self.joined(beside, outer, on.map(near)),
            _ if late => Err(unsupported("an outer join on a condition with a subquery")),
            _ => {
                let conditions = beside.marker.iter().cloned().chain(on.map(near)).collect();
                let right = self.unnested_rel(outer)?;
                // Several rows for one around it: all of them are the subquery's where the first was.
                let marker = Some(beside.marker.unwrap_or_else(|| truth(true)));
                Ok(Beside { rel: left_join(beside.rel, right, conditions), marker, order: Vec::new(), ..beside })
            }
        }
    }

    /// Keeps of the subquery's rows those that pass.
    pub(super) fn restricted(&mut self, mut beside: Beside, predicate: BoundExpr) -> Result<Beside> {
        let mut predicate = near(predicate);
        beside.rel = self.replaced(beside.rel, [&mut predicate], beside.marker.as_ref())?;
        let passes = self.fresh();
        let value = guarded(predicate, beside.marker.as_ref(), true);
        let value = Expr::BoolTest { arg: Box::new(value), test: BoolTest::True };
        beside.rel = projected(beside.rel, vec![(passes, value)]);
        beside.marker = Some(leaf(passes, SqlType::Bool));
        Ok(beside)
    }

    fn computed(&mut self, mut beside: Beside, added: Vec<(ColId, BoundExpr)>) -> Result<Beside> {
        let mut added: Vec<(ColId, BoundExpr)> = added.into_iter().map(|(id, e)| (id, near(e))).collect();
        beside.rel = self.replaced(beside.rel, added.iter_mut().map(|(_, e)| e), beside.marker.as_ref())?;
        let marker = beside.marker.as_ref();
        let added = added.into_iter().map(|(id, e)| (id, guarded(e, marker, false))).collect();
        beside.rel = projected(beside.rel, added);
        Ok(beside)
    }

    /// The elements of arrays for each of the subquery's rows.
    fn elements_beside(&mut self, mut beside: Beside, arrays: Vec<(ColId, BoundExpr)>) -> Result<Beside> {
        let mut arrays: Vec<(ColId, BoundExpr)> = arrays.into_iter().map(|(id, e)| (id, near(e))).collect();
        beside.rel = self.replaced(beside.rel, arrays.iter_mut().map(|(_, e)| e), beside.marker.as_ref())?;
        for (_, array) in &mut arrays {
            *array = guarded(array.clone(), beside.marker.as_ref(), false);
        }
        // A number for each element: none says that the row beside has no elements.
        let place = self.fresh();
        arrays.extend(counted(&arrays, Some(place))?);
        let marker = Expr::IsNull { arg: Box::new(leaf(place, SqlType::Int8)), negated: true };
        let rel = Rel::Unnest { input: Box::new(beside.rel), arrays, keeps: true };
        Ok(Beside { rel, marker: Some(marker), order: Vec::new(), ..beside })
    }

    fn ordered(&mut self, mut beside: Beside, keys: Vec<SortKey>) -> Result<Beside> {
        let ids: Vec<ColId> = keys.iter().map(|_| self.fresh()).collect();
        let added = ids.iter().zip(&keys).map(|(id, key)| (*id, key.expr.clone())).collect();
        beside = self.computed(beside, added)?;
        let keys = keys.into_iter().zip(ids);
        beside.order = keys.map(|(key, id)| SortKey { expr: leaf(id, key.expr.ty()), ..key }).collect();
        Ok(beside)
    }

    fn aggregated_beside(
        &mut self,
        beside: Beside,
        groups: Vec<(ColId, BoundExpr)>,
        aggregates: Vec<(ColId, AggregateCall)>,
    ) -> Result<Beside> {
        let mut aggregates = aggregates;
        let mut beside = self.computed(beside, groups.clone())?;
        for (_, call) in &mut aggregates {
            let order = call.order.iter_mut().map(|key| &mut key.expr);
            let own: Vec<&mut BoundExpr> = call.args.iter_mut().chain(&mut call.filter).chain(order).collect();
            let mut own = own;
            for expr in &mut own {
                **expr = near((*expr).clone());
            }
            beside.rel = self.replaced(beside.rel, own, beside.marker.as_ref())?;
            if let Some(marker) = &beside.marker {
                for arg in &mut call.args {
                    *arg = guarded(arg.clone(), Some(marker), false);
                }
                let filter = call.filter.take().unwrap_or_else(|| truth(true));
                call.filter = Some(Expr::And(vec![marker.clone(), guarded(filter, Some(marker), false)]));
            }
        }
        aggregates.extend(carried_calls(&beside.carried));
        let mut keys = vec![(beside.number, leaf(beside.number, SqlType::Int8))];
        let marker = match (groups.is_empty(), beside.marker.take()) {
            (true, _) => None,
            (false, marker) => {
                let id = self.fresh();
                keys.push((id, marker.unwrap_or_else(|| truth(true))));
                Some(leaf(id, SqlType::Bool))
            }
        };
        keys.extend(groups.into_iter().map(|(id, e)| (id, leaf(id, e.ty()))));
        let rel = Rel::Aggregate { input: Box::new(beside.rel), groups: keys, sets: None, aggregates };
        Ok(Beside { rel, marker, order: Vec::new(), ..beside })
    }

    fn windows_beside(&mut self, mut beside: Beside, columns: Vec<(ColId, WindowCall)>) -> Result<Beside> {
        let mut columns = columns;
        for (_, call) in &mut columns {
            let order = call.order.iter_mut().map(|key| &mut key.expr);
            let mut own: Vec<&mut BoundExpr> = call.args.iter_mut().chain(&mut call.partition).chain(order).collect();
            for expr in &mut own {
                **expr = guarded(near((*expr).clone()), beside.marker.as_ref(), false);
            }
            beside.rel = self.replaced(beside.rel, own, beside.marker.as_ref())?;
            call.partition.extend(within(&beside));
        }
        beside.rel = Rel::Window { input: Box::new(beside.rel), columns };
        Ok(beside)
    }

    /// Keeps the first rows of each partition, which lie within what is there for one row around.
    fn cut(
        &mut self,
        mut beside: Beside,
        partition: Vec<BoundExpr>,
        order: Vec<SortKey>,
        offset: Option<i64>,
        last: i64,
    ) -> Result<Beside> {
        let place = self.fresh();
        let partition = within(&beside).into_iter().chain(partition).collect();
        beside.rel = numbered(beside.rel, place, partition, order);
        let less = less_of(SqlType::Int8)?;
        let count = |n: i64| Expr::Const { value: Datum::Int8(n), ty: SqlType::Int8 };
        let place = || leaf(place, SqlType::Int8);
        let late = Expr::Call { func: less, args: vec![count(last), place()], ty: SqlType::Bool };
        let mut kept = vec![Expr::Not(Box::new(late))];
        kept.extend(offset.map(|n| Expr::Call { func: less, args: vec![count(n), place()], ty: SqlType::Bool }));
        let kept = beside.marker.take().into_iter().chain(kept).collect();
        beside.marker = Some(Expr::And(kept));
        Ok(beside)
    }

    fn limited(&mut self, beside: Beside, limit: Option<&BoundExpr>, offset: Option<&BoundExpr>) -> Result<Beside> {
        let fetch = self.row_count(limit, "LIMIT", SqlState::INVALID_ROW_COUNT_IN_LIMIT)?;
        let skip = self.row_count(offset, "OFFSET", SqlState::INVALID_ROW_COUNT_IN_OFFSET)?;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let skip = count(skip.unwrap_or(0));
        let last = fetch.map_or(i64::MAX, |fetch| count(fetch).saturating_add(skip));
        let order = beside.order.clone();
        self.cut(beside, Vec::new(), order, (skip > 0).then_some(skip), last)
    }

    /// VALUES whose rows read columns around it: as many rows as there are, each with its own expressions.
    fn values_beside(
        &mut self,
        beside: Beside,
        ids: &[ColId],
        types: &[SqlType],
        rows: &[Vec<BoundExpr>],
    ) -> Result<Beside> {
        let place = self.fresh();
        let number = |n: usize| Expr::Const { value: Datum::Int8(n as i64), ty: SqlType::Int8 };
        let counted = Rel::Values {
            columns: vec![(place, SqlType::Int8.into())],
            rows: (0..rows.len()).map(|n| vec![number(n)]).collect(),
        };
        let beside = self.joined(beside, counted, None)?;
        let equal = equal_of(SqlType::Int8)?;
        let chosen = ids.iter().zip(types).enumerate().map(|(column, (id, ty))| {
            let whens = rows.iter().enumerate().filter_map(|(n, row)| {
                let args = vec![leaf(place, SqlType::Int8), number(n)];
                Some((Expr::Call { func: equal, args, ty: SqlType::Bool }, row.get(column)?.clone()))
            });
            (*id, Expr::Case { whens: whens.collect(), otherwise: None, ty: *ty })
        });
        let chosen = chosen.collect();
        self.computed(beside, chosen)
    }
}

/// What keeps windows within a row around: its number, and whether the subquery has the row.
fn within(beside: &Beside) -> Vec<BoundExpr> {
    std::iter::once(leaf(beside.number, SqlType::Int8)).chain(beside.marker.clone()).collect()
}

/// An expression of the subquery as it reads once the columns around stand beside its own.
fn near(expr: BoundExpr) -> BoundExpr {
    fn at(expr: BoundExpr, level: u16) -> BoundExpr {
        match expr {
            Expr::Leaf(BoundLeaf::Outer { id, depth, ty }) if depth > level => match depth - 1 {
                0 => leaf(id, ty),
                depth => Expr::Leaf(BoundLeaf::Outer { id, depth, ty }),
            },
            Expr::Leaf(BoundLeaf::Subquery(mut subquery)) => {
                if let SubqueryKind::Quantified { arg, .. } = &mut subquery.kind {
                    **arg = at((**arg).clone(), level);
                }
                // Nothing fails in this walk.
                let _ = crate::bind::walk::exprs(&mut subquery.query.rel, level + 1, &mut |e, level| {
                    *e = at(e.clone(), level);
                    Ok(())
                });
                Expr::Leaf(BoundLeaf::Subquery(subquery))
            }
            other => other.map_children(&mut |child| at(child, level)),
        }
    }
    at(expr, 0)
}

/// An expression that is not computed for rows that the subquery does not have, where that matters.
fn guarded(expr: BoundExpr, marker: Option<&BoundExpr>, always: bool) -> BoundExpr {
    match marker {
        Some(marker) if always || may_fail(&expr) => {
            let ty = expr.ty();
            Expr::Case { whens: vec![(marker.clone(), expr)], otherwise: None, ty }
        }
        _ => expr,
    }
}

fn carried_calls(carried: &[(ColId, SqlType)]) -> impl Iterator<Item = (ColId, AggregateCall)> {
    carried.iter().map(|(id, ty)| (*id, call(Aggregate::AnyValue, leaf(*id, *ty))))
}

fn call(aggregate: Aggregate, arg: BoundExpr) -> AggregateCall {
    let ty = arg.ty();
    AggregateCall { aggregate, args: vec![arg], ty, distinct: false, filter: None, order: Vec::new() }
}

fn column_of(column: &OutputColumn) -> BoundExpr {
    leaf(column.id, column.ty.ty)
}

pub(super) fn truth(value: bool) -> BoundExpr {
    Expr::Const { value: Datum::Bool(value), ty: SqlType::Bool }
}

pub(super) fn projected(input: Rel, columns: Vec<(ColId, BoundExpr)>) -> Rel {
    match columns.is_empty() {
        true => input,
        false => Rel::Project { input: Box::new(input), columns },
    }
}

fn left_join(left: Rel, right: Rel, mut conditions: Vec<BoundExpr>) -> Rel {
    let on = match conditions.len() {
        0 => None,
        1 => conditions.pop(),
        _ => Some(Expr::And(conditions)),
    };
    Rel::Join { kind: JoinKind::Left, left: Box::new(left), right: Box::new(right), on, lateral: false }
}

pub(super) fn numbered(input: Rel, number: ColId, partition: Vec<BoundExpr>, order: Vec<SortKey>) -> Rel {
    let function = WindowFunction::RowNumber;
    let call = WindowCall { function, args: Vec::new(), ty: SqlType::Int8, partition, order, frame: None };
    Rel::Window { input: Box::new(input), columns: vec![(number, call)] }
}

fn unsupported(what: &str) -> SqlError {
    SqlError::unsupported(format_args!("{what} in a subquery that reads columns of a query around it"))
}
