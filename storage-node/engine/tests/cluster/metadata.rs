//! A stand-in for the metadata group: makes maps by its rules, at once, and tells all workers that hear of them.

use super::{CLUSTER, Cluster};
use std::sync::Arc;
use toroid_common::id::{Epoch, Incarnation, NodeId, PartitionId, WorkerId};
use toroid_common::map::{Assignment, ClusterMap, Successor};
use toroid_common::wire::{Proposal, Reconfigure};
use toroid_engine::gate::Time;
use toroid_engine::worker::{Event, Identity, Worker};

pub fn id(worker: usize) -> WorkerId {
    WorkerId { node: NodeId(worker as u32 + 1), index: 0 }
}

/// Any change of primary and backups is a new epoch.
fn reconfigure(assignment: &mut Assignment) {
    assignment.epoch = Epoch(assignment.epoch.0 + 1);
    assignment.successor = None;
}

impl Cluster {
    /// Changes the map and tells the workers.
    pub fn change_map(&mut self, change: impl FnOnce(&mut ClusterMap)) {
        let mut map = (*self.map).clone();
        map.version.0 += 1;
        change(&mut map);
        self.map = Arc::new(map);
        for worker in 0..self.workers.len() {
            if !self.deaf.contains(&worker) {
                self.step(worker, Event::MapChanged(Arc::clone(&self.map)));
            }
        }
    }

    pub fn change_assignment(&mut self, partition: usize, change: impl FnOnce(&mut Assignment)) {
        self.change_map(|map| change(&mut map.partitions[partition]));
    }

    pub fn assignment(&self, partition: usize) -> &Assignment {
        &self.map.partitions[partition]
    }

    pub fn primary(&self, partition: usize) -> Option<usize> {
        self.assignment(partition).primary.map(|worker| worker.node.0 as usize - 1)
    }

    /// Who has not heard of the last maps does now.
    pub fn hear(&mut self) {
        for worker in std::mem::take(&mut self.deaf) {
            self.step(worker, Event::MapChanged(Arc::clone(&self.map)));
            self.step(worker, Event::CatalogChanged(Arc::clone(&self.catalog)));
        }
    }

    /// Decides on what was proposed. True when there was anything.
    pub(super) fn decide(&mut self) -> bool {
        let proposals = std::mem::take(&mut self.proposals);
        for (_, proposal) in &proposals {
            self.decide_on(proposal);
        }
        !proposals.is_empty()
    }

    fn decide_on(&mut self, proposal: &Proposal) {
        let Some(assignment) = self.map.assignment(proposal.partition) else { return };
        if assignment.epoch != proposal.epoch {
            return;
        }
        let mut next = assignment.clone();
        reconfigure(&mut next);
        match proposal.change {
            Reconfigure::DropBackup { worker } => {
                if assignment.copies() <= usize::from(self.map.min_copies) || !assignment.backups.contains(&worker) {
                    return;
                }
                next.backups.retain(|backup| *backup != worker);
            }
            Reconfigure::DropJoining { worker } => next.joining.retain(|joining| *joining != worker),
            Reconfigure::Admit { worker, incarnation } => {
                let lives = self.map.node(worker.node).is_some_and(|node| node.incarnation == incarnation);
                if !lives || !assignment.joining.contains(&worker) {
                    return;
                }
                next.joining.retain(|joining| *joining != worker);
                next.backups.push(worker);
            }
            Reconfigure::Replace { silent, by, incarnation } => {
                let lives = self.map.node(by.node).is_some_and(|node| node.incarnation == incarnation);
                if !lives || !assignment.joining.contains(&by) || !assignment.backups.contains(&silent) {
                    return;
                }
                next.joining.retain(|joining| *joining != by);
                next.backups.retain(|backup| *backup != silent);
                next.backups.push(by);
            }
            Reconfigure::HandOver { since } => {
                let Some(successor) = assignment.successor.filter(|successor| successor.since == since) else { return };
                if !assignment.backups.contains(&successor.to) {
                    return;
                }
                next.backups.retain(|backup| *backup != successor.to);
                next.backups.extend(next.primary.replace(successor.to));
            }
        }
        self.change_assignment(usize::from(proposal.partition.0), |assignment| *assignment = next);
    }

    /// A worker ends without a word.
    pub fn kill(&mut self, worker: usize) {
        self.dead.insert(worker);
        for other in 0..self.workers.len() {
            self.disconnect(worker, other);
        }
        self.forget_proxies(worker);
    }

    /// A worker was not heard of for long: others take its place. Of several backups the one that `choose` says.
    pub fn expire(&mut self, worker: usize, mut choose: impl FnMut(&[WorkerId]) -> usize) {
        let gone = id(worker);
        self.change_map(|map| {
            for assignment in &mut map.partitions {
                let held = assignment.holds(gone);
                assignment.backups.retain(|backup| *backup != gone);
                assignment.joining.retain(|joining| *joining != gone);
                if assignment.primary == Some(gone) {
                    assignment.primary = None;
                    if !assignment.backups.is_empty() {
                        let chosen = choose(&assignment.backups);
                        assignment.primary = Some(assignment.backups.remove(chosen));
                    }
                }
                if held {
                    reconfigure(assignment);
                }
            }
        });
    }

    /// The process of a worker that nothing is assigned to starts again.
    pub fn restart(&mut self, worker: usize) {
        assert!(self.map.partitions.iter().all(|assignment| !assignment.holds(id(worker))));
        self.kill(worker);
        self.dead.remove(&worker);
        let incarnation = Incarnation(self.map.nodes.iter().map(|node| node.incarnation.0).max().unwrap() + 1);
        let identity = Identity { cluster: CLUSTER, worker: id(worker), incarnation, memory: self.memory };
        self.workers[worker] = Worker::new(identity);
        self.step(worker, Event::LeaseRenewed { until: Time(u64::MAX) });
        self.step(worker, Event::CatalogChanged(Arc::clone(&self.catalog)));
        self.change_map(|map| map.nodes[worker].incarnation = incarnation);
    }

    /// A worker that has nothing is another process, with so much memory.
    pub fn replace(&mut self, worker: usize, memory: usize) {
        for assignment in 0..self.map.partitions.len() {
            let held = self.assignment(assignment).holds(id(worker));
            if held {
                self.change_assignment(assignment, |assignment| {
                    *assignment = Assignment::fresh(Epoch(assignment.epoch.0 + 1), id(0), vec![])
                });
            }
        }
        let usual = std::mem::replace(&mut self.memory, memory);
        self.restart(worker);
        self.memory = usual;
        self.run();
    }

    /// Connections between two workers are not to be had.
    pub fn refuse(&mut self, a: usize, b: usize) {
        self.refused.extend([(a, b), (b, a)]);
    }

    pub fn join(&mut self, partition: usize, worker: usize) {
        self.change_assignment(partition, |assignment| assignment.joining.push(id(worker)));
    }

    pub fn name_successor(&mut self, partition: usize, worker: usize) {
        self.change_map(|map| {
            map.partitions[partition].successor = Some(Successor { to: id(worker), since: map.version });
        });
    }

    /// Nothing goes between two workers, and nobody notices, until they are healed.
    pub fn split(&mut self, a: usize, b: usize) {
        self.freeze(a, b);
        self.freeze(b, a);
        self.refused.extend([(a, b), (b, a)]);
    }

    pub fn heal(&mut self) {
        self.refused.clear();
        self.thaw();
    }

    /// The last entry that a replica holds, and the last that it knows to be acknowledged.
    pub fn log(&self, worker: usize, partition: usize) -> (u64, u64) {
        let view = self.workers[worker].view(PartitionId(partition as u16)).unwrap();
        (view.appended.0, view.acknowledged.0)
    }
}
