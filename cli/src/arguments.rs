//! The command line.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;

const EXAMPLES: &str = "\
Examples:
  toroid                                  a cluster on 127.0.0.1:5432, as `toroid dev`
  toroid dev --listen 127.0.0.1:0         on any free port, which it prints
  psql -h 127.0.0.1 -d toroid             work with it

Environment:
  TOROID_LOG    what is logged to standard error: error, warn (default), info, debug, trace,
                or by module: warn,toroid_proxy=debug";

const DEV_EXAMPLES: &str = "\
Examples:
  toroid dev                              three storage nodes, two copies of everything
  toroid dev --nodes 1 --copies 1         the least memory
  toroid dev --listen 127.0.0.1:0 --metrics off
  psql -h 127.0.0.1 -d toroid             work with it";

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
    /// Partitions of the cluster: a power of two
    #[arg(long, value_name = "N", default_value_t = toroid_common::limits::DEFAULT_PARTITIONS)]
    pub partitions: u16,
    /// Where metrics are served for Prometheus, or `off`
    #[arg(long, value_name = "HOST:PORT|off", default_value = "127.0.0.1:9464", value_parser = metrics)]
    pub metrics: Metrics,
    /// Threads that serve clients and run the workers; default: half of the cores
    #[arg(long, value_name = "N")]
    pub proxy_threads: Option<usize>,
    /// Memory for the data of each storage node, in MiB; default: half of the machine's, shared by the nodes
    #[arg(long, value_name = "MIB")]
    pub memory: Option<usize>,
    /// Memory in which the proxy sorts, joins and gathers rows, in MiB; a statement may hold as much as it leaves free
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub merge_memory: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Metrics {
    Off,
    At(SocketAddr),
}

fn metrics(text: &str) -> Result<Metrics, String> {
    match text {
        "off" => Ok(Metrics::Off),
        address => address.parse().map(Metrics::At).map_err(|_| "expected HOST:PORT or off".to_owned()),
    }
}
