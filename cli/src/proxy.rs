//! `toroid proxy`: a stateless server for PostgreSQL clients.

use crate::machine;
use crate::process;
use crate::serve;
use crate::settings::{self, Metrics};
use crate::stop::Stop;
use toroid_proxy::proxy::{Proxy, ProxyConfig};
use toroid_proxy::server::Config;
use toroid_proxy::server::threads::Threads;

const DEFAULT_LISTEN: &str = "127.0.0.1:5432";
/// The most that PostgreSQL takes.
const MAX_CONNECTIONS: usize = 262_143;

pub fn run(settings: settings::Proxy) -> Result<(), String> {
    let settings = settings.complete()?;
    let listen = settings::address("listen", settings.listen.as_deref().unwrap_or(DEFAULT_LISTEN))?;
    let metadata = settings::addresses(&settings.join)?;
    if metadata.is_empty() {
        return Err("--join is missing: the cluster's storage nodes".to_owned());
    }
    let key = settings::cluster_key(settings.cluster_key_file.as_deref())?;
    let front_end = Config::default();
    let most = settings.max_connections.unwrap_or(front_end.max_connections);
    let max_connections = settings::within("max-connections", most, 1, MAX_CONNECTIONS)?;
    let listener = process::listen(listen)?;
    process::make_room(max_connections);
    let runtime = process::runtime(settings.metrics.unwrap_or(Metrics::Off))?;
    let _inside = runtime.enter();
    let mut stop = Stop::new()?;
    let cores = machine::cores();
    let config = ProxyConfig {
        metadata,
        key,
        merge_threads: cores.min(8),
        merge_memory: settings::memory("merge-memory", settings.merge_memory, machine::memory() / 2)?,
        front_end: Config { max_connections, ..front_end },
    };
    let threads = settings::threads("threads", settings.threads, cores.div_ceil(2))?;
    let threads =
        Threads::start("proxy", threads).map_err(|error| format!("cannot start the proxy's threads: {error}"))?;
    serve::until_stopped(&runtime, &mut stop, move || Proxy::start(listener, config, threads))
}
