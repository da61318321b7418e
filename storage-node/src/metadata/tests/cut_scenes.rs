//! The scenes of the model that the cut protocol was designed with, over the service itself: every interleaving of a few operations is strictly
//! serializable, and no rule can be left out.
//!
//! Partitions are models: sets of applied and prepared operations, and bars. What they say to the service and it to them is what workers say.

use super::super::cuts::{Cuts, Order, Orders, Reader};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use toroid_common::id::{
    ClusterId, CutId, Epoch, Incarnation, MapVersion, NodeId, PartitionId, TransactionId, WorkerId,
};
use toroid_common::map::{Assignment, ClusterMap, NodeEntry, NodeState};
use toroid_common::wire::Captured;
use toroid_engine::gate::Time;

/// A set of operations, by their numbers.
type Ops = u8;
type Part = usize;

#[derive(Clone, Debug)]
enum Kind {
    Write(Part),
    /// Of one partition.
    Read(Part),
    Transaction {
        parts: Vec<Part>,
        anchor: Part,
    },
    /// Of several partitions.
    Cut(Vec<Part>),
}
use Kind::{Cut, Read, Transaction, Write};

/// Operations, each with those that have answered before it starts.
struct Scene {
    name: &'static str,
    parts: usize,
    ops: Vec<(Kind, Ops)>,
}

/// What can be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Without {
    #[default]
    Nothing,
    Gate,
    PrepareGate,
    Pending,
    OneRound,
    WaitForPrepared,
    DecisionGate,
    ConfirmationGate,
}

/// Bars that stood when something was executed.
type Bars = BTreeSet<(usize, CutId)>;

#[derive(Clone, Debug, Default, Hash)]
struct Partition {
    applied: Ops,
    prepared: Ops,
    bars: Bars,
    /// What each service has said to it and has not arrived.
    inboxes: BTreeMap<usize, VecDeque<Said>>,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Said {
    Capture(CutId),
    Release(CutId),
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    New,
    Go,
    /// The answer waits behind these bars; what it saw.
    Out(Bars, Ops),
    /// Where it is prepared, behind which bars, and whose confirmation has come.
    Preparing(BTreeMap<Part, Bars>, BTreeSet<Part>),
    /// The anchor's answer, and who has been told, behind which bars.
    Decided(Bars, BTreeMap<Part, Bars>),
    Wants,
    Got(BTreeMap<Part, Ops>),
}

#[derive(Clone, Debug, Hash)]
struct World {
    partitions: Vec<Partition>,
    phases: Vec<Phase>,
    services: Vec<Cuts>,
    /// What was captured, until its readers have it.
    captured: BTreeMap<(usize, CutId), BTreeMap<Part, (Ops, Ops)>>,
    committed: BTreeMap<(usize, CutId), Ops>,
    /// Who had answered before whom started.
    order: BTreeSet<(usize, usize)>,
    done: Ops,
}

fn scenes() -> Vec<Scene> {
    let both = || Cut(vec![0, 1]);
    let transaction = |parts: &[Part], anchor| Transaction { parts: parts.to_vec(), anchor };
    let scene = |name, parts, ops: &[(Kind, Ops)]| Scene { name, parts, ops: ops.to_vec() };
    vec![
        scene("two ordered writes, reader", 2, &[(Write(0), 0), (Write(1), 1), (both(), 0)]),
        scene(
            "write, read of it, write elsewhere, reader",
            2,
            &[(Write(0), 0), (Read(0), 0), (Write(1), 2), (both(), 0)],
        ),
        scene("two writes, two readers", 2, &[(Write(0), 0), (Write(1), 0), (both(), 0), (both(), 0)]),
        scene("transaction, reader", 2, &[(transaction(&[0, 1], 0), 0), (both(), 0)]),
        scene("transaction answered, then reader", 2, &[(transaction(&[0, 1], 0), 0), (both(), 1)]),
        scene(
            "transaction answered, then read of each",
            2,
            &[(transaction(&[0, 1], 0), 0), (Read(0), 1), (Read(1), 1)],
        ),
        scene(
            "transaction, write, two readers",
            2,
            &[(transaction(&[0, 1], 0), 0), (Write(1), 0), (both(), 0), (both(), 0)],
        ),
        scene("anchor outside of the read", 3, &[(transaction(&[0, 1, 2], 2), 0), (both(), 0), (Read(2), 0)]),
        scene("write, then transaction, reader", 2, &[(Write(0), 0), (transaction(&[0, 1], 1), 1), (both(), 0)]),
        scene(
            "transaction, then write elsewhere, reader of three",
            3,
            &[(transaction(&[0, 1], 0), 0), (Write(2), 1), (Cut(vec![0, 1, 2]), 0)],
        ),
        scene(
            "two transactions, reader",
            2,
            &[(transaction(&[0, 1], 0), 0), (transaction(&[0, 1], 1), 0), (both(), 0)],
        ),
        scene(
            "two transactions, two readers",
            2,
            &[(transaction(&[0, 1], 0), 0), (transaction(&[0, 1], 1), 0), (both(), 0), (both(), 4)],
        ),
        scene(
            "single reads around a transaction, reader",
            2,
            &[(transaction(&[0, 1], 0), 0), (Read(0), 0), (Read(1), 2), (both(), 0)],
        ),
        scene(
            "transaction and write, read of the write, reader",
            2,
            &[(transaction(&[0, 1], 0), 0), (Write(1), 0), (Read(1), 2), (both(), 0)],
        ),
    ]
}

/// Partition p's primary is the only worker of node p.
fn map(parts: usize) -> ClusterMap {
    let node = |part: usize| NodeEntry {
        id: NodeId(part as u32),
        incarnation: Incarnation(1),
        control: ([127, 0, 0, 1], 1).into(),
        workers: vec![([127, 0, 0, 1], 2).into()],
        zone: String::new(),
        capacity: 1,
        state: NodeState::Serving,
    };
    ClusterMap {
        cluster: ClusterId(1),
        version: MapVersion(1),
        copies: 1,
        min_copies: 1,
        nodes: (0..parts).map(node).collect(),
        partitions: (0..parts).map(|part| Assignment::fresh(Epoch(1), worker(part), Vec::new())).collect(),
    }
}

fn worker(part: Part) -> WorkerId {
    WorkerId { node: NodeId(part as u32), index: 0 }
}

fn bit(op: usize) -> Ops {
    1 << op
}

fn members(ops: Ops) -> impl Iterator<Item = usize> {
    (0..8).filter(move |op| ops & bit(*op) != 0)
}

fn name(op: usize) -> TransactionId {
    TransactionId { proxy: Incarnation(1), number: op as u64 }
}

struct Explorer<'a> {
    scene: &'a Scene,
    map: ClusterMap,
    without: Without,
}

impl Explorer<'_> {
    fn start(&self) -> World {
        // Rounds that overlap are those of two services that know nothing of each other.
        let services = if self.without == Without::OneRound { self.scene.ops.len() } else { 1 };
        World {
            partitions: vec![Partition::default(); self.scene.parts],
            phases: vec![Phase::New; self.scene.ops.len()],
            services: (0..services).map(|term| Cuts::elected(term as u64 + 1, Time(0))).collect(),
            captured: BTreeMap::new(),
            committed: BTreeMap::new(),
            order: BTreeSet::new(),
            done: 0,
        }
    }

    fn bars(&self, world: &World, part: Part) -> Bars {
        if self.without == Without::Gate { Bars::new() } else { world.partitions[part].bars.clone() }
    }

    /// Transactions whose outcome the anchor has forgotten: every other participant's confirmation has passed its gate.
    fn forgotten(&self, world: &World) -> Ops {
        let all = self.scene.ops.iter().enumerate().filter(|(op, (kind, _))| match (kind, &world.phases[*op]) {
            (Transaction { parts, anchor }, Phase::Decided(_, told)) => parts.iter().all(|part| {
                part == anchor
                    || told
                        .get(part)
                        .is_some_and(|bars| self.without == Without::ConfirmationGate || !held(world, *part, bars))
            }),
            _ => false,
        });
        all.map(|(op, _)| bit(op)).sum()
    }

    fn is_over(&self, world: &World) -> bool {
        world.done.count_ones() as usize == self.scene.ops.len()
    }

    /// Everything that can happen next.
    fn next(&self, world: &World) -> Vec<World> {
        let mut all = Vec::new();
        for part in 0..world.partitions.len() {
            for service in world.partitions[part].inboxes.keys() {
                let mut next = world.clone();
                self.arrive(&mut next, part, *service);
                all.push(next);
            }
        }
        for op in 0..self.scene.ops.len() {
            self.advance(world, op, &mut all);
        }
        all
    }

    fn advance(&self, world: &World, op: usize, all: &mut Vec<World>) {
        let mut push = |change: &dyn Fn(&mut World)| {
            let mut next = world.clone();
            change(&mut next);
            all.push(next);
        };
        let (kind, after) = &self.scene.ops[op];
        let is_done = world.done & bit(op) != 0;
        match (kind, &world.phases[op]) {
            (_, Phase::New) => {
                if world.done & after == *after {
                    push(&|next| self.begin(next, op));
                }
            }
            (Write(part), Phase::Go) => push(&|next| {
                next.phases[op] = Phase::Out(self.bars(next, *part), 0);
                next.partitions[*part].applied |= bit(op);
            }),
            (Read(part), Phase::Go) => {
                let found = &world.partitions[*part];
                if found.prepared == 0 || self.without == Without::WaitForPrepared {
                    push(&|next| next.phases[op] = Phase::Out(self.bars(world, *part), found.applied));
                }
            }
            (Write(part) | Read(part), Phase::Out(bars, _)) => {
                if !is_done && !held(world, *part, bars) {
                    push(&|next| next.done |= bit(op));
                }
            }
            (Transaction { parts, anchor }, Phase::Preparing(at, passed)) => {
                for part in parts {
                    match at.get(part) {
                        None => push(&|next| {
                            let bars = match self.without {
                                Without::PrepareGate => Bars::new(),
                                _ => next.partitions[*part].bars.clone(),
                            };
                            next.partitions[*part].prepared |= bit(op);
                            let Phase::Preparing(at, _) = &mut next.phases[op] else { unreachable!() };
                            at.insert(*part, bars);
                        }),
                        Some(bars) if !passed.contains(part) && !held(world, *part, bars) => push(&|next| {
                            let Phase::Preparing(_, passed) = &mut next.phases[op] else { unreachable!() };
                            passed.insert(*part);
                        }),
                        Some(_) => {}
                    }
                }
                if passed.len() == parts.len() {
                    push(&|next| {
                        next.phases[op] = Phase::Decided(self.bars(next, *anchor), BTreeMap::new());
                        commit(next, op, *anchor);
                    });
                }
            }
            (Transaction { parts, anchor }, Phase::Decided(bars, told)) => {
                let answered = !held(world, *anchor, bars);
                for part in parts.iter().filter(|part| *part != anchor && !told.contains_key(part)) {
                    if answered || self.without == Without::DecisionGate {
                        push(&|next| {
                            let bars = next.partitions[*part].bars.clone();
                            commit(next, op, *part);
                            let Phase::Decided(_, told) = &mut next.phases[op] else { unreachable!() };
                            told.insert(*part, bars);
                        });
                    }
                }
                if answered && !is_done {
                    push(&|next| next.done |= bit(op));
                }
            }
            (Cut(_), Phase::Got(_)) => {
                if !is_done {
                    push(&|next| next.done |= bit(op));
                }
            }
            (Cut(_), Phase::Wants) => {}
            (kind, phase) => unreachable!("{kind:?} in {phase:?}"),
        }
    }

    fn begin(&self, world: &mut World, op: usize) {
        world.order.extend(members(world.done).map(|before| (before, op)));
        world.phases[op] = match self.scene.ops[op].0 {
            Write(_) | Read(_) => Phase::Go,
            Transaction { .. } => Phase::Preparing(BTreeMap::new(), BTreeSet::new()),
            Cut(_) => Phase::Wants,
        };
        if let Cut(_) = self.scene.ops[op].0 {
            let service = if self.without == Without::OneRound { op } else { 0 };
            world.services[service].open(Reader { client: op as u64, number: 1 });
            self.step(world, service, Orders::new());
        }
    }

    /// The first thing that a service has said to a partition arrives there.
    fn arrive(&self, world: &mut World, part: Part, service: usize) {
        let forgotten = self.forgotten(world);
        let said = world.partitions[part].hear(service);
        match said {
            Said::Release(cut) => drop(world.partitions[part].bars.remove(&(service, cut))),
            Said::Capture(cut) => {
                let Partition { applied, prepared, bars, .. } = &mut world.partitions[part];
                bars.insert((service, cut));
                let (applied, prepared) = (*applied, *prepared);
                world.captured.entry((service, cut)).or_default().insert(part, (applied, prepared));
                let anchor = |op: &usize| match self.scene.ops[*op].0 {
                    Transaction { anchor, .. } => Some(anchor),
                    _ => None,
                };
                let pending = members(prepared).filter(|_| self.without != Without::Pending);
                let known = members(applied & !forgotten).filter(|op| anchor(op) == Some(part));
                let captured = Captured {
                    worker: worker(part),
                    cut,
                    partitions: Some(vec![(PartitionId(part as u16), Epoch(1))]),
                    pending: pending.map(|op| (name(op), PartitionId(anchor(&op).unwrap() as u16))).collect(),
                    committed: known.map(name).collect(),
                };
                let mut orders = Orders::new();
                world.services[service].captured(&captured, Time(0), &mut orders);
                self.step(world, service, orders);
            }
        }
    }

    /// Does what the service orders, until it has nothing more to say.
    fn step(&self, world: &mut World, service: usize, mut orders: Orders) {
        world.services[service].step(Some(&self.map), |_| false, |_| true, Time(0), &mut orders);
        while !orders.is_empty() {
            for order in std::mem::take(&mut orders) {
                match order {
                    Order::Capture { nodes, cut, .. } => {
                        nodes.iter().for_each(|node| world.say(*node, service, Said::Capture(cut)));
                    }
                    Order::Release { nodes, cut, committed } => {
                        let committed = committed.expect("nothing is void here");
                        let ops = committed.iter().map(|transaction| bit(transaction.number as usize)).sum();
                        world.committed.insert((service, cut), ops);
                        nodes.iter().for_each(|node| world.say(*node, service, Said::Release(cut)));
                    }
                    Order::Confirm(cut) => world.services[service].confirmed(cut, &mut orders),
                    Order::Give { reader, cut, .. } => {
                        let belongs = world.committed[&(service, cut)];
                        let state = world.captured[&(service, cut)].iter();
                        let state = state.map(|(part, (applied, prepared))| (*part, applied | (prepared & belongs)));
                        world.phases[reader.client as usize] = Phase::Got(state.collect());
                        world.services[service].close(reader.client, cut, &mut orders);
                    }
                    Order::Drop { cut, .. } => {
                        world.captured.remove(&(service, cut));
                        world.committed.remove(&(service, cut));
                    }
                }
            }
        }
    }

    /// Whether some order of the operations explains what they saw.
    fn is_serializable(&self, world: &World) -> bool {
        let mut order: Vec<usize> = (0..self.scene.ops.len()).collect();
        permutations(&mut order, 0, &mut |order| self.explains(world, order))
    }

    fn explains(&self, world: &World, order: &[usize]) -> bool {
        let place = |op: usize| order.iter().position(|other| *other == op);
        if world.order.iter().any(|(before, after)| place(*before) > place(*after)) {
            return false;
        }
        let mut state = vec![0; self.scene.parts];
        order.iter().all(|op| match (&self.scene.ops[*op].0, &world.phases[*op]) {
            (Write(part), _) => {
                state[*part] |= bit(*op);
                true
            }
            (Transaction { parts, .. }, _) => {
                parts.iter().for_each(|part| state[*part] |= bit(*op));
                true
            }
            (Read(part), Phase::Out(_, saw)) => *saw == state[*part],
            (Cut(parts), Phase::Got(saw)) => parts.iter().all(|part| saw[part] == state[*part]),
            (kind, phase) => unreachable!("{kind:?} ended in {phase:?}"),
        })
    }

    /// The states of all interleavings; stops at the first ending that no order explains.
    fn explore(&self) -> Result<usize, Box<World>> {
        let mut seen = HashSet::new();
        let mut stack = vec![self.start()];
        while let Some(world) = stack.pop() {
            let mut hasher = DefaultHasher::new();
            world.hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            match self.is_over(&world) {
                true if !self.is_serializable(&world) => return Err(Box::new(world)),
                true => {}
                false => stack.extend(self.next(&world)),
            }
        }
        Ok(seen.len())
    }

    /// Some interleavings, drawn from a seed.
    fn wander(&self, times: usize) -> Result<(), Box<World>> {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..times {
            let mut world = self.start();
            while !self.is_over(&world) {
                let mut next = self.next(&world);
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                world = next.swap_remove((seed >> 11) as usize % next.len());
            }
            if !self.is_serializable(&world) {
                return Err(Box::new(world));
            }
        }
        Ok(())
    }
}

impl Partition {
    fn hear(&mut self, service: usize) -> Said {
        let mut inbox = self.inboxes.remove(&service).unwrap();
        let said = inbox.pop_front().unwrap();
        if !inbox.is_empty() {
            self.inboxes.insert(service, inbox);
        }
        said
    }
}

impl World {
    fn say(&mut self, node: NodeId, service: usize, said: Said) {
        self.partitions[node.0 as usize].inboxes.entry(service).or_default().push_back(said);
    }
}

fn held(world: &World, part: Part, bars: &Bars) -> bool {
    bars.iter().any(|bar| world.partitions[part].bars.contains(bar))
}

fn commit(world: &mut World, op: usize, part: Part) {
    world.partitions[part].applied |= bit(op);
    world.partitions[part].prepared &= !bit(op);
}

fn permutations(order: &mut Vec<usize>, from: usize, found: &mut impl FnMut(&[usize]) -> bool) -> bool {
    if from == order.len() {
        return found(order);
    }
    (from..order.len()).any(|other| {
        order.swap(from, other);
        let explains = permutations(order, from + 1, found);
        order.swap(from, other);
        explains
    })
}

fn explorer(scene: &Scene, without: Without) -> Explorer<'_> {
    Explorer { scene, map: map(scene.parts), without }
}

/// Too many interleavings for every run.
const LARGE: [&str; 3] =
    ["two writes, two readers", "transaction, write, two readers", "two transactions, two readers"];

#[test]
fn every_interleaving_is_strictly_serializable() {
    for scene in scenes() {
        let explorer = explorer(&scene, Without::Nothing);
        if LARGE.contains(&scene.name) {
            explorer.wander(1_500).unwrap_or_else(|world| panic!("{}: {world:#?}", scene.name));
        } else {
            explorer.explore().unwrap_or_else(|world| panic!("{}: {world:#?}", scene.name));
        }
    }
}

#[test]
#[ignore = "takes half a minute"]
fn every_interleaving_of_the_large_scenes_is_strictly_serializable() {
    for scene in scenes().iter().filter(|scene| LARGE.contains(&scene.name)) {
        let explored = explorer(scene, Without::Nothing).explore();
        explored.unwrap_or_else(|world| panic!("{}: {world:#?}", scene.name));
    }
}

#[test]
fn no_rule_can_be_left_out() {
    let missed = [
        Without::Gate,
        Without::PrepareGate,
        Without::Pending,
        Without::OneRound,
        Without::WaitForPrepared,
        Without::DecisionGate,
        Without::ConfirmationGate,
    ];
    for without in missed {
        // Rounds that overlap are told apart by two readers only.
        let tells = |scene: &Scene| match without {
            Without::OneRound => scene.name == LARGE[0],
            _ => !LARGE.contains(&scene.name),
        };
        let mut told = scenes().into_iter().filter(tells);
        let broken = told.find(|scene| explorer(scene, without).explore().is_err());
        assert!(broken.is_some(), "nobody misses {without:?}");
    }
}
