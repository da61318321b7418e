//! The cluster map: nodes, workers and, for each partition, the epoch with its primary, backups and joining replicas.

use crate::id::{ClusterId, Epoch, Incarnation, MapVersion, NodeId, PartitionId, WorkerId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A storage node as the map knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    pub id: NodeId,
    pub incarnation: Incarnation,
    /// Where its metadata and control messages are received.
    pub control: SocketAddr,
    /// One address per worker, in worker order.
    pub workers: Vec<SocketAddr>,
    pub zone: String,
    /// Virtual nodes on the ring grow with this weight.
    pub capacity: u32,
    pub state: NodeState,
}

/// What the metadata group wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It takes its share of partitions.
    Serving,
    /// Its partitions are to move elsewhere.
    Draining,
}

/// Who holds a partition in its current epoch. Primary and backups change only together with the epoch; `joining` and `successor` are intents:
/// a replica may begin to join, and a successor be named or not, within it. Who is taken out of `joining` without being admitted takes the epoch
/// along: its admission may be on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub epoch: Epoch,
    /// The epoch in which the partition began, empty: replicas of that epoch, and of no other, start from nothing.
    pub origin: Epoch,
    /// `None` when all replicas were lost: the partition is unavailable.
    pub primary: Option<WorkerId>,
    pub backups: Vec<WorkerId>,
    pub joining: Vec<WorkerId>,
    pub successor: Option<Successor>,
}

/// A planned hand-over: the primary closes its gate, has its whole log acknowledged, and proposes that this backup takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    pub to: WorkerId,
    /// The map in which it was named. A hand-over that names another one is late and refused.
    pub since: MapVersion,
}

impl Assignment {
    /// The first assignment of a partition, or the first after all its replicas were lost: it begins empty.
    pub fn fresh(epoch: Epoch, primary: WorkerId, backups: Vec<WorkerId>) -> Assignment {
        Assignment { epoch, origin: epoch, primary: Some(primary), backups, joining: Vec::new(), successor: None }
    }

    /// Whether this worker is primary, backup or joining.
    pub fn holds(&self, worker: WorkerId) -> bool {
        self.primary == Some(worker) || self.backups.contains(&worker) || self.joining.contains(&worker)
    }

    /// Replicas that hold every acknowledged entry.
    pub fn copies(&self) -> usize {
        usize::from(self.primary.is_some()) + self.backups.len()
    }
}

/// The map by which all route; made by the metadata group alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMap {
    pub cluster: ClusterId,
    pub version: MapVersion,
    /// How many replicas each partition should have.
    pub copies: u8,
    /// Below so many replicas no backup is dropped: writes wait instead.
    pub min_copies: u8,
    pub nodes: Vec<NodeEntry>,
    /// Indexed by partition.
    pub partitions: Vec<Assignment>,
}

impl ClusterMap {
    pub fn assignment(&self, partition: PartitionId) -> Option<&Assignment> {
        self.partitions.get(usize::from(partition.0))
    }

    pub fn node(&self, node: NodeId) -> Option<&NodeEntry> {
        self.nodes.iter().find(|entry| entry.id == node)
    }

    /// Where a worker listens.
    pub fn address(&self, worker: WorkerId) -> Option<SocketAddr> {
        self.node(worker.node)?.workers.get(usize::from(worker.index)).copied()
    }

    /// Every worker of every node, in the map's order.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.nodes
            .iter()
            .flat_map(|node| (0..node.workers.len()).map(|index| WorkerId { node: node.id, index: index as u16 }))
    }

    /// The partitions whose primary is this worker, ascending.
    pub fn primaries_of(&self, worker: WorkerId) -> impl Iterator<Item = (PartitionId, Epoch)> + '_ {
        self.partitions
            .iter()
            .enumerate()
            .filter(move |(_, a)| a.primary == Some(worker))
            .map(|(i, a)| (PartitionId(i as u16), a.epoch))
    }
}
