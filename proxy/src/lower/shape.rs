//! Questions to bound relations: their columns, and which correlated subqueries DataFusion turns into joins itself.

use super::expression::has_subquery;
use super::initial::reads_outside;
use crate::bound::{BoundExpr, BoundLeaf, ColId, Query, Rel, Subquery, SubqueryKind};
use toroid_common::expr::Expr;
use toroid_common::types::SqlType;
use toroid_query::scalar::order::Comparison;

pub(super) fn leaf(id: ColId, ty: SqlType) -> BoundExpr {
    Expr::Leaf(BoundLeaf::Column { id, ty })
}

/// Whether DataFusion makes an exact join of a subquery that is a condition on its own.
pub(super) fn joins_as_condition(subquery: &Subquery) -> bool {
    match &subquery.kind {
        SubqueryKind::Exists { .. } => is_filtered(below_list(&subquery.query.rel)),
        SubqueryKind::Quantified { arg, .. } => !has_subquery(arg) && is_filtered(&subquery.query.rel),
        SubqueryKind::Scalar => joins_as_value(subquery),
        SubqueryKind::Array => false,
    }
}

/// The relation under a SELECT list, which EXISTS does not look at.
pub(super) fn below_list(rel: &Rel) -> &Rel {
    match rel {
        Rel::Project { input, .. } => below_list(input),
        other => other,
    }
}

/// Only conditions on plain rows read columns around the subquery.
fn is_filtered(rel: &Rel) -> bool {
    match rel {
        Rel::Filter { input, predicate } => !has_subquery(predicate) && is_filtered(input),
        other => !reads_outside(other),
    }
}

/// Whether DataFusion makes an exact join of a subquery whose value is used: one aggregate over rows found by equality.
pub(super) fn joins_as_value(subquery: &Subquery) -> bool {
    let Subquery { kind: SubqueryKind::Scalar, query: Query { rel, output } } = subquery else { return false };
    let Rel::Aggregate { input, groups, sets: None, aggregates } = rel else { return false };
    let plain = |e: &BoundExpr| !has_subquery(e) && is_local(e);
    groups.is_empty()
        && output.first().is_some_and(|column| aggregates.iter().any(|(id, _)| *id == column.id))
        && aggregates.iter().all(|(_, call)| {
            call.args.iter().chain(&call.filter).chain(call.order.iter().map(|key| &key.expr)).all(plain)
        })
        && is_found_by_equality(input)
}

fn is_found_by_equality(rel: &Rel) -> bool {
    match rel {
        Rel::Filter { input, predicate } => {
            let fits = |e: &BoundExpr| !has_subquery(e) && (is_local(e) || is_equality(e));
            let fits = match predicate {
                Expr::And(args) => args.iter().all(fits),
                other => fits(other),
            };
            fits && is_found_by_equality(input)
        }
        other => !reads_outside(other),
    }
}

/// A column of the subquery equal to one around it, in a type that Arrow compares.
fn is_equality(expr: &BoundExpr) -> bool {
    let Expr::Call { func, args, .. } = expr else { return false };
    let sides = |a: &BoundExpr, b: &BoundExpr| {
        matches!(a, Expr::Leaf(BoundLeaf::Column { .. }))
            && matches!(b, Expr::Leaf(BoundLeaf::Outer { depth: 1, .. }))
            && a.ty() == b.ty()
            && Comparison::of(a.ty()) == Comparison::Native
    };
    match args.as_slice() {
        [a, b] => func.function().name == "=" && (sides(a, b) || sides(b, a)),
        _ => false,
    }
}

fn is_local(expr: &BoundExpr) -> bool {
    let mut local = true;
    expr.each_leaf(&mut |leaf| local &= !matches!(leaf, BoundLeaf::Outer { .. }));
    local
}
