//! Statements beside or within transactions: judged, computed under locks, and finished, or parked until they can go on.

use super::super::Worker;
use super::super::cuts::Standing;
use super::super::event::Actions;
use super::super::links::Link;
use super::super::replica::{Primary, Replica};
use super::super::task::{Address, Task};
use super::super::transaction::{altered, forgotten};
use super::act::act_on;
use super::answer::answer;
use super::claim::Stop;
use super::compute::{Computed, compute_task};
use super::request::{Verdict, refused_plan};
use super::step::prepare_with;
use super::write::{expect_entry, touch_followers};
use crate::gate::Time;
use crate::lock::Want;
use crate::log::Executed;
use crate::store::account::Account;
use crate::store::change::Change;
use bytes::Bytes;
use std::collections::BTreeMap;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::{PartitionId, TransactionId, WorkerId};
use toroid_common::plan::{Act, Verb};
use toroid_common::wire::{Outcome, Refusal, Within, write_encoded_answer};

impl Worker {
    /// Whether there are transactions in a partition, so that statements must look at locks.
    pub(super) fn is_contended(&self, partition: PartitionId) -> bool {
        matches!(
            self.replicas.get(usize::from(partition.0)),
            Some(Some(Replica::Primary(primary))) if !primary.transactions.is_idle()
        )
    }

    /// Executes a statement if nothing stands in its way; otherwise it will be tried again.
    pub(super) fn attempt(&mut self, task: Task, now: Time, actions: &mut Actions) {
        match self.judge_task(&task) {
            Verdict::Execute => {}
            Verdict::Repeat(outcome) => {
                self.repeat(&task.address, &outcome, now, actions);
                return self.forget_task(&task);
            }
            Verdict::Refuse(refusal) => {
                let (connection, sequence) = task.asker();
                self.refuse(connection, sequence, refusal, actions);
                return self.forget_task(&task);
            }
            Verdict::Lost(error) => {
                self.fail(&task.address, error, now, actions);
                return self.forget_task(&task);
            }
        }
        match self.run(&task, now, actions) {
            Ok(()) => self.forget_task(&task),
            Err(Stop::Find) => self.find(task, actions),
            Err(Stop::Wait(Want::Table { .. })) if is_nobodys_read(&task) => {
                let (connection, sequence) = task.asker();
                self.refuse(connection, sequence, Refusal::TableLocked, actions);
                self.forget_task(&task);
            }
            Err(Stop::Wait(want)) => self.wait_for(task, &want, now, actions),
            Err(Stop::Error(error)) => self.fail_task(&task, error, now, actions),
        }
    }

    pub(super) fn judge_task(&mut self, task: &Task) -> Verdict {
        match &task.within {
            None => self.judge(&task.address, &task.plan),
            Some(within) => self.judge_within(task, within),
        }
    }

    fn judge_within(&mut self, task: &Task, within: &Within) -> Verdict {
        let Address { request, low, partition, epoch, .. } = task.address;
        let stale = Verdict::Refuse(self.stale_map());
        let fenced = self.fence.covers(request.proxy);
        let short = within.prepares.is_some() && self.is_short(partition);
        let Some(transaction) = task.transaction() else { return stale };
        let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) else {
            return stale;
        };
        let last = primary.transactions.get(transaction).and_then(|open| open.last.as_ref());
        let again = last.is_some_and(|(sequence, _)| *sequence == request.sequence);
        if again && let Some((_, Some(outcome))) = last {
            return Verdict::Repeat(outcome.clone());
        }
        if let Some(outcome) = primary.root.answers.get(request) {
            return Verdict::Repeat(outcome.clone());
        }
        if fenced || primary.root.answers.is_fenced(request.proxy) {
            return Verdict::Refuse(Refusal::Fenced);
        }
        let late = !primary.transactions.heard(transaction, request.sequence, low);
        if late || primary.transactions.ended(transaction).is_some() {
            return Verdict::Refuse(Refusal::BelowMark);
        }
        if primary.epoch != epoch || !primary.serves() {
            return stale;
        }
        if primary.is_choked() || short {
            return Verdict::Refuse(Refusal::Busy);
        }
        if let Some(refusal) = refused_plan(primary, &task.plan, Some(transaction)) {
            return Verdict::Refuse(refusal);
        }
        if let Some(cut) = within.cut {
            if self.cuts.as_captured(cut, partition).is_none() {
                // Its release may be on its way.
                let open = self.cuts.standing(cut) == Standing::Open;
                return Verdict::Refuse(if open { Refusal::Busy } else { Refusal::NoCut });
            }
            self.cuts.admit(cut, partition, task.plan.table, &primary.root, &mut self.account);
        }
        match primary.transactions.get(transaction) {
            Some(open) if open.prepared.is_some() => Verdict::Lost(forgotten()),
            Some(open) if open.doomed => Verdict::Lost(altered()),
            Some(open) if open.pending.is_some_and(|pending| pending != request.sequence) => {
                Verdict::Refuse(Refusal::Busy)
            }
            Some(open) if open.executed != within.earlier + u32::from(again) => Verdict::Lost(forgotten()),
            Some(_) => Verdict::Execute,
            None if within.earlier > 0 || primary.root.transactions().outcome(transaction).is_some() => {
                Verdict::Lost(forgotten())
            }
            None => {
                let open = primary.transactions.open(transaction);
                (open.process, open.level) = (within.process, within.level);
                Verdict::Execute
            }
        }
    }

    /// Locks, computes and finishes a statement.
    fn run(&mut self, task: &Task, now: Time, actions: &mut Actions) -> Result<(), Stop> {
        let may_leave = self.lease.holds(now);
        let Worker { replicas, account, scratch, counters, links, cuts, chunk_bytes, catalog, timers, .. } = self;
        let Address { connection, request, partition, .. } = task.address;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return Ok(()) };
        if let Verb::Act(act) = task.plan.verb {
            scratch.clear();
            let acted = act_on(primary, task, act, account);
            primary.transactions.charge(account);
            let acted = acted?;
            Outcome::Done { count: acted.count }.encode(&mut scratch.outcome);
            conclude(primary, task, &acted.changes, &scratch.outcome, *chunk_bytes, (account, links))?;
            acted.settle(primary);
            primary.transactions.charge(account);
            *(if act.writes() { &mut counters.writes } else { &mut counters.reads }) += 1;
            answer(primary, connection, may_leave, counters, actions, |out, _| {
                write_encoded_answer(out, request.sequence, &scratch.outcome);
            });
            if act == Act::Listen {
                self.listened.insert(partition);
            }
            self.stirred.push(partition);
            return Ok(());
        }
        let seen = task.within.and_then(|within| within.cut).and_then(|cut| cuts.read(cut, partition, account));
        let writes = task.plan.verb.writes();
        let computed = compute_task(primary, task, seen, scratch, account);
        primary.transactions.charge(account);
        let computed = computed?;
        let Computed { count, changes, returned, outcome } = computed;
        match task.plan.verb.output() {
            [] if writes => Outcome::Done { count: u64::from(count) }.encode(outcome),
            _ => Outcome::Rows { count, bytes: returned }.encode(outcome),
        }
        conclude(primary, task, &changes, outcome, *chunk_bytes, (account, links))?;
        if writes && count > 0 && task.within.is_some_and(|within| within.prepares.is_some()) {
            let asks = prepare_with(primary, task, outcome, (account, links, catalog), now);
            // Where it is refused, the transaction's locks are free.
            self.stirred.push(partition);
            timers.extend(asks?);
        }
        *(if writes { &mut counters.writes } else { &mut counters.reads }) += 1;
        answer(primary, connection, may_leave, counters, actions, |out, _| {
            write_encoded_answer(out, request.sequence, outcome);
        });
        Ok(())
    }

    /// Answers a statement with an error. It counts, and what would be executed again is remembered.
    pub(super) fn fail_task(&mut self, task: &Task, error: SqlError, now: Time, actions: &mut Actions) {
        self.forget_task(task);
        if task.within.is_none() && !task.plan.verb.writes() {
            return self.fail(&task.address, error, now, actions);
        }
        let may_leave = self.lease.holds(now);
        let stale = self.stale_map();
        let Worker { replicas, account, counters, links, .. } = self;
        let Address { connection, request, low, partition, .. } = task.address;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        if task.within.is_none() {
            // A copy may have been executed before.
            if let Some(outcome) = primary.root.answers.get(request).cloned() {
                return self.repeat(&task.address, &outcome, now, actions);
            }
            // Nothing is appended while it is handed over.
            if !primary.serves() {
                return self.refuse(connection, request.sequence, stale, actions);
            }
        }
        let mut outcome = Vec::new();
        Outcome::Error(error).encode(&mut outcome);
        match task.transaction() {
            Some(transaction) => {
                if let Some(open) = primary.transactions.get_mut(transaction) {
                    open.executed(request.sequence, Some(Bytes::copy_from_slice(&outcome)));
                }
            }
            None => {
                primary.append(Some(Executed { request, low, outcome: &outcome }), &[], account);
                touch_followers(primary, partition, links);
            }
        }
        counters.errors += 1;
        answer(primary, connection, may_leave, counters, actions, |out, _| {
            write_encoded_answer(out, request.sequence, &outcome);
        });
    }
}

/// Whether it reads for a session that may hold what others wait for, and nobody would see that it waits for them.
fn is_nobodys_read(task: &Task) -> bool {
    task.waits_as().is_none() && matches!(task.plan.verb, Verb::Select { lock: None, .. })
}

/// Keeps what a statement does in its transaction, or appends it; and remembers the answer where it must not be done again.
fn conclude(
    primary: &mut Primary,
    task: &Task,
    changes: &[Change<'_>],
    outcome: &[u8],
    chunk_bytes: usize,
    (account, links): (&mut Account, &mut BTreeMap<WorkerId, Link>),
) -> SqlResult<()> {
    let Address { request, low, partition, .. } = task.address;
    let writes = task.plan.verb.writes();
    match task.transaction() {
        Some(transaction) => {
            let before = primary.root.lsn();
            let kept = keep_writes(primary, transaction, changes, chunk_bytes, account);
            if primary.root.lsn() > before {
                touch_followers(primary, partition, links);
            }
            kept?;
            if let Some(open) = primary.transactions.get_mut(transaction) {
                open.executed(request.sequence, writes.then(|| Bytes::copy_from_slice(outcome)));
            }
        }
        None if writes => {
            expect_entry(outcome, changes)?;
            primary.append(Some(Executed { request, low, outcome }), changes, account);
            touch_followers(primary, partition, links);
        }
        None => {}
    }
    Ok(())
}

/// Adds changes to a transaction's write set. What is large goes to the other replicas at once, in chunks; what cannot be added is taken back whole.
fn keep_writes(
    primary: &mut Primary,
    transaction: TransactionId,
    changes: &[Change<'_>],
    chunk_bytes: usize,
    account: &mut Account,
) -> SqlResult<()> {
    let Some(open) = primary.transactions.get_mut(transaction) else { return Ok(()) };
    let mark = open.writes.mark();
    let kept = portions(changes, chunk_bytes).try_for_each(|portion| {
        expect_entry(&[], portion)?;
        keep_portion(primary, transaction, portion, chunk_bytes, account)
    });
    if kept.is_err()
        && let Some(open) = primary.transactions.get_mut(transaction)
    {
        open.writes.cut(mark, account)?;
    }
    kept
}

/// The changes in stretches of about so many bytes.
fn portions<'c, 'd>(mut changes: &'c [Change<'d>], bytes: usize) -> impl Iterator<Item = &'c [Change<'d>]> {
    std::iter::from_fn(move || {
        let mut length = 0;
        let is_full = |change: &Change<'_>| {
            length += change.encoded_bytes();
            length > bytes
        };
        let end = changes.iter().position(is_full).map_or(changes.len(), |last| last + 1);
        let (portion, rest) = changes.split_at_checked(end)?;
        changes = rest;
        Some(portion).filter(|portion| !portion.is_empty())
    })
}

fn keep_portion(
    primary: &mut Primary,
    transaction: TransactionId,
    changes: &[Change<'_>],
    chunk_bytes: usize,
    account: &mut Account,
) -> SqlResult<()> {
    let Primary { root, transactions, .. } = primary;
    let Some(open) = transactions.get_mut(transaction) else { return Ok(()) };
    open.push(changes, root, account)?;
    if open.writes.unreplicated() <= chunk_bytes {
        return Ok(());
    }
    let writes = std::mem::take(&mut open.writes);
    primary.append(None, &[writes.chunk(transaction)], account);
    let Primary { root, transactions, .. } = primary;
    if let Some(open) = transactions.get_mut(transaction) {
        open.writes = writes;
        open.writes.chunked(transaction, root, account);
    }
    Ok(())
}
