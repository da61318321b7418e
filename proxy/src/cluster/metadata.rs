//! What the proxy knows of the cluster: a watched view of map and catalog, and the metadata service's other answers.

use super::changes::Changes;
use super::connection::{self, invalid};
use super::cuts::{self, Desk};
use super::lives::Lives;
use super::stream::{ReadHalf, WriteHalf};
use bytes::{Buf, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use toroid_common::catalog::Catalog;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, ClusterId, Incarnation, MapVersion};
use toroid_common::map::ClusterMap;
use toroid_common::secret::Key;
use toroid_common::seek::Seek;
use toroid_common::wire::{
    CatalogChange, ChangeError, Control, ControlBody, Message, Notice, NoticeBody, RawFrame, Role, Status,
};

/// Between attempts to reach the metadata leader.
const RECONNECT: Duration = Duration::from_millis(50);
/// How long a connection to it may take.
const CONNECTING: Duration = Duration::from_millis(500);
/// Between questions whether the leader is still there; it answers only while a majority confirms it.
const PULSE: Duration = Duration::from_millis(150);
/// A connection on which nothing arrives for so long leads to nobody who leads.
const SILENCE: Duration = Duration::from_millis(500);
/// What keeps a proxy from reaching the leader is not worth a line for so long: processes start in any order, and leaders change.
const UNSAID: Duration = Duration::from_secs(1);
/// The numbers of the first questions on a connection; others count on.
const WATCH: u32 = 1;
const FIRST_NUMBER: u32 = 3;
/// The number of the pulse.
const ALIVE: u32 = 2;
/// Between renewals of this proxy's lives; the group waits far longer before it takes a proxy for dead.
const RENEWAL: Duration = Duration::from_secs(1);
/// How long a statement waits for a newer view before it gives up.
const VIEW_PATIENCE: Duration = Duration::from_secs(10);
/// How long a query of the cluster's state waits for the leader.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// Between attempts to get a new incarnation.
const RETRY: Duration = Duration::from_millis(100);

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
    requests: Requests,
    desk: Desk,
    key: Option<Key>,
    lives: Lives,
    changes: Changes,
}

impl Cluster {
    /// Watches the metadata service from the current runtime; returns as soon as statements can be served.
    pub async fn connect(addresses: Vec<SocketAddr>, key: Option<Key>) -> Arc<Cluster> {
        let (publish, mut view) = watch::channel(None);
        let (requests, queue) = mpsc::unbounded_channel();
        tokio::spawn(watch_metadata(addresses, key.clone(), publish, queue));
        let mut told = false;
        loop {
            match view.borrow_and_update().as_ref().map(|view: &Arc<View>| view.ready) {
                Some(true) => break,
                Some(false) if !told => {
                    tracing::info!("waits until every partition has all its copies");
                    told = true;
                }
                Some(false) | None => {}
            }
            if view.changed().await.is_err() {
                break;
            }
        }
        let (desk, asking) = cuts::desk();
        let (requests, lives, changes) = (Requests(requests), Lives::new(), Changes::default());
        let cluster = Arc::new(Cluster { view, requests, desk, key, lives, changes });
        tokio::spawn(renew(Arc::downgrade(&cluster)));
        tokio::spawn(cuts::serve(asking, Arc::downgrade(&cluster)));
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

    /// A new incarnation for a sender that was taken for dead, as soon as there is one; the log says who waits.
    pub async fn another_incarnation(&self, who: &str) -> Incarnation {
        loop {
            match self.allocate_incarnation().await {
                Ok(incarnation) => return incarnation,
                Err(error) => tracing::warn!(%error, "{who} for a new incarnation"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Changes the catalog if it still has the version that the change was made against.
    pub async fn change(
        &self,
        expected: CatalogVersion,
        change: CatalogChange,
    ) -> SqlResult<Result<CatalogVersion, ChangeError>> {
        let proxy = match self.changes.proxy(&self.lives) {
            Some(proxy) => proxy,
            None => self.allocate_incarnation().await?,
        };
        let open = self.changes.begin(proxy);
        match self.ask(ControlBody::Change { id: Some(open.id), expected, change }).await? {
            NoticeBody::Changed(result) => Ok(result),
            other => Err(unexpected(&other)),
        }
    }

    /// What the metadata leader knows of the cluster; none where it does not say soon, since all else goes on without it.
    pub async fn status(&self) -> Option<Box<Status>> {
        match tokio::time::timeout(STATUS_PATIENCE, self.ask(ControlBody::Status)).await {
            Ok(Ok(NoticeBody::Status(status))) => Some(status),
            Ok(Ok(_) | Err(_)) | Err(_) => None,
        }
    }

    async fn ask(&self, body: ControlBody) -> SqlResult<NoticeBody> {
        self.requests.ask(body).await
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Where cuts are asked for.
    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }
}

/// The way to the metadata leader.
#[derive(Clone)]
pub(super) struct Requests(mpsc::UnboundedSender<Question>);

impl Requests {
    pub(super) async fn ask(&self, body: ControlBody) -> SqlResult<NoticeBody> {
        let (reply, answer) = oneshot::channel();
        self.0.send((body, Some(reply))).map_err(|_| not_yet())?;
        answer.await.map_err(|_| {
            SqlError::new(
                SqlState::STATEMENT_COMPLETION_UNKNOWN,
                "the connection to the metadata service was lost before it answered",
            )
        })
    }

    /// Says something that is not answered. Where nobody hears it, the end of the connection says enough.
    pub(super) fn tell(&self, body: ControlBody) {
        let _ = self.0.send((body, None));
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

pub(super) fn unexpected(notice: &NoticeBody) -> SqlError {
    if let NoticeBody::Failed { reason } = notice {
        return SqlError::new(SqlState::CANNOT_CONNECT_NOW, reason.clone());
    }
    SqlError::internal("the metadata service answered another question")
}

/// With whoever waits for the answer, if there is one.
type Question = (ControlBody, Option<oneshot::Sender<NoticeBody>>);
type Queue = mpsc::UnboundedReceiver<Question>;

/// What was asked over one connection and has not been answered.
#[derive(Clone, Default)]
struct Waiting {
    asked: Arc<Mutex<BTreeMap<u32, Question>>>,
    /// Of which nothing came: whoever was asked does not lead.
    unheard: Arc<Mutex<Vec<Question>>>,
}

impl Waiting {
    fn asked(&self) -> MutexGuard<'_, BTreeMap<u32, Question>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unheard(&self) -> MutexGuard<'_, Vec<Question>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked again, elsewhere, after the connection was lost: schema changes, too, which have identities.
    fn again(&self) -> Vec<Question> {
        let mut again = std::mem::take(&mut *self.unheard());
        let asked = std::mem::take(&mut *self.asked());
        again.extend(asked.into_values());
        again
    }
}

/// Keeps one connection to the metadata leader; ends when the cluster handle is gone.
async fn watch_metadata(
    addresses: Vec<SocketAddr>,
    key: Option<Key>,
    publish: watch::Sender<Option<Arc<View>>>,
    mut queue: Queue,
) {
    let mut partial = Partial::default();
    let mut seek = Seek::new(addresses);
    let mut again: Vec<Question> = Vec::new();
    // What has been said since the leader was there last.
    let (mut since, mut said) = (Instant::now(), BTreeSet::new());
    while let Some(next) = seek.next_try() {
        if publish.is_closed() {
            return;
        }
        let address = next.address;
        let opening = connection::open(address, key.as_ref(), partial.cluster(), Role::Client);
        match tokio::time::timeout(CONNECTING, opening).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((read, write, _)) => {
                if !std::mem::take(&mut said).is_empty() {
                    tracing::info!(%address, "the metadata group is reached");
                }
                let waiting = Waiting::default();
                let reading = receive(read, &waiting, &mut partial, &publish);
                let writing = send(write, &waiting, std::mem::take(&mut again), &mut queue);
                let lost = tokio::select! {
                    lost = reading => lost,
                    result = writing => match result {
                        Ok(()) => return,
                        Err(error) => Lost::Broken(error),
                    },
                };
                again = waiting.again();
                since = Instant::now();
                if let Some(map) = &partial.map {
                    seek.learn(map);
                }
                match lost {
                    Lost::Elsewhere(leader) => {
                        seek.told(leader);
                        if leader.is_some_and(|leader| leader != address) {
                            continue;
                        }
                    }
                    Lost::Broken(error) => {
                        if error.kind() == io::ErrorKind::TimedOut {
                            seek.lost_silent();
                        }
                        tracing::warn!(%address, %error, "lost the metadata leader");
                    }
                }
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    seek.lost_silent();
                }
                if since.elapsed() >= UNSAID && said.insert((address, error.to_string())) {
                    tracing::warn!(%address, %error, "the metadata group is not reached there");
                }
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Why a connection is of no more use.
enum Lost {
    /// The decisions are made elsewhere, if it is known where.
    Elsewhere(Option<SocketAddr>),
    Broken(io::Error),
}

/// Writes what is asked; `Ok` when nobody can ask any more.
async fn send(mut write: WriteHalf, waiting: &Waiting, again: Vec<Question>, queue: &mut Queue) -> io::Result<()> {
    let mut out = Vec::new();
    Message::Control(Control { number: WATCH, body: ControlBody::Watch }).write(&mut out);
    let mut number = FIRST_NUMBER;
    let mut ask = |(body, reply): Question, out: &mut Vec<u8>| {
        if reply.is_none() {
            return Message::Control(Control { number: 0, body }).write(out);
        }
        Message::Control(Control { number, body: body.clone() }).write(out);
        waiting.asked().insert(number, (body, reply));
        number = number.checked_add(1).unwrap_or(FIRST_NUMBER);
    };
    again.into_iter().for_each(|question| ask(question, &mut out));
    let mut pulse = tokio::time::interval(PULSE);
    loop {
        write.write_all(&out).await?;
        out.clear();
        tokio::select! {
            question = queue.recv() => match question {
                Some(question) => {
                    ask(question, &mut out);
                    while let Ok(more) = queue.try_recv() {
                        ask(more, &mut out);
                    }
                }
                None => return Ok(()),
            },
            _ = pulse.tick() => {
                let body = ControlBody::RenewProxies { incarnations: Vec::new() };
                Message::Control(Control { number: ALIVE, body }).write(&mut out);
            }
        }
    }
}

/// Reads until the connection is of no more use.
async fn receive(
    mut read: ReadHalf,
    waiting: &Waiting,
    partial: &mut Partial,
    publish: &watch::Sender<Option<Arc<View>>>,
) -> Lost {
    let mut input = BytesMut::new();
    loop {
        loop {
            let (notice, used) = match first_notice(&input) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => return Lost::Broken(error),
            };
            input.advance(used);
            let asked = waiting.asked().remove(&notice.number);
            match (asked, notice.body) {
                (asked, NoticeBody::NotLeader { leader }) => {
                    waiting.unheard().extend(asked);
                    return Lost::Elsewhere(leader);
                }
                (Some((_, reply)), body) => drop(reply.map(|reply| reply.send(body))),
                (None, body) => partial.take(body, publish),
            }
        }
        connection::reserve(&mut input);
        match tokio::time::timeout(SILENCE, read.read_buf(&mut input)).await {
            Ok(Ok(0)) => return Lost::Broken(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Lost::Broken(error),
            Err(_) => return Lost::Broken(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
        }
    }
}

fn first_notice(input: &[u8]) -> io::Result<Option<(Notice, usize)>> {
    let Some((frame, used)) = RawFrame::split(input).map_err(invalid)? else { return Ok(None) };
    match Message::decode(frame).map_err(invalid)? {
        Message::Notice(notice) => Ok(Some((notice, used))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a notice")),
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
            | NoticeBody::GivenUp(_)
            | NoticeBody::Recovered(_)
            | NoticeBody::Status(_)
            | NoticeBody::Cut { .. }
            | NoticeBody::Capture { .. }
            | NoticeBody::Release { .. }
            | NoticeBody::DropCut(_)
            | NoticeBody::Cuts { .. }
            | NoticeBody::Deadlock { .. }
            | NoticeBody::Inquiry(_)
            | NoticeBody::Failed { .. } => return,
        }
        if let (Some(map), Some(catalog)) = (&self.map, &self.catalog) {
            let view = View { map: map.clone(), catalog: catalog.clone(), ready: self.ready };
            publish.send_replace(Some(Arc::new(view)));
        }
    }
}
