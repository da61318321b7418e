//! CatalogChanged, and what else becomes an entry in the log of every partition whose primary is here: the new catalog, the end of dead proxies.

use super::super::Worker;
use super::super::event::{Action, Actions};
use super::super::replica::{Primary, Replica};
use super::super::task::Task;
use crate::gate::Time;
use crate::store::change::Change;
use crate::store::fence::Fence;
use crate::store::root::Root;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlError;
use toroid_common::id::{CatalogVersion, MapVersion, PartitionId, TransactionId};
use toroid_common::wire::Refusal;

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
        self.refuse_dead(actions);
        self.bring_all_up(now, actions);
    }

    /// What waits for dead proxies by itself stands in nobody's way any more, and how it would have ended is not to be remembered.
    fn refuse_dead(&mut self, actions: &mut Actions) {
        let fence = self.fence.clone();
        let is_dead = |task: &Task| task.within.is_none() && fence.covers(task.address.request.proxy);
        let mut tasks = self.take_waiting(is_dead);
        tasks.extend(self.parked.extract_if(.., |_, task| is_dead(task)).map(|(_, task)| task));
        for task in tasks {
            let (connection, sequence) = task.asker();
            self.refuse(connection, sequence, Refusal::Fenced, actions);
            self.forget_task(&task);
        }
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
        let fences = concerns(primary, fence);
        let orphans = primary.transactions.orphans(&primary.root);
        // Once a hand-over is planned nothing is appended: the successor does it.
        if primary.successor.is_some() || !(is_new || fences || !orphans.is_empty()) {
            return;
        }
        let before = Arc::clone(primary.root.catalog());
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
        changes.extend(orphans.into_iter().map(|transaction| Change::Abort { transaction }));
        let lsn = primary.append(None, &changes, account);
        if is_new {
            (primary.catalog, primary.unbuilt) = (lsn, None);
            primary.transactions.doom_readers(&before, catalog);
            primary.transactions.doom_claimed(catalog);
        }
        if fences {
            self.end_dead(partition, now, actions);
        }
        self.touch_followers(partition);
        self.drain_gate(partition, now, actions);
    }

    /// The proxies of some transactions are fenced here: what is prepared is asked for, the rest is over.
    fn end_dead(&mut self, partition: PartitionId, now: Time, actions: &mut Actions) {
        let of_dead = |primary: &Primary| -> Vec<TransactionId> {
            primary.transactions.ids().filter(|id| primary.root.answers.is_fenced(id.proxy)).collect()
        };
        let Some(Some(Replica::Primary(primary))) = self.replicas.get(usize::from(partition.0)) else { return };
        let dead = of_dead(primary);
        let is_dead = |task: &Task| {
            task.address.partition == partition
                && task.transaction().is_some_and(|transaction| dead.contains(&transaction))
        };
        let mut tasks = self.take_waiting(is_dead);
        tasks.extend(self.parked.extract_if(.., |_, task| is_dead(task)).map(|(_, task)| task));
        for task in tasks {
            let (connection, sequence) = task.asker();
            self.refuse(connection, sequence, Refusal::Fenced, actions);
            self.forget_task(&task);
        }
        let Worker { replicas, account, timers, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        for transaction in dead {
            match primary.transactions.get_mut(transaction).and_then(|open| open.prepared.as_mut()) {
                Some(undecided) => {
                    undecided.asks = now;
                    timers.insert((now, partition, transaction));
                }
                None => {
                    if primary.transactions.end(transaction, account) {
                        primary.append(None, &[Change::Abort { transaction }], account);
                    }
                }
            }
        }
        let answers = &primary.root.answers;
        primary.transactions.locks.release_sessions(|proxy| answers.is_fenced(proxy));
        primary.transactions.charge(account);
        primary.transactions.forget_proxies(|proxy| answers.is_fenced(proxy));
        self.stirred.push(partition);
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

/// Whether a partition keeps something of proxies that a fence covers.
fn concerns(primary: &Primary, fence: &Fence) -> bool {
    let root = &primary.root;
    let is_new = |proxy| fence.covers(proxy) && !root.answers.is_fenced(proxy);
    root.answers.lags(fence)
        && (root.answers.has_any_of(fence)
            || primary.transactions.proxies().any(is_new)
            || root.transactions().all_outcomes().any(|(id, known)| known.waiting.is_empty() && is_new(id.proxy)))
}

/// Why a table of this version cannot be as the catalog says: its rows violate a unique index.
fn fault(root: &Root, version: CatalogVersion) -> Option<SqlError> {
    let mut changed = root.tables().filter(|table| table.definition().version == version);
    changed.find_map(|table| {
        let definition = table.definition();
        definition.indexes.iter().find_map(|index| root.index_fault(definition.id, index.id))
    })
}
