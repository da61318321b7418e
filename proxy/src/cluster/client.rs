//! One proxy thread's connections to the workers, and requests over them: routed, tried again under the same identity, answered once.

use super::connection::{self, invalid};
use super::stream::{ReadHalf, WriteHalf};
use super::{Cluster, View};
use bytes::{Buf, Bytes};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use toroid_common::calls::{Calls, Event};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, ClusterId, Incarnation, PartitionId, PlanId, WorkerId};
use toroid_common::limits::MAX_PLANS_PER_CONNECTION;
use toroid_common::plan::PointPlan;
use toroid_common::routing::{self, Attempts, Failure, Next, Trouble};
use toroid_common::secret::Key;
use toroid_common::wire::{Message, Outcome, PlanMessage, RawFrame, Refusal, Request, RequestBody, Role};

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
    incarnation: Cell<Incarnation>,
    followed: RefCell<watch::Receiver<Option<Arc<View>>>>,
    view: RefCell<Arc<View>>,
    links: RefCell<BTreeMap<WorkerId, Rc<Link>>>,
    calls: Rc<RefCell<Calls<SqlResult<Reply>>>>,
}

/// One connection to one worker. It lives until it breaks; the next request opens another.
struct Link {
    out: RefCell<Vec<u8>>,
    flush: Notify,
    plans: RefCell<BTreeSet<PlanId>>,
    broken: Cell<bool>,
    /// The life of the node that it leads to.
    incarnation: Incarnation,
    task: OnceCell<AbortHandle>,
}

impl Drop for Inner {
    /// The thread may live on with others' work: the connections end here.
    fn drop(&mut self) {
        for link in self.links.get_mut().values() {
            if let Some(task) = link.task.get() {
                task.abort();
            }
        }
    }
}

impl Client {
    /// A client for the current thread, which must be one that keeps its tasks.
    pub async fn new(cluster: Arc<Cluster>) -> SqlResult<Client> {
        let incarnation = Cell::new(cluster.allocate_incarnation().await?);
        let view = RefCell::new(cluster.view()?);
        let followed = RefCell::new(cluster.follow());
        let (links, calls) = (RefCell::default(), Rc::new(RefCell::new(Calls::new())));
        let client = Client { inner: Rc::new(Inner { cluster, incarnation, followed, view, links, calls }) };
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

    /// Requests of this thread that have no answer yet.
    pub fn pending(&self) -> usize {
        self.inner.calls.borrow().len()
    }

    /// Runs a plan in one partition and waits for its answer. It happens once, or not at all when the error says so.
    pub async fn call(
        &self,
        partition: PartitionId,
        plan: &PlanHandle,
        env: Option<&[u8]>,
        body: RequestBody<'_>,
    ) -> Result<Reply, CallError> {
        let attempts = Attempts::new(plan.plan.verb.writes());
        let mut call = Call { client: self, partition, plan, env, body, sequence: 0, answered: false, attempts };
        let mut first = None;
        loop {
            let view = self.view();
            call.send(&view)?;
            let trouble = match std::future::poll_fn(|cx| call.poll(cx.waker())).await {
                Event::Answer(answer) => {
                    call.answered = true;
                    return answer.map_err(CallError::Sql);
                }
                Event::Trouble(trouble) => trouble,
            };
            let waited = first.get_or_insert_with(Instant::now).elapsed().as_millis() as u32;
            match call.attempts.after(trouble, waited, view.map.version) {
                Ok(Next::RegisterPlan) => call.forget_plan(&view),
                Ok(Next::Resend { after_ms }) => {
                    let newer = self.inner.cluster.map_after(view.map.version);
                    let pause = Duration::from_millis(u64::from(after_ms));
                    // Either way it is sent again, by what is known then.
                    drop(tokio::time::timeout(pause, newer).await);
                }
                Ok(Next::AwaitMap(version)) => drop(self.inner.cluster.map(version).await?),
                Ok(Next::Replan(version)) => {
                    call.answered = true;
                    return Err(CallError::Replan(version));
                }
                Err(failure) => {
                    if trouble == Trouble::Refused(Refusal::Fenced) {
                        self.inner.cluster.lives().died(self.incarnation());
                    }
                    return Err(CallError::Sql(failed(failure, partition)));
                }
            }
        }
    }

    fn link(&self, worker: WorkerId, view: &View) -> SqlResult<Rc<Link>> {
        let mut links = self.inner.links.borrow_mut();
        if let Some(link) = links.get(&worker)
            && !link.broken.get()
        {
            return Ok(link.clone());
        }
        let node = view.map.node(worker.node);
        let (Some(address), Some(node)) = (view.map.address(worker), node) else {
            return Err(SqlError::internal(format!("worker {worker} has no address")));
        };
        let link = Rc::new(Link {
            out: RefCell::default(),
            flush: Notify::new(),
            plans: RefCell::default(),
            broken: Cell::new(false),
            incarnation: node.incarnation,
            task: OnceCell::new(),
        });
        links.insert(worker, link.clone());
        let role = Role::Proxy { incarnation: self.inner.incarnation.get() };
        let (calls, running, cluster) = (self.inner.calls.clone(), link.clone(), view.map.cluster);
        let key = self.inner.cluster.key().cloned();
        let task = tokio::task::spawn_local(async move {
            let result = running.run((worker, address), key, cluster, role, &calls).await;
            tracing::debug!(%worker, %address, ?result, "connection to a worker ended");
            running.broken.set(true);
            calls.borrow_mut().lose(worker);
        });
        link.task.get_or_init(|| task.abort_handle());
        Ok(link)
    }
}

/// One call while it lasts; dropped early when its statement is cancelled.
struct Call<'a> {
    client: &'a Client,
    partition: PartitionId,
    plan: &'a PlanHandle,
    env: Option<&'a [u8]>,
    body: RequestBody<'a>,
    /// 0 before the first send.
    sequence: u64,
    answered: bool,
    attempts: Attempts,
}

impl Call<'_> {
    fn send(&mut self, view: &View) -> SqlResult<()> {
        let nowhere = || failed(self.attempts.nowhere(), self.partition);
        let route = routing::route(&view.map, self.partition).ok_or_else(nowhere)?;
        let link = self.client.link(route.worker, view)?;
        let mut calls = self.client.inner.calls.borrow_mut();
        match self.sequence {
            0 => self.sequence = calls.begin(self.partition, route.worker),
            again if calls.resend(again, self.partition, route.worker) => {}
            _ => return Ok(()),
        }
        self.attempts.sent();
        let mut out = link.out.borrow_mut();
        let mut plans = link.plans.borrow_mut();
        if !plans.contains(&self.plan.id) {
            // Statements of one use have plans, too. The worker takes frames in order, so what was sent with the oldest plan still has it.
            if plans.len() >= MAX_PLANS_PER_CONNECTION
                && let Some(oldest) = plans.pop_first()
            {
                Message::ForgetPlan(oldest).write(&mut out);
            }
            plans.insert(self.plan.id);
            Message::Plan(PlanMessage { id: self.plan.id, bytes: &self.plan.bytes }).write(&mut out);
        }
        let request = Request {
            sequence: self.sequence,
            low: calls.low(self.partition, self.sequence),
            partition: self.partition,
            epoch: route.epoch,
            plan: self.plan.id,
            within: None,
            lock_timeout_ms: 0,
            env: self.env,
            body: if self.attempts.withdraws() { RequestBody::Withdraw } else { self.body.clone() },
        };
        Message::Request(request).write(&mut out);
        link.flush.notify_one();
        Ok(())
    }

    fn poll(&self, waker: &std::task::Waker) -> std::task::Poll<Event<SqlResult<Reply>>> {
        self.client.inner.calls.borrow_mut().poll(self.sequence, waker)
    }

    /// The worker has lost this plan (it keeps a bounded number): the next send registers it again.
    fn forget_plan(&self, view: &View) {
        if let Some(route) = routing::route(&view.map, self.partition)
            && let Some(link) = self.client.inner.links.borrow().get(&route.worker)
        {
            link.plans.borrow_mut().remove(&self.plan.id);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.sequence != 0 {
            self.client.inner.calls.borrow_mut().end(self.sequence, self.answered);
        }
    }
}

/// Tells the requests that wait of each new map: a former primary may be unable to answer them.
async fn follow_map(mut views: watch::Receiver<Option<Arc<View>>>, client: std::rc::Weak<Inner>) {
    while views.changed().await.is_ok() {
        let Some(inner) = client.upgrade() else { return };
        let Some(view) = views.borrow_and_update().clone() else { continue };
        inner
            .links
            .borrow_mut()
            .retain(|worker, link| view.map.node(worker.node).is_some_and(|node| node.incarnation == link.incarnation));
        inner.calls.borrow_mut().moved(&view.map);
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
        inner.calls.borrow_mut().answer_all(|| Err(unknown()));
        inner.incarnation.set(inner.cluster.another_incarnation("a proxy thread waits").await);
        // Sessions may have connected under the dead one meanwhile.
        inner.links.borrow_mut().clear();
        inner.calls.borrow_mut().answer_all(|| Err(unknown()));
    }
}

fn unknown() -> SqlError {
    SqlError::new(
        SqlState::STATEMENT_COMPLETION_UNKNOWN,
        "the connection to the storage node was lost and could not be restored; the statement may have been executed",
    )
}

/// What the client is told of a request that got no answer.
fn failed(failure: Failure, partition: PartitionId) -> SqlError {
    match failure {
        Failure::Unknown => unknown(),
        Failure::PartitionLost => routing::lost(partition),
        Failure::Nothing(Trouble::Lost | Trouble::Moved) => {
            SqlError::new(SqlState::CONNECTION_FAILURE, "no storage node answers for this partition")
        }
        Failure::Nothing(Trouble::Refused(refusal)) => {
            SqlError::new(SqlState::CANNOT_CONNECT_NOW, format!("the partition is not available: {refusal:?}"))
        }
    }
}

impl Link {
    async fn run(
        &self,
        (worker, address): (WorkerId, SocketAddr),
        key: Option<Key>,
        cluster: ClusterId,
        role: Role,
        calls: &RefCell<Calls<SqlResult<Reply>>>,
    ) -> io::Result<()> {
        let (read, write, welcome) = connection::open(address, key.as_ref(), Some(cluster), role).await?;
        if welcome.incarnation != self.incarnation {
            return Err(io::Error::other("the worker lives another life than the cluster map says"));
        }
        tokio::select! {
            result = self.send(write) => result,
            result = receive(read, worker, calls) => result,
        }
    }

    /// Everything that sessions put into the buffer in one turn of the event loop leaves in one system call.
    async fn send(&self, mut write: WriteHalf) -> io::Result<()> {
        let mut sending = Vec::new();
        loop {
            std::mem::swap(&mut sending, &mut *self.out.borrow_mut());
            if sending.is_empty() {
                self.flush.notified().await;
                // One look at the sockets before the system call: what other clients have sent meanwhile goes with it.
                tokio::task::yield_now().await;
                continue;
            }
            write.write_all(&sending).await?;
            sending.clear();
        }
    }
}

async fn receive(mut read: ReadHalf, worker: WorkerId, calls: &RefCell<Calls<SqlResult<Reply>>>) -> io::Result<()> {
    let mut input = connection::read_buffer();
    loop {
        connection::reserve(&mut input);
        if read.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut used = 0;
        while let Some((frame, length)) = RawFrame::split(input.get(used..).unwrap_or_default()).map_err(invalid)? {
            let Message::Answer(answer) = Message::decode(frame).map_err(invalid)? else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer"));
            };
            let event = match answer.outcome {
                Outcome::Rows { count, bytes } => {
                    Event::Answer(Ok(Reply::Rows { count, bytes: Bytes::copy_from_slice(bytes) }))
                }
                Outcome::Done { count } => Event::Answer(Ok(Reply::Done { count })),
                Outcome::Error(error) => Event::Answer(Err(error)),
                Outcome::Refused(refusal) => Event::Trouble(Trouble::Refused(refusal)),
            };
            calls.borrow_mut().deliver(answer.sequence, worker, event);
            used += length;
        }
        input.advance(used);
    }
}
