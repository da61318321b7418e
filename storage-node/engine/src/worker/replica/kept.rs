//! Replicas that the map took from this worker while it lives: kept for a while, since one that comes back so needs only the end of the log.

use super::departed::KEPT_MICROS;
use super::held::Held;
use crate::gate::Time;
use crate::store::account::Account;
use std::collections::BTreeMap;
use toroid_common::id::{Epoch, PartitionId};
use toroid_common::map::ClusterMap;

#[derive(Debug, Default)]
pub(in super::super) struct Kept {
    /// What was held of each partition, its origin, and until when that is of use.
    replicas: BTreeMap<PartitionId, (Held, Epoch, Time)>,
}

impl Kept {
    pub(in super::super) fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    pub(in super::super) fn keep(
        &mut self,
        partition: PartitionId,
        held: Held,
        origin: Epoch,
        account: &mut Account,
        now: Time,
    ) {
        if let Some((before, ..)) = self.replicas.insert(partition, (held, origin, now.after(KEPT_MICROS))) {
            before.root.finish(account);
        }
    }

    /// What is kept of a partition, for a replica that joins it again.
    pub(in super::super) fn take(&mut self, partition: PartitionId) -> Option<Held> {
        self.replicas.remove(&partition).map(|(held, ..)| held)
    }

    /// Gives back what has been kept for long enough, what began anew, and what has all its copies elsewhere.
    pub(in super::super) fn review(&mut self, map: &ClusterMap, account: &mut Account, now: Time) {
        let of_use = |partition: &PartitionId, (_, origin, until): &(Held, Epoch, Time)| {
            *until > now
                && map
                    .assignment(*partition)
                    .is_some_and(|a| a.origin == *origin && a.copies() < usize::from(map.copies))
        };
        for (_, (held, ..)) in self.replicas.extract_if(.., |partition, kept| !of_use(partition, kept)) {
            held.root.finish(account);
        }
    }

    /// Gives everything back.
    pub(in super::super) fn clear(&mut self, account: &mut Account) {
        for (held, ..) in std::mem::take(&mut self.replicas).into_values() {
            held.root.finish(account);
        }
    }
}
