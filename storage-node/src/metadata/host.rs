//! What a node does for the metadata group: decides alone, takes part, or sends clients elsewhere.
//!
//! A node with a data directory keeps the group's log there and may be a member. Without one it may not: a member that forgets its vote could elect
//! two leaders in one term. So a cluster that is made without a directory (`toroid dev`) decides alone, on its first node; there its other nodes end with the
//! same process anyway.

use super::clients::{Input, MAX_WAITING_INPUTS};
use super::raft::{Membership, Seat, Voice};
use super::service::{self, Door};
use super::solo::Solo;
use super::state::Founding;
use crate::clock::Clock;
use crate::neighbours::Neighbours;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use toroid_common::id::{ClusterId, NodeId};
use toroid_common::secret::Key;

/// What a node brings along.
#[derive(Debug)]
pub struct Host {
    pub listener: TcpListener,
    pub neighbours: Neighbours,
    pub key: Option<Key>,
    pub clock: Clock,
    pub seat: Option<Seat>,
    /// Who it was before, if it was in a cluster, or who it is as the first of a new one.
    pub identity: Option<(ClusterId, NodeId)>,
    pub control: SocketAddr,
    /// Makes the cluster.
    pub found: Option<Founding>,
}

/// How the node tells its part in the group what it has learned. The control port is served while it lives.
#[derive(Debug)]
pub struct Hosted {
    cluster: watch::Sender<Option<ClusterId>>,
    leader: watch::Sender<Option<SocketAddr>>,
    joined: Option<oneshot::Sender<(ClusterId, NodeId)>>,
    _tasks: JoinSet<()>,
}

impl Hosted {
    /// The node is in the cluster.
    pub fn joined(&mut self, cluster: ClusterId, node: NodeId) {
        self.cluster.send_replace(Some(cluster));
        if let Some(joined) = self.joined.take() {
            // A node that knew its cluster from the start does not wait.
            let _ = joined.send((cluster, node));
        }
    }

    /// Where the node has found the leader; `None` when it has lost it.
    pub fn leader(&self, leader: Option<SocketAddr>) {
        self.leader.send_replace(leader);
    }
}

impl Host {
    /// Serves the control port on the current runtime; the reason when it cannot.
    pub fn start(self) -> Result<Hosted, String> {
        let Host { listener, neighbours, key, clock, seat, identity, control, found } = self;
        if found.is_some() && seat.as_ref().is_some_and(|seat| !seat.is_fresh()) {
            return Err(
                "the data directory holds the beginning of a cluster that was not finished: remove it".to_owned()
            );
        }
        let (inputs, mut queue) = channel(MAX_WAITING_INPUTS);
        let (cluster, cluster_seen) = watch::channel(identity.map(|(cluster, _)| cluster));
        let (leader, known) = watch::channel(None);
        let (speak, voice) = watch::channel(None);
        let (joined, joining) = oneshot::channel();
        let (mut tasks, entrance) = (JoinSet::new(), neighbours.listen(control));
        let door = Door { key: key.clone(), cluster: cluster_seen, voice, inputs };
        tasks.spawn(service::serve(listener, entrance, control, door));
        match (seat, found) {
            (None, Some(founding)) => {
                tasks.spawn(service::decide(Solo::new(founding, clock.now()), clock, queue));
            }
            (None, None) => {
                tasks.spawn(async move { service::redirect(&mut queue, known).await });
            }
            (Some(seat), _) => {
                let part = Part { key, control, found, clock, known };
                tasks.spawn(part.take(seat, identity, joining, queue, speak));
            }
        }
        Ok(Hosted { cluster, leader, joined: Some(joined), _tasks: tasks })
    }
}

/// What a member needs besides its cluster and number.
struct Part {
    key: Option<Key>,
    control: SocketAddr,
    found: Option<Founding>,
    clock: Clock,
    known: watch::Receiver<Option<SocketAddr>>,
}

impl Part {
    /// Takes the seat, at once or when the node has joined its cluster.
    async fn take(
        self,
        seat: Seat,
        identity: Option<(ClusterId, NodeId)>,
        joining: oneshot::Receiver<(ClusterId, NodeId)>,
        mut queue: Receiver<Input>,
        speak: watch::Sender<Option<Voice>>,
    ) {
        let identity = match identity {
            Some(identity) => Some(identity),
            None => tokio::select! {
                joined = joining => joined.ok(),
                () = service::redirect(&mut queue, self.known.clone()) => None,
            },
        };
        let Some((cluster, node)) = identity else { return };
        let Part { key, control, found, clock, known } = self;
        let membership = Membership { cluster, key, node, control, found, clock, known };
        match seat.take(membership, queue).await {
            Ok(voice) => {
                speak.send_replace(Some(voice));
            }
            Err(error) => tracing::error!(%error, "this node cannot take part in the metadata group"),
        }
        // Open for as long as somebody may come in.
        speak.closed().await;
    }
}
