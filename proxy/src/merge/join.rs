//! Which joins run next to the data: with a reference table, or by the keys that both sides are distributed by.

use super::place::{KeyColumn, Parts, Place, Placed, Plan, intersect, unite};
use super::prune::column;
use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use toroid_common::error::SqlResult;
use toroid_common::types::SqlType;
use toroid_query::error::sql_error;

/// The output columns of a join: side (right is true) and index there.
fn output(kind: JoinType, left: usize, right: usize, projection: Option<&[usize]>) -> Vec<Option<(bool, usize)>> {
    let lefts = (0..left).map(|i| Some((false, i)));
    let rights = (0..right).map(|i| Some((true, i)));
    let all: Vec<Option<(bool, usize)>> = match kind {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => lefts.chain(rights).collect(),
        JoinType::LeftSemi | JoinType::LeftAnti => lefts.collect(),
        JoinType::RightSemi | JoinType::RightAnti => rights.collect(),
        JoinType::LeftMark => lefts.chain([None]).collect(),
        JoinType::RightMark => rights.chain([None]).collect(),
    };
    match projection {
        Some(columns) => columns.iter().map(|i| all.get(*i).copied().flatten()).collect(),
        None => all,
    }
}

/// Where a side's column is in the output.
fn positions(output: &[Option<(bool, usize)>], right: bool, index: usize) -> Vec<usize> {
    output.iter().enumerate().filter(|(_, c)| **c == Some((right, index))).map(|(i, _)| i).collect()
}

/// The sides whose rows a join keeps even where nothing matches, or gives back alone.
fn led_by_left(kind: JoinType) -> bool {
    matches!(kind, JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark)
}

fn led_by_right(kind: JoinType) -> bool {
    matches!(kind, JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark)
}

/// A join in which one side is complete at every worker.
pub(super) fn beside(kind: JoinType, projection: Option<&[usize]>, left: &Placed, right: &Placed) -> Option<Place> {
    let fields = |placed: &Placed| placed.plan.schema().fields().len();
    let output = output(kind, fields(left), fields(right), projection);
    match (&left.place, &right.place) {
        (Place::Everywhere, Place::Everywhere) => Some(Place::Everywhere),
        (Place::Parts(parts), Place::Everywhere) if led_by_left(kind) => {
            Some(Place::Parts(parts.clone().map_columns(|i| positions(&output, false, i))))
        }
        (Place::Everywhere, Place::Parts(parts)) if led_by_right(kind) => {
            Some(Place::Parts(parts.clone().map_columns(|i| positions(&output, true, i))))
        }
        _ => None,
    }
}

/// A hash join: beside a reference table, or co-located.
pub(super) fn hash(join: &HashJoinExec, left: &Placed, right: &Placed) -> Option<Place> {
    if *join.partition_mode() != PartitionMode::CollectLeft {
        return None;
    }
    let kind = *join.join_type();
    let projection = join.projection.as_ref().map(|columns| columns.to_vec());
    let (Place::Parts(a), Place::Parts(b)) = (&left.place, &right.place) else {
        return beside(kind, projection.as_deref(), left, right);
    };
    // NOT IN asks whether there is a NULL anywhere, which no worker knows alone.
    if join.null_aware || !is_colocated(a, b, join.on()) {
        return None;
    }
    let fields = |placed: &Placed| placed.plan.schema().fields().len();
    let output = output(kind, fields(left), fields(right), projection.as_deref());
    let (pa, pb) = (a.partitions.clone(), b.partitions.clone());
    let partitions = match kind {
        JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => intersect(pa, pb),
        JoinType::Left | JoinType::LeftAnti | JoinType::LeftMark => pa,
        JoinType::Right | JoinType::RightAnti | JoinType::RightMark => pb,
        JoinType::Full => unite(pa, pb),
    };
    Some(Place::Parts(Parts { partitions, key: joined_key(kind, a, b, &output) }))
}

/// The key after the join: where both sides matched, either side's column holds it; an unmatched side's column is NULL and does not.
fn joined_key(kind: JoinType, a: &Parts, b: &Parts, output: &[Option<(bool, usize)>]) -> Option<Vec<KeyColumn>> {
    let (with_left, with_right) = match kind {
        JoinType::Inner => (true, true),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, true),
        JoinType::Full => return None,
    };
    let (a, b) = (a.key.as_ref()?, b.key.as_ref()?);
    a.iter()
        .zip(b)
        .map(|(left, right)| {
            let lefts = left.columns.iter().filter(|_| with_left).flat_map(|i| positions(output, false, *i));
            let rights = right.columns.iter().filter(|_| with_right).flat_map(|i| positions(output, true, *i));
            let columns: BTreeSet<usize> = lefts.chain(rights).collect();
            let ty = if with_left { left.ty } else { right.ty };
            (!columns.is_empty()).then_some(KeyColumn { columns, ty })
        })
        .collect()
}

/// What a join holds equal: an expression of the left side, and one of the right.
type Equality = (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>);

/// Whether the join's equalities bind every column of one key to the same column of the other, in types that hash alike.
fn is_colocated(a: &Parts, b: &Parts, on: &[Equality]) -> bool {
    let (Some(a), Some(b)) = (&a.key, &b.key) else { return false };
    let pairs: Vec<(usize, usize)> = on.iter().filter_map(|(l, r)| Some((column(l)?, column(r)?))).collect();
    a.len() == b.len()
        && a.iter().zip(b).all(|(left, right)| {
            hash_alike(left.ty, right.ty)
                && pairs.iter().any(|(l, r)| left.columns.contains(l) && right.columns.contains(r))
        })
}

/// Equal values of these types have one canonical encoding.
fn hash_alike(a: SqlType, b: SqlType) -> bool {
    let integer = |ty| matches!(ty, SqlType::Int2 | SqlType::Int4 | SqlType::Int8);
    a == b || (integer(a) && integer(b))
}

/// The same join with the reference table on the side that is collected, where the kind of join allows it.
pub(super) fn swapped(plan: Plan) -> SqlResult<Plan> {
    let any: &dyn Any = plan.as_ref();
    match any.downcast_ref::<HashJoinExec>() {
        Some(join) if *join.join_type() == JoinType::Inner => {
            join.swap_inputs(PartitionMode::CollectLeft).map_err(sql_error)
        }
        _ => Ok(plan),
    }
}
