//! A worker's event loop: moves bytes between sockets and the worker's state machine, and decides nothing.
//!
//! It has a thread of its own ([`EventLoop::run`]) or is a guest on one ([`EventLoop::drive`]). A turn: wait for sockets and letters; read every readable socket and step the worker with each frame; carry out what it asked for; write
//! each connection's answers with one call.

mod buffer;
mod connection;
mod slots;
mod rung;
mod gauges;
mod entry;
mod hosted;

use crate::clock::Clock;
use crate::complaint::Said;
use crate::letter::{Call, Letter, Postbox, WorkerReport};
use crate::outside::Outside;
use crate::stream::{Listener, Stream};
use buffer::Filled;
use connection::{Connection, SLOW_READER_BYTES};
use gauges::Gauges;
use mio::{Events, Interest, Poll, Token};
use rung::Rung;
use slots::Slots;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use toroid_common::id::WorkerId;
use toroid_common::limits::MAX_FRAME_BYTES;
use toroid_common::near::{self, Place};
use toroid_common::secret::Key;
use toroid_common::wire::{MAX_GREETING_BYTES, RawFrame};
use toroid_engine::gate::Time;
use toroid_engine::worker::{Action, Actions, ConnectionId, Event, Identity, Worker};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const LOCAL_LISTENER: Token = Token(usize::MAX - 2);
/// Reads of one connection in one turn, so that the others get theirs.
const READS_PER_TURN: usize = 16;
/// After an accept that failed.
const ACCEPT_AGAIN_MICROS: u64 = 50_000;
/// How often counters are published, at most.
const PUBLISH_MICROS: u64 = 250_000;

/// A worker's port and letter box, before the worker knows who it is.
pub struct Port {
    poll: Poll,
    listener: Listener,
    local: Option<Listener>,
    /// Under which address peers on the same thread find it.
    address: SocketAddr,
    letters: mpsc::Receiver<Letter>,
    call: Arc<Call>,
    postbox: Postbox,
}

impl Port {
    /// Takes over a listening socket, and the one beside it for peers on the same host; others know it by this address.
    pub fn open(mut listener: Listener, mut local: Option<Listener>, address: SocketAddr) -> io::Result<Port> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        if let Some(local) = &mut local {
            poll.registry().register(local, LOCAL_LISTENER, Interest::READABLE)?;
        }
        let call = Arc::new(Call::new(mio::Waker::new(poll.registry(), WAKER)?));
        let (sender, letters) = mpsc::channel();
        let postbox = Postbox::new(sender, call.clone());
        Ok(Port { poll, listener, local, address, letters, call, postbox })
    }

    /// Where the worker's letters go.
    pub fn postbox(&self) -> Postbox {
        self.postbox.clone()
    }
}

/// The loop of one worker.
pub struct EventLoop {
    port: Port,
    worker: Worker,
    id: WorkerId,
    clock: Clock,
    outside: Outside,
    reports: UnboundedSender<WorkerReport>,
    /// What peers must prove to have.
    key: Option<Key>,
    /// Where its peers on the same thread are.
    place: Place,
    near: near::Listener,
    rung: Rung,
    /// Empty; kept for its memory.
    heard: Vec<Option<usize>>,
    connections: Slots,
    /// New connections, and until when each must have introduced itself.
    strangers: VecDeque<(Time, ConnectionId)>,
    /// Connections with something to write.
    unflushed: Vec<usize>,
    /// Connections that may have more to read than one turn took.
    unread: Vec<usize>,
    actions: Actions,
    gauges: Gauges,
    said: Said,
    /// When accepting is tried again that has failed.
    accepts_at: Option<Time>,
    /// When the last turn began, and when the worker wanted to be stepped after it.
    turned_at: Time,
    wakes_at: Option<Time>,
    running: bool,
}

impl EventLoop {
    pub fn new(
        port: Port,
        identity: Identity,
        clock: Clock,
        outside: Outside,
        reports: UnboundedSender<WorkerReport>,
        key: Option<Key>,
        place: Place,
    ) -> EventLoop {
        let rung = Rung::default();
        EventLoop {
            near: place.listen(port.address, rung.bell(None)),
            place,
            rung,
            heard: Vec::new(),
            port,
            worker: Worker::new(identity),
            id: identity.worker,
            clock,
            outside,
            reports,
            key,
            connections: Slots::default(),
            strangers: VecDeque::new(),
            unflushed: Vec::new(),
            unread: Vec::new(),
            actions: Actions::default(),
            gauges: Gauges::new(identity.worker),
            said: Said::default(),
            accepts_at: None,
            turned_at: Time::default(),
            wakes_at: None,
            running: true,
        }
    }

    /// Has a thread to itself until it is told to end.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while self.running {
            let timeout = match self.is_behind() {
                true => Some(Duration::ZERO),
                // The queue counts milliseconds: rounding down would spin through the last one.
                false => self.due().map(|at| self.clock.until(at) + Duration::from_micros(999)),
            };
            self.take_events(&mut events, timeout)?;
            self.turn(&events);
        }
        Ok(())
    }

    fn take_events(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.port.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether there is something to do at once.
    fn is_behind(&self) -> bool {
        let is_due = self.wakes_at.is_some_and(|at| at <= self.turned_at);
        is_due || !self.unread.is_empty() || !self.worker.is_idle()
    }

    /// When there is something to do though nothing comes.
    fn due(&self) -> Option<Time> {
        let stranger = self.strangers.front().map(|(until, _)| *until);
        [self.wakes_at, self.gauges.due(), stranger, self.accepts_at].into_iter().flatten().min()
    }

    fn turn(&mut self, events: &Events) {
        let now = self.clock.now();
        if self.port.call.take() {
            self.open_letters(now);
        }
        let mut unread = std::mem::take(&mut self.unread);
        for event in events {
            match event.token() {
                LISTENER | LOCAL_LISTENER => self.accept(event.token(), now),
                WAKER => self.open_letters(now),
                Token(slot) => {
                    let Some(connection) = self.connections.get_mut(slot) else { continue };
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        connection.readable = true;
                        connection.ended |= event.is_read_closed() || event.is_error();
                        unread.push(slot);
                    }
                    if event.is_writable() {
                        self.writable(slot, now);
                    }
                }
            }
        }
        self.hear(&mut unread, now);
        for slot in unread.drain(..) {
            self.read(slot, now);
        }
        if self.unread.is_empty() {
            self.unread = unread;
        }
        self.turn_strangers_away(now);
        if self.accepts_at.take_if(|at| *at <= now).is_some() {
            self.accept(LISTENER, now);
            self.accept(LOCAL_LISTENER, now);
        }
        if self.wakes_at.is_some_and(|at| at <= now) {
            self.worker.step(Event::Tick, now, &mut self.actions);
        }
        self.worker.step(Event::TurnEnded, now, &mut self.actions);
        self.carry_out(now);
        self.flush();
        if self.gauges.publish(&self.worker, self.connections.len(), now, PUBLISH_MICROS) {
            let (memory, arrived) = (self.worker.memory() as u64, self.worker.arriving().collect());
            self.report(WorkerReport::Load { worker: self.id, memory, arrived });
        }
        (self.turned_at, self.wakes_at) = (now, self.worker.wakes_at());
    }

    fn accept(&mut self, at: Token, now: Time) {
        loop {
            let listener = if at == LISTENER { Some(&self.port.listener) } else { self.port.local.as_ref() };
            let Some(listener) = listener else { return };
            match listener.accept() {
                Ok(stream) => {
                    if let Some(id) = self.add(stream, None, now) {
                        self.enter(id.slot as usize, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The process may be out of descriptors: no event will tell when it has some.
                    self.accepts_at = Some(now.after(ACCEPT_AGAIN_MICROS));
                    if self.said.is_new(None, &error.to_string()) {
                        tracing::warn!(worker = %self.id, %error, "a connection could not be accepted");
                    }
                    return;
                }
            }
        }
    }

    /// Looks at what has rung on this thread.
    fn hear(&mut self, unread: &mut Vec<usize>, now: Time) {
        let mut heard = self.rung.take(std::mem::take(&mut self.heard));
        for rung in heard.drain(..) {
            let Some(slot) = rung else {
                while let Some(end) = self.near.accept() {
                    if let Some(id) = self.add(Stream::Near(end), None, now) {
                        self.enter(id.slot as usize, now);
                    }
                }
                continue;
            };
            if let Some(connection) = self.connections.get_mut(slot)
                && let Stream::Near(end) = &connection.stream
            {
                connection.readable = true;
                connection.ended |= end.is_ended();
                unread.push(slot);
                self.writable(slot, now);
            }
        }
        self.heard = heard;
    }

    fn add(&mut self, stream: Stream, opening: Option<WorkerId>, now: Time) -> Option<ConnectionId> {
        let id = self.connections.reserve();
        let mut connection = Connection::new(id, stream, opening);
        match connection.register(self.port.poll.registry(), &self.rung) {
            Ok(()) => {
                self.connections.put(connection);
                self.strangers.push_back((now.after(entry::INTRODUCTION_MICROS), id));
                Some(id)
            }
            Err(error) => {
                tracing::warn!(worker = %self.id, %error, "a connection could not be set up");
                self.connections.release(id);
                None
            }
        }
    }

    fn open_letters(&mut self, now: Time) {
        while let Ok(letter) = self.port.letters.try_recv() {
            let event = match letter {
                Letter::Map(map) => Event::MapChanged(map),
                Letter::Catalog(catalog) => Event::CatalogChanged(catalog),
                Letter::Lease { until } => Event::LeaseRenewed { until },
                Letter::Proxies { below, alive } => Event::ProxiesChanged { below, alive },
                Letter::Capture { cut, map } => Event::Capture { cut, map },
                Letter::Release { cut, committed } => Event::Release { cut, committed },
                Letter::DropCut(cut) => Event::DropCut(cut),
                Letter::Cuts { term, read } => Event::Cuts { term, read },
                Letter::Deadlock { transaction, wait, detail } => Event::Deadlock { transaction, wait, detail },
                Letter::Inquiry(inquiry) => Event::Inquiry(inquiry),
                Letter::RowsFound { ticket, root, found } => Event::RowsFound { ticket, root, found },
                Letter::FragmentBatch { ticket, bytes } => Event::FragmentBatch { ticket, bytes },
                Letter::FragmentFinished { ticket, roots, outcome } => {
                    self.outside.forget(ticket);
                    Event::FragmentFinished { ticket, roots, outcome }
                }
                Letter::Shutdown => {
                    self.running = false;
                    continue;
                }
            };
            self.worker.step(event, now, &mut self.actions);
        }
    }

    /// The socket takes bytes again, or the connection that was being opened stands or failed.
    fn writable(&mut self, slot: usize, now: Time) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !connection.stands {
            match connection.stream.stands() {
                Ok(true) => {
                    connection.stands = true;
                    self.enter(slot, now);
                }
                Ok(false) => {}
                Err(error) => self.lost(slot, &error.to_string(), now),
            }
        } else if connection.has_output() {
            self.queue_flush(slot);
        }
    }

    /// Takes the frames that a socket has: those that are here already, then what can be read.
    fn read(&mut self, slot: usize, now: Time) {
        for _ in 0..READS_PER_TURN {
            match self.take_frames(slot, now) {
                Ok(true) => {}
                Ok(false) => break,
                Err(reason) => {
                    self.complain(slot, &reason);
                    return self.lost(slot, &reason, now);
                }
            }
            let Some(connection) = self.connections.get_mut(slot) else { return };
            if !connection.readable || !connection.is_open() {
                return;
            }
            match connection.read() {
                Ok(Filled::More) => {}
                Ok(Filled::Drained | Filled::Blocked) => connection.readable = false,
                Ok(Filled::Ended) => return self.lost(slot, "closed by the peer", now),
                Err(error) => return self.lost(slot, &error.to_string(), now),
            }
        }
        self.unread.push(slot);
    }

    /// Steps the worker with every whole frame that is here. False when the rest must wait: the turn's answers are many enough.
    fn take_frames(&mut self, slot: usize, now: Time) -> Result<bool, String> {
        if !self.has_entered(slot, now)? {
            return Ok(true);
        }
        let EventLoop { connections, worker, actions, .. } = self;
        let Some(connection) = connections.get_mut(slot) else { return Ok(true) };
        if !connection.is_open() {
            return Ok(true);
        }
        loop {
            let limit = if connection.introduced { MAX_FRAME_BYTES } else { MAX_GREETING_BYTES };
            let split = RawFrame::split_within(connection.incoming.unread(), limit);
            let Some((frame, used)) = split.map_err(|error| error.to_string())? else { return Ok(true) };
            if actions.pending_bytes() > SLOW_READER_BYTES {
                return Ok(false);
            }
            worker.step(Event::Frame { connection: connection.id, frame }, now, actions);
            // Whom the worker does not know now it closes.
            connection.introduced = true;
            connection.incoming.consume(used);
        }
    }

    /// Does what the worker asked for, in its order.
    fn carry_out(&mut self, now: Time) {
        let mut actions = std::mem::take(&mut self.actions);
        actions.drain(|action, bytes| match action {
            Action::Send { connection, .. } => self.send(connection, bytes, now),
            Action::Close { connection, reason } => self.close(connection, &reason),
            Action::Connect { worker, address } => self.connect(worker, address, now),
            Action::FindRows { ticket, root, plan, params, env } => {
                self.outside.find_rows(self.port.postbox(), ticket, root, plan, params, env);
            }
            Action::RunFragment { ticket, roots, plan, env, credit } => {
                self.outside.run_fragment(self.port.postbox(), ticket, roots, plan, env, credit);
            }
            Action::FragmentCredit { ticket, batches } => self.outside.credit(ticket, batches),
            Action::FragmentCancel { ticket } => self.outside.cancel(ticket),
            Action::MapApplied { version } => self.report(WorkerReport::MapApplied { worker: self.id, version }),
            Action::CatalogApplied { version, map, result } => {
                self.report(WorkerReport::CatalogApplied { worker: self.id, version, map, result });
            }
            Action::Propose(proposal) => self.report(WorkerReport::Propose(proposal)),
            Action::Captured(captured) => self.report(WorkerReport::Captured(captured)),
            Action::Inquire(inquiry) => self.report(WorkerReport::Inquiry(inquiry)),
            Action::Waits(waits) => self.report(WorkerReport::Waits { worker: self.id, waits }),
            Action::Report { what } => tracing::error!(worker = %self.id, "{what}"),
            Action::Tell { what } => tracing::info!(worker = %self.id, "{what}"),
        });
        // Steps taken while carrying out (lost connections) left actions of their own: they go with the next turn.
        if self.actions.is_empty() {
            self.actions = actions;
        } else {
            self.wake();
        }
    }

    fn report(&self, report: WorkerReport) {
        // Without a control task the node is ending.
        let _ = self.reports.send(report);
    }

    fn wake(&self) {
        self.port.postbox.wake();
    }

    fn send(&mut self, id: ConnectionId, bytes: &[u8], now: Time) {
        let Some(connection) = self.connections.find(id) else { return };
        let slot = id.slot as usize;
        match connection.push(bytes) {
            Ok(()) => self.queue_flush(slot),
            Err(error) => self.lost(slot, &error.to_string(), now),
        }
    }

    fn queue_flush(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !connection.queued
        {
            connection.queued = true;
            self.unflushed.push(slot);
        }
    }

    fn close(&mut self, id: ConnectionId, reason: &str) {
        let Some(connection) = self.connections.find(id) else { return };
        connection.closing = true;
        self.complain(id.slot as usize, reason);
        self.queue_flush(id.slot as usize);
    }

    fn connect(&mut self, worker: WorkerId, address: std::net::SocketAddr, now: Time) {
        let opened = Stream::connect(&self.place, address).ok().and_then(|stream| self.add(stream, Some(worker), now));
        if opened.is_none() {
            self.worker.step(Event::ConnectFailed { worker }, now, &mut self.actions);
        }
    }

    /// Writes what is waiting: answers to proxies only while the lease holds at this moment. Where it does not, the connection is lost and the proxy
    /// asks again: under a later lease the answers would be old, because others may have been primaries in between.
    fn flush(&mut self) {
        if self.unflushed.is_empty() {
            return;
        }
        let now = self.clock.now();
        let leased = self.worker.under_lease(now);
        let mut unflushed = std::mem::take(&mut self.unflushed);
        for slot in unflushed.drain(..) {
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            connection.queued = false;
            if !leased && self.worker.is_proxy(connection.id) {
                self.lost(slot, "the lease ended before the answers left", now);
                continue;
            }
            let was_slow = !connection.is_open();
            match connection.flush(self.port.poll.registry()) {
                Ok(true) if connection.closing => self.drop_connection(slot),
                Ok(_) => {
                    if was_slow && connection.is_open() {
                        self.unread.push(slot);
                    }
                }
                Err(error) => self.lost(slot, &error.to_string(), now),
            }
        }
        if self.unflushed.is_empty() {
            self.unflushed = unflushed;
        }
        if !self.actions.is_empty() {
            self.wake();
        }
    }

    /// A connection is gone.
    fn lost(&mut self, slot: usize, reason: &str, now: Time) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        tracing::debug!(worker = %self.id, reason, "a connection ended");
        let (id, opening) = (connection.id, connection.opening);
        self.drop_connection(slot);
        match opening {
            Some(worker) => self.worker.step(Event::ConnectFailed { worker }, now, &mut self.actions),
            None => self.worker.step(Event::Closed(id), now, &mut self.actions),
        }
    }

    fn drop_connection(&mut self, slot: usize) {
        if let Some(mut connection) = self.connections.take(slot)
            && let Err(error) = self.port.poll.registry().deregister(&mut connection.stream)
        {
            tracing::debug!(worker = %self.id, %error, "a socket could not be deregistered");
        }
    }
}
