//! A worker where it sits: the loop around the real state machine, turn by turn, as the storage node's event loop runs it.
//!
//! A turn reads the clock, steps the worker with all that has come, and does what the worker asked for; between these the process may be
//! stopped. Answers to proxies leave only under the lease at the last moment.

use super::super::clock::{Instant, NodeClock};
use super::super::context::{Context, Happening};
use super::super::network::{Arrival, End, Side, What, WireId};
use super::super::observe;
use super::super::sabotage::{self, Chatty, Hasty, Relabeller, Sabotage};
use super::pool::{Done, Due, Pool};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::id::{CutId, Incarnation, MapVersion, TransactionId, WorkerId};
use toroid_common::map::ClusterMap;
use toroid_common::wire::RawFrame;
use toroid_engine::gate::Time;
use toroid_engine::worker::{Action, Actions, ConnectionId, Event, Identity, Worker};

/// What other threads of its process tell a worker.
#[derive(Clone, Debug)]
pub enum Letter {
    Map(Arc<ClusterMap>),
    Catalog(Arc<Catalog>),
    Lease(Time),
    /// Of the proxies' incarnations below `below`, only these live.
    Proxies {
        alive: Arc<[Incarnation]>,
        below: Incarnation,
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
    /// Of this term's cuts only these are read.
    Cuts {
        term: u64,
        read: Arc<[CutId]>,
    },
    Deadlock {
        transaction: TransactionId,
        wait: u64,
        detail: String,
    },
}

/// What a worker reports to its process's control task.
pub type Report = Action;

#[derive(Debug)]
enum Input {
    Letter(Letter),
    Arrival(Arrival),
    Done(Done),
}

/// A connection's socket.
#[derive(Debug)]
struct Socket {
    wire: WireId,
    side: Side,
    out: Vec<u8>,
    opening: Option<WorkerId>,
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It waits for something to come.
    Idle,
    Due,
    /// It has read the clock, and is about to step.
    Begun(Time),
    /// It has stepped, and is about to do what came of it.
    Working,
}

#[derive(Debug)]
pub struct Seat {
    pub end: End,
    /// None until the process knows who it is.
    pub worker: Option<Worker>,
    inbox: VecDeque<Input>,
    turn: Turn,
    actions: Actions,
    sockets: BTreeMap<ConnectionId, Socket>,
    wires: BTreeMap<WireId, ConnectionId>,
    slots: Vec<bool>,
    generation: u32,
    wakes: Option<Instant>,
    pool: Pool,
    relabeller: Option<Relabeller>,
    makes_up: bool,
    hasty: Option<Hasty>,
    chatty: Option<Chatty>,
}

/// How a process is doing at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    pub clock: NodeClock,
    /// The process is stopped until then.
    pub paused_until: Instant,
    /// Microseconds that a turn takes at most.
    pub turn: Instant,
}

impl Seat {
    #[must_use]
    pub fn new(end: End) -> Seat {
        Seat {
            end,
            worker: None,
            inbox: VecDeque::new(),
            turn: Turn::Idle,
            actions: Actions::default(),
            sockets: BTreeMap::new(),
            wires: BTreeMap::new(),
            slots: Vec::new(),
            generation: 0,
            wakes: None,
            pool: Pool::default(),
            relabeller: None,
            makes_up: false,
            hasty: None,
            chatty: None,
        }
    }

    /// The process has learnt who it is.
    pub fn begin(&mut self, identity: Identity, context: &mut Context) {
        let mut worker = Worker::new(identity);
        worker.chunk_above(context.chunk_bytes);
        worker.build_at_once(context.built_rows);
        self.worker = Some(worker);
        self.relabeller = context.sabotages(Sabotage::Epoch).then(Relabeller::default);
        self.makes_up = context.sabotages(Sabotage::DurableAbort);
        self.hasty = context.sabotages(Sabotage::PreparedRows).then(Hasty::default);
        self.chatty = context.sabotages(Sabotage::ToldEarly).then(Chatty::default);
        self.rouse(context);
    }

    pub fn post(&mut self, letter: Letter, context: &mut Context) {
        self.inbox.push_back(Input::Letter(letter));
        self.rouse(context);
    }

    pub fn arrived(&mut self, arrival: Arrival, context: &mut Context) {
        self.inbox.push_back(Input::Arrival(arrival));
        self.rouse(context);
    }

    /// A step of what runs outside the worker's thread is done.
    pub fn done(&mut self, number: u64, context: &mut Context) {
        if let Some((done, due)) = self.pool.step(number, &mut context.random) {
            self.inbox.push_back(Input::Done(done));
            self.rouse(context);
            self.await_step(due, context);
        }
    }

    fn await_step(&self, due: Option<Due>, context: &mut Context) {
        if let Some((delay, number)) = due {
            context.agenda.after(delay, Happening::Done(self.end, number));
        }
    }

    /// A timer of the worker has come.
    pub fn woken(&mut self, context: &mut Context) {
        self.wakes = None;
        self.rouse(context);
    }

    fn rouse(&mut self, context: &mut Context) {
        if self.turn == Turn::Idle && self.worker.is_some() {
            self.turn = Turn::Due;
            let delay = 1 + context.random.below(20);
            context.agenda.after(delay, Happening::Turn(self.end));
        }
    }

    /// The next part of a turn: reading the clock, or stepping the worker by what was read then.
    pub fn take_turn(&mut self, condition: &Condition, context: &mut Context) {
        if context.now() < condition.paused_until {
            return context.agenda.at(condition.paused_until, Happening::Turn(self.end));
        }
        let Turn::Begun(now) = self.turn else {
            self.turn = Turn::Begun(condition.clock.read(context.now()));
            let moment = context.random.below(10);
            return context.agenda.after(moment, Happening::Turn(self.end));
        };
        while let Some(input) = self.inbox.pop_front() {
            self.step(input, now);
        }
        let Some(worker) = &mut self.worker else { return };
        if worker.wakes_at().is_some_and(|at| at <= now) {
            worker.step(Event::Tick, now, &mut self.actions);
        }
        worker.step(Event::TurnEnded, now, &mut self.actions);
        self.turn = Turn::Working;
        let work = 1 + context.random.below(condition.turn);
        context.agenda.after(work, Happening::Finish(self.end));
    }

    fn step(&mut self, input: Input, now: Time) {
        let event = match input {
            Input::Letter(Letter::Map(map)) => Event::MapChanged(map),
            Input::Letter(Letter::Catalog(catalog)) => Event::CatalogChanged(catalog),
            Input::Letter(Letter::Lease(until)) => Event::LeaseRenewed { until },
            Input::Letter(Letter::Proxies { alive, below }) => Event::ProxiesChanged { below, alive },
            Input::Letter(Letter::Capture { cut, map }) => Event::Capture { cut, map },
            Input::Letter(Letter::Release { cut, committed }) => Event::Release { cut, committed },
            Input::Letter(Letter::DropCut(cut)) => Event::DropCut(cut),
            Input::Letter(Letter::Cuts { term, read }) => Event::Cuts { term, read },
            Input::Letter(Letter::Deadlock { transaction, wait, detail }) => {
                Event::Deadlock { transaction, wait, detail }
            }
            Input::Done(done) => done.event(),
            Input::Arrival(arrival) => return self.step_arrival(arrival, now),
        };
        if let Some(worker) = &mut self.worker {
            worker.step(event, now, &mut self.actions);
        }
    }

    fn step_arrival(&mut self, arrival: Arrival, now: Time) {
        let Arrival { wire, side, what } = arrival;
        if matches!(what, What::Accepted) {
            let id = self.add(wire, side, None);
            return self.event(Event::Accepted(id), now);
        }
        let Some(id) = self.wires.get(&wire).copied() else { return };
        match what {
            What::Opened => {
                let opening = self.sockets.get_mut(&id).and_then(|socket| socket.opening.take());
                if let Some(worker) = opening {
                    self.event(Event::Connected { connection: id, worker }, now);
                }
            }
            What::Bytes(bytes) => {
                let open = self.sockets.get(&id).is_some_and(|socket| !socket.closing);
                let mut rest = &bytes[..];
                while open && let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    if let (Some(relabeller), Some(worker)) = (&mut self.relabeller, &self.worker) {
                        for (present, bytes) in relabeller.relabel(worker, id, frame) {
                            if let Ok(Some((frame, _))) = RawFrame::split(&bytes) {
                                self.event(Event::Frame { connection: present, frame }, now);
                            }
                        }
                    }
                    if let (Some(worker), Some(chatty)) = (&self.worker, &mut self.chatty) {
                        chatty.overhear(worker, id, frame);
                    }
                    let made_up = match (&self.worker, &mut self.hasty) {
                        (Some(worker), _) if self.makes_up => sabotage::made_up(worker, frame),
                        (Some(worker), Some(hasty)) => hasty.answer(worker, id, frame),
                        (_, _) => None,
                    };
                    match (made_up, self.sockets.get_mut(&id)) {
                        (Some(told), Some(socket)) => socket.out.extend_from_slice(&told),
                        (_, _) => self.event(Event::Frame { connection: id, frame }, now),
                    }
                    rest = rest.get(used..).unwrap_or_default();
                }
            }
            What::Closed | What::Failed => {
                let opening = self.remove(id);
                match opening {
                    Some(worker) => self.event(Event::ConnectFailed { worker }, now),
                    None => self.event(Event::Closed(id), now),
                }
            }
            What::Accepted | What::Knock => {}
        }
    }

    fn event(&mut self, event: Event<'_>, now: Time) {
        if let Some(worker) = &mut self.worker {
            worker.step(event, now, &mut self.actions);
        }
    }

    fn add(&mut self, wire: WireId, side: Side, opening: Option<WorkerId>) -> ConnectionId {
        let slot = self.slots.iter().position(|used| !used).unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(used) => *used = true,
            None => self.slots.push(true),
        }
        self.generation += 1;
        let id = ConnectionId { slot: slot as u32, generation: self.generation };
        self.sockets.insert(id, Socket { wire, side, out: Vec::new(), opening, closing: false });
        self.wires.insert(wire, id);
        id
    }

    /// Forgets a connection; says whom it was being opened to.
    fn remove(&mut self, id: ConnectionId) -> Option<WorkerId> {
        let socket = self.sockets.remove(&id)?;
        self.wires.remove(&socket.wire);
        if let Some(used) = self.slots.get_mut(id.slot as usize) {
            *used = false;
        }
        socket.opening
    }

    /// The second half of a turn: returns what is to be reported.
    pub fn finish(&mut self, condition: &Condition, context: &mut Context) -> Vec<Report> {
        if context.now() < condition.paused_until {
            context.agenda.at(condition.paused_until, Happening::Finish(self.end));
            return Vec::new();
        }
        let mut actions = std::mem::take(&mut self.actions);
        let mut reports = Vec::new();
        actions.drain(|action, bytes| match action {
            Action::Send { connection, .. } => {
                if let Some(socket) = self.sockets.get_mut(&connection) {
                    socket.out.extend_from_slice(bytes);
                }
            }
            Action::Close { connection, reason } => {
                context.note(|| format!("{} closes a connection: {reason}", observe::who(self.end)));
                if let Some(socket) = self.sockets.get_mut(&connection) {
                    socket.closing = true;
                }
            }
            Action::Connect { worker, address } => {
                let wire = context.connect(self.end, address);
                self.add(wire, Side::Opener, Some(worker));
            }
            Action::Report { what } => {
                context.violated(|| format!("{} reports: {what}", observe::who(self.end)));
            }
            Action::Tell { what } => context.note(|| format!("{} says: {what}", observe::who(self.end))),
            other => {
                let due = self.pool.take(other, &mut reports, &mut context.random);
                self.await_step(due, context);
            }
        });
        self.actions = actions;
        if let (Some(worker), Some(chatty)) = (&self.worker, &mut self.chatty) {
            for (connection, bytes) in chatty.tell(worker) {
                if let Some(socket) = self.sockets.get_mut(&connection) {
                    socket.out.extend_from_slice(&bytes);
                }
            }
        }
        self.flush(condition.clock.read(context.now()), context);
        self.turn = Turn::Idle;
        let Some(worker) = &self.worker else { return reports };
        if !self.inbox.is_empty() || !self.actions.is_empty() || !worker.is_idle() {
            self.rouse(context);
        } else if let Some(wake) = worker.wakes_at() {
            let at = condition.clock.when(wake, context.now());
            if self.wakes.is_none_or(|known| known > at) {
                self.wakes = Some(at);
                context.agenda.at(at, Happening::Wake(self.end));
            }
        }
        reports
    }

    /// Writes what waits: answers to proxies only while the lease holds at this moment.
    fn flush(&mut self, now: Time, context: &mut Context) {
        let Some(worker) = &self.worker else { return };
        let leased = worker.under_lease(now);
        let mut closed = Vec::new();
        let mut late = Vec::new();
        for (id, socket) in &mut self.sockets {
            let proxy = worker.is_proxy(*id);
            if proxy && !leased && context.sabotages(Sabotage::LateAnswers) {
                continue;
            }
            if proxy && !leased && !socket.out.is_empty() {
                context.close(socket.wire, socket.side);
                late.push(*id);
                continue;
            }
            if !socket.out.is_empty() {
                let bytes = std::mem::take(&mut socket.out);
                observe::sent(self.end, socket.wire, proxy, &bytes, context);
                if let Some(forged) = sabotage::forged(context.sabotage, &bytes) {
                    let arrival = Arrival { wire: socket.wire, side: socket.side, what: What::Bytes(forged) };
                    self.inbox.push_back(Input::Arrival(arrival));
                }
                context.send(socket.wire, socket.side, bytes);
            }
            if socket.closing {
                context.close(socket.wire, socket.side);
                closed.push(*id);
            }
        }
        for id in closed {
            self.remove(id);
        }
        for id in late {
            self.remove(id);
            self.event(Event::Closed(id), now);
        }
    }
}
