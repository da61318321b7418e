//! Storage nodes over real sockets: a cluster forms, changes its catalog, executes requests on all replicas, and ends.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use toroid_common::catalog::{
    Catalog, Column, DefaultValue, Distribution, Index, IndexColumn, IndexState, PUBLIC_SCHEMA, Table, TableState,
};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::env::Env;
use toroid_common::expr::{Expr, Slot};
use toroid_common::hash::partition_of;
use toroid_common::id::{
    CatalogVersion, ClusterId, ColumnId, Incarnation, IndexId, NodeId, PartitionId, PlanId, TableId, WorkerId,
};
use toroid_common::limits::MAX_EXPRESSION_DEPTH;
use toroid_common::map::ClusterMap;
use toroid_common::near::Place;
use toroid_common::plan::{Access, PointPlan, Verb};
use toroid_common::row::{read_owned, write_row};
use toroid_common::types::{ColumnType, SqlType};
use toroid_common::wire::{
    CatalogChange, ChangeError, Control, ControlBody, Fragment, FragmentEnd, FragmentOutcome, Hello, LENGTH_BYTES,
    Message, NoticeBody, Outcome, PROTOCOL_VERSION, PlanMessage, RawFrame, Refusal, Request, RequestBody, Role,
    encode_env,
};
use toroid_storage_node::config::Job;
use toroid_storage_node::{Bootstrap, Host, Neighbours, NodeConfig, NodeHandle, StartError, start};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Nodes with odd numbers have Unix sockets.
fn config(node: u32, bootstrap: Option<Bootstrap>, join: Option<SocketAddr>) -> NodeConfig {
    NodeConfig {
        node: Some(NodeId(node)),
        listen: SocketAddr::new(HOST, 0),
        advertise: None,
        worker_ports: None,
        workers: 2,
        hosts: Vec::new(),
        control_host: None,
        neighbours: Neighbours::default(),
        local_sockets: node % 2 == 1,
        memory: 1 << 30,
        pool_threads: 1,
        fragment_memory: 64 << 20,
        zone: String::new(),
        capacity: 1,
        key: None,
        data_dir: None,
        bootstrap,
        join: join.into_iter().collect(),
    }
}

fn cluster(nodes: u32, copies: u8) -> Vec<NodeHandle> {
    let bootstrap = Bootstrap { nodes: nodes as usize, copies, min_copies: 1, partitions: 16 };
    let mut handles = vec![start(config(1, Some(bootstrap), None)).unwrap()];
    let metadata = handles[0].metadata_address();
    for node in 2..=nodes {
        handles.push(start(config(node, None, Some(metadata))).unwrap());
    }
    handles
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A blocking peer.
struct Peer {
    stream: Box<dyn Stream>,
    bytes: Vec<u8>,
}

impl Peer {
    fn open(address: SocketAddr, cluster: Option<ClusterId>, role: Role) -> Peer {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Peer::greet(Box::new(stream), cluster, role)
    }

    /// Over the worker's Unix socket, if it has one.
    #[cfg(target_os = "linux")]
    fn open_local(address: SocketAddr, cluster: Option<ClusterId>, role: Role) -> Option<Peer> {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixStream};
        let local = SocketAddr::from_abstract_name(toroid_common::wire::local_name(address)).unwrap();
        let stream = UnixStream::connect_addr(&local).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Some(Peer::greet(Box::new(stream), cluster, role))
    }

    fn greet(stream: Box<dyn Stream>, cluster: Option<ClusterId>, role: Role) -> Peer {
        let mut peer = Peer { stream, bytes: Vec::new() };
        peer.send(&Message::Hello(Hello { version: PROTOCOL_VERSION, cluster, role }));
        peer
    }

    fn send(&mut self, message: &Message<'_>) {
        self.stream.write_all(&encoded(message)).unwrap();
    }

    /// What `take` makes of the next message; `None` when the connection ends.
    fn next<T>(&mut self, take: impl FnOnce(Message<'_>) -> T) -> Option<T> {
        loop {
            if let Some((frame, used)) = RawFrame::split(&self.bytes).unwrap() {
                let taken = take(Message::decode(frame).unwrap());
                self.bytes.drain(..used);
                return Some(taken);
            }
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk).unwrap() {
                0 => return None,
                read => self.bytes.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

/// A client of the metadata service with what it was pushed.
struct Client {
    peer: Peer,
    map: Option<ClusterMap>,
    catalog: Catalog,
    number: u32,
}

impl Client {
    fn connect(metadata: SocketAddr) -> Client {
        let mut peer = Peer::open(metadata, None, Role::Client);
        peer.next(|message| assert!(matches!(message, Message::Welcome(_)))).unwrap();
        peer.send(&Message::Control(Control { number: 1, body: ControlBody::Watch }));
        let mut client = Client { peer, map: None, catalog: Catalog::empty(), number: 1 };
        while client.take() != Some(NoticeBody::Ready) {}
        client
    }

    /// Takes one notice in; returns it when it is no push of map or catalog.
    fn take(&mut self) -> Option<NoticeBody> {
        let body = self.peer.next(|message| match message {
            Message::Notice(notice) => notice.body,
            other => panic!("{other:?}"),
        });
        match body.unwrap() {
            NoticeBody::Map(map) => self.map = Some(map),
            NoticeBody::Catalog(catalog) => self.catalog = catalog,
            other => return Some(other),
        }
        None
    }

    fn ask(&mut self, body: ControlBody) -> NoticeBody {
        self.number += 1;
        self.peer.send(&Message::Control(Control { number: self.number, body }));
        loop {
            if let Some(body) = self.take() {
                return body;
            }
        }
    }

    fn change(&mut self, change: CatalogChange) -> Result<CatalogVersion, ChangeError> {
        let expected = self.catalog.version;
        match self.ask(ControlBody::Change { id: None, expected, change }) {
            NoticeBody::Changed(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn map(&self) -> &ClusterMap {
        self.map.as_ref().unwrap()
    }
}

/// A proxy with one connection per worker.
struct Proxy {
    incarnation: Incarnation,
    workers: BTreeMap<WorkerId, Peer>,
    sequence: u64,
}

/// An owned [`Outcome`].
#[derive(Debug, PartialEq)]
enum Got {
    Rows(u32, Vec<u8>),
    Done(u64),
    Error(String),
    Refused(Refusal),
}

impl Proxy {
    fn connect(client: &mut Client) -> Proxy {
        let NoticeBody::Incarnation(incarnation) = client.ask(ControlBody::AllocateIncarnation) else { panic!() };
        let map = client.map();
        let connect = |worker| {
            let role = Role::Proxy { incarnation };
            let mut peer = Peer::open(map.address(worker).unwrap(), Some(map.cluster), role);
            peer.next(|message| assert!(matches!(message, Message::Welcome(_)))).unwrap();
            (worker, peer)
        };
        Proxy { incarnation, workers: map.workers().map(connect).collect(), sequence: 0 }
    }

    fn register(&mut self, id: u32, plan: &PointPlan) {
        let bytes = PlanMessage::encode_plan(plan);
        for peer in self.workers.values_mut() {
            peer.send(&Message::Plan(PlanMessage { id: PlanId(id), bytes: &bytes }));
        }
    }

    fn request(&mut self, map: &ClusterMap, key: i32, plan: u32, body: RequestBody<'_>) -> Got {
        self.sequence += 1;
        self.request_as(map, key, plan, body, self.sequence)
    }

    fn request_as(&mut self, map: &ClusterMap, key: i32, plan: u32, body: RequestBody<'_>, sequence: u64) -> Got {
        let partition = partition_of([DatumRef::Int4(key)].into_iter(), map.partitions.len() as u16);
        let assignment = map.assignment(partition).unwrap();
        let peer = self.workers.get_mut(&assignment.primary.unwrap()).unwrap();
        let (epoch, plan) = (assignment.epoch, PlanId(plan));
        let request = Request {
            sequence,
            low: sequence,
            partition,
            epoch,
            plan,
            within: None,
            lock_timeout_ms: 0,
            env: None,
            body,
        };
        peer.send(&Message::Request(request));
        peer.next(|message| match message {
            Message::Answer(answer) => {
                assert_eq!(answer.sequence, sequence);
                match answer.outcome {
                    Outcome::Rows { count, bytes } => Got::Rows(count, bytes.to_vec()),
                    Outcome::Done { count } => Got::Done(count),
                    Outcome::Error(error) => Got::Error(error.to_string()),
                    Outcome::Refused(refusal) => Got::Refused(refusal),
                }
            }
            other => panic!("{other:?}"),
        })
        .unwrap()
    }
}

fn column(id: u16, name: &str, ty: SqlType, not_null: bool) -> Column {
    Column {
        id: ColumnId(id),
        name: name.to_owned(),
        ty: ColumnType { ty, modifier: -1 },
        not_null,
        default: None,
        missing: None,
        hidden: false,
    }
}

fn accounts() -> Table {
    let key = IndexColumn { column: 0, descending: false, nulls_first: false };
    Table {
        id: TableId(0),
        schema: PUBLIC_SCHEMA.to_owned(),
        name: "accounts".to_owned(),
        version: CatalogVersion(0),
        columns: vec![column(1, "id", SqlType::Int4, true), column(2, "owner", SqlType::Text, false)],
        indexes: vec![Index {
            id: IndexId(0),
            name: "accounts_pkey".to_owned(),
            columns: vec![key],
            unique: true,
            primary: true,
            constraint: true,
            state: IndexState::Ready,
        }],
        distribution: Distribution::Hash(vec![0]),
        state: TableState::Open,
        next_column: 3,
        generation: 0,
        checks: Vec::new(),
        options: Vec::new(),
    }
}

fn slot(index: u16, ty: SqlType) -> Expr {
    Expr::Leaf(Slot { index, ty })
}

const INSERT: u32 = 1;
const SELECT: u32 = 2;
const UPDATE: u32 = 3;
const DELETE_ALL: u32 = 4;

fn register_plans(proxy: &mut Proxy, table: &Table) {
    let plan =
        |params, verb| PointPlan { table: table.id, table_version: table.version, params, verb, needs_env: false };
    let key = vec![Expr::Param { index: 0, ty: SqlType::Int4 }];
    let access = Access::Index { index: table.indexes[0].id, key, exact: true };
    let output = vec![slot(0, SqlType::Int4), slot(1, SqlType::Text)];
    proxy.register(INSERT, &plan(vec![], Verb::Insert { conflict: None, returning: vec![] }));
    let select = Verb::Select { access: access.clone(), filter: None, output, lock: None };
    proxy.register(SELECT, &plan(vec![SqlType::Int4], select));
    let set = vec![(1, Expr::Param { index: 1, ty: SqlType::Text })];
    let update = Verb::Update { access, filter: None, set, returning: vec![] };
    proxy.register(UPDATE, &plan(vec![SqlType::Int4, SqlType::Text], update));
    let delete = Verb::Delete { access: Access::Scan, filter: None, returning: vec![] };
    proxy.register(DELETE_ALL, &plan(vec![], delete));
}

fn row(values: &[Datum]) -> Vec<u8> {
    let mut out = Vec::new();
    write_row(&mut out, values.iter().map(Datum::borrow));
    out
}

fn wait_ready(handles: &[NodeHandle]) {
    for handle in handles {
        while !*handle.ready().borrow() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_cluster_forms_and_every_partition_has_its_copies() {
    let handles = cluster(3, 2);
    wait_ready(&handles);
    let client = Client::connect(handles[0].metadata_address());
    let map = client.map();
    assert_eq!((map.nodes.len(), map.partitions.len()), (3, 16));
    for assignment in &map.partitions {
        assert_eq!(assignment.backups.len(), 1);
        assert_ne!(assignment.primary.unwrap().node, assignment.backups[0].node);
    }
    handles.into_iter().for_each(NodeHandle::shutdown);
}

/// A thread on which work of nodes is done until its host is dropped.
fn host() -> Host {
    let (jobs, mut queue) = tokio::sync::mpsc::unbounded_channel::<Job>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            while let Some(job) = queue.recv().await {
                tokio::task::spawn_local(job(Place::default()));
            }
        });
    });
    Host::new(move |job| drop(jobs.send(job)))
}

#[test]
fn nodes_of_one_process_share_a_control_thread_and_end_one_by_one() {
    let (control, workers, neighbours) = (host(), host(), Neighbours::default());
    let guest = |node, bootstrap, join| NodeConfig {
        hosts: vec![workers.clone(); 2],
        control_host: Some(control.clone()),
        neighbours: neighbours.clone(),
        ..config(node, bootstrap, join)
    };
    let bootstrap = Bootstrap { nodes: 3, copies: 2, min_copies: 1, partitions: 16 };
    let mut handles = vec![start(guest(1, Some(bootstrap), None)).unwrap()];
    let metadata = handles[0].metadata_address();
    handles.extend((2..=3).map(|node| start(guest(node, None, Some(metadata))).unwrap()));
    wait_ready(&handles);
    let mut client = Client::connect(metadata);
    assert!(matches!(client.ask(ControlBody::OpenCut), NoticeBody::Cut { .. }));

    let last = handles.pop().unwrap();
    let gone = last.control_address();
    last.shutdown();
    let begun = Instant::now();
    while TcpStream::connect(gone).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the node's port is open after its end");
    }
    let cut = client.ask(ControlBody::OpenCut);
    assert!(matches!(cut, NoticeBody::Cut { .. }), "of those that are left: {cut:?}");
    handles.into_iter().rev().for_each(NodeHandle::shutdown);
}

/// A cluster with the table of [`accounts`], and a proxy that has the plans for it.
struct Accounts {
    handles: Vec<NodeHandle>,
    client: Client,
    table: Table,
    map: ClusterMap,
    proxy: Proxy,
}

fn with_accounts(nodes: u32, copies: u8) -> Accounts {
    let handles = cluster(nodes, copies);
    let mut client = Client::connect(handles[0].metadata_address());
    client.change(CatalogChange::CreateTable(accounts())).unwrap();
    let table = Table::clone(client.catalog.find(PUBLIC_SCHEMA, "accounts").unwrap());
    let mut proxy = Proxy::connect(&mut client);
    register_plans(&mut proxy, &table);
    let map = client.map().clone();
    Accounts { handles, client, table, map, proxy }
}

#[test]
fn requests_are_executed_once_and_answered() {
    let Accounts { handles, mut client, table, map, mut proxy } = with_accounts(3, 2);
    assert!(table.version == client.catalog.version && table.indexes[0].id.0 > table.id.0);
    let stale = client.ask(ControlBody::Change {
        id: None,
        expected: CatalogVersion(1),
        change: CatalogChange::DropTables(vec![table.id]),
    });
    assert_eq!(stale, NoticeBody::Changed(Err(ChangeError::Conflict { have: client.catalog.version })));

    for id in 0..50 {
        let bytes = row(&[Datum::Int4(id), Datum::Text(format!("owner {id}"))]);
        let insert = RequestBody::Insert { rows: 1, bytes: &bytes };
        assert_eq!(proxy.request(&map, id, INSERT, insert.clone()), Got::Done(1));
        // The same identity again: its answer comes again, nothing is executed.
        assert_eq!(proxy.request_as(&map, id, INSERT, insert, proxy.sequence), Got::Done(1));
    }
    let again = row(&[Datum::Int4(7), Datum::Null]);
    let insert = RequestBody::Insert { rows: 1, bytes: &again };
    let Got::Error(error) = proxy.request(&map, 7, INSERT, insert.clone()) else { panic!("a duplicate key") };
    assert!(error.contains("23505"), "{error}");
    assert_eq!(proxy.request_as(&map, 7, INSERT, insert, 1), Got::Refused(Refusal::BelowMark));

    let params = row(&[Datum::Int4(7), Datum::Text("nobody".to_owned())]);
    assert_eq!(proxy.request(&map, 7, UPDATE, RequestBody::Point { params: &params }), Got::Done(1));
    let params = row(&[Datum::Int4(7)]);
    let Got::Rows(1, bytes) = proxy.request(&map, 7, SELECT, RequestBody::Point { params: &params }) else { panic!() };
    let types = [SqlType::Int4, SqlType::Text];
    assert_eq!(read_owned(&bytes, &types).unwrap(), [Datum::Int4(7), Datum::Text("nobody".to_owned())]);
    let unknown = proxy.request(&map, 7, 99, RequestBody::Point { params: &params });
    assert_eq!(unknown, Got::Refused(Refusal::UnknownPlan));

    let mut deleted = 0;
    let mut seen = std::collections::BTreeSet::new();
    for id in 0..50 {
        let partition = partition_of([DatumRef::Int4(id)].into_iter(), 16);
        if seen.insert(partition) {
            let nothing = row(&[]);
            match proxy.request(&map, id, DELETE_ALL, RequestBody::Point { params: &nothing }) {
                Got::Done(count) => deleted += count,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(deleted, 50);
    client.change(CatalogChange::DropTables(vec![table.id])).unwrap();
    let have = client.catalog.version;
    let gone = proxy.request(&map, 7, SELECT, RequestBody::Point { params: &params });
    assert_eq!(gone, Got::Refused(Refusal::StaleCatalog { have }));
    handles.into_iter().for_each(NodeHandle::shutdown);
}

#[test]
fn a_proxy_that_does_not_read_waits_alone() {
    const REQUESTS: u64 = 600;
    let Accounts { handles, mut client, table, map, proxy: mut other } = with_accounts(1, 1);
    let mut slow = Proxy::connect(&mut client);
    register_plans(&mut slow, &table);
    let long = "0123456789".repeat(10_000);
    let bytes = row(&[Datum::Int4(7), Datum::Text(long)]);
    assert_eq!(other.request(&map, 7, INSERT, RequestBody::Insert { rows: 1, bytes: &bytes }), Got::Done(1));

    // Far more answers than sockets and buffers hold, none of them read.
    let params = row(&[Datum::Int4(7)]);
    let partition = partition_of([DatumRef::Int4(7)].into_iter(), map.partitions.len() as u16);
    let assignment = map.assignment(partition).unwrap();
    let peer = slow.workers.get_mut(&assignment.primary.unwrap()).unwrap();
    for sequence in 1..=REQUESTS {
        let (epoch, plan, body) = (assignment.epoch, PlanId(SELECT), RequestBody::Point { params: &params });
        peer.send(&Message::Request(Request {
            sequence,
            low: 1,
            partition,
            epoch,
            plan,
            within: None,
            lock_timeout_ms: 0,
            env: None,
            body,
        }));
    }
    for _ in 0..20 {
        assert!(matches!(other.request(&map, 7, SELECT, RequestBody::Point { params: &params }), Got::Rows(1, _)));
    }
    for expected in 1..=REQUESTS {
        let sequence = peer.next(|message| match message {
            Message::Answer(answer) => answer.sequence,
            other => panic!("{other:?}"),
        });
        assert_eq!(sequence, Some(expected));
    }
    handles.into_iter().for_each(NodeHandle::shutdown);
}

#[test]
fn a_unique_index_over_duplicates_is_taken_back() {
    let Accounts { handles, mut client, table, map, mut proxy } = with_accounts(2, 2);
    for id in 0..100 {
        let bytes = row(&[Datum::Int4(id), Datum::Text("same".to_owned())]);
        assert_eq!(proxy.request(&map, id, INSERT, RequestBody::Insert { rows: 1, bytes: &bytes }), Got::Done(1));
    }
    let mut altered = Table::clone(&table);
    let owner = IndexColumn { column: 1, descending: false, nulls_first: false };
    let mut index = altered.indexes[0].clone();
    index = Index { id: IndexId(0), name: "owners".to_owned(), columns: vec![owner], primary: false, ..index };
    altered.indexes.push(Index { constraint: false, ..index });
    let Err(ChangeError::Sql(error)) = client.change(CatalogChange::AlterTable(altered.clone())) else { panic!() };
    assert_eq!(error.message(), "could not create unique index \"owners\"");
    assert_eq!(client.catalog.find(PUBLIC_SCHEMA, "accounts").unwrap().indexes.len(), 1);
    altered.indexes[1].unique = false;
    client.change(CatalogChange::AlterTable(altered)).unwrap();
    let table = client.catalog.find(PUBLIC_SCHEMA, "accounts").unwrap();
    assert!(table.indexes.iter().all(|index| index.state == IndexState::Ready && index.id.0 > 0));
    handles.into_iter().for_each(NodeHandle::shutdown);
}

#[test]
#[cfg(target_os = "linux")]
fn large_rows_travel_over_unix_sockets_and_tcp_alike() {
    let Accounts { handles, table, map, mut proxy, .. } = with_accounts(2, 2);
    let role = Role::Proxy { incarnation: proxy.incarnation };
    let mut local = 0;
    for (worker, peer) in &mut proxy.workers {
        let found = Peer::open_local(map.address(*worker).unwrap(), Some(map.cluster), role);
        assert_eq!(found.is_some(), worker.node.0 % 2 == 1);
        if let Some(mut found) = found {
            found.next(|message| assert!(matches!(message, Message::Welcome(_)))).unwrap();
            *peer = found;
            local += 1;
        }
    }
    assert_eq!(local, 2);
    register_plans(&mut proxy, &table);
    let text = "large ".repeat(1 << 20);
    for id in 0..8 {
        let bytes = row(&[Datum::Int4(id), Datum::Text(text.clone())]);
        assert_eq!(proxy.request(&map, id, INSERT, RequestBody::Insert { rows: 1, bytes: &bytes }), Got::Done(1));
        let params = row(&[Datum::Int4(id)]);
        let got = proxy.request(&map, id, SELECT, RequestBody::Point { params: &params });
        assert!(matches!(got, Got::Rows(1, got) if got == bytes));
    }
    handles.into_iter().for_each(NodeHandle::shutdown);
}

#[test]
fn strangers_are_refused_and_rubbish_ends_its_connection_only() {
    let handles = cluster(1, 1);
    let mut client = Client::connect(handles[0].metadata_address());
    let map = client.map().clone();
    let address = map.address(map.partitions[0].primary.unwrap()).unwrap();
    let role = Role::Proxy { incarnation: Incarnation(9) };
    let mut stranger = Peer::open(address, Some(ClusterId(map.cluster.0 ^ 1)), role);
    stranger.next(|message| assert!(matches!(message, Message::Refused(_)))).unwrap();
    assert!(stranger.next(|message| panic!("{message:?}")).is_none());
    for rubbish in [&[0xff; 64][..], &[0, 0, 0, 0, 0], b"GET / HTTP/1.1\r\n\r\n", &[5, 0, 0, 0, 12, 1, 2, 3, 4]] {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        peer.write_all(rubbish).unwrap();
        let ended = peer.read(&mut [0; 16]);
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }
    let proxy = Proxy::connect(&mut client);
    assert!(proxy.incarnation.0 > 0);
    handles.into_iter().for_each(NodeHandle::shutdown);
}

/// Bytes of something that has three NOTs one in another, with a million instead.
fn with_a_million_nots(bytes: &[u8]) -> Vec<u8> {
    let three = postcard::to_allocvec(&nots(3)).unwrap();
    let at = bytes.windows(three.len()).position(|window| window == three).unwrap();
    [&bytes[..at], &vec![three[0]; 1_000_000], &bytes[at + 3..]].concat()
}

fn nots(levels: usize) -> Expr {
    let truth = Expr::Const { value: Datum::Bool(true), ty: SqlType::Bool };
    (0..levels).fold(truth, |inner, _| Expr::Not(Box::new(inner)))
}

/// A protobuf message of a plan whose limits stand one in another.
fn nested_limits(levels: usize) -> Vec<u8> {
    // Backwards, since a message's length stands before it.
    let mut bytes = Vec::new();
    for tag in [[0x0a], [0x3a]].iter().cycle().take(2 * levels) {
        let mut length = Vec::new();
        let mut rest = bytes.len();
        while rest >= 0x80 {
            length.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        length.push(rest as u8);
        bytes.extend(length.iter().rev());
        bytes.extend(tag);
    }
    bytes.reverse();
    bytes
}

#[test]
fn what_nests_without_end_costs_its_sender_only() {
    let Accounts { handles, mut client, table, map, mut proxy } = with_accounts(1, 1);
    let plan = |levels| PointPlan {
        table: table.id,
        table_version: table.version,
        params: vec![],
        verb: Verb::Select { access: Access::Scan, filter: None, output: vec![nots(levels)], lock: None },
        needs_env: false,
    };

    let mut hostile = Proxy::connect(&mut client);
    let bytes = with_a_million_nots(&PlanMessage::encode_plan(&plan(3)));
    for peer in hostile.workers.values_mut() {
        peer.send(&Message::Plan(PlanMessage { id: PlanId(9), bytes: &bytes }));
        assert!(peer.next(|message| panic!("{message:?}")).is_none());
    }

    let mut hostile = Client::connect(handles[0].metadata_address());
    let mut deep = accounts();
    deep.name = "deep".to_owned();
    deep.columns[1].default = Some(DefaultValue { text: String::new(), expr: nots(3) });
    let body =
        ControlBody::Change { id: None, expected: hostile.catalog.version, change: CatalogChange::CreateTable(deep) };
    let bytes = encoded(&Message::Control(Control { number: 9, body }));
    let bytes = with_a_million_nots(&bytes[LENGTH_BYTES..]);
    hostile.peer.stream.write_all(&(bytes.len() as u32).to_le_bytes()).unwrap();
    hostile.peer.stream.write_all(&bytes).unwrap();
    assert!(hostile.peer.next(|message| panic!("{message:?}")).is_none());

    // What a worker just takes is refused when it runs.
    proxy.register(9, &plan(4 * MAX_EXPRESSION_DEPTH));
    let bytes = row(&[Datum::Int4(7), Datum::Null]);
    assert_eq!(proxy.request(&map, 7, INSERT, RequestBody::Insert { rows: 1, bytes: &bytes }), Got::Done(1));
    let Got::Error(error) = proxy.request(&map, 7, 9, RequestBody::Point { params: &row(&[]) }) else { panic!() };
    assert!(error.contains("stack depth limit exceeded"), "{error}");

    let assignment = &map.partitions[0];
    let peer = proxy.workers.get_mut(&assignment.primary.unwrap()).unwrap();
    for levels in [60, 1_000_000] {
        let (partitions, env) = (vec![(PartitionId(0), assignment.epoch)], encode_env(&Env::default()));
        let plan = [&[0; 8], nested_limits(levels).as_slice()].concat();
        let sequence = 1_000 + levels as u64;
        peer.send(&Message::Fragment(Fragment {
            sequence,
            credit: 1,
            cut: None,
            within: None,
            coordinator: Incarnation::default(),
            earlier: Vec::new(),
            partitions,
            tables: vec![],
            env: &env,
            plan: &plan,
        }));
        let error = peer.next(|message| match message {
            Message::FragmentEnd(FragmentEnd { outcome: FragmentOutcome::Error(error), .. }) => error.to_string(),
            other => panic!("{other:?}"),
        });
        assert!(error.is_some_and(|error| error.contains("recursion limit reached")));
    }
    assert!(matches!(
        proxy.request(&map, 7, SELECT, RequestBody::Point { params: &row(&[Datum::Int4(7)]) }),
        Got::Rows(1, _)
    ));
    handles.into_iter().for_each(NodeHandle::shutdown);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind((HOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = config(1, Some(Bootstrap { nodes: 1, copies: 1, min_copies: 1, partitions: 4 }), None);
    config.listen = address;
    match start(config) {
        Err(StartError::Listen { address: named, .. }) => assert_eq!(named, address),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the port was taken twice"),
    }
}

#[test]
fn who_lacks_the_cluster_key_is_refused_before_its_first_message() {
    let key = toroid_common::secret::Key::new(b"a key of this cluster").unwrap();
    let keyed = |node, bootstrap, join| NodeConfig { key: Some(key.clone()), ..config(node, bootstrap, join) };
    let bootstrap = Bootstrap { nodes: 2, copies: 2, min_copies: 1, partitions: 4 };
    let mut handles = vec![start(keyed(1, Some(bootstrap), None)).unwrap()];
    let metadata = handles[0].control_address();
    // Their workers connect to each other, too, before the cluster is ready.
    handles.push(start(keyed(2, None, Some(metadata))).unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !*handles[0].ready().borrow() {
        assert!(Instant::now() < deadline, "nodes with the key form a cluster");
        std::thread::sleep(Duration::from_millis(10));
    }
    let hello = Hello { version: PROTOCOL_VERSION, cluster: None, role: Role::Client };
    let mut frame = Vec::new();
    Message::Hello(hello).write(&mut frame);
    let mut stream = TcpStream::connect(metadata).unwrap();
    stream.write_all(&frame).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let (raw, _) = RawFrame::split(&answer).unwrap().unwrap();
    let Message::Refused(refused) = Message::decode(raw).unwrap() else { panic!("not refused") };
    assert!(refused.reason.contains("key"), "{}", refused.reason);
    handles.into_iter().for_each(NodeHandle::shutdown);
}

/// How long a connection stands that begins so.
fn stand(address: SocketAddr, first: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(first).unwrap();
    let mut rest = Vec::new();
    // A reset ends it as well.
    drop(stream.read_to_end(&mut rest));
    begun.elapsed()
}

#[test]
fn strangers_are_turned_away_before_they_cost_anything() {
    let handles = cluster(1, 1);
    wait_ready(&handles);
    let client = Client::connect(handles[0].metadata_address());
    let worker = client.map().address(client.map().workers().next().unwrap()).unwrap();
    let ports = [worker, handles[0].metadata_address()];
    // The length of a frame that others may send, but not as their first.
    let mut long = (100_u32 << 20).to_le_bytes().to_vec();
    long.push(1);
    for (port, first) in ports.iter().flat_map(|port| [(port, b"TRK1\x01".as_slice()), (port, &long)]) {
        assert!(stand(*port, first) < Duration::from_secs(3), "{port} {first:?}");
    }
    let silent = ports.map(|port| std::thread::spawn(move || stand(port, &[])));
    for stood in silent.map(|thread| thread.join().unwrap()) {
        assert!(stood > Duration::from_secs(4) && stood < Duration::from_secs(12), "{stood:?}");
    }
    drop(client);
    handles.into_iter().for_each(NodeHandle::shutdown);
}
