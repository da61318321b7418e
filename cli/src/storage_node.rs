//! `toroid storage-node`: one node of a cluster.

use crate::machine;
use crate::process;
use crate::settings::{self, Metrics, within};
use crate::stop::Stop;
use std::net::SocketAddr;
use toroid_common::limits::{DEFAULT_PARTITIONS, MAX_COPIES, MAX_PARTITIONS};
use toroid_storage_node::{Bootstrap, Neighbours, NodeConfig};

const MAX_WORKERS: u16 = 256;
const MAX_CAPACITY: u32 = 1_000;
const MAX_ZONE_BYTES: usize = 63;
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
    let mut join = settings::addresses(&settings.join)?;
    // One list may serve all nodes.
    let own = SocketAddr::new(advertise.unwrap_or(listen.ip()), listen.port());
    join.retain(|address| listen.port() == 0 || (*address != own && *address != listen));
    if join.is_empty() && !settings.bootstrap {
        let hint = "the cluster's storage nodes (or --bootstrap, to make a new cluster)";
        return Err(match settings.join.is_empty() {
            true => format!("--join is missing: {hint}"),
            false => format!("--join names only this node: it takes {hint}"),
        });
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
    let memory = settings::memory("memory", settings.memory, machine::memory() / 4 * 3)?;
    let zone = settings.zone.clone().unwrap_or_default();
    if zone.len() > MAX_ZONE_BYTES || zone.chars().any(char::is_control) {
        return Err(format!("--zone {zone:?}: at most {MAX_ZONE_BYTES} bytes of text"));
    }
    Ok(NodeConfig {
        node: None,
        listen,
        advertise,
        workers,
        worker_ports,
        hosts: Vec::new(),
        control_host: None,
        neighbours: Neighbours::default(),
        local_sockets: true,
        memory,
        pool_threads: machine::cores(),
        fragment_memory: memory / 4,
        zone,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(join: &[&str]) -> settings::StorageNode {
        settings::StorageNode {
            listen: Some("127.0.0.1:5500".to_owned()),
            data_dir: Some("/nowhere".into()),
            join: join.iter().map(ToString::to_string).collect(),
            ..settings::StorageNode::default()
        }
    }

    #[test]
    fn a_node_neither_joins_itself_nor_counts_a_node_twice() {
        let join = ["127.0.0.1:5500", "127.0.0.1:5501", "127.0.0.1:5502", "127.0.0.1:5501"];
        let founder = config(&settings::StorageNode { bootstrap: true, ..settings(&join) }).unwrap();
        assert_eq!((founder.bootstrap.unwrap().nodes, founder.join.len()), (3, 2));
        let alone = config(&settings(&join[..1])).unwrap_err();
        assert!(alone.contains("only this node"), "{alone}");
        let advertised = settings::StorageNode {
            listen: Some("0.0.0.0:5500".to_owned()),
            advertise: Some("127.0.0.1".to_owned()),
            ..settings(&join)
        };
        assert_eq!(config(&advertised).unwrap().join.len(), 2);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_their_flag() {
        let refused = |settings: settings::StorageNode, flag: &str| {
            let error = config(&settings).unwrap_err();
            assert!(error.contains(flag), "{error}");
        };
        let some = || settings(&["127.0.0.1:5501"]);
        refused(settings::StorageNode { memory: Some(0), ..some() }, "--memory 0");
        refused(settings::StorageNode { capacity: Some(0), ..some() }, "--capacity 0");
        refused(settings::StorageNode { zone: Some("z".repeat(64)), ..some() }, "--zone");
        refused(settings::StorageNode { worker_ports: Some(0), ..some() }, "--worker-ports 0");
    }
}
