//! The words that Raft is told: what its log carries and how its members are reached.

use crate::metadata::leader::Ticket;
use crate::metadata::state::Command;
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use std::net::SocketAddr;
use toroid_common::id::NodeId;

/// A member's identity: drawn when its log is made, so that a log that was lost never comes back as another's vote.
pub(super) type MemberId = u64;

openraft::declare_raft_types!(
    /// The metadata group.
    pub(super) Types:
        D = Proposed,
        R = (),
        NodeId = MemberId,
        Node = Peer,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(super) type Raft = openraft::Raft<Types>;
pub(super) type Entry = openraft::Entry<Types>;
pub(super) type LogId = openraft::LogId<MemberId>;
pub(super) type Vote = openraft::Vote<MemberId>;
pub(super) type StorageError = openraft::StorageError<MemberId>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<MemberId, Peer>;
pub(super) type StoredMembership = openraft::StoredMembership<MemberId, Peer>;

/// A command on its way through the log, with whose it is: only the leader that proposed it knows its ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Proposed {
    pub term: u64,
    pub ticket: Ticket,
    pub command: Command,
}

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    pub node: NodeId,
    pub control: SocketAddr,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer { node: NodeId(0), control: SocketAddr::from(([0, 0, 0, 0], 0)) }
    }
}

/// One number for a leader that grows from election to election: members may be elected one after the other in one of Raft's terms.
pub(super) fn term_of(vote: &Vote) -> u64 {
    (vote.leader_id.term << 32) | (vote.leader_id.node_id & 0xffff_ffff)
}
