//! Which partitions a filter leaves: those of the constants that it binds the distribution key to.

use super::place::Parts;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, InListExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::hash::partition_of;
use toroid_common::id::PartitionId;
use toroid_common::types::SqlType;
use toroid_query::column::datum_of;

/// More combinations than this are not worked out.
const MAX_KEYS: usize = 1_024;

/// The partitions in which rows can pass `predicate`; `None` when that is not known.
pub(super) fn partitions(
    parts: &Parts,
    predicate: &Arc<dyn PhysicalExpr>,
    count: u16,
) -> Option<BTreeSet<PartitionId>> {
    let key = parts.key.as_ref()?;
    let bound = bindings(predicate);
    let mut keys: Vec<Vec<Datum>> = vec![Vec::new()];
    for column in key {
        let values = column.columns.iter().find_map(|index| bound.get(index))?;
        let values: Option<Vec<Datum>> = values.iter().map(|value| datum(value, column.ty)).collect();
        let values = values?;
        if keys.len() * values.len() > MAX_KEYS {
            return None;
        }
        keys = keys
            .into_iter()
            .flat_map(|key| values.iter().map(move |v| key.iter().cloned().chain([v.clone()]).collect()))
            .collect();
    }
    // A row whose key compares to NULL does not pass.
    let known = keys.iter().filter(|key| key.iter().all(|value| !value.is_null()));
    Some(known.map(|key| partition_of(key.iter().map(Datum::borrow), count)).collect())
}

/// A constant as a value of the key's type, or of another integer width, which hashes alike.
fn datum(value: &ScalarValue, ty: SqlType) -> Option<Datum> {
    let integer = |ty| matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8);
    let found = match value {
        ScalarValue::Int16(_) if integer(ty) => SqlType::Int2,
        ScalarValue::Int32(_) if integer(ty) => SqlType::Int4,
        ScalarValue::Int64(_) if integer(ty) => SqlType::Int8,
        other if other.data_type() == ty.arrow() => ty,
        _ => return None,
    };
    datum_of(value, found).ok()
}

/// Columns that a predicate binds to constants.
fn bindings(predicate: &Arc<dyn PhysicalExpr>) -> BTreeMap<usize, Vec<ScalarValue>> {
    let mut bound = BTreeMap::new();
    for part in split_conjunction(predicate) {
        if let Some((column, values)) = binding(part) {
            bound.entry(column).or_insert(values);
        }
    }
    bound
}

fn binding(expr: &Arc<dyn PhysicalExpr>) -> Option<(usize, Vec<ScalarValue>)> {
    let any: &dyn std::any::Any = expr.as_ref();
    if let Some(equal) = any.downcast_ref::<BinaryExpr>() {
        if *equal.op() != Operator::Eq {
            return None;
        }
        let sides = [(equal.left(), equal.right()), (equal.right(), equal.left())];
        return sides.into_iter().find_map(|(a, b)| Some((column(a)?, vec![literal(b)?])));
    }
    let list = any.downcast_ref::<InListExpr>()?;
    if list.negated() {
        return None;
    }
    let values: Option<Vec<ScalarValue>> = list.list().iter().map(literal).collect();
    Some((column(list.expr())?, values?))
}

/// The column that an expression is, seen through casts to wider integers.
pub(super) fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let any: &dyn std::any::Any = expr.as_ref();
    match any.downcast_ref::<CastExpr>() {
        Some(cast) if cast.cast_type().is_integer() => column(cast.expr()),
        _ => any.downcast_ref::<Column>().map(Column::index),
    }
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    let any: &dyn std::any::Any = expr.as_ref();
    any.downcast_ref::<Literal>().map(|literal| literal.value().clone())
}
