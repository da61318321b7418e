//! What the proxy knows of the cluster: a watched view of map and catalog, and the metadata service's other answers.

use super::connection::{self, invalid};
use super::lives::Lives;
use super::stream::{ReadHalf, WriteHalf};
use bytes::{Buf, BytesMut};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use toroid_common::catalog::Catalog;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, ClusterId, Incarnation, MapVersion};
use toroid_common::map::ClusterMap;
use toroid_common::secret::Key;
use toroid_common::wire::{CatalogChange, ChangeError, Control, ControlBody, Message, NoticeBody, RawFrame, Role};

/// Between attempts to reach the metadata service.
const RECONNECT: Duration = Duration::from_millis(100);
/// Between renewals of this proxy's lives; the group waits far longer before it takes a proxy for dead.
const RENEWAL: Duration = Duration::from_secs(1);
/// How long a statement waits for a newer view before it gives up.
const VIEW_PATIENCE: Duration = Duration::from_secs(10);

/// Map and catalog at one moment. Statements are planned against one view and keep it.
#[derive(Clone, Debug)]
pub struct View {
    pub map: Arc<ClusterMap>,
    pub catalog: Arc<Catalog>,
    /// Every partition has all its copies.
    pub ready: bool,
}

/// The proxy's knowledge of its cluster, shared by all its threads.
pub struct Cluster {
    view: watch::Receiver<Option<Arc<View>>>,
    requests: mpsc::UnboundedSender<(ControlBody, oneshot::Sender<NoticeBody>)>,
    key: Option<Key>,
    lives: Lives,
}

impl Cluster {
    /// Watches the metadata service from the current runtime; returns as soon as statements can be served.
    pub async fn connect(addresses: Vec<SocketAddr>, key: Option<Key>) -> Arc<Cluster> {
        let (publish, mut view) = watch::channel(None);
        let (requests, queue) = mpsc::unbounded_channel();
        tokio::spawn(watch_metadata(addresses, key.clone(), publish, queue));
        while !view.borrow_and_update().as_ref().is_some_and(|view: &Arc<View>| view.ready) {
            if view.changed().await.is_err() {
                break;
            }
        }
        let cluster = Arc::new(Cluster { view, requests, key, lives: Lives::new() });
        tokio::spawn(renew(Arc::downgrade(&cluster)));
        cluster
    }

    /// What processes of this cluster show each other.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// What is known now.
    pub fn view(&self) -> SqlResult<Arc<View>> {
        self.view.borrow().clone().ok_or_else(not_yet)
    }

    /// A receiver of its own for who follows the view.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.view.clone()
    }

    /// Waits until the view satisfies `enough`; 55P03 after some patience.
    pub async fn wait(&self, enough: impl Fn(&View) -> bool) -> SqlResult<Arc<View>> {
        let mut view = self.view.clone();
        let found = tokio::time::timeout(VIEW_PATIENCE, view.wait_for(|v| v.as_ref().is_some_and(|v| enough(v)))).await;
        match found {
            Ok(Ok(view)) => view.clone().ok_or_else(not_yet),
            Ok(Err(_)) => Err(not_yet()),
            Err(_) => Err(SqlError::new(
                SqlState::LOCK_NOT_AVAILABLE,
                "gave up waiting for a schema change or a move of partitions to end",
            )),
        }
    }

    /// The catalog of this version or a later one.
    pub async fn catalog(&self, version: CatalogVersion) -> SqlResult<Arc<View>> {
        self.wait(|view| view.catalog.version >= version).await
    }

    /// The map of this version or a later one.
    pub async fn map(&self, version: MapVersion) -> SqlResult<Arc<View>> {
        self.wait(|view| view.map.version >= version).await
    }

    /// A map later than this one.
    pub async fn map_after(&self, version: MapVersion) -> SqlResult<Arc<View>> {
        self.wait(|view| view.map.version > version).await
    }

    /// The incarnations of this proxy.
    pub(super) fn lives(&self) -> &Lives {
        &self.lives
    }

    /// A number for one life of a sender of requests.
    pub async fn allocate_incarnation(&self) -> SqlResult<Incarnation> {
        match self.ask(ControlBody::AllocateIncarnation).await? {
            NoticeBody::Incarnation(incarnation) => {
                self.lives.add(incarnation);
                Ok(incarnation)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Changes the catalog if it still has the version that the change was made against.
    pub async fn change(
        &self,
        expected: CatalogVersion,
        change: CatalogChange,
    ) -> SqlResult<Result<CatalogVersion, ChangeError>> {
        match self.ask(ControlBody::Change { expected, change }).await? {
            NoticeBody::Changed(result) => Ok(result),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, body: ControlBody) -> SqlResult<NoticeBody> {
        let (reply, answer) = oneshot::channel();
        self.requests.send((body, reply)).map_err(|_| not_yet())?;
        answer.await.map_err(|_| {
            SqlError::new(
                SqlState::STATEMENT_COMPLETION_UNKNOWN,
                "the connection to the metadata service was lost before it answered",
            )
        })
    }
}

/// Renews all lives until the cluster handle is gone.
async fn renew(cluster: Weak<Cluster>) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        let Some(cluster) = cluster.upgrade() else { return };
        let incarnations = cluster.lives.all();
        if incarnations.is_empty() {
            continue;
        }
        match cluster.ask(ControlBody::RenewProxies { incarnations: incarnations.clone() }).await {
            Ok(NoticeBody::Failed { reason }) => {
                tracing::warn!(reason, "this proxy was taken for dead: it goes on as a new one");
                // The group says of one only; what is not dead costs no more than new numbers.
                incarnations.into_iter().for_each(|incarnation| cluster.lives.died(incarnation));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the proxy's lives were not renewed"),
        }
    }
}

fn not_yet() -> SqlError {
    SqlError::new(SqlState::CANNOT_CONNECT_NOW, "the cluster is not ready to accept statements")
}

fn unexpected(notice: &NoticeBody) -> SqlError {
    match notice {
        NoticeBody::Failed { reason } => SqlError::new(SqlState::CANNOT_CONNECT_NOW, reason.clone()),
        NoticeBody::Incarnation(_)
        | NoticeBody::Joined { .. }
        | NoticeBody::Map(_)
        | NoticeBody::Ready
        | NoticeBody::Catalog(_)
        | NoticeBody::Changed(_)
        | NoticeBody::LeaseRenewed { .. }
        | NoticeBody::NotLeader { .. }
        | NoticeBody::Proxies { .. }
        | NoticeBody::Done
        | NoticeBody::Recovered(_)
        | NoticeBody::Status(_) => SqlError::internal("the metadata service answered another question"),
    }
}

type Queue = mpsc::UnboundedReceiver<(ControlBody, oneshot::Sender<NoticeBody>)>;
type Waiting = Arc<Mutex<BTreeMap<u32, oneshot::Sender<NoticeBody>>>>;

/// Keeps one connection to the metadata service; ends when the cluster handle is gone.
async fn watch_metadata(
    addresses: Vec<SocketAddr>,
    key: Option<Key>,
    publish: watch::Sender<Option<Arc<View>>>,
    mut queue: Queue,
) {
    let mut partial = Partial::default();
    for address in addresses.iter().cycle() {
        if publish.is_closed() {
            return;
        }
        match connection::open(*address, key.as_ref(), partial.cluster(), Role::Client).await {
            Ok((read, write, _)) => {
                let waiting = Waiting::default();
                let reading = receive(read, &waiting, &mut partial, &publish);
                let writing = send(write, &waiting, &mut queue);
                tokio::select! {
                    result = reading => tracing::warn!(%address, ?result, "lost the metadata service"),
                    result = writing => match result {
                        Ok(()) => return,
                        Err(error) => tracing::warn!(%address, %error, "lost the metadata service"),
                    },
                }
            }
            Err(error) => tracing::debug!(%address, %error, "metadata service not reached"),
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Writes what is asked; `Ok` when nobody can ask any more.
async fn send(mut write: WriteHalf, waiting: &Waiting, queue: &mut Queue) -> io::Result<()> {
    static NUMBER: AtomicU32 = AtomicU32::new(2);
    let mut out = Vec::new();
    Message::Control(Control { number: 1, body: ControlBody::Watch }).write(&mut out);
    loop {
        write.write_all(&out).await?;
        out.clear();
        let Some((body, reply)) = queue.recv().await else { return Ok(()) };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).max(1);
        waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, reply);
        Message::Control(Control { number, body }).write(&mut out);
    }
}

async fn receive(
    mut read: ReadHalf,
    waiting: &Waiting,
    partial: &mut Partial,
    publish: &watch::Sender<Option<Arc<View>>>,
) -> io::Result<()> {
    let mut input = BytesMut::new();
    loop {
        while let Some((frame, used)) = RawFrame::split(&input).map_err(invalid)? {
            let Message::Notice(notice) = Message::decode(frame).map_err(invalid)? else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a notice"));
            };
            input.advance(used);
            let reply = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&notice.number);
            match reply {
                Some(reply) => drop(reply.send(notice.body)),
                None => partial.take(notice.body, publish),
            }
        }
        connection::reserve(&mut input);
        if read.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The parts of a view as they arrive.
#[derive(Default)]
struct Partial {
    map: Option<Arc<ClusterMap>>,
    catalog: Option<Arc<Catalog>>,
    ready: bool,
}

impl Partial {
    fn cluster(&self) -> Option<ClusterId> {
        self.map.as_ref().map(|map| map.cluster)
    }

    fn take(&mut self, body: NoticeBody, publish: &watch::Sender<Option<Arc<View>>>) {
        match body {
            NoticeBody::Map(map) => self.map = Some(Arc::new(map)),
            NoticeBody::Catalog(catalog) => self.catalog = Some(Arc::new(catalog)),
            NoticeBody::Ready => self.ready = true,
            NoticeBody::Incarnation(_)
            | NoticeBody::Joined { .. }
            | NoticeBody::Changed(_)
            | NoticeBody::LeaseRenewed { .. }
            | NoticeBody::NotLeader { .. }
            | NoticeBody::Proxies { .. }
            | NoticeBody::Done
            | NoticeBody::Recovered(_)
            | NoticeBody::Status(_)
            | NoticeBody::Failed { .. } => return,
        }
        if let (Some(map), Some(catalog)) = (&self.map, &self.catalog) {
            let view = View { map: map.clone(), catalog: catalog.clone(), ready: self.ready };
            publish.send_replace(Some(Arc::new(view)));
        }
    }
}
