//! Settings of long-running processes: flags, and a TOML file with the same names for what the flags don't say.

use crate::machine::MIB;
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use toroid_common::secret::Key;

const STORAGE_NODE_EXAMPLES: &str = "\
Examples:
  toroid storage-node --bootstrap --listen 10.0.0.1:5500 --join 10.0.0.2:5500,10.0.0.3:5500 --data-dir /var/lib/toroid
                                          makes a cluster, once, with those nodes
  toroid storage-node --listen 10.0.0.2:5500 --join 10.0.0.1:5500 --data-dir /var/lib/toroid
                                          joins it
  toroid storage-node --config /etc/toroid/storage-node.toml

Every flag but --config may stand in the file, by its name: listen = \"10.0.0.2:5500\", join = [\"10.0.0.1:5500\"], workers = 4.
Flags win over the file.";

const PROXY_EXAMPLES: &str = "\
Examples:
  toroid proxy --listen 0.0.0.0:5432 --join 10.0.0.1:5500,10.0.0.2:5500,10.0.0.3:5500
  toroid proxy --config /etc/toroid/proxy.toml

Every flag but --config may stand in the file, by its name. Flags win over the file.";

/// 16 TiB: more is a slip of the pen.
const MAX_MEMORY_MIB: usize = 1 << 24;
const MAX_THREADS: usize = 1_024;

/// Where metrics are served.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum Metrics {
    Off,
    At(SocketAddr),
}

impl FromStr for Metrics {
    type Err = String;

    fn from_str(text: &str) -> Result<Metrics, String> {
        match text {
            "off" => Ok(Metrics::Off),
            address => address.parse().map(Metrics::At).map_err(|_| "expected HOST:PORT or off".to_owned()),
        }
    }
}

impl TryFrom<String> for Metrics {
    type Error = String;

    fn try_from(text: String) -> Result<Metrics, String> {
        text.parse()
    }
}

/// What `toroid storage-node` is told.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(after_help = STORAGE_NODE_EXAMPLES)]
pub struct StorageNode {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where other nodes and proxies connect; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Under which host others reach this node, where it listens on 0.0.0.0
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Storage nodes of the cluster, some or all
    #[arg(long, value_name = "HOST:PORT[,…]", value_delimiter = ',')]
    #[serde(default)]
    pub join: Vec<String>,
    /// Where the node keeps what must survive it: its identity and the cluster's metadata
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Workers, each a thread with its share of the partitions; default: one per core
    #[arg(long, value_name = "N")]
    pub workers: Option<u16>,
    /// The first worker's port, the others follow; default: ports that the system chooses
    #[arg(long, value_name = "BASE")]
    pub worker_ports: Option<u16>,
    /// Where the node stands (rack, room): copies go to different zones where there are enough
    #[arg(long, value_name = "Z")]
    pub zone: Option<String>,
    /// The node's weight: one of twice the weight takes twice the partitions [default: 1]
    #[arg(long, value_name = "W")]
    pub capacity: Option<u32>,
    /// Memory for data, in MiB; default: three quarters of the machine's
    #[arg(long, value_name = "MIB")]
    pub memory: Option<usize>,
    /// Make a new cluster: once, on one node
    #[arg(long)]
    #[serde(default)]
    pub bootstrap: bool,
    /// With --bootstrap: copies of every partition, each on another node [default: 2]
    #[arg(long, value_name = "N")]
    pub copies: Option<u8>,
    /// With --bootstrap: below so many copies of a partition its writes wait [default: 1]
    #[arg(long, value_name = "N")]
    pub min_copies: Option<u8>,
    /// With --bootstrap: partitions of the cluster, a power of two that stays for ever [default: 64]
    #[arg(long, value_name = "N")]
    pub partitions: Option<u16>,
    /// A file with the secret that all processes of the cluster share
    #[arg(long, value_name = "FILE")]
    pub cluster_key_file: Option<PathBuf>,
    /// Where metrics are served for Prometheus, or `off` [default: off]
    #[arg(long, value_name = "HOST:PORT|off")]
    pub metrics: Option<Metrics>,
}

/// What `toroid proxy` is told.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(after_help = PROXY_EXAMPLES)]
pub struct Proxy {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where PostgreSQL clients connect; port 0 takes a free one [default: 127.0.0.1:5432]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Storage nodes of the cluster, some or all
    #[arg(long, value_name = "HOST:PORT[,…]", value_delimiter = ',')]
    #[serde(default)]
    pub join: Vec<String>,
    /// Threads that serve clients; default: half of the cores
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Most sessions at a time [default: 1000]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,
    /// Memory for rows that statements gather, sort, join or group, in MiB; default: half of the machine's
    #[arg(long, value_name = "MIB")]
    pub merge_memory: Option<usize>,
    /// A file with the secret that all processes of the cluster share
    #[arg(long, value_name = "FILE")]
    pub cluster_key_file: Option<PathBuf>,
    /// Where metrics are served for Prometheus, or `off` [default: off]
    #[arg(long, value_name = "HOST:PORT|off")]
    pub metrics: Option<Metrics>,
}

impl StorageNode {
    /// The flags, completed by the file that they name.
    pub fn complete(self) -> Result<StorageNode, String> {
        let file: StorageNode = read_file(self.config.as_deref())?;
        Ok(StorageNode {
            config: self.config,
            listen: self.listen.or(file.listen),
            advertise: self.advertise.or(file.advertise),
            join: if self.join.is_empty() { file.join } else { self.join },
            data_dir: self.data_dir.or(file.data_dir),
            workers: self.workers.or(file.workers),
            worker_ports: self.worker_ports.or(file.worker_ports),
            zone: self.zone.or(file.zone),
            capacity: self.capacity.or(file.capacity),
            memory: self.memory.or(file.memory),
            bootstrap: self.bootstrap || file.bootstrap,
            copies: self.copies.or(file.copies),
            min_copies: self.min_copies.or(file.min_copies),
            partitions: self.partitions.or(file.partitions),
            cluster_key_file: self.cluster_key_file.or(file.cluster_key_file),
            metrics: self.metrics.or(file.metrics),
        })
    }
}

impl Proxy {
    /// The flags, completed by the file that they name.
    pub fn complete(self) -> Result<Proxy, String> {
        let file: Proxy = read_file(self.config.as_deref())?;
        Ok(Proxy {
            config: self.config,
            listen: self.listen.or(file.listen),
            join: if self.join.is_empty() { file.join } else { self.join },
            threads: self.threads.or(file.threads),
            max_connections: self.max_connections.or(file.max_connections),
            merge_memory: self.merge_memory.or(file.merge_memory),
            cluster_key_file: self.cluster_key_file.or(file.cluster_key_file),
            metrics: self.metrics.or(file.metrics),
        })
    }
}

fn read_file<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T, String> {
    let Some(path) = path else { return Ok(T::default()) };
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read --config {}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("--config {}: {}", path.display(), error.to_string().trim_end()))
}

/// The address that a setting names.
pub fn address(flag: &str, text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("--{flag} {text}: {error}; expected HOST:PORT"))?;
    found.next().ok_or_else(|| format!("--{flag} {text}: the host has no address"))
}

/// The addresses of `--join`, each once.
pub fn addresses(join: &[String]) -> Result<Vec<SocketAddr>, String> {
    let mut found = Vec::new();
    for text in join {
        let address = address("join", text)?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

/// Bytes, of a number of MiB.
pub fn memory(flag: &str, mib: Option<usize>, default: usize) -> Result<usize, String> {
    let Some(mib) = mib else { return Ok(default) };
    Ok(within(flag, mib, 1, MAX_MEMORY_MIB)? * MIB)
}

/// Threads that serve clients.
pub fn threads(flag: &str, threads: Option<usize>, default: usize) -> Result<usize, String> {
    within(flag, threads.unwrap_or(default.clamp(1, MAX_THREADS)), 1, MAX_THREADS)
}

/// The cluster's key, if there is one.
pub fn cluster_key(path: Option<&Path>) -> Result<Option<Key>, String> {
    let Some(path) = path else { return Ok(None) };
    let named = |error: &dyn std::fmt::Display| format!("--cluster-key-file {}: {error}", path.display());
    let content = std::fs::read(path).map_err(|error| named(&error))?;
    Key::new(&content).map(Some).map_err(|error| named(&error))
}

/// A number within bounds.
pub fn within<T: PartialOrd + std::fmt::Display + Copy>(flag: &str, value: T, least: T, most: T) -> Result<T, String> {
    if value < least || value > most {
        return Err(format!("--{flag} {value}: it must be between {least} and {most}"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("toroid-settings-{}-{}", std::process::id(), content.len()));
        std::fs::write(&path, content).unwrap();
        path
    }

    fn proxy(content: &str, flags: Proxy) -> Result<Proxy, String> {
        let path = file(content);
        let result = Proxy { config: Some(path.clone()), ..flags }.complete();
        std::fs::remove_file(path).unwrap();
        result
    }

    #[test]
    fn flags_win_over_the_file() {
        let text = "listen = \"127.0.0.1:1\"\njoin = [\"127.0.0.1:2\", \"127.0.0.1:3\"]\nmetrics = \"off\"\n";
        let flags = Proxy { listen: Some("127.0.0.1:9".to_owned()), ..Proxy::default() };
        let settings = proxy(text, flags).unwrap();
        assert_eq!(settings.listen.as_deref(), Some("127.0.0.1:9"));
        assert_eq!(addresses(&settings.join).unwrap().len(), 2);
        assert!(matches!(settings.metrics, Some(Metrics::Off)));
    }

    #[test]
    fn a_wrong_file_is_told_with_its_place() {
        let error = proxy("listen = 5\n", Proxy::default()).unwrap_err();
        assert!(error.contains("line 1"), "{error}");
        let error = proxy("lisen = \"127.0.0.1:1\"\n", Proxy::default()).unwrap_err();
        assert!(error.contains("lisen"), "{error}");
        let missing = Proxy { config: Some("/nowhere/at all".into()), ..Proxy::default() }.complete().unwrap_err();
        assert!(missing.contains("/nowhere/at all"), "{missing}");
    }

    #[test]
    fn addresses_and_bounds_name_their_flag() {
        assert!(address("listen", "127.0.0.1").unwrap_err().contains("--listen 127.0.0.1"));
        assert!(within("workers", 0, 1, 256).unwrap_err().contains("--workers 0"));
        assert!(memory("memory", Some(0), 5).unwrap_err().contains("--memory 0"));
        assert!(memory("memory", Some(usize::MAX), 5).is_err());
        assert_eq!((memory("memory", None, 5), memory("memory", Some(2), 5)), (Ok(5), Ok(2 * MIB)));
        assert!(threads("threads", Some(0), 5).unwrap_err().contains("--threads 0"));
        assert_eq!((threads("threads", None, 0), threads("threads", Some(7), 0)), (Ok(1), Ok(7)));
    }
}
