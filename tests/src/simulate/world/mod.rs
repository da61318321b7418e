//! One run: everything that happens, in the order of true time, from the first process to the last answer.

mod inflict;
mod operators;
mod stages;

use super::check::state::{Past, Seen};
use super::clock::{Agenda, Instant, MILLISECOND, NodeClock};
use super::context::{Context, Happening};
use super::group::Group;
use super::history::changes::{Change, Told};
use super::history::{End, History, Record, Step};
use super::network::{Host, Network};
use super::node::Node;
use super::observe::{Observed, who};
use super::proxy::Proxy;
use super::sabotage::Sabotage;
use super::scenario::{PATIENCE, Scenario};
use super::trace::Trace;
use super::workload::table;
use crate::random::Random;
use stages::Stage;
use std::collections::VecDeque;
use toroid_common::id::{ClusterId, PartitionId, WorkerId};
use toroid_storage_node::metadata::Founding;

const CLUSTER: ClusterId = ClusterId(77);
/// Turns of workers after which all replicas are judged.
const INSPECTED_TURNS: u64 = 7;
/// Turns of workers after which all that replicas hold is looked through, where the table changes.
const SEARCHED_TURNS: u64 = 20 * INSPECTED_TURNS;
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
    pub losses: u64,
    pub emptied: u64,
    pub batches: u64,
    pub scans: u64,
    pub undecided: u64,
    pub heard: u64,
    pub missed: u64,
    pub skipped_faults: u64,
    pub changes: u64,
    pub withdrawals: u64,
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
        self.losses += other.losses;
        self.emptied += other.emptied;
        self.batches += other.batches;
        self.scans += other.scans;
        self.undecided += other.undecided;
        self.heard += other.heard;
        self.missed += other.missed;
        self.skipped_faults += other.skipped_faults;
        self.changes += other.changes;
        self.withdrawals += other.withdrawals;
    }
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
    last_reads_at: Instant,
    asked_for_recovery: Instant,
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
            keys: (0..scenario.keys as i32 + 1).collect(),
            violation: None,
            sabotage,
            chunk_bytes: scenario.chunk_bytes,
            built_rows: scenario.built_rows,
        };
        let mut clocks = random.apart(13);
        let nodes = (0..scenario.most_nodes()).zip(&scenario.rates).map(|(index, rate)| {
            let mut node = Node::new(index, scenario.workers, NodeClock::new(clocks.below(1 << 40), *rate));
            node.moving_ports = scenario.moving_ports;
            node.away = index >= scenario.nodes;
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
            min_copies: match scenario.seed % 8 {
                1 | 5 => scenario.copies.div_ceil(2),
                3 => scenario.copies,
                _ => 1,
            },
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
            last_reads_at: 0,
            asked_for_recovery: 0,
            begun_faults: 0,
            past: Past::default(),
            turns: 0,
        }
    }

    fn start(&mut self) {
        let context = &mut self.context;
        self.group.start(context);
        self.nodes.iter_mut().filter(|node| !node.away).for_each(|node| node.start(context));
        self.proxies.iter_mut().for_each(|proxy| proxy.start(context));
        for (index, planned) in self.scenario.faults.iter().enumerate() {
            context.agenda.at(planned.at, Happening::Fault { index, begins: true });
            context.agenda.at(planned.until, Happening::Fault { index, begins: false });
        }
        for (index, planned) in self.scenario.errands.iter().enumerate() {
            context.agenda.at(planned.at, Happening::Errand(index));
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
                Host::Node(index) => nodes[usize::from(index)].done(end, number, context),
                Host::Group(_) => group.synced(end, number, context),
                Host::Proxy(_) => {}
            },
            Happening::Letter { to, letter } => group.letter(to, *letter, context),
            Happening::Wake(end) => match end.host {
                Host::Node(index) => nodes[usize::from(index)].woken(end, context),
                Host::Proxy(index) => idle = proxies[usize::from(index)].woken(end, history, context),
                Host::Group(_) => group.woken(end, context),
            },
            Happening::Fault { index, begins } => self.fault(index, begins),
            Happening::Flaw(index) => self.flaw(index),
            Happening::Errand(index) => self.errand(index),
            Happening::Session(session) => self.session(session),
            Happening::Look => self.look(),
        }
        for partition in std::mem::take(&mut self.context.observed.lost) {
            self.forsake(partition);
        }
        for partition in std::mem::take(&mut self.context.observed.emptied) {
            self.history.empty(partition);
        }
        for life in std::mem::take(&mut self.context.observed.fenced) {
            self.history.bereave(life);
        }
        self.rest(&idle);
        self.bury();
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
            return self.retire(session);
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
        let idle =
            self.proxies[proxy].begin(session as u16, operation.what.clone(), &mut self.history, &mut self.context);
        self.rest(&idle);
    }

    /// A session that has nothing to do any more holds nothing.
    fn retire(&mut self, session: usize) {
        let proxy = session % self.proxies.len();
        self.proxies[proxy].retire(session as u16, &mut self.history, &mut self.context);
    }

    /// Judges all replicas, now and then.
    fn inspect(&mut self) {
        self.turns += 1;
        if !self.turns.is_multiple_of(INSPECTED_TURNS) {
            return;
        }
        let now = self.context.now();
        let searched = self.scenario.alters && self.turns.is_multiple_of(SEARCHED_TURNS);
        for partition in (0..self.scenario.partitions).map(PartitionId) {
            let mut seen = Vec::new();
            for node in self.nodes.iter().filter(|node| node.up) {
                let runs = now >= node.condition.paused_until;
                for seat in &node.seats {
                    let Some(worker) = &seat.worker else { continue };
                    let Some(view) = worker.view(partition) else { continue };
                    let root = worker.replica(partition).filter(|_| searched).map(|(root, _)| root);
                    if let Some(what) = root.and_then(table::unsound) {
                        let end = seat.end;
                        self.context.violated(|| format!("{} has in partition {partition} {what}", who(end)));
                    }
                    let leased = runs && worker.under_lease(node.condition.clock.read(now));
                    let id = WorkerId { node: node.id(), index: seat.end.part };
                    seen.push(Seen { worker: id, life: node.life, view, leased });
                }
            }
            self.past.look(partition, &seen, &mut self.context);
        }
    }

    fn end(mut self) -> Ended {
        let count =
            |wanted: fn(&End) -> bool| self.history.records.iter().filter(|record| wanted(&record.end)).count() as u64;
        self.tally.unknown = count(|end| matches!(end, End::Unknown | End::Open));
        self.tally.refused = count(|end| matches!(end, End::Refused));
        let scanned = |record: &&Record| record.end == End::Answered && matches!(record.steps[..], [Step::Scan { .. }]);
        self.tally.scans = self.history.records.iter().filter(scanned).count() as u64;
        self.tally.heard = self.history.notices.ears.iter().map(|ear| ear.heard.len() as u64).sum();
        self.tally.missed = self.history.notices.ears.iter().filter(|ear| ear.missed).count() as u64;
        self.tally.emptied = self.history.emptied.len() as u64;
        let made = |change: &&Change| change.told == Told::Done;
        self.tally.changes = self.history.changes.iter().filter(made).count() as u64;
        let Observed { answers, batches, losses, new_epochs, promotions, withdrawals, .. } = self.context.observed;
        self.tally = Tally { answers, batches, losses, new_epochs, promotions, withdrawals, ..self.tally };
        Ended {
            violation: self.context.violation.take(),
            digest: self.context.trace.digest(),
            operations: self.history.operations(),
            faults: self.begun_faults,
            lasted: self.context.now(),
            tally: self.tally,
            trace: self.context.trace.into_lines(),
        }
    }
}
