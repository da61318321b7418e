//! Building indexes over rows that are there: some rows in each turn, while requests go on.
//!
//! Backups come first: when the statement's last primary is done, hardly any backup is behind, and none has to catch up at once when the index becomes ready.

use super::super::Worker;
use super::super::event::Actions;
use super::super::replica::Replica;
use crate::gate::Time;

/// What a row takes in an index, about; at the memory limit building ends.
const BUILT_BYTES: usize = 64;

impl Worker {
    /// Goes on with building, and tells of a catalog whose indexes have all rows.
    pub(in super::super) fn build_some(&mut self, now: Time, actions: &mut Actions) {
        let Worker { replicas, account, built_rows, .. } = self;
        let mut left = *built_rows;
        for replica in replicas.iter_mut().flatten() {
            if let Replica::Follower(follower) = replica
                && let Some(root) = follower.root_mut()
            {
                left = root.build_some(left, account);
            }
        }
        for replica in replicas.iter_mut().flatten() {
            let Replica::Primary(primary) = replica else { continue };
            if left > 0 && primary.root.is_building() {
                match account.room(*built_rows * BUILT_BYTES) {
                    Ok(()) => left = primary.root.build_some(left, account),
                    Err(error) => {
                        primary.root.give_up_building();
                        primary.unbuilt.get_or_insert(error);
                    }
                }
            }
        }
        if left > 0 {
            account.all_built();
        }
        self.report_catalog(now, actions);
    }
}
