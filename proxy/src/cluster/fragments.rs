//! Fragments of distributed queries: sent to workers over connections of their own, their batches streamed back under credit.

use super::client::{table_locked, too_large};
use super::connection::{self, invalid};
use super::cuts::HeldCut;
use super::stream::{ReadHalf, WriteHalf};
use super::{Cluster, View};
use crate::merge::FragmentClient;
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use toroid_common::coordinator::Reads;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, ClusterId, CutId, Epoch, Incarnation, PartitionId, TableId, WorkerId};
use toroid_common::limits::MAX_ENTRY_BYTES;
use toroid_common::routing::{self, Next, Trouble};
use toroid_common::secret::Key;
use toroid_common::wire::{Fragment, FragmentOutcome, Message, RawFrame, Refusal, Role};

/// Batches that may be under way for one fragment.
const CREDIT: u32 = 8;
/// Credit is given back in steps, to save frames.
const CREDIT_STEP: u32 = CREDIT / 2;

/// All fragments of a proxy.
pub struct Fragments {
    cluster: Arc<Cluster>,
    incarnation: AtomicU64,
    sequence: AtomicU64,
    /// By worker, with the life of the node that each leads to.
    links: Mutex<BTreeMap<WorkerId, (Incarnation, UnboundedSender<Command>)>>,
    runtime: tokio::runtime::Handle,
}

enum Command {
    Start { sequence: u64, frame: Vec<u8>, sink: Sink },
    Credit { sequence: u64 },
    Cancel { sequence: u64 },
}

/// Where the pieces of one fragment go.
struct Sink {
    pieces: UnboundedSender<Piece>,
    /// Until the first piece: its query waits for that.
    silent: Option<Arc<QueryFragments>>,
}

impl Sink {
    /// Whoever read may have gone.
    fn put(&mut self, piece: Piece) {
        let silent = self.silent.take();
        if let (Some(query), Piece::End(FragmentOutcome::Refused(refusal))) = (&silent, &piece) {
            query.note(Trouble::Refused(*refusal));
        }
        drop(self.pieces.send(piece));
        if let Some(query) = silent {
            query.heard();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(query) = self.silent.take() {
            query.heard();
        }
    }
}

enum Piece {
    Batch(Bytes),
    End(FragmentOutcome),
    Lost,
}

impl Fragments {
    /// Connections will live on this runtime.
    pub async fn new(cluster: Arc<Cluster>, runtime: tokio::runtime::Handle) -> SqlResult<Arc<Fragments>> {
        let incarnation = AtomicU64::new(cluster.allocate_incarnation().await?.0);
        let (sequence, links) = (AtomicU64::new(1), Mutex::default());
        let deaths = cluster.lives().deaths();
        let fragments = Arc::new(Fragments { cluster, incarnation, sequence, links, runtime });
        fragments.runtime.spawn(follow_deaths(deaths, Arc::downgrade(&fragments)));
        Ok(fragments)
    }

    fn link(self: &Arc<Self>, worker: WorkerId, view: &View) -> SqlResult<UnboundedSender<Command>> {
        let node = view.map.node(worker.node);
        let (Some(address), Some(node)) = (view.map.address(worker), node) else {
            return Err(SqlError::internal(format!("worker {worker} has no address")));
        };
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((incarnation, link)) = links.get(&worker)
            && !link.is_closed()
            && *incarnation == node.incarnation
        {
            return Ok(link.clone());
        }
        let (commands, queue) = unbounded_channel();
        links.insert(worker, (node.incarnation, commands.clone()));
        let role = Role::Proxy { incarnation: Incarnation(self.incarnation.load(Ordering::Relaxed)) };
        let key = self.cluster.key().cloned();
        self.runtime.spawn(run_link(address, key, view.map.cluster, role, queue));
        Ok(commands)
    }
}

/// Takes another incarnation when this one is dead to the cluster.
async fn follow_deaths(mut deaths: watch::Receiver<u64>, fragments: Weak<Fragments>) {
    while deaths.changed().await.is_ok() {
        let Some(fragments) = fragments.upgrade() else { return };
        let current = Incarnation(fragments.incarnation.load(Ordering::Relaxed));
        if fragments.cluster.lives().is_alive(current) {
            continue;
        }
        let another = fragments.cluster.another_incarnation("distributed queries wait").await;
        fragments.incarnation.store(another.0, Ordering::Relaxed);
        fragments.links.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The state that the fragments of a query read.
#[derive(Clone, Default)]
pub enum Snapshot {
    /// Each worker's present one: for a query of one fragment.
    #[default]
    Present,
    /// A cut's, opened for this query alone: when it is lost before the client has seen anything, another one does as well.
    Own(Arc<HeldCut>),
    /// A cut's that outlives the query: the client has seen other rows of it.
    Shared(Arc<HeldCut>),
}

impl Snapshot {
    fn cut(&self) -> Option<CutId> {
        match self {
            Snapshot::Present => None,
            Snapshot::Own(cut) | Snapshot::Shared(cut) => Some(cut.id()),
        }
    }
}

/// The fragments of one query: they run against the table versions that it was planned for.
pub struct QueryFragments {
    fragments: Arc<Fragments>,
    view: Arc<View>,
    tables: Vec<(TableId, CatalogVersion)>,
    env: Vec<u8>,
    snapshot: Snapshot,
    /// The transaction whose own writes they see as well.
    within: Option<Reads>,
    /// Why it came to nothing, when running it again may help.
    trouble: Mutex<Option<Trouble>>,
    /// Fragments that were sent and of which nothing has been heard.
    silent: watch::Sender<usize>,
}

impl QueryFragments {
    pub fn new(
        fragments: Arc<Fragments>,
        view: Arc<View>,
        tables: Vec<(TableId, CatalogVersion)>,
        env: Vec<u8>,
        snapshot: Snapshot,
        within: Option<Reads>,
    ) -> Arc<QueryFragments> {
        Arc::new(QueryFragments {
            fragments,
            view,
            tables,
            env,
            snapshot,
            within,
            trouble: Mutex::default(),
            silent: watch::Sender::new(0),
        })
    }

    /// Whether the query failed only because it was planned against a catalog or map that is no more, or a node was lost: then planning it again
    /// helps. `attempts` and `waited_ms` are of the query so far.
    pub async fn replannable(&self, attempts: u32, waited_ms: u32) -> SqlResult<bool> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(trouble) = trouble else { return Ok(false) };
        let known = self.view.map.version;
        let trouble = match (trouble, &self.snapshot) {
            // The present state is another one, and there will be no more of this one.
            (Trouble::Refused(Refusal::NoCut | Refusal::BehindCatalog { .. }) | Trouble::Lost, Snapshot::Shared(_)) => {
                return Ok(false);
            }
            (Trouble::Refused(Refusal::NoCut), Snapshot::Own(_)) => Trouble::Refused(Refusal::Busy),
            // A transaction is undecided where it reads: a cut tells whether it is committed.
            (Trouble::Refused(Refusal::NoCut), Snapshot::Present) => Trouble::Moved,
            (trouble, _) => trouble,
        };
        match routing::after(trouble, attempts, waited_ms, known) {
            Some(Next::Replan(version)) => self.fragments.cluster.catalog(version).await.map(|_| true),
            Some(Next::AwaitMap(version)) => self.fragments.cluster.map(version).await.map(|_| true),
            Some(Next::Resend { after_ms }) => {
                let newer = self.fragments.cluster.map_after(known);
                drop(tokio::time::timeout(Duration::from_millis(u64::from(after_ms)), newer).await);
                Ok(true)
            }
            Some(Next::RegisterPlan) | None => Ok(false),
        }
    }

    /// Whether a worker could not say what its present state is, but what that of a cut is.
    pub fn lacks_cut(&self) -> bool {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble == Some(Trouble::Refused(Refusal::NoCut))
    }

    /// Whether somebody else lets nobody read one of its tables.
    pub fn meets_table_lock(&self) -> bool {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble == Some(Trouble::Refused(Refusal::TableLocked))
    }

    /// Waits until every worker that was asked has answered something. False when one of them did not execute its fragment: nothing that the others sent
    /// may reach the client before that is known, for then the query could not be run again.
    pub async fn accepted(&self) -> bool {
        let mut silent = self.silent.subscribe();
        // The sender lives as long as this.
        let _ = silent.wait_for(|count| *count == 0).await;
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn heard(&self) {
        self.silent.send_modify(|count| *count -= 1);
    }

    /// A refusal of one worker is more telling than the connections that are lost because of it.
    fn note(&self, trouble: Trouble) {
        let mut noted = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*noted, Some(Trouble::Refused(_))) {
            *noted = Some(trouble);
        }
    }

    fn refused(&self, refusal: Refusal) -> SqlError {
        self.note(Trouble::Refused(refusal));
        if refusal == Refusal::TableLocked {
            return table_locked();
        }
        SqlError::new(SqlState::SERIALIZATION_FAILURE, format!("the query's plan is out of date: {refusal:?}"))
    }
}

impl FragmentClient for Arc<QueryFragments> {
    fn run(
        &self,
        worker: WorkerId,
        partitions: Vec<(PartitionId, Epoch)>,
        plan: Bytes,
    ) -> BoxStream<'static, SqlResult<Bytes>> {
        let query = self.clone();
        if plan.len() + query.env.len() > MAX_ENTRY_BYTES {
            return stream::once(async { Err(too_large()) }).boxed();
        }
        let sequence = query.fragments.sequence.fetch_add(1, Ordering::Relaxed);
        let link = match query.fragments.link(worker, &query.view) {
            Ok(link) => link,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let count = |reads: &Reads, partition| reads.earlier.get(partition).copied().unwrap_or_default();
        let takes_part = |reads: &Reads| partitions.iter().any(|(partition, _)| reads.earlier.contains_key(partition));
        let own = query.within.as_ref().filter(|reads| reads.changes_schema || takes_part(reads));
        let earlier = own.map(|reads| partitions.iter().map(|(p, _)| count(reads, p)).collect()).unwrap_or_default();
        let in_transaction = own.is_some_and(takes_part) || matches!(query.snapshot, Snapshot::Shared(_));
        let mut frame = Vec::new();
        Message::Fragment(Fragment {
            sequence,
            credit: CREDIT,
            cut: query.snapshot.cut(),
            within: own.map(|reads| reads.within),
            coordinator: own.map(|reads| reads.coordinator).unwrap_or_default(),
            earlier,
            partitions,
            tables: query.tables.clone(),
            env: &query.env,
            plan: &plan,
        })
        .write(&mut frame);
        let (sender, pieces) = unbounded_channel();
        query.silent.send_modify(|count| *count += 1);
        let sink = Sink { pieces: sender, silent: Some(query.clone()) };
        // A link that ended meanwhile drops the sink, which reads as a lost connection.
        drop(link.send(Command::Start { sequence, frame, sink }));
        let running = Running { query, link, sequence, pieces, in_transaction, taken: 0, ended: false };
        stream::unfold(running, |mut running| async move { running.next().await.map(|item| (item, running)) }).boxed()
    }
}

/// A fragment whose batches are being read; dropping it cancels the fragment.
struct Running {
    query: Arc<QueryFragments>,
    link: UnboundedSender<Command>,
    sequence: u64,
    pieces: UnboundedReceiver<Piece>,
    /// It sees what its transaction wrote, or has seen before: when that is lost, reading again does not help.
    in_transaction: bool,
    taken: u32,
    ended: bool,
}

impl Running {
    async fn next(&mut self) -> Option<SqlResult<Bytes>> {
        if self.ended {
            return None;
        }
        match self.pieces.recv().await {
            Some(Piece::Batch(bytes)) => {
                self.taken += 1;
                if self.taken.is_multiple_of(CREDIT_STEP) {
                    drop(self.link.send(Command::Credit { sequence: self.sequence }));
                }
                Some(Ok(bytes))
            }
            Some(Piece::End(outcome)) => {
                self.ended = true;
                match outcome {
                    FragmentOutcome::Done { .. } => None,
                    FragmentOutcome::Error(error) => {
                        if error.state() == SqlState::SERIALIZATION_FAILURE && !self.in_transaction {
                            // The partition moved while it was read.
                            self.query.note(Trouble::Moved);
                        }
                        Some(Err(error))
                    }
                    FragmentOutcome::Refused(refusal) => Some(Err(self.query.refused(refusal))),
                }
            }
            Some(Piece::Lost) | None => {
                self.ended = true;
                self.query.note(Trouble::Lost);
                let text = "the connection to a storage node was lost while the query ran";
                Some(Err(SqlError::new(SqlState::SERIALIZATION_FAILURE, text)))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            drop(self.link.send(Command::Cancel { sequence: self.sequence }));
        }
    }
}

/// One connection for fragments; when it ends, the next fragment opens another.
async fn run_link(
    address: SocketAddr,
    key: Option<Key>,
    cluster: ClusterId,
    role: Role,
    queue: UnboundedReceiver<Command>,
) {
    let mut sinks = BTreeMap::new();
    let result = match connection::open(address, key.as_ref(), Some(cluster), role).await {
        Ok((read, write, _)) => exchange(read, write, queue, &mut sinks).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::warn!(%address, %error, "connection for fragments ended");
    }
    for mut sink in sinks.into_values() {
        sink.put(Piece::Lost);
    }
}

async fn exchange(
    mut read: ReadHalf,
    mut write: WriteHalf,
    mut queue: UnboundedReceiver<Command>,
    sinks: &mut BTreeMap<u64, Sink>,
) -> io::Result<()> {
    let mut input = connection::read_buffer();
    let mut out = Vec::new();
    loop {
        tokio::select! {
            command = queue.recv() => {
                let Some(command) = command else { return Ok(()) };
                take_command(command, sinks, &mut out);
                while let Ok(command) = queue.try_recv() {
                    take_command(command, sinks, &mut out);
                }
                write.write_all(&out).await?;
                out.clear();
            }
            read = read.read_buf(&mut input) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                take_frames(&mut input, sinks)?;
                connection::reserve(&mut input);
            }
        }
    }
}

fn take_command(command: Command, sinks: &mut BTreeMap<u64, Sink>, out: &mut Vec<u8>) {
    match command {
        Command::Start { sequence, frame, sink } => {
            sinks.insert(sequence, sink);
            out.extend_from_slice(&frame);
        }
        Command::Credit { sequence } => {
            Message::FragmentCredit { sequence, batches: CREDIT_STEP }.write(out);
        }
        Command::Cancel { sequence } => {
            if sinks.remove(&sequence).is_some() {
                Message::FragmentCancel { sequence }.write(out);
            }
        }
    }
}

fn take_frames(input: &mut BytesMut, sinks: &mut BTreeMap<u64, Sink>) -> io::Result<()> {
    loop {
        let (sequence, piece, used) = {
            let Some((frame, used)) = RawFrame::split(input).map_err(invalid)? else { return Ok(()) };
            match Message::decode(frame).map_err(invalid)? {
                Message::FragmentBatch(batch) => (batch.sequence, Ok(batch.bytes.len()), used),
                Message::FragmentEnd(end) => (end.sequence, Err(end.outcome), used),
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not of a fragment")),
            }
        };
        match piece {
            Ok(length) => {
                // The batch is the end of its frame: lent out of the receive buffer, not copied.
                let mut frame = input.split_to(used).freeze();
                frame.advance(used - length);
                if let Some(sink) = sinks.get_mut(&sequence) {
                    sink.put(Piece::Batch(frame));
                }
            }
            Err(outcome) => {
                input.advance(used);
                if let Some(mut sink) = sinks.remove(&sequence) {
                    sink.put(Piece::End(outcome));
                }
            }
        }
    }
}
