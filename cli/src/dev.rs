//! `toroid dev`: a proxy and storage nodes in one process, with real sockets between them.

use crate::arguments::Dev;
use crate::machine::{self, MIB};
use crate::process;
use crate::serve;
use crate::settings::{self, within};
use crate::stop::Stop;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use toroid_common::id::NodeId;
use toroid_proxy::proxy::{Proxy, ProxyConfig};
use toroid_proxy::server::Config;
use toroid_proxy::server::threads::{Seat, Threads};
use toroid_storage_node::{Bootstrap, Host, Neighbours, NodeConfig, NodeHandle};

/// Where storage nodes of one process meet.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub fn run(dev: &Dev) -> Result<(), String> {
    check(dev)?;
    let listener = process::listen(dev.listen)?;
    let front_end = Config::default();
    process::make_room(front_end.max_connections);
    let runtime = process::runtime(dev.metrics)?;
    let _inside = runtime.enter();
    // Signals are caught from here on, so that one that comes while the cluster forms ends it cleanly, too.
    let mut stop = Stop::new()?;
    let cores = machine::cores();
    let threads = settings::threads("proxy-threads", dev.proxy_threads, cores.div_ceil(4))?;
    let threads =
        Threads::start("proxy", threads).map_err(|error| format!("cannot start the proxy's threads: {error}"))?;
    // One for all nodes: while a cut is made they all speak with the first one, and answers wait meanwhile.
    let control = Threads::start("control", 1).map_err(|error| format!("cannot start the nodes' thread: {error}"))?;
    let mut nodes = start_nodes(dev, cores, &threads, &control)?;
    let Some(metadata) = nodes.first().map(NodeHandle::control_address) else { return Ok(()) };
    let config = ProxyConfig {
        metadata: vec![metadata],
        key: None,
        merge_threads: cores.min(8),
        merge_memory: (dev.merge_memory as usize).saturating_mul(MIB),
        front_end,
    };
    // The threads outlive the proxy: the nodes' workers are on them, too.
    let shared = threads.clone();
    serve::until_stopped(&runtime, &mut stop, move || Proxy::start(listener, config, shared))?;
    for node in nodes.drain(..).rev() {
        node.shutdown();
    }
    Ok(())
}

fn check(dev: &Dev) -> Result<(), String> {
    if u32::from(dev.copies) > dev.nodes {
        return Err(format!(
            "--copies {} needs as many nodes, and --nodes is {}: each copy lives on another node",
            dev.copies, dev.nodes
        ));
    }
    within("min-copies", dev.min_copies, 1, dev.copies)?;
    if !dev.partitions.is_power_of_two() || dev.partitions > toroid_common::limits::MAX_PARTITIONS {
        return Err(format!(
            "--partitions {}: it must be a power of two, at most {}",
            dev.partitions,
            toroid_common::limits::MAX_PARTITIONS
        ));
    }
    Ok(())
}

/// Workers are guests on the proxy's threads, evenly: what a session asks of a worker on the same thread wakes no other one.
fn start_nodes(dev: &Dev, cores: usize, threads: &Threads, control: &Threads) -> Result<Vec<NodeHandle>, String> {
    let memory = settings::memory("memory", dev.memory, machine::memory() / 2 / dev.nodes.max(1) as usize)?;
    let mut hosts = threads.seats().iter().cycle().map(host);
    let neighbours = Neighbours::default();
    let mut nodes: Vec<NodeHandle> = Vec::new();
    for number in 1..=dev.nodes {
        let first = nodes.first().map(NodeHandle::control_address);
        let bootstrap = Bootstrap {
            nodes: dev.nodes as usize,
            copies: dev.copies,
            min_copies: dev.min_copies,
            partitions: dev.partitions,
        };
        let config = NodeConfig {
            node: Some(NodeId(number)),
            listen: ANY_PORT,
            advertise: None,
            worker_ports: None,
            workers: dev.workers,
            hosts: hosts.by_ref().take(usize::from(dev.workers)).collect(),
            control_host: control.seats().first().map(host),
            neighbours: neighbours.clone(),
            local_sockets: true,
            memory,
            pool_threads: cores.div_ceil(dev.nodes as usize),
            fragment_memory: memory / 4,
            zone: String::new(),
            capacity: 1,
            key: None,
            data_dir: None,
            bootstrap: first.is_none().then_some(bootstrap),
            join: first.into_iter().collect(),
        };
        nodes.push(toroid_storage_node::start(config).map_err(|error| error.to_string())?);
    }
    Ok(nodes)
}

fn host(seat: &Seat) -> Host {
    let seat = seat.clone();
    Host::new(move |job| seat.run(job))
}
