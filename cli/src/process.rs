//! What every process of a cluster does first: a runtime with metrics, an address to listen on, a line on standard output.

use crate::machine;
use crate::observe;
use crate::settings::Metrics;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use tokio::runtime::Runtime;

/// The main thread's runtime, which also serves the process's metrics.
pub fn runtime(metrics: Metrics) -> Result<Runtime, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("main")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    if let Metrics::At(address) = metrics {
        let _inside = runtime.enter();
        let address = observe::serve_metrics(address)?;
        tracing::info!("metrics: http://{address}/metrics");
    }
    Ok(runtime)
}

/// Files that a process has open besides its clients' connections: links to workers, listeners, logs.
const OTHER_FILES: u64 = 256;

/// Makes room for so many clients' connections, as far as the system lets it.
pub fn make_room(connections: usize) {
    let needed = OTHER_FILES.saturating_add(connections as u64);
    if let Some(limit) = machine::open_files()
        && limit < needed
    {
        tracing::warn!(limit, needed, "the system allows fewer open files than this process may need (ulimit -n)");
    }
}

/// Where clients will connect.
pub fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .map_err(|error| format!("cannot listen on {address}: {error}; choose another address with --listen"))
}

/// Writes to standard output, at once.
pub fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot write to standard output: {error}"))
}
