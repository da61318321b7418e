//! Letters to a worker's thread, and what it reports: the only ways in and out besides its sockets.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::mpsc;
use toroid_common::catalog::Catalog;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{CatalogVersion, CutId, Incarnation, MapVersion, PartitionId, TransactionId, WorkerId};
use toroid_common::map::ClusterMap;
use toroid_common::transaction::Inquiry;
use toroid_common::wire::{Captured, FragmentOutcome, LockWaits, Proposal};
use toroid_engine::gate::Time;
use toroid_engine::store::root::Root;
use toroid_engine::store::table::Position;
use toroid_engine::worker::Ticket;

/// What other threads tell a worker.
#[derive(Debug)]
pub enum Letter {
    Map(Arc<ClusterMap>),
    Catalog(Arc<Catalog>),
    Lease {
        until: Time,
    },
    /// Of the proxies below `below` only these live.
    Proxies {
        below: Incarnation,
        alive: Arc<[Incarnation]>,
    },
    Capture {
        cut: CutId,
        map: MapVersion,
    },
    Release {
        cut: CutId,
        committed: Option<Arc<[TransactionId]>>,
    },
    DropCut(CutId),
    Cuts {
        term: u64,
        read: Arc<[CutId]>,
    },
    Deadlock {
        transaction: TransactionId,
        wait: u64,
        detail: String,
    },
    Inquiry(Inquiry),
    RowsFound {
        ticket: Ticket,
        root: Root,
        found: SqlResult<Vec<Position>>,
    },
    FragmentBatch {
        ticket: Ticket,
        bytes: Bytes,
    },
    FragmentFinished {
        ticket: Ticket,
        roots: Vec<(PartitionId, Root)>,
        outcome: FragmentOutcome,
    },
    Shutdown,
}

/// Where letters to one worker are dropped. Cheap to clone.
#[derive(Clone)]
pub struct Postbox {
    letters: mpsc::Sender<Letter>,
    waker: Arc<mio::Waker>,
}

impl Postbox {
    pub fn new(letters: mpsc::Sender<Letter>, waker: Arc<mio::Waker>) -> Postbox {
        Postbox { letters, waker }
    }

    /// Delivers, unless the worker has ended.
    pub fn post(&self, letter: Letter) {
        if self.letters.send(letter).is_ok() {
            self.wake();
        }
    }

    /// Gives the worker a turn.
    pub fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }
}

/// What a worker tells the node's control task.
#[derive(Debug)]
pub enum WorkerReport {
    MapApplied {
        worker: WorkerId,
        version: MapVersion,
    },
    CatalogApplied {
        worker: WorkerId,
        version: CatalogVersion,
        map: MapVersion,
        result: Result<(), SqlError>,
    },
    Propose(Proposal),
    Captured(Box<Captured>),
    /// Repeated while there are any: transactions that wait for locks.
    Waits {
        worker: WorkerId,
        waits: Vec<LockWaits>,
    },
    Inquiry(Inquiry),
    /// Repeated: what its partitions take.
    Load {
        worker: WorkerId,
        memory: u64,
        arrived: Vec<(PartitionId, u64)>,
    },
}
