//! Letters to a worker's thread, and what it reports: the only ways in and out besides its sockets.

use bytes::Bytes;
use futures::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll};
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
    call: Arc<Call>,
}

impl Postbox {
    pub fn new(letters: mpsc::Sender<Letter>, call: Arc<Call>) -> Postbox {
        Postbox { letters, call }
    }

    /// Delivers, unless the worker has ended.
    pub fn post(&self, letter: Letter) {
        if self.letters.send(letter).is_ok() {
            self.wake();
        }
    }

    /// Delivers without a word, because more follows: [`Postbox::wake`] is owed.
    pub fn put(&self, letter: Letter) {
        // Where the worker has ended nobody misses it.
        let _ = self.letters.send(letter);
    }

    /// Gives the worker a turn.
    pub fn wake(&self) {
        self.call.ring();
    }
}

/// How a worker is called to its letters: as an event in its queue, or as a task where it is a guest, which costs less and nothing on its own thread.
#[derive(Debug)]
pub struct Call {
    queue: mio::Waker,
    is_guest: AtomicBool,
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Call {
    pub fn new(queue: mio::Waker) -> Call {
        Call { queue, is_guest: AtomicBool::new(false), rung: AtomicBool::new(false), task: AtomicWaker::new() }
    }

    fn ring(&self) {
        if self.is_guest.load(Ordering::Acquire) {
            // Who rang before and was not heard yet has called it already.
            if !self.rung.swap(true, Ordering::AcqRel) {
                self.task.wake();
            }
        } else if let Err(error) = self.queue.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }

    /// From now on the worker is a task. What rang before is an event in its queue.
    pub fn become_guest(&self) {
        self.is_guest.store(true, Ordering::Release);
    }

    /// Whether it has rung for a guest since this was asked last: to be asked before letters are opened.
    pub fn take(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel)
    }

    /// Ready when it has rung and nobody has asked.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        match self.rung.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::task::noop_waker;
    use std::future::poll_fn;
    use std::time::Duration;

    fn call() -> (mio::Poll, Arc<Call>) {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(1)).unwrap();
        (poll, Arc::new(Call::new(waker)))
    }

    #[test]
    fn a_guest_is_called_as_a_task_and_others_by_their_queue() {
        let (mut queue, call) = call();
        let (letters, box_) = mpsc::channel();
        let postbox = Postbox::new(letters, call.clone());
        let mut events = mio::Events::with_capacity(4);
        let mut in_queue = |wait| {
            queue.poll(&mut events, Some(Duration::from_millis(wait))).unwrap();
            !events.is_empty()
        };
        postbox.post(Letter::Shutdown);
        assert!(in_queue(1_000) && !call.take());
        call.become_guest();
        let waker = noop_waker();
        let cx = Context::from_waker(&waker);
        assert_eq!(call.poll(&cx), Poll::Pending);
        postbox.put(Letter::Shutdown);
        assert_eq!(call.poll(&cx), Poll::Pending, "more follows");
        postbox.post(Letter::Shutdown);
        postbox.wake();
        assert_eq!(call.poll(&cx), Poll::Ready(()));
        assert!(call.take() && !call.take());
        assert_eq!(call.poll(&cx), Poll::Pending);
        assert!(!in_queue(0));
        assert_eq!(box_.try_iter().count(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_call_is_missed() {
        let (_queue, call) = call();
        let (letters, box_) = mpsc::channel();
        let postbox = Postbox::new(letters, call.clone());
        call.become_guest();
        const LETTERS: usize = 100_000;
        let posting = tokio::task::spawn_blocking(move || (0..LETTERS).for_each(|_| postbox.post(Letter::Shutdown)));
        let mut opened = 0;
        while opened < LETTERS {
            let rung = poll_fn(|cx| call.poll(cx)).map(|()| true);
            assert!(tokio::time::timeout(Duration::from_secs(20), rung).await.unwrap());
            call.take();
            opened += box_.try_iter().count();
        }
        posting.await.unwrap();
    }
}
