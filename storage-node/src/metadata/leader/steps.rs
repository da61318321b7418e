//! What the leader does on its own: forms the cluster, gives up who is silent, repairs and balances.

use super::departures::Relieving;
use super::{Actions, Asker, ClientId, Leader};
use crate::metadata::planner;
use crate::metadata::state::{Command, State};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::id::{Incarnation, MapVersion, NodeId, PartitionId};
use toroid_common::ring::RingNode;
use toroid_common::wire::{NodeLife, Proposal, Reconfigure};
use toroid_engine::gate::Time;

/// How long the first map waits for all nodes that were announced.
const FORMING_MICROS: u64 = 10_000_000;
/// How long a node that is down may take to come back before its replicas are made elsewhere.
const PATIENCE_MICROS: u64 = 3_000_000;
/// Where a replica failed, none is made again for so long.
const SHUN_MICROS: u64 = 300_000;
/// So long a leader on a node that is about to stop tries to have another member lead, before it goes on with what its node waits for.
const YIELDING_MICROS: u64 = 1_000_000;
/// Between two looks at the whole, when nothing happens.
const ROUND_MICROS: u64 = 250_000;
/// Between two ticks: the detector must not sleep through the grace period.
const TICK_MICROS: u64 = 50_000;

#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) changed: bool,
    ticked: Time,
    planned: Time,
    /// The nodes and copies that the present targets were made for.
    ring: Option<(Vec<RingNode>, u8)>,
    pub(super) in_place: BTreeMap<NodeId, MapVersion>,
    /// Lives that are being given up, or have been by this leader.
    pub(super) expiring: BTreeSet<Incarnation>,
    /// Lives that said that they end.
    pub(super) departed: BTreeSet<Incarnation>,
    /// Lives that may end though they are primaries: nobody relieves them.
    pub(super) let_go: BTreeSet<Incarnation>,
    pub(super) leaving: Vec<(ClientId, u32, NodeId, Incarnation)>,
    /// Of those that cannot leave yet: for how long they have tried.
    pub(super) relieving: BTreeMap<Incarnation, Relieving>,
    down_since: BTreeMap<Incarnation, Time>,
    shunned: BTreeMap<(PartitionId, NodeId), Time>,
}

impl Steps {
    /// A replica that its primary had dropped needs a moment before it is worth another attempt.
    pub(super) fn shun(&mut self, proposal: &Proposal, now: Time) {
        match proposal.change {
            Reconfigure::DropBackup { worker }
            | Reconfigure::DropJoining { worker }
            | Reconfigure::Replace { silent: worker, .. } => {
                self.shunned.insert((proposal.partition, worker.node), now.after(SHUN_MICROS));
            }
            Reconfigure::Admit { .. } | Reconfigure::HandOver { .. } => {}
        }
    }
}

impl Leader {
    /// Time has passed.
    pub fn tick(&mut self, state: &State, now: Time, out: &mut Actions) {
        self.look(now);
        self.steps.ticked = self.now;
        self.next_change(state, out);
        self.step(state, out);
        self.step_cuts(state, out);
    }

    /// When the next tick is due at the latest, however much is asked meanwhile.
    pub fn wakes_at(&self) -> Time {
        let tick = self.steps.ticked.max(self.elected).after(TICK_MICROS);
        self.cuts.wakes_at().map_or(tick, |at| at.min(tick))
    }

    /// Whether another member should lead: the leading node is about to stop, and its partitions are given away only by the next leader.
    pub fn yields(&self) -> bool {
        self.members.len() > 1 && self.ends_since.is_some_and(|since| self.now < since.after(YIELDING_MICROS))
    }

    /// Everything that may be due; proposes nothing that is on its way.
    pub(super) fn step(&mut self, state: &State, out: &mut Actions) {
        let ends = self.node.and_then(|node| state.member(node)).is_some_and(|member| member.life == NodeLife::Leaving);
        self.ends_since = if ends { self.ends_since.or(Some(self.now)) } else { None };
        self.form(state, out);
        self.expire(state, out);
        self.release_leaving(state, out);
        if self.yields() {
            return;
        }
        self.depart(state, out);
        self.fence(state, out);
        self.plan(state, out);
    }

    fn form(&mut self, state: &State, out: &mut Actions) {
        let Some(founding) = state.founding() else { return };
        let up = state.members().values().filter(|member| member.is_up()).count();
        if state.map().is_none() {
            let waited = self.now >= self.elected.after(FORMING_MICROS);
            let enough = up >= founding.nodes || (waited && up >= usize::from(founding.copies));
            if enough && !self.under_way(|asker| matches!(asker, Asker::Form)) {
                self.propose(Asker::Form, Command::Form, out);
            }
        } else if !state.is_ready() {
            let in_place = |node: &NodeId| self.steps.in_place.contains_key(node);
            let all = state.members().iter().filter(|(_, member)| member.is_up()).all(|(node, _)| in_place(node));
            if all && !self.under_way(|asker| matches!(asker, Asker::Ready)) {
                self.propose(Asker::Ready, Command::Ready, out);
            }
        }
    }

    fn expire(&mut self, state: &State, out: &mut Actions) {
        let lives = state.members().values().map(|member| (member.entry.id, member.entry.incarnation));
        let silent: Vec<_> = lives.filter(|(node, life)| self.detector.is_silent(*node, *life)).collect();
        for (node, member) in state.members() {
            let (node, incarnation) = (*node, member.entry.incarnation);
            match member.life {
                NodeLife::Up | NodeLife::Leaving => {
                    self.steps.down_since.remove(&incarnation);
                    if self.detector.is_silent(node, incarnation) && !self.life_under_way(node) {
                        tracing::warn!(%node, %incarnation, "a node has been silent for the grace period");
                        self.steps.expiring.insert(incarnation);
                        let others = silent.iter().copied().filter(|(other, _)| *other != node).collect();
                        self.propose(Asker::Life(node), Command::Expire { node, incarnation, others }, out);
                    } else if !self.life_under_way(node) {
                        self.steps.expiring.remove(&incarnation);
                    }
                }
                NodeLife::Down => {
                    let since = *self.steps.down_since.entry(incarnation).or_insert(self.now);
                    if self.now >= since.after(PATIENCE_MICROS) && !self.life_under_way(node) {
                        self.propose(Asker::Life(node), Command::Abandon { node, incarnation }, out);
                    }
                }
                NodeLife::Away => {}
            }
        }
    }

    fn fence(&mut self, state: &State, out: &mut Actions) {
        if self.under_way(|asker| matches!(asker, Asker::Fence)) {
            return;
        }
        let silent = state.proxies().iter().copied().find(|incarnation| self.detector.is_proxy_silent(*incarnation));
        if let Some(incarnation) = silent {
            tracing::info!(%incarnation, "a proxy has been silent for long: its requests are refused from now on");
            self.detector.forget_proxy(incarnation);
            self.propose(Asker::Fence, Command::Fence { incarnation }, out);
        }
    }

    fn plan(&mut self, state: &State, out: &mut Actions) {
        let due = self.steps.changed || self.now >= self.steps.planned.after(ROUND_MICROS);
        if !due || state.map().is_none() || self.under_way(|asker| matches!(asker, Asker::Plan)) {
            return;
        }
        self.steps.changed = false;
        self.steps.planned = self.now;
        let now = self.now;
        self.steps.shunned.retain(|_, until| *until > now);
        if self.follow_ring(state, out) {
            return;
        }
        let shunned = &self.steps.shunned;
        let commands = planner::plan(state, |partition, node| shunned.contains_key(&(partition, node)));
        for command in commands {
            self.propose(Asker::Plan, command, out);
        }
    }

    /// Asks the ring again when nodes or copies have changed; whether it has another opinion.
    fn follow_ring(&mut self, state: &State, out: &mut Actions) -> bool {
        let copies = state.map().map_or(0, |map| map.copies);
        let ring = Some((state.on_ring(), copies));
        if self.steps.ring == ring {
            return false;
        }
        self.steps.ring = ring;
        let Some(targets) = planner::targets(state).filter(|targets| targets != state.targets()) else { return false };
        self.propose(Asker::Plan, Command::Retarget { targets }, out);
        true
    }
}
