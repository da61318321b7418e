//! Nodes come, fall silent, come back as another process, and go.

use super::replicas::{Absence, holders};
use super::{Founding, Member, Reply, State, done_if};
use toroid_common::id::{Epoch, Incarnation, MapVersion, NodeId};
use toroid_common::limits::MAX_COPIES;
use toroid_common::map::{Assignment, ClusterMap, NodeEntry, NodeState};
use toroid_common::ring::{self, RingNode};
use toroid_common::wire::{NodeAnnouncement, NodeLife};

impl State {
    pub(super) fn found(&mut self, founding: Founding) -> Reply {
        if let Some(before) = &self.founding {
            return Reply::Refused(format!("this is already cluster {}", before.cluster));
        }
        self.founding = Some(founding);
        Reply::Done
    }

    pub(super) fn join(&mut self, mut announcement: NodeAnnouncement, dead: Option<Incarnation>) -> Reply {
        let node = self.number_of(&announcement);
        announcement.node = node;
        let Some(cluster) = self.founding.map(|founding| founding.cluster) else {
            return Reply::Refused("there is no cluster yet: try again".to_owned());
        };
        if announcement.workers.is_empty() {
            return Reply::Refused(format!("node {node} has no workers"));
        }
        if self.removed.get(&node) == Some(&announcement.process) {
            return Reply::Refused(format!("node {node} was removed from the cluster"));
        }
        if let Some(member) = self.members.get(&node) {
            let incarnation = member.entry.incarnation;
            if member.process == announcement.process {
                // The same process, over a new connection. It may have been given up meanwhile.
                self.revive(node, incarnation);
                return Reply::Joined { cluster, node, incarnation };
            }
            if dead != Some(incarnation) {
                let reason = format!("another process is node {node} and lives: choose another number, or try again");
                return Reply::Refused(reason);
            }
            if let Err(reason) = self.bury(node) {
                return Reply::Refused(reason);
            }
        }
        let incarnation = self.allocate();
        self.admit(announcement, incarnation);
        Reply::Joined { cluster, node, incarnation }
    }

    /// The number of the node that announces itself: the one that it names, or has got before, or the next.
    pub fn number_of(&self, announcement: &NodeAnnouncement) -> NodeId {
        if announcement.node != NodeId(0) {
            return announcement.node;
        }
        let known = self.members.values().find(|member| member.process == announcement.process);
        // The first number is for the node that makes the cluster, which may join after others.
        let last = self.members.keys().chain(self.removed.keys()).max().map_or(1, |last| last.0.max(1));
        known.map_or(NodeId(last + 1), |member| member.entry.id)
    }

    /// Takes the former life of a node out of the map, so that a new one can take its place.
    fn bury(&mut self, node: NodeId) -> Result<(), String> {
        let expired = self.member(node).is_some_and(|member| matches!(member.life, NodeLife::Down | NodeLife::Away));
        self.vacate(node, if expired { Absence::Gone } else { Absence::Restarted });
        match self.names(node) {
            true => Err(format!("node {node} was primary a moment ago: try again")),
            false => Ok(()),
        }
    }

    fn admit(&mut self, announcement: NodeAnnouncement, incarnation: Incarnation) {
        let id = announcement.node;
        let state = self.member(id).map_or(NodeState::Serving, |member| member.entry.state);
        let NodeAnnouncement { node: _, process, control, workers, zone, capacity, member } = announcement;
        let entry = NodeEntry { id, incarnation, control, workers, zone, capacity, state };
        self.removed.remove(&id);
        self.members.insert(id, Member { entry, process, group_member: member, life: NodeLife::Up });
    }

    /// Whether any assignment names this node.
    pub fn names(&self, node: NodeId) -> bool {
        self.map.iter().flat_map(|map| &map.partitions).any(|assignment| holders(assignment).any(|h| h.node == node))
    }

    /// Nodes on which replicas may be placed, as the ring sees them.
    pub fn on_ring(&self) -> Vec<RingNode> {
        self.members
            .values()
            .filter(|member| member.life != NodeLife::Away)
            .map(|member| RingNode {
                id: member.entry.id,
                workers: member.entry.workers.len() as u16,
                zone: member.entry.zone.clone(),
                capacity: match member.entry.state {
                    NodeState::Serving => member.entry.capacity,
                    NodeState::Draining => 0,
                },
            })
            .collect()
    }

    pub(super) fn form(&mut self) -> Reply {
        let Some(founding) = self.founding else { return Reply::Overtaken };
        let mut nodes = self.on_ring();
        nodes.retain(|node| self.member(node.id).is_some_and(Member::is_up) && node.capacity > 0);
        if self.map.is_some() || nodes.len() < usize::from(founding.copies) {
            return Reply::Overtaken;
        }
        let placed = ring::place(&nodes, founding.partitions, usize::from(founding.copies));
        self.targets = placed.iter().map(|holders| holders.iter().map(|worker| worker.node).collect()).collect();
        self.primary_since = vec![MapVersion(1); placed.len()];
        let first = |mut holders: ring::Holders| {
            let backups = holders.split_off(holders.len().min(1));
            Assignment::fresh(Epoch(1), holders.first().copied().unwrap_or_default(), backups)
        };
        self.map = Some(ClusterMap {
            cluster: founding.cluster,
            version: MapVersion(1),
            copies: founding.copies,
            min_copies: founding.min_copies,
            nodes: Vec::new(),
            partitions: placed.into_iter().map(first).collect(),
        });
        Reply::Done
    }

    /// Changes a node's life, if it is this one and in one of these states.
    pub(super) fn change_life(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        from: &[NodeLife],
        to: NodeLife,
    ) -> Reply {
        let Some(member) = self.members.get_mut(&node) else { return Reply::Overtaken };
        if member.entry.incarnation != incarnation || !from.contains(&member.life) {
            return Reply::Overtaken;
        }
        member.life = to;
        Reply::Done
    }

    /// All of them are down before the first one's partitions go to others.
    pub(super) fn expire(&mut self, life: (NodeId, Incarnation), others: Vec<(NodeId, Incarnation)>) -> Reply {
        let mut reply = Reply::Overtaken;
        let mut down = Vec::new();
        for (node, incarnation) in std::iter::once(life).chain(others) {
            let changed = self.change_life(node, incarnation, &[NodeLife::Up, NodeLife::Leaving], NodeLife::Down);
            if changed == Reply::Done {
                down.push(node);
                reply = Reply::Done;
            }
        }
        down.into_iter().for_each(|node| self.vacate(node, Absence::Silent));
        reply
    }

    /// A silent node is heard of again. What waited for a living replica may have one now.
    pub(super) fn revive(&mut self, node: NodeId, incarnation: Incarnation) -> Reply {
        let reply = self.change_life(node, incarnation, &[NodeLife::Down, NodeLife::Away], NodeLife::Up);
        if reply == Reply::Done {
            self.silences.returned += 1;
            let silent = |member: &&Member| matches!(member.life, NodeLife::Down | NodeLife::Away);
            let down: Vec<NodeId> = self.members.values().filter(silent).map(|member| member.entry.id).collect();
            down.into_iter().for_each(|node| self.vacate(node, Absence::Silent));
        }
        reply
    }

    pub(super) fn drain(&mut self, node: NodeId) -> Reply {
        let staying = |member: &&Member| member.entry.id != node && member.entry.state == NodeState::Serving;
        let left = self.members.values().filter(staying).filter(|member| member.is_up()).count();
        let copies = self.map.as_ref().map_or(0, |map| usize::from(map.copies));
        let Some(member) = self.members.get_mut(&node) else {
            return Reply::Refused(format!("there is no node {node}"));
        };
        if left < copies {
            return Reply::Refused(format!("{left} other nodes are up, and each partition has {copies} copies"));
        }
        member.entry.state = NodeState::Draining;
        Reply::Done
    }

    pub(super) fn remove(&mut self, node: NodeId) -> Reply {
        let Some(member) = self.members.get(&node) else {
            // Who asks again because the answer was lost wants to hear the same.
            return match self.removed.contains_key(&node) {
                true => Reply::Done,
                false => Reply::Refused(format!("there is no node {node}")),
            };
        };
        let process = member.process;
        let hint = match member.life {
            NodeLife::Down | NodeLife::Away => {
                // That nobody hears of it does not say that its rows are gone: nothing is given up here that nobody else has.
                self.vacate(node, Absence::Silent);
                " of which too few others have a copy: wait until there are more or for it, or accept the loss with `toroid recover --accept-loss` first"
            }
            NodeLife::Up | NodeLife::Leaving => ": drain it first",
        };
        if self.names(node) {
            return Reply::Refused(format!("node {node} holds partitions{hint}"));
        }
        self.members.remove(&node);
        self.removed.insert(node, process);
        Reply::Done
    }

    pub(super) fn set_copies(&mut self, copies: u8, min_copies: Option<u8>) -> Reply {
        let serving = self.members.values().filter(|m| m.is_up() && m.entry.state == NodeState::Serving).count();
        let Some(map) = &mut self.map else { return Reply::Refused("the cluster has no map yet".to_owned()) };
        if copies == 0 || usize::from(copies) > MAX_COPIES {
            return Reply::Refused(format!("{copies} copies: from 1 to {MAX_COPIES} are possible"));
        }
        if usize::from(copies) > serving {
            return Reply::Refused(format!("{copies} copies need as many nodes, and {serving} are up"));
        }
        if let Some(least) = min_copies.filter(|least| *least == 0 || *least > copies) {
            return Reply::Refused(format!("at least {least} of {copies} copies: from 1 to {copies} are possible"));
        }
        map.copies = copies;
        map.min_copies = min_copies.unwrap_or(map.min_copies).min(copies);
        done_if(true)
    }
}
