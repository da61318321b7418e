//! CatalogChanged: the new catalog becomes an entry in the log of every partition whose primary is here.

use super::super::Worker;
use super::super::event::Actions;
use super::super::replica::{Replica, Reply};
use crate::gate::Time;
use crate::store::change::Change;
use crate::store::root::Root;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlError;
use toroid_common::id::{CatalogVersion, PartitionId};

/// A catalog that is on its way into all partitions' logs.
#[derive(Debug)]
pub(in super::super) struct PendingCatalog {
    pub version: CatalogVersion,
    /// Partitions whose entry is not acknowledged.
    pub waiting: usize,
    /// Partitions that build its indexes.
    pub building: Vec<PartitionId>,
    /// Why it cannot stay, as the first partition says that has a reason.
    pub fault: Option<SqlError>,
}

impl PendingCatalog {
    /// Every partition has it acknowledged, with all that it asks for.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting == 0 && self.building.is_empty()
    }
}

impl Worker {
    pub(in super::super) fn catalog_changed(&mut self, catalog: Arc<Catalog>, now: Time, actions: &mut Actions) {
        if catalog.version <= self.catalog.version {
            return;
        }
        self.catalog = Arc::clone(&catalog);
        let version = catalog.version;
        let change = [Change::Catalog(catalog)];
        let mut pending = PendingCatalog { version, waiting: 0, building: Vec::new(), fault: None };
        let mut partitions = Vec::new();
        for (index, replica) in self.replicas.iter_mut().enumerate() {
            let Some(Replica::Primary(primary)) = replica else { continue };
            let forbidden = primary.root.check(&change, &self.account).err();
            let lsn = primary.append(None, &change, &mut self.account);
            primary.gate.hold(lsn, Reply::Catalog(version), |_| ());
            pending.waiting += 1;
            if primary.root.is_building() {
                pending.building.push(PartitionId(index as u16));
            }
            pending.fault = pending.fault.or(forbidden).or_else(|| fault(&primary.root, version));
            partitions.push(PartitionId(index as u16));
        }
        self.catalogs.push_back(pending);
        for partition in partitions {
            self.touch_backups(partition);
            self.drain_gate(partition, now, actions);
        }
        self.report_catalogs(actions);
    }
}

/// Why a table of this version cannot be as the catalog says: its rows violate a unique index.
pub(super) fn fault(root: &Root, version: CatalogVersion) -> Option<SqlError> {
    let mut changed = root.tables().filter(|table| table.definition().version == version);
    changed.find_map(|table| {
        let definition = table.definition();
        definition.indexes.iter().find_map(|index| root.index_fault(definition.id, index.id))
    })
}
