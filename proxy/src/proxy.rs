//! A whole proxy: its threads, its pool for queries, its view of the cluster.

use crate::cluster::Cluster;
use crate::execute::{Conductor, MergePool};
use crate::server::threads::Threads;
use crate::server::{Config, Server};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use toroid_common::id::PartitionId;
use toroid_common::limits::STATEMENT_STACK_BYTES;
use toroid_common::near::Place;
use toroid_common::secret::Key;
use toroid_query::schedule;

/// Between attempts to get an incarnation for a thread.
const RETRY: Duration = Duration::from_millis(100);

/// A proxy's settings.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where metadata services are.
    pub metadata: Vec<SocketAddr>,
    /// What the cluster's processes show each other, if they do.
    pub key: Option<Key>,
    /// Threads that plan and merge queries.
    pub merge_threads: usize,
    /// Bytes that all statements together may take for rows that they gather, sort, join or group here; each may hold as much as it leaves free.
    pub merge_memory: usize,
    pub front_end: Config,
}

/// A running proxy.
pub struct Proxy {
    server: Server,
    cluster: Arc<Cluster>,
    pool: Runtime,
    watch: Runtime,
}

impl Proxy {
    /// Waits until the cluster can serve statements, then serves them on the listener, with sessions on these threads.
    pub fn start(listener: TcpListener, config: ProxyConfig, threads: Threads) -> io::Result<Proxy> {
        // News of the cluster do not wait for merges.
        let watch = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cluster")
            .on_thread_start(schedule::prompt)
            .enable_all()
            .build()?;
        let pool = Builder::new_multi_thread()
            .worker_threads(config.merge_threads.max(1))
            .thread_name("merge")
            .thread_stack_size(STATEMENT_STACK_BYTES)
            .on_thread_start(schedule::background)
            .enable_all()
            .build()?;
        let handle = pool.handle().clone();
        let cluster = watch.block_on(Cluster::connect(config.metadata, config.key));
        let merge = pool
            .block_on(MergePool::new(cluster.clone(), handle, config.merge_memory))
            .map_err(|error: toroid_common::error::SqlError| io::Error::other(error))?;
        let shared = cluster.clone();
        let make = move |place: Place| {
            let (cluster, merge) = (cluster.clone(), merge.clone());
            async move {
                loop {
                    match Conductor::new(cluster.clone(), merge.clone(), place.clone()).await {
                        Ok(conductor) => return conductor,
                        Err(error) => tracing::warn!(%error, "a proxy thread waits for the metadata service"),
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let server = Server::start(listener, &config.front_end, threads, make)?;
        Ok(Proxy { server, cluster: shared, pool, watch })
    }

    /// Partitions of which no replica is left, as far as is known: statements that need them fail.
    pub fn lost(&self) -> Vec<PartitionId> {
        let Ok(view) = self.cluster.view() else { return Vec::new() };
        let partitions = view.map.partitions.iter().enumerate();
        let lost = partitions.filter(|(_, assignment)| assignment.primary.is_none());
        lost.map(|(index, _)| PartitionId(index as u16)).collect()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Ends all sessions, and the threads unless others have them, too.
    pub fn stop(self) {
        self.server.stop();
        self.pool.shutdown_background();
        self.watch.shutdown_background();
    }
}
