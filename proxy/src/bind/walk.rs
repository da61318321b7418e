//! Walks over bound trees.

use crate::bound::{BoundExpr, BoundLeaf, Query, Rel, SortKey, Subquery, SubqueryKind};
use toroid_common::error::SqlResult;
use toroid_common::expr::Expr;

/// What [`exprs`] does with each expression; the number says how many queries lie between the walk's start and the expression.
pub(crate) type Visit<'v> = dyn FnMut(&mut BoundExpr, u16) -> SqlResult<()> + 'v;

/// Direct subexpressions, left to right; not those inside subqueries.
pub(crate) fn children(expr: &mut BoundExpr) -> Vec<&mut BoundExpr> {
    match expr {
        Expr::Const { .. } | Expr::Param { .. } => Vec::new(),
        Expr::Leaf(BoundLeaf::Column { .. } | BoundLeaf::Outer { .. }) => Vec::new(),
        Expr::Leaf(BoundLeaf::Subquery(subquery)) => match &mut subquery.kind {
            SubqueryKind::Quantified { arg, .. } => vec![arg],
            SubqueryKind::Exists { .. } | SubqueryKind::Scalar | SubqueryKind::Array => Vec::new(),
        },
        Expr::Call { args, .. }
        | Expr::And(args)
        | Expr::Or(args)
        | Expr::Coalesce { args, .. }
        | Expr::Extreme { args, .. }
        | Expr::Array { elements: args, .. } => args.iter_mut().collect(),
        Expr::Cast { arg, .. } | Expr::Not(arg) | Expr::IsNull { arg, .. } | Expr::BoolTest { arg, .. } => vec![arg],
        Expr::Distinct { left, right, .. } | Expr::NullIf { left, right, .. } => vec![left, right],
        Expr::Case { whens, otherwise, .. } => {
            let pairs = whens.iter_mut().flat_map(|(when, then)| [when, then]);
            pairs.chain(otherwise.as_deref_mut()).collect()
        }
        Expr::InList { arg, list, .. } => std::iter::once(&mut **arg).chain(list).collect(),
        Expr::Quantified { left, array, .. } => vec![left, array],
    }
}

/// The subquery that an expression is.
pub(crate) fn subquery(expr: &mut BoundExpr) -> Option<&mut Subquery> {
    match expr {
        Expr::Leaf(BoundLeaf::Subquery(subquery)) => Some(subquery),
        _ => None,
    }
}

/// Visits the whole expressions of a relation and of all below it.
pub(crate) fn exprs(rel: &mut Rel, depth: u16, visit: &mut Visit<'_>) -> SqlResult<()> {
    match rel {
        Rel::Unit | Rel::Scan { .. } | Rel::Virtual { .. } => Ok(()),
        Rel::Values { rows, .. } => rows.iter_mut().flatten().try_for_each(|e| visit(e, depth)),
        Rel::Series { args, .. } => args.iter_mut().try_for_each(|e| visit(e, depth)),
        Rel::Filter { input, predicate } => {
            exprs(input, depth, visit)?;
            visit(predicate, depth)
        }
        Rel::Project { input, columns } | Rel::Unnest { input, arrays: columns, .. } => {
            exprs(input, depth, visit)?;
            columns.iter_mut().try_for_each(|(_, e)| visit(e, depth))
        }
        Rel::Aggregate { input, groups, aggregates, .. } => {
            exprs(input, depth, visit)?;
            groups.iter_mut().try_for_each(|(_, e)| visit(e, depth))?;
            for (_, call) in aggregates {
                call.args.iter_mut().chain(&mut call.filter).try_for_each(|e| visit(e, depth))?;
                keys(&mut call.order, depth, visit)?;
            }
            Ok(())
        }
        Rel::Window { input, columns } => {
            exprs(input, depth, visit)?;
            for (_, call) in columns {
                call.args.iter_mut().chain(&mut call.partition).try_for_each(|e| visit(e, depth))?;
                keys(&mut call.order, depth, visit)?;
            }
            Ok(())
        }
        Rel::Join { left, right, on, lateral, .. } => {
            exprs(left, depth, visit)?;
            exprs(right, depth + u16::from(*lateral), visit)?;
            on.iter_mut().try_for_each(|e| visit(e, depth))
        }
        Rel::SetOp { left, right, .. } => {
            exprs(&mut left.rel, depth, visit)?;
            exprs(&mut right.rel, depth, visit)
        }
        Rel::Distinct { input, .. } | Rel::Lock { input, .. } => exprs(input, depth, visit),
        Rel::DistinctOn { input, on, keys: order } => {
            exprs(input, depth, visit)?;
            on.iter_mut().try_for_each(|e| visit(e, depth))?;
            keys(order, depth, visit)
        }
        Rel::Sort { input, keys: order } => {
            exprs(input, depth, visit)?;
            keys(order, depth, visit)
        }
        Rel::Limit { input, limit, offset } => {
            exprs(input, depth, visit)?;
            limit.iter_mut().chain(offset).try_for_each(|e| visit(e, depth))
        }
        Rel::Derived { query, .. } => exprs(&mut query.rel, depth, visit),
    }
}

fn keys(keys: &mut [SortKey], depth: u16, visit: &mut Visit<'_>) -> SqlResult<()> {
    keys.iter_mut().try_for_each(|key| visit(&mut key.expr, depth))
}

/// Visits the relations of a query, those of subqueries in expressions included, from the outside in.
pub(crate) fn relations(query: &mut Query, visit: &mut dyn FnMut(&mut Rel)) {
    relations_of(&mut query.rel, visit);
    // Nothing fails in this walk.
    let _ = exprs(&mut query.rel, 0, &mut |expr, _| {
        relations_in(expr, visit);
        Ok(())
    });
}

/// Visits the relations of the subqueries in an expression.
pub(crate) fn relations_in(expr: &mut BoundExpr, visit: &mut dyn FnMut(&mut Rel)) {
    for child in children(expr) {
        relations_in(child, visit);
    }
    if let Some(subquery) = subquery(expr) {
        relations(&mut subquery.query, visit);
    }
}

fn relations_of(rel: &mut Rel, visit: &mut dyn FnMut(&mut Rel)) {
    visit(rel);
    match rel {
        Rel::Unit | Rel::Scan { .. } | Rel::Virtual { .. } | Rel::Values { .. } | Rel::Series { .. } => {}
        Rel::Filter { input, .. }
        | Rel::Project { input, .. }
        | Rel::Unnest { input, .. }
        | Rel::Aggregate { input, .. }
        | Rel::Window { input, .. }
        | Rel::Distinct { input, .. }
        | Rel::DistinctOn { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Lock { input, .. }
        | Rel::Limit { input, .. } => relations_of(input, visit),
        Rel::Join { left, right, .. } => {
            relations_of(left, visit);
            relations_of(right, visit);
        }
        Rel::SetOp { left, right, .. } => {
            relations_of(&mut left.rel, visit);
            relations_of(&mut right.rel, visit);
        }
        Rel::Derived { query, .. } => relations_of(&mut query.rel, visit),
    }
}
