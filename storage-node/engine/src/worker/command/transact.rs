//! Transact: the steps of a transaction. Each may come again, late, or to another primary, and is told the truth.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::replica::{Primary, Replica};
use super::super::task::{Address, Task};
use super::super::transaction::forgotten;
use super::answer::answer;
use super::request::Verdict;
use super::step::{SILENCE_MICROS, Stepping, done, encoded};
use super::wait::cancelled;
use super::write::touch_followers;
use crate::gate::Time;
use toroid_common::id::{PartitionId, RequestId, TransactionId};
use toroid_common::transaction::Step;
use toroid_common::wire::{Message, Outcome, Refusal, Transact, write_encoded_answer};

/// An anchor tells participants that have not confirmed for so long.
pub(super) const UNCONFIRMED_MICROS: u64 = 2_000_000;

/// Whether a write is promised by it, for which there must be replicas enough. What is decided is done with however few; an outcome waits like a write, and
/// while its coordinator asks for it nobody who asks the anchor makes it an abort.
fn promises(step: &Step, primary: &Primary, transaction: TransactionId) -> bool {
    let open = primary.transactions.get(transaction);
    let writes = || open.is_some_and(|open| !open.writes.is_empty());
    match step {
        Step::Commit { .. } => writes(),
        // What it only read stays locked, in an entry.
        Step::Prepare { .. } => writes() || primary.transactions.locks.held_by(transaction) > 0,
        Step::Decide { .. } => true,
        Step::RollBackTo { .. } | Step::RollBack | Step::Confirm { .. } | Step::Finish { .. } | Step::Forget => false,
    }
}

impl Worker {
    pub(in super::super) fn transact(
        &mut self,
        connection: ConnectionId,
        transact: &Transact,
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(proxy) = self.peers.proxy_mut(connection) else {
            return self.close(connection, "a transaction of a peer that is no proxy".to_owned(), now, actions);
        };
        let proxy = proxy.incarnation;
        let Transact { sequence, low, partition, epoch, number, .. } = *transact;
        let is_its = |message: &Message<'_>| matches!(message, Message::Request(it) if it.partition == partition && it.within.is_some_and(|its| its.number == number));
        if self.awaits_release(connection, is_its) {
            return self.await_release(connection, &Message::Transact(transact.clone()), now, actions);
        }
        let address = Address { connection, request: RequestId { proxy, sequence }, low, partition, epoch };
        let transaction = TransactionId { proxy, number };
        match self.judge_step(&address, transaction, &transact.step, now) {
            Verdict::Execute => self.step_of(address, transaction, &transact.step, now, actions),
            Verdict::Repeat(outcome) => self.repeat(&address, &outcome, now, actions),
            Verdict::Refuse(refusal) => self.refuse(connection, sequence, refusal, actions),
            Verdict::Lost(error) => self.fail(&address, error, now, actions),
        }
    }

    fn judge_step(&mut self, address: &Address, transaction: TransactionId, step: &Step, now: Time) -> Verdict {
        let Address { request, low, partition, epoch, .. } = *address;
        let stale = Verdict::Refuse(self.stale_map());
        let fenced = self.fence.covers(request.proxy);
        let short = self.is_short(partition);
        let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) else {
            return stale;
        };
        if let Some(outcome) = primary.root.answers.get(request) {
            return Verdict::Repeat(outcome.clone());
        }
        let last = primary.transactions.get(transaction).and_then(|open| open.last.as_ref());
        if let Some((_, Some(outcome))) = last.filter(|(sequence, _)| *sequence == request.sequence) {
            return Verdict::Repeat(outcome.clone());
        }
        match primary.transactions.ended(transaction) {
            Some((sequence, true)) if sequence == request.sequence => return Verdict::Repeat(done(0)),
            Some((sequence, false)) if sequence == request.sequence => return Verdict::Lost(forgotten()),
            Some(_) | None => {}
        }
        if fenced || primary.root.answers.is_fenced(request.proxy) {
            return Verdict::Refuse(Refusal::Fenced);
        }
        let below = primary.root.answers.is_passed(request);
        if !primary.transactions.heard(transaction, request.sequence, low) || below {
            return Verdict::Refuse(Refusal::BelowMark);
        }
        if primary.epoch != epoch || !primary.serves() {
            return stale;
        }
        let pending = primary.transactions.get(transaction).is_some_and(|open| open.pending.is_some());
        let short = short && promises(step, primary, transaction);
        if primary.is_choked() || short || (pending && *step != Step::RollBack) {
            if let (Step::Decide { .. }, Some(open)) = (step, primary.transactions.get_mut(transaction)) {
                open.awaited = now.after(SILENCE_MICROS);
            }
            return Verdict::Refuse(Refusal::Busy);
        }
        Verdict::Execute
    }

    fn step_of(&mut self, address: Address, transaction: TransactionId, step: &Step, now: Time, actions: &mut Actions) {
        let Address { connection, request, partition, .. } = address;
        if *step == Step::RollBack {
            self.give_up(transaction, partition, now, actions);
        }
        let may_leave = self.lease.holds(now);
        let Worker { replicas, account, catalog, counters, links, timers, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        let before = primary.root.lsn();
        let mut stepping = Stepping { transaction, address, primary, account, catalog, now };
        let outcome = match stepping.take(step) {
            Ok(outcome) => outcome,
            Err(error) => {
                counters.errors += 1;
                encoded(&Outcome::Error(error))
            }
        };
        if primary.root.lsn() > before {
            touch_followers(primary, partition, links);
        }
        if let Some(open) = primary.transactions.get(transaction)
            && let Some(undecided) = open.prepared
        {
            timers.insert((undecided.asks, partition, transaction));
        }
        if let Step::Decide { .. } = step {
            timers.insert((now.after(UNCONFIRMED_MICROS), partition, transaction));
        }
        answer(primary, connection, may_leave, counters, actions, |out, _| {
            write_encoded_answer(out, request.sequence, &outcome);
        });
        // What is prepared may have kept a catalog away, and chunks may have lost their transaction.
        let lags = primary.root.catalog().version < catalog.version || primary.root.transactions().has_chunked();
        self.stirred.push(partition);
        if lags {
            self.bring_up(partition, now, actions);
        }
    }

    /// What a transaction waits for is not wanted any more.
    fn give_up(&mut self, transaction: TransactionId, partition: PartitionId, now: Time, actions: &mut Actions) {
        let of_it = |task: &Task| task.transaction() == Some(transaction) && task.address.partition == partition;
        let mut tasks = self.take_waiting(of_it);
        tasks.extend(self.parked.extract_if(.., |_, task| of_it(task)).map(|(_, task)| task));
        for task in tasks {
            self.fail_task(&task, cancelled(), now, actions);
        }
    }
}
