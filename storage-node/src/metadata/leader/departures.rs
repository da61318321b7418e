//! Nodes that are about to stop: they go when others have all that they are primary of, or when nobody can take it.

use super::{Actions, Asker, Leader, send};
use crate::metadata::planner;
use crate::metadata::state::{Command, Member, State};
use std::collections::BTreeSet;
use toroid_common::id::{Incarnation, NodeId, PartitionId};
use toroid_common::wire::{NodeLife, NoticeBody};
use toroid_engine::gate::Time;

/// So long a node waits for others to take over while nothing gets nearer to it.
const PATIENCE_MICROS: u64 = 10_000_000;
/// So long at most, however near it comes.
const LONGEST_MICROS: u64 = 60_000_000;

/// How a node that cannot stop yet gets on.
#[derive(Debug)]
pub(super) struct Relieving {
    since: Time,
    progressed: Time,
    /// Partitions that nobody has taken over, and bytes that have arrived where they go.
    left: (usize, u64),
}

impl Leader {
    /// Tells those that wait to leave that they may. All at once, where several are let go: the first to end may be needed for a majority.
    pub(super) fn release_leaving(&mut self, state: &State, out: &mut Actions) {
        if self.steps.leaving.is_empty() || self.under_way(|asker| matches!(asker, Asker::Life(_))) {
            return;
        }
        self.steps.leaving.retain(|(client, number, node, incarnation)| {
            let life = state.member(*node).filter(|member| member.entry.incarnation == *incarnation);
            let stays = life.is_some_and(|member| matches!(member.life, NodeLife::Up | NodeLife::Leaving));
            let stays = stays && !self.steps.let_go.contains(incarnation);
            if !stays {
                let mut lost = life.map_or(Vec::new(), |_| primaries_on(state, *node));
                lost.retain(|partition| !has_heir(state, &self.steps.let_go, *node, *partition));
                let body = if lost.is_empty() { NoticeBody::Done } else { NoticeBody::GivenUp(lost) };
                send(*client, *number, body, out);
            }
            stays
        });
    }

    /// Lets nodes go that are about to stop and are nobody's primary any more, or cannot be relieved. What such a one is still primary of others get when it
    /// has been silent for the grace period, like anybody's: until it has ended it may answer under its lease.
    pub(super) fn depart(&mut self, state: &State, out: &mut Actions) {
        let leaving = state.members().values().filter(|member| member.life == NodeLife::Leaving);
        let leaving: Vec<_> = leaving.map(|member| (member.entry.id, member.entry.incarnation)).collect();
        self.steps.relieving.retain(|life, _| leaving.iter().any(|(_, incarnation)| incarnation == life));
        self.steps.let_go.retain(|life| leaving.iter().any(|(_, incarnation)| incarnation == life));
        if state.map().is_none() {
            return;
        }
        for (node, incarnation) in leaving {
            if self.life_under_way(node) || self.steps.let_go.contains(&incarnation) {
                continue;
            }
            match self.is_worth_waiting(node, incarnation, state) {
                true => {}
                false if !state.is_primary(node) => {
                    self.propose(Asker::Life(node), Command::Depart { node, incarnation }, out);
                }
                false => {
                    self.steps.let_go.insert(incarnation);
                }
            }
        }
        self.release_leaving(state, out);
    }

    /// Whether others are still taking over what the node is primary of. That nobody has a copy yet is no reason to let it go: with it the rows would be.
    fn is_worth_waiting(&mut self, node: NodeId, life: Incarnation, state: &State) -> bool {
        let mut left = primaries_on(state, node);
        left.retain(|partition| {
            let assignment = state.map().and_then(|map| map.assignment(*partition));
            assignment.is_some_and(|assignment| planner::may_be_relieved(state, assignment))
        });
        if left.is_empty() {
            return false;
        }
        let loads = self.loads.values().flat_map(|(_, load)| &load.arrived);
        let arrived = loads.filter(|(partition, _)| left.contains(partition)).map(|(_, bytes)| bytes).sum();
        let (now, seen) = (self.now, (left.len(), arrived));
        let start = Relieving { since: now, progressed: now, left: seen };
        let relieving = self.steps.relieving.entry(life).or_insert(start);
        if relieving.left != seen {
            (relieving.left, relieving.progressed) = (seen, now);
        }
        let goes_on = now < relieving.progressed.after(PATIENCE_MICROS) && now < relieving.since.after(LONGEST_MICROS);
        if !goes_on {
            tracing::error!(%node, partitions = ?left, "nobody takes over what a node is primary of that stops: it is let go");
        }
        goes_on
    }
}

/// Whether somebody who has not been let go has the rows of a partition as well.
fn has_heir(state: &State, let_go: &BTreeSet<Incarnation>, node: NodeId, partition: PartitionId) -> bool {
    let backups = state.map().and_then(|map| map.assignment(partition)).map_or(&[][..], |a| &a.backups);
    let stays = |life: &Member| !let_go.contains(&life.entry.incarnation);
    let mut others = backups.iter().filter(|worker| worker.node != node && state.lives(**worker));
    others.any(|worker| state.member(worker.node).is_some_and(stays))
}

fn primaries_on(state: &State, node: NodeId) -> Vec<PartitionId> {
    let partitions = state.map().into_iter().flat_map(|map| &map.partitions).enumerate();
    let here = partitions.filter(|(_, a)| a.primary.is_some_and(|primary| primary.node == node));
    here.map(|(index, _)| PartitionId(index as u16)).collect()
}
