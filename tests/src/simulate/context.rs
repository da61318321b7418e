//! What every part of a simulation reaches for: the agenda, the network, chance, the trace, and where a violation is told.

use super::clock::{Agenda, Instant};
use super::group::Letter;
use super::network::{Arrival, End, Host, Network, Side, WireId};
use super::observe::Observed;
use super::sabotage::Sabotage;
use super::trace::Trace;
use crate::random::Random;
use std::net::SocketAddr;
use toroid_common::wire::Message;

/// Something that is to happen.
#[derive(Debug)]
pub enum Happening {
    Arrival(Arrival),
    /// A worker's loop takes a turn.
    Turn(End),
    /// It does what it decided in its turn.
    Finish(End),
    /// A timer of a part of a process.
    Wake(End),
    /// Something that a part of a process asked for is done: it knows it by this number.
    Done(End, u64),
    /// A fault of the scenario begins or ends.
    Fault {
        index: usize,
        begins: bool,
    },
    /// A message reaches a member of the metadata group.
    Letter {
        to: u8,
        letter: Box<Letter>,
    },
    /// A fault of the scenario strikes again.
    Flaw(usize),
    /// An operator looks after an errand.
    Errand(usize),
    /// A session may begin its next operation.
    Session(usize),
    /// The run looks whether it can go on to its next stage.
    Look,
}

impl From<Arrival> for Happening {
    fn from(arrival: Arrival) -> Happening {
        Happening::Arrival(arrival)
    }
}

#[derive(Debug)]
pub struct Context {
    pub agenda: Agenda<Happening>,
    pub network: Network,
    pub random: Random,
    pub trace: Trace,
    pub observed: Observed,
    /// All keys that clients work on.
    pub keys: Vec<i32>,
    /// The first thing that must not be.
    pub violation: Option<String>,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// Write sets above so many bytes are replicated before they are prepared.
    pub chunk_bytes: usize,
    /// So many rows are entered into new indexes in one turn.
    pub built_rows: usize,
}

impl Context {
    #[must_use]
    pub fn now(&self) -> Instant {
        self.agenda.now()
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.agenda.now(), line);
    }

    /// Something that must not be.
    pub fn violated(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let what = what();
            self.note(|| format!("VIOLATION {what}"));
            self.violation = Some(what);
        }
    }

    pub fn sabotages(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    pub fn send(&mut self, wire: WireId, from: Side, bytes: Vec<u8>) {
        self.network.send(wire, from, bytes, &mut self.agenda);
    }

    pub fn send_message(&mut self, wire: WireId, from: Side, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.send(wire, from, bytes);
    }

    pub fn close(&mut self, wire: WireId, from: Side) {
        self.network.close(wire, from, &mut self.agenda);
    }

    pub fn connect(&mut self, from: End, address: SocketAddr) -> WireId {
        self.network.connect(from, address, &mut self.agenda)
    }
}

/// Where a member of the metadata group listens.
#[must_use]
pub fn group_address(index: u8) -> SocketAddr {
    ([10, 1, 0, index + 1], 4_000).into()
}

/// Where a worker listens; processes may take other ports than their former lives did.
#[must_use]
pub fn worker_address(node: u8, ports: u16, index: u16) -> SocketAddr {
    ([10, 0, 0, node + 1], 5_000 + ports * 16 + index).into()
}

/// Where a node's metadata and control messages would be received.
#[must_use]
pub fn control_address(node: u8) -> SocketAddr {
    ([10, 0, 0, node + 1], 4_000).into()
}

/// A host as traces name it.
#[must_use]
pub fn name(host: Host) -> String {
    match host {
        Host::Node(index) => format!("node {}", index + 1),
        Host::Proxy(index) => format!("proxy {index}"),
        Host::Group(index) => format!("group member {index}"),
    }
}
