//! Building indexes over rows that are there: some rows in each turn, while requests go on.
//!
//! Backups come first: when the statement's last primary is done, hardly any backup is behind, and none has to catch up at once when the index becomes ready.

use super::super::Worker;
use super::super::event::Actions;
use super::super::replica::Replica;
use super::catalog::fault;
use toroid_common::id::PartitionId;

/// Rows that are entered into indexes in one turn.
const BUILT_ROWS: usize = 256;
/// What they take, about; at the memory limit building ends.
const BUILT_BYTES: usize = BUILT_ROWS * 64;

impl Worker {
    /// Goes on with building, and tells of catalogs whose indexes have all rows.
    pub(in super::super) fn build_some(&mut self, actions: &mut Actions) {
        let Worker { replicas, account, catalogs, .. } = self;
        let mut left = BUILT_ROWS;
        for replica in replicas.iter_mut().flatten() {
            if let Replica::Backup(backup) = replica {
                left = backup.root.build_some(left, account);
            }
        }
        for (partition, replica) in replicas.iter_mut().enumerate() {
            let Some(Replica::Primary(primary)) = replica else { continue };
            if left > 0 && primary.root.is_building() {
                match account.room(BUILT_BYTES) {
                    Ok(()) => left = primary.root.build_some(left, account),
                    Err(error) => {
                        primary.root.give_up_building();
                        let partition = PartitionId(partition as u16);
                        let pending = catalogs.iter_mut().filter(|pending| pending.building.contains(&partition));
                        pending
                            .for_each(|pending| pending.fault = pending.fault.take().or_else(|| Some(error.clone())));
                    }
                }
            }
        }
        if left > 0 {
            account.all_built();
        }
        self.settle_built();
        self.report_catalogs(actions);
    }

    /// Takes partitions off the catalogs that waited for their indexes.
    fn settle_built(&mut self) {
        let Worker { replicas, catalogs, .. } = self;
        for pending in catalogs.iter_mut().filter(|pending| !pending.building.is_empty()) {
            let (version, reason) = (pending.version, &mut pending.fault);
            pending.building.retain(|partition| {
                // Whoever is primary now answers for a partition that has left.
                let Some(Some(Replica::Primary(primary))) = replicas.get(usize::from(partition.0)) else {
                    return false;
                };
                if primary.root.is_building() {
                    return true;
                }
                *reason = reason.take().or_else(|| fault(&primary.root, version));
                false
            });
        }
    }
}
