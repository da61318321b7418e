//! Queries that lock rows: the parts of them that do, and the point plans by which workers lock the rows of one table.

use super::{Shape, needs_env, output_expr, shape_of};
use crate::bind::walk;
use crate::bind::write::over_row;
use crate::bound::{BoundExpr, ColId, LockedTable, OutputColumn, Query, Rel};
use toroid_common::catalog::{Distribution, Table};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval;
use toroid_common::expr::{Expr, Leaf, Slot};
use toroid_common::func::{Volatility, equal_of};
use toroid_common::plan::{Access, LockWait, PointPlan, RowLock, Verb};
use toroid_common::types::{ColumnType, SqlType};

/// A relation whose rows are those that could be locked: as many as its LIMIT says.
#[derive(Clone, Debug, PartialEq)]
pub struct LockedPart {
    pub input: Rel,
    pub tables: Vec<LockedTable>,
    pub limit: Option<BoundExpr>,
    pub offset: Option<BoundExpr>,
    /// What is read of its rows.
    pub output: Vec<OutputColumn>,
}

/// The parts of a query that lock rows, in the order in which [`with_rows`] takes their rows; and whether the only one is all of it.
pub fn locked_parts(query: &Query) -> (Vec<LockedPart>, bool) {
    let mut rest = query.clone();
    let mut parts = Vec::new();
    walk::relations(&mut rest, &mut |rel| parts.extend(take_part(rel)));
    match (parts.as_mut_slice(), &rest.rel) {
        ([part], Rel::Unit) => {
            part.output.clone_from(&query.output);
            (parts, true)
        }
        _ => (parts, false),
    }
}

/// The query with the rows of each locked part as constants.
pub fn with_rows(mut query: Query, rows: Vec<Vec<Vec<Datum>>>) -> Query {
    let mut rows = rows.into_iter();
    walk::relations(&mut query, &mut |rel| {
        let Some(part) = take_part(rel) else { return };
        let constant = |(value, column): (Datum, &OutputColumn)| Expr::Const { value, ty: column.ty.ty };
        let row = |row: Vec<Datum>| row.into_iter().zip(&part.output).map(constant).collect();
        let columns = part.output.iter().map(|column| (column.id, column.ty)).collect();
        *rel = Rel::Values { columns, rows: rows.next().unwrap_or_default().into_iter().map(row).collect() };
    });
    query
}

/// Takes a locked part out of its place.
fn take_part(rel: &mut Rel) -> Option<LockedPart> {
    let limited = matches!(rel, Rel::Limit { input, .. } if matches!(**input, Rel::Lock { .. }));
    if !limited && !matches!(rel, Rel::Lock { .. }) {
        return None;
    }
    let (lock, limit, offset) = match std::mem::replace(rel, Rel::Unit) {
        Rel::Limit { input, limit, offset } => (*input, limit, offset),
        lock => (lock, None, None),
    };
    let Rel::Lock { input, tables } = lock else { return None };
    let output = input.columns().into_iter().map(|(id, ty)| plain(id, ty)).collect();
    Some(LockedPart { input: *input, tables, limit, offset, output })
}

/// The query as if it locked nothing, for EXPLAIN.
pub fn without_locks(mut query: Query) -> Query {
    walk::relations(&mut query, &mut |rel| {
        if let Rel::Lock { input, .. } = rel {
            *rel = std::mem::replace(&mut **input, Rel::Unit);
        }
    });
    query
}

/// The rows of a query as a query of constants.
pub fn constants(query: &Query, rows: Vec<Vec<Datum>>) -> Query {
    let columns = query.output.iter().zip(0..).map(|(column, id)| OutputColumn { id: ColId(id), ..column.clone() });
    let output: Vec<OutputColumn> = columns.collect();
    let constant = |(value, column): (Datum, &OutputColumn)| Expr::Const { value, ty: column.ty.ty };
    let rows = rows.into_iter().map(|row| row.into_iter().zip(&output).map(constant).collect()).collect();
    Query { rel: Rel::Values { columns: output.iter().map(|column| (column.id, column.ty)).collect(), rows }, output }
}

fn plain(id: ColId, ty: SqlType) -> OutputColumn {
    OutputColumn { name: String::new(), id, ty: ColumnType::from(ty), origin: None }
}

/// The query for the rows that a part would lock, with these columns, at most so many.
pub fn candidates(part: &LockedPart, columns: impl Iterator<Item = (ColId, SqlType)>, most: Option<u64>) -> Query {
    let limit =
        most.map(|most| Expr::Const { value: Datum::Int8(i64::try_from(most).unwrap_or(i64::MAX)), ty: SqlType::Int8 });
    let rel = match limit {
        None => part.input.clone(),
        limit => Rel::Limit { input: Box::new(part.input.clone()), limit, offset: None },
    };
    Query { rel, output: columns.map(|(id, ty)| plain(id, ty)).collect() }
}

/// What a worker finds out by itself about a row of the only table of a part: whether it belongs to the part, and its output.
pub fn judged_by_row(part: &LockedPart, params: &[Datum]) -> Option<(Option<Expr>, Vec<Expr>)> {
    let mut shape = Shape::default();
    let (_, columns) = shape_of(&part.input, &mut shape)?;
    if shape.lock.is_some() || part.tables.len() != 1 {
        return None;
    }
    let of_row = |expr: &BoundExpr| Some(with_values(over_row(expr.clone(), columns).ok()?, params));
    let filters: Vec<Expr> = shape.filters.iter().map(|filter| of_row(filter)).collect::<Option<_>>()?;
    // Seen twice such a condition may say different things.
    if filters.iter().any(|filter| eval::volatility(filter) == Volatility::Volatile) {
        return None;
    }
    let output = part.output.iter().map(|column| Some(with_values(output_expr(column, &shape, columns)?, params)));
    let filter = if filters.is_empty() { None } else { Some(Expr::And(filters)) };
    Some((filter, output.collect::<Option<_>>()?))
}

/// Parameters as constants.
fn with_values<L: Leaf + Clone>(expr: Expr<L>, params: &[Datum]) -> Expr<L> {
    match expr {
        Expr::Param { index, ty } => {
            let value = params.get(usize::from(index)).cloned().unwrap_or(Datum::Null);
            Expr::Const { value, ty }
        }
        other => other.map_children(&mut |child| with_values(child, params)),
    }
}

/// How the rows of one table are told apart, and where they are locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The columns of the query, in the order of the key.
    pub columns: Vec<(ColId, SqlType)>,
    /// The places in the key of what says which partition a row is in; none for a reference table, whose rows are locked in the first one.
    pub placed_by: Option<Vec<usize>>,
    /// It is the hidden row identity, which no index has.
    pub hidden: bool,
    /// A row may get another one, by an UPDATE.
    pub changes: bool,
}

pub fn identity(locked: &LockedTable) -> SqlResult<Identity> {
    let table = &locked.table;
    let primary = table.indexes.iter().find(|index| index.primary);
    let positions: Vec<u16> = match primary {
        Some(index) => index.columns.iter().map(|column| column.column).collect(),
        None => locked.key.iter().map(|(_, position)| *position).collect(),
    };
    let column = |position: &u16| {
        let (id, _) = locked.key.iter().find(|(_, known)| known == position)?;
        Some((*id, table.columns.get(usize::from(*position))?.ty.ty))
    };
    let columns = positions.iter().map(column).collect::<Option<Vec<_>>>();
    let columns = columns.filter(|columns| !columns.is_empty());
    let columns = columns.ok_or_else(|| SqlError::internal("a locked table without a key"))?;
    let placed_by = match &table.distribution {
        Distribution::Replicated => None,
        Distribution::Hash(by) => {
            let place = |column: &u16| positions.iter().position(|position| position == column);
            let places = by.iter().map(place).collect::<Option<Vec<_>>>();
            Some(places.ok_or_else(|| SqlError::internal("a key without the distribution key"))?)
        }
    };
    let changes = primary.is_some()
        && match &table.distribution {
            Distribution::Replicated => true,
            Distribution::Hash(by) => positions.iter().any(|position| !by.contains(position)),
        };
    Ok(Identity { columns, placed_by, hidden: primary.is_none(), changes })
}

/// The plan by which a worker locks rows of a table, whose identities come with the request: as keys, or, where no index has them, as an array, and then
/// the output begins with the identity.
pub fn lock_plan(
    table: &Table,
    (lock, wait): (RowLock, LockWait),
    filter: Option<Expr>,
    output: Vec<Expr>,
) -> SqlResult<PointPlan> {
    let lock = Some(RowLock { wait, ..lock });
    let (verb, params) = match table.indexes.iter().find(|index| index.primary) {
        Some(index) => (Verb::Select { access: Access::Keys { index: index.id }, filter, output, lock }, Vec::new()),
        None => {
            let hidden = table.columns.iter().zip(0..).find(|(column, _)| column.hidden);
            let (column, index) = hidden.ok_or_else(|| SqlError::internal("a table without row identity"))?;
            let own = Expr::Leaf(Slot { index, ty: column.ty.ty });
            let arrays = column.ty.ty.array().ok_or_else(|| SqlError::internal("a row identity without arrays"))?;
            let array = Box::new(Expr::Param { index: 0, ty: arrays });
            let op = equal_of(column.ty.ty)?;
            let known = Expr::Quantified { op, left: Box::new(own.clone()), array, all: false };
            let filter = Some(Expr::And(std::iter::once(known).chain(filter).collect()));
            let output = std::iter::once(own).chain(output).collect();
            (Verb::Select { access: Access::Scan, filter, output, lock }, vec![arrays])
        }
    };
    Ok(PointPlan { table: table.id, table_version: table.version, params, needs_env: needs_env(&verb), verb })
}
