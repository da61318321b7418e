//! Logs to standard error, metrics for Prometheus.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use tracing_subscriber::EnvFilter;

/// Seconds: from 10 µs to 10 s, so that fast point statements and slow queries can both be told apart.
const LATENCY_BUCKETS: &[f64] = &[
    10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];
/// Entries, requests and other counts per batch.
const COUNT_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Who comes, goes and changes roles; of others only what is wrong.
const DEFAULT: &str = "warn,openraft=error,toroid=info";
/// Where the whole cluster begins and ends with one process its nodes' comings and goings are no news.
const OF_ALL_IN_ONE: &str = "warn,openraft=error,toroid_storage_node::metadata::leader::news=error";

pub fn log_to_stderr(all_in_one: bool) {
    let default = if all_in_one { OF_ALL_IN_ONE } else { DEFAULT };
    let filter = EnvFilter::try_from_env("TOROID_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// Serves all metrics of the process; must be called inside a runtime, which keeps serving them.
pub fn serve_metrics(address: SocketAddr) -> Result<SocketAddr, String> {
    let taken = |error: &dyn std::fmt::Display| {
        format!("cannot serve metrics on {address}: {error}; choose another address with --metrics, or --metrics off")
    };
    // The exporter reports a taken port only later and elsewhere; this also finds the port that 0 stands for.
    let probe = TcpListener::bind(address).map_err(|error| taken(&error))?;
    let address = probe.local_addr().map_err(|error| taken(&error))?;
    drop(probe);
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_BUCKETS)
        .and_then(|builder| builder.set_buckets(COUNT_BUCKETS))
        .and_then(PrometheusBuilder::install)
        .map_err(|error| taken(&error))?;
    Ok(address)
}
