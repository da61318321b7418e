//! Who holds a partition: proposals of primaries, steps of the planner, and what happens when a node is gone.

use super::{Reply, State};
use std::collections::BTreeSet;
use toroid_common::id::{Epoch, Incarnation, NodeId, PartitionId, WorkerId};
use toroid_common::map::{Assignment, ClusterMap, Successor};
use toroid_common::wire::{Proposal, Reconfigure};

/// How sure it is that a node's rows are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// It is not heard of. It may be back with all it had.
    Silent,
    /// Its process has ended, and it may have been a primary a moment ago.
    Restarted,
    /// Its process has ended, and it is nobody's primary by lease.
    Gone,
}

impl State {
    /// The partition's assignment, if it is still in this epoch.
    fn in_epoch(&mut self, partition: PartitionId, epoch: Epoch) -> Option<&mut Assignment> {
        let map = self.map.as_mut()?;
        map.partitions.get_mut(usize::from(partition.0)).filter(|assignment| assignment.epoch == epoch)
    }

    pub(super) fn reconfigure(&mut self, proposal: Proposal) -> Reply {
        let Proposal { partition, epoch, change } = proposal;
        let floor = self.map.as_ref().map_or(1, |map| usize::from(map.min_copies));
        match change {
            Reconfigure::DropBackup { worker } => self.drop_backup(partition, epoch, worker, floor),
            Reconfigure::DropJoining { worker } => {
                let Some(assignment) = self.in_epoch(partition, epoch) else { return Reply::Overtaken };
                let before = assignment.joining.len();
                assignment.joining.retain(|joining| *joining != worker);
                let dropped = assignment.joining.len() < before;
                if dropped {
                    // An admission that is on its way comes too late.
                    assignment.epoch = assignment.epoch.next();
                }
                super::done_if(dropped)
            }
            Reconfigure::Admit { worker, incarnation } => self.take_in((partition, epoch), (worker, incarnation), None),
            Reconfigure::Replace { silent, by, incarnation } => {
                self.take_in((partition, epoch), (by, incarnation), Some(silent))
            }
            Reconfigure::HandOver { since } => {
                let Some(assignment) = self.in_epoch(partition, epoch) else { return Reply::Overtaken };
                let (Some(successor), Some(primary)) = (assignment.successor, assignment.primary) else {
                    return Reply::Overtaken;
                };
                if successor.since != since || !assignment.backups.contains(&successor.to) {
                    return Reply::Overtaken;
                }
                promote(assignment, successor.to);
                assignment.backups.push(primary);
                Reply::Done
            }
        }
    }

    /// A joining replica becomes a backup, maybe in the place of one that is silent: then there are as many as before.
    fn take_in(
        &mut self,
        (partition, epoch): (PartitionId, Epoch),
        (worker, incarnation): (WorkerId, Incarnation),
        silent: Option<WorkerId>,
    ) -> Reply {
        let same = |member: &super::Member| member.is_up() && member.entry.incarnation == incarnation;
        if !self.member(worker.node).is_some_and(same) {
            return Reply::Overtaken;
        }
        let Some(assignment) = self.in_epoch(partition, epoch) else { return Reply::Overtaken };
        let is_there = silent.is_none_or(|silent| assignment.backups.contains(&silent));
        if !assignment.joining.contains(&worker) || !is_there {
            return Reply::Overtaken;
        }
        assignment.joining.retain(|joining| *joining != worker);
        if let Some(silent) = silent {
            assignment.backups.retain(|backup| *backup != silent);
            forget_successor(assignment, silent.node);
        }
        assignment.backups.push(worker);
        assignment.epoch = assignment.epoch.next();
        self.count_arrival(partition, worker.node);
        Reply::Done
    }

    fn drop_backup(&mut self, partition: PartitionId, epoch: Epoch, worker: WorkerId, floor: usize) -> Reply {
        let Some(assignment) = self.in_epoch(partition, epoch) else { return Reply::Overtaken };
        if !assignment.backups.contains(&worker) {
            return Reply::Overtaken;
        }
        if assignment.copies() <= floor.max(1) {
            return Reply::Refused(format!("partition {partition} would have fewer than {floor} replicas"));
        }
        assignment.backups.retain(|backup| *backup != worker);
        forget_successor(assignment, worker.node);
        assignment.epoch = assignment.epoch.next();
        Reply::Done
    }

    pub(super) fn add_joining(&mut self, partition: PartitionId, epoch: Epoch, worker: WorkerId) -> Reply {
        let fits = self
            .member(worker.node)
            .is_some_and(|member| member.is_up() && usize::from(worker.index) < member.entry.workers.len());
        let Some(assignment) = self.in_epoch(partition, epoch).filter(|_| fits) else { return Reply::Overtaken };
        if assignment.primary.is_none() || holders(assignment).any(|holder| holder.node == worker.node) {
            return Reply::Overtaken;
        }
        assignment.joining.push(worker);
        Reply::Done
    }

    pub(super) fn name_successor(&mut self, partition: PartitionId, epoch: Epoch, to: WorkerId) -> Reply {
        let since = self.map.as_ref().map(|map| map.version.next()).unwrap_or_default();
        let up = self.member(to.node).is_some_and(super::Member::is_up);
        let Some(assignment) = self.in_epoch(partition, epoch).filter(|_| up) else { return Reply::Overtaken };
        if assignment.successor.is_some() || !assignment.backups.contains(&to) {
            return Reply::Overtaken;
        }
        assignment.successor = Some(Successor { to, since });
        Reply::Done
    }

    pub(super) fn release(&mut self, partition: PartitionId, epoch: Epoch, worker: WorkerId) -> Reply {
        let floor = self.map.as_ref().map_or(1, |map| usize::from(map.min_copies));
        self.drop_backup(partition, epoch, worker, floor)
    }

    /// The ring has another opinion.
    pub(super) fn retarget(&mut self, targets: Vec<Vec<NodeId>>) -> Reply {
        let Some(map) = &self.map else { return Reply::Overtaken };
        if targets.len() != map.partitions.len() || targets == self.targets {
            return Reply::Overtaken;
        }
        for (index, wanted) in targets.iter().enumerate() {
            let partition = PartitionId(index as u16);
            let before = self.targets.get(index).map_or(&[][..], Vec::as_slice);
            let Some(assignment) = map.assignment(partition) else { continue };
            for node in wanted {
                let there = before.contains(node) || holders(assignment).any(|holder| holder.node == *node);
                if !there && self.owed.insert((partition, *node)) {
                    self.moves.required += 1;
                }
            }
        }
        let withdrawn: BTreeSet<_> = self
            .owed
            .iter()
            .filter(|(partition, node)| !targets.get(usize::from(partition.0)).is_some_and(|t| t.contains(node)))
            .copied()
            .collect();
        self.moves.required -= withdrawn.len() as u64;
        self.owed.retain(|owed| !withdrawn.contains(owed));
        self.targets = targets;
        Reply::Done
    }

    fn count_arrival(&mut self, partition: PartitionId, node: NodeId) {
        let primary = self.map.as_ref().and_then(|map| map.assignment(partition)?.primary);
        // Rows that only a node has which is about to stop go wherever there is room.
        let saved = primary.is_some_and(|primary| !self.member(primary.node).is_some_and(super::Member::is_up));
        if !self.owed.remove(&(partition, node)) && (saved || self.target(partition).contains(&node)) {
            self.moves.repaired += 1;
        } else {
            self.moves.moved += 1;
        }
    }

    /// Takes a node that is absent out of all partitions, as far as that may be.
    pub(super) fn vacate(&mut self, node: NodeId, absence: Absence) {
        let Some(mut map) = self.map.take() else { return };
        let floor = usize::from(map.min_copies).max(1);
        let living: Vec<usize> = map.partitions.iter().map(|assignment| self.living_copies(assignment)).collect();
        for index in 0..map.partitions.len() {
            let heir = self.heir(&map, index, node, absence);
            let Some(assignment) = map.partitions.get_mut(index) else { continue };
            forget_successor(assignment, node);
            let held = assignment.joining.len() + assignment.backups.len();
            assignment.joining.retain(|worker| worker.node != node);
            // A silent backup is given up only where enough others are heard of: it may be the one that comes back.
            if absence != Absence::Silent || living.get(index).is_some_and(|count| *count >= floor) {
                assignment.backups.retain(|worker| worker.node != node);
            }
            if assignment.joining.len() + assignment.backups.len() < held {
                assignment.epoch = assignment.epoch.next();
            }
            if assignment.primary.is_some_and(|worker| worker.node == node) && absence != Absence::Restarted {
                match heir {
                    Some(heir) => promote(assignment, heir),
                    // Nobody else has the rows: they are not given up as long as their process may be back.
                    None if absence == Absence::Silent => {}
                    None => {
                        assignment.primary = None;
                        assignment.joining.clear();
                        assignment.epoch = assignment.epoch.next();
                    }
                }
            }
        }
        self.map = Some(map);
    }

    /// Who becomes primary when `node` is gone: the successor that was named, or the backup with the fewest primaries; the ring's choice among equals.
    fn heir(&self, map: &ClusterMap, index: usize, node: NodeId, absence: Absence) -> Option<WorkerId> {
        let assignment = map.partitions.get(index)?;
        let backups = || assignment.backups.iter().copied().filter(|worker| worker.node != node);
        let named = assignment.successor.map(|successor| successor.to);
        if let Some(to) = named.filter(|to| backups().any(|backup| backup == *to) && self.lives(*to)) {
            return Some(to);
        }
        let primaries = |worker: WorkerId| map.partitions.iter().filter(|a| a.primary == Some(worker)).count();
        let targets = self.target(PartitionId(index as u16));
        let rank = |worker: &WorkerId| {
            let wanted = targets.iter().position(|target| *target == worker.node).unwrap_or(targets.len());
            let leaving = !self.member(worker.node).is_some_and(super::Member::is_up);
            (leaving, primaries(*worker), wanted, *worker)
        };
        let living = backups().filter(|worker| self.lives(*worker)).min_by_key(rank);
        // A silent backup holds every acknowledged entry: better wait for it than for nobody.
        living.or_else(|| backups().filter(|_| absence == Absence::Gone).min_by_key(rank))
    }

    /// Lost partitions: those without a living replica.
    pub fn is_lost(&self, assignment: &Assignment) -> bool {
        !assignment.primary.iter().chain(&assignment.backups).any(|worker| self.lives(*worker))
    }

    /// Replicas that hold every acknowledged entry and whose node is not silent.
    pub fn living_copies(&self, assignment: &Assignment) -> usize {
        assignment.primary.iter().chain(&assignment.backups).filter(|worker| self.lives(**worker)).count()
    }

    pub(super) fn recover_once(&mut self, id: u64) -> Reply {
        if let Some((_, partitions)) = self.recovered.as_ref().filter(|(last, _)| *last == id) {
            return Reply::Recovered(partitions.clone());
        }
        let reply = self.recover();
        if let Reply::Recovered(partitions) = &reply {
            self.recovered = Some((id, partitions.clone()));
        }
        reply
    }

    fn recover(&mut self) -> Reply {
        let Some(mut map) = self.map.clone() else { return Reply::Refused("the cluster has no map yet".to_owned()) };
        let mut recovered = Vec::new();
        for index in 0..map.partitions.len() {
            let partition = PartitionId(index as u16);
            let Some(assignment) = map.assignment(partition) else { continue };
            if !self.is_lost(assignment) {
                continue;
            }
            let epoch = assignment.epoch.next();
            let mut nodes: Vec<NodeId> = self.target(partition).to_vec();
            nodes.extend(self.members.keys().filter(|node| !self.target(partition).contains(node)));
            nodes.retain(|node| self.member(*node).is_some_and(super::Member::is_up));
            nodes.truncate(usize::from(map.copies));
            let holders: Vec<WorkerId> =
                nodes.into_iter().filter_map(|node| least_loaded(&map, self.member(node)?)).collect();
            let Some((primary, backups)) = holders.split_first() else {
                return Reply::Refused("no node is up that could hold a partition".to_owned());
            };
            if let Some(slot) = map.partitions.get_mut(index) {
                *slot = Assignment::fresh(epoch, *primary, backups.to_vec());
            }
            self.owed.retain(|(p, node)| *p != partition || !holders.iter().any(|h| h.node == *node));
            recovered.push(partition);
        }
        self.map = Some(map);
        Reply::Recovered(recovered)
    }
}

/// All workers that hold the partition, or are to.
pub fn holders(assignment: &Assignment) -> impl Iterator<Item = WorkerId> + '_ {
    assignment.primary.iter().chain(&assignment.backups).chain(&assignment.joining).copied()
}

/// The node's worker with the fewest primaries, then the fewest replicas.
pub fn least_loaded(map: &ClusterMap, member: &super::Member) -> Option<WorkerId> {
    let workers = (0..member.entry.workers.len()).map(|index| WorkerId { node: member.entry.id, index: index as u16 });
    workers.min_by_key(|worker| {
        let held = map.partitions.iter().filter(|assignment| assignment.holds(*worker)).count();
        let primaries = map.partitions.iter().filter(|assignment| assignment.primary == Some(*worker)).count();
        (held, primaries, *worker)
    })
}

/// A new epoch with another primary; the former one is out.
fn promote(assignment: &mut Assignment, heir: WorkerId) {
    assignment.backups.retain(|worker| *worker != heir);
    assignment.primary = Some(heir);
    assignment.successor = None;
    assignment.epoch = assignment.epoch.next();
}

fn forget_successor(assignment: &mut Assignment, node: NodeId) {
    assignment.successor = assignment.successor.filter(|successor| successor.to.node != node);
}
