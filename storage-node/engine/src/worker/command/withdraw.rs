//! Withdraw: a request that may be under way must not be executed any more, and whoever asked learns whether it was.

use super::super::Worker;
use super::super::event::Actions;
use super::super::replica::Replica;
use super::super::task::Address;
use super::answer::answer;
use super::write::touch_followers;
use crate::gate::Time;
use crate::log::Executed;
use toroid_common::wire::{Outcome, Refusal, write_encoded_answer};

impl Worker {
    /// Remembers, in an entry, that a request was withdrawn: copies of it that come later get the same answer. The caller has made sure that it was
    /// not executed.
    pub(super) fn withdraw(&mut self, address: &Address, now: Time, actions: &mut Actions) {
        let mut tasks = self.take_waiting(|task| task.address.request == address.request);
        tasks.extend(
            self.parked.extract_if(.., |_, task| task.address.request == address.request).map(|(_, task)| task),
        );
        tasks.iter().for_each(|task| self.forget_task(task));
        let Worker { replicas, lease, counters, links, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(address.partition.0)) else { return };
        let mut outcome = Vec::new();
        Outcome::Refused(Refusal::Withdrawn).encode(&mut outcome);
        counters.withdrawals += 1;
        primary.append(
            Some(Executed { request: address.request, low: address.low, outcome: &outcome }),
            &[],
            &mut self.account,
        );
        touch_followers(primary, address.partition, links);
        answer(primary, address.connection, lease.holds(now), counters, actions, |out, _| {
            write_encoded_answer(out, address.request.sequence, &outcome);
        });
    }
}
