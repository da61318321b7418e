//! `toroid storage-node`: one node of a cluster.

use crate::machine::{self, MIB};
use crate::process;
use crate::settings::{self, Metrics, within};
use crate::stop::Stop;
use toroid_common::limits::{DEFAULT_PARTITIONS, MAX_COPIES, MAX_PARTITIONS};
use toroid_storage_node::{Bootstrap, NodeConfig};

const MAX_WORKERS: u16 = 256;
const MAX_CAPACITY: u32 = 1_000;
const DEFAULT_COPIES: u8 = 2;

pub fn run(settings: settings::StorageNode) -> Result<(), String> {
    let settings = settings.complete()?;
    let metrics = settings.metrics.unwrap_or(Metrics::Off);
    let config = config(&settings)?;
    process::make_room(0);
    let runtime = process::runtime(metrics)?;
    let _inside = runtime.enter();
    let mut stop = Stop::new()?;
    let mut node = toroid_storage_node::start(config).map_err(|error| error.to_string())?;
    process::print(&format!("listening: {}\n", node.control_address()))?;
    runtime.block_on(async {
        tokio::select! {
            () = stop.wait() => {}
            reason = node.failed() => return Err(reason),
        }
        tokio::select! {
            () = node.leave() => {}
            // A second signal does not wait for others to take over.
            () = stop.wait() => {}
        }
        Ok(())
    })?;
    node.shutdown();
    Ok(())
}

fn config(settings: &settings::StorageNode) -> Result<NodeConfig, String> {
    let listen = settings.listen.as_deref().ok_or("--listen is missing: where other nodes and proxies connect")?;
    let listen = settings::address("listen", listen)?;
    let advertise = match &settings.advertise {
        Some(host) => Some(settings::address("advertise", &format!("{host}:0")).map(|address| address.ip())?),
        None if listen.ip().is_unspecified() => {
            return Err(format!("--listen {listen} needs --advertise HOST: others cannot connect to that address"));
        }
        None => None,
    };
    let data_dir =
        settings.data_dir.clone().ok_or("--data-dir is missing: where the node keeps what must survive it")?;
    let join = settings::addresses(&settings.join)?;
    if join.is_empty() && !settings.bootstrap {
        return Err("--join is missing: the cluster's storage nodes (or --bootstrap, to make a new cluster)".to_owned());
    }
    let founds = settings.copies.is_some() || settings.min_copies.is_some() || settings.partitions.is_some();
    if !settings.bootstrap && founds {
        let flags = "--copies, --min-copies and --partitions";
        return Err(format!("{flags} belong to --bootstrap: the cluster has its own already"));
    }
    let bootstrap = match settings.bootstrap {
        true => Some(bootstrap(settings, join.len() + 1)?),
        false => None,
    };
    let workers = settings.workers.unwrap_or(machine::cores().min(usize::from(MAX_WORKERS)) as u16);
    let workers = within("workers", workers, 1, MAX_WORKERS)?;
    let worker_ports =
        settings.worker_ports.map(|base| within("worker-ports", base, 1, u16::MAX - workers)).transpose()?;
    let memory = settings.memory.map_or(machine::memory() / 4 * 3, |mib| mib.saturating_mul(MIB));
    Ok(NodeConfig {
        node: None,
        listen,
        advertise,
        workers,
        worker_ports,
        hosts: Vec::new(),
        local_sockets: true,
        memory,
        pool_threads: machine::cores(),
        fragment_memory: memory / 4,
        zone: settings.zone.clone().unwrap_or_default(),
        capacity: within("capacity", settings.capacity.unwrap_or(1), 1, MAX_CAPACITY)?,
        key: settings::cluster_key(settings.cluster_key_file.as_deref())?,
        data_dir: Some(data_dir),
        bootstrap,
        join,
    })
}

fn bootstrap(settings: &settings::StorageNode, nodes: usize) -> Result<Bootstrap, String> {
    let copies = within("copies", settings.copies.unwrap_or(DEFAULT_COPIES), 1, MAX_COPIES as u8)?;
    let min_copies = within("min-copies", settings.min_copies.unwrap_or(1), 1, copies)?;
    let partitions = settings.partitions.unwrap_or(DEFAULT_PARTITIONS);
    if !partitions.is_power_of_two() || partitions > MAX_PARTITIONS {
        return Err(format!("--partitions {partitions}: it must be a power of two, at most {MAX_PARTITIONS}"));
    }
    Ok(Bootstrap { nodes, copies, min_copies, partitions })
}
