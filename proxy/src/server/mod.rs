//! Sockets and threads: every proxy thread accepts connections of its own and serves each from first to last byte.

pub mod threads;
pub mod registry;
pub mod connection;

use crate::session::metrics::Metrics;
use crate::statement::Executor;
use connection::Gate;
use registry::Registry;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use threads::Threads;
use toroid_common::near::Place;

/// How long sessions may take to end their statements at shutdown.
const GRACE: Duration = Duration::from_secs(5);
/// After how long accepting is tried again when the process has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub struct Config {
    pub max_connections: usize,
    /// How long a client may take to start its session.
    pub start_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { max_connections: 1_000, start_timeout: Duration::from_secs(60) }
    }
}

/// A running front end.
pub struct Server {
    registry: Arc<Registry>,
    address: SocketAddr,
    /// Closed when no thread accepts connections or has sessions any more.
    ended: mpsc::Receiver<()>,
    _threads: Threads,
}

impl Server {
    /// Accepts connections on every thread. Each makes its own executor with `make`, inside its runtime.
    pub fn start<E, M, F>(listener: TcpListener, config: &Config, threads: Threads, make: M) -> io::Result<Server>
    where
        E: Executor,
        M: Fn(Place) -> F + Clone + Send + 'static,
        F: Future<Output = E>,
    {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let registry = Arc::new(Registry::new(config.max_connections)?);
        let (end, ended) = mpsc::channel();
        for seat in threads.seats() {
            let (registry, listener) = (registry.clone(), listener.try_clone()?);
            let (config, make, end) = (config.clone(), make.clone(), end.clone());
            let serve = move |place| async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => serve(listener, config, registry, make(place)).await,
                    Err(error) => tracing::error!(%error, "cannot listen"),
                }
                drop(end);
            };
            seat.run(Box::new(move |place| Box::pin(serve(place))));
        }
        Ok(Server { registry, address, ended, _threads: threads })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.registry.count()
    }

    /// Ends all sessions (57P01); blocks until they are gone. The threads go with their last handle.
    pub fn stop(self) {
        self.registry.shut_down();
        // Nothing is ever sent: it is closed when the last thread lets go of it.
        let _ = self.ended.recv();
    }
}

/// Serves one thread's sessions.
async fn serve<E: Executor>(
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
