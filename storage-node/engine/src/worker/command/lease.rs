//! LeaseRenewed: answers that only waited for the lease leave.

use super::super::Worker;
use super::super::event::Actions;
use crate::gate::Time;

impl Worker {
    pub(in super::super) fn lease_renewed(&mut self, until: Time, now: Time, actions: &mut Actions) {
        self.lease.renew(until);
        if !self.lease.holds(now) {
            return;
        }
        let mut partitions = std::mem::take(&mut self.unleased);
        partitions.sort_unstable();
        partitions.dedup();
        for partition in partitions {
            self.drain_gate(partition, now, actions);
        }
        self.flush_fragments(now, actions);
    }
}
