//! What the metadata group knows of its cluster, for people and for the tools that they use.

use crate::id::{CatalogVersion, ClusterId, Epoch, Incarnation, MapVersion, NodeId, PartitionId, WorkerId};
use crate::map::NodeState;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The cluster at one moment, as the metadata leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub cluster: ClusterId,
    /// The term of the leader that says this.
    pub term: u64,
    /// Which node it is on; `None` where the metadata is not replicated.
    pub leader: Option<NodeId>,
    /// The nodes that decide by majority.
    pub members: Vec<NodeId>,
    /// `None` until the first map is made.
    pub map: Option<MapVersion>,
    pub catalog: CatalogVersion,
    /// Workers are taking up a schema change.
    pub changing: bool,
    pub partitions: u16,
    pub copies: u8,
    pub min_copies: u8,
    /// All replicas of the first map are, or have been, in place.
    pub ready: bool,
    pub nodes: Vec<NodeStatus>,
    /// Partitions with fewer living replicas than `copies`.
    pub under_replicated: Vec<PartitionId>,
    /// Partitions without a living replica.
    pub lost: Vec<PartitionId>,
    /// Replicas that are catching up.
    pub joining: Vec<JoiningStatus>,
    /// Planned changes of primaries under way.
    pub hand_overs: u16,
    /// Replicas that the ring wanted elsewhere, and how many of them are there by now.
    pub required: u64,
    pub moved: u64,
    /// Lost replicas that were made again where they had been.
    pub repaired: u64,
    /// Nodes that were given up for silence, ever, and those of them whose process lived and came back.
    pub expired: u64,
    pub returned: u64,
    /// Proxies' incarnations that live.
    pub proxies: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub control: SocketAddr,
    pub workers: u16,
    pub zone: String,
    pub capacity: u32,
    pub state: NodeState,
    pub life: NodeLife,
    /// Milliseconds since the leader heard of it, if it did since its election.
    pub heard_ms: Option<u64>,
    /// Milliseconds until the lease that it was given last ends at the latest; `None` without one.
    pub lease_ms: Option<u64>,
    pub primaries: u16,
    pub backups: u16,
    pub joining: u16,
    /// What the node said last of what it holds, to this leader.
    pub load: Option<NodeLoad>,
}

/// What a node holds, as it says now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Bytes that its partitions take, all workers together.
    pub memory: u64,
    /// Bytes that they may take.
    pub limit: u64,
    /// Bytes that have arrived of the roots that it is being sent.
    pub arrived: Vec<(PartitionId, u64)>,
}

/// Whether the metadata leader hears of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeLife {
    Up,
    /// It hands its primaries over, because it is about to stop.
    Leaving,
    /// Not heard of for the grace period: others took over.
    Down,
    /// Down for so long that its replicas are made again elsewhere.
    Away,
}

impl NodeLife {
    /// What operators are shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NodeLife::Up => "up",
            NodeLife::Leaving => "leaving",
            NodeLife::Down => "down",
            NodeLife::Away => "away",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoiningStatus {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub worker: WorkerId,
    /// The ring wants it there; otherwise a lost replica is made again.
    pub is_move: bool,
    /// Bytes of its root that have arrived, as its node said last.
    pub arrived: Option<u64>,
}
