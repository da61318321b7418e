//! What runs outside the workers' threads, over roots that they lend: scans for writes without a key, and fragments.

mod rows;

use crate::fragment;
use crate::letter::{Letter, Postbox};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use rows::LentRoots;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::PartitionId;
use toroid_common::plan::PointPlan;
use toroid_common::wire::{FragmentOutcome, decode_env};
use toroid_engine::store::root::Root;
use toroid_engine::worker::{Ticket, find_rows};
use toroid_query::memory::{Budget, Share};

/// The worker is told of a piece up to this length together with what follows at once, mostly the end; of a longer one before the next is made.
const SHORT_BYTES: usize = 4 << 10;

/// A worker's way to the pool.
pub struct Outside {
    pool: Handle,
    fragment_memory: Arc<Budget>,
    running: BTreeMap<Ticket, Arc<Reins>>,
}

/// How a running fragment is held back and stopped.
struct Reins {
    credit: Semaphore,
    stopped: Notify,
    /// The worker has letters that it was not told of.
    untold: AtomicBool,
}

impl Outside {
    pub fn new(pool: Handle, fragment_memory: Arc<Budget>) -> Outside {
        Outside { pool, fragment_memory, running: BTreeMap::new() }
    }

    pub fn find_rows(
        &self,
        postbox: Postbox,
        ticket: Ticket,
        root: Root,
        plan: Arc<PointPlan>,
        params: Bytes,
        env: Arc<Env>,
    ) {
        self.pool.spawn(async move {
            let found = std::panic::catch_unwind(AssertUnwindSafe(|| find_rows(&root, &plan, &params, &env)));
            let found = found.unwrap_or_else(|_| Err(SqlError::internal("a scan failed")));
            postbox.post(Letter::RowsFound { ticket, root, found });
        });
    }

    pub fn run_fragment(
        &mut self,
        postbox: Postbox,
        ticket: Ticket,
        roots: Vec<(PartitionId, Root)>,
        plan: Bytes,
        env: Bytes,
        credit: u32,
    ) {
        let reins = Arc::new(Reins {
            credit: Semaphore::new(credit as usize),
            stopped: Notify::new(),
            untold: AtomicBool::new(false),
        });
        self.running.insert(ticket, Arc::clone(&reins));
        let memory = self.fragment_memory.share();
        self.pool.spawn(async move {
            let rows = Arc::new(LentRoots::new(roots));
            let run = AssertUnwindSafe(run(&postbox, ticket, &rows, plan, env, &memory, &reins)).catch_unwind();
            let outcome = match tell_before_waiting(&postbox, &reins, run).await {
                Ok(Ok(rows)) => FragmentOutcome::Done { rows },
                Ok(Err(error)) => FragmentOutcome::Error(error),
                Err(_) => FragmentOutcome::Error(SqlError::internal("a fragment failed")),
            };
            // Whoever still holds a batch keeps the roots alive; then they are dropped there instead of in their worker.
            let roots = Arc::into_inner(rows).map(LentRoots::into_roots).unwrap_or_default();
            postbox.post(Letter::FragmentFinished { ticket, roots, outcome });
        });
    }

    pub fn credit(&self, ticket: Ticket, batches: u32) {
        if let Some(reins) = self.running.get(&ticket) {
            let room = Semaphore::MAX_PERMITS - reins.credit.available_permits();
            reins.credit.add_permits((batches as usize).min(room));
        }
    }

    pub fn cancel(&self, ticket: Ticket) {
        if let Some(reins) = self.running.get(&ticket) {
            reins.credit.close();
            reins.stopped.notify_one();
        }
    }

    /// It has ended.
    pub fn forget(&mut self, ticket: Ticket) {
        self.running.remove(&ticket);
    }
}

/// The worker is told of its letters before what runs here waits for anything.
async fn tell_before_waiting<T>(postbox: &Postbox, reins: &Reins, run: impl Future<Output = T>) -> T {
    let mut run = pin!(run);
    poll_fn(|cx| {
        let ran = run.as_mut().poll(cx);
        if ran.is_pending() && reins.untold.swap(false, Ordering::Relaxed) {
            postbox.wake();
        }
        ran
    })
    .await
}

/// Runs a fragment to its end, after which the worker is to be told of its letters; returns how many batches it sent.
async fn run(
    postbox: &Postbox,
    ticket: Ticket,
    rows: &Arc<LentRoots>,
    plan: Bytes,
    env: Bytes,
    memory: &Arc<Share>,
    reins: &Reins,
) -> SqlResult<u64> {
    let source: Arc<dyn toroid_query::source::RowSource> = Arc::clone(rows) as _;
    let env = decode_env(&env).map_err(SqlError::internal)?;
    let mut batches = fragment::run(plan, env, source, memory);
    let mut sent = 0;
    loop {
        let Ok(permit) = reins.credit.acquire().await else { return Ok(sent) };
        permit.forget();
        let next = tokio::select! {
            biased;
            () = reins.stopped.notified() => return Ok(sent),
            next = batches.next() => next,
        };
        match next {
            None => return Ok(sent),
            Some(Err(error)) => return Err(error),
            Some(Ok(bytes)) => {
                sent += 1;
                let short = bytes.len() <= SHORT_BYTES;
                postbox.put(Letter::FragmentBatch { ticket, bytes });
                reins.untold.store(short, Ordering::Relaxed);
                if !short {
                    postbox.wake();
                }
            }
        }
    }
}
