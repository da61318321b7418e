//! Starting and ending a storage node: ports, threads, and the order in which they come and go.

use crate::clock::Clock;
use crate::config::{Bootstrap, Host, NodeConfig, StartError};
use crate::control::{self, ControlTask, Leave, Queues, Standing, Way};
use crate::data_dir::{DataDir, NodeIdentity};
use crate::event_loop::{EventLoop, Port};
use crate::letter::{Letter, Postbox, WorkerReport};
use crate::metadata::{Founding, Host as MetadataHost, Hosted, Seat};
use crate::outside::Outside;
use crate::stream::Listener;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use toroid_common::id::{ClusterId, NodeId, WorkerId};
use toroid_common::limits::{MAX_PARTITIONS, STATEMENT_STACK_BYTES};
use toroid_common::near::Place;
use toroid_common::seek::Seek;
use toroid_common::wire::{NodeAnnouncement, NoticeBody};
use toroid_engine::worker::Identity;
use toroid_query::memory::Budget;
use toroid_query::schedule;

/// How long a node that is told to end waits to be let go, at the longest; the metadata group has less patience.
const LEAVING: Duration = Duration::from_secs(90);
/// How long it looks for a leader that could let it go.
const LEADERLESS: Duration = Duration::from_secs(10);
const LEAVE_AGAIN: Duration = Duration::from_millis(50);
/// Where the metadata group's log is, in the data directory.
const METADATA: &str = "metadata";
/// The node that makes a cluster.
const FIRST_NODE: NodeId = NodeId(1);

/// A running storage node. Dropping it ends the node, too.
pub struct NodeHandle {
    metadata: SocketAddr,
    control_address: SocketAddr,
    ready: watch::Receiver<bool>,
    postboxes: Vec<Postbox>,
    leaves: UnboundedSender<Leave>,
    standing: watch::Receiver<Standing>,
    failed: Option<oneshot::Receiver<String>>,
    stop: Option<oneshot::Sender<()>>,
    control: Option<Control>,
    pool: Option<Runtime>,
}

impl NodeHandle {
    /// Where the cluster's metadata service is: on this node, or where it joined.
    pub fn metadata_address(&self) -> SocketAddr {
        self.metadata
    }

    /// Where the node receives control messages.
    pub fn control_address(&self) -> SocketAddr {
        self.control_address
    }

    /// True once every partition of the cluster has all its copies.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Has others take over what the node is primary of: afterwards no statement waits for this node. That may take as long as it takes to copy rows
    /// that nobody else has; the metadata group says when it is no use to wait. A node that is in no cluster leaves at once.
    pub async fn leave(&self) {
        if *self.standing.borrow() == Standing::Outside {
            return;
        }
        let waiting = async {
            tokio::select! {
                () = self.ask_to_leave() => {}
                () = self.forlorn() => {
                    tracing::error!("no metadata leader was found: others take over only after the node has stopped");
                }
            }
        };
        if tokio::time::timeout(LEAVING, waiting).await.is_err() {
            tracing::error!("the metadata group does not let this node go; it stops all the same");
        }
    }

    async fn ask_to_leave(&self) {
        loop {
            let (reply, answer) = oneshot::channel();
            if self.leaves.send(reply).is_err() {
                return;
            }
            match answer.await {
                Ok(NoticeBody::Done) => return,
                Ok(NoticeBody::GivenUp(partitions)) => {
                    let partitions = partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    return tracing::error!(
                        partitions,
                        "nobody has taken over these partitions, of which this node is primary"
                    );
                }
                Ok(other) => tracing::debug!(?other, "the node may not leave yet"),
                Err(_) => tracing::debug!("the metadata group was not reached"),
            }
            tokio::time::sleep(LEAVE_AGAIN).await;
        }
    }

    /// Until no metadata leader has been found for long.
    async fn forlorn(&self) {
        let mut standing = self.standing.clone();
        // A control thread that has ended finds nobody.
        while standing.wait_for(|standing| *standing == Standing::Leaderless).await.is_ok() {
            if tokio::time::timeout(LEADERLESS, standing.wait_for(|standing| *standing == Standing::Led)).await.is_err()
            {
                return;
            }
        }
    }

    /// Waits until the node cannot go on, and says why.
    pub async fn failed(&mut self) -> String {
        if let Some(failed) = self.failed.take()
            && let Ok(reason) = failed.await
        {
            return reason;
        }
        std::future::pending().await
    }

    /// Ends the node's threads and waits for them.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A control thread that has ended already needs no word.
            let _ = stop.send(());
        }
        for postbox in &self.postboxes {
            postbox.post(Letter::Shutdown);
        }
        match self.control.take() {
            Some(Control::Thread(thread)) => {
                thread.join().unwrap_or_else(|_| tracing::error!("a node's control thread panicked"))
            }
            // Nothing is ever sent: it is closed at the end.
            Some(Control::Guest(ended)) => drop(ended.recv()),
            None => {}
        }
        if let Some(pool) = self.pool.take() {
            pool.shutdown_background();
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// What speaks with the metadata group.
enum Control {
    Thread(JoinHandle<()>),
    /// Closed when it has ended.
    Guest(mpsc::Receiver<()>),
}

impl Control {
    fn start(
        startup: Startup,
        listener: TcpListener,
        leaves: UnboundedReceiver<Leave>,
        ends: Ends,
    ) -> Result<Control, StartError> {
        // The metadata group's log has a runtime that ends with the node.
        if let Some(host) = startup.config.control_host.clone().filter(|_| startup.seat.is_none()) {
            let (end, ended) = mpsc::channel();
            host.run(Box::new(move |_| {
                Box::pin(async move {
                    startup.run(listener, leaves, ends).await;
                    drop(end);
                })
            }));
            return Ok(Control::Guest(ended));
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("control".to_owned()).stack_size(STATEMENT_STACK_BYTES).spawn(
            move || {
                schedule::prompt();
                runtime.block_on(startup.run(listener, leaves, ends));
            },
        )?;
        Ok(Control::Thread(thread))
    }
}

/// Opens the node's ports and starts its threads; the node joins its cluster in the background.
pub fn start(config: NodeConfig) -> Result<NodeHandle, StartError> {
    check(&config)?;
    let data_dir = config.data_dir.as_deref().map(DataDir::open).transpose()?;
    let identity = data_dir.as_ref().map(DataDir::identity).transpose()?.flatten();
    if let (Some(known), Some(_)) = (identity, config.bootstrap) {
        let what = format!("--bootstrap makes a cluster once: this is node {} of one already", known.node);
        return Err(StartError::Config(what));
    }
    let seat = data_dir.as_ref().map(open_seat).transpose()?;
    let control = listen(config.listen)?;
    let control_address = control.local_addr()?;
    let (ports, addresses) = open_ports(&config)?;
    let known = identity.map(|identity| identity.node).or(config.node);
    // Who makes the cluster is its first node.
    let node = known.or(config.bootstrap.map(|_| FIRST_NODE)).unwrap_or_default();
    let postboxes: Vec<Postbox> = ports.iter().map(Port::postbox).collect();
    let pool = scan_pool(config.pool_threads)?;
    let announcement = NodeAnnouncement {
        node,
        process: new_process(),
        control: advertised(&config, control_address),
        workers: addresses.into_iter().map(|address| advertised(&config, address)).collect(),
        zone: config.zone.clone(),
        capacity: config.capacity,
        member: seat.as_ref().map(Seat::identity),
    };
    let metadata = match (config.bootstrap, config.join.first()) {
        (None, Some(address)) => *address,
        (Some(_), _) | (None, None) => control_address,
    };
    let (ready_sender, ready) = watch::channel(false);
    let (stop, stopped) = oneshot::channel();
    let (fail, failed) = oneshot::channel();
    let (leaving, leaves) = unbounded_channel();
    let (standing_sender, standing) = watch::channel(Standing::Outside);

    let startup = Startup {
        announcement,
        pool: pool.handle().clone(),
        ports,
        postboxes: postboxes.clone(),
        ready: ready_sender,
        standing: standing_sender,
        config,
        data_dir,
        seat,
        cluster: identity.map(|identity| identity.cluster),
        was_at: identity.and_then(|identity| identity.control),
    };
    control.set_nonblocking(true)?;
    let control = Some(Control::start(startup, control, leaves, Ends { stopped, failed: fail })?);
    let stop = Some(stop);
    Ok(NodeHandle {
        metadata,
        control_address,
        ready,
        postboxes,
        leaves: leaving,
        standing,
        failed: Some(failed),
        stop,
        control,
        pool: Some(pool),
    })
}

/// Threads for scans and fragments.
fn scan_pool(threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("scan")
        .thread_stack_size(STATEMENT_STACK_BYTES)
        .on_thread_start(schedule::background)
        .enable_time()
        .build()
}

/// One port per worker, with their addresses.
fn open_ports(config: &NodeConfig) -> Result<(Vec<Port>, Vec<SocketAddr>), StartError> {
    let mut ports = Vec::new();
    let mut addresses = Vec::new();
    for index in 0..config.workers {
        let port = config.worker_ports.map_or(0, |base| base.saturating_add(index));
        let listener = listen(SocketAddr::new(config.listen.ip(), port))?;
        let address = listener.local_addr()?;
        let local = match config.local_sockets {
            true => {
                Listener::local(advertised(config, address)).map_err(|error| StartError::Listen { address, error })?
            }
            false => None,
        };
        addresses.push(address);
        ports.push(Port::open(Listener::tcp(listener)?, local, advertised(config, address))?);
    }
    Ok((ports, addresses))
}

/// The directory of the metadata group's log.
fn open_seat(data_dir: &DataDir) -> Result<Seat, StartError> {
    let path = data_dir.path().join(METADATA);
    let process = new_process();
    Seat::open(&path, (process ^ (process >> 32)) as u32).map_err(|error| StartError::Config(error.to_string()))
}

/// The address by which others reach what listens on this one.
fn advertised(config: &NodeConfig, address: SocketAddr) -> SocketAddr {
    SocketAddr::new(config.advertise.unwrap_or(address.ip()), address.port())
}

fn check(config: &NodeConfig) -> Result<(), StartError> {
    if config.workers == 0 {
        return Err(StartError::Config("a storage node needs at least one worker".to_owned()));
    }
    if let Some(Bootstrap { nodes, copies, min_copies, partitions }) = config.bootstrap {
        if !partitions.is_power_of_two() || partitions > MAX_PARTITIONS {
            let what = format!("{partitions} partitions: it must be a power of two, at most {MAX_PARTITIONS}");
            return Err(StartError::Config(what));
        }
        if nodes == 0 || copies == 0 || usize::from(copies) > nodes {
            return Err(StartError::Config(format!("{copies} copies need as many nodes, there are {nodes}")));
        }
        if min_copies == 0 || min_copies > copies {
            return Err(StartError::Config(format!(
                "at least {min_copies} of {copies} copies: it must be from 1 to {copies}"
            )));
        }
    } else if config.join.is_empty() {
        return Err(StartError::Config("a storage node joins a cluster or makes one".to_owned()));
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| StartError::Listen { address, error })
}

/// What the control thread begins with.
struct Startup {
    config: NodeConfig,
    data_dir: Option<DataDir>,
    /// For the metadata group's log.
    seat: Option<Seat>,
    announcement: NodeAnnouncement,
    pool: tokio::runtime::Handle,
    ports: Vec<Port>,
    postboxes: Vec<Postbox>,
    ready: watch::Sender<bool>,
    standing: watch::Sender<Standing>,
    /// The cluster that the node was in before.
    cluster: Option<ClusterId>,
    /// Where the node was then.
    was_at: Option<SocketAddr>,
}

/// How the control thread is told to end, and how it tells that it cannot go on.
struct Ends {
    stopped: oneshot::Receiver<()>,
    failed: oneshot::Sender<String>,
}

impl Ends {
    fn fail(self, reason: String) {
        Ends::tell(self.failed, reason);
    }

    fn tell(failed: oneshot::Sender<String>, reason: String) {
        tracing::error!(reason, "the node ends");
        // Whoever started it may not listen.
        let _ = failed.send(reason);
    }
}

impl Startup {
    /// Serves metadata where it lives here, joins, runs the workers, and ends when told.
    async fn run(mut self, listener: TcpListener, leaves: UnboundedReceiver<Leave>, ends: Ends) {
        // Of nodes that share a process one says so.
        if self.config.bootstrap.is_some() || self.config.hosts.is_empty() {
            tracing::warn!(
                "rows are kept in memory only: what is in a partition is gone when all nodes that hold it stop"
            );
        }
        if let Some(reason) = self.rival().await {
            return ends.fail(reason);
        }
        let clock = Clock::start();
        let hosted = match self.host(listener, clock) {
            Ok(hosted) => hosted,
            Err(reason) => return ends.fail(format!("the control port cannot be served: {reason}")),
        };
        let Ends { stopped, failed } = ends;
        tokio::select! {
            biased;
            // The handle was dropped or says so. It tells the workers next: their end then is no failure.
            _ = stopped => {}
            reason = self.serve(leaves, clock, hosted) => Ends::tell(failed, reason),
        }
    }

    /// Why this process may not be the node: one that has the same directory, or a copy of it, runs where the node was last.
    async fn rival(&self) -> Option<String> {
        let (seat, cluster, here) = (self.seat.as_ref()?, self.cluster?, self.announcement.control);
        let there = self.was_at.filter(|there| *there != here)?;
        let taken = seat.is_taken(there, here, cluster, self.config.key.clone()).await;
        taken.then(|| format!("another process is this node, at {there}: its data directory is a copy of this one"))
    }

    /// Takes the node's part in the metadata group.
    fn host(&mut self, listener: TcpListener, clock: Clock) -> Result<Hosted, String> {
        let found = self.config.bootstrap.map(|Bootstrap { nodes, copies, min_copies, partitions }| {
            let cluster = new_cluster();
            Founding { cluster, nodes, copies, min_copies, partitions }
        });
        let cluster = found.map(|founding| founding.cluster).or(self.cluster);
        let host = MetadataHost {
            listener: tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?,
            neighbours: self.config.neighbours.clone(),
            key: self.config.key.clone(),
            clock,
            seat: self.seat.take(),
            identity: cluster.map(|cluster| (cluster, self.announcement.node)),
            control: self.announcement.control,
            found,
        };
        host.start()
    }

    /// Until the node cannot go on; says why.
    async fn serve(self, leaves: UnboundedReceiver<Leave>, clock: Clock, mut hosted: Hosted) -> String {
        let way = Way { neighbours: &self.config.neighbours, key: self.config.key.as_ref(), cluster: self.cluster };
        // Its own control port comes first: a member of the metadata group knows the leader, or leads.
        let mut seek =
            Seek::new([self.announcement.control].into_iter().chain(self.config.join.iter().copied()).collect());
        let (line, joined) = control::join(&mut seek, way, &self.announcement).await;
        hosted.joined(joined.cluster, joined.node);
        let node = joined.node;
        tracing::info!(%node, incarnation = %joined.incarnation, "joined the cluster");
        let control = Some(self.announcement.control);
        let identity = NodeIdentity { cluster: joined.cluster, node, control };
        if let Some(data_dir) = &self.data_dir
            && let Err(error) = data_dir.remember(identity)
        {
            return format!("the node's identity cannot be kept in its data directory: {error}");
        }
        // From now on the same process asks for the same number.
        let announcement = NodeAnnouncement { node, ..self.announcement };
        let (reports, queue): (UnboundedSender<WorkerReport>, UnboundedReceiver<WorkerReport>) = unbounded_channel();
        let memory = self.config.memory / usize::from(self.config.workers);
        let fragment_memory = Budget::new(self.config.fragment_memory);
        let mut running = Running::default();
        for (index, port) in self.ports.into_iter().enumerate() {
            let worker = WorkerId { node, index: index as u16 };
            let identity = Identity { cluster: joined.cluster, worker, incarnation: joined.incarnation, memory };
            let outside = Outside::new(self.pool.clone(), Arc::clone(&fragment_memory));
            let (reports, key) = (reports.clone(), self.config.key.clone());
            let make = move |place| EventLoop::new(port, identity, clock, outside, reports, key, place);
            let Some(postbox) = self.postboxes.get(index).cloned() else { continue };
            match self.config.hosts.get(index) {
                Some(host) => running.host(worker, make, postbox, host),
                None => {
                    if let Err(error) = running.spawn(worker, make, postbox) {
                        return format!("the thread of worker {worker} cannot be started: {error}");
                    }
                }
            }
        }
        drop(reports);
        let task = ControlTask {
            memory: self.config.memory as u64,
            hosted,
            announcement,
            key: self.config.key,
            neighbours: self.config.neighbours,
            joined,
            clock,
            workers: self.postboxes,
            ready: self.ready,
            standing: self.standing,
        };
        task.run(line, seek, Queues { reports: queue, leaves }).await
    }
}

/// The node's workers; waits for their end when dropped.
#[derive(Default)]
struct Running {
    threads: Vec<(Postbox, JoinHandle<()>)>,
    /// Closed when the guest's loop is gone.
    guests: Vec<(Postbox, mpsc::Receiver<()>)>,
}

impl Running {
    fn spawn(
        &mut self,
        worker: WorkerId,
        make: impl FnOnce(Place) -> EventLoop + Send + 'static,
        postbox: Postbox,
    ) -> io::Result<()> {
        let thread = std::thread::Builder::new()
            .name(format!("worker-{worker}"))
            .stack_size(STATEMENT_STACK_BYTES)
            .spawn(move || {
                schedule::prompt();
                let guard = FailStop { worker };
                guard.ended(make(Place::default()).run());
            })?;
        self.threads.push((postbox, thread));
        Ok(())
    }

    fn host(
        &mut self,
        worker: WorkerId,
        make: impl FnOnce(Place) -> EventLoop + Send + 'static,
        postbox: Postbox,
        host: &Host,
    ) {
        let (end, ended) = mpsc::channel();
        let guest = move |place| {
            let guard = FailStop { worker };
            // It is found by its peers on the thread before it has its first turn: who does not find it there takes a socket.
            let event_loop = make(place);
            async move {
                guard.ended(event_loop.drive().await);
                drop(end);
            }
        };
        host.run(Box::new(move |place| Box::pin(guest(place))));
        self.guests.push((postbox, ended));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for postbox in self.threads.iter().map(|running| &running.0).chain(self.guests.iter().map(|running| &running.0))
        {
            postbox.post(Letter::Shutdown);
        }
        for (_, thread) in self.threads.drain(..) {
            // A panic has been dealt with by the thread's guard.
            let _ = thread.join();
        }
        for (_, ended) in self.guests.drain(..) {
            // Nothing is ever sent: it is closed at the end.
            let _ = ended.recv();
        }
    }
}

/// A worker whose assertion failed must not go on, and its node must not look alive without it.
struct FailStop {
    worker: WorkerId,
}

impl FailStop {
    fn ended(&self, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::error!(worker = %self.worker, %error, "a worker's event queue failed: the process ends");
            std::process::abort();
        }
    }
}

impl Drop for FailStop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(worker = %self.worker, "a worker failed: the process ends");
            std::process::abort();
        }
    }
}

/// A number that no other cluster has: the time of its founding and the process that did it.
fn new_cluster() -> ClusterId {
    ClusterId(new_process())
}

/// A number that no other life of any process has.
fn new_process() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() as u64) ^ (u64::from(std::process::id()) << 48)
}
