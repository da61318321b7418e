//! Takes correlated subqueries and LATERAL out of a query where DataFusion would not find the join: [`beside`](super::beside) computes them.

use super::beside::{numbered, projected, truth};
use super::expression::has_subquery;
use super::initial::reads_outside;
use super::shape::{joins_as_condition, joins_as_value, leaf};
use super::{Lowering, Result};
use crate::bound::{BoundExpr, BoundLeaf, ColId, JoinKind, OutputColumn, Query, Rel, SortKey, Subquery};
use toroid_common::error::SqlError;
use toroid_common::expr::Expr;
use toroid_common::func::equal_of;
use toroid_common::types::SqlType;

impl Lowering<'_> {
    /// A query that reads nothing outside, with every subquery left to DataFusion one that it knows.
    pub(super) fn unnested(&mut self, query: Query) -> Result<Query> {
        Ok(Query { rel: self.unnested_rel(query.rel)?, output: query.output })
    }

    pub(super) fn unnested_rel(&mut self, rel: Rel) -> Result<Rel> {
        match rel {
            Rel::Unit | Rel::Scan { .. } | Rel::Virtual { .. } | Rel::Series { .. } => Ok(rel),
            Rel::Values { columns, rows } => Ok(Rel::Values { columns, rows }),
            Rel::Filter { input, predicate } => {
                let (input, predicate) = self.unnested_filter(*input, predicate)?;
                Ok(Rel::Filter { input: Box::new(input), predicate })
            }
            Rel::Project { input, mut columns } => {
                let input = self.unnested_rel(*input)?;
                let input = self.replaced(input, columns.iter_mut().map(|(_, e)| e), None)?;
                Ok(Rel::Project { input: Box::new(input), columns })
            }
            Rel::Unnest { input, mut arrays, keeps } => {
                let input = self.unnested_rel(*input)?;
                let input = self.replaced(input, arrays.iter_mut().map(|(_, e)| e), None)?;
                Ok(Rel::Unnest { input: Box::new(input), arrays, keeps })
            }
            Rel::Aggregate { input, mut groups, sets, mut aggregates } => {
                let input = self.unnested_rel(*input)?;
                let mut input = self.replaced(input, groups.iter_mut().map(|(_, e)| e), None)?;
                for (_, call) in &mut aggregates {
                    let order = call.order.iter_mut().map(|key| &mut key.expr);
                    let own = call.args.iter_mut().chain(&mut call.filter).chain(order);
                    input = self.replaced(input, own, None)?;
                }
                Ok(Rel::Aggregate { input: Box::new(input), groups, sets, aggregates })
            }
            Rel::Window { input, mut columns } => {
                let mut input = self.unnested_rel(*input)?;
                for (_, call) in &mut columns {
                    let order = call.order.iter_mut().map(|key| &mut key.expr);
                    let own = call.args.iter_mut().chain(&mut call.partition).chain(order);
                    input = self.replaced(input, own, None)?;
                }
                Ok(Rel::Window { input: Box::new(input), columns })
            }
            Rel::Join { kind, left, right, on, lateral } if lateral && reads_outside(&right) => {
                self.lateral(kind, *left, *right, on)
            }
            Rel::Join { kind, left, right, on, .. } => self.unnested_join(kind, *left, *right, on),
            Rel::SetOp { op, all, left, right, columns } => {
                let (left, right) = (self.unnested(*left)?, self.unnested(*right)?);
                Ok(Rel::SetOp { op, all, left: Box::new(left), right: Box::new(right), columns })
            }
            Rel::Distinct { input, columns } => {
                Ok(Rel::Distinct { input: Box::new(self.unnested_rel(*input)?), columns })
            }
            Rel::DistinctOn { input, mut on, mut keys } => {
                let input = self.unnested_rel(*input)?;
                let input =
                    self.replaced(input, on.iter_mut().chain(keys.iter_mut().map(|key| &mut key.expr)), None)?;
                Ok(Rel::DistinctOn { input: Box::new(input), on, keys })
            }
            Rel::Sort { input, mut keys } => {
                let input = self.unnested_rel(*input)?;
                let input = self.replaced(input, keys.iter_mut().map(|key| &mut key.expr), None)?;
                Ok(Rel::Sort { input: Box::new(input), keys })
            }
            Rel::Limit { input, limit, offset } => {
                Ok(Rel::Limit { input: Box::new(self.unnested_rel(*input)?), limit, offset })
            }
            Rel::Lock { input, tables } => Ok(Rel::Lock { input: Box::new(self.unnested_rel(*input)?), tables }),
            Rel::Derived { query, columns } => Ok(Rel::Derived { query: Box::new(self.unnested(*query)?), columns }),
        }
    }

    fn unnested_filter(&mut self, input: Rel, mut predicate: BoundExpr) -> Result<(Rel, BoundExpr)> {
        let input = self.unnested_rel(input)?;
        if self.runner.is_some() {
            return Ok((input, predicate));
        }
        let mut hard = Vec::new();
        self.sort_out(&mut predicate, &mut hard)?;
        let input = self.replaced(input, hard, None)?;
        Ok((input, predicate))
    }

    /// Finds the parts of a condition with subqueries that must be computed; the others become joins.
    fn sort_out<'e>(&mut self, expr: &'e mut BoundExpr, hard: &mut Vec<&'e mut BoundExpr>) -> Result<()> {
        if !has_subquery(expr) {
            return Ok(());
        }
        let easy = |e: &BoundExpr| matches!(e, Expr::Leaf(BoundLeaf::Subquery(s)) if joins_as_condition(s));
        if easy(expr) || matches!(&*expr, Expr::Not(arg) if easy(arg)) {
            let subquery = match expr {
                Expr::Not(arg) => crate::bind::walk::subquery(arg),
                other => crate::bind::walk::subquery(other),
            };
            return subquery.map_or(Ok(()), |subquery| self.inside(subquery));
        }
        match expr {
            Expr::And(args) | Expr::Or(args) => args.iter_mut().try_for_each(|arg| self.sort_out(arg, hard)),
            other => {
                hard.push(other);
                Ok(())
            }
        }
    }

    /// The relation inside a subquery that DataFusion joins.
    fn inside(&mut self, subquery: &mut Subquery) -> Result<()> {
        let rel = std::mem::replace(&mut subquery.query.rel, Rel::Unit);
        subquery.query.rel = self.inner_rel(rel)?;
        Ok(())
    }

    fn inner_rel(&mut self, rel: Rel) -> Result<Rel> {
        match rel {
            other if !reads_outside(&other) => self.unnested_rel(other),
            Rel::Filter { input, predicate } => Ok(Rel::Filter { input: Box::new(self.inner_rel(*input)?), predicate }),
            Rel::Project { input, columns } => Ok(Rel::Project { input: Box::new(self.inner_rel(*input)?), columns }),
            Rel::Aggregate { input, groups, sets, aggregates } => {
                Ok(Rel::Aggregate { input: Box::new(self.inner_rel(*input)?), groups, sets, aggregates })
            }
            other => Ok(other),
        }
    }

    /// Puts columns in the place of subqueries; the input gets those columns. Where subqueries run one by one, they stay.
    pub(super) fn replaced<'e>(
        &mut self,
        mut input: Rel,
        exprs: impl IntoIterator<Item = &'e mut BoundExpr>,
        guard: Option<&BoundExpr>,
    ) -> Result<Rel> {
        if self.runner.is_some() {
            return Ok(input);
        }
        for expr in exprs {
            input = self.replaced_in(input, expr, guard)?;
        }
        Ok(input)
    }

    fn replaced_in(&mut self, mut input: Rel, expr: &mut BoundExpr, guard: Option<&BoundExpr>) -> Result<Rel> {
        for child in crate::bind::walk::children(expr) {
            input = self.replaced_in(input, child, guard)?;
        }
        let Some(subquery) = crate::bind::walk::subquery(expr) else { return Ok(input) };
        if joins_as_value(subquery) {
            self.inside(subquery)?;
            return Ok(input);
        }
        let Subquery { kind, query } = subquery.clone();
        let (input, value) = self.apply(input, kind, query, guard.cloned())?;
        // A column of its own: a row that is not there any more later gives no value.
        let id = self.fresh();
        let ty = value.ty();
        *expr = leaf(id, ty);
        Ok(projected(input, vec![(id, value)]))
    }

    fn unnested_join(&mut self, kind: JoinKind, left: Rel, right: Rel, on: Option<BoundExpr>) -> Result<Rel> {
        let (left, right) = (Box::new(self.unnested_rel(left)?), Box::new(self.unnested_rel(right)?));
        match (kind, on) {
            (JoinKind::Inner, Some(on)) if has_subquery(&on) => {
                let crossed = Rel::Join { kind: JoinKind::Cross, left, right, on: None, lateral: false };
                let (input, predicate) = self.unnested_filter(crossed, on)?;
                Ok(Rel::Filter { input: Box::new(input), predicate })
            }
            (_, Some(on)) if has_subquery(&on) => {
                Err(SqlError::unsupported("a correlated subquery in the condition of an outer join"))
            }
            (kind, on) => Ok(Rel::Join { kind, left, right, on, lateral: false }),
        }
    }

    /// A set-returning function as a subquery with the same columns.
    fn as_subquery(&mut self, rel: Rel) -> Rel {
        let output = |id, ty: SqlType| OutputColumn { name: String::new(), id, ty: ty.into(), origin: None };
        match rel {
            Rel::Series { function, args, column: (outer, ty), ordinality } => {
                let (id, count) = (self.fresh(), ordinality.map(|_| self.fresh()));
                let counted = count.map(|id| output(id, SqlType::Int8));
                let rel = Rel::Series { function, args, column: (id, ty), ordinality: count };
                let query = Query { rel, output: std::iter::once(output(id, ty)).chain(counted).collect() };
                Rel::Derived { query: Box::new(query), columns: std::iter::once(outer).chain(ordinality).collect() }
            }
            Rel::Unnest { input, arrays, keeps } if *input == Rel::Unit => {
                let columns: Vec<ColId> = arrays.iter().map(|(id, _)| *id).collect();
                let arrays: Vec<(ColId, BoundExpr)> = arrays.into_iter().map(|(_, e)| (self.fresh(), e)).collect();
                let element = |e: &BoundExpr| e.ty().element().unwrap_or(SqlType::Unknown);
                let output = arrays.iter().map(|(id, e)| output(*id, element(e))).collect();
                let query = Query { rel: Rel::Unnest { input, arrays, keeps }, output };
                Rel::Derived { query: Box::new(query), columns }
            }
            other => other,
        }
    }

    /// `left JOIN LATERAL right ON on`.
    fn lateral(&mut self, kind: JoinKind, left: Rel, right: Rel, on: Option<BoundExpr>) -> Result<Rel> {
        let around = self.unnested_rel(left)?;
        let beside = self.beside(around, None)?;
        match kind {
            JoinKind::Inner | JoinKind::Cross => {
                let mut beside = self.rows_of(beside, right)?;
                if let Some(on) = on {
                    beside = self.restricted(beside, on)?;
                }
                Ok(match beside.marker {
                    None => beside.rel,
                    Some(predicate) => Rel::Filter { input: Box::new(beside.rel), predicate },
                })
            }
            JoinKind::Left => {
                let Rel::Derived { query, columns } = self.as_subquery(right) else {
                    return Err(SqlError::unsupported("LEFT JOIN LATERAL of something else than a subquery"));
                };
                let inner: Vec<_> = columns.iter().map(|_| self.fresh()).collect();
                let types: Vec<SqlType> = query.output.iter().map(|column| column.ty.ty).collect();
                let mut beside = self.rows_of(beside, Rel::Derived { query, columns: inner.clone() })?;
                let pairs: Vec<_> = columns.into_iter().zip(inner).zip(types).collect();
                if let Some(mut on) = on {
                    for ((outer, inner), _) in &pairs {
                        on = renamed(on, *outer, *inner)?;
                    }
                    beside = self.restricted(beside, on)?;
                }
                let marker = beside.marker.unwrap_or_else(|| truth(true));
                let place = self.fresh();
                let key = SortKey { expr: marker.clone(), descending: true, nulls_first: false };
                let partition = vec![leaf(beside.number, SqlType::Int8)];
                let rel = numbered(beside.rel, place, partition, vec![key]);
                let one = Expr::Const { value: toroid_common::datum::Datum::Int8(1), ty: SqlType::Int8 };
                let func = equal_of(SqlType::Int8)?;
                let first = Expr::Call { func, args: vec![leaf(place, SqlType::Int8), one], ty: SqlType::Bool };
                let predicate = Expr::Or(vec![marker.clone(), first]);
                let filtered = Rel::Filter { input: Box::new(rel), predicate };
                let added = pairs.into_iter().map(|((outer, inner), ty)| {
                    let whens = vec![(marker.clone(), leaf(inner, ty))];
                    (outer, Expr::Case { whens, otherwise: None, ty })
                });
                Ok(projected(filtered, added.collect()))
            }
            JoinKind::Right | JoinKind::Full => Err(SqlError::unsupported("RIGHT or FULL JOIN LATERAL")),
        }
    }
}

/// The expression with one column in the place of another.
fn renamed(expr: BoundExpr, from: crate::bound::ColId, to: crate::bound::ColId) -> Result<BoundExpr> {
    expr.map_leaves(&mut |found| match found {
        BoundLeaf::Column { id, ty } => Ok(leaf(if id == from { to } else { id }, ty)),
        BoundLeaf::Subquery(_) => Err(SqlError::unsupported("a subquery in the condition of LEFT JOIN LATERAL")),
        other @ BoundLeaf::Outer { .. } => Ok(Expr::Leaf(other)),
    })
}
