//! The metadata service's messages: rare, hence postcard. Requests are [`Control`], replies and pushes are [`Notice`].

use super::status::{NodeLoad, Status};
use crate::catalog::{Catalog, Table};
use crate::error::SqlError;
use crate::id::{
    CatalogVersion, ClusterId, CutId, Epoch, Incarnation, IndexId, MapVersion, NodeId, PartitionId, RequestId, TableId,
    TransactionId, WorkerId,
};
use crate::map::ClusterMap;
use crate::transaction::Inquiry;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Most bytes of one control message.
pub const MAX_CONTROL_BYTES: usize = 64 << 20;

/// A request; its reply carries the same number, which the sender chooses (not 0).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    pub number: u32,
    pub body: ControlBody,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ControlBody {
    /// A proxy's new incarnation; reply: [`NoticeBody::Incarnation`].
    AllocateIncarnation,
    /// From now on every new cluster map and catalog is pushed on this connection; the current ones come first (the map only when the cluster
    /// has been formed). No reply of its own.
    Watch,
    /// Changes the catalog if it has this version; reply: [`NoticeBody::Changed`], after all workers have the change. Where this connection
    /// watches, the new catalog has been pushed before the reply. Asked again under the same identity it gets the same reply.
    Change { id: Option<ChangeId>, expected: CatalogVersion, change: CatalogChange },
    /// A storage node's workers listen; reply: [`NoticeBody::Joined`].
    Join(NodeAnnouncement),
    /// From a storage node: every partition whose primary this worker is in this map holds this catalog version in its acknowledged log, or could
    /// not: then all that the version brought is to be taken back. Said again when a map makes the worker another partition's primary. No reply.
    CatalogApplied { worker: WorkerId, version: CatalogVersion, map: MapVersion, result: Result<(), SqlError> },
    /// From a storage node: its workers know the map of this version and are connected to the others. No reply.
    MapApplied { version: MapVersion },
    /// From a storage node: a primary wants another replica configuration. No reply: the map tells; who sees no change proposes again.
    Propose(Proposal),
    /// From a storage node, repeated: renew the lease. Reply: [`NoticeBody::LeaseRenewed`].
    RenewLease { node: NodeId, incarnation: Incarnation },
    /// From a storage node, now and then: what it holds, for the status. No reply.
    Load { node: NodeId, incarnation: Incarnation, load: NodeLoad },
    /// From a proxy, repeated: these incarnations of it live. Reply: [`NoticeBody::LeaseRenewed`]. One that is not renewed for long is fenced.
    RenewProxies { incarnations: Vec<Incarnation> },
    /// From a storage node that is about to stop: others are to become primaries of what it is primary of. Reply: [`NoticeBody::Done`] when it may
    /// end without anybody waiting for it, or [`NoticeBody::GivenUp`].
    Leave { node: NodeId, incarnation: Incarnation },
    /// Empties a node. Reply: [`NoticeBody::Done`] when that is decided; the map tells the progress.
    Drain { node: NodeId },
    /// Forgets a node that holds no partition any more, or is dead. Reply: [`NoticeBody::Done`].
    Remove { node: NodeId },
    /// How many replicas each partition should have from now on, and below how many its writes wait, where that is to change. Reply:
    /// [`NoticeBody::Done`] when that is decided.
    SetCopies { copies: u8, min_copies: Option<u8> },
    /// Accepts that partitions without a living replica have lost their rows: makes them anew, empty. Reply: [`NoticeBody::Recovered`]; the same one to
    /// who asks again under the same identity, because the first reply was lost.
    Recover { id: u64 },
    /// Reply: [`NoticeBody::Status`].
    Status,
    /// From a proxy: a cut for a read of several partitions. Reply, once there is one: [`NoticeBody::Cut`]. All who asked before it was begun share it.
    OpenCut,
    /// From a proxy: it reads this cut no more. No reply; the end of its connection says the same.
    CloseCut(CutId),
    /// From a storage node: what a worker holds still for this cut.
    Captured(Box<Captured>),
    /// From a storage node: waits for locks that last, all of one worker; the next report replaces this one. No reply.
    Waits { worker: WorkerId, waits: Vec<LockWaits> },
    /// From a storage node, on behalf of a participant of a transaction whose anchor the metadata group is. To [`InquiryBody::Ask`] the answer is pushed:
    /// [`NoticeBody::Inquiry`]; whoever hears nothing asks again.
    ///
    /// [`InquiryBody::Ask`]: crate::transaction::InquiryBody::Ask
    Inquiry(Inquiry),
}

/// Whose change of the catalog it is, for a proxy that loses the connection before the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeId {
    pub request: RequestId,
    /// The lowest sequence under which this proxy waits for a reply: those below are forgotten.
    pub low: u64,
}

/// What a worker holds for a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    pub worker: WorkerId,
    pub cut: CutId,
    /// The partitions whose primary it is, all captured in one instant, with the epochs they were in; none when it cannot (another map, no lease).
    pub partitions: Option<Vec<(PartitionId, Epoch)>>,
    /// Transactions that are prepared here and undecided, each with its anchor.
    pub pending: Vec<(TransactionId, PartitionId)>,
    /// Transactions that are committed, as their anchors here know and have not forgotten.
    pub committed: Vec<TransactionId>,
}

/// A transaction that waits for others at a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockWaits {
    pub transaction: TransactionId,
    pub process: u32,
    /// Counts up with every wait at this worker: the same number is the same wait.
    pub wait: u64,
    /// It gives way to others in a circle: a part of LOCK TABLE.
    pub yields: bool,
    pub holders: Vec<(TransactionId, u32)>,
}

/// A change of one partition's replicas, made if the partition is still in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub change: Reconfigure,
}

/// What a primary asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reconfigure {
    /// This backup does not answer: a new epoch without it, unless `min_copies` forbids.
    DropBackup { worker: WorkerId },
    /// This joining replica does not answer: a new epoch without it, so that an [`Reconfigure::Admit`] still on its way comes too late.
    DropJoining { worker: WorkerId },
    /// This joining replica holds the log, and the primary counts it among those that must acknowledge: a new epoch with it as a backup. The
    /// incarnation is the one that caught up.
    Admit { worker: WorkerId, incarnation: Incarnation },
    /// What the present replicas lack only because this backup does not answer: a new epoch in which this joining replica, which has all that the others
    /// have and is counted like in [`Reconfigure::Admit`], is a backup in its place.
    Replace { silent: WorkerId, by: WorkerId, incarnation: Incarnation },
    /// The gate is closed and the whole log acknowledged: a new epoch with the successor that was named in the map of this version as primary,
    /// and the present one as backup.
    HandOver { since: MapVersion },
}

/// How a storage node presents itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnnouncement {
    /// 0 asks for a number.
    pub node: NodeId,
    /// Drawn at the start of the process: tells the same process over a new connection from a restarted one.
    pub process: u64,
    pub control: SocketAddr,
    /// One address per worker, in worker order.
    pub workers: Vec<SocketAddr>,
    pub zone: String,
    pub capacity: u32,
    /// Who it is in the metadata group, if it keeps the group's log on disk.
    pub member: Option<u32>,
}

/// A reply (with the request's number) or a push (number 0).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub number: u32,
    pub body: NoticeBody,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NoticeBody {
    Incarnation(Incarnation),
    Joined {
        cluster: ClusterId,
        /// The number that the node has from now on.
        node: NodeId,
        incarnation: Incarnation,
    },
    /// Push: the cluster map, once every partition is placed.
    Map(ClusterMap),
    /// Push: all replicas of every partition were in place once; statements may be sent.
    Ready,
    /// Push: the catalog.
    Catalog(Catalog),
    /// The catalog's version after the change.
    Changed(Result<CatalogVersion, ChangeError>),
    /// The lease counts from when its renewal was sent; whoever has seen a later term ignores it.
    LeaseRenewed {
        term: u64,
    },
    /// Reply or push: the decisions are made elsewhere, if it is known where. Nothing came of the request.
    NotLeader {
        leader: Option<SocketAddr>,
    },
    /// Push: of the proxies' incarnations below `below`, only these live; requests of others are refused and their answers forgotten.
    Proxies {
        alive: Vec<Incarnation>,
        below: Incarnation,
    },
    Done,
    /// Reply to a node that is about to stop: it may end, and with it these partitions, which nobody has taken over.
    GivenUp(Vec<PartitionId>),
    /// Reply: this cut can be read, of partitions as the map of this version assigns them.
    Cut {
        cut: CutId,
        map: MapVersion,
    },
    /// Push to storage nodes: every worker captures the partitions whose primary it is, if it has the map of this version, and answers
    /// [`ControlBody::Captured`]. What it executes from then on stays in its gates until the release.
    Capture {
        cut: CutId,
        map: MapVersion,
    },
    /// Push to storage nodes: gates open. These transactions, prepared when the cut was captured, belong to it; without a list there is no cut.
    Release {
        cut: CutId,
        committed: Option<Vec<TransactionId>>,
    },
    /// Push to storage nodes: nobody reads this cut any more.
    DropCut(CutId),
    /// Push to a storage node that begins to watch: of this term's cuts only these are read, and no round of it is open there. Cuts of earlier
    /// terms are on their way out.
    Cuts {
        term: u64,
        read: Vec<CutId>,
    },
    /// Push to the storage node where it waits: this transaction stands in a circle of waits, described for its client, and must give way, if
    /// it is still this wait.
    Deadlock {
        worker: WorkerId,
        transaction: TransactionId,
        wait: u64,
        detail: String,
    },
    /// Push to the storage node that asked: what became of a transaction.
    Inquiry(Inquiry),
    Recovered(Vec<PartitionId>),
    Status(Box<Status>),
    /// The request cannot be served.
    Failed {
        reason: String,
    },
}

/// Why a catalog change did not happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ChangeError {
    /// The catalog has another version (or is being changed): resolve names against that one and try again.
    Conflict { have: CatalogVersion },
    /// Another transaction has changed a table of this name and not ended yet: try again when it has.
    Blocked { have: CatalogVersion },
    /// For the client.
    Sql(SqlError),
}

/// What a schema change comes to once names are resolved against the expected version. Tables and indexes with identity 0 get one; every table
/// that is changed gets the new version; new indexes of filled tables are `Building` for one version and `Ready` from the next, unless
/// their rows violate them, in which case the change is taken back and its error is the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CatalogChange {
    /// `Table::id` 0.
    CreateTable(Table),
    /// The same identity with other columns, indexes, name or options; columns keep their ids, new ones take them from `next_column`.
    AlterTable(Table),
    DropTables(Vec<TableId>),
    DropIndexes(Vec<IndexId>),
    /// Counts `Table::generation` up.
    Truncate(Vec<TableId>),
    /// `from` becomes `Moving`, and the new table (`id` 0) its `Filling` destination.
    StartMove {
        from: TableId,
        to: Table,
    },
    /// The destination becomes `Open` under the source's name, the source is dropped.
    FinishMove {
        from: TableId,
    },
    /// The source becomes `Open` again, the destination is dropped.
    AbandonMove {
        from: TableId,
    },
    /// A transaction's schema change of this number, numbers ascending: it will drop `replaces` when it commits and does not see them any more, and
    /// it alone sees `creates` (`Table::id` 0). Tables that others have changed are [`ChangeError::Blocked`].
    Provide {
        owner: TransactionId,
        number: u32,
        replaces: Vec<TableId>,
        creates: Vec<Table>,
    },
    /// Takes back what the transaction changed under this number and higher ones. Whatever version is expected.
    TakeBack {
        owner: TransactionId,
        number: u32,
    },
    /// Commits a transaction that has changed the catalog: what it changed is for all from now on, and these participants, which are prepared, are told
    /// so when they ask. Whatever version is expected; 40001 when it was taken back before. Answered at once, before workers have the catalog: they
    /// take it when the participants have applied their part.
    Publish {
        owner: TransactionId,
        participants: Vec<PartitionId>,
    },
    /// These participants know that the transaction is committed. Answered when all workers have what it changed.
    Forget {
        owner: TransactionId,
        participants: Vec<PartitionId>,
    },
}
