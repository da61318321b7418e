//! Recognition of point plans: statements on one table that workers run by themselves, without DataFusion.

mod access;
mod subquery;
pub mod lock;

use crate::bind::write::over_row;
use crate::bound::{
    Bound, BoundExpr, BoundLeaf, ColId, ConflictUpdate, Delete, Insert, OnConflict, OutputColumn, Query, Rel,
    Returning, Statement, Update,
};
use access::Found;
pub use subquery::{subqueries, with_subqueries_as_constants};
use toroid_common::catalog::{Distribution, Table};
use toroid_common::datum::Datum;
use toroid_common::eval;
use toroid_common::expr::Expr;
use toroid_common::func::Volatility;
use toroid_common::id::TableId;
use toroid_common::plan::{self, Access, PointPlan, RowLock, Verb};
use toroid_common::types::{ColumnType, SqlType};

/// A statement as a point plan, and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub plan: PointPlan,
    pub route: Route,
    /// What `plan`'s output columns are called; empty if nothing is sent back.
    pub output: Vec<PointColumn>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PointColumn {
    pub name: String,
    pub ty: ColumnType,
    pub origin: Option<(TableId, u16)>,
}

/// Which partitions a point plan is sent to. Expressions read constants and parameters only.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// The partition of this distribution key; its values have the columns' types, or are integers of another width. A NULL among them: no row can match.
    Key(Vec<Expr>),
    /// INSERT: complete rows in table order, cast to the columns' types; each row's partition is that of its distribution columns. The hidden row
    /// identity is NULL: the proxy gives it.
    Rows {
        rows: Vec<Vec<Expr>>,
        /// The statement's parameters that requests carry, since the plan has them: ON CONFLICT and RETURNING read them.
        carried: Vec<u16>,
    },
    /// UPDATE and DELETE without a key: every partition.
    All,
    /// A reference table: one copy to read, every copy to write.
    Reference,
}

/// The point plan of a statement, if it has one. UPDATE and DELETE on one table always have one once their subqueries are constants.
pub fn point(bound: &Bound) -> Option<Point> {
    let made = match &bound.statement {
        Statement::Query(query) => select(query)?,
        Statement::Insert(insert) => self::insert(insert)?,
        Statement::Update(update) => self::update(update)?,
        Statement::Delete(delete) => self::delete(delete)?,
        Statement::Explain { .. }
        | Statement::CopyIn(_)
        | Statement::CopyOut { .. }
        | Statement::Ddl(_)
        | Statement::CreateAs(_)
        | Statement::SetConfig { .. }
        | Statement::Acts(_)
        | Statement::Session(_) => return None,
    };
    let needs_env = needs_env(&made.verb);
    let plan = PointPlan {
        table: made.table.id,
        table_version: made.table.version,
        params: match &made.route {
            Route::Rows { carried, .. } => {
                carried.iter().filter_map(|i| bound.params.get(usize::from(*i))).copied().collect()
            }
            Route::Key(_) | Route::All | Route::Reference => bound.params.clone(),
        },
        verb: made.verb,
        needs_env,
    };
    Some(Point { plan, route: made.route, output: made.output })
}

/// A point plan before its frame.
struct Made<'a> {
    table: &'a Table,
    verb: Verb,
    route: Route,
    output: Vec<PointColumn>,
}

/// A query's parts, where it is one over the rows of one table.
#[derive(Default)]
struct Shape<'a> {
    filters: Vec<&'a BoundExpr>,
    computed: Vec<&'a (ColId, BoundExpr)>,
    /// Operators that only a single row leaves without work.
    needs_single_row: bool,
    lock: Option<RowLock>,
}

fn select(query: &Query) -> Option<Made<'_>> {
    let mut shape = Shape::default();
    let (table, columns) = shape_of(&query.rel, &mut shape)?;
    let filters: Vec<Expr> =
        shape.filters.iter().map(|f| over_row((*f).clone(), columns).ok()).collect::<Option<_>>()?;
    let found = access::find(table, filters);
    if shape.needs_single_row && !found.single_row {
        return None;
    }
    let route = match (&table.distribution, found.key.clone()) {
        (Distribution::Hash(_), Some(key)) => Route::Key(key),
        // A copy's lock is not the other copies'.
        (Distribution::Replicated, _) if shape.lock.is_some() => return None,
        (Distribution::Replicated, _) if !matches!(found.access, Access::Scan) => Route::Reference,
        (Distribution::Hash(_), None) | (Distribution::Replicated, _) => return None,
    };
    let mut output = Vec::with_capacity(query.output.len());
    for column in &query.output {
        output.push(output_expr(column, &shape, columns)?);
    }
    let named = query.output.iter().map(|c| PointColumn { name: c.name.clone(), ty: c.ty, origin: c.origin });
    let Found { access, filter, .. } = found;
    let verb = Verb::Select { access, filter, output, lock: shape.lock };
    Some(Made { table, verb, route, output: named.collect() })
}

fn shape_of<'a>(rel: &'a Rel, shape: &mut Shape<'a>) -> Option<(&'a Table, &'a [(ColId, u16)])> {
    match rel {
        Rel::Scan { table, columns } => Some((table, columns)),
        Rel::Filter { input, predicate } => {
            let below = shape_of(input, shape)?;
            shape.filters.push(predicate);
            Some(below)
        }
        Rel::Project { input, columns } => {
            let below = shape_of(input, shape)?;
            shape.computed.extend(columns);
            Some(below)
        }
        Rel::Lock { input, tables } => {
            let [locked] = tables.as_slice() else { return None };
            shape.lock = Some(locked.lock);
            shape_of(input, shape)
        }
        Rel::Sort { input, .. } | Rel::Distinct { input, .. } | Rel::DistinctOn { input, .. } => {
            shape.needs_single_row = true;
            shape_of(input, shape)
        }
        Rel::Limit { input, limit, offset } if takes_one_row(limit.as_ref(), offset.as_ref()) => {
            shape.needs_single_row = true;
            shape_of(input, shape)
        }
        Rel::Unit
        | Rel::Virtual { .. }
        | Rel::Values { .. }
        | Rel::Series { .. }
        | Rel::Unnest { .. }
        | Rel::Aggregate { .. }
        | Rel::Window { .. }
        | Rel::Join { .. }
        | Rel::SetOp { .. }
        | Rel::Limit { .. }
        | Rel::Derived { .. } => None,
    }
}

/// LIMIT of a constant from 1 up, without OFFSET, keeps a single row.
fn takes_one_row(limit: Option<&BoundExpr>, offset: Option<&BoundExpr>) -> bool {
    let constant = |expr: &BoundExpr| match expr {
        Expr::Const { value: Datum::Int8(n), .. } => Some(*n),
        Expr::Cast { arg, .. } => match &**arg {
            Expr::Const { value: Datum::Int4(n), .. } => Some(i64::from(*n)),
            _ => None,
        },
        _ => None,
    };
    let keeps = limit.is_none_or(|limit| constant(limit).is_some_and(|n| n >= 1));
    keeps && offset.is_none_or(|offset| constant(offset) == Some(0))
}

fn output_expr(column: &OutputColumn, shape: &Shape<'_>, columns: &[(ColId, u16)]) -> Option<Expr> {
    match shape.computed.iter().find(|(id, _)| *id == column.id) {
        Some((_, expr)) => over_row(expr.clone(), columns).ok(),
        None => over_row(Expr::Leaf(BoundLeaf::Column { id: column.id, ty: column.ty.ty }), columns).ok(),
    }
}

fn insert(insert: &Insert) -> Option<Made<'_>> {
    let Rel::Values { rows, .. } = &insert.source.rel else { return None };
    let mut complete = Vec::with_capacity(rows.len());
    for row in rows {
        complete.push(complete_row(row, insert)?);
    }
    let (verb, carried) = insert_verb(insert)?;
    let (_, output) = returned(&insert.returning, &insert.columns)?;
    Some(Made { table: &insert.table, verb, route: Route::Rows { rows: complete, carried }, output })
}

/// What workers do with the rows of an INSERT, and the statement's parameters that they need for it; none while there are subqueries in it.
pub fn insert_verb(insert: &Insert) -> Option<(Verb, Vec<u16>)> {
    let mut carried = Vec::new();
    let conflict = match insert.conflict.as_deref() {
        None => None,
        Some(OnConflict { arbiters, update }) => {
            let update = match update {
                None => None,
                Some(ConflictUpdate { filter, set, columns }) => {
                    let mut own = |expr: &BoundExpr| Some(carry(over_row(expr.clone(), columns).ok()?, &mut carried));
                    let filter = filter.as_ref().map(|filter| own(filter).ok_or(())).transpose().ok()?;
                    let set = set.iter().map(|(column, e)| Some((*column, own(e)?))).collect::<Option<_>>()?;
                    Some(plan::ConflictUpdate { filter, set })
                }
            };
            Some(plan::Conflict { arbiters: arbiters.clone(), update })
        }
    };
    let (returning, _) = returned(&insert.returning, &insert.columns)?;
    let returning = returning.into_iter().map(|expr| carry(expr, &mut carried)).collect();
    Some((Verb::Insert { conflict, returning }, carried))
}

/// The expression with its parameters numbered by their places among those that requests carry.
fn carry(expr: Expr, carried: &mut Vec<u16>) -> Expr {
    match expr {
        Expr::Param { index, ty } => {
            let place = carried.iter().position(|known| *known == index).unwrap_or_else(|| {
                carried.push(index);
                carried.len() - 1
            });
            Expr::Param { index: place as u16, ty }
        }
        other => other.map_children(&mut |child| carry(child, carried)),
    }
}

/// A row in table order: what the statement gives, else the defaults.
fn complete_row(row: &[BoundExpr], insert: &Insert) -> Option<Vec<Expr>> {
    let mut out = Vec::with_capacity(insert.table.columns.len());
    for (position, column) in insert.table.columns.iter().enumerate() {
        let given = insert.targets.iter().position(|t| usize::from(*t) == position).and_then(|i| row.get(i));
        out.push(match given {
            Some(expr) => over_row(expr.clone(), &[]).ok()?,
            None if column.hidden => Expr::Const { value: Datum::Null, ty: SqlType::Int8 },
            None => insert.defaults.get(position)?.clone(),
        });
    }
    Some(out)
}

fn returned(list: &[Returning], columns: &[(ColId, u16)]) -> Option<(Vec<Expr>, Vec<PointColumn>)> {
    let named = list.iter().map(|r| PointColumn { name: r.name.clone(), ty: r.ty, origin: r.origin }).collect();
    let exprs = list.iter().map(|r| over_row(r.expr.clone(), columns).ok()).collect::<Option<_>>()?;
    Some((exprs, named))
}

fn update(update: &Update) -> Option<Made<'_>> {
    let (found, route) = written(&update.table, update.filter.as_ref(), &update.columns)?;
    let mut set = Vec::with_capacity(update.set.len());
    for (column, expr) in &update.set {
        set.push((*column, over_row(expr.clone(), &update.columns).ok()?));
    }
    let (returning, output) = returned(&update.returning, &update.columns)?;
    let verb = Verb::Update { access: found.access, filter: found.filter, set, returning };
    Some(Made { table: &update.table, verb, route, output })
}

fn delete(delete: &Delete) -> Option<Made<'_>> {
    let (found, route) = written(&delete.table, delete.filter.as_ref(), &delete.columns)?;
    let (returning, output) = returned(&delete.returning, &delete.columns)?;
    let verb = Verb::Delete { access: found.access, filter: found.filter, returning };
    Some(Made { table: &delete.table, verb, route, output })
}

fn written(table: &Table, filter: Option<&BoundExpr>, columns: &[(ColId, u16)]) -> Option<(Found, Route)> {
    let filters: Vec<Expr> = filter.into_iter().map(|f| over_row(f.clone(), columns).ok()).collect::<Option<_>>()?;
    let found = access::find(table, filters);
    let route = match (&table.distribution, &found.key) {
        (Distribution::Replicated, _) => Route::Reference,
        (Distribution::Hash(_), Some(key)) => Route::Key(key.clone()),
        (Distribution::Hash(_), None) => Route::All,
    };
    Some((found, route))
}

/// Whether a worker must know the session to run the plan.
pub fn needs_env(verb: &Verb) -> bool {
    let reads = |expr: &Expr| eval::volatility(expr) != Volatility::Immutable;
    let accessed = |access: &Access| match access {
        Access::Index { key, .. } => key.iter().any(reads),
        Access::Scan | Access::Keys { .. } | Access::Table { .. } => false,
    };
    verb.output().iter().any(reads)
        || match verb {
            Verb::Select { access, filter, .. } | Verb::Delete { access, filter, .. } => {
                accessed(access) || filter.iter().any(reads)
            }
            Verb::Update { access, filter, set, .. } => {
                accessed(access) || filter.iter().any(reads) || set.iter().any(|(_, e)| reads(e))
            }
            Verb::Act(_) => false,
            Verb::Insert { conflict, .. } => conflict
                .iter()
                .filter_map(|conflict| conflict.update.as_ref())
                .any(|update| update.filter.iter().any(reads) || update.set.iter().any(|(_, e)| reads(e))),
        }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod recorded;
