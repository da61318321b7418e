//! One proxy thread's connections to the workers, and requests over them: routed, tried again under the same identity, answered once.

mod ears;
mod link;
mod call;
mod transact;

pub use call::{Failed, Terms, table_locked, too_large};

use super::{Cluster, View};
use crate::statement::{Leave, Open, Running};
use bytes::Bytes;
use ears::Ears;
use link::Link;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use toroid_common::calls::Calls;
use toroid_common::coordinator::Transaction;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{CatalogVersion, Incarnation, PartitionId, PlanId, TransactionId, WorkerId};
use toroid_common::near::Place;
use toroid_common::plan::PointPlan;
use toroid_common::transaction::Level;
use toroid_common::wire::{Message, PlanMessage, Role};
use transact::Course;

/// A point plan under the number by which workers know it; made once and shared by all threads.
pub struct PlanHandle {
    id: PlanId,
    bytes: Vec<u8>,
    pub plan: PointPlan,
}

impl PlanHandle {
    pub fn new(plan: PointPlan) -> Arc<PlanHandle> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = PlanId(NEXT.fetch_add(1, Ordering::Relaxed));
        Arc::new(PlanHandle { id, bytes: PlanMessage::encode_plan(&plan), plan })
    }
}

/// Before a connection that ended is opened again if nobody needed it.
const OPENING_AGAIN: Duration = Duration::from_millis(300);

/// A request's answer when it was executed.
#[derive(Debug)]
pub enum Reply {
    /// Rows of the plan's output types, and how many rows the statement found or changed.
    Rows {
        count: u32,
        bytes: Bytes,
    },
    Done {
        count: u64,
    },
}

impl Reply {
    /// Rows that the statement found or changed.
    pub fn count(&self) -> u64 {
        match self {
            Reply::Rows { count, .. } => u64::from(*count),
            Reply::Done { count } => *count,
        }
    }
}

/// Why a request has no answer, by what its caller must do.
#[derive(Debug)]
pub enum CallError {
    /// Wait for this catalog, plan the statement again. Nothing happened.
    Replan(CatalogVersion),
    /// Tell the client.
    Sql(SqlError),
}

impl From<SqlError> for CallError {
    fn from(error: SqlError) -> CallError {
        CallError::Sql(error)
    }
}

/// One thread's client; clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Rc<Inner>,
}

struct Inner {
    cluster: Arc<Cluster>,
    place: Place,
    incarnation: Cell<Incarnation>,
    followed: RefCell<watch::Receiver<Option<Arc<View>>>>,
    view: RefCell<Arc<View>>,
    links: RefCell<BTreeMap<WorkerId, Held>>,
    calls: Rc<RefCell<Calls<SqlResult<Reply>>>>,
    ears: Rc<Ears>,
    /// The number of the next transaction.
    transactions: Cell<u64>,
    /// By anchor, committed transactions that all participants have confirmed.
    forgotten: RefCell<BTreeMap<PartitionId, Vec<TransactionId>>>,
    /// Takes ends of transactions that nobody waits for.
    left: UnboundedSender<Course>,
    /// Rolls back what nobody ended.
    leave: Leave,
}

/// A connection in use. The task that serves it would never end by itself where the other side does not: it ends when nobody holds this any more.
struct Held {
    link: Rc<Link>,
    task: AbortHandle,
}

impl Deref for Held {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// A client for the current thread, which must be one that keeps its tasks; workers that are guests there are met at its place.
    pub async fn new(cluster: Arc<Cluster>, place: Place) -> SqlResult<Client> {
        let incarnation = Cell::new(cluster.allocate_incarnation().await?);
        let view = RefCell::new(cluster.view()?);
        let followed = RefCell::new(cluster.follow());
        let (links, calls) = (RefCell::default(), Rc::new(RefCell::new(Calls::new())));
        let ears: Rc<Ears> = Rc::default();
        let kept = ears.clone();
        let (left, queue) = tokio::sync::mpsc::unbounded_channel();
        let client = Rc::new_cyclic(|inner| {
            let leave = transact::leave(inner.clone());
            let (transactions, forgotten) = (Cell::new(1), RefCell::default());
            Inner {
                cluster,
                place,
                incarnation,
                followed,
                view,
                links,
                calls,
                ears,
                transactions,
                forgotten,
                left,
                leave,
            }
        });
        let client = Client { inner: client };
        tokio::task::spawn_local(transact::finish(queue));
        tokio::task::spawn_local(ears::keep(kept, Rc::downgrade(&client.inner)));
        tokio::task::spawn_local(follow_map(client.inner.cluster.follow(), Rc::downgrade(&client.inner)));
        tokio::task::spawn_local(follow_deaths(client.inner.cluster.lives().deaths(), Rc::downgrade(&client.inner)));
        Ok(client)
    }

    /// The life of this thread's requests.
    pub fn incarnation(&self) -> Incarnation {
        self.inner.incarnation.get()
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.inner.cluster
    }

    /// What is known now; looks at shared state only when it changed.
    pub fn view(&self) -> Arc<View> {
        let mut followed = self.inner.followed.borrow_mut();
        if followed.has_changed().unwrap_or(false)
            && let Some(view) = followed.borrow_and_update().as_ref()
        {
            self.inner.view.replace(view.clone());
        }
        self.inner.view.borrow().clone()
    }

    /// A transaction of which no partition knows yet.
    pub fn begin(&self, process: u32, level: Level) -> Rc<Open> {
        let number = self.inner.transactions.get();
        self.inner.transactions.set(number + 1);
        let id = TransactionId { proxy: self.incarnation(), number };
        Open::new(Transaction::new(id, process, level), self.inner.leave.clone())
    }

    /// Requests of this thread that have no answer yet.
    pub fn pending(&self) -> usize {
        self.inner.calls.borrow().len()
    }

    /// Asks workers not to let the requests of a statement wait any longer.
    pub fn call_back(&self, running: &Running) {
        for sequence in running.requests() {
            self.cancel(sequence);
        }
    }

    fn cancel(&self, sequence: u64) {
        let worker = self.inner.calls.borrow().sent_to(sequence);
        if let Some(worker) = worker
            && let Some(link) = self.inner.links.borrow().get(&worker)
        {
            Message::Cancel { sequence }.write(&mut link.out.borrow_mut());
            link.flush();
        }
    }

    fn link(&self, worker: WorkerId, view: &View) -> SqlResult<Rc<Link>> {
        let mut links = self.inner.links.borrow_mut();
        if let Some(link) = links.get(&worker)
            && !link.broken.get()
        {
            return Ok(link.link.clone());
        }
        let node = view.map.node(worker.node);
        let (Some(address), Some(node)) = (view.map.address(worker), node) else {
            return Err(SqlError::internal(format!("worker {worker} has no address")));
        };
        let link = Rc::new(Link::new(node.incarnation));
        let role = Role::Proxy { incarnation: self.inner.incarnation.get() };
        let (calls, running, cluster) = (self.inner.calls.clone(), link.clone(), view.map.cluster);
        let (key, place) = (self.inner.cluster.key().cloned(), self.inner.place.clone());
        let (inner, ears) = (Rc::downgrade(&self.inner), self.inner.ears.clone());
        let task = tokio::task::spawn_local(async move {
            let result = running.run((worker, address), key, cluster, role, &place, (&calls, &ears)).await;
            tracing::debug!(%worker, %address, ?result, "connection to a worker ended");
            running.broken.set(true);
            calls.borrow_mut().lose(worker);
            ears.disturb();
            open_again(&inner, worker, &running).await;
        });
        links.insert(worker, Held { link: link.clone(), task: task.abort_handle() });
        Ok(link)
    }
}

/// Connects again where nobody may be about to send anything: transactions that are open there are given up when their proxy does not come again.
async fn open_again(inner: &std::rc::Weak<Inner>, worker: WorkerId, broken: &Rc<Link>) {
    tokio::time::sleep(OPENING_AGAIN).await;
    let Some(inner) = inner.upgrade() else { return };
    let is_current = inner.links.borrow().get(&worker).is_some_and(|held| Rc::ptr_eq(&held.link, broken));
    let client = Client { inner };
    let view = client.view();
    let lives = view.map.node(worker.node).is_some_and(|node| node.incarnation == broken.incarnation);
    if is_current && lives {
        // Who is not there is tried again, as long as the map says that it lives.
        drop(client.link(worker, &view));
    }
}

/// Tells the requests that wait of each new map: a former primary may be unable to answer them.
async fn follow_map(mut views: watch::Receiver<Option<Arc<View>>>, client: std::rc::Weak<Inner>) {
    while views.changed().await.is_ok() {
        let Some(inner) = client.upgrade() else { return };
        let Some(view) = views.borrow_and_update().clone() else { continue };
        let lives = |worker: &WorkerId, link: &Held| {
            view.map.node(worker.node).is_some_and(|node| node.incarnation == link.incarnation)
        };
        let gone: Vec<(WorkerId, Held)> =
            inner.links.borrow_mut().extract_if(.., |worker, link| !lives(worker, link)).collect();
        // Their tasks end before they could say so.
        gone.iter().for_each(|(worker, _)| inner.calls.borrow_mut().lose(*worker));
        inner.calls.borrow_mut().moved(&view.map);
        inner.ears.disturb();
    }
}

/// Goes on as another when this sender was taken for dead: what it had under way may have happened, and is not asked for again.
async fn follow_deaths(mut deaths: watch::Receiver<u64>, client: std::rc::Weak<Inner>) {
    while deaths.changed().await.is_ok() {
        let Some(inner) = client.upgrade() else { return };
        if inner.cluster.lives().is_alive(inner.incarnation.get()) {
            continue;
        }
        inner.links.borrow_mut().clear();
        inner.calls.borrow_mut().answer_all(|| Err(call::unknown()));
        inner.incarnation.set(inner.cluster.another_incarnation("a proxy thread waits").await);
        // Sessions may have connected under the dead one meanwhile.
        inner.links.borrow_mut().clear();
        inner.calls.borrow_mut().answer_all(|| Err(call::unknown()));
        inner.ears.disturb();
    }
}
