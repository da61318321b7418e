//! Sockets and threads: every proxy thread accepts connections of its own and serves each from first to last byte.

pub mod connection;
pub mod registry;

use crate::session::metrics::Metrics;
use crate::statement::Executor;
use connection::Gate;
use registry::Registry;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime;
use tokio::task::LocalSet;
use toroid_common::limits::STATEMENT_STACK_BYTES;

/// How long sessions may take to end their statements at shutdown.
const GRACE: Duration = Duration::from_secs(5);
/// After how long accepting is tried again when the process has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub struct Config {
    pub threads: usize,
    pub max_connections: usize,
    /// How long a client may take to start its session.
    pub start_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { threads: 1, max_connections: 1_000, start_timeout: Duration::from_secs(60) }
    }
}

/// A running front end.
pub struct Server {
    registry: Arc<Registry>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts the threads. Each makes its own executor with `make`, inside its runtime.
    pub fn start<E, M, F>(listener: TcpListener, config: &Config, make: M) -> io::Result<Server>
    where
        E: Executor,
        M: Fn(usize) -> F + Clone + Send + 'static,
        F: Future<Output = E>,
    {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let registry = Arc::new(Registry::new(config.max_connections)?);
        let mut threads = Vec::new();
        for index in 0..config.threads.max(1) {
            let (registry, listener) = (registry.clone(), listener.try_clone()?);
            let (config, make) = (config.clone(), make.clone());
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let run = move || {
                let local = LocalSet::new();
                let serve = async move {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => thread(listener, config, registry, make(index)).await,
                        Err(error) => tracing::error!(%error, "cannot listen"),
                    }
                };
                runtime.block_on(local.run_until(serve));
            };
            threads.push(spawn(index, run)?);
        }
        Ok(Server { registry, address, threads })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.registry.count()
    }

    /// Ends all sessions (57P01) and the threads; blocks until they are gone.
    pub fn stop(self) {
        self.registry.shut_down();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a proxy thread had panicked");
            }
        }
    }
}

fn spawn(index: usize, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(format!("proxy-{index}"));
    builder.stack_size(STATEMENT_STACK_BYTES).spawn(run)
}

async fn thread<E: Executor>(
    listener: tokio::net::TcpListener,
    config: Config,
    registry: Arc<Registry>,
    make: impl Future<Output = E>,
) {
    let seed = registry.random().map_or(0, u64::from_le_bytes);
    let gate = Rc::new(Gate {
        executor: Rc::new(make.await),
        metrics: Rc::new(Metrics::new(seed)),
        registry: registry.clone(),
        start_timeout: config.start_timeout,
    });
    let mut shutdown = registry.watch_shutdown();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown.wait_for(|down| *down) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let gate = gate.clone();
                tokio::task::spawn_local(async move { gate.admit(stream).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async {
        // Each task holds the gate; the last one left is ours.
        while Rc::strong_count(&gate) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("sessions were cut off at shutdown");
    }
}
