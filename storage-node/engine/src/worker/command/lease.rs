//! LeaseRenewed: answers that only waited for the lease leave.

use super::super::Worker;
use super::super::event::Actions;
use crate::gate::Time;
use toroid_common::id::PartitionId;

impl Worker {
    pub(in super::super) fn lease_renewed(&mut self, until: Time, now: Time, actions: &mut Actions) {
        self.lease.renew(until);
        if !self.lease.holds(now) {
            return;
        }
        for index in 0..self.replicas.len() {
            if self.replicas.get(index).is_some_and(|replica| replica.as_ref().is_some_and(|r| r.gated() > 0)) {
                self.drain_gate(PartitionId(index as u16), now, actions);
            }
        }
        self.report_captured(now, actions);
        self.flush_fragments(now, actions);
        self.report_catalog(now, actions);
    }
}
