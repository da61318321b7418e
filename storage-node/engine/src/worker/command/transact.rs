//! Transact: the steps of a transaction. Each may come again, late, or to another primary, and is told the truth.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::replica::{Primary, Replica};
use super::super::task::Address;
use super::super::transaction::{Undecided, forgotten};
use super::answer::{answer, writes_too_much};
use super::claim::keeps;
use super::request::Verdict;
use super::wait::cancelled;
use super::write::touch_followers;
use crate::gate::Time;
use crate::log::Executed;
use crate::store::account::Account;
use crate::store::change::{Change, Participants};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{PartitionId, RequestId, TransactionId};
use toroid_common::limits::MAX_ENTRY_BYTES;
use toroid_common::transaction::{Fate, Step};
use toroid_common::wire::{Message, Outcome, Refusal, Transact, write_encoded_answer};

/// A prepared transaction of whose coordinator nothing is heard for so long asks its anchor.
pub(super) const SILENCE_MICROS: u64 = 1_000_000;
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

/// A step at the primary.
struct Stepping<'a> {
    transaction: TransactionId,
    address: Address,
    primary: &'a mut Primary,
    account: &'a mut Account,
    /// What the partition is to have.
    catalog: &'a Catalog,
    now: Time,
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
            Verdict::Lost => self.fail(&address, forgotten(), now, actions),
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
            Some((sequence, false)) if sequence == request.sequence => return Verdict::Lost,
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
        let of_it = |task: &super::super::task::Task| {
            task.transaction() == Some(transaction) && task.address.partition == partition
        };
        let mut tasks = self.take_waiting(of_it);
        tasks.extend(self.parked.extract_if(.., |_, task| of_it(task)).map(|(_, task)| task));
        for task in tasks {
            self.fail_task(&task, cancelled(), now, actions);
        }
    }
}

impl Stepping<'_> {
    /// Takes the step; what it is answered.
    fn take(&mut self, step: &Step) -> SqlResult<Bytes> {
        let taken = match step {
            Step::RollBackTo { requests, keep } => self.roll_back_to(*requests, *keep),
            Step::RollBack | Step::Finish { commit: false } => Ok(self.abort()),
            Step::Commit { requests } => self.commit(*requests),
            Step::Prepare { requests, anchor } => self.prepare(*requests, *anchor),
            Step::Confirm { requests } => self.confirm(*requests),
            Step::Decide { requests, participants } => self.decide(*requests, participants),
            Step::Finish { commit: true } => self.finish(),
            Step::Forget => Ok(self.forget()),
        };
        let ends = match step {
            Step::Commit { .. } | Step::Prepare { .. } | Step::Confirm { .. } | Step::Decide { .. } => true,
            Step::RollBackTo { .. } | Step::RollBack | Step::Finish { .. } | Step::Forget => false,
        };
        if taken.is_err() && ends {
            self.end(false);
        }
        taken
    }

    /// Appends what the step does, with its answer.
    fn append(&mut self, answer: &Bytes, changes: &[Change<'_>]) {
        let Address { request, low, .. } = self.address;
        self.primary.append(Some(Executed { request, low, outcome: answer }), changes, self.account);
    }

    /// The transaction is over here. The root forgets its chunks.
    fn end(&mut self, done: bool) {
        let sequence = self.address.request.sequence;
        if self.primary.transactions.end(self.transaction, self.account) {
            self.primary.append(None, &[Change::Abort { transaction: self.transaction }], self.account);
        }
        self.primary.transactions.note_end(self.transaction, sequence, done);
    }

    /// Whether all requests are remembered, and what they locked is.
    fn is_complete(&self, requests: u32) -> SqlResult<()> {
        match self.primary.transactions.get(self.transaction) {
            Some(open) if open.executed == requests && !open.doomed => Ok(()),
            None if requests == 0 => Ok(()),
            Some(_) | None => Err(forgotten()),
        }
    }

    fn roll_back_to(&mut self, requests: u32, keep: u32) -> SqlResult<Bytes> {
        let answer = done(0);
        match self.primary.transactions.get_mut(self.transaction) {
            Some(open) if open.prepared.is_none() && open.executed == requests && keep <= requests => {
                let held = open.cut(keep, self.account)?;
                open.last = Some((self.address.request.sequence, Some(answer.clone())));
                if let Some(held) = held {
                    self.primary.transactions.locks.give_back(self.transaction, held);
                    self.primary.transactions.charge(self.account);
                }
                Ok(answer)
            }
            None if requests == 0 => Ok(answer),
            Some(_) | None => Err(forgotten()),
        }
    }

    /// Forgets the transaction, prepared or not.
    fn abort(&mut self) -> Bytes {
        let answer = done(0);
        if self.primary.root.transactions().prepared(self.transaction).is_some() {
            self.append(&answer, &[Change::Abort { transaction: self.transaction }]);
        }
        self.end(true);
        answer
    }

    fn commit(&mut self, requests: u32) -> SqlResult<Bytes> {
        self.is_complete(requests)?;
        let answer = done(0);
        self.apply(&answer, None)?;
        Ok(answer)
    }

    /// Applies the write set in one entry, with the outcome if that is to be remembered.
    fn apply(&mut self, answer: &Bytes, outcome: Option<Change<'_>>) -> SqlResult<()> {
        let open = self.primary.transactions.get_mut(self.transaction).map(|open| {
            open.finish_overlay(self.account);
            std::mem::take(&mut open.writes)
        });
        let writes = open.unwrap_or_default();
        let applied = (|| {
            writes.check(&self.primary.root, self.account)?;
            let mut changes = if writes.is_empty() { SmallVec::new() } else { writes.commit(self.transaction)? };
            changes.extend(outcome);
            if !changes.is_empty() {
                self.append(answer, &changes);
            }
            Ok(())
        })();
        match &applied {
            // Nothing is left of it but an end.
            Ok(()) => {
                writes.finish(self.account);
                self.end(true);
            }
            Err(_) => {
                if let Some(open) = self.primary.transactions.get_mut(self.transaction) {
                    open.writes = writes;
                }
            }
        }
        applied
    }

    fn prepare(&mut self, requests: u32, anchor: PartitionId) -> SqlResult<Bytes> {
        let asks = self.now.after(SILENCE_MICROS);
        let undecided = Undecided { anchor, asks };
        if self.primary.root.transactions().prepared(self.transaction).is_some() {
            self.primary.transactions.open(self.transaction).prepared = Some(undecided);
            return Ok(done(1));
        }
        self.is_complete(requests)?;
        let (locks, Some(open)) = self.primary.transactions.with(Some(self.transaction)) else {
            self.end(true);
            return Ok(done(0));
        };
        // What it read stays as it is until the anchor has decided, also behind another primary: nobody may see a state after it and before the anchor's.
        let keeps = keeps(locks, self.transaction, &open.writes, &self.primary.root)?;
        open.writes.push(&keeps, &self.primary.root, self.account)?;
        if open.writes.is_empty() {
            open.last = Some((self.address.request.sequence, Some(done(0))));
            return Ok(done(0));
        }
        if open.writes.unreplicated() > MAX_ENTRY_BYTES {
            return Err(writes_too_much());
        }
        let reserve = open.writes.check(&self.primary.root, self.account)?;
        let (has, is_to_have) = (&self.primary.root.catalog().tables, &self.catalog.tables);
        let is_same = |table| {
            let (has, is_to_have) = (has.get(&table), is_to_have.get(&table));
            has.zip(is_to_have).is_some_and(|(one, other)| Arc::ptr_eq(one, other)) || has == is_to_have
        };
        if !open.writes.tables().all(is_same) {
            return Err(super::super::transaction::altered());
        }
        let writes = std::mem::take(&mut open.writes);
        open.prepared = Some(undecided);
        open.finish_overlay(self.account);
        let answer = done(1);
        self.append(&answer, &[writes.prepare(self.transaction, anchor, reserve)]);
        writes.finish(self.account);
        self.primary.transactions.locks.prepare(self.transaction);
        Ok(answer)
    }

    /// Nobody has written anything: that all locks are held at one moment is all that there is to it.
    fn confirm(&mut self, requests: u32) -> SqlResult<Bytes> {
        self.is_complete(requests)?;
        match self.primary.transactions.get_mut(self.transaction) {
            Some(open) => {
                open.last = Some((self.address.request.sequence, Some(done(0))));
                // Its client may be told that it is committed before its locks are given back.
                self.primary.transactions.locks.prepare(self.transaction);
            }
            None => self.end(true),
        }
        Ok(done(0))
    }

    fn decide(&mut self, requests: u32, participants: &[PartitionId]) -> SqlResult<Bytes> {
        match self.primary.root.transactions().outcome(self.transaction).map(|known| known.fate) {
            Some(Fate::Committed) => return Ok(done(0)),
            Some(Fate::Aborted) => return Err(forgotten()),
            None => self.is_complete(requests)?,
        }
        let answer = done(0);
        let outcome = Change::Outcome {
            transaction: self.transaction,
            fate: Fate::Committed,
            participants: Participants::from_slice(participants),
        };
        self.apply(&answer, Some(outcome))?;
        Ok(answer)
    }

    /// Applies what was prepared.
    fn finish(&mut self) -> SqlResult<Bytes> {
        let answer = done(0);
        if self.primary.root.transactions().prepared(self.transaction).is_some() {
            self.append(&answer, &[Change::Commit { transaction: self.transaction }]);
        } else if self.primary.transactions.get(self.transaction).is_some() {
            return Err(SqlError::internal("a transaction is to be finished that was not prepared"));
        }
        self.end(true);
        Ok(answer)
    }

    fn forget(&mut self) -> Bytes {
        if self.primary.root.transactions().outcome(self.transaction).is_some() {
            self.primary.append(None, &[Change::Forget { transaction: self.transaction }], self.account);
        }
        done(0)
    }
}

fn encoded(outcome: &Outcome<'_>) -> Bytes {
    let mut bytes = Vec::new();
    outcome.encode(&mut bytes);
    bytes.into()
}

fn done(count: u64) -> Bytes {
    encoded(&Outcome::Done { count })
}
