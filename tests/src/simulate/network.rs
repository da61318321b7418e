//! The virtual network: connections that keep their bytes in order and nothing else, between hosts that may be split, slow or gone.
//!
//! What TCP hides stays hidden: bytes are not lost, doubled or reordered inside a connection. A connection that breaks loses a tail of what
//! was under way in each direction, and its ends learn of it at different times, or not at all when the other machine is gone.

use super::clock::{Agenda, Instant, MILLISECOND, SECOND};
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Node(u8),
    Proxy(u8),
    /// A member of the metadata group. In the product it lives in a storage node's process; here it fails by itself.
    Group(u8),
}

/// How many members the metadata group has.
pub const MEMBERS: u8 = 3;

/// One end of a connection, or somebody who listens: a part of a process on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    pub host: Host,
    pub part: u16,
    /// Counts the processes of the host.
    pub life: u32,
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WireId(pub u32);

/// An end of a connection: who opened it, or who accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Opener,
    Accepter,
}

impl Side {
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Opener => Side::Accepter,
            Side::Accepter => Side::Opener,
        }
    }
}

/// What an end of a connection sees.
#[derive(Debug)]
pub enum What {
    Accepted,
    Opened,
    /// The connection did not come through.
    Failed,
    Bytes(Vec<u8>),
    Closed,
    /// The network's own: an opening is tried again.
    Knock,
}

#[derive(Debug)]
pub struct Arrival {
    pub wire: WireId,
    pub side: Side,
    pub what: What,
}

#[derive(Debug)]
struct Wire {
    address: SocketAddr,
    /// By side; who accepts is known once somebody did.
    ends: [End; 2],
    open: [bool; 2],
    /// By receiving side.
    lanes: [Lane; 2],
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Lane {
    /// When the last bytes arrive: later ones don't overtake them.
    last: Instant,
    /// Kept back by a split, to be sent again after it.
    held: VecDeque<What>,
    /// The connection broke: what arrives from then on is lost.
    cut: Option<Instant>,
}

/// How long bytes take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub least: Instant,
    pub jitter: Instant,
}

#[derive(Debug)]
pub struct Network {
    random: Random,
    pace: Pace,
    wires: BTreeMap<WireId, Wire>,
    next: u32,
    listening: BTreeMap<SocketAddr, End>,
    /// Nothing passes from the first to the second.
    blocked: BTreeSet<(Host, Host)>,
    /// Bytes from the first to the second take so much longer.
    slow: BTreeMap<(Host, Host), Instant>,
    /// Bytes that were sent.
    pub carried: u64,
}

fn index(side: Side) -> usize {
    match side {
        Side::Opener => 0,
        Side::Accepter => 1,
    }
}

impl Network {
    #[must_use]
    pub fn new(random: Random, pace: Pace) -> Network {
        Network {
            random,
            pace,
            wires: BTreeMap::new(),
            next: 0,
            listening: BTreeMap::new(),
            blocked: BTreeSet::new(),
            slow: BTreeMap::new(),
            carried: 0,
        }
    }

    pub fn listen(&mut self, address: SocketAddr, end: End) {
        self.listening.insert(address, end);
    }

    /// Opens a connection; `Opened` or `Failed` arrives.
    pub fn connect<E: From<Arrival>>(&mut self, from: End, address: SocketAddr, agenda: &mut Agenda<E>) -> WireId {
        self.next += 1;
        let id = WireId(self.next);
        let lanes = [Lane::default(), Lane::default()];
        self.wires.insert(id, Wire { address, ends: [from, from], open: [true, false], lanes });
        let delay = self.delay(from.host, from.host);
        agenda.after(delay, Arrival { wire: id, side: Side::Accepter, what: What::Knock }.into());
        id
    }

    /// Sends bytes from this end.
    pub fn send<E: From<Arrival>>(&mut self, id: WireId, from: Side, bytes: Vec<u8>, agenda: &mut Agenda<E>) {
        self.carried += bytes.len() as u64;
        self.pass(id, from, What::Bytes(bytes), agenda);
    }

    /// This end closes the connection; the other sees it after what was sent before.
    pub fn close<E: From<Arrival>>(&mut self, id: WireId, from: Side, agenda: &mut Agenda<E>) {
        self.pass(id, from, What::Closed, agenda);
        self.shut(id, from);
    }

    fn pass<E: From<Arrival>>(&mut self, id: WireId, from: Side, what: What, agenda: &mut Agenda<E>) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if !wire.open.get(index(from)).is_some_and(|open| *open) {
            return;
        }
        let [opener, accepter] = wire.ends.map(|end| end.host);
        let (here, there) = if from == Side::Opener { (opener, accepter) } else { (accepter, opener) };
        let lane = &mut wire.lanes[index(from.other())];
        if self.blocked.contains(&(here, there)) || !lane.held.is_empty() {
            lane.held.push_back(what);
            return;
        }
        let delay = self.delay(here, there);
        self.deliver(id, from.other(), delay, what, agenda);
    }

    fn deliver<E: From<Arrival>>(&mut self, id: WireId, to: Side, delay: Instant, what: What, agenda: &mut Agenda<E>) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let lane = &mut wire.lanes[index(to)];
        lane.last = lane.last.max(agenda.now() + delay);
        agenda.at(lane.last, Arrival { wire: id, side: to, what }.into());
    }

    fn delay(&mut self, from: Host, to: Host) -> Instant {
        let extra = self.slow.get(&(from, to)).copied().unwrap_or(0);
        let spread = self.random.below(self.pace.jitter + 1);
        // Now and then something takes much longer than usual.
        let spike = if self.random.below(200) == 0 { self.random.below(20 * self.pace.jitter + 1) } else { 0 };
        self.pace.least + spread + spike + extra + self.random.below(extra / 2 + 1)
    }

    /// When what is sent by itself, outside any connection, arrives: not at all, once or twice.
    pub fn datagram(&mut self, from: Host, to: Host) -> Vec<Instant> {
        if self.blocked.contains(&(from, to)) {
            return Vec::new();
        }
        let copies = match self.random.below(200) {
            0..2 => 0,
            2 => 2,
            _ => 1,
        };
        (0..copies).map(|_| self.delay(from, to)).collect()
    }

    fn shut(&mut self, id: WireId, side: Side) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.open[index(side)] = false;
            if wire.open == [false, false] && wire.lanes.iter().all(|lane| lane.held.is_empty()) {
                self.wires.remove(&id);
            }
        }
    }

    /// Something reaches its end: tells whose it is, unless nobody is there any more.
    pub fn arrive<E: From<Arrival>>(&mut self, arrival: Arrival, agenda: &mut Agenda<E>) -> Option<(End, Arrival)> {
        let Arrival { wire: id, side, what } = arrival;
        if matches!(what, What::Knock) {
            return self.knock(id, agenda);
        }
        let wire = self.wires.get(&id)?;
        let late = wire.lanes[index(side)].cut.is_some_and(|cut| cut <= agenda.now());
        let open = wire.open[index(side)];
        let end = wire.ends[index(side)];
        let lost = late && matches!(what, What::Bytes(_));
        if matches!(what, What::Closed | What::Failed) {
            self.shut(id, side);
        }
        (open && !lost).then_some((end, Arrival { wire: id, side, what }))
    }

    /// An opening reaches the other machine, or doesn't.
    fn knock<E: From<Arrival>>(&mut self, id: WireId, agenda: &mut Agenda<E>) -> Option<(End, Arrival)> {
        let wire = self.wires.get_mut(&id)?;
        if !wire.open[0] {
            self.wires.remove(&id);
            return None;
        }
        let from = wire.ends[0].host;
        let Some(listener) = self.listening.get(&wire.address).copied() else {
            let delay = self.delay(from, from);
            self.deliver(id, Side::Opener, delay, What::Failed, agenda);
            return None;
        };
        let to = listener.host;
        if self.blocked.contains(&(from, to)) || self.blocked.contains(&(to, from)) {
            let again = SECOND / 2 + self.random.below(SECOND);
            agenda.after(again, Arrival { wire: id, side: Side::Accepter, what: What::Knock }.into());
            return None;
        }
        wire.ends[1] = listener;
        wire.open[1] = true;
        let delay = self.delay(from, to);
        self.deliver(id, Side::Opener, delay, What::Opened, agenda);
        Some((listener, Arrival { wire: id, side: Side::Accepter, what: What::Accepted }))
    }

    /// Breaks a connection: each end learns of it at its own time, and what would arrive later is lost.
    pub fn reset<E: From<Arrival>>(&mut self, id: WireId, agenda: &mut Agenda<E>) {
        for side in [Side::Opener, Side::Accepter] {
            let cut = agenda.now() + self.random.below(5 * MILLISECOND);
            let Some(wire) = self.wires.get_mut(&id) else { return };
            let lane = &mut wire.lanes[index(side)];
            lane.held.clear();
            lane.cut = Some(cut);
            lane.last = lane.last.max(cut);
            agenda.at(cut, Arrival { wire: id, side, what: What::Closed }.into());
        }
    }

    /// All connections that stand between two hosts.
    #[must_use]
    pub fn between(&self, a: Host, b: Host) -> Vec<WireId> {
        let joins = |wire: &Wire| {
            let hosts = wire.ends.map(|end| end.host);
            wire.open == [true, true] && (hosts == [a, b] || hosts == [b, a])
        };
        self.wires.iter().filter(|(_, wire)| joins(wire)).map(|(id, _)| *id).collect()
    }

    /// The processes of a host are gone. `told`: its kernel still runs and closes the connections; otherwise their peers wait in vain.
    pub fn crash<E: From<Arrival>>(&mut self, host: Host, told: bool, agenda: &mut Agenda<E>) {
        self.listening.retain(|_, end| end.host != host);
        let of_host = |wire: &Wire, side: Side| wire.ends[index(side)].host == host && wire.open[index(side)];
        for side in [Side::Opener, Side::Accepter] {
            let wires: Vec<WireId> =
                self.wires.iter().filter(|(_, wire)| of_host(wire, side)).map(|(id, _)| *id).collect();
            for id in wires {
                if told {
                    self.close(id, side, agenda);
                } else {
                    self.shut(id, side);
                }
            }
        }
    }

    /// A machine is there again: its peers' connections to its former life are answered with a reset.
    pub fn revive<E: From<Arrival>>(&mut self, host: Host, agenda: &mut Agenda<E>) {
        for side in [Side::Opener, Side::Accepter] {
            let half_open = |wire: &Wire| {
                wire.ends[index(side)].host == host && !wire.open[index(side)] && wire.open[index(side.other())]
            };
            // An opening that has not been answered has no other end yet.
            let stands = |wire: &Wire| wire.ends[0] != wire.ends[1];
            let wires: Vec<WireId> =
                self.wires.iter().filter(|(_, wire)| half_open(wire) && stands(wire)).map(|(id, _)| *id).collect();
            for id in wires {
                let delay = self.random.below(200 * MILLISECOND);
                self.deliver(id, side.other(), delay, What::Closed, agenda);
            }
        }
    }

    /// Nothing passes from `from` to `to` any more.
    pub fn block(&mut self, from: Host, to: Host) {
        self.blocked.insert((from, to));
    }

    /// What was kept back goes on its way.
    pub fn unblock<E: From<Arrival>>(&mut self, from: Host, to: Host, agenda: &mut Agenda<E>) {
        if !self.blocked.remove(&(from, to)) {
            return;
        }
        let ids: Vec<WireId> = self.wires.keys().copied().collect();
        for id in ids {
            for side in [Side::Opener, Side::Accepter] {
                let Some(wire) = self.wires.get_mut(&id) else { continue };
                let ends = [wire.ends[index(side)].host, wire.ends[index(side.other())].host];
                if ends != [from, to] {
                    continue;
                }
                let held = std::mem::take(&mut wire.lanes[index(side.other())].held);
                // A sender that was not answered for long tries again more and more rarely.
                let pause = self.random.below(400 * MILLISECOND);
                for what in held {
                    let delay = pause + self.delay(from, to);
                    self.deliver(id, side.other(), delay, what, agenda);
                }
            }
        }
    }

    /// Bytes from `from` to `to` take so much longer; 0 for as usual.
    pub fn slow_down(&mut self, from: Host, to: Host, extra: Instant) {
        if extra == 0 {
            self.slow.remove(&(from, to));
        } else {
            self.slow.insert((from, to), extra);
        }
    }
}
