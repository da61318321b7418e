//! The first frame of every connection, and its answer.

use crate::id::{ClusterId, Incarnation, NodeId, WorkerId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Version of everything in this module.
pub const PROTOCOL_VERSION: u32 = 1;

/// The longest first frame of a connection, either way: who has not said who it is makes nobody set aside more.
pub const MAX_GREETING_BYTES: usize = 4 << 10;

/// The name, in Linux's abstract namespace, of the Unix socket that a worker may open beside its TCP port for peers on the same host.
/// A peer that finds none of this name takes the port.
#[must_use]
pub fn local_name(address: SocketAddr) -> String {
    format!("toroid-{address}")
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    /// `None` only towards the metadata service, which tells.
    pub cluster: Option<ClusterId>,
    pub role: Role,
}

/// As what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Towards workers.
    Proxy { incarnation: Incarnation },
    /// Towards workers: the primary's connects to the backup's.
    Worker { worker: WorkerId, incarnation: Incarnation },
    /// Towards the metadata service: a proxy, or whoever only asks.
    Client,
    /// Towards the metadata service: a storage node, which will announce itself.
    Node { node: NodeId },
    /// Towards the metadata service: a member of the metadata group, with this identity in it, whose own service is there.
    Member { member: u32, control: SocketAddr },
}

/// The connection may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub cluster: ClusterId,
    /// Which worker answers; `None` from the metadata service.
    pub worker: Option<WorkerId>,
    pub incarnation: Incarnation,
}

/// The connection is closed after this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub reason: String,
}
