//! The metadata group on real sockets and disks: it grows, outlives its leader, and is found again after all nodes have stopped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use toroid_common::id::{ClusterId, NodeId};
use toroid_common::wire::{
    Control, ControlBody, Hello, Message, NodeLife, NoticeBody, PROTOCOL_VERSION, RawFrame, Role, Status,
};
use toroid_storage_node::{Bootstrap, Neighbours, NodeConfig, NodeHandle, start};

const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes with directories of their own, and the addresses that they keep over restarts.
struct Cluster {
    dir: PathBuf,
    addresses: Vec<SocketAddr>,
    nodes: Vec<Option<NodeHandle>>,
}

impl Cluster {
    fn start(name: &str, count: usize) -> Cluster {
        let dir = std::env::temp_dir().join(format!("toroid-group-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        // Held open together, so that they differ.
        let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = held.iter().map(|listener| listener.local_addr().unwrap()).collect();
        drop(held);
        let mut cluster = Cluster { dir, addresses, nodes: (0..count).map(|_| None).collect() };
        let bootstrap = Bootstrap { nodes: count.min(3), copies: count.min(2) as u8, min_copies: 1, partitions: 8 };
        cluster.start_node(0, Some(bootstrap));
        (1..count).for_each(|index| cluster.start_node(index, None));
        cluster
    }

    fn path(&self, index: usize) -> PathBuf {
        self.dir.join(index.to_string())
    }

    fn start_node(&mut self, index: usize, bootstrap: Option<Bootstrap>) {
        let others = self.addresses.iter().copied().filter(|address| *address != self.addresses[index]);
        let join = if bootstrap.is_some() { Vec::new() } else { others.collect() };
        self.nodes[index] = Some(start(config(self.addresses[index], &self.path(index), bootstrap, join)).unwrap());
    }

    fn stop(&mut self, index: usize) {
        self.nodes[index].take().unwrap().shutdown();
    }

    /// What any node's leader says, once it satisfies `enough`.
    fn wait(&self, what: &str, enough: impl Fn(&Status) -> bool) -> Status {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < PATIENCE {
            for (address, node) in self.addresses.iter().zip(&self.nodes) {
                if node.is_none() {
                    continue;
                }
                match ask(*address, ControlBody::Status) {
                    Some(NoticeBody::Status(status)) if enough(&status) => return *status,
                    Some(NoticeBody::Status(status)) => last = Some(status),
                    _ => {}
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: {last:?}");
    }

    fn index_of(&self, status: &Status, node: NodeId) -> usize {
        let control = status.nodes.iter().find(|status| status.node == node).unwrap().control;
        self.addresses.iter().position(|address| *address == control).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter_mut().filter_map(Option::take).for_each(NodeHandle::shutdown);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn config(listen: SocketAddr, dir: &Path, bootstrap: Option<Bootstrap>, join: Vec<SocketAddr>) -> NodeConfig {
    NodeConfig {
        node: None,
        listen,
        advertise: None,
        worker_ports: None,
        workers: 1,
        hosts: Vec::new(),
        control_host: None,
        neighbours: Neighbours::default(),
        local_sockets: false,
        memory: 64 << 20,
        pool_threads: 1,
        fragment_memory: 16 << 20,
        zone: String::new(),
        capacity: 1,
        key: None,
        data_dir: Some(dir.to_owned()),
        bootstrap,
        join,
    }
}

/// One question over a connection of its own; `None` when nobody answers there.
fn ask(address: SocketAddr, body: ControlBody) -> Option<NoticeBody> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut out = Vec::new();
    Message::Hello(Hello { version: PROTOCOL_VERSION, cluster: None, role: Role::Client }).write(&mut out);
    Message::Control(Control { number: 1, body }).write(&mut out);
    stream.write_all(&out).ok()?;
    let mut input = Vec::new();
    loop {
        while let Ok(Some((frame, used))) = RawFrame::split(&input) {
            if let Ok(Message::Notice(notice)) = Message::decode(frame)
                && notice.number == 1
            {
                return Some(notice.body);
            }
            input.drain(..used);
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).ok()? {
            0 => return None,
            count => input.extend_from_slice(&piece[..count]),
        }
    }
}

fn settled(status: &Status) -> bool {
    status.ready && status.under_replicated.is_empty() && status.joining.is_empty() && status.hand_overs == 0
}

#[test]
fn the_group_grows_to_three_and_outlives_its_leader() {
    let mut cluster = Cluster::start("leader", 3);
    let status = cluster.wait("three members", |status| status.members.len() == 3 && settled(status));
    let leader = status.leader.unwrap();
    let index = cluster.index_of(&status, leader);
    cluster.stop(index);
    let stopped = Instant::now();
    let after = cluster.wait("another leader", |status| status.leader.is_some_and(|node| node != leader));
    let replaced = stopped.elapsed();
    assert!(after.term > status.term);
    // Asked from outside, over new connections, on a machine that does much else.
    assert!(replaced < Duration::from_secs(5), "{replaced:?}");
    let life = |status: &Status| status.nodes.iter().find(|n| n.node == leader).map(|n| n.life);
    cluster.wait("the node is given up", |status| life(status) != Some(NodeLife::Up));
    cluster.start_node(index, None);
    let back = cluster.wait("the node is back", |status| life(status) == Some(NodeLife::Up) && settled(status));
    assert_eq!((back.cluster, back.nodes.len(), back.members.len()), (status.cluster, 3, 3));
}

#[test]
fn a_leader_that_is_asked_to_stop_has_another_one_lead_first() {
    let mut cluster = Cluster::start("gives-way", 3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut left = Vec::new();
    for _ in 0..3 {
        let status = cluster.wait("three members", |status| status.members.len() == 3 && settled(status));
        let leader = status.leader.unwrap();
        let index = cluster.index_of(&status, leader);
        let begun = Instant::now();
        runtime.block_on(cluster.nodes[index].as_ref().unwrap().leave());
        left.push(begun.elapsed());
        // It still runs, and does not lead.
        let after = cluster.wait("another leader", |status| status.leader.is_some());
        assert!(after.leader != Some(leader) && after.term > status.term, "{:?} after {leader}", after.leader);
        let life = |status: &Status| status.nodes.iter().find(|n| n.node == leader).map(|n| n.life);
        assert!(matches!(life(&after), Some(NodeLife::Down | NodeLife::Away)), "{:?}", life(&after));
        cluster.stop(index);
        cluster.start_node(index, None);
        cluster.wait("the node is back", |status| life(status) == Some(NodeLife::Up) && settled(status));
    }
    assert!(left.iter().all(|time| *time < Duration::from_secs(5)), "{left:?}");
}

#[test]
fn nodes_that_stop_together_wait_for_nobody() {
    let mut cluster = Cluster::start("together", 3);
    cluster.wait("three members", |status| status.members.len() == 3 && settled(status));
    let nodes: Vec<_> = cluster.nodes.iter_mut().filter_map(Option::take).collect();
    let left: Vec<Duration> = std::thread::scope(|scope| {
        let leave = |node: NodeHandle| {
            let begun = Instant::now();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(node.leave());
            node.shutdown();
            begun.elapsed()
        };
        let threads: Vec<_> = nodes.into_iter().map(|node| scope.spawn(move || leave(node))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(left.iter().all(|time| *time < Duration::from_secs(6)), "{left:?}");
}

#[test]
fn a_node_without_a_cluster_stops_at_once() {
    let dir = std::env::temp_dir().join(format!("toroid-group-nowhere-{}", std::process::id()));
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let node = start(config(SocketAddr::from(([127, 0, 0, 1], 0)), &dir, None, vec![nobody])).unwrap();
    let begun = Instant::now();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(node.leave());
    node.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn all_nodes_may_stop_and_the_cluster_is_found_again() {
    let mut cluster = Cluster::start("restart", 3);
    let before = cluster.wait("three members", |status| status.members.len() == 3 && settled(status));
    (0..3).for_each(|index| cluster.stop(index));
    (0..3).for_each(|index| cluster.start_node(index, None));
    let after = cluster.wait("all are back", |status| {
        status.nodes.iter().all(|node| node.life == NodeLife::Up) && status.lost.len() == 8
    });
    assert_eq!((after.cluster, after.catalog), (before.cluster, before.catalog));
    assert!(after.map > before.map && after.term >= before.term);
    // Memory was all they had: the partitions are lost until somebody says that this is so.
    let leader = cluster.addresses[cluster.index_of(&after, after.leader.unwrap())];
    let Some(NoticeBody::Recovered(partitions)) = ask(leader, ControlBody::Recover { id: 1 }) else { panic!() };
    assert_eq!(partitions.len(), 8);
    cluster.wait("no partition is lost", |status| status.lost.is_empty() && settled(status));
}

/// A copy of a node's directory, for a process at another address.
fn copied(cluster: &Cluster, index: usize) -> (PathBuf, SocketAddr) {
    let copy = cluster.dir.join("copy");
    std::fs::create_dir_all(copy.join("metadata")).unwrap();
    for file in ["identity", "metadata/log", "metadata/snapshot"] {
        // There may be no snapshot yet.
        let _ = std::fs::copy(cluster.path(index).join(file), copy.join(file));
    }
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    (copy, address)
}

#[test]
fn a_second_process_with_a_copy_of_a_directory_does_not_take_its_seat() {
    let mut cluster = Cluster::start("copy", 3);
    let before = cluster.wait("three members", |status| status.members.len() == 3 && settled(status));
    let leader = cluster.index_of(&before, before.leader.unwrap());
    let index = (leader + 1) % 3;
    let (copy, address) = copied(&cluster, index);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut second = start(config(address, &copy, None, cluster.addresses.clone())).unwrap();
    let reason = runtime.block_on(async { tokio::time::timeout(PATIENCE, second.failed()).await.unwrap() });
    assert!(reason.contains("another process is this node"), "{reason}");
    second.shutdown();
    // With the first one gone the copy is the node, and the first one's directory an old one.
    cluster.stop(index);
    let moved = start(config(address, &copy, None, cluster.addresses.clone())).unwrap();
    let at = |status: &Status, address: SocketAddr| status.nodes.iter().any(|node| node.control == address);
    let after = cluster.wait("the copy is the node", |status| at(status, address) && settled(status));
    std::thread::sleep(Duration::from_secs(1));
    cluster.start_node(index, None);
    // An election that the machine's load brings about passes; an old directory would call for one again and again.
    let mut seen = after;
    let undisturbed = (0..4).any(|_| {
        std::thread::sleep(Duration::from_secs(3));
        let status = cluster.wait("all is well", |status| settled(status) && at(status, address));
        let same = (status.term, status.leader) == (seen.term, seen.leader);
        seen = status;
        same
    });
    assert!(undisturbed, "nobody is elected by the old directory");
    assert!(!at(&seen, cluster.addresses[index]));
    moved.shutdown();
}

#[test]
fn a_cluster_is_made_once_in_a_directory() {
    let mut cluster = Cluster::start("once", 1);
    cluster.wait("one member", |status| status.members.len() == 1 && settled(status));
    cluster.stop(0);
    let bootstrap = Bootstrap { nodes: 1, copies: 1, min_copies: 1, partitions: 8 };
    let again = start(config(cluster.addresses[0], &cluster.path(0), Some(bootstrap), Vec::new()));
    let refused = again.map(drop).unwrap_err().to_string();
    assert!(refused.contains("makes a cluster once"), "{refused}");
}

#[test]
fn peers_of_other_clusters_and_other_versions_are_refused() {
    let cluster = Cluster::start("refused", 1);
    cluster.wait("one member", settled);
    let greet = |hello: Hello, rest: &[u8]| {
        let mut stream = TcpStream::connect(cluster.addresses[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut out = Vec::new();
        Message::Hello(hello).write(&mut out);
        out.extend_from_slice(rest);
        stream.write_all(&out).unwrap();
        let mut input = Vec::new();
        // A reset is as good as an end.
        let _ = stream.read_to_end(&mut input);
        match RawFrame::split(&input).unwrap() {
            Some((frame, _)) => format!("{:?}", Message::decode(frame).unwrap()),
            None => String::new(),
        }
    };
    let stranger = Role::Member { member: 7, control: cluster.addresses[0] };
    let hello = |role| Hello { version: PROTOCOL_VERSION, cluster: Some(ClusterId(1)), role };
    assert!(greet(hello(Role::Client), &[]).contains("another one"));
    assert!(greet(hello(stranger), &[]).contains("another one"));
    assert!(greet(Hello { cluster: None, ..hello(stranger) }, &[]).contains("names its cluster"));
    assert!(greet(Hello { version: 99, ..hello(Role::Client) }, &[]).contains("protocol version 99"));
    // More than a control message may have, and bytes that are none.
    let huge = [0xff, 0xff, 0xff, 0x0f, 40];
    greet(Hello { cluster: None, ..hello(Role::Client) }, &huge);
    greet(Hello { cluster: None, ..hello(Role::Client) }, &[3, 0, 0, 0, 40, 0xff, 0xff]);
    cluster.wait("others are served", settled);
}
