//! `toroid proxy`: a stateless server for PostgreSQL clients.

use crate::machine;
use crate::observe;
use crate::serve;
use crate::settings::{self, Metrics};
use crate::stop::Stop;
use std::net::TcpListener;
use toroid_proxy::proxy::{Proxy, ProxyConfig};
use toroid_proxy::server::Config;
use toroid_proxy::server::threads::Threads;

const MIB: usize = 1 << 20;
const DEFAULT_LISTEN: &str = "127.0.0.1:5432";

pub fn run(settings: settings::Proxy) -> Result<(), String> {
    let settings = settings.complete()?;
    let listen = settings::address("listen", settings.listen.as_deref().unwrap_or(DEFAULT_LISTEN))?;
    let metadata = settings::addresses(&settings.join)?;
    if metadata.is_empty() {
        return Err("--join is missing: the cluster's storage nodes".to_owned());
    }
    let key = settings::cluster_key(settings.cluster_key_file.as_deref())?;
    let listener = TcpListener::bind(listen)
        .map_err(|error| format!("cannot listen on {listen}: {error}; choose another address with --listen"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("main")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let _inside = runtime.enter();
    if let Metrics::At(address) = settings.metrics.unwrap_or(Metrics::Off) {
        let address = observe::serve_metrics(address)?;
        tracing::info!("metrics: http://{address}/metrics");
    }
    let mut stop = Stop::new()?;
    let cores = machine::cores();
    let config = ProxyConfig {
        metadata,
        key,
        merge_threads: cores.min(8),
        merge_memory: settings.merge_memory.map_or(machine::memory() / 2, |mib| mib.saturating_mul(MIB)),
        front_end: Config::default(),
    };
    let threads = Threads::start(settings.threads.unwrap_or(cores.div_ceil(2)).max(1))
        .map_err(|error| format!("cannot start the proxy's threads: {error}"))?;
    serve::until_stopped(&runtime, &mut stop, move || Proxy::start(listener, config, threads))
}
