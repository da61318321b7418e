//! What a storage node is told when it starts.

use crate::neighbours::Neighbours;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use toroid_common::id::NodeId;
use toroid_common::near::Place;
use toroid_common::secret::Key;

/// A storage node's settings.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who it is, if its directory does not say; `None` lets the cluster give it a number.
    pub node: Option<NodeId>,
    /// Where control messages are received; worker ports are opened on the same host. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Under which address others reach it, if not the one it listens on.
    pub advertise: Option<IpAddr>,
    /// The first worker's port, the others follow; free ones otherwise.
    pub worker_ports: Option<u16>,
    /// Workers, each with a port of its own.
    pub workers: u16,
    /// Where workers are guests, by their index; a worker without a host has a thread of its own.
    pub hosts: Vec<Host>,
    /// Where what speaks with the metadata group is a guest; a node without such a host, or with a directory, has a thread for it. Not where workers are
    /// guests: they end first.
    pub control_host: Option<Host>,
    /// The nodes of the same process.
    pub neighbours: Neighbours,
    /// Whether each worker listens on a Unix socket, too, which peers on the same host prefer: half the cost of TCP. Only where the system is Linux.
    pub local_sockets: bool,
    /// Bytes that the node's partitions may take, all workers together.
    pub memory: usize,
    /// Threads for scans and fragments.
    pub pool_threads: usize,
    /// Bytes that all fragments together may take; each may hold as much as it leaves free.
    pub fragment_memory: usize,
    pub zone: String,
    /// The node's weight on the ring.
    pub capacity: u32,
    /// What all processes of the cluster prove to each other to have.
    pub key: Option<Key>,
    /// Where the node keeps what must survive it; without one nothing survives.
    pub data_dir: Option<PathBuf>,
    /// Make a new cluster.
    pub bootstrap: Option<Bootstrap>,
    /// Control addresses of the cluster's nodes, some or all.
    pub join: Vec<SocketAddr>,
}

/// Makes its work on the thread where that stays to its end; others on that thread are met at its place.
pub type Job = Box<dyn FnOnce(Place) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A thread of the embedding process, inside a runtime with sockets and timers and with the stack that statements need
/// ([`STATEMENT_STACK_BYTES`](toroid_common::limits::STATEMENT_STACK_BYTES)).
#[derive(Clone)]
pub struct Host(Arc<dyn Fn(Job) + Send + Sync>);

impl Host {
    /// `run` gives a job to the thread, or drops it when that has ended.
    pub fn new(run: impl Fn(Job) + Send + Sync + 'static) -> Host {
        Host(Arc::new(run))
    }

    pub(crate) fn run(&self, job: Job) {
        (self.0)(job);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// How a cluster begins.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap {
    /// Nodes that are waited for, but not for ever, before the first map is made.
    pub nodes: usize,
    pub copies: u8,
    /// Below so many replicas of a partition its writes wait.
    pub min_copies: u8,
    pub partitions: u16,
}

/// Why a node cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The address cannot be listened on.
    Listen { address: SocketAddr, error: io::Error },
    /// The settings make no sense.
    Config(String),
    /// The system refuses threads or event queues.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            StartError::Config(what) => f.write_str(what),
            StartError::System(error) => write!(f, "cannot start a storage node: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError::System(error)
    }
}
