//! Where rows are: at all workers in full, in parts by key, or at the proxy.

use super::remote::Site;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::PartitionId;
use toroid_common::map::ClusterMap;
use toroid_common::routing;
use toroid_common::types::SqlType;

/// One column of a distribution key as an operator's output has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// Output columns that hold it; equal after a join.
    pub(super) columns: BTreeSet<usize>,
    pub(super) ty: SqlType,
}

/// Rows in parts: each worker has those of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Only these partitions can have any; `None` is all.
    pub(super) partitions: Option<BTreeSet<PartitionId>>,
    /// By which columns rows are where they are; `None` when the output lost one of them.
    pub(super) key: Option<Vec<KeyColumn>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Proxy,
    /// Every worker has all of them.
    Everywhere,
    Parts(Parts),
}

pub(super) type Plan = Arc<dyn ExecutionPlan>;

/// How the shares of the workers become one stream at the proxy.
#[derive(Clone, Debug)]
pub(super) enum Gather {
    /// Each share by itself.
    None,
    /// In any order.
    Any { fetch: Option<usize> },
    /// Sorted shares into a sorted whole.
    Merge { order: LexOrdering, fetch: Option<usize> },
}

/// A plan with where it runs; what `gather` says happens at the proxy after it.
pub(super) struct Placed {
    pub(super) plan: Plan,
    pub(super) place: Place,
    pub(super) gather: Gather,
}

impl Placed {
    pub(super) fn at_proxy(plan: Plan) -> Placed {
        Placed { plan, place: Place::Proxy, gather: Gather::None }
    }

    pub(super) fn at_data(plan: Plan, place: Place) -> Placed {
        Placed { plan, place, gather: Gather::None }
    }
}

impl Parts {
    /// The same rows in columns that `f` finds the old ones in.
    pub(super) fn map_columns(self, f: impl Fn(usize) -> Vec<usize>) -> Parts {
        let key = self.key.and_then(|key| {
            key.into_iter()
                .map(|column| {
                    let columns: BTreeSet<usize> = column.columns.into_iter().flat_map(&f).collect();
                    (!columns.is_empty()).then_some(KeyColumn { columns, ty: column.ty })
                })
                .collect()
        });
        Parts { key, ..self }
    }

    pub(super) fn without_key(self) -> Parts {
        Parts { key: None, ..self }
    }
}

/// Both sets of partitions; `None` is all.
pub(super) fn intersect(
    a: Option<BTreeSet<PartitionId>>,
    b: Option<BTreeSet<PartitionId>>,
) -> Option<BTreeSet<PartitionId>> {
    match (a, b) {
        (None, other) | (other, None) => other,
        (Some(a), Some(b)) => Some(a.intersection(&b).copied().collect()),
    }
}

/// Either set of partitions; `None` is all.
pub(super) fn unite(
    a: Option<BTreeSet<PartitionId>>,
    b: Option<BTreeSet<PartitionId>>,
) -> Option<BTreeSet<PartitionId>> {
    match (a, b) {
        (None, _) | (_, None) => None,
        (Some(a), Some(b)) => Some(a.union(&b).copied().collect()),
    }
}

/// The workers that a fragment goes to, in the map's order.
pub(super) fn sites(place: &Place, map: &ClusterMap) -> SqlResult<Vec<Site>> {
    match place {
        Place::Proxy => Ok(Vec::new()),
        Place::Everywhere => {
            // Any will do; workers that are primaries of something are known to be there.
            let mut all = sites_of(None, map)?;
            all.truncate(1);
            match all.is_empty() {
                true => Err(SqlError::internal("no worker holds a partition")),
                false => Ok(all),
            }
        }
        Place::Parts(parts) => sites_of(parts.partitions.as_ref(), map),
    }
}

fn sites_of(wanted: Option<&BTreeSet<PartitionId>>, map: &ClusterMap) -> SqlResult<Vec<Site>> {
    let mut by_worker: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (i, assignment) in map.partitions.iter().enumerate() {
        let partition = PartitionId(i as u16);
        if wanted.is_some_and(|wanted| !wanted.contains(&partition)) {
            continue;
        }
        let primary = assignment.primary.ok_or_else(|| routing::lost(partition))?;
        by_worker.entry(primary).or_default().push((partition, assignment.epoch));
    }
    Ok(by_worker.into_iter().map(|(worker, partitions)| Site { worker, partitions }).collect())
}
