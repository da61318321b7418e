//! `toroid dev`: a proxy and storage nodes in one process, with real sockets between them.

use crate::arguments::{Dev, Metrics};
use crate::observe;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use tokio::signal::unix::{SignalKind, signal};
use toroid_common::id::NodeId;
use toroid_proxy::proxy::{Proxy, ProxyConfig};
use toroid_proxy::server::Config;
use toroid_proxy::server::threads::Threads;
use toroid_storage_node::{Host, Membership, NodeConfig, NodeHandle};

/// Where storage nodes of one process meet.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MIB: usize = 1 << 20;
/// Taken where the system does not say how much memory there is.
const UNKNOWN_MEMORY_MIB: usize = 4096;

pub fn run(dev: &Dev) -> Result<(), String> {
    check(dev)?;
    let listener = TcpListener::bind(dev.listen)
        .map_err(|error| format!("cannot listen on {}: {error}; choose another address with --listen", dev.listen))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("main")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let _inside = runtime.enter();
    if let Metrics::At(address) = dev.metrics {
        let address = observe::serve_metrics(address)?;
        tracing::info!("metrics: http://{address}/metrics");
    }
    // Signals are caught from here on, so that one that comes while the cluster forms ends it cleanly, too.
    let mut stop = Stop::new().map_err(|error| format!("cannot catch signals: {error}"))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = Threads::start(dev.proxy_threads.unwrap_or(cores.div_ceil(2)))
        .map_err(|error| format!("cannot start the proxy's threads: {error}"))?;
    let mut nodes = start_nodes(dev, cores, &threads)?;
    let Some(metadata) = nodes.first().map(NodeHandle::metadata_address) else { return Ok(()) };
    let config = ProxyConfig {
        metadata: vec![metadata],
        key: None,
        merge_threads: cores.min(8),
        merge_memory: (dev.merge_memory as usize).saturating_mul(MIB),
        front_end: Config::default(),
    };
    // The threads outlive the proxy: the nodes' workers are on them, too.
    let shared = threads.clone();
    let starting = std::thread::spawn(move || Proxy::start(listener, config, shared));
    let proxy = runtime.block_on(async {
        while !starting.is_finished() {
            tokio::select! {
                () = stop.wait() => return Ok(None),
                () = tokio::time::sleep(std::time::Duration::from_millis(2)) => {}
            }
        }
        match starting.join() {
            Ok(Ok(proxy)) => Ok(Some(proxy)),
            Ok(Err(error)) => Err(format!("cannot start the proxy: {error}")),
            Err(_) => Err("the proxy panicked at its start".to_owned()),
        }
    })?;
    if let Some(proxy) = proxy {
        announce(&proxy)?;
        runtime.block_on(stop.wait());
        proxy.stop();
    }
    for node in nodes.drain(..).rev() {
        node.shutdown();
    }
    Ok(())
}

/// The one line on standard output that says where to connect.
fn announce(proxy: &Proxy) -> Result<(), String> {
    use std::io::Write;
    let mut out = std::io::stdout();
    writeln!(out, "ready: postgresql://{}/toroid", proxy.address())
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot write to standard output: {error}"))
}

fn check(dev: &Dev) -> Result<(), String> {
    if u32::from(dev.copies) > dev.nodes {
        return Err(format!(
            "--copies {} needs as many nodes, and --nodes is {}: each copy lives on another node",
            dev.copies, dev.nodes
        ));
    }
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
fn start_nodes(dev: &Dev, cores: usize, threads: &Threads) -> Result<Vec<NodeHandle>, String> {
    let memory = match dev.memory {
        Some(mib) => mib.saturating_mul(MIB),
        None => machine_memory() / 2 / dev.nodes.max(1) as usize,
    };
    let mut hosts = threads.seats().iter().cycle().map(|seat| {
        let seat = seat.clone();
        Host::new(move |job| seat.run(job))
    });
    let mut nodes: Vec<NodeHandle> = Vec::new();
    for number in 1..=dev.nodes {
        let membership = match nodes.first() {
            None => Membership::Found { nodes: dev.nodes as usize, copies: dev.copies, partitions: dev.partitions },
            Some(first) => Membership::Join(first.metadata_address()),
        };
        let config = NodeConfig {
            node: NodeId(number),
            host: HOST,
            control_port: 0,
            workers: dev.workers,
            hosts: hosts.by_ref().take(usize::from(dev.workers)).collect(),
            local_sockets: true,
            memory,
            pool_threads: cores.div_ceil(dev.nodes as usize),
            fragment_memory: memory / 4,
            zone: String::new(),
            capacity: 1,
            membership,
        };
        nodes.push(toroid_storage_node::start(config).map_err(|error| error.to_string())?);
    }
    Ok(nodes)
}

/// Bytes of memory that this machine has, or that the process may use.
fn machine_memory() -> usize {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    });
    let total = total.map_or(UNKNOWN_MEMORY_MIB * MIB, |kib| kib * 1024);
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    limit.map_or(total, |limit: usize| limit.min(total))
}

/// Ctrl-C and SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Stop> {
        Ok(Stop { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
