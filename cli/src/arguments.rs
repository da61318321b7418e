//! The command line.

use crate::settings::{self, Metrics};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  toroid                                  a cluster on 127.0.0.1:5432, as `toroid dev`
  toroid dev --listen 127.0.0.1:0         on any free port, which it prints
  psql -h 127.0.0.1 -d toroid             work with it
  toroid storage-node --help              how to run a cluster on several machines

Environment:
  TOROID_LOG    what is logged to standard error: error, warn, info, debug, trace,
                or by module: warn,toroid_proxy=debug; by default info, and warn with dev";

const DEV_EXAMPLES: &str = "\
Examples:
  toroid dev                              three storage nodes, two copies of everything
  toroid dev --nodes 1 --copies 1         the least memory
  toroid dev --listen 127.0.0.1:0 --metrics off
  psql -h 127.0.0.1 -d toroid             work with it";

const STATUS_EXAMPLES: &str = "\
Examples:
  toroid status --join 10.0.0.1:5500
  toroid status --join 10.0.0.1:5500,10.0.0.2:5500 --json";

const NODE_EXAMPLES: &str = "\
Examples:
  toroid node drain 3 --join 10.0.0.1:5500       its partitions move elsewhere; toroid status shows how far
  toroid node remove 3 --join 10.0.0.1:5500      once it is empty or dead";

const COPIES_EXAMPLES: &str = "\
Examples:
  toroid copies 3 --join 10.0.0.1:5500
  toroid copies 3 --min-copies 2 --join 10.0.0.1:5500     no write is answered that fewer than two nodes hold";

const RECOVER_EXAMPLES: &str = "\
Examples:
  toroid recover --accept-loss --join 10.0.0.1:5500     says which partitions it made anew";

/// Toroid: an in-memory, distributed SQL database for PostgreSQL clients.
#[derive(Debug, Parser)]
#[command(name = "toroid", version, about, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster in one process: a proxy and storage nodes with real sockets between them
    Dev(Dev),
    /// Run one storage node of a cluster
    StorageNode(settings::StorageNode),
    /// Run a proxy: the server that PostgreSQL clients connect to
    Proxy(settings::Proxy),
    /// Show nodes, partitions, and what is under way
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        group: Group,
    },
    /// Empty storage nodes, and take them out of the cluster
    Node(Node),
    /// Change how many copies each partition has, while the cluster works
    #[command(after_help = COPIES_EXAMPLES)]
    Copies {
        /// Copies, each on another node
        #[arg(value_name = "N")]
        copies: u8,
        /// Below so many copies of a partition its writes wait; default: as before
        #[arg(long, value_name = "N")]
        min_copies: Option<u8>,
        #[command(flatten)]
        group: Group,
    },
    /// Make partitions anew, empty, of which no replica is left
    #[command(after_help = RECOVER_EXAMPLES)]
    Recover {
        /// Yes, what was in them is lost
        #[arg(long)]
        accept_loss: bool,
        #[command(flatten)]
        group: Group,
    },
}

/// How a command finds the cluster.
#[derive(Debug, Args)]
pub struct Group {
    /// Storage nodes of the cluster, some or all
    #[arg(long, value_name = "HOST:PORT[,…]", value_delimiter = ',', required = true)]
    pub join: Vec<String>,
    /// A file with the secret that all processes of the cluster share
    #[arg(long, value_name = "FILE")]
    pub cluster_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = NODE_EXAMPLES)]
pub struct Node {
    #[command(subcommand)]
    pub command: NodeCommand,
}

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Move all partitions of a node elsewhere
    #[command(after_help = NODE_EXAMPLES)]
    Drain {
        /// The node's number, as `toroid status` shows it
        #[arg(value_name = "NODE")]
        node: u32,
        #[command(flatten)]
        group: Group,
    },
    /// Forget a node that is empty or dead
    #[command(after_help = NODE_EXAMPLES)]
    Remove {
        /// The node's number, as `toroid status` shows it
        #[arg(value_name = "NODE")]
        node: u32,
        #[command(flatten)]
        group: Group,
    },
}

impl Default for Command {
    fn default() -> Command {
        // What `toroid dev` without flags parses to: the defaults stand in one place only.
        let arguments = Arguments::parse_from(["toroid", "dev"]);
        arguments.command.unwrap_or_else(|| unreachable!("`dev` is a command"))
    }
}

#[derive(Debug, Args)]
#[command(after_help = DEV_EXAMPLES)]
pub struct Dev {
    /// Where PostgreSQL clients connect; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5432")]
    pub listen: SocketAddr,
    /// Storage nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub nodes: u32,
    /// Workers per storage node
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// Copies of every partition, each on another node
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub copies: u8,
    /// Below so many copies of a partition its writes wait
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub min_copies: u8,
    /// Partitions of the cluster: a power of two
    #[arg(long, value_name = "N", default_value_t = toroid_common::limits::DEFAULT_PARTITIONS)]
    pub partitions: u16,
    /// Where metrics are served for Prometheus, or `off`
    #[arg(long, value_name = "HOST:PORT|off", default_value = "127.0.0.1:9464")]
    pub metrics: Metrics,
    /// Threads that serve clients and run the workers; default: a quarter of the cores
    #[arg(long, value_name = "N")]
    pub proxy_threads: Option<usize>,
    /// Memory for the data of each storage node, in MiB; default: half of the machine's, shared by the nodes
    #[arg(long, value_name = "MIB")]
    pub memory: Option<usize>,
    /// Memory in which the proxy sorts, joins and gathers rows, in MiB; a statement may hold as much as it leaves free
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub merge_memory: u32,
}
