//! What should change next in who holds what: repair first, then what the ring wants, within bounds. Pure.
//!
//! The ring's opinion is in the state as targets; each step is one command about one partition, and a crash between two of them leaves nothing behind that
//! the next plan would not see.

use super::state::{Command, Member, State, holders, least_loaded};
use std::collections::BTreeMap;
use toroid_common::id::{NodeId, PartitionId, WorkerId};
use toroid_common::map::{Assignment, ClusterMap, NodeState};
use toroid_common::ring;
use toroid_common::wire::NodeLife;

/// Replicas that catch up at a time because the ring wants them elsewhere, in the whole cluster; one per node.
const MOVES: usize = 2;
/// Lost replicas that are made again at a time, on one node.
const REPAIRS_PER_NODE: usize = 8;
/// Primaries that are handed over at a time because the ring wants it.
const HAND_OVERS: usize = 1;

/// The nodes that the ring wants for each partition; `None` before the first map.
pub fn targets(state: &State) -> Option<Vec<Vec<NodeId>>> {
    let map = state.map()?;
    let placed = ring::place(&state.on_ring(), map.partitions.len() as u16, usize::from(map.copies));
    Some(placed.iter().map(|holders| holders.iter().map(|worker| worker.node).collect()).collect())
}

/// The next commands, at most one per partition. `shunned`: where a replica has just failed to join.
pub fn plan(state: &State, shunned: impl Fn(PartitionId, NodeId) -> bool) -> Vec<Command> {
    let Some(map) = state.map() else { return Vec::new() };
    let mut planner = Planner::new(state, map);
    let partitions = || map.partitions.iter().enumerate().map(|(i, a)| (PartitionId(i as u16), a));
    for (partition, assignment) in partitions() {
        let step = planner
            .relieve(partition, assignment)
            .or_else(|| planner.repair(partition, assignment, &shunned))
            .or_else(|| planner.shed(partition, assignment));
        planner.take(step);
    }
    if planner.commands.is_empty() && !planner.repairing {
        for (partition, assignment) in partitions() {
            let step = planner.move_replica(partition, assignment, &shunned);
            planner.take(step);
        }
        for (partition, assignment) in partitions() {
            let step = planner.move_primary(partition, assignment);
            planner.take(step);
        }
    }
    planner.commands
}

/// Whether somebody stays who has a primary's rows, is getting them, or could.
pub fn may_be_relieved(state: &State, a: &Assignment) -> bool {
    let held_by = |member: &Member| holders(a).any(|worker| worker.node == member.entry.id);
    state.members().values().any(|member| member.is_up() && (is_serving(member) || held_by(member)))
}

fn is_serving(member: &Member) -> bool {
    member.entry.state == NodeState::Serving
}

struct Planner<'a> {
    state: &'a State,
    /// With the joining replicas that this plan adds, so that they are spread.
    map: ClusterMap,
    joins: BTreeMap<NodeId, usize>,
    moves: usize,
    hand_overs: usize,
    /// A partition that lacks a replica is getting one.
    repairing: bool,
    commands: Vec<Command>,
}

impl<'a> Planner<'a> {
    fn new(state: &'a State, map: &ClusterMap) -> Planner<'a> {
        let mut joins: BTreeMap<NodeId, usize> = BTreeMap::new();
        for worker in map.partitions.iter().flat_map(|assignment| &assignment.joining) {
            *joins.entry(worker.node).or_default() += 1;
        }
        let lacks = |a: &&Assignment| !a.joining.is_empty() && state.living_copies(a) < usize::from(map.copies);
        let complete = |a: &&Assignment| state.living_copies(a) >= usize::from(map.copies);
        Planner {
            state,
            joins,
            moves: map.partitions.iter().filter(complete).map(|a| a.joining.len()).sum(),
            hand_overs: map.partitions.iter().filter(|a| a.successor.is_some()).count(),
            repairing: map.partitions.iter().any(|a| lacks(&a)),
            map: map.clone(),
            commands: Vec::new(),
        }
    }

    fn take(&mut self, step: Option<Command>) {
        let Some(command) = step else { return };
        if let Command::AddJoining { partition, worker, .. } = &command {
            *self.joins.entry(worker.node).or_default() += 1;
            if let Some(assignment) = self.map.partitions.get_mut(usize::from(partition.0)) {
                assignment.joining.push(*worker);
            }
        }
        self.commands.push(command);
    }

    fn copies(&self) -> usize {
        usize::from(self.map.copies)
    }

    fn up(&self, node: NodeId) -> Option<&'a Member> {
        self.state.member(node).filter(|member| member.is_up())
    }

    /// A primary whose node is about to stop hands over.
    fn relieve(&self, partition: PartitionId, a: &Assignment) -> Option<Command> {
        let leaving = |member: &Member| member.life == NodeLife::Leaving;
        let primary = a.primary.filter(|_| a.successor.is_none())?;
        self.state.member(primary.node).filter(|member| leaving(member))?;
        let to = self.best_backup(partition, a, |_| true)?;
        Some(Command::NameSuccessor { partition, epoch: a.epoch, to })
    }

    /// The backup that is up, fits and has the fewest primaries; the ring's first choice wins.
    fn best_backup(&self, partition: PartitionId, a: &Assignment, fits: impl Fn(NodeId) -> bool) -> Option<WorkerId> {
        let first = self.state.target(partition).first();
        let primaries = |node: NodeId| {
            let there = |w: &WorkerId| w.node == node;
            self.map.partitions.iter().filter(|a| a.primary.is_some_and(|w| there(&w))).count()
        };
        let fitting = a.backups.iter().filter(|worker| self.up(worker.node).is_some() && fits(worker.node));
        fitting.min_by_key(|worker| (first != Some(&worker.node), primaries(worker.node), **worker)).copied()
    }

    /// A partition that lacks a replica gets one where the ring wants it.
    fn repair(
        &mut self,
        partition: PartitionId,
        a: &Assignment,
        shunned: &impl Fn(PartitionId, NodeId) -> bool,
    ) -> Option<Command> {
        let living = self.state.living_copies(a);
        let forsaken = self.is_forsaken(a);
        if living == 0 || (living + a.joining.len() >= self.copies() && !forsaken) {
            return None;
        }
        let room = |node: NodeId| self.joins.get(&node).copied().unwrap_or(0) < REPAIRS_PER_NODE;
        let mut vacant: Vec<NodeId> = self.vacant(partition, a).collect();
        if vacant.is_empty() && forsaken {
            vacant = self.refuges(a);
        }
        vacant.retain(|node| !shunned(partition, *node));
        self.repairing |= !vacant.is_empty();
        let node = vacant.into_iter().find(|node| room(*node))?;
        self.joining(partition, a, node)
    }

    /// Nodes that are up and on which the ring wants the partition, but which have no replica of it.
    fn vacant(&self, partition: PartitionId, a: &Assignment) -> impl Iterator<Item = NodeId> {
        let wanted = self.state.target(partition).iter().copied();
        wanted.filter(|node| self.up(*node).is_some() && !holders(a).any(|worker| worker.node == *node))
    }

    /// The primary is about to stop, and nobody who stays has the rows or is getting them.
    fn is_forsaken(&self, a: &Assignment) -> bool {
        let leaving = |worker: WorkerId| self.state.member(worker.node).is_some_and(|m| m.life == NodeLife::Leaving);
        a.primary.is_some_and(leaving) && !holders(a).any(|worker| self.up(worker.node).is_some())
    }

    /// Who could take rows that would be gone otherwise, wherever the ring wants them; those with the fewest replicas first.
    fn refuges(&self, a: &Assignment) -> Vec<NodeId> {
        let members = self.state.members().values().filter(|member| member.is_up() && is_serving(member));
        let mut nodes: Vec<NodeId> = members.map(|member| member.entry.id).collect();
        nodes.retain(|node| !holders(a).any(|worker| worker.node == *node));
        let held =
            |node: NodeId| self.map.partitions.iter().filter(|a| holders(a).any(|worker| worker.node == node)).count();
        nodes.sort_by_key(|node| (held(*node), *node));
        nodes
    }

    fn joining(&self, partition: PartitionId, a: &Assignment, node: NodeId) -> Option<Command> {
        let worker = least_loaded(&self.map, self.up(node)?)?;
        Some(Command::AddJoining { partition, epoch: a.epoch, worker })
    }

    /// A replica too many goes: one that is silent, else one that the ring does not want, once all that it wants are there.
    fn shed(&mut self, partition: PartitionId, a: &Assignment) -> Option<Command> {
        let primary = a.primary?;
        let wanted = self.state.target(partition);
        let unwanted = |worker: WorkerId| !wanted.contains(&worker.node);
        let living = self.state.living_copies(a);
        let enough = living >= self.copies();
        if a.successor.is_some() || !self.state.lives(primary) || a.copies() <= self.copies() || !enough {
            return None;
        }
        let silent = a.backups.iter().find(|worker| !self.state.lives(**worker));
        let surplus = || a.backups.iter().filter(|_| living > self.copies()).find(|worker| unwanted(**worker));
        if let Some(worker) = silent.or_else(surplus) {
            return Some(Command::Release { partition, epoch: a.epoch, worker: *worker });
        }
        if living > self.copies() && unwanted(primary) && self.hand_overs < MOVES {
            let to = self.best_backup(partition, a, |node| wanted.contains(&node))?;
            self.hand_overs += 1;
            return Some(Command::NameSuccessor { partition, epoch: a.epoch, to });
        }
        None
    }

    /// The ring wants a replica elsewhere.
    fn move_replica(
        &mut self,
        partition: PartitionId,
        a: &Assignment,
        shunned: &impl Fn(PartitionId, NodeId) -> bool,
    ) -> Option<Command> {
        a.primary.filter(|primary| self.state.lives(*primary))?;
        if self.moves >= MOVES || !a.joining.is_empty() || a.copies() > self.copies() {
            return None;
        }
        let free = |node: &NodeId| self.joins.get(node).copied().unwrap_or(0) == 0;
        let node = self.vacant(partition, a).find(|node| free(node) && !shunned(partition, *node))?;
        self.moves += 1;
        self.joining(partition, a, node)
    }

    /// The ring wants another of its replicas to be primary.
    fn move_primary(&mut self, partition: PartitionId, a: &Assignment) -> Option<Command> {
        let (primary, first) = (a.primary?, *self.state.target(partition).first()?);
        let settled = a.joining.is_empty() && a.successor.is_none() && self.state.living_copies(a) >= self.copies();
        if !settled || primary.node == first || !self.state.lives(primary) || self.hand_overs >= HAND_OVERS {
            return None;
        }
        let to = *a.backups.iter().find(|worker| worker.node == first && self.up(first).is_some())?;
        self.hand_overs += 1;
        Some(Command::NameSuccessor { partition, epoch: a.epoch, to })
    }
}
