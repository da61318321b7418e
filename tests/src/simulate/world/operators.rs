//! Errands as operators run them: they ask again and again until they see in the map that it is so.

use super::super::clock::{Instant, MILLISECOND};
use super::super::context::Happening;
use super::super::errands::{Errand, Planned};
use super::World;
use toroid_common::id::NodeId;
use toroid_common::map::{ClusterMap, NodeState};
use toroid_common::wire::ControlBody;

/// Between two tries.
const AGAIN: Instant = 300 * MILLISECOND;

impl World<'_> {
    /// An operator looks whether it is as wanted, and asks for it where it is not.
    pub(super) fn errand(&mut self, index: usize) {
        let Some(Planned { errand, .. }) = self.scenario.errands.get(index).copied() else { return };
        if let Errand::Add { node } = errand {
            return self.start_node(node);
        }
        let Some(map) = self.group.map() else { return };
        if is_so(errand, map) {
            if let Errand::Remove { node } = errand {
                self.stop_removed(node);
            }
            return;
        }
        let draining = |node: u8| map.node(id(node)).is_some_and(|entry| entry.state == NodeState::Draining);
        let body = match errand {
            Errand::SetCopies { copies } => ControlBody::SetCopies { copies, min_copies: None },
            Errand::Drain { node } => ControlBody::Drain { node: id(node) },
            Errand::Remove { node } if draining(node) => ControlBody::Remove { node: id(node) },
            Errand::Remove { node } => ControlBody::Drain { node: id(node) },
            Errand::AcceptLoss => ControlBody::Recover { id: self.context.now() },
            Errand::Add { .. } => return,
        };
        self.ask(body);
        if !self.faults_are_over() {
            self.context.agenda.after(AGAIN, Happening::Errand(index));
        }
    }

    /// Through whichever proxy has a line to the metadata service.
    pub(super) fn ask(&mut self, body: ControlBody) {
        if let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.may_ask()) {
            proxy.administer(body, &mut self.context);
        }
    }

    fn start_node(&mut self, index: u8) {
        if let Some(node) = self.nodes.get_mut(usize::from(index))
            && node.away
        {
            node.away = false;
            node.start(&mut self.context);
        }
    }

    /// The cluster has forgotten the node: its process is ended and not started again.
    fn stop_removed(&mut self, index: u8) {
        if let Some(node) = self.nodes.get_mut(usize::from(index)) {
            node.away = true;
            if node.up {
                node.crash(true, &mut self.context);
            }
        }
    }
}

fn id(index: u8) -> NodeId {
    NodeId(u32::from(index) + 1)
}

fn is_so(errand: Errand, map: &ClusterMap) -> bool {
    match errand {
        Errand::SetCopies { copies } => map.copies == copies,
        Errand::Add { node } => map.node(id(node)).is_some(),
        Errand::Drain { node } => map.node(id(node)).is_none_or(|entry| entry.state == NodeState::Draining),
        Errand::Remove { node } => map.node(id(node)).is_none(),
        Errand::AcceptLoss => map.partitions.iter().all(|assignment| assignment.primary.is_some()),
    }
}
