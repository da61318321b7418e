//! A storage node: its workers, and the control task that joins, renews the lease and passes on what the metadata service pushes.

pub mod pool;
pub mod seat;

use super::clock::{Instant, MILLISECOND, NodeClock};
use super::context::{Context, Happening, control_address, group_address, name, worker_address};
use super::network::{Arrival, End, Host, MEMBERS, Side, What, WireId};
use super::observe;
use super::sabotage::Sabotage;
use seat::{Condition, Letter, Report, Seat};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use toroid_common::id::{ClusterId, Incarnation, MapVersion, NodeId, PartitionId, WorkerId};
use toroid_common::wire::{
    Control, ControlBody, Hello, Message, NodeAnnouncement, Notice, NoticeBody, PROTOCOL_VERSION, RawFrame, Role,
};
use toroid_engine::gate::Time;
use toroid_engine::worker::{Action, Identity};

/// The part of a node's process that is its control task; parts below are workers.
pub const CONTROL: u16 = 1_000;
const LEASE_MICROS: u64 = 400_000;
const RENEWAL_MICROS: u64 = 100_000;
const RECONNECT: Instant = 50 * MILLISECOND;
/// Without a word from the metadata service for so long, its line is given up.
const SILENCE_MICROS: u64 = 300_000;
const WORKER_MEMORY: usize = 1 << 30;
const JOIN: u32 = 1;

#[derive(Debug)]
pub struct Node {
    pub index: u8,
    pub life: u32,
    pub up: bool,
    /// It has not come yet, or has gone for good.
    pub away: bool,
    pub condition: Condition,
    pub seats: Vec<Seat>,
    control: Line,
    /// Whether each process takes new ports.
    pub moving_ports: bool,
    /// What came for the control task while the process was stopped.
    deferred: Vec<Arrival>,
}

/// The control task's line to the metadata service.
#[derive(Debug, Default)]
struct Line {
    wire: Option<WireId>,
    joined: Option<(ClusterId, Incarnation)>,
    greeted: bool,
    number: u32,
    /// Where the group was said to be led.
    leader: Option<SocketAddr>,
    tries: u8,
    /// It asked under this number whether it may stop.
    leaving: Option<u32>,
    /// The latest term that granted a lease.
    term: u64,
    /// When each renewal under way was sent.
    sent: BTreeMap<u32, Time>,
    heard: Time,
    renew_at: Time,
    /// The control task's next timer.
    wakes: Option<Instant>,
    /// Which workers have each map: reported once all have it.
    gathered: BTreeMap<MapVersion, BTreeSet<WorkerId>>,
    last_map: Option<ControlBody>,
    last_catalogs: BTreeMap<WorkerId, ControlBody>,
}

impl Node {
    #[must_use]
    pub fn new(index: u8, workers: u16, clock: NodeClock) -> Node {
        let seats = (0..workers).map(|part| Seat::new(End { host: Host::Node(index), part, life: 0 })).collect();
        let condition = Condition { clock, paused_until: 0, turn: 60 };
        Node {
            index,
            life: 0,
            up: false,
            away: false,
            condition,
            seats,
            control: Line::default(),
            moving_ports: false,
            deferred: Vec::new(),
        }
    }

    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(u32::from(self.index) + 1)
    }

    /// Which life the metadata group knows it by.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.control.joined.map(|(_, incarnation)| incarnation)
    }

    fn end(&self, part: u16) -> End {
        End { host: Host::Node(self.index), part, life: self.life }
    }

    fn ports(&self) -> u16 {
        if self.moving_ports { (self.life % 1_000) as u16 } else { 0 }
    }

    /// A new process, which remembers nothing. What its disk kept will be handed to it here once there is durability.
    pub fn start(&mut self, context: &mut Context) {
        self.life += 1;
        self.up = true;
        self.condition.paused_until = 0;
        self.deferred.clear();
        self.control = Line::default();
        let workers = self.seats.len() as u16;
        self.seats = (0..workers).map(|part| Seat::new(self.end(part))).collect();
        for part in 0..workers {
            context.network.listen(worker_address(self.index, self.ports(), part), self.end(part));
        }
        context.note(|| format!("{} starts", name(Host::Node(self.index))));
        let delay = 1 + context.random.below(20 * MILLISECOND);
        self.wake_control(context.now() + delay, context);
    }

    /// The process is gone, with all that it held in memory.
    pub fn crash(&mut self, told: bool, context: &mut Context) {
        self.up = false;
        observe::ended(self.incarnation(), context);
        self.control.leaving = None;
        let workers = self.seats.len() as u16;
        self.seats = (0..workers).map(|part| Seat::new(self.end(part))).collect();
        context.network.crash(Host::Node(self.index), told, &mut context.agenda);
    }

    /// Asks to stop: it will once nobody waits for it.
    pub fn leave(&mut self, context: &mut Context) {
        let (Some(wire), Some((_, incarnation)), true) = (self.control.wire, self.control.joined, self.control.greeted)
        else {
            return;
        };
        self.control.number += 1;
        self.control.leaving = Some(self.control.number);
        let body = ControlBody::Leave { node: self.id(), incarnation };
        context.send_message(wire, Side::Opener, &Message::Control(Control { number: self.control.number, body }));
    }

    /// Whether it is about to stop.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.up && self.control.leaving.is_some()
    }

    fn is_paused(&self, context: &Context) -> bool {
        context.now() < self.condition.paused_until
    }

    fn now(&self, context: &Context) -> Time {
        self.condition.clock.read(context.now())
    }

    /// Something reached a part of the process.
    pub fn arrived(&mut self, end: End, arrival: Arrival, context: &mut Context) {
        if !self.up || end.life != self.life {
            return;
        }
        if let Some(seat) = self.seats.get_mut(usize::from(end.part)) {
            seat.arrived(arrival, context);
        } else if self.is_paused(context) {
            self.deferred.push(arrival);
            self.wake_control(self.condition.paused_until, context);
        } else {
            self.control_arrived(arrival, context);
        }
    }

    pub fn turn(&mut self, end: End, context: &mut Context) {
        if self.up
            && end.life == self.life
            && let Some(seat) = self.seats.get_mut(usize::from(end.part))
        {
            seat.take_turn(&self.condition, context);
        }
    }

    pub fn finish(&mut self, end: End, context: &mut Context) {
        if !self.up || end.life != self.life {
            return;
        }
        let Some(seat) = self.seats.get_mut(usize::from(end.part)) else { return };
        let reports = seat.finish(&self.condition, context);
        for report in reports {
            self.report(WorkerId { node: self.id(), index: end.part }, report, context);
        }
    }

    pub fn done(&mut self, end: End, number: u64, context: &mut Context) {
        if self.up
            && end.life == self.life
            && let Some(seat) = self.seats.get_mut(usize::from(end.part))
        {
            seat.done(number, context);
        }
    }

    pub fn woken(&mut self, end: End, context: &mut Context) {
        if !self.up || end.life != self.life {
            return;
        }
        if let Some(seat) = self.seats.get_mut(usize::from(end.part)) {
            return seat.woken(context);
        }
        // Timers that were set anew come in vain.
        if self.control.wakes.is_none_or(|at| at > context.now()) {
            return;
        }
        self.control.wakes = None;
        if self.is_paused(context) {
            return self.wake_control(self.condition.paused_until, context);
        }
        for arrival in std::mem::take(&mut self.deferred) {
            self.control_arrived(arrival, context);
        }
        self.control_woken(context);
    }

    fn wake_control(&mut self, at: Instant, context: &mut Context) {
        if self.control.wakes.is_none_or(|known| known > at) {
            self.control.wakes = Some(at);
            context.agenda.at(at, Happening::Wake(self.end(CONTROL)));
        }
    }

    /// The control task's timer: connect, renew, or give up a silent line.
    fn control_woken(&mut self, context: &mut Context) {
        let now = self.now(context);
        let end = self.end(CONTROL);
        let Some(wire) = self.control.wire else {
            let wire = context.connect(end, self.next_group());
            self.control.wire = Some(wire);
            self.control.heard = now;
            self.control.greeted = false;
            return self.wake_control(context.now() + RECONNECT, context);
        };
        if now >= self.control.heard.after(SILENCE_MICROS) {
            return self.give_up_line(context);
        }
        if context.sabotages(Sabotage::LeaseAtReply) && self.control.joined.is_some() {
            self.post(&Letter::Lease(now.after(LEASE_MICROS)), context);
        }
        if self.control.greeted && self.control.renew_at <= now {
            self.control.renew_at = now.after(RENEWAL_MICROS);
            self.renew(wire, now, context);
        }
        let next = if self.control.greeted { self.control.renew_at } else { now.after(RECONNECT) };
        let at = self.condition.clock.when(next, context.now()).max(context.now() + MILLISECOND);
        self.wake_control(at, context);
    }

    /// The member to try next: the one that is said to lead, else one after the other.
    fn next_group(&mut self) -> SocketAddr {
        self.control.tries = self.control.tries.wrapping_add(1);
        self.control.leader.take().unwrap_or_else(|| group_address(self.control.tries % MEMBERS))
    }

    fn renew(&mut self, wire: WireId, now: Time, context: &mut Context) {
        let Some((_, incarnation)) = self.control.joined else { return };
        self.control.number += 1;
        self.control.sent.insert(self.control.number, now);
        while self.control.sent.len() > 64 {
            self.control.sent.pop_first();
        }
        let body = ControlBody::RenewLease { node: self.id(), incarnation };
        context.send_message(wire, Side::Opener, &Message::Control(Control { number: self.control.number, body }));
    }

    fn line_lost(&mut self, context: &mut Context) {
        self.control.wire = None;
        self.control.greeted = false;
        self.control.sent.clear();
        context.note(|| format!("{} lost the metadata service", name(Host::Node(self.index))));
        self.wake_control(context.now() + RECONNECT, context);
    }

    fn control_arrived(&mut self, arrival: Arrival, context: &mut Context) {
        if self.control.wire != Some(arrival.wire) {
            return;
        }
        match arrival.what {
            What::Opened => self.announce(arrival.wire, context),
            What::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    rest = rest.get(used..).unwrap_or_default();
                    if let Ok(Message::Notice(notice)) = Message::decode(frame) {
                        self.notice(notice, context);
                    }
                }
            }
            What::Closed | What::Failed => self.line_lost(context),
            What::Accepted | What::Knock => {}
        }
    }

    fn announce(&mut self, wire: WireId, context: &mut Context) {
        let role = Role::Node { node: self.id() };
        let hello = Hello { version: PROTOCOL_VERSION, cluster: None, role };
        let ports = self.ports();
        let workers = (0..self.seats.len() as u16).map(|part| worker_address(self.index, ports, part)).collect();
        let announcement = NodeAnnouncement {
            node: self.id(),
            process: u64::from(self.life),
            control: control_address(self.index),
            workers,
            zone: String::new(),
            // Few virtual nodes: the ring is asked often.
            capacity: 4,
            member: None,
        };
        let mut bytes = Vec::new();
        Message::Hello(hello).write(&mut bytes);
        Message::Control(Control { number: JOIN, body: ControlBody::Join(announcement) }).write(&mut bytes);
        context.send(wire, Side::Opener, bytes);
    }

    fn notice(&mut self, notice: Notice, context: &mut Context) {
        let now = self.now(context);
        self.control.heard = now;
        let renewed = self.control.sent.remove(&notice.number);
        match notice.body {
            NoticeBody::Joined { cluster, incarnation, .. } => self.joined(cluster, incarnation, context),
            NoticeBody::Map(map) => self.post(&Letter::Map(Arc::new(map)), context),
            NoticeBody::Catalog(catalog) => self.post(&Letter::Catalog(Arc::new(catalog)), context),
            NoticeBody::LeaseRenewed { term } => {
                if term < self.control.term {
                    return;
                }
                self.control.term = term;
                if let Some(sent) = renewed {
                    self.post(&Letter::Lease(sent.after(LEASE_MICROS)), context);
                }
            }
            NoticeBody::Proxies { .. } if context.sabotages(Sabotage::FencedProxies) => {}
            NoticeBody::Proxies { alive, below } => self.post(&Letter::Proxies { alive: alive.into(), below }, context),
            NoticeBody::Capture { cut, map } => {
                self.post(&Letter::Capture { cut, map }, context);
                if context.sabotages(Sabotage::CaptureGates) {
                    self.post(&Letter::Release { cut, committed: Some(Arc::from([])) }, context);
                }
            }
            NoticeBody::Release { cut, committed } => {
                context
                    .note(|| format!("{} hears of the release of {cut}: {committed:?}", name(Host::Node(self.index))));
                if committed.is_none() && context.sabotages(Sabotage::CaptureGates) {
                    self.post(&Letter::DropCut(cut), context);
                }
                let none = context.sabotages(Sabotage::PendingInCut);
                let committed = committed.map(|all| Arc::from(if none { Vec::new() } else { all }));
                self.post(&Letter::Release { cut, committed }, context);
            }
            NoticeBody::DropCut(cut) => self.post(&Letter::DropCut(cut), context),
            NoticeBody::Cuts { term, read } => self.post(&Letter::Cuts { term, read: read.into() }, context),
            NoticeBody::Deadlock { worker, transaction, wait, detail } => {
                if let Some(seat) = self.seats.get_mut(usize::from(worker.index)) {
                    seat.post(Letter::Deadlock { transaction, wait, detail }, context);
                }
            }
            NoticeBody::Failed { reason } => {
                context.note(|| format!("{} is told: {reason}", name(Host::Node(self.index))));
                if !self.control.greeted {
                    self.give_up_line(context);
                }
            }
            NoticeBody::NotLeader { leader } => {
                self.control.leader = leader;
                self.give_up_line(context);
            }
            NoticeBody::Done if self.control.leaving == Some(notice.number) => self.stop(&[], context),
            NoticeBody::GivenUp(lost) if self.control.leaving == Some(notice.number) => self.stop(&lost, context),
            NoticeBody::Ready
            | NoticeBody::Incarnation(_)
            | NoticeBody::Changed(_)
            | NoticeBody::Done
            | NoticeBody::GivenUp(_)
            | NoticeBody::Recovered(_)
            | NoticeBody::Status(_)
            | NoticeBody::Cut { .. }
            | NoticeBody::Inquiry(_) => {}
        }
    }

    /// It was asked to stop and may, and with it go these partitions.
    fn stop(&mut self, lost: &[PartitionId], context: &mut Context) {
        context.note(|| format!("{} stops, and with it go {lost:?}", name(Host::Node(self.index))));
        if lost.is_empty() {
            observe::let_go(self.id(), context);
        }
        self.crash(true, context);
    }

    fn give_up_line(&mut self, context: &mut Context) {
        if let Some(wire) = self.control.wire {
            context.close(wire, Side::Opener);
            self.line_lost(context);
        }
    }

    fn joined(&mut self, cluster: ClusterId, incarnation: Incarnation, context: &mut Context) {
        let Some(wire) = self.control.wire else { return };
        context.note(|| format!("{} joined as incarnation {incarnation}", name(Host::Node(self.index))));
        match self.control.joined {
            None => {
                self.control.joined = Some((cluster, incarnation));
                let node = self.id();
                for seat in &mut self.seats {
                    let worker = WorkerId { node, index: seat.end.part };
                    seat.begin(Identity { cluster, worker, incarnation, memory: WORKER_MEMORY }, context);
                }
            }
            Some((_, known)) if known == incarnation => {}
            Some(_) => {
                context.violated(|| format!("one process of node {} joined under two incarnations", self.id()));
            }
        }
        self.control.greeted = true;
        self.control.number = self.control.number.max(JOIN);
        self.control.renew_at = Time(0);
        let mut bytes = Vec::new();
        Message::Control(Control { number: 0, body: ControlBody::Watch }).write(&mut bytes);
        for body in self.control.last_map.iter().chain(self.control.last_catalogs.values()) {
            Message::Control(Control { number: 0, body: body.clone() }).write(&mut bytes);
        }
        context.send(wire, Side::Opener, bytes);
        if self.control.leaving.is_some() {
            // The answer may have been lost with the former line.
            self.leave(context);
        }
        self.wake_control(context.now(), context);
    }

    fn post(&mut self, letter: &Letter, context: &mut Context) {
        for seat in &mut self.seats {
            seat.post(letter.clone(), context);
        }
    }

    /// A worker reports something that the metadata service is to know.
    fn report(&mut self, worker: WorkerId, report: Report, context: &mut Context) {
        let workers = self.seats.len();
        let body = match report {
            Action::Propose(proposal) => {
                context.note(|| format!("{worker} proposes {proposal:?}"));
                Some(ControlBody::Propose(proposal))
            }
            Action::MapApplied { version } => {
                let who = self.control.gathered.entry(version).or_default();
                who.insert(worker);
                (who.len() == workers).then(|| {
                    self.control.gathered.remove(&version);
                    self.control.last_map = Some(ControlBody::MapApplied { version });
                    ControlBody::MapApplied { version }
                })
            }
            Action::CatalogApplied { version, map, result } => {
                let body = ControlBody::CatalogApplied { worker, version, map, result };
                self.control.last_catalogs.insert(worker, body.clone());
                Some(body)
            }
            Action::Captured(captured) => {
                context.note(|| format!("{worker} captured {captured:?}"));
                Some(ControlBody::Captured(captured))
            }
            Action::Waits(waits) => {
                context.note(|| format!("{worker} waits for locks: {waits:?}"));
                Some(ControlBody::Waits { worker, waits })
            }
            Action::Send { .. }
            | Action::Close { .. }
            | Action::Connect { .. }
            | Action::FindRows { .. }
            | Action::RunFragment { .. }
            | Action::FragmentCredit { .. }
            | Action::FragmentCancel { .. }
            | Action::Inquire(_)
            | Action::Report { .. }
            | Action::Tell { .. } => None,
        };
        if let (Some(body), Some(wire), true) = (body, self.control.wire, self.control.greeted) {
            context.send_message(wire, Side::Opener, &Message::Control(Control { number: 0, body }));
        }
    }
}
