//! MapChanged: which replicas this worker has, in which role and epoch, and whom it must be connected to.

use super::super::Worker;
use super::super::event::{Action, Actions};
use super::super::links::{Link, LinkState};
use super::super::replica::{Backup, Primary, Replica};
use crate::gate::Time;
use crate::store::root::Root;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::id::PartitionId;
use toroid_common::map::{Assignment, ClusterMap};

impl Worker {
    pub(in super::super) fn map_changed(&mut self, map: Arc<ClusterMap>, now: Time, actions: &mut Actions) {
        if map.cluster != self.identity.cluster || self.map.as_ref().is_some_and(|have| have.version >= map.version) {
            return;
        }
        self.replicas.resize_with(map.partitions.len(), || None);
        for (index, assignment) in map.partitions.iter().enumerate() {
            self.assign(PartitionId(index as u16), assignment, actions);
        }
        self.map = Some(map);
        self.map_unreported = true;
        self.greet_early(now, actions);
        self.want_links();
        self.tick(now, actions);
        self.report_map(actions);
    }

    /// Takes the part in a partition that the map gives to this worker.
    fn assign(&mut self, partition: PartitionId, assignment: &Assignment, actions: &mut Actions) {
        let me = self.identity.worker;
        let Some(slot) = self.replicas.get_mut(usize::from(partition.0)) else { return };
        if slot.as_ref().is_some_and(|replica| replica.epoch() == assignment.epoch) {
            return;
        }
        if let Some(former) = slot.take() {
            // Later epochs of a partition come with failover, which this version does not have: it serves none rather than a wrong one.
            let what = format!("partition {partition} left epoch {} for {}", former.epoch(), assignment.epoch);
            actions.push(Action::Report { what });
        }
        if assignment.epoch != assignment.origin || !assignment.holds(me) {
            return;
        }
        // Every replica begins with the same state; the present catalog reaches it as an entry.
        let root = Root::new(Arc::new(Catalog::empty()), &mut self.account);
        if assignment.primary == Some(me) {
            *slot = Some(Replica::Primary(Box::new(Primary::first(assignment.epoch, root, &assignment.backups))));
        } else if assignment.backups.contains(&me) {
            *slot = Some(Replica::Backup(Box::new(Backup::first(assignment.epoch, root))));
        }
    }

    /// A link to every backup of a partition whose primary is here.
    fn want_links(&mut self) {
        for replica in self.replicas.iter().flatten() {
            let Replica::Primary(primary) = replica else { continue };
            for progress in &primary.backups {
                self.links.entry(progress.worker).or_insert_with(Link::new);
            }
        }
    }

    /// Tells the metadata service once all backups are connected.
    pub(super) fn report_map(&mut self, actions: &mut Actions) {
        let Some(map) = &self.map else { return };
        if self.map_unreported && self.links.values().all(|link| matches!(link.state, LinkState::Up(_))) {
            self.map_unreported = false;
            actions.push(Action::MapApplied { version: map.version });
        }
    }
}
