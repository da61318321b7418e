//! The leader's view of the cluster, for people, and its figures.

use super::Leader;
use crate::metadata::cuts::Counts;
use crate::metadata::state::State;
use toroid_common::id::{Incarnation, MapVersion, NodeId, PartitionId, WorkerId};
use toroid_common::limits::LEASE_MICROS;
use toroid_common::map::Assignment;
use toroid_common::wire::{JoiningStatus, NodeLoad, NodeStatus, NoticeBody, Status};

impl Leader {
    pub(super) fn status(&self, state: &State) -> NoticeBody {
        let Some(founding) = state.founding() else {
            return NoticeBody::Failed { reason: "there is no cluster yet".to_owned() };
        };
        let map = state.map();
        let moves = state.moves();
        NoticeBody::Status(Box::new(Status {
            cluster: founding.cluster,
            term: self.term,
            leader: self.node,
            members: self.members.clone(),
            map: map.map(|map| map.version),
            catalog: state.catalog().version,
            changing: state.is_changing(),
            partitions: founding.partitions,
            copies: map.map_or(founding.copies, |map| map.copies),
            min_copies: map.map_or(founding.min_copies, |map| map.min_copies),
            ready: state.is_ready(),
            nodes: self.nodes(state),
            under_replicated: which(state, |a| state.living_copies(a) < usize::from(map.map_or(0, |map| map.copies))),
            lost: which(state, |a| state.is_lost(a)),
            joining: self.joining(state),
            hand_overs: assignments(state).filter(|(_, a)| a.successor.is_some()).count() as u16,
            required: moves.required,
            moved: moves.moved,
            repaired: moves.repaired,
            expired: state.silences().expired,
            returned: state.silences().returned,
            proxies: state.proxies().len() as u32,
        }))
    }

    /// What this life of the node said last.
    fn load(&self, node: NodeId, incarnation: Incarnation) -> Option<&NodeLoad> {
        self.loads.get(&node).filter(|(life, _)| *life == incarnation).map(|(_, load)| load)
    }

    fn joining(&self, state: &State) -> Vec<JoiningStatus> {
        let copies = state.map().map_or(0, |map| usize::from(map.copies));
        let joining = assignments(state).flat_map(|(partition, a)| {
            let is_move = state.living_copies(a) >= copies;
            a.joining.iter().map(move |worker| {
                let incarnation = state.member(worker.node).map(|member| member.entry.incarnation).unwrap_or_default();
                let arrived = self.load(worker.node, incarnation).and_then(|load| {
                    load.arrived.iter().find(|(arriving, _)| *arriving == partition).map(|(_, bytes)| *bytes)
                });
                JoiningStatus { partition, epoch: a.epoch, worker: *worker, is_move, arrived }
            })
        });
        joining.collect()
    }

    fn nodes(&self, state: &State) -> Vec<NodeStatus> {
        let count = |on: &dyn Fn(&Assignment) -> bool| assignments(state).filter(|(_, a)| on(a)).count() as u16;
        let nodes = state.members().values().map(|member| {
            let entry = &member.entry;
            let silence = self.detector.silence(entry.id, entry.incarnation);
            // It counts from when the node asked, which was before it was heard.
            let lease = silence.and_then(|micros| LEASE_MICROS.checked_sub(micros)).filter(|left| *left > 0);
            let here = |worker: &WorkerId| worker.node == entry.id;
            NodeStatus {
                node: entry.id,
                incarnation: entry.incarnation,
                control: entry.control,
                workers: entry.workers.len() as u16,
                zone: entry.zone.clone(),
                capacity: entry.capacity,
                state: entry.state,
                life: member.life,
                heard_ms: silence.map(|micros| micros / 1_000),
                lease_ms: lease.map(|left| left.div_ceil(1_000)),
                primaries: count(&|a| a.primary.iter().any(here)),
                backups: count(&|a| a.backups.iter().any(here)),
                joining: count(&|a| a.joining.iter().any(here)),
                load: self.load(entry.id, entry.incarnation).cloned(),
            }
        });
        nodes.collect()
    }

    /// Metrics of the cluster as a whole; `None` before it is formed.
    pub fn gauges(&self, state: &State) -> Option<Gauges> {
        let map = state.map()?;
        let below = |a: &Assignment| state.living_copies(a) < usize::from(map.copies);
        Some(Gauges {
            term: self.term,
            map: map.version,
            under_replicated: map.partitions.iter().filter(|a| below(a)).count(),
            lost: map.partitions.iter().filter(|a| state.is_lost(a)).count(),
            joining: map.partitions.iter().map(|a| a.joining.len()).sum(),
            required: state.moves().required,
            moved: state.moves().moved,
            repaired: state.moves().repaired,
            cuts: self.cuts.counts(),
            expired: state.silences().expired,
            returned: state.silences().returned,
        })
    }
}

/// What is measured at the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    pub term: u64,
    pub map: MapVersion,
    pub under_replicated: usize,
    pub lost: usize,
    pub joining: usize,
    pub required: u64,
    pub moved: u64,
    pub repaired: u64,
    pub cuts: Counts,
    /// Nodes that were given up for silence, and those of them that lived and came back.
    pub expired: u64,
    pub returned: u64,
}

fn assignments(state: &State) -> impl Iterator<Item = (PartitionId, &Assignment)> {
    let partitions = state.map().into_iter().flat_map(|map| &map.partitions);
    partitions.enumerate().map(|(index, assignment)| (PartitionId(index as u16), assignment))
}

fn which(state: &State, these: impl Fn(&Assignment) -> bool) -> Vec<PartitionId> {
    assignments(state).filter(|(_, a)| these(a)).map(|(partition, _)| partition).collect()
}
