//! What each step of a transaction does at its primary.

use super::super::links::Link;
use super::super::replica::Primary;
use super::super::task::{Address, Task};
use super::super::transaction::{Undecided, altered, forgotten};
use super::answer::writes_too_much;
use super::claim::keeps;
use super::write::touch_followers;
use crate::gate::Time;
use crate::log::Executed;
use crate::store::account::Account;
use crate::store::change::{Change, Participants};
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{PartitionId, TransactionId, WorkerId};
use toroid_common::limits::MAX_ENTRY_BYTES;
use toroid_common::transaction::{Fate, Step};
use toroid_common::wire::Outcome;

/// A prepared transaction of whose coordinator nothing is heard for so long asks its anchor.
pub(super) const SILENCE_MICROS: u64 = 1_000_000;

/// A step at the primary.
pub(super) struct Stepping<'a> {
    pub(super) transaction: TransactionId,
    pub(super) address: Address,
    pub(super) primary: &'a mut Primary,
    pub(super) account: &'a mut Account,
    /// What the partition is to have.
    pub(super) catalog: &'a Catalog,
    pub(super) now: Time,
}

/// Prepares a transaction with its last request here, which is executed and answered so: when its anchor is to be asked. A refusal to prepare ends the transaction.
pub(super) fn prepare_with(
    primary: &mut Primary,
    task: &Task,
    answer: &[u8],
    (account, links, catalog): (&mut Account, &mut BTreeMap<WorkerId, Link>, &Catalog),
    now: Time,
) -> SqlResult<Option<(Time, PartitionId, TransactionId)>> {
    let (address, within) = (task.address, task.within);
    let (Some(transaction), Some(anchor)) = (task.transaction(), within.and_then(|within| within.prepares)) else {
        return Ok(None);
    };
    let executed = primary.transactions.get(transaction).map_or(0, |open| open.executed);
    let mut stepping = Stepping { transaction, address, primary, account, catalog, now };
    let prepared = stepping.prepare(executed, anchor, Bytes::copy_from_slice(answer));
    if prepared.is_err() {
        stepping.end(false);
    }
    touch_followers(primary, address.partition, links);
    prepared?;
    // Its coordinator relies on it.
    match primary.transactions.get(transaction).and_then(|open| open.prepared) {
        Some(undecided) => Ok(Some((undecided.asks, address.partition, transaction))),
        None => Err(SqlError::internal("a request that changed rows left nothing to prepare")),
    }
}

impl Stepping<'_> {
    /// Takes the step; what it is answered.
    pub(super) fn take(&mut self, step: &Step) -> SqlResult<Bytes> {
        let taken = match step {
            Step::RollBackTo { requests, keep } => self.roll_back_to(*requests, *keep),
            Step::RollBack | Step::Finish { commit: false } => Ok(self.abort()),
            Step::Commit { requests } => self.commit(*requests),
            Step::Prepare { requests, anchor } => self.prepare(*requests, *anchor, done(1)),
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
            Some(open) if open.doomed => Err(altered()),
            Some(open) if open.executed == requests => Ok(()),
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

    /// `answer` is what is told where there is something to prepare.
    fn prepare(&mut self, requests: u32, anchor: PartitionId, answer: Bytes) -> SqlResult<Bytes> {
        let asks = self.now.after(SILENCE_MICROS);
        let undecided = Undecided { anchor, asks };
        if self.primary.root.transactions().prepared(self.transaction).is_some() {
            self.primary.transactions.open(self.transaction).prepared = Some(undecided);
            return Ok(answer);
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
        if open.writes.unreplicated() + answer.len() > MAX_ENTRY_BYTES {
            return Err(writes_too_much());
        }
        let reserve = open.writes.check(&self.primary.root, self.account)?;
        let (has, is_to_have) = (&self.primary.root.catalog().tables, &self.catalog.tables);
        let is_same = |table| {
            let (has, is_to_have) = (has.get(&table), is_to_have.get(&table));
            has.zip(is_to_have).is_some_and(|(one, other)| Arc::ptr_eq(one, other)) || has == is_to_have
        };
        if !open.writes.tables().all(is_same) {
            return Err(altered());
        }
        let writes = std::mem::take(&mut open.writes);
        open.prepared = Some(undecided);
        open.finish_overlay(self.account);
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

pub(super) fn encoded(outcome: &Outcome<'_>) -> Bytes {
    let mut bytes = Vec::new();
    outcome.encode(&mut bytes);
    bytes.into()
}

pub(super) fn done(count: u64) -> Bytes {
    encoded(&Outcome::Done { count })
}
