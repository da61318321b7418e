//! What happens to a worker, and what it asks of its shell.

use crate::gate::Time;
use crate::store::root::Root;
use crate::store::table::Position;
use bytes::Bytes;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{CatalogVersion, CutId, Incarnation, MapVersion, PartitionId, TransactionId, WorkerId};
use toroid_common::map::ClusterMap;
use toroid_common::plan::PointPlan;
use toroid_common::transaction::Inquiry;
use toroid_common::wire::{Captured, FragmentOutcome, LockWaits, Proposal, RawFrame};

/// A connection. The shell gives slots again, never the same pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Small: peers are kept in a table by it.
    pub slot: u32,
    pub generation: u32,
}

/// Something that runs outside the worker's thread, over roots that it lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a worker is told.
#[derive(Debug)]
pub enum Event<'a> {
    /// Somebody connected to this worker's port.
    Accepted(ConnectionId),
    /// [`Action::Connect`] came through.
    Connected { connection: ConnectionId, worker: WorkerId },
    /// [`Action::Connect`] did not come through.
    ConnectFailed { worker: WorkerId },
    /// A frame arrived. Frames of one connection come in order.
    Frame { connection: ConnectionId, frame: RawFrame<'a> },
    /// The connection ended, for whatever reason but [`Action::Close`].
    Closed(ConnectionId),
    /// [`Action::FindRows`] is done; the root comes back.
    RowsFound { ticket: Ticket, root: Root, found: SqlResult<Vec<Position>> },
    /// A batch of [`Action::RunFragment`].
    FragmentBatch { ticket: Ticket, bytes: Bytes },
    /// [`Action::RunFragment`] is done, or was cancelled; the roots come back.
    FragmentFinished { ticket: Ticket, roots: Vec<(PartitionId, Root)>, outcome: FragmentOutcome },
    /// The metadata service made a new map.
    MapChanged(Arc<ClusterMap>),
    /// The metadata service made a new catalog. Versions come in order, some may be left out.
    CatalogChanged(Arc<Catalog>),
    /// The node's lease now runs until then, counted from when the renewal was sent.
    LeaseRenewed { until: Time },
    /// Of the proxies' incarnations below `below`, only `alive` (ascending) live: the others' requests are refused, and their answers forgotten.
    ProxiesChanged { below: Incarnation, alive: Arc<[Incarnation]> },
    /// The metadata group makes a cut: the partitions whose primary is here are captured now if the worker has this map, and what it executes from
    /// now on stays in the gates until the release. [`Action::Captured`] follows.
    Capture { cut: CutId, map: MapVersion },
    /// The cut is complete, and these transactions of those that were prepared when it was captured belong to it; without a list it is none.
    Release { cut: CutId, committed: Option<Arc<[TransactionId]>> },
    /// Nobody reads this cut any more.
    DropCut(CutId),
    /// The leader of this term begins to speak to this node: of its cuts only these are read, and no round is open here.
    Cuts { term: u64, read: Arc<[CutId]> },
    /// This wait of this transaction stands in a circle that goes through other workers, described for its client: it is to give way.
    Deadlock { transaction: TransactionId, wait: u64, detail: String },
    /// What became of a transaction whose anchor the metadata group is, for a participant that asked; it may be another worker's by now.
    Inquiry(Inquiry),
    /// Everything that arrived together has been told: what was gathered for others goes out now. Once per turn of the loop.
    TurnEnded,
    /// [`super::Worker::wakes_at`] has come.
    Tick,
}

/// What a worker asks for. The shell carries actions out in their order.
#[derive(Debug)]
pub enum Action {
    /// Send [`Actions::bytes`] of this range. What goes to a proxy is written to the socket only while [`super::Worker::under_lease`] says yes at
    /// that moment; otherwise the proxy's connection is closed. It must not wait for the next lease: by then it may be an old answer.
    Send { connection: ConnectionId, range: Range<usize> },
    /// Send what was asked to be sent before, then close; no [`Event::Closed`] follows.
    Close { connection: ConnectionId, reason: String },
    /// Connect to another worker; [`Event::Connected`] or [`Event::ConnectFailed`] follows.
    Connect { worker: WorkerId, address: SocketAddr },
    /// Call [`super::find_rows`] outside the worker's thread; [`Event::RowsFound`] follows.
    FindRows { ticket: Ticket, root: Root, plan: Arc<PointPlan>, params: Bytes, env: Arc<Env> },
    /// Run a fragment outside the worker's thread; [`Event::FragmentBatch`]es, at most as many as there is credit for, and one
    /// [`Event::FragmentFinished`] follow.
    RunFragment { ticket: Ticket, roots: Vec<(PartitionId, Root)>, plan: Bytes, env: Bytes, credit: u32 },
    /// So many more batches may be sent.
    FragmentCredit { ticket: Ticket, batches: u32 },
    /// Nobody wants the rest; [`Event::FragmentFinished`] still follows.
    FragmentCancel { ticket: Ticket },
    /// Tell the metadata service: this worker is connected to all backups of its partitions, as this map has them.
    MapApplied { version: MapVersion },
    /// Tell the metadata service: the acknowledged log of each partition whose primary is here in this map has this catalog, or why it cannot.
    CatalogApplied { version: CatalogVersion, map: MapVersion, result: Result<(), SqlError> },
    /// Ask the metadata group for another replica configuration. It may be lost on its way: the worker asks again until the map changes.
    Propose(Proposal),
    /// Tell the metadata service what is captured here for a cut: with partitions once all that they have seen is acknowledged, under lease.
    Captured(Box<Captured>),
    /// Tell the metadata service which waits for locks last, instead of those that it was told before.
    Waits(Vec<LockWaits>),
    /// Ask or tell the metadata group, the anchor of a transaction. It may be lost on its way: the worker asks again.
    Inquire(Inquiry),
    /// For the log of the process: something is wrong that somebody should know.
    Report { what: String },
    /// For the log of the process: a replica's role changed, and why.
    Tell { what: String },
}

/// The actions of some steps, with the bytes that they send. Reused from turn to turn.
#[derive(Debug, Default)]
pub struct Actions {
    bytes: Vec<u8>,
    list: Vec<Action>,
}

impl Actions {
    /// The bytes that [`Action::Send`]s refer to.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes that are to be sent.
    pub fn pending_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the actions out in order, then forgets the bytes.
    pub fn drain(&mut self, mut each: impl FnMut(Action, &[u8])) {
        for action in self.list.drain(..) {
            let bytes = match &action {
                Action::Send { range, .. } => self.bytes.get(range.clone()).unwrap_or_default(),
                _ => &[],
            };
            each(action, bytes);
        }
        self.bytes.clear();
        self.bytes.shrink_to(1 << 20);
    }

    pub(super) fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    /// Sends what `write` appends.
    pub(super) fn send<T>(&mut self, connection: ConnectionId, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.bytes.len();
        let result = write(&mut self.bytes);
        let end = self.bytes.len();
        match self.list.last_mut() {
            Some(Action::Send { connection: last, range }) if *last == connection => range.end = end,
            Some(_) | None => self.list.push(Action::Send { connection, range: start..end }),
        }
        result
    }
}
