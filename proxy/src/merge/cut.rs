//! The cut: which part of a physical plan runs next to the data, decided in one place by the kind of operator.
//!
//! From the leaves up every operator is placed: at the workers as long as each can do its own rows' share, else at the proxy, with a
//! [`RemoteExec`] where rows must travel. An operator that is not known here stays at the proxy.

use super::append::AppendExec;
use super::join;
use super::lazy;
use super::place::{Gather, KeyColumn, Parts, Place, Placed, Plan, intersect, sites, unite};
use super::prune;
use super::remote::RemoteExec;
use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use toroid_common::catalog::Distribution;
use toroid_common::error::SqlResult;
use toroid_common::map::ClusterMap;
use toroid_query::error::sql_error;
use toroid_query::leaf::ScanExec;

/// Cuts a plan for the workers of `map`.
pub(super) fn cut(plan: Plan, map: &ClusterMap) -> SqlResult<Plan> {
    let cutter = Cutter { map };
    let placed = cutter.place(&plan, true)?;
    cutter.settle(placed)
}

struct Cutter<'a> {
    map: &'a ClusterMap,
}

fn rebuilt(plan: &Plan, children: Vec<Plan>) -> SqlResult<Plan> {
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(plan).replace_children(children, options).map_err(sql_error)
}

impl Cutter<'_> {
    /// Brings the rows to the proxy, if they are not there.
    fn settle(&self, placed: Placed) -> SqlResult<Plan> {
        if placed.place == Place::Proxy {
            return Ok(placed.plan);
        }
        let sites = sites(&placed.place, self.map)?;
        let single = sites.len() <= 1;
        let remote: Plan = Arc::new(RemoteExec::new(placed.plan, sites)?);
        Ok(match placed.gather {
            Gather::Any { fetch: None } | Gather::Merge { fetch: None, .. } if single => remote,
            Gather::None => remote,
            Gather::Any { fetch } => Arc::new(CoalescePartitionsExec::new(remote).with_fetch(fetch)),
            Gather::Merge { order, fetch } => Arc::new(SortPreservingMergeExec::new(order, remote).with_fetch(fetch)),
        })
    }

    /// The operator at the proxy, over children brought there.
    fn stay(&self, plan: &Plan, children: Vec<Placed>) -> SqlResult<Placed> {
        let children = children.into_iter().map(|child| self.settle(child)).collect::<SqlResult<Vec<_>>>()?;
        Ok(Placed::at_proxy(if children.is_empty() { Arc::clone(plan) } else { rebuilt(plan, children)? }))
    }

    /// Whether one worker has all of a child's rows, so that it can do anything with them.
    fn is_solo(&self, placed: &Placed) -> SqlResult<bool> {
        Ok(match &placed.place {
            Place::Proxy => false,
            Place::Everywhere => true,
            // Where nobody has any there is nobody to say so: a count of nothing is the proxy's.
            Place::Parts(_) => sites(&placed.place, self.map)?.len() == 1,
        })
    }

    /// `in_order`: whether somebody could see the order of the rows.
    fn place(&self, plan: &Plan, in_order: bool) -> SqlResult<Placed> {
        let any: &dyn Any = plan.as_ref();
        let joins = any.is::<HashJoinExec>() || any.is::<NestedLoopJoinExec>() || any.is::<CrossJoinExec>();
        let in_order = in_order && !joins && !any.is::<AggregateExec>() && !any.is::<SortExec>();
        let children = plan.children().into_iter().map(|child| self.place(child, in_order));
        let mut children = children.collect::<SqlResult<Vec<_>>>()?;
        if let Some(scan) = any.downcast_ref::<ScanExec>() {
            return Ok(Placed::at_data(Arc::clone(plan), place_of(scan)));
        }
        if let Some(join) = any.downcast_ref::<HashJoinExec>() {
            return self.join(plan, children, |left, right| join::hash(join, left, right));
        }
        if any.is::<NestedLoopJoinExec>() || any.is::<CrossJoinExec>() {
            let kind = any.downcast_ref::<NestedLoopJoinExec>().map_or(JoinType::Inner, |join| *join.join_type());
            let projection = any.downcast_ref::<NestedLoopJoinExec>().and_then(|join| join.projection().clone());
            let projection = projection.as_ref().map(|p| p.to_vec());
            return self.join(plan, children, |left, right| join::beside(kind, projection.as_deref(), left, right));
        }
        if any.is::<UnionExec>() {
            return self.union(plan, children, in_order);
        }
        let [_] = children.as_slice() else { return self.stay(plan, children) };
        let Some(child) = children.pop() else { return self.stay(plan, children) };
        if child.place == Place::Proxy {
            return self.at_proxy(plan, child);
        }
        self.unary(plan, child)
    }

    /// An operator over rows that are at the proxy already.
    fn at_proxy(&self, plan: &Plan, child: Placed) -> SqlResult<Placed> {
        let any: &dyn Any = plan.as_ref();
        let single = child.plan.output_partitioning().partition_count() == 1;
        if single && any.downcast_ref::<CoalescePartitionsExec>().is_some_and(|c| c.fetch().is_none()) {
            return Ok(child);
        }
        if let Some(filter) = any.downcast_ref::<FilterExec>() {
            return Ok(Placed::at_proxy(lazy::filter(filter, child.plan)?));
        }
        self.stay(plan, vec![child])
    }

    /// An operator with one input that is at the workers.
    fn unary(&self, plan: &Plan, child: Placed) -> SqlResult<Placed> {
        let any: &dyn Any = plan.as_ref();
        if let Some(coalesce) = any.downcast_ref::<CoalescePartitionsExec>() {
            return self.gathered(plan, child, coalesce.fetch());
        }
        if let Some(merge) = any.downcast_ref::<SortPreservingMergeExec>() {
            return match child.gather {
                Gather::None => {
                    Ok(Placed { gather: Gather::Merge { order: merge.expr().clone(), fetch: merge.fetch() }, ..child })
                }
                Gather::Any { .. } | Gather::Merge { .. } => self.stay(plan, vec![child]),
            };
        }
        if let Some(aggregate) = any.downcast_ref::<AggregateExec>() {
            return self.aggregate(plan, aggregate, child);
        }
        if let Some(sort) = any.downcast_ref::<SortExec>() {
            return self.sort(plan, sort, child);
        }
        if let Some(limit) = any.downcast_ref::<GlobalLimitExec>() {
            return self.limit(plan, limit, child);
        }
        let solo = self.is_solo(&child)?;
        if !matches!(child.gather, Gather::None) && !solo {
            return self.stay(plan, vec![child]);
        }
        let place = child.place.clone();
        if let Some(filter) = any.downcast_ref::<FilterExec>() {
            let place = self.filtered(filter, place);
            return Ok(Placed { plan: lazy::filter(filter, child.plan)?, place, gather: child.gather });
        }
        if let Some(projection) = any.downcast_ref::<ProjectionExec>() {
            let place = projected(projection, place);
            return Ok(Placed { plan: rebuilt(plan, vec![child.plan])?, place, gather: child.gather });
        }
        if any.is::<CooperativeExec>() || any.is::<LocalLimitExec>() {
            return Ok(Placed { plan: rebuilt(plan, vec![child.plan])?, place, gather: child.gather });
        }
        self.stay(plan, vec![child])
    }

    fn gathered(&self, plan: &Plan, child: Placed, fetch: Option<usize>) -> SqlResult<Placed> {
        match child.gather {
            Gather::None => {
                // No worker has to give more than all of them together may.
                let share = match fetch {
                    Some(fetch) => Arc::new(LocalLimitExec::new(child.plan, fetch)),
                    None => child.plan,
                };
                Ok(Placed { plan: share, gather: Gather::Any { fetch }, place: child.place })
            }
            Gather::Any { .. } | Gather::Merge { .. } => self.stay(plan, vec![child]),
        }
    }

    fn filtered(&self, filter: &FilterExec, place: Place) -> Place {
        let Place::Parts(mut parts) = place else { return place };
        let count = self.map.partitions.len() as u16;
        if let Some(found) = prune::partitions(&parts, filter.predicate(), count) {
            parts.partitions = intersect(parts.partitions.take(), Some(found));
        }
        if let Some(projection) = filter.projection() {
            parts = parts.map_columns(|column| positions(projection.iter().map(|i| *i == column)));
        }
        Place::Parts(parts)
    }

    /// A partial aggregate is every worker's own; a final one too where no group has rows at two workers.
    fn aggregate(&self, plan: &Plan, aggregate: &AggregateExec, child: Placed) -> SqlResult<Placed> {
        let whole = self.is_solo(&child)? || has_whole_groups(aggregate, &child);
        match (aggregate.mode(), &child.gather) {
            (AggregateMode::Partial, Gather::None) => {
                let place = grouped(aggregate, child.place);
                Ok(Placed::at_data(rebuilt(plan, vec![child.plan])?, place))
            }
            (AggregateMode::Final | AggregateMode::Single, Gather::None | Gather::Any { fetch: None }) if whole => {
                let place = grouped(aggregate, child.place);
                Ok(Placed { plan: in_one(plan, child.plan)?, place, gather: Gather::Any { fetch: None } })
            }
            _ => self.stay(plan, vec![child]),
        }
    }

    /// Every worker sorts its share (the first rows of it, where only those are wanted); the proxy merges.
    fn sort(&self, plan: &Plan, sort: &SortExec, child: Placed) -> SqlResult<Placed> {
        let gather = match (&child.gather, sort.preserve_partitioning()) {
            (Gather::None, true) => Gather::None,
            (Gather::None | Gather::Any { fetch: None }, _) => {
                Gather::Merge { order: sort.expr().clone(), fetch: sort.fetch() }
            }
            _ => return self.stay(plan, vec![child]),
        };
        let share =
            SortExec::new(sort.expr().clone(), child.plan).with_fetch(sort.fetch()).with_preserve_partitioning(true);
        Ok(Placed { plan: Arc::new(share), place: child.place, gather })
    }

    /// A worker need not send more rows than are skipped and fetched together.
    fn limit(&self, plan: &Plan, limit: &GlobalLimitExec, child: Placed) -> SqlResult<Placed> {
        let fetch = limit.fetch().map(|fetch| fetch.saturating_add(limit.skip()));
        let child = match (fetch, &child.gather) {
            (Some(fetch), Gather::None | Gather::Any { .. }) => {
                Placed { plan: Arc::new(LocalLimitExec::new(child.plan, fetch)), ..child }
            }
            _ => child,
        };
        self.stay(plan, vec![child])
    }

    fn union(&self, plan: &Plan, children: Vec<Placed>, in_order: bool) -> SqlResult<Placed> {
        let parts: Option<Vec<&Parts>> = children
            .iter()
            .map(|child| match (&child.place, &child.gather) {
                (Place::Parts(parts), Gather::None) => Some(parts),
                _ => None,
            })
            .collect();
        let united = parts.filter(|_| !in_order).and_then(|parts| {
            let all = parts.iter().map(|p| p.partitions.clone()).reduce(unite)?;
            parts.iter().all(|p| p.partitions == all).then_some(all)
        });
        let Some(all) = united else { return self.append(plan, children) };
        let children = children.into_iter().map(|child| child.plan).collect();
        let place = Place::Parts(Parts { partitions: all, key: None });
        // A worker runs one stream of each input, so the inputs' streams have to become one there.
        let union: Plan = Arc::new(CoalescePartitionsExec::new(rebuilt(plan, children)?));
        Ok(Placed { plan: union, place, gather: Gather::None })
    }

    /// A union at the proxy.
    fn append(&self, plan: &Plan, children: Vec<Placed>) -> SqlResult<Placed> {
        let children = children.into_iter().map(|child| self.settle(child)).collect::<SqlResult<Vec<_>>>()?;
        Ok(Placed::at_proxy(Arc::new(AppendExec::new(plan, children))))
    }

    fn join(
        &self,
        plan: &Plan,
        children: Vec<Placed>,
        decide: impl FnOnce(&Placed, &Placed) -> Option<Place>,
    ) -> SqlResult<Placed> {
        let [left, right] = children.as_slice() else { return self.stay(plan, children) };
        let free = |gather: &Gather| matches!(gather, Gather::None | Gather::Any { fetch: None });
        // The left side is collected first; each worker collects its own.
        let place = if free(&left.gather) && matches!(right.gather, Gather::None) { decide(left, right) } else { None };
        let Some(place) = place else { return self.stay(plan, children) };
        let swap = left.place != Place::Everywhere && right.place == Place::Everywhere;
        let plans = children.into_iter().map(|child| child.plan).collect();
        let joined = rebuilt(plan, plans)?;
        let joined = if swap { join::swapped(joined)? } else { joined };
        Ok(Placed::at_data(joined, place))
    }
}

fn place_of(scan: &ScanExec) -> Place {
    let stored = scan.stored();
    match &stored.distribution {
        Distribution::Replicated => Place::Everywhere,
        Distribution::Hash(columns) => {
            let key = columns.iter().map(|position| {
                let index = stored.columns.iter().position(|c| c.position == *position)?;
                let ty = stored.columns.get(index)?.ty;
                Some(KeyColumn { columns: BTreeSet::from([index]), ty })
            });
            Place::Parts(Parts { partitions: None, key: key.collect() })
        }
    }
}

/// The positions of what is true.
fn positions(found: impl Iterator<Item = bool>) -> Vec<usize> {
    found.enumerate().filter(|(_, found)| *found).map(|(i, _)| i).collect()
}

fn is_column(expr: &Arc<dyn PhysicalExpr>, index: usize) -> bool {
    prune::column(expr) == Some(index)
}

fn projected(projection: &ProjectionExec, place: Place) -> Place {
    let Place::Parts(parts) = place else { return place };
    Place::Parts(parts.map_columns(|column| positions(projection.expr().iter().map(|e| is_column(&e.expr, column)))))
}

/// Group columns come first in an aggregate's output.
fn grouped(aggregate: &AggregateExec, place: Place) -> Place {
    let Place::Parts(parts) = place else { return place };
    if aggregate.group_expr().has_grouping_set() {
        return Place::Parts(parts.without_key());
    }
    let groups = aggregate.group_expr().expr();
    Place::Parts(parts.map_columns(|column| positions(groups.iter().map(|(expr, _)| is_column(expr, column)))))
}

/// A final aggregate over a partial one in the same fragment: one step does both.
fn in_one(last: &Plan, input: Plan) -> SqlResult<Plan> {
    let any: &dyn Any = input.as_ref();
    let partial = any.downcast_ref::<AggregateExec>().filter(|first| *first.mode() == AggregateMode::Partial);
    let Some(first) = partial.filter(|first| !first.group_expr().has_grouping_set()) else {
        return rebuilt(last, vec![input]);
    };
    let whole = AggregateExec::try_new(
        AggregateMode::Single,
        first.group_expr().clone(),
        first.aggr_expr().to_vec(),
        first.filter_expr().to_vec(),
        Arc::clone(first.input()),
        first.input_schema(),
    );
    Ok(Arc::new(whole.map_err(sql_error)?))
}

/// Whether rows of one group are never at two workers: the groups contain the distribution key.
fn has_whole_groups(aggregate: &AggregateExec, child: &Placed) -> bool {
    let Place::Parts(parts) = &child.place else { return false };
    let groups = aggregate.group_expr();
    let grouped = |column: &KeyColumn| {
        column.columns.iter().any(|index| groups.expr().iter().any(|(expr, _)| is_column(expr, *index)))
    };
    !groups.has_grouping_set() && !groups.is_empty() && parts.key.as_ref().is_some_and(|key| key.iter().all(grouped))
}
