//! A node's line to the metadata service: joins, passes map and catalog on to the workers, gathers their reports, keeps the lease.

mod sending;

use crate::clock::Clock;
use crate::complaint::Said;
use crate::frames::{self, Reading, Writing};
use crate::letter::{Letter, Postbox, WorkerReport};
use crate::metadata::Hosted;
use crate::neighbours::Neighbours;
use metrics::counter;
use sending::Sending;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use toroid_common::id::{ClusterId, CutId, Incarnation, MapVersion, NodeId, PartitionId, TransactionId, WorkerId};
use toroid_common::limits::LEASE_MICROS;
use toroid_common::secret::Key;
use toroid_common::seek::Seek;
use toroid_common::wire::{
    Control, ControlBody, Hello, Message, NodeAnnouncement, NodeLoad, NoticeBody, PROTOCOL_VERSION, Role,
};
use toroid_engine::gate::Time;

/// The node says what it holds with every so manieth renewal.
const RENEWALS_PER_LOAD: u32 = 5;
const RENEWAL: Duration = Duration::from_millis(100);
const RECONNECT: Duration = Duration::from_millis(50);
/// How long joining may take, before it is tried elsewhere.
const JOINING: Duration = Duration::from_millis(500);
/// What keeps a node from joining is not worth a line for so long: processes start in any order, and leaders change.
const UNSAID: Duration = Duration::from_secs(1);
/// A line on which no renewal was answered for so long leads to nobody who leads.
const SILENCE_MICROS: u64 = 300_000;

/// The number of a join; renewals count on from the next.
const JOIN: u32 = 1;

/// What a node became by joining.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub incarnation: Incarnation,
}

/// The line, while it stands.
pub struct Line {
    reader: Reading,
    write: Writing,
    leader: SocketAddr,
}

/// How a node comes to its cluster, and shows that it belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Way<'k> {
    pub neighbours: &'k Neighbours,
    pub key: Option<&'k Key>,
    /// The cluster that it was in before; another one refuses it.
    pub cluster: Option<ClusterId>,
}

/// Why a node is not in, this time.
enum Rebuff {
    /// The decisions are made elsewhere.
    Elsewhere(Option<SocketAddr>),
    /// The leader says no.
    Failed(String),
    Unreachable(io::Error),
}

impl From<io::Error> for Rebuff {
    fn from(error: io::Error) -> Rebuff {
        Rebuff::Unreachable(error)
    }
}

/// Connects to the leader, as often as it takes, and announces the node.
pub async fn join(seek: &mut Seek, way: Way<'_>, node: &NodeAnnouncement) -> (Line, Joined) {
    let (begun, mut said) = (Instant::now(), Said::default());
    loop {
        let Some(next) = seek.next_try() else { std::future::pending().await };
        let address = next.address;
        let tried = tokio::time::timeout(JOINING, try_join(address, way, node)).await;
        let tried = tried.unwrap_or_else(|_| {
            seek.lost_silent();
            Err(Rebuff::Unreachable(io::ErrorKind::TimedOut.into()))
        });
        match tried {
            Ok(joined) => {
                seek.found();
                return joined;
            }
            Err(Rebuff::Elsewhere(leader)) => {
                seek.told(leader);
                if leader.is_some_and(|leader| leader != address) {
                    continue;
                }
            }
            Err(Rebuff::Failed(reason)) => {
                // It is the leader: it will be asked again.
                seek.found();
                if said.is_new(Some(address.ip()), &reason) {
                    tracing::warn!(%address, reason, "the cluster does not take this node yet");
                }
            }
            Err(Rebuff::Unreachable(error)) => {
                // This node itself leads to nobody before it has joined.
                let tells = address != node.control && begun.elapsed() >= UNSAID;
                if tells && said.is_new(Some(address.ip()), &format!("{} {error}", address.port())) {
                    tracing::warn!(%address, %error, "the metadata group is not reached there");
                }
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn try_join(address: SocketAddr, way: Way<'_>, node: &NodeAnnouncement) -> Result<(Line, Joined), Rebuff> {
    let hello = Hello { version: PROTOCOL_VERSION, cluster: way.cluster, role: Role::Node { node: node.node } };
    let join = Message::Control(Control { number: JOIN, body: ControlBody::Join(node.clone()) });
    let connecting = way.neighbours.connect(address);
    let (mut reader, write) = frames::connect(connecting, way.key, hello, Some(&join)).await?;
    let answer = reader.next(|message| match message {
        Message::Notice(notice) => Ok(notice.body),
        _ => Err(frames::unexpected()),
    });
    match answer.await? {
        NoticeBody::Joined { cluster, node, incarnation } => {
            Ok((Line { reader, write, leader: address }, Joined { cluster, node, incarnation }))
        }
        NoticeBody::NotLeader { leader } => Err(Rebuff::Elsewhere(leader)),
        NoticeBody::Failed { reason } => Err(Rebuff::Failed(reason)),
        _ => Err(frames::unexpected().into()),
    }
}

/// What workers report: of maps, once all workers of the node have said it.
struct Gathered {
    workers: usize,
    maps: BTreeMap<MapVersion, BTreeSet<WorkerId>>,
    loads: BTreeMap<WorkerId, (u64, Vec<(PartitionId, u64)>)>,
}

impl Gathered {
    /// What the node holds, all workers together.
    fn load(&self, limit: u64) -> NodeLoad {
        let memory = self.loads.values().map(|(memory, _)| memory).sum();
        let arrived = self.loads.values().flat_map(|(_, arrived)| arrived).copied().collect();
        NodeLoad { memory, limit, arrived }
    }

    fn add(&mut self, report: WorkerReport) -> Option<ControlBody> {
        match report {
            WorkerReport::Propose(proposal) => Some(ControlBody::Propose(proposal)),
            WorkerReport::Captured(captured) => Some(ControlBody::Captured(captured)),
            WorkerReport::Waits { worker, waits } => Some(ControlBody::Waits { worker, waits }),
            WorkerReport::Inquiry(inquiry) => Some(ControlBody::Inquiry(inquiry)),
            WorkerReport::Load { worker, memory, arrived } => {
                self.loads.insert(worker, (memory, arrived));
                None
            }
            WorkerReport::MapApplied { worker, version } => {
                let who = self.maps.entry(version).or_default();
                who.insert(worker);
                let whole = who.len() == self.workers;
                whole.then(|| {
                    // A worker may have passed over some that came before.
                    self.maps.retain(|before, _| *before > version);
                    ControlBody::MapApplied { version }
                })
            }
            WorkerReport::CatalogApplied { worker, version, map, result } => {
                Some(ControlBody::CatalogApplied { worker, version, map, result })
            }
        }
    }
}

/// The last reports of the node.
#[derive(Default)]
struct Last {
    map: Option<ControlBody>,
    catalogs: BTreeMap<WorkerId, ControlBody>,
}

impl Last {
    fn keep(&mut self, report: &ControlBody) {
        match report {
            ControlBody::MapApplied { .. } => self.map = Some(report.clone()),
            ControlBody::CatalogApplied { worker, .. } => drop(self.catalogs.insert(*worker, report.clone())),
            ControlBody::AllocateIncarnation
            | ControlBody::Watch
            | ControlBody::Change { .. }
            | ControlBody::Join(_)
            | ControlBody::Propose(_)
            | ControlBody::RenewLease { .. }
            | ControlBody::Load { .. }
            | ControlBody::RenewProxies { .. }
            | ControlBody::Leave { .. }
            | ControlBody::Drain { .. }
            | ControlBody::Remove { .. }
            | ControlBody::SetCopies { .. }
            | ControlBody::Recover { .. }
            | ControlBody::Status
            | ControlBody::OpenCut
            | ControlBody::CloseCut(_)
            | ControlBody::Captured(_)
            | ControlBody::Waits { .. }
            | ControlBody::Inquiry(_) => {}
        }
    }
}

/// What outlives a line.
struct Session<'s> {
    seek: &'s mut Seek,
    gathered: &'s mut Gathered,
    last: &'s mut Last,
    /// The latest term from which a lease came: earlier leaders may not know that they were replaced.
    term: &'s mut u64,
    /// Until when the last lease runs.
    lease: &'s mut Option<Time>,
}

/// The control task of a node that has joined.
pub struct ControlTask {
    /// Bytes that the node's partitions may take.
    pub memory: u64,
    pub hosted: Hosted,
    pub announcement: NodeAnnouncement,
    pub key: Option<Key>,
    pub neighbours: Neighbours,
    pub joined: Joined,
    pub clock: Clock,
    pub workers: Vec<Postbox>,
    pub ready: watch::Sender<bool>,
    pub standing: watch::Sender<Standing>,
}

/// How the node stands with the metadata group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not joined.
    Outside,
    /// It has a line to the leader.
    Led,
    /// It looks for the leader.
    Leaderless,
}

/// The node is about to stop: others are to become primaries of what it is primary of. The reply comes when they are; a closed channel means that
/// it was not heard.
pub type Leave = oneshot::Sender<NoticeBody>;

/// Where what is to be told to the metadata group comes from.
pub struct Queues {
    pub reports: UnboundedReceiver<WorkerReport>,
    pub leaves: UnboundedReceiver<Leave>,
}

impl ControlTask {
    /// Serves until the node cannot go on, and says why; joins again over a new line when one breaks.
    pub async fn run(self, mut line: Line, mut seek: Seek, mut queues: Queues) -> String {
        let mut gathered = Gathered { workers: self.workers.len(), maps: BTreeMap::new(), loads: BTreeMap::new() };
        // Told again over every new line: what was under way when the last one broke may not have arrived.
        let mut last = Last::default();
        let (mut term, mut lease) = (0, None);
        loop {
            self.hosted.leader(Some(line.leader));
            self.standing.send_replace(Standing::Led);
            let mut session = Session {
                seek: &mut seek,
                gathered: &mut gathered,
                last: &mut last,
                term: &mut term,
                lease: &mut lease,
            };
            match self.serve(&mut line, &mut queues, &mut session).await {
                Ok(()) => return "all workers have ended".to_owned(),
                Err(error) => tracing::warn!(leader = %line.leader, %error, "lost the metadata leader"),
            }
            self.hosted.leader(None);
            self.standing.send_replace(Standing::Leaderless);
            let cluster = Some(self.joined.cluster);
            let way = Way { neighbours: &self.neighbours, key: self.key.as_ref(), cluster };
            let (next, joined) = tokio::select! {
                found = join(&mut seek, way, &self.announcement) => found,
                () = keep_reports(&mut queues.reports, &mut gathered, &mut last) => {
                    return "all workers have ended".to_owned();
                }
            };
            if joined.incarnation != self.joined.incarnation {
                return "the cluster has given this node up, and does not know this life of it any more".to_owned();
            }
            line = next;
            tracing::info!(leader = %line.leader, "has a metadata leader again");
        }
    }

    async fn serve(&self, line: &mut Line, queues: &mut Queues, session: &mut Session<'_>) -> io::Result<()> {
        let Line { reader, write, leader: _ } = line;
        let (sending, outgoing) = sending::queues();
        let mut first = sending::frame(0, ControlBody::Watch);
        for body in session.last.map.iter().chain(session.last.catalogs.values()) {
            first.extend(sending::frame(0, body.clone()));
        }
        tokio::select! {
            ended = self.converse(reader, &sending, queues, session) => ended,
            result = outgoing.write(write, &first) => result,
        }
    }

    /// Never waits for the socket to take anything: that the leader is silent is noticed in time.
    async fn converse(
        &self,
        reader: &mut Reading,
        sending: &Sending,
        queues: &mut Queues,
        session: &mut Session<'_>,
    ) -> io::Result<()> {
        let Session { seek, gathered, last, term, lease } = session;
        let mut answered = self.clock.now();
        let mut renewals = tokio::time::interval(RENEWAL);
        let mut number = JOIN;
        let mut sent: BTreeMap<u32, Time> = BTreeMap::new();
        let mut asked: BTreeMap<u32, oneshot::Sender<NoticeBody>> = BTreeMap::new();
        loop {
            tokio::select! {
                notice = reader.next(|message| match message {
                    Message::Notice(notice) => Ok(notice),
                    _ => Err(frames::unexpected()),
                }) => {
                    let notice = notice?;
                    let renewed = sent.remove(&notice.number);
                    match (asked.remove(&notice.number), notice.body) {
                        // Who asked may have gone.
                        (Some(reply), body) => drop(reply.send(body)),
                        (None, NoticeBody::NotLeader { leader }) => {
                            seek.told(leader);
                            return Err(io::Error::other("it leads no more"));
                        }
                        (None, NoticeBody::LeaseRenewed { term: from }) if from >= **term => {
                            **term = from;
                            answered = self.clock.now();
                            self.renew(renewed, lease);
                        }
                        (None, body) => {
                            if let NoticeBody::Map(map) = &body {
                                seek.learn(map);
                            }
                            self.take(body);
                        }
                    }
                }
                _ = renewals.tick() => {
                    if self.clock.now() >= answered.after(SILENCE_MICROS) {
                        seek.lost_silent();
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "no renewal of the lease is answered"));
                    }
                    number = number.checked_add(1).unwrap_or(JOIN + 1);
                    sent.insert(number, self.clock.now());
                    self.ask_renewal(sending, number, gathered)?;
                }
                leave = queues.leaves.recv() => {
                    let Some(reply) = leave else { return Ok(()) };
                    number = number.checked_add(1).unwrap_or(JOIN + 1);
                    asked.insert(number, reply);
                    let Joined { node, incarnation, .. } = self.joined;
                    sending.urgent(number, ControlBody::Leave { node, incarnation })?;
                }
                report = sending.next(queues.reports.recv()) => {
                    let Some((report, room)) = report else { return Ok(()) };
                    if let Some(body) = gathered.add(report) {
                        last.keep(&body);
                        room.put(body);
                    }
                }
            }
        }
    }

    /// Asks for another lease, and says now and then what the node holds.
    fn ask_renewal(&self, sending: &Sending, number: u32, gathered: &Gathered) -> io::Result<()> {
        let Joined { node, incarnation, .. } = self.joined;
        sending.urgent(number, ControlBody::RenewLease { node, incarnation })?;
        if number.is_multiple_of(RENEWALS_PER_LOAD) {
            let load = gathered.load(self.memory);
            sending.urgent(0, ControlBody::Load { node, incarnation, load })?;
        }
        Ok(())
    }

    fn renew(&self, sent: Option<Time>, lease: &mut Option<Time>) {
        let Some(sent) = sent else { return };
        let until = sent.after(LEASE_MICROS);
        let now = self.clock.now();
        if let Some(ended) = lease.filter(|ended| *ended < now) {
            // This process lived all the time: what it was asked meanwhile had to wait.
            counter!("toroid_lease_lapses_total").increment(1);
            tracing::warn!(micros = now.0 - ended.0, "the node's lease had ended before it was renewed");
        }
        *lease = (*lease).max(Some(until));
        self.post(|| Letter::Lease { until });
    }

    /// To every worker of the node.
    fn post(&self, letter: impl Fn() -> Letter) {
        self.workers.iter().for_each(|worker| worker.post(letter()));
    }

    fn take(&self, body: NoticeBody) {
        match body {
            NoticeBody::Map(map) => {
                let map = Arc::new(map);
                self.post(|| Letter::Map(Arc::clone(&map)));
            }
            NoticeBody::Catalog(catalog) => {
                let catalog = Arc::new(catalog);
                self.post(|| Letter::Catalog(Arc::clone(&catalog)));
            }
            NoticeBody::Proxies { alive, below } => {
                let alive: Arc<[Incarnation]> = alive.into();
                self.post(|| Letter::Proxies { below, alive: Arc::clone(&alive) });
            }
            NoticeBody::Capture { cut, map } => self.post(|| Letter::Capture { cut, map }),
            NoticeBody::Release { cut, committed } => {
                let committed: Option<Arc<[TransactionId]>> = committed.map(Into::into);
                self.post(|| Letter::Release { cut, committed: committed.clone() });
            }
            NoticeBody::DropCut(cut) => self.post(|| Letter::DropCut(cut)),
            NoticeBody::Cuts { term, read } => {
                let read: Arc<[CutId]> = read.into();
                self.post(|| Letter::Cuts { term, read: Arc::clone(&read) });
            }
            NoticeBody::Deadlock { worker, transaction, wait, detail } => {
                if let Some(postbox) = self.workers.get(usize::from(worker.index)) {
                    postbox.post(Letter::Deadlock { transaction, wait, detail });
                }
            }
            NoticeBody::Inquiry(told) => self.post(|| Letter::Inquiry(told.clone())),
            NoticeBody::Ready => {
                self.ready.send_replace(true);
            }
            NoticeBody::Failed { reason } => tracing::warn!(reason, "the metadata service refused a request"),
            NoticeBody::Joined { .. }
            | NoticeBody::Incarnation(_)
            | NoticeBody::Changed(_)
            | NoticeBody::NotLeader { .. }
            | NoticeBody::LeaseRenewed { .. }
            | NoticeBody::Done
            | NoticeBody::GivenUp(_)
            | NoticeBody::Recovered(_)
            | NoticeBody::Status(_)
            | NoticeBody::Cut { .. } => {}
        }
    }
}

/// Takes workers' reports while no leader does, and keeps what a new one is told; ends with the workers. What they propose or ask they do again.
async fn keep_reports(reports: &mut UnboundedReceiver<WorkerReport>, gathered: &mut Gathered, last: &mut Last) {
    while let Some(report) = reports.recv().await {
        if let Some(body) = gathered.add(report) {
            last.keep(&body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn while_nobody_leads_only_the_last_reports_are_kept() {
        let workers = [0, 1].map(|index| WorkerId { node: NodeId(1), index });
        let (reports, mut queue) = tokio::sync::mpsc::unbounded_channel();
        for version in (1..=20).map(MapVersion) {
            for worker in workers {
                // One worker passes some over.
                if worker.index == 0 || version.0 % 5 == 0 {
                    reports.send(WorkerReport::MapApplied { worker, version }).unwrap();
                }
                reports.send(WorkerReport::Load { worker, memory: version.0, arrived: Vec::new() }).unwrap();
                reports.send(WorkerReport::Waits { worker, waits: Vec::new() }).unwrap();
            }
        }
        drop(reports);
        let mut gathered = Gathered { workers: 2, maps: BTreeMap::new(), loads: BTreeMap::new() };
        let mut last = Last::default();
        keep_reports(&mut queue, &mut gathered, &mut last).await;
        assert!(matches!(last.map, Some(ControlBody::MapApplied { version: MapVersion(20) })));
        assert_eq!((gathered.maps.len(), gathered.load(0).memory), (0, 40));
    }
}
