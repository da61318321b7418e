//! The metadata group's log, replicated by Raft: the only place that knows openraft.
//!
//! `log` and `machine` are its storage over `disk`, `network` carries its calls over the control ports, `members` says who should be in it, `group` is
//! the task that leads or sends clients elsewhere.

#![allow(clippy::result_large_err, reason = "openraft's errors are as large as they are")]

mod types;
mod disk;
mod log;
mod machine;
mod network;
mod members;
mod group;

use super::clients::Input;
use super::state::Founding;
use crate::clock::Clock;
use group::Group;
use log::{Log, member_id};
use machine::Machine;
use network::Caller;
use openraft::{Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, unbounded_channel};
use tokio::sync::watch;
use toroid_common::id::{ClusterId, NodeId};
use toroid_common::secret::Key;
use types::{Peer, Raft};

/// A follower waits for the longest election timeout and its own before it stands for election: a leader that is gone is replaced in 320 to 400 ms, well
/// within the grace period, and one that lost six heartbeats in a row on a busy machine is not.
const HEARTBEAT_MS: u64 = 40;
const ELECTION_MIN_MS: u64 = 120;
const ELECTION_MAX_MS: u64 = 200;
/// Entries after which a snapshot takes their place, and how many are kept for members that are behind.
const SNAPSHOT_ENTRIES: u64 = 1_000;
const KEPT_ENTRIES: u64 = 500;

/// How long another process with the same directory may take to answer.
const RIVAL: Duration = Duration::from_secs(1);

/// A directory that makes its node fit to be a member.
#[derive(Debug)]
pub struct Seat {
    dir: PathBuf,
    log: Log,
    fresh: bool,
}

/// What a member needs to know.
#[derive(Debug)]
pub struct Membership {
    pub cluster: ClusterId,
    pub key: Option<Key>,
    pub node: NodeId,
    pub control: SocketAddr,
    /// Makes the cluster.
    pub found: Option<Founding>,
    pub clock: Clock,
    /// Where this node itself finds the leader.
    pub known: watch::Receiver<Option<SocketAddr>>,
}

/// A member that runs. Cheap to clone.
#[derive(Clone)]
pub struct Voice {
    raft: Raft,
    identity: u32,
}

impl Voice {
    /// What it answers to another member's call; an error when the bytes are none.
    pub async fn answer(&self, (caller, control): (u32, SocketAddr), call: &[u8]) -> io::Result<Vec<u8>> {
        network::answer(&self.raft, member_id(self.identity), (member_id(caller), control), call).await
    }
}

impl Seat {
    /// Reads what the directory holds; a new log gets this identity.
    pub fn open(dir: &Path, identity: u32) -> io::Result<Seat> {
        let log = Log::open(dir, identity)?;
        let fresh = log.is_empty();
        Ok(Seat { dir: dir.to_owned(), log, fresh })
    }

    /// Who the node is in the group.
    pub fn identity(&self) -> u32 {
        self.log.identity()
    }

    /// Whether it has never taken part in anything.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether another process sits there, which has the same directory or a copy of it.
    pub async fn is_taken(&self, there: SocketAddr, here: SocketAddr, cluster: ClusterId, key: Option<Key>) -> bool {
        let (me, peer) = (member_id(self.identity()), Peer { node: NodeId(0), control: there });
        Caller::new(self.identity(), here, cluster, key).is_answered(me, peer, RIVAL).await
    }

    /// Takes part from now on, on the current runtime; `inputs` are what clients of this node's control port ask.
    pub async fn take(self, membership: Membership, inputs: Receiver<Input>) -> io::Result<Voice> {
        let Membership { cluster, key, node, control, found, clock, known } = membership;
        let (identity, fresh) = (self.identity(), self.fresh);
        let config = Config {
            cluster_name: format!("{:016x}", cluster.0),
            heartbeat_interval: HEARTBEAT_MS,
            election_timeout_min: ELECTION_MIN_MS,
            election_timeout_max: ELECTION_MAX_MS,
            install_snapshot_timeout: 2_000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
            max_in_snapshot_log_to_keep: KEPT_ENTRIES,
            replication_lag_threshold: SNAPSHOT_ENTRIES + KEPT_ENTRIES,
            ..Config::default()
        };
        let config = config.validate().map_err(io::Error::other)?;
        let (sender, committed) = unbounded_channel();
        let machine = Machine::open(&self.dir, sender)?;
        let caller = Caller::new(identity, control, cluster, key);
        let id = member_id(identity);
        let raft =
            Raft::new(id, Arc::new(config), caller.clone(), self.log, machine).await.map_err(io::Error::other)?;
        if found.is_some() && fresh {
            raft.initialize(BTreeMap::from([(id, Peer { node, control })])).await.map_err(io::Error::other)?;
        }
        let group = Group { raft: raft.clone(), caller, identity, node, clock, found, known };
        tokio::spawn(group.run(inputs, committed));
        Ok(Voice { raft, identity })
    }
}

#[cfg(test)]
mod tests;
