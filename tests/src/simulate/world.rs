//! One run: everything that happens, in the order of true time, from the first process to the last answer.

use super::check::agree;
use super::check::linear::{self, Strictness, Verdict};
use super::check::state::{Past, Seen};
use super::clock::{Agenda, Instant, MILLISECOND, NodeClock, SECOND};
use super::context::{Context, Happening};
use super::faults::{Fault, Planned};
use super::group::Group;
use super::history::History;
use super::network::{Host, MEMBERS, Network};
use super::node::Node;
use super::observe::Observed;
use super::proxy::Proxy;
use super::sabotage::Sabotage;
use super::scenario::{CALM, LEAST, PATIENCE, Scenario};
use super::trace::Trace;
use super::workload::{self, Act, Work};
use crate::random::Random;
use std::collections::VecDeque;
use toroid_common::id::{ClusterId, PartitionId, WorkerId};
use toroid_engine::store::root::Root;
use toroid_storage_node::metadata::Founding;

const CLUSTER: ClusterId = ClusterId(77);
/// Turns of workers after which all replicas are judged.
const INSPECTED_TURNS: u64 = 7;
/// How often the run looks whether it can go on to its next stage.
const LOOK: Instant = 50 * MILLISECOND;

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    /// What must not be, if it was.
    pub violation: Option<String>,
    pub trace: Vec<String>,
    /// Equal for equal runs.
    pub digest: u64,
    pub operations: usize,
    pub faults: usize,
    /// Virtual microseconds.
    pub lasted: Instant,
    pub tally: Tally,
}

/// What happened how often, to see that runs reach what they are to test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub answers: u64,
    pub new_epochs: u64,
    pub promotions: u64,
    pub unknown: u64,
    pub refused: u64,
    pub lost_partitions: u64,
    pub undecided: u64,
    pub skipped_faults: u64,
}

impl Tally {
    /// Counts another run.
    pub fn add(&mut self, other: &Tally) {
        self.events += other.events;
        self.answers += other.answers;
        self.new_epochs += other.new_epochs;
        self.promotions += other.promotions;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.lost_partitions += other.lost_partitions;
        self.undecided += other.undecided;
        self.skipped_faults += other.skipped_faults;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The cluster forms, and the table is made.
    Forming,
    Working,
    /// Faults are over: everything must be answered, every partition have its copies, the same in all.
    Settling,
    /// Every key is read once more.
    LastReads,
    Over,
}

struct Session {
    queue: VecDeque<usize>,
    busy: bool,
}

struct World<'s> {
    scenario: &'s Scenario,
    context: Context,
    nodes: Vec<Node>,
    proxies: Vec<Proxy>,
    group: Group,
    sessions: Vec<Session>,
    history: History,
    stage: Stage,
    tally: Tally,
    asked_for_table: Instant,
    begun_faults: usize,
    past: Past,
    turns: u64,
}

/// Runs a scenario to its end, or to the first thing that must not be.
#[must_use]
pub fn run(scenario: &Scenario, sabotage: Option<Sabotage>, traced: bool) -> Ended {
    let mut world = World::new(scenario, sabotage, traced);
    world.start();
    while world.stage != Stage::Over && world.context.violation.is_none() {
        let Some(happening) = world.context.agenda.next_until(PATIENCE) else {
            world.unsettled();
            break;
        };
        world.tally.events += 1;
        let happens = std::panic::AssertUnwindSafe(|| world.happen(happening));
        if let Err(panic) = std::panic::catch_unwind(happens) {
            world.context.violated(|| format!("a panic: {}", said(&*panic)));
        }
    }
    world.end()
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("nothing")
}

impl World<'_> {
    fn new(scenario: &Scenario, sabotage: Option<Sabotage>, traced: bool) -> World<'_> {
        let random = Random::new(scenario.seed);
        let context = Context {
            agenda: Agenda::new(),
            network: Network::new(random.apart(11), scenario.pace),
            random: random.apart(12),
            trace: Trace::new(traced),
            observed: Observed::new(scenario.is_lawless()),
            violation: None,
            sabotage,
        };
        let mut clocks = random.apart(13);
        let nodes = (0..scenario.nodes).zip(&scenario.rates).map(|(index, rate)| {
            let mut node = Node::new(index, scenario.workers, NodeClock::new(clocks.below(1 << 40), *rate));
            node.moving_ports = scenario.moving_ports;
            node
        });
        let sessions = (0..scenario.sessions).map(|session| {
            let mine = scenario.operations.iter().enumerate().filter(|(_, operation)| operation.session == session);
            Session { queue: mine.map(|(index, _)| index).collect(), busy: false }
        });
        let founding = Founding {
            cluster: CLUSTER,
            nodes: usize::from(scenario.nodes),
            copies: scenario.copies,
            partitions: scenario.partitions,
        };
        World {
            scenario,
            nodes: nodes.collect(),
            proxies: (0..scenario.proxies).map(Proxy::new).collect(),
            group: Group::new(founding, random.apart(14)),
            sessions: sessions.collect(),
            context,
            history: History::default(),
            stage: Stage::Forming,
            tally: Tally::default(),
            asked_for_table: 0,
            begun_faults: 0,
            past: Past::default(),
            turns: 0,
        }
    }

    fn start(&mut self) {
        let context = &mut self.context;
        self.group.start(context);
        self.nodes.iter_mut().for_each(|node| node.start(context));
        self.proxies.iter_mut().for_each(|proxy| proxy.start(context));
        for (index, planned) in self.scenario.faults.iter().enumerate() {
            context.agenda.at(planned.at, Happening::Fault { index, begins: true });
            context.agenda.at(planned.until, Happening::Fault { index, begins: false });
        }
        context.agenda.after(LOOK, Happening::Look);
    }

    fn happen(&mut self, happening: Happening) {
        let World { context, nodes, proxies, group, history, .. } = self;
        let mut idle = Vec::new();
        match happening {
            Happening::Arrival(arrival) => {
                let Some((end, arrival)) = context.network.arrive(arrival, &mut context.agenda) else { return };
                context.trace.mark(context.agenda.now() ^ u64::from(arrival.wire.0) << 40);
                match end.host {
                    Host::Node(index) => nodes[usize::from(index)].arrived(end, arrival, context),
                    Host::Proxy(index) => {
                        idle = proxies[usize::from(index)].arrived(end, arrival, history, context);
                    }
                    Host::Group(_) => group.arrived(end, arrival, context),
                }
            }
            Happening::Turn(end) => {
                if let Host::Node(index) = end.host {
                    nodes[usize::from(index)].turn(end, context);
                }
            }
            Happening::Finish(end) => {
                if let Host::Node(index) = end.host {
                    nodes[usize::from(index)].finish(end, context);
                    self.inspect();
                }
            }
            Happening::Done(end, number) => match end.host {
                Host::Node(index) => nodes[usize::from(index)].found(end, number, context),
                Host::Group(_) => group.done(end, number, context),
                Host::Proxy(_) => {}
            },
            Happening::Election => self.election(),
            Happening::Learn(index) => group.learn(index, context),
            Happening::Wake(end) => match end.host {
                Host::Node(index) => nodes[usize::from(index)].woken(end, context),
                Host::Proxy(index) => idle = proxies[usize::from(index)].woken(end, history, context),
                Host::Group(_) => group.woken(end, context),
            },
            Happening::Fault { index, begins } => self.fault(index, begins),
            Happening::Flaw(index) => self.flaw(index),
            Happening::Session(session) => self.session(session),
            Happening::Look => self.look(),
        }
        self.rest(&idle);
    }

    /// Sessions whose statement has ended think about the next one.
    fn rest(&mut self, idle: &[u16]) {
        for session in idle {
            if let Some(state) = self.sessions.get_mut(usize::from(*session)) {
                state.busy = false;
                let pause = self.context.random.below(2 * MILLISECOND);
                self.context.agenda.after(pause, Happening::Session(usize::from(*session)));
            }
        }
    }

    fn session(&mut self, session: usize) {
        let now = self.context.now();
        let Some(state) = self.sessions.get_mut(session) else { return };
        let Some(operation) = state.queue.front().and_then(|index| self.scenario.operations.get(*index)) else {
            return;
        };
        if state.busy || self.stage == Stage::Forming {
            return;
        }
        if operation.at > now {
            return self.context.agenda.at(operation.at, Happening::Session(session));
        }
        let proxy = session % self.proxies.len();
        if !self.proxies[proxy].serves(now) {
            return self.context.agenda.after(20 * MILLISECOND, Happening::Session(session));
        }
        state.queue.pop_front();
        state.busy = true;
        let idle = self.proxies[proxy].begin(session as u16, operation.what, &mut self.history, &mut self.context);
        self.rest(&idle);
    }

    fn fault(&mut self, index: usize, begins: bool) {
        let Some(Planned { until, fault, .. }) = self.scenario.faults.get(index).copied() else { return };
        if begins && !self.may_begin(fault) {
            self.tally.skipped_faults += 1;
            return;
        }
        self.begun_faults += usize::from(begins);
        self.context.note(|| format!("FAULT {} {fault:?}", if begins { "begins" } else { "ends" }));
        let context = &mut self.context;
        match fault {
            Fault::Reset { .. } if begins => self.flaw(index),
            Fault::Reset { .. } => {}
            Fault::Split { a, b, one_way } => self.split(a, b, one_way, begins),
            Fault::Isolate { host } => {
                for other in self.scenario.hosts().others(host) {
                    self.split(host, other, false, begins);
                }
                if begins {
                    self.without_leader(host, until);
                }
            }
            Fault::SlowLink { a, b, extra } => {
                let extra = if begins { extra } else { 0 };
                context.network.slow_down(a, b, extra);
                context.network.slow_down(b, a, extra);
            }
            Fault::Pause { host } if begins => match host {
                Host::Node(index) => {
                    let paused = &mut self.nodes[usize::from(index)].condition.paused_until;
                    *paused = (*paused).max(until);
                }
                Host::Proxy(index) => self.proxies[usize::from(index)].pause(until, context),
                Host::Group(index) => {
                    self.group.pause(index, until, context);
                    self.without_leader(host, until);
                }
            },
            Fault::Pause { .. } => {}
            Fault::SlowNode { node, turn } => {
                self.nodes[usize::from(node)].condition.turn = if begins { turn } else { 60 };
            }
            Fault::Drift { node, per_mille } | Fault::LawlessClock { node, per_mille } => {
                let usual = self.scenario.rates.get(usize::from(node)).copied().unwrap_or(1_000);
                let rate = if begins { per_mille } else { usual };
                self.nodes[usize::from(node)].condition.clock.set_rate(rate, context.agenda.now());
            }
            Fault::Crash { host, told } => self.crash(host, told, begins),
            Fault::Election { to } if begins => {
                let former = self.group.leads();
                self.group.elect(to, context);
                if let Some(former) = former {
                    context.agenda.at(until, Happening::Learn(former));
                }
            }
            Fault::Election { .. } => {}
            Fault::Leave { node } => self.leave(node, index, begins),
            Fault::SetCopies { copies } if begins => self.proxies[0].set_copies(copies, context),
            Fault::SetCopies { .. } => {}
        }
    }

    /// The host is out of reach until then: if it leads the group, another member will after a while.
    fn without_leader(&mut self, host: Host, until: Instant) {
        let patience = self.context.random.between(150 * MILLISECOND, 600 * MILLISECOND);
        let election = self.context.now() + patience;
        if let Host::Group(index) = host
            && self.group.leads() == Some(index)
            && election < until
        {
            self.context.agenda.at(election, Happening::Election);
            self.context.agenda.at(until + patience, Happening::Learn(index));
        }
    }

    fn election(&mut self) {
        let next = self.group.leads().map_or(0, |former| (former + 1) % MEMBERS);
        self.group.elect(next, &mut self.context);
    }

    /// Breaks connections, and will do it again.
    fn flaw(&mut self, index: usize) {
        let Some(Planned { until, fault: Fault::Reset { a, b, every }, .. }) = self.scenario.faults.get(index) else {
            return;
        };
        let context = &mut self.context;
        for wire in context.network.between(*a, *b) {
            context.network.reset(wire, &mut context.agenda);
        }
        let next = context.now() + 1 + context.random.below(*every);
        if next < *until {
            context.agenda.at(next, Happening::Flaw(index));
        }
    }

    fn leave(&mut self, index: u8, fault: usize, begins: bool) {
        let context = &mut self.context;
        let node = &mut self.nodes[usize::from(index)];
        if begins {
            return node.leave(context);
        }
        if node.is_leaving() {
            // It stops when it may.
            return context.agenda.after(SECOND / 2, Happening::Fault { index: fault, begins: false });
        }
        if !node.up {
            context.network.revive(Host::Node(index), &mut context.agenda);
            node.start(context);
        }
    }

    fn split(&mut self, a: Host, b: Host, one_way: bool, begins: bool) {
        let Context { network, agenda, .. } = &mut self.context;
        let ways = [Some((a, b)), (!one_way).then_some((b, a))];
        for (from, to) in ways.into_iter().flatten() {
            if begins {
                network.block(from, to);
            } else {
                network.unblock(from, to, agenda);
            }
        }
    }

    fn crash(&mut self, host: Host, told: bool, begins: bool) {
        let context = &mut self.context;
        match host {
            Host::Node(index) => {
                let node = &mut self.nodes[usize::from(index)];
                if begins {
                    node.crash(told, context);
                } else if !node.up {
                    context.network.revive(host, &mut context.agenda);
                    node.start(context);
                }
            }
            Host::Proxy(index) => {
                let proxy = &mut self.proxies[usize::from(index)];
                if begins {
                    let sessions = proxy.crash(told, &mut self.history, context);
                    self.rest(&sessions);
                } else if !proxy.up {
                    context.network.revive(host, &mut context.agenda);
                    proxy.start(context);
                }
            }
            Host::Group(_) => {}
        }
    }

    /// A crash that would destroy the last replica of something teaches nothing: with k + 1 copies, k are spared.
    fn may_begin(&self, fault: Fault) -> bool {
        let host = match fault {
            Fault::Crash { host, .. } => host,
            Fault::Leave { node } if self.nodes.iter().all(|node| node.up) => Host::Node(node),
            Fault::Leave { .. } => return false,
            _ => return true,
        };
        if self.nodes.iter().any(Node::is_leaving) {
            return false;
        }
        match host {
            Host::Proxy(index) => self.proxies[usize::from(index)].up,
            Host::Group(_) => false,
            Host::Node(index) => {
                let Some(map) = &self.group.map else { return false };
                self.nodes[usize::from(index)].up
                    && map.partitions.iter().all(|assignment| {
                        let mut holders = assignment.primary.iter().chain(&assignment.backups);
                        assignment.primary.is_none()
                            || holders.any(|worker| worker.node.0 != u32::from(index) + 1 && self.lives(*worker))
                    })
            }
        }
    }

    /// Whether the process that the map means still runs.
    fn lives(&self, worker: WorkerId) -> bool {
        let entry = self.group.map.as_ref().and_then(|map| map.node(worker.node));
        let node = self.nodes.get(worker.node.0 as usize - 1);
        match (entry, node) {
            (Some(entry), Some(node)) => node.up && node.incarnation() == Some(entry.incarnation),
            _ => false,
        }
    }

    /// Judges all replicas, now and then.
    fn inspect(&mut self) {
        self.turns += 1;
        if !self.turns.is_multiple_of(INSPECTED_TURNS) {
            return;
        }
        let now = self.context.now();
        for partition in (0..self.scenario.partitions).map(PartitionId) {
            let mut seen = Vec::new();
            for node in self.nodes.iter().filter(|node| node.up) {
                let runs = now >= node.condition.paused_until;
                for seat in &node.seats {
                    let Some(worker) = &seat.worker else { continue };
                    let Some(view) = worker.view(partition) else { continue };
                    let leased = runs && worker.under_lease(node.condition.clock.read(now));
                    let id = WorkerId { node: node.id(), index: seat.end.part };
                    seen.push(Seen { worker: id, life: node.life, view, leased });
                }
            }
            self.past.look(partition, &seen, &mut self.context);
        }
    }

    /// Looks whether the run can go on to its next stage.
    fn look(&mut self) {
        let now = self.context.now();
        match self.stage {
            Stage::Forming => self.form(now),
            Stage::Working if now >= CALM => self.stage = Stage::Settling,
            Stage::Settling if self.unsettled_because().is_none() => self.read_all(),
            Stage::LastReads if self.proxies.iter().all(|proxy| proxy.open() == 0) && now >= LEAST => {
                self.judge();
                self.stage = Stage::Over;
            }
            Stage::Working | Stage::Settling | Stage::LastReads | Stage::Over => {}
        }
        self.context.agenda.after(LOOK, Happening::Look);
    }

    fn form(&mut self, now: Instant) {
        if self.proxies.iter().all(|proxy| proxy.serves(now)) {
            self.stage = Stage::Working;
            for session in 0..self.sessions.len() {
                self.context.agenda.after(0, Happening::Session(session));
            }
        } else if now >= self.asked_for_table + SECOND / 2 && self.proxies[0].is_ready() {
            self.asked_for_table = now;
            self.proxies[0].create_table(&mut self.context);
        }
    }

    /// Why the cluster has not settled yet.
    fn unsettled_because(&self) -> Option<String> {
        for proxy in &self.proxies {
            if !proxy.serves(self.context.now()) {
                return Some(format!("proxy {} does not serve", proxy.index));
            }
            if proxy.open() > 0 {
                return Some(format!("proxy {} waits for {}", proxy.index, proxy.waits_for()));
            }
        }
        if let Some(session) = self.sessions.iter().position(|session| !session.queue.is_empty()) {
            return Some(format!("session {session} has not ended"));
        }
        let Some(map) = &self.group.map else { return Some("there is no map".to_owned()) };
        let copies = usize::from(map.copies.min(self.scenario.nodes));
        for (index, assignment) in map.partitions.iter().enumerate() {
            if assignment.primary.is_none() {
                continue;
            }
            if assignment.copies() != copies || !assignment.joining.is_empty() || assignment.successor.is_some() {
                return Some(format!("partition {index} is {assignment:?}"));
            }
            if let Some(what) = self.replicas_differ(PartitionId(index as u16)) {
                return Some(format!("partition {index}: {what}"));
            }
        }
        None
    }

    fn replica(&self, worker: WorkerId, partition: PartitionId) -> Option<(&Root, toroid_common::id::Lsn)> {
        let node = self.nodes.get(worker.node.0 as usize - 1)?;
        node.seats.get(usize::from(worker.index))?.worker.as_ref()?.replica(partition)
    }

    fn replicas_differ(&self, partition: PartitionId) -> Option<String> {
        let assignment = self.group.map.as_ref()?.assignment(partition)?;
        let primary = assignment.primary?;
        let Some(one) = self.replica(primary, partition) else { return Some(format!("{primary} holds nothing")) };
        for backup in &assignment.backups {
            let Some(other) = self.replica(*backup, partition) else { return Some(format!("{backup} holds nothing")) };
            let requests = self.context.observed.requests.iter();
            let mine = requests.filter(|(_, to)| **to == partition).map(|(request, _)| request);
            if let Some(what) = agree::difference(one, other, mine) {
                return Some(format!("{primary} and {backup} differ: {what}"));
            }
        }
        None
    }

    fn read_all(&mut self) {
        self.stage = Stage::LastReads;
        self.context.note(|| "the cluster has settled; every key is read once more".to_owned());
        let mut keys: Vec<i32> = self.history.records.iter().map(|record| record.key).collect();
        keys.sort_unstable();
        keys.dedup();
        for (number, key) in keys.into_iter().enumerate() {
            let proxy = number % self.proxies.len();
            let work = Work::On { key, act: Act::Read };
            let _ = self.proxies[proxy].begin(u16::MAX, work, &mut self.history, &mut self.context);
        }
    }

    fn judge(&mut self) {
        let lost: Vec<PartitionId> = self.lost_partitions();
        self.tally.lost_partitions = lost.len() as u64;
        let partitions = self.scenario.partitions;
        let strictness = if self.context.observed.lawless { Strictness::Writes } else { Strictness::Full };
        let exempt = |key| lost.contains(&workload::partition(key, partitions));
        match linear::judge(&self.history.records, strictness, exempt) {
            Verdict::Linearizable => {}
            Verdict::Undecided(keys) => self.tally.undecided = keys as u64,
            Verdict::Broken { key, why } => self.context.violated(|| format!("key {key}: {why}")),
        }
    }

    fn lost_partitions(&self) -> Vec<PartitionId> {
        let Some(map) = &self.group.map else { return Vec::new() };
        let lost = map.partitions.iter().enumerate().filter(|(_, assignment)| assignment.primary.is_none());
        lost.map(|(index, _)| PartitionId(index as u16)).collect()
    }

    fn unsettled(&mut self) {
        let why = match self.stage {
            Stage::Forming => "the cluster was never formed".to_owned(),
            Stage::Working | Stage::Over => "time stands still".to_owned(),
            Stage::Settling => self.unsettled_because().unwrap_or_default(),
            Stage::LastReads => "the last reads were not answered".to_owned(),
        };
        self.context.violated(|| format!("the cluster did not settle after the faults: {why}"));
    }

    fn end(mut self) -> Ended {
        use super::history::End;
        let count =
            |wanted: fn(&End) -> bool| self.history.records.iter().filter(|record| wanted(&record.end)).count() as u64;
        self.tally.unknown = count(|end| matches!(end, End::Unknown | End::Open));
        self.tally.refused = count(|end| matches!(end, End::Refused));
        let Observed { answers, new_epochs, promotions, .. } = self.context.observed;
        self.tally = Tally { answers, new_epochs, promotions, ..self.tally };
        Ended {
            violation: self.context.violation.take(),
            digest: self.context.trace.digest(),
            operations: self.history.records.len(),
            faults: self.begun_faults,
            lasted: self.context.now(),
            tally: self.tally,
            trace: self.context.trace.into_lines(),
        }
    }
}

/// A fault as it is shown.
#[must_use]
pub fn show(planned: &Planned) -> String {
    let seconds = |at: Instant| at as f64 / SECOND as f64;
    format!("{:>9.3} – {:>9.3} s  {:?}", seconds(planned.at), seconds(planned.until), planned.fault)
}
