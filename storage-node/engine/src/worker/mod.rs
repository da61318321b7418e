//! The worker: one step for each event, over the replicas that it alone owns.
//!
//! `step` is the conductor: it only finds the verb. Verbs stand in `command`, one a file; what a replica is in its role, in `replica`.

mod event;
mod peers;
mod task;
mod transaction;
mod listeners;
mod replica;
mod links;
mod cuts;
mod command;

pub use command::find_rows;
pub use event::{Action, Actions, ConnectionId, Event, Ticket};
pub use replica::{Role, View};

use crate::gate::{Lease, Time};
use crate::lock::WaitId;
use crate::store::account::Account;
use crate::store::fence::Fence;
use crate::store::root::Root;
use command::{Running, Scratch};
use cuts::Cuts;
use links::{Confirmations, Link};
use peers::{Peer, Peers};
use replica::{Kept, Replica};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use task::Task;
use toroid_common::catalog::Catalog;
use toroid_common::env::Env;
use toroid_common::id::{
    CatalogVersion, ClusterId, Incarnation, Lsn, MapVersion, PartitionId, TransactionId, WorkerId,
};
use toroid_common::map::ClusterMap;
use toroid_common::transaction::Inquiry;
use toroid_common::wire::{AppendWriter, FollowPart, Hello, Message, RawFrame};

/// Pieces of finished roots that are dropped in one turn.
const DROPPED_PIECES: usize = 256;
/// Replicas that may come back are kept while this part of the memory is free.
const KEPT_ROOM: usize = 4;

/// Unless told otherwise; see [`Worker::chunk_above`].
const CHUNK_BYTES: usize = 1 << 20;
/// Rows that are entered into indexes in one turn, unless told otherwise; see [`Worker::build_at_once`].
const BUILT_ROWS: usize = 256;

/// Who a worker is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub cluster: ClusterId,
    pub worker: WorkerId,
    pub incarnation: Incarnation,
    /// Bytes that its partitions may take.
    pub memory: usize,
}

/// What a worker has done, ever counting up; the shell publishes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub reads: u64,
    pub writes: u64,
    pub errors: u64,
    pub refusals: u64,
    pub repeats: u64,
    /// Requests that were withdrawn before they were executed.
    pub withdrawals: u64,
    pub fragments: u64,
    /// Captures for cuts, those that came to nothing, and how long they kept the gates barred in all.
    pub captures: u64,
    pub voids: u64,
    pub barred_micros: u64,
    /// Answers that had to wait for backups or lease.
    pub gated: u64,
    pub append_frames: u64,
    pub append_entries: u64,
    /// Replicas here that became something else.
    pub role_changes: u64,
    pub promotions: u64,
    /// Primaries that are none any more.
    pub depositions: u64,
    /// Roots for joining replicas that were begun to be sent, the bytes of their pieces, and roots that were taken whole.
    pub roots_sent: u64,
    pub root_bytes: u64,
    pub roots_taken: u64,
    /// Joining replicas of primaries here that needed no root: they still held a beginning of the log.
    pub joined_by_tail: u64,
    /// Changes of configuration that were asked for.
    pub drops_proposed: u64,
    pub admissions_proposed: u64,
    pub hand_overs_proposed: u64,
}

/// One worker: a state machine without I/O.
#[derive(Debug)]
pub struct Worker {
    identity: Identity,
    map: Option<Arc<ClusterMap>>,
    /// A map whose application has not been reported: some backup is not connected.
    map_unreported: bool,
    catalog: Arc<Catalog>,
    lease: Lease,
    account: Account,
    /// By partition.
    replicas: Vec<Option<Replica>>,
    /// Of partitions that were here a moment ago.
    kept: Kept,
    peers: Peers,
    /// Hellos of workers that know a later map.
    early_hellos: Vec<(ConnectionId, Hello)>,
    /// Connections of primaries that our replicas follow.
    primaries: BTreeMap<WorkerId, ConnectionId>,
    links: BTreeMap<WorkerId, Link>,
    /// Ends of logs in configurations that are not known here yet.
    early_follows: BTreeMap<(PartitionId, WorkerId), FollowPart>,
    confirmations: Confirmations,
    append: AppendWriter,
    /// The part of a root that is being written.
    piece: Vec<u8>,
    /// More entries wait to be sent in the next turn.
    behind: bool,
    /// When followers are looked after next, and when they were last.
    watch_at: Option<Time>,
    watched_at: Option<Time>,
    /// By how many microseconds that came late, the worst of late.
    delay: u64,
    /// Partitions of which more is acknowledged than their backups have been told.
    news: Vec<PartitionId>,
    news_at: Option<Time>,
    next_ticket: u64,
    /// Statements whose rows are looked for.
    parked: BTreeMap<Ticket, Task>,
    /// Statements that wait for locks.
    waiting: BTreeMap<WaitId, Task>,
    next_wait: u64,
    /// When some of them may be given up.
    deadlines: BTreeSet<(Time, WaitId)>,
    /// Partitions in which somebody may go on.
    stirred: Vec<PartitionId>,
    /// Partitions here to whose channels somebody listens, or did.
    listened: BTreeSet<PartitionId>,
    /// When something must be asked or told about prepared transactions and outcomes.
    timers: BTreeSet<(Time, PartitionId, TransactionId)>,
    /// Inquiries from a partition here to another one here.
    loopback: VecDeque<Inquiry>,
    /// Workers to which there must be connections because of inquiries, for how long.
    inquires: BTreeMap<WorkerId, Time>,
    /// When waits of transactions are reported next, and whether there were any to report.
    reports_at: Option<Time>,
    reported_waits: bool,
    fragments: BTreeMap<Ticket, Running>,
    cuts: Cuts,
    /// What the metadata service was told last.
    catalog_reported: (CatalogVersion, MapVersion),
    /// Proxies that are dead.
    fence: Fence,
    /// Proxies whose last connection has ended, and when their open transactions are given up.
    absent: BTreeMap<Incarnation, Time>,
    /// Write sets of which the primary alone has more bytes are replicated before they are prepared.
    chunk_bytes: usize,
    built_rows: usize,
    scratch: Scratch,
    /// For plans that need none.
    plain_env: Arc<Env>,
    counters: Counters,
}

impl Worker {
    /// A worker that holds nothing yet.
    #[must_use]
    pub fn new(identity: Identity) -> Worker {
        Worker {
            identity,
            map: None,
            map_unreported: false,
            catalog: Arc::new(Catalog::empty()),
            lease: Lease::default(),
            account: Account::new(identity.memory),
            replicas: Vec::new(),
            kept: Kept::default(),
            peers: Peers::default(),
            early_hellos: Vec::new(),
            primaries: BTreeMap::new(),
            links: BTreeMap::new(),
            early_follows: BTreeMap::new(),
            confirmations: Vec::new(),
            append: AppendWriter::default(),
            piece: Vec::new(),
            behind: false,
            watch_at: None,
            watched_at: None,
            delay: 0,
            news: Vec::new(),
            news_at: None,
            next_ticket: 0,
            parked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_wait: 0,
            deadlines: BTreeSet::new(),
            stirred: Vec::new(),
            listened: BTreeSet::new(),
            timers: BTreeSet::new(),
            loopback: VecDeque::new(),
            inquires: BTreeMap::new(),
            reports_at: None,
            reported_waits: false,
            fragments: BTreeMap::new(),
            cuts: Cuts::default(),
            catalog_reported: (CatalogVersion(0), MapVersion(0)),
            fence: Fence::default(),
            absent: BTreeMap::new(),
            chunk_bytes: CHUNK_BYTES,
            built_rows: BUILT_ROWS,
            scratch: Scratch::default(),
            plain_env: Arc::new(Env::default()),
            counters: Counters::default(),
        }
    }

    /// From now on write sets of which this worker alone has more than so many bytes are replicated before they are prepared.
    pub fn chunk_above(&mut self, bytes: usize) {
        self.chunk_bytes = bytes;
    }

    /// From now on so many rows are entered in a turn into indexes that are being built.
    pub fn build_at_once(&mut self, rows: usize) {
        self.built_rows = rows;
    }

    /// Takes one event and says what is to be done about it.
    pub fn step(&mut self, event: Event<'_>, now: Time, actions: &mut Actions) {
        match event {
            Event::Accepted(connection) => self.peers.add(connection, Peer::Unknown),
            Event::Connected { connection, worker } => self.connected(connection, worker, actions),
            Event::ConnectFailed { worker } => self.connect_failed(worker, now, actions),
            Event::Frame { connection, frame } => self.frame(connection, frame, now, actions),
            Event::Closed(connection) => self.closed(connection, now, actions),
            Event::RowsFound { ticket, root, found } => self.rows_found(ticket, root, found, now, actions),
            Event::FragmentBatch { ticket, bytes } => self.fragment_batch(ticket, bytes, now, actions),
            Event::FragmentFinished { ticket, roots, outcome } => {
                self.fragment_finished(ticket, roots, outcome, now, actions);
            }
            Event::MapChanged(map) => self.map_changed(map, now, actions),
            Event::CatalogChanged(catalog) => self.catalog_changed(catalog, now, actions),
            Event::LeaseRenewed { until } => self.lease_renewed(until, now, actions),
            Event::ProxiesChanged { below, alive } => self.proxies_changed(&Fence { below, alive }, now, actions),
            Event::Capture { cut, map } => self.capture(cut, map, now, actions),
            Event::Release { cut, committed } => self.release(cut, committed, now, actions),
            Event::DropCut(cut) => self.drop_cut(cut),
            Event::Cuts { term, read } => self.cuts_are(term, &read, now, actions),
            Event::Deadlock { transaction, wait, detail } => self.deadlock(transaction, wait, detail, now, actions),
            Event::Inquiry(inquiry) => self.inquired(inquiry, now, actions),
            Event::TurnEnded => self.turn_ended(now, actions),
            Event::Tick => self.tick(now, actions),
        }
        while !self.stirred.is_empty() || !self.loopback.is_empty() {
            self.wake(now, actions);
            self.loop_back(now, actions);
        }
    }

    fn frame(&mut self, connection: ConnectionId, frame: RawFrame<'_>, now: Time, actions: &mut Actions) {
        if !self.peers.contains(connection) {
            return;
        }
        match Message::decode(frame) {
            Ok(Message::Request(request)) => self.request(connection, &request, now, actions),
            Ok(Message::Append(append)) => self.append(connection, append, now, actions),
            Ok(Message::Appended(appended)) => self.appended(connection, &appended, now, actions),
            Ok(Message::Follow(follow)) => self.follow(connection, follow, now, actions),
            Ok(Message::RootPiece(piece)) => self.root_piece(connection, &piece, now, actions),
            Ok(Message::RootTaken { partition, epoch, number }) => {
                self.root_taken(connection, (partition, epoch, number), now, actions);
            }
            Ok(Message::Plan(plan)) => self.plan(connection, &plan, now, actions),
            Ok(Message::ForgetPlan(plan)) => self.forget_plan(connection, plan, now, actions),
            Ok(Message::Transact(transact)) => self.transact(connection, &transact, now, actions),
            Ok(Message::Cancel { sequence }) => self.cancel(connection, sequence, now, actions),
            Ok(Message::Answered(answered)) => self.answered(connection, answered, now, actions),
            Ok(Message::Forget(forget)) => self.forget(connection, &forget, now, actions),
            Ok(Message::Fragment(fragment)) => self.fragment(connection, &fragment, now, actions),
            Ok(Message::FragmentCredit { sequence, batches }) => {
                self.fragment_credit(connection, sequence, batches, actions);
            }
            Ok(Message::FragmentCancel { sequence }) => self.fragment_cancel(connection, sequence, now, actions),
            Ok(Message::Inquiry(inquiry)) => self.inquiry(connection, inquiry, now, actions),
            Ok(Message::Hello(hello)) => self.hello(connection, &hello, now, actions),
            Ok(Message::Welcome(welcome)) => self.welcome(connection, &welcome, now, actions),
            Ok(Message::Refused(refused)) => self.refused(connection, &refused.reason, now, actions),
            Ok(
                Message::Answer(_)
                | Message::FragmentBatch(_)
                | Message::FragmentEnd(_)
                | Message::Notification(_)
                | Message::Control(_)
                | Message::Notice(_)
                | Message::Raft(_),
            ) => self.close(connection, "a message that workers don't take".to_owned(), now, actions),
            Err(error) => self.close(connection, error.to_string(), now, actions),
        }
    }

    /// Ends a connection that cannot be used.
    fn close(&mut self, connection: ConnectionId, reason: String, now: Time, actions: &mut Actions) {
        self.closed(connection, now, actions);
        actions.push(Action::Close { connection, reason });
    }

    /// Something is wrong.
    fn report(&self, what: String, actions: &mut Actions) {
        actions.push(Action::Report { what });
    }

    /// Something changed as it should.
    fn tell(&self, what: String, actions: &mut Actions) {
        actions.push(Action::Tell { what });
    }

    fn turn_ended(&mut self, now: Time, actions: &mut Actions) {
        self.announce_all(now, actions);
        self.flush(actions);
        if !self.kept.is_empty() && self.account.would_exceed(self.account.limit() / KEPT_ROOM) {
            self.kept.clear(&mut self.account);
        }
        if !self.account.is_clean() {
            self.account.drop_some(DROPPED_PIECES);
        }
        if self.account.is_building() {
            self.build_some(now, actions);
        }
    }

    /// Nothing is left to be done without an event: the shell may wait for one.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.account.is_clean() && !self.account.is_building() && !self.behind
    }

    /// Whether answers may be given at this moment.
    #[must_use]
    pub fn under_lease(&self, now: Time) -> bool {
        self.lease.holds(now)
    }

    /// Whether a connection is a proxy's: what is sent to it are answers.
    #[must_use]
    pub fn is_proxy(&self, connection: ConnectionId) -> bool {
        matches!(self.peers.get(connection), Some(Peer::Proxy(_)))
    }

    fn is_worker(&self, connection: ConnectionId) -> bool {
        matches!(self.peers.get(connection), Some(Peer::Primary(_) | Peer::Follower { welcome: true, .. }))
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes that the worker's partitions take, finished roots included.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.account.used()
    }

    /// Requests and fragments that run outside the worker's thread.
    #[must_use]
    pub fn outside(&self) -> usize {
        self.parked.len() + self.fragments.len()
    }

    /// Cuts that may be read here.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.cuts.len()
    }

    /// Statements that wait for locks.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Partitions whose primary is here with transactions that are open or undecided, or with locks.
    #[must_use]
    pub fn transacting(&self) -> usize {
        let busy = |replica: &&Replica| match replica {
            Replica::Primary(primary) => !primary.transactions.is_idle(),
            Replica::Follower(_) => false,
        };
        self.replicas.iter().flatten().filter(busy).count()
    }

    /// Answers that wait in gates.
    #[must_use]
    pub fn gated(&self) -> usize {
        self.replicas.iter().flatten().map(Replica::gated).sum()
    }

    /// A partition's state as this worker has it, with the last entry that it holds.
    #[must_use]
    pub fn replica(&self, partition: PartitionId) -> Option<(&Root, Lsn)> {
        match self.replicas.get(usize::from(partition.0))?.as_ref()? {
            Replica::Primary(primary) => Some((&primary.root, primary.root.lsn())),
            Replica::Follower(follower) => follower.held().map(|held| (&held.root, held.appended())),
        }
    }

    /// What this worker is to a partition; `None` also when it holds nothing of what it should.
    #[must_use]
    pub fn view(&self, partition: PartitionId) -> Option<View> {
        self.replicas.get(usize::from(partition.0))?.as_ref()?.view()
    }

    /// How many primaries, backups and joining replicas this worker has.
    #[must_use]
    pub fn roles(&self) -> (usize, usize, usize) {
        self.replicas.iter().flatten().fold((0, 0, 0), |(primaries, backups, joining), replica| match replica {
            Replica::Primary(_) => (primaries + 1, backups, joining),
            Replica::Follower(follower) if follower.joins => (primaries, backups, joining + 1),
            Replica::Follower(_) => (primaries, backups + 1, joining),
        })
    }

    /// The roots that are arriving here, with the bytes that have come of each.
    pub fn arriving(&self) -> impl Iterator<Item = (PartitionId, u64)> + '_ {
        self.replicas.iter().enumerate().filter_map(|(index, replica)| match replica.as_ref()? {
            Replica::Primary(_) => None,
            Replica::Follower(follower) => Some((PartitionId(index as u16), follower.arrived()?)),
        })
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }
}
