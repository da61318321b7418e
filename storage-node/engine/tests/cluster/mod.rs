//! Workers wired together in memory, on a clock that tests turn: everything that happens is in their hands.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod metadata;
pub mod transactions;

use crate::fixture::{T, catalog, column, index, table};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use toroid_common::catalog::{Catalog, Table};
use toroid_common::datum::Datum;
use toroid_common::error::SqlError;
use toroid_common::expr::{Expr, Slot};
use toroid_common::func::resolve::equal_of;
use toroid_common::id::{
    CatalogVersion, ClusterId, Epoch, Incarnation, IndexId, MapVersion, NodeId, PartitionId, PlanId, WorkerId,
};
use toroid_common::map::{Assignment, ClusterMap, NodeEntry, NodeState};
use toroid_common::plan::{Access, LockWait, PointPlan, RowLock, Strength, TableLock, Verb};
use toroid_common::row::{read_owned, write_row};
use toroid_common::transaction::Inquiry;
use toroid_common::types::SqlType;
use toroid_common::wire::{
    Captured, FragmentOutcome, Hello, LockWaits, Message, Outcome, PROTOCOL_VERSION, PlanMessage, Proposal, RawFrame,
    Refusal, Request, RequestBody, Role, Within,
};
use toroid_engine::gate::Time;
use toroid_engine::store::root::Root;
use toroid_engine::worker::{Action, Actions, ConnectionId, Event, Identity, Ticket, Worker, find_rows};
use transactions::{LOCK, LOCK_NOWAIT, LOCK_SHARE, LOCK_SKIP, LOCK_TABLE, MOVE, NAMED, NOBODY, YIELD_TABLE};

pub const CLUSTER: ClusterId = ClusterId(77);
pub const TYPES: [SqlType; 2] = [SqlType::Int4, SqlType::Text];

/// What a proxy was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    Rows(u64, Vec<Vec<Datum>>),
    Done(u64, u64),
    Error(u64, SqlError),
    Refused(u64, Refusal),
    Batch(u64, Vec<u8>),
    End(u64, FragmentOutcome),
    /// The number, and the texts.
    Heard(u64, String),
}

/// A fragment that a worker wants to be run.
pub struct Lent {
    pub worker: usize,
    pub ticket: Ticket,
    pub roots: Vec<(PartitionId, Root)>,
    pub credit: u32,
}

/// Where bytes of a connection go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Worker(usize, ConnectionId),
    Proxy(usize),
}

pub struct Cluster {
    pub workers: Vec<Worker>,
    pub map: Arc<ClusterMap>,
    pub catalog: Arc<Catalog>,
    pub now: Time,
    /// The other end of each worker's connections.
    wires: BTreeMap<(usize, ConnectionId), End>,
    in_flight: VecDeque<(usize, ConnectionId, Vec<u8>)>,
    /// Bytes between these workers (from, to) do not arrive for now.
    frozen: BTreeSet<(usize, usize)>,
    /// Connections between these workers (from, to) are refused.
    refused: BTreeSet<(usize, usize)>,
    /// Workers that do nothing any more.
    pub dead: BTreeSet<usize>,
    /// Proposals are decided on, as the metadata group would.
    pub decides: bool,
    /// Workers that hear of no new maps for now.
    pub deaf: BTreeSet<usize>,
    memory: usize,
    /// The mark of requests, if it is below their own sequence.
    pub low: u64,
    next_connection: u32,
    proxies: Vec<(usize, ConnectionId)>,
    pub got: BTreeMap<usize, Vec<Got>>,
    pub fragments: Vec<Lent>,
    /// Scans are run only when a test says so.
    pub hold_scans: bool,
    scans: Vec<(usize, Action)>,
    /// Reports to the metadata service.
    pub maps_applied: Vec<(usize, MapVersion)>,
    pub catalogs_applied: Vec<(usize, CatalogVersion, Result<(), SqlError>)>,
    pub closed: Vec<String>,
    pub proposals: Vec<(usize, Proposal)>,
    pub captured: Vec<Captured>,
    /// Reports of waits that last.
    pub waits: Vec<(usize, Vec<LockWaits>)>,
    /// What the metadata group is asked and told.
    pub inquiries: Vec<(usize, Inquiry)>,
    pub events: Vec<(usize, &'static str)>,
    pub told: Vec<(usize, String)>,
    /// What was reported; not allowed unless a test says so.
    pub reports: Option<Vec<String>>,
}

/// A map in which partition p's primary is worker p, and the next workers are its backups.
pub fn ring_map(workers: usize, copies: usize, partitions: usize) -> ClusterMap {
    let id = |index: usize| WorkerId { node: NodeId(index as u32 + 1), index: 0 };
    let nodes = (0..workers).map(|index| NodeEntry {
        id: NodeId(index as u32 + 1),
        incarnation: Incarnation(100 + index as u64),
        control: ([127, 0, 0, 1], 1).into(),
        workers: vec![([127, 0, 0, 1], 2 + index as u16).into()],
        zone: String::new(),
        capacity: 1,
        state: NodeState::Serving,
    });
    let partitions = (0..partitions).map(|partition| {
        let backups = (1..copies).map(|copy| id((partition + copy) % workers)).collect();
        Assignment::fresh(Epoch(1), id(partition % workers), backups)
    });
    ClusterMap {
        cluster: CLUSTER,
        version: MapVersion(1),
        copies: copies as u8,
        min_copies: 1,
        nodes: nodes.collect(),
        partitions: partitions.collect(),
    }
}

impl Cluster {
    /// Workers that are connected, under lease, and have table `T (id int4 primary key, name text)` at catalog version 2.
    pub fn new(workers: usize, copies: usize) -> Cluster {
        let mut cluster = Cluster::bare(workers, copies, 1 << 30);
        cluster.change_catalog(&accounts());
        cluster
    }

    /// The same without a table.
    pub fn bare(workers: usize, copies: usize, memory: usize) -> Cluster {
        let map = Arc::new(ring_map(workers, copies, workers));
        let worker = |(index, node): (usize, &NodeEntry)| {
            let worker = WorkerId { node: node.id, index: 0 };
            assert_eq!(node.id.0 as usize, index + 1);
            Worker::new(Identity { cluster: CLUSTER, worker, incarnation: node.incarnation, memory })
        };
        let mut cluster = Cluster {
            workers: map.nodes.iter().enumerate().map(worker).collect(),
            map: Arc::clone(&map),
            catalog: Arc::new(Catalog::empty()),
            now: Time(1),
            wires: BTreeMap::new(),
            in_flight: VecDeque::new(),
            frozen: BTreeSet::new(),
            refused: BTreeSet::new(),
            dead: BTreeSet::new(),
            decides: false,
            deaf: BTreeSet::new(),
            memory,
            low: u64::MAX,
            next_connection: 0,
            proxies: Vec::new(),
            got: BTreeMap::new(),
            fragments: Vec::new(),
            hold_scans: false,
            scans: Vec::new(),
            maps_applied: Vec::new(),
            catalogs_applied: Vec::new(),
            closed: Vec::new(),
            proposals: Vec::new(),
            captured: Vec::new(),
            waits: Vec::new(),
            inquiries: Vec::new(),
            events: Vec::new(),
            told: Vec::new(),
            reports: None,
        };
        for index in 0..workers {
            cluster.step(index, Event::LeaseRenewed { until: Time(u64::MAX) });
            cluster.step(index, Event::MapChanged(Arc::clone(&map)));
        }
        cluster.run();
        cluster.advance(200_000);
        assert_eq!(cluster.maps_applied.len(), workers, "all workers are connected");
        cluster
    }

    pub fn change_catalog(&mut self, table: &Table) {
        self.change_catalog_to(&catalog(table));
    }

    pub fn change_catalog_to(&mut self, catalog: &Arc<Catalog>) {
        self.tell_catalog(catalog);
        self.run();
    }

    /// Tells everyone who hears of a new catalog.
    pub fn tell_catalog(&mut self, catalog: &Arc<Catalog>) {
        self.catalog = Arc::clone(catalog);
        for index in 0..self.workers.len() {
            if !self.deaf.contains(&index) {
                self.step(index, Event::CatalogChanged(Arc::clone(catalog)));
            }
        }
    }

    /// One event, and what comes of it up to the wire.
    pub fn step(&mut self, worker: usize, event: Event<'_>) {
        if self.dead.contains(&worker) {
            return;
        }
        let mut actions = Actions::default();
        self.workers[worker].step(event, self.now, &mut actions);
        self.carry_out(worker, actions);
    }

    fn carry_out(&mut self, worker: usize, mut actions: Actions) {
        actions.drain(|action, bytes| match action {
            Action::Send { connection, .. } => match self.wires.get(&(worker, connection)) {
                Some(End::Worker(to, at)) => self.in_flight.push_back((*to, *at, bytes.to_vec())),
                Some(End::Proxy(proxy)) => {
                    let proxy = *proxy;
                    self.deliver_to_proxy(proxy, bytes);
                }
                None => {}
            },
            Action::Close { connection, reason } => {
                self.closed.push(reason);
                self.cut(worker, connection);
            }
            Action::Connect { worker: to, .. } => self.connect(worker, to),
            Action::FindRows { .. } => self.scans.push((worker, action)),
            Action::RunFragment { ticket, roots, credit, .. } => {
                self.fragments.push(Lent { worker, ticket, roots, credit });
            }
            Action::FragmentCredit { .. } => self.events.push((worker, "credit")),
            Action::FragmentCancel { .. } => self.events.push((worker, "cancel")),
            Action::MapApplied { version } => self.maps_applied.push((worker, version)),
            Action::CatalogApplied { version, result, .. } => self.catalogs_applied.push((worker, version, result)),
            Action::Report { what } => match &mut self.reports {
                Some(reports) => reports.push(what),
                None => panic!("worker {worker} reports: {what}"),
            },
            Action::Tell { what } => self.told.push((worker, what)),
            Action::Propose(proposal) => self.proposals.push((worker, proposal)),
            Action::Captured(captured) => self.captured.push(*captured),
            Action::Waits(waits) => self.waits.push((worker, waits)),
            Action::Inquire(inquiry) => self.inquiries.push((worker, inquiry)),
        });
    }

    fn connection(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId { slot: self.next_connection % 10_000, generation: self.next_connection }
    }

    fn connect(&mut self, from: usize, to: WorkerId) {
        let index = to.node.0 as usize - 1;
        if self.dead.contains(&index) || self.refused.contains(&(from, index)) {
            return self.step(from, Event::ConnectFailed { worker: to });
        }
        let (here, there) = (self.connection(), self.connection());
        self.wires.insert((from, here), End::Worker(index, there));
        self.wires.insert((index, there), End::Worker(from, here));
        self.step(index, Event::Accepted(there));
        self.step(from, Event::Connected { connection: here, worker: to });
    }

    /// Ends a connection for its other end; bytes under way are lost.
    fn cut(&mut self, worker: usize, connection: ConnectionId) {
        let other = self.wires.remove(&(worker, connection));
        self.in_flight.retain(|(to, at, _)| (*to, *at) != (worker, connection));
        if let Some(End::Worker(index, at)) = other {
            self.wires.remove(&(index, at));
            self.in_flight.retain(|(to, to_at, _)| (*to, *to_at) != (index, at));
            self.step(index, Event::Closed(at));
        }
    }

    /// Cuts all connections between two workers, with what is under way.
    pub fn disconnect(&mut self, a: usize, b: usize) {
        let between = |((worker, connection), end): (&(usize, ConnectionId), &End)| match end {
            End::Worker(other, _) if (*worker, *other) == (a, b) || (*worker, *other) == (b, a) => {
                Some((*worker, *connection))
            }
            End::Worker(..) | End::Proxy(_) => None,
        };
        let ends: Vec<_> = self.wires.iter().filter_map(between).collect();
        for (worker, connection) in &ends {
            self.wires.remove(&(*worker, *connection));
            self.in_flight.retain(|(to, at, _)| (to, at) != (worker, connection));
        }
        for (worker, connection) in ends {
            self.step(worker, Event::Closed(connection));
        }
    }

    pub fn freeze(&mut self, from: usize, to: usize) {
        self.frozen.insert((from, to));
    }

    pub fn thaw(&mut self) {
        self.frozen.clear();
        self.run();
    }

    /// Delivers everything that may arrive, turn by turn, until nothing moves.
    pub fn run(&mut self) {
        while self.turn() || !self.is_idle() {}
    }

    /// Ends a turn of every worker and delivers what may arrive; false when nothing did.
    pub fn turn(&mut self) -> bool {
        for worker in 0..self.workers.len() {
            self.step(worker, Event::TurnEnded);
        }
        let mut delivered = false;
        for (to, at, bytes) in std::mem::take(&mut self.in_flight) {
            let from = match self.wires.get(&(to, at)) {
                Some(End::Worker(from, _)) => *from,
                Some(End::Proxy(_)) | None => continue,
            };
            if self.frozen.contains(&(from, to)) {
                self.in_flight.push_back((to, at, bytes));
                continue;
            }
            delivered = true;
            self.deliver(to, at, &bytes);
        }
        if !self.hold_scans && !self.scans.is_empty() {
            delivered = true;
            self.run_scans();
        }
        if self.decides {
            delivered |= self.decide();
        }
        delivered
    }

    fn is_idle(&self) -> bool {
        self.workers.iter().enumerate().all(|(index, worker)| self.dead.contains(&index) || worker.is_idle())
    }

    fn deliver(&mut self, worker: usize, connection: ConnectionId, mut bytes: &[u8]) {
        while let Some((frame, used)) = RawFrame::split(bytes).unwrap() {
            self.step(worker, Event::Frame { connection, frame });
            bytes = &bytes[used..];
        }
        assert!(bytes.is_empty(), "workers send whole frames");
    }

    pub fn run_scans(&mut self) {
        for (worker, action) in std::mem::take(&mut self.scans) {
            let Action::FindRows { ticket, root, plan, params, env } = action else { unreachable!() };
            let found = find_rows(&root, &plan, &params, &env);
            self.step(worker, Event::RowsFound { ticket, root, found });
        }
    }

    /// Turns the clock, in small steps.
    pub fn advance(&mut self, micros: u64) {
        let end = self.now.after(micros);
        while self.now < end {
            self.now = self.now.after(1_000).min(end);
            for worker in 0..self.workers.len() {
                if !self.dead.contains(&worker) && self.workers[worker].wakes_at().is_some_and(|at| at <= self.now) {
                    self.step(worker, Event::Tick);
                }
            }
            self.run();
        }
    }

    /// One turn, so much later.
    pub fn pass(&mut self, micros: u64) {
        self.now = self.now.after(micros);
        for worker in 0..self.workers.len() {
            if !self.dead.contains(&worker) && self.workers[worker].wakes_at().is_some_and(|at| at <= self.now) {
                self.step(worker, Event::Tick);
            }
        }
        self.turn();
    }

    /// A proxy's connection to a worker, with the usual plans.
    pub fn proxy(&mut self, worker: usize, incarnation: u64) -> usize {
        let proxy = self.stranger(worker);
        let role = Role::Proxy { incarnation: Incarnation(incarnation) };
        self.send(proxy, &Message::Hello(Hello { version: PROTOCOL_VERSION, cluster: Some(CLUSTER), role }));
        for (id, plan) in plans(CatalogVersion(2)) {
            self.register(proxy, id, &plan);
        }
        proxy
    }

    /// A connection to a worker without a hello.
    pub fn stranger(&mut self, worker: usize) -> usize {
        let connection = self.connection();
        let proxy = self.proxies.len();
        self.proxies.push((worker, connection));
        self.wires.insert((worker, connection), End::Proxy(proxy));
        self.step(worker, Event::Accepted(connection));
        proxy
    }

    pub fn register(&mut self, proxy: usize, id: u32, plan: &PointPlan) {
        let bytes = PlanMessage::encode_plan(plan);
        self.send(proxy, &Message::Plan(PlanMessage { id: PlanId(id), bytes: &bytes }));
    }

    /// Proxies' connections to a worker that ended.
    fn forget_proxies(&mut self, worker: usize) {
        self.wires.retain(|(at, _), _| *at != worker);
    }

    pub fn close_proxy(&mut self, proxy: usize) {
        let (worker, connection) = self.proxies[proxy];
        self.wires.remove(&(worker, connection));
        self.step(worker, Event::Closed(connection));
    }

    /// A message of a proxy; only what is answered at once comes back.
    pub fn send(&mut self, proxy: usize, message: &Message<'_>) {
        let (worker, connection) = self.proxies[proxy];
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.deliver(worker, connection, &bytes);
    }

    /// A request to partition `partition` in its epoch.
    pub fn request(&mut self, proxy: usize, partition: usize, sequence: u64, plan: u32, body: RequestBody<'_>) {
        self.request_within(proxy, partition, sequence, (plan, None), body);
    }

    /// The same as a part of a transaction, if there is one.
    pub fn request_within(
        &mut self,
        proxy: usize,
        partition: usize,
        sequence: u64,
        (plan, within): (u32, Option<Within>),
        body: RequestBody<'_>,
    ) {
        let partition = PartitionId(partition as u16);
        let epoch = self.map.assignment(partition).map_or(Epoch(1), |assignment| assignment.epoch);
        let plan = PlanId(plan);
        let request = Request {
            sequence,
            low: sequence.min(self.low),
            partition,
            epoch,
            plan,
            within,
            lock_timeout_ms: 0,
            env: None,
            body,
        };
        self.send(proxy, &Message::Request(request));
    }

    pub fn insert(&mut self, proxy: usize, partition: usize, sequence: u64, id: i32, name: &str) {
        let bytes = row(&[Datum::Int4(id), Datum::Text(name.to_owned())]);
        self.request(proxy, partition, sequence, INSERT, RequestBody::Insert { rows: 1, bytes: &bytes });
    }

    pub fn select(&mut self, proxy: usize, partition: usize, sequence: u64, id: i32) {
        let params = row(&[Datum::Int4(id)]);
        self.request(proxy, partition, sequence, SELECT, RequestBody::Point { params: &params });
    }

    pub fn update(&mut self, proxy: usize, partition: usize, sequence: u64, id: i32, name: &str) {
        let params = row(&[Datum::Int4(id), Datum::Text(name.to_owned())]);
        self.request(proxy, partition, sequence, UPDATE, RequestBody::Point { params: &params });
    }

    pub fn delete(&mut self, proxy: usize, partition: usize, sequence: u64, id: i32) {
        let params = row(&[Datum::Int4(id)]);
        self.request(proxy, partition, sequence, DELETE, RequestBody::Point { params: &params });
    }

    /// What a proxy was sent since the last call.
    pub fn take(&mut self, proxy: usize) -> Vec<Got> {
        self.got.remove(&proxy).unwrap_or_default()
    }

    fn deliver_to_proxy(&mut self, proxy: usize, mut bytes: &[u8]) {
        while let Some((frame, used)) = RawFrame::split(bytes).unwrap() {
            let got = match Message::decode(frame).unwrap() {
                Message::Welcome(_) | Message::Refused(_) => None,
                Message::Answer(answer) => Some(match answer.outcome {
                    Outcome::Rows { count, bytes } => Got::Rows(answer.sequence, rows(count, bytes)),
                    Outcome::Done { count } => Got::Done(answer.sequence, count),
                    Outcome::Error(error) => Got::Error(answer.sequence, error),
                    Outcome::Refused(refusal) => Got::Refused(answer.sequence, refusal),
                }),
                Message::FragmentBatch(batch) => Some(Got::Batch(batch.sequence, batch.bytes.to_vec())),
                Message::FragmentEnd(end) => Some(Got::End(end.sequence, end.outcome)),
                Message::Notification(heard) => {
                    Some(Got::Heard(heard.number, format!("{} {} {}", heard.process, heard.channel, heard.payload)))
                }
                other => panic!("a proxy was sent {other:?}"),
            };
            self.got.entry(proxy).or_default().extend(got);
            bytes = &bytes[used..];
        }
    }

    pub fn batch(&mut self, lent: &Lent, bytes: &'static [u8]) {
        self.step(lent.worker, Event::FragmentBatch { ticket: lent.ticket, bytes: Bytes::from_static(bytes) });
    }
}

fn rows(count: u32, bytes: &[u8]) -> Vec<Vec<Datum>> {
    let mut reader = toroid_common::row::RowReader::new(bytes);
    let rows = (0..count).map(|_| read_owned(reader.skip(&TYPES).unwrap(), &TYPES).unwrap()).collect();
    assert!(reader.is_empty());
    rows
}

pub fn row(values: &[Datum]) -> Vec<u8> {
    let mut out = Vec::new();
    write_row(&mut out, values.iter().map(Datum::borrow));
    out
}

pub fn named(id: i32, name: &str) -> Vec<Datum> {
    vec![Datum::Int4(id), Datum::Text(name.to_owned())]
}

pub fn accounts() -> Table {
    let mut columns = vec![column(1, "id", SqlType::Int4), column(2, "name", SqlType::Text)];
    columns[0].not_null = true;
    let mut primary = index(20_001, "t_pkey", &[0], true);
    primary.primary = true;
    table(columns, vec![primary])
}

pub const INSERT: u32 = 1;
pub const SELECT: u32 = 2;
pub const UPDATE: u32 = 3;
pub const DELETE: u32 = 4;
/// UPDATE … SET name = $2 WHERE name = $1 RETURNING *.
pub const RENAME: u32 = 5;

pub fn slot(index: u16) -> Expr {
    Expr::Leaf(Slot { index, ty: TYPES[usize::from(index)] })
}

pub fn param(index: u16, ty: SqlType) -> Expr {
    Expr::Param { index, ty }
}

pub fn plans(version: CatalogVersion) -> Vec<(u32, PointPlan)> {
    let plan = |params: &[SqlType], verb| PointPlan {
        table: T,
        table_version: version,
        params: params.to_vec(),
        verb,
        needs_env: false,
    };
    let access = || Access::Index { index: IndexId(20_001), key: vec![param(0, SqlType::Int4)], exact: true };
    let output = || vec![slot(0), slot(1)];
    let set = || vec![(1, param(1, SqlType::Text))];
    let equal = equal_of(SqlType::Text).unwrap();
    let equal = Expr::Call { func: equal, args: vec![slot(1), param(0, SqlType::Text)], ty: SqlType::Bool };
    let locking = |wait, strength| {
        let lock = Some(RowLock { strength, wait });
        Verb::Select { access: access(), filter: None, output: output(), lock }
    };
    vec![
        (INSERT, plan(&[], Verb::Insert { conflict: None, returning: vec![] })),
        (SELECT, plan(&[SqlType::Int4], Verb::Select { access: access(), filter: None, output: output(), lock: None })),
        (UPDATE, plan(&TYPES, Verb::Update { access: access(), filter: None, set: set(), returning: vec![] })),
        (DELETE, plan(&[SqlType::Int4], Verb::Delete { access: access(), filter: None, returning: vec![] })),
        (
            NOBODY,
            plan(
                &[],
                Verb::Select {
                    access: Access::Scan,
                    filter: Some(Expr::Const { value: Datum::Bool(false), ty: SqlType::Bool }),
                    output: output(),
                    lock: None,
                },
            ),
        ),
        (LOCK_TABLE, plan(&[], lock_table(LockWait::Wait))),
        (YIELD_TABLE, plan(&[], lock_table(LockWait::Skip))),
        (LOCK, plan(&[SqlType::Int4], locking(LockWait::Wait, Strength::Update))),
        (LOCK_NOWAIT, plan(&[SqlType::Int4], locking(LockWait::Fail, Strength::Update))),
        (LOCK_SKIP, plan(&[SqlType::Int4], locking(LockWait::Skip, Strength::Update))),
        (LOCK_SHARE, plan(&[SqlType::Int4], locking(LockWait::Wait, Strength::Share))),
        (
            NAMED,
            plan(
                &[SqlType::Text],
                Verb::Select { access: Access::Scan, filter: Some(equal.clone()), output: output(), lock: None },
            ),
        ),
        (
            MOVE,
            plan(
                &[SqlType::Int4, SqlType::Int4],
                Verb::Update {
                    access: access(),
                    filter: None,
                    set: vec![(0, param(1, SqlType::Int4))],
                    returning: vec![],
                },
            ),
        ),
        (
            RENAME,
            plan(
                &[SqlType::Text, SqlType::Text],
                Verb::Update { access: Access::Scan, filter: Some(equal), set: set(), returning: output() },
            ),
        ),
    ]
}

fn lock_table(wait: LockWait) -> Verb {
    let access = Access::Table { mode: TableLock::AccessExclusive };
    let lock = Some(RowLock { strength: Strength::KeyShare, wait });
    Verb::Select { access, filter: None, output: vec![], lock }
}
