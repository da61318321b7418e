//! CatalogChanged, and what else becomes an entry in the log of every partition whose primary is here: the new catalog, the end of dead proxies.

use super::super::Worker;
use super::super::event::{Action, Actions};
use super::super::replica::Replica;
use crate::gate::Time;
use crate::store::change::Change;
use crate::store::fence::Fence;
use crate::store::root::Root;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlError;
use toroid_common::id::{CatalogVersion, MapVersion, PartitionId};

impl Worker {
    pub(in super::super) fn catalog_changed(&mut self, catalog: Arc<Catalog>, now: Time, actions: &mut Actions) {
        if catalog.version <= self.catalog.version {
            return;
        }
        self.catalog = catalog;
        self.bring_all_up(now, actions);
        self.report_catalog(now, actions);
    }

    pub(in super::super) fn proxies_changed(&mut self, fence: &Fence, now: Time, actions: &mut Actions) {
        self.fence = self.fence.and(fence);
        self.bring_all_up(now, actions);
    }

    fn bring_all_up(&mut self, now: Time, actions: &mut Actions) {
        for index in 0..self.replicas.len() {
            self.bring_up(PartitionId(index as u16), now, actions);
        }
    }

    /// Appends what the worker knows and a partition's log does not have yet.
    pub(super) fn bring_up(&mut self, partition: PartitionId, now: Time, actions: &mut Actions) {
        let Worker { replicas, account, catalog, fence, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        // Brought up again when what is prepared is finished.
        let is_new = primary.root.catalog().version < catalog.version && !primary.root.waits_for_prepared(catalog);
        let fences = primary.root.answers.has_any_of(fence);
        // Once a hand-over is planned nothing is appended: the successor does it.
        if primary.successor.is_some() || !(is_new || fences) {
            return;
        }
        let mut changes: SmallVec<[Change<'_>; 1]> = SmallVec::new();
        if is_new {
            changes.push(Change::Catalog(Arc::clone(catalog)));
            // It is followed all the same: the metadata group takes it back, from whoever is primary then.
            let forbidden = primary.root.check(&changes, account).err();
            changes.extend(forbidden.map(Change::Forbidden));
        }
        if fences {
            changes.push(Change::Fence(fence.clone()));
        }
        let lsn = primary.append(None, &changes, account);
        if is_new {
            (primary.catalog, primary.unbuilt) = (lsn, None);
        }
        self.touch_followers(partition);
        self.drain_gate(partition, now, actions);
    }

    /// Tells the metadata service, in each map, once all partitions whose primary is here have the catalog in their acknowledged
    /// logs, with all rows in its indexes.
    pub(super) fn report_catalog(&mut self, now: Time, actions: &mut Actions) {
        let version = self.catalog.version;
        let map = self.map.as_ref().map_or(MapVersion(0), |map| map.version);
        if self.catalog_reported == (version, map) || version <= Catalog::empty().version || !self.lease.holds(now) {
            return;
        }
        // That all have the catalog is an answer, too.
        if self.cuts.open.is_some() {
            return;
        }
        let mut primaries = self.replicas.iter().flatten().filter_map(|replica| match replica {
            Replica::Primary(primary) => Some(primary),
            Replica::Follower(_) => None,
        });
        let mut has_it = primaries.clone().map(|primary| {
            let root = &primary.root;
            root.catalog().version >= version && primary.acknowledged() >= primary.catalog && !root.is_building()
        });
        if !has_it.all(|has_it| has_it) {
            return;
        }
        let fault = primaries
            .find_map(|p| p.root.forbidden().or(p.unbuilt.as_ref()).cloned().or_else(|| fault(&p.root, version)));
        self.catalog_reported = (version, map);
        actions.push(Action::CatalogApplied { version, map, result: fault.map_or(Ok(()), Err) });
    }
}

/// Why a table of this version cannot be as the catalog says: its rows violate a unique index.
fn fault(root: &Root, version: CatalogVersion) -> Option<SqlError> {
    let mut changed = root.tables().filter(|table| table.definition().version == version);
    changed.find_map(|table| {
        let definition = table.definition();
        definition.indexes.iter().find_map(|index| root.index_fault(definition.id, index.id))
    })
}
