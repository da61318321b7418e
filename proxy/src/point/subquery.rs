//! Subqueries of a write: run once before it, they leave constants.

use crate::bind::walk;
use crate::bound::{Bound, BoundExpr, Statement, Subquery, SubqueryKind};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::types::SqlType;

/// The uncorrelated subqueries of a statement that writes, in the order in which [`with_subqueries_as_constants`] takes their rows.
pub fn subqueries(bound: &Bound) -> Vec<Subquery> {
    let mut statement = bound.statement.clone();
    let mut found = Vec::new();
    // Collecting fails nowhere.
    let _ = each(&mut statement, &mut |expr| {
        found.extend(walk::subquery(expr).cloned());
        Ok(())
    });
    found
}

/// The statement with each subquery replaced by what its rows, of one column, mean: scalar ones by the value, EXISTS by whether there are rows,
/// quantified ones by a comparison with an array of the values.
pub fn with_subqueries_as_constants(mut bound: Bound, rows: Vec<Vec<Datum>>) -> SqlResult<Bound> {
    let mut rows = rows.into_iter();
    each(&mut bound.statement, &mut |expr| {
        let Some(subquery) = walk::subquery(expr) else { return Ok(()) };
        let values = rows.next().ok_or_else(|| SqlError::internal("a subquery without its rows"))?;
        let constant = constant(subquery, values)?;
        *expr = constant;
        Ok(())
    })?;
    Ok(bound)
}

fn constant(subquery: &mut Subquery, mut values: Vec<Datum>) -> SqlResult<BoundExpr> {
    let column = subquery.query.output.first().map_or(SqlType::Unknown, |c| c.ty.ty);
    let array =
        || column.array().ok_or_else(|| SqlError::unsupported(format!("a subquery of type {column} in a write")));
    Ok(match &mut subquery.kind {
        SubqueryKind::Exists { negated } => {
            Expr::Const { value: Datum::Bool(values.is_empty() == *negated), ty: SqlType::Bool }
        }
        SubqueryKind::Scalar if values.len() > 1 => {
            let message = "more than one row returned by a subquery used as an expression";
            return Err(SqlError::new(SqlState::CARDINALITY_VIOLATION, message));
        }
        SubqueryKind::Scalar => Expr::Const { value: values.pop().unwrap_or(Datum::Null), ty: column },
        SubqueryKind::Array => Expr::Const { value: Datum::Array(values), ty: array()? },
        SubqueryKind::Quantified { arg, op, all } => {
            let left = Box::new(std::mem::replace(&mut **arg, Expr::And(Vec::new())));
            let array = Box::new(Expr::Const { value: Datum::Array(values), ty: array()? });
            Expr::Quantified { op: *op, left, array, all: *all }
        }
    })
}

/// Visits the expressions of a statement that writes, inner ones first.
fn each(statement: &mut Statement, visit: &mut dyn FnMut(&mut BoundExpr) -> SqlResult<()>) -> SqlResult<()> {
    match statement {
        Statement::Update(update) => {
            let set = update.set.iter_mut().map(|(_, expr)| expr);
            let returning = update.returning.iter_mut().map(|r| &mut r.expr);
            set.chain(&mut update.filter).chain(returning).try_for_each(|expr| inside(expr, visit))
        }
        Statement::Delete(delete) => {
            let returning = delete.returning.iter_mut().map(|r| &mut r.expr);
            delete.filter.iter_mut().chain(returning).try_for_each(|expr| inside(expr, visit))
        }
        Statement::Insert(insert) => {
            let update = insert.conflict.as_mut().and_then(|conflict| conflict.update.as_mut());
            let update = update.into_iter();
            let of_update = update.flat_map(|update| update.set.iter_mut().map(|(_, e)| e).chain(&mut update.filter));
            let returning = insert.returning.iter_mut().map(|r| &mut r.expr);
            of_update.chain(returning).try_for_each(|expr| inside(expr, visit))
        }
        Statement::Query(_)
        | Statement::Explain { .. }
        | Statement::CopyIn(_)
        | Statement::CopyOut { .. }
        | Statement::Ddl(_)
        | Statement::CreateAs(_)
        | Statement::SetConfig { .. }
        | Statement::Acts(_)
        | Statement::Session(_) => Ok(()),
    }
}

fn inside(expr: &mut BoundExpr, visit: &mut dyn FnMut(&mut BoundExpr) -> SqlResult<()>) -> SqlResult<()> {
    for child in walk::children(expr) {
        inside(child, visit)?;
    }
    visit(expr)
}
