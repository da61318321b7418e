//! MapChanged: which replicas this worker has, in which role and epoch, and whom it must be connected to.

use super::super::Worker;
use super::super::event::{Action, Actions};
use super::super::links::LinkState;
use super::super::replica::{Progress, Replica};
use crate::gate::Time;
use std::sync::Arc;
use toroid_common::id::PartitionId;
use toroid_common::map::ClusterMap;

impl Worker {
    pub(in super::super) fn map_changed(&mut self, map: Arc<ClusterMap>, now: Time, actions: &mut Actions) {
        if map.cluster != self.identity.cluster || self.map.as_ref().is_some_and(|have| have.version >= map.version) {
            return;
        }
        let before = self.map.replace(Arc::clone(&map));
        self.map_unreported = true;
        self.replicas.resize_with(map.partitions.len(), || None);
        if let Some(before) = &before {
            self.close_former_lives(before, now, actions);
        }
        self.review_kept(now);
        for (index, assignment) in map.partitions.iter().enumerate() {
            let partition = PartitionId(index as u16);
            let before = before.as_ref().and_then(|map| map.assignment(partition));
            if before != Some(assignment) {
                let former_primary = before.and_then(|before| before.primary);
                self.assign(partition, (former_primary, assignment), now, actions);
            }
        }
        self.set_links(now, actions);
        self.greet_early(now, actions);
        self.tell_ends(actions);
        self.follow_early(now, actions);
        for index in 0..self.replicas.len() {
            self.bring_up(PartitionId(index as u16), now, actions);
        }
        self.cuts.follow(&self.replicas, &mut self.account);
        self.report_captured(now, actions);
        self.flush_fragments(now, actions);
        self.watch(now, actions);
        self.tick(now, actions);
        self.report_map(actions);
        self.report_catalog(now, actions);
    }

    /// Tells the metadata service once all backups are connected.
    pub(super) fn report_map(&mut self, actions: &mut Actions) {
        let Some(map) = &self.map else { return };
        if !self.map_unreported {
            return;
        }
        let is_up = |progress: &Progress| {
            self.links.get(&progress.worker).is_some_and(|link| matches!(link.state, LinkState::Up(_)))
        };
        let connected = self.replicas.iter().flatten().all(|replica| match replica {
            Replica::Primary(primary) => primary.followers.iter().filter(|progress| progress.is_backup()).all(is_up),
            Replica::Follower(_) => true,
        });
        if connected {
            self.map_unreported = false;
            actions.push(Action::MapApplied { version: map.version });
        }
    }
}
