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
}

/// Who holds a partition in its current epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub epoch: Epoch,
    pub primary: WorkerId,
    pub backups: Vec<WorkerId>,
    pub joining: Vec<WorkerId>,
}

impl Assignment {
    /// All that must acknowledge an entry besides the primary, and who is still catching up.
    pub fn holds(&self, worker: WorkerId) -> bool {
        self.primary == worker || self.backups.contains(&worker) || self.joining.contains(&worker)
    }
}

/// The map by which all route; made by the metadata group alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMap {
    pub cluster: ClusterId,
    pub version: MapVersion,
    pub copies: u8,
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
            .filter(move |(_, a)| a.primary == worker)
            .map(|(i, a)| (PartitionId(i as u16), a.epoch))
    }
}
