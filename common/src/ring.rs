//! Placement: the consistent-hash ring proposes which workers hold each partition, within bounds of load.
//!
//! Pure and deterministic: the metadata leader alone asks it, and writes the answer into the cluster map.

use crate::hash::hash_bytes;
use crate::id::{NodeId, PartitionId, WorkerId};
use hashring::HashRing;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash, Hasher};

/// Virtual nodes per unit of capacity.
const VIRTUAL_NODES: u32 = 64;
/// Most virtual nodes of a node: capacities are weights, not sizes.
const MAX_VIRTUAL_NODES: u32 = 4096;

/// A node as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingNode {
    pub id: NodeId,
    pub workers: u16,
    pub zone: String,
    /// Its weight; zero takes no partition.
    pub capacity: u32,
}

/// Who holds a partition; the primary comes first.
pub type Holders = Vec<WorkerId>;

/// The workers of each partition: `copies` distinct nodes (as many as there are, if fewer), in distinct zones where there are as many zones as copies,
/// no node above its share of the load rounded up plus one; primaries balanced over nodes and workers.
pub fn place(nodes: &[RingNode], partitions: u16, copies: usize) -> Vec<Holders> {
    let usable: Vec<&RingNode> = nodes.iter().filter(|node| node.capacity > 0 && node.workers > 0).collect();
    let copies = copies.min(usable.len());
    if copies == 0 {
        return vec![Vec::new(); usize::from(partitions)];
    }
    let ring = Ring::new(&usable);
    let mut groups = Groups::new(&usable, usize::from(partitions), copies);
    let sets: Vec<Vec<usize>> = (0..partitions)
        .map(|partition| groups.choose(ring.walk(PartitionId(partition)), usize::from(partitions - partition), copies))
        .collect();
    let capacities: Vec<u64> = usable.iter().map(|node| u64::from(node.capacity)).collect();
    assign_workers(&usable, balance_primaries(sets, &capacities))
}

/// Hashes exactly the bytes it is given, so that positions on the ring are the same in every build.
#[derive(Clone, Default)]
struct RingHasher(Vec<u8>);

impl Hasher for RingHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        hash_bytes(&self.0)
    }
}

struct RingHashBuilder;

impl BuildHasher for RingHashBuilder {
    type Hasher = RingHasher;

    fn build_hasher(&self) -> RingHasher {
        RingHasher::default()
    }
}

/// A virtual node: position of the node in the list, identity, and its number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct VirtualNode {
    at: usize,
    node: NodeId,
    number: u32,
}

impl Hash for VirtualNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(b"node");
        state.write(&self.node.0.to_le_bytes());
        state.write(&self.number.to_le_bytes());
    }
}

struct PartitionPoint(PartitionId);

impl Hash for PartitionPoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(b"partition");
        state.write(&self.0.0.to_le_bytes());
    }
}

struct Ring {
    ring: HashRing<VirtualNode, RingHashBuilder>,
    /// The virtual nodes clockwise, and where each of them stands.
    clockwise: Vec<usize>,
    positions: BTreeMap<(NodeId, u32), usize>,
}

impl Ring {
    fn new(nodes: &[&RingNode]) -> Ring {
        let points = |(at, node): (usize, &&RingNode)| {
            let (node, capacity) = (node.id, node.capacity);
            let count = capacity.saturating_mul(VIRTUAL_NODES).min(MAX_VIRTUAL_NODES);
            (0..count).map(move |number| VirtualNode { at, node, number })
        };
        let all: Vec<VirtualNode> = nodes.iter().enumerate().flat_map(points).collect();
        let mut ring = HashRing::with_hasher(RingHashBuilder);
        ring.batch_add(all.clone());
        // The crate does not show its order: it is that of the hashes, first come first among equals.
        let mut ordered = all;
        ordered.sort_by_cached_key(|v| RingHashBuilder.hash_one(v));
        let positions = ordered.iter().enumerate().map(|(i, v)| ((v.node, v.number), i)).collect();
        Ring { ring, clockwise: ordered.iter().map(|v| v.at).collect(), positions }
    }

    /// Nodes clockwise from a partition's point, each once.
    fn walk(&self, partition: PartitionId) -> Vec<usize> {
        let first = self.ring.get(&PartitionPoint(partition));
        let start = first.and_then(|v| self.positions.get(&(v.node, v.number))).copied().unwrap_or(0);
        let (before, after) = self.clockwise.split_at(start);
        let mut seen = BTreeSet::new();
        after.iter().chain(before).copied().filter(|at| seen.insert(*at)).collect()
    }
}

/// Failure domains (zones where there are enough, else nodes), of which a partition takes at most one copy each, with the room that is left.
struct Groups {
    /// The group of each node.
    of_node: Vec<usize>,
    room_of_node: Vec<usize>,
}

impl Groups {
    fn new(nodes: &[&RingNode], partitions: usize, copies: usize) -> Groups {
        let zones: BTreeSet<&str> = nodes.iter().map(|node| node.zone.as_str()).collect();
        let of_node: Vec<usize> = if zones.len() >= copies {
            nodes.iter().map(|node| zones.iter().position(|zone| *zone == node.zone).unwrap_or(0)).collect()
        } else {
            (0..nodes.len()).collect()
        };
        let mut capacity_of_group: BTreeMap<usize, u64> = BTreeMap::new();
        for (group, node) in of_node.iter().zip(nodes) {
            *capacity_of_group.entry(*group).or_default() += u64::from(node.capacity);
        }
        let loads = group_loads(&capacity_of_group, partitions as u64, copies as u64);
        let room_of_node = of_node
            .iter()
            .zip(nodes)
            .map(|(group, node)| {
                let load = loads.get(group).copied().unwrap_or((0, 1));
                let capacity = capacity_of_group.get(group).copied().unwrap_or(1);
                let share = (load.0 * u64::from(node.capacity)).div_ceil(load.1 * capacity);
                (share as usize + 1).min(partitions)
            })
            .collect();
        Groups { of_node, room_of_node }
    }

    fn room(&self, group: usize) -> usize {
        self.of_node.iter().zip(&self.room_of_node).filter(|(g, _)| **g == group).map(|(_, room)| room).sum()
    }

    /// Takes `copies` nodes of distinct groups, in walking order, so that the remaining partitions can be placed, too.
    fn choose(&mut self, walk: Vec<usize>, remaining: usize, copies: usize) -> Vec<usize> {
        let groups: BTreeSet<usize> = self.of_node.iter().copied().collect();
        let usable: usize = groups.iter().map(|group| self.room(*group).min(remaining)).sum();
        let slack = usable.saturating_sub(remaining * copies);
        // A group with room for all that remains must be taken now, but for as many as there is slack.
        let mut critical: BTreeSet<usize> = groups.into_iter().filter(|group| self.room(*group) >= remaining).collect();
        let mut taken = BTreeSet::new();
        let mut chosen = Vec::with_capacity(copies);
        while chosen.len() < copies {
            let forced = critical.len().saturating_sub(slack) >= copies - chosen.len();
            let next = walk.iter().copied().find(|node| {
                let group = self.of_node.get(*node).copied().unwrap_or(0);
                self.room_of_node.get(*node).is_some_and(|room| *room > 0)
                    && !taken.contains(&group)
                    && (!forced || critical.contains(&group))
            });
            let Some(node) = next else { break };
            let group = self.of_node.get(node).copied().unwrap_or(0);
            taken.insert(group);
            critical.remove(&group);
            if let Some(room) = self.room_of_node.get_mut(node) {
                *room -= 1;
            }
            chosen.push(node);
        }
        chosen
    }
}

/// The copies that each group should hold, as a fraction: by capacity, but none more than one copy of each partition.
fn group_loads(capacities: &BTreeMap<usize, u64>, partitions: u64, copies: u64) -> BTreeMap<usize, (u64, u64)> {
    let mut loads = BTreeMap::new();
    let mut open: Vec<(usize, u64)> = capacities.iter().map(|(group, capacity)| (*group, *capacity)).collect();
    let mut left = partitions * copies;
    loop {
        let total: u64 = open.iter().map(|(_, capacity)| capacity).sum();
        let before = open.len();
        let share_of_all = left;
        open.retain(|(group, capacity)| {
            let full = share_of_all * capacity >= partitions * total && total > 0;
            if full {
                loads.insert(*group, (partitions, 1));
                left = left.saturating_sub(partitions);
            }
            !full
        });
        if open.len() == before {
            loads.extend(open.iter().map(|(group, capacity)| (*group, (left * capacity, total.max(1)))));
            return loads;
        }
    }
}

/// Puts the primary first in each set, so that nodes have primaries by their capacity.
fn balance_primaries(sets: Vec<Vec<usize>>, capacities: &[u64]) -> Vec<Vec<usize>> {
    let mut sets = sets;
    let capacity = |node: usize| capacities.get(node).copied().unwrap_or(1).max(1);
    let mut primaries = vec![0_u64; capacities.len()];
    for set in &sets {
        if let Some(count) = set.first().and_then(|node| primaries.get_mut(*node)) {
            *count += 1;
        }
    }
    let count = |primaries: &[u64], node: usize| primaries.get(node).copied().unwrap_or(0);
    // Each exchange lowers the sum of squares of the loads, so this ends.
    loop {
        let mut changed = false;
        for set in &mut sets {
            let Some(&first) = set.first() else { continue };
            let load = |node: usize, extra: u64| u128::from(count(&primaries, node) + extra) << 32;
            let better = (1..set.len())
                .filter_map(|i| set.get(i).map(|node| (i, *node)))
                .filter(|(_, node)| {
                    load(*node, 1) / u128::from(capacity(*node)) < load(first, 0) / u128::from(capacity(first))
                })
                .min_by_key(|(_, node)| load(*node, 1) / u128::from(capacity(*node)));
            if let Some((i, node)) = better {
                set.swap(0, i);
                for (changed_node, delta) in [(first, -1), (node, 1)] {
                    if let Some(count) = primaries.get_mut(changed_node) {
                        *count = count.saturating_add_signed(delta);
                    }
                }
                changed = true;
            }
        }
        if !changed {
            return sets;
        }
    }
}

/// Spreads a node's copies over its workers: primaries evenly, then all copies evenly.
fn assign_workers(nodes: &[&RingNode], sets: Vec<Vec<usize>>) -> Vec<Holders> {
    // Per node and worker: primaries and copies so far.
    let mut loads: Vec<Vec<(usize, usize)>> =
        nodes.iter().map(|node| vec![(0, 0); usize::from(node.workers)]).collect();
    let mut primaries = Vec::with_capacity(sets.len());
    for set in &sets {
        primaries.push(set.first().and_then(|node| take_worker(nodes, &mut loads, *node, true)));
    }
    let mut holders = Vec::with_capacity(sets.len());
    for (set, primary) in sets.iter().zip(primaries) {
        let backups = set.iter().skip(1).filter_map(|node| take_worker(nodes, &mut loads, *node, false));
        holders.push(primary.into_iter().chain(backups).collect());
    }
    holders
}

fn take_worker(nodes: &[&RingNode], loads: &mut [Vec<(usize, usize)>], node: usize, primary: bool) -> Option<WorkerId> {
    let workers = loads.get_mut(node)?;
    let least =
        |(_, (primaries, copies)): &(usize, &mut (usize, usize))| (if primary { *primaries } else { 0 }, *copies);
    let (index, load) = workers.iter_mut().enumerate().min_by_key(least)?;
    load.0 += usize::from(primary);
    load.1 += 1;
    Some(WorkerId { node: nodes.get(node)?.id, index: index as u16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(specs: &[(&str, u32, u16)]) -> Vec<RingNode> {
        let node = |(i, (zone, capacity, workers)): (usize, &(&str, u32, u16))| RingNode {
            id: NodeId(i as u32 + 1),
            workers: *workers,
            zone: (*zone).to_owned(),
            capacity: *capacity,
        };
        specs.iter().enumerate().map(node).collect()
    }

    fn check(nodes: &[RingNode], partitions: u16, copies: usize) -> Vec<Holders> {
        let placed = place(nodes, partitions, copies);
        assert_eq!(placed.len(), usize::from(partitions));
        let mut load: BTreeMap<NodeId, usize> = BTreeMap::new();
        for holders in &placed {
            let distinct: BTreeSet<NodeId> = holders.iter().map(|w| w.node).collect();
            assert_eq!(distinct.len(), copies.min(nodes.len()), "distinct nodes");
            for holder in holders {
                *load.entry(holder.node).or_default() += 1;
                assert!(nodes.iter().any(|n| n.id == holder.node && holder.index < n.workers));
            }
        }
        let total: u32 = nodes.iter().map(|n| n.capacity).sum();
        for node in nodes {
            let share = (usize::from(partitions) * copies * node.capacity as usize).div_ceil(total as usize);
            let zones = nodes.iter().map(|n| &n.zone).collect::<BTreeSet<_>>().len();
            if zones < copies || zones == nodes.len() {
                assert!(load.get(&node.id).copied().unwrap_or(0) <= share + 1, "load {load:?}");
            }
        }
        placed
    }

    #[test]
    fn copies_are_distinct_and_load_is_bounded() {
        for count in 1..=9 {
            let specs: Vec<(&str, u32, u16)> = (0..count).map(|_| ("z", 1, 2)).collect();
            for copies in 1..=count.min(4) {
                for partitions in [1, 4, 64, 256] {
                    check(&nodes(&specs), partitions, copies);
                }
            }
        }
    }

    #[test]
    fn zones_are_distinct_where_there_are_enough() {
        let nodes = nodes(&[("a", 1, 1), ("a", 1, 1), ("b", 1, 1), ("c", 1, 1), ("c", 2, 1)]);
        let zone = |id: NodeId| nodes.iter().find(|n| n.id == id).map(|n| n.zone.clone());
        for copies in [2, 3] {
            for holders in place(&nodes, 64, copies) {
                let zones: BTreeSet<_> = holders.iter().map(|w| zone(w.node)).collect();
                assert_eq!(zones.len(), copies);
            }
        }
    }

    #[test]
    fn primaries_are_balanced_over_nodes_and_workers() {
        let nodes = nodes(&[("a", 1, 2), ("a", 1, 2), ("a", 1, 2)]);
        let mut primaries: BTreeMap<WorkerId, usize> = BTreeMap::new();
        for holders in check(&nodes, 64, 2) {
            *primaries.entry(holders[0]).or_default() += 1;
        }
        assert!(primaries.values().all(|count| (9..=12).contains(count)), "{primaries:?}");
    }

    #[test]
    fn a_new_node_moves_little() {
        let before = nodes(&[("a", 1, 1); 4]);
        let after = nodes(&[("a", 1, 1); 5]);
        let (old, new) = (place(&before, 256, 2), place(&after, 256, 2));
        let moved: usize =
            old.iter().zip(&new).map(|(o, n)| n.iter().filter(|w| !o.iter().any(|v| v.node == w.node)).count()).sum();
        // A fifth of 512 copies has to move; bounded load moves some more.
        assert!(moved <= 256, "{moved} copies moved");
    }

    #[test]
    fn placement_is_frozen() {
        let nodes = nodes(&[("a", 1, 1), ("b", 1, 1), ("c", 1, 1)]);
        let flat: Vec<u32> = place(&nodes, 8, 2).iter().flatten().map(|w| w.node.0).collect();
        assert_eq!(flat, [1, 2, 3, 2, 1, 2, 2, 1, 3, 2, 2, 3, 2, 1, 3, 1]);
    }
}
