//! Statements beside or within transactions: judged, locked, computed on what they see, and finished, or parked until they can go on.

use super::super::Worker;
use super::super::cuts::Standing;
use super::super::event::{Action, Actions, Ticket};
use super::super::replica::{Primary, Replica};
use super::super::task::{Address, Body, Task, name_found};
use super::super::transaction::{Transaction, altered, forgotten};
use super::answer::answer;
use super::claim::{Claim, Reading, Stop, rows_of};
use super::request::{Verdict, read_params, refused_plan, split_rows};
use super::select::select;
use super::statement::Statement;
use super::write::{Scratch, Write, changes, compute, touch_followers};
use crate::gate::Time;
use crate::log::Executed;
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::root::Root;
use crate::store::table::{Position, TableRows};
use crate::store::write_set::Overlay;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Lsn, PartitionId, TableId, TransactionId};
use toroid_common::limits::CHUNK_ROWS;
use toroid_common::plan::{Access, Verb};
use toroid_common::wire::{Outcome, Refusal, Within, write_encoded_answer};

/// Bytes of a write set that only the primary has, above which they are replicated before they are prepared.
const CHUNK_BYTES: usize = 1 << 20;

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
            Verdict::Lost => {
                self.fail(&task.address, forgotten(), now, actions);
                return self.forget_task(&task);
            }
        }
        match self.run(&task, now, actions) {
            Ok(()) => self.forget_task(&task),
            Err(Stop::Find) => self.find(task, actions),
            Err(Stop::Wait(want)) => self.wait_for(task, &want, now, actions),
            Err(Stop::Error(error)) => self.fail_task(&task, error, now, actions),
        }
    }

    fn judge_task(&mut self, task: &Task) -> Verdict {
        match &task.within {
            None => self.judge(&task.address, &task.plan),
            Some(within) => self.judge_within(task, within),
        }
    }

    fn judge_within(&mut self, task: &Task, within: &Within) -> Verdict {
        let Address { request, low, partition, epoch, .. } = task.address;
        let stale = Verdict::Refuse(self.stale_map());
        let fenced = self.fence.covers(request.proxy);
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
        if primary.is_choked() {
            return Verdict::Refuse(Refusal::Busy);
        }
        if let Some(refusal) = refused_plan(primary, &task.plan, Some(transaction)) {
            return Verdict::Refuse(refusal);
        }
        if let Some(cut) = within.cut
            && self.cuts.as_captured(cut, partition).is_none()
        {
            // Its release may be on its way.
            let open = self.cuts.standing(cut) == Standing::Open;
            return Verdict::Refuse(if open { Refusal::Busy } else { Refusal::NoCut });
        }
        match primary.transactions.get(transaction) {
            Some(open) if open.prepared.is_some() || open.doomed => Verdict::Lost,
            Some(open) if open.pending.is_some_and(|pending| pending != request.sequence) => {
                Verdict::Refuse(Refusal::Busy)
            }
            Some(open) if open.executed != within.earlier + u32::from(again) => Verdict::Lost,
            Some(_) => Verdict::Execute,
            None if within.earlier > 0 || primary.root.transactions().outcome(transaction).is_some() => Verdict::Lost,
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
        let Worker { replicas, account, scratch, counters, links, cuts, .. } = self;
        let Address { connection, request, low, partition, .. } = task.address;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return Ok(()) };
        let seen = task.within.and_then(|within| within.cut).and_then(|cut| cuts.read(cut, partition, account));
        let writes = task.plan.verb.writes();
        let computed = compute_task(primary, task, seen, scratch, account)?;
        let Computed { count, changes, returned, outcome } = computed;
        match task.plan.verb.output() {
            [] if writes => Outcome::Done { count: u64::from(count) }.encode(outcome),
            _ => Outcome::Rows { count, bytes: returned }.encode(outcome),
        }
        match task.transaction() {
            Some(transaction) => {
                let appended = keep_writes(primary, transaction, &changes, account)?;
                if let Some(open) = primary.transactions.get_mut(transaction) {
                    open.executed(request.sequence, writes.then(|| Bytes::copy_from_slice(outcome)));
                }
                if appended {
                    touch_followers(primary, partition, links);
                }
            }
            None if writes => {
                let executed = Executed { request, low, outcome };
                primary.append(Some(executed), &changes, account);
                touch_followers(primary, partition, links);
            }
            None => {}
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
        let Worker { replicas, account, counters, links, .. } = self;
        let Address { connection, request, low, partition, .. } = task.address;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
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

    /// Has the rows of a statement looked for, on what it sees.
    fn find(&mut self, task: Task, actions: &mut Actions) {
        self.stop_waiting(&task);
        let ticket = self.ticket();
        let Worker { replicas, parked, cuts, account, .. } = self;
        let partition = task.address.partition;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        let Primary { root, transactions, .. } = &mut **primary;
        let captured = task.within.and_then(|within| within.cut).and_then(|cut| cuts.read(cut, partition, account));
        let (_, open) = transactions.with(task.transaction());
        let seen = open.and_then(|open| {
            open.pending = Some(task.address.request.sequence);
            open.overlay_of(task.plan.table).map(Overlay::root)
        });
        let Body::Point { params, .. } = &task.body else { return };
        actions.push(Action::FindRows {
            ticket,
            root: seen.or(captured).unwrap_or(root).clone(),
            plan: Arc::clone(&task.plan),
            params: params.clone(),
            env: Arc::clone(&task.env),
        });
        parked.insert(ticket, task);
    }

    /// The rows of a statement are there: what only reads reads them on the root that they were looked for on, what changes or locks them looks at
    /// them again. Everything else may have changed in the meantime.
    pub(in super::super) fn rows_found(
        &mut self,
        ticket: Ticket,
        root: Root,
        found: SqlResult<Vec<Position>>,
        now: Time,
        actions: &mut Actions,
    ) {
        if let Some(task) = self.parked.remove(&ticket) {
            match found {
                Err(error) => self.conclude_found(&task, Err(error), now, actions),
                Ok(found) if matches!(&task.plan.verb, Verb::Select { lock: None, .. }) => {
                    let read = read_found(&task, &root, &found);
                    self.conclude_found(&task, read, now, actions);
                }
                Ok(found) => {
                    let task = self.with_found(task, &root, found);
                    self.attempt(task, now, actions);
                }
            }
        }
        root.finish(&mut self.account);
    }

    /// The task with the rows that were found on a root, and those that others have changed since: any of these may meet its condition now.
    fn with_found(&mut self, task: Task, lent: &Root, found: Vec<Position>) -> Task {
        let Worker { replicas, account, cuts, .. } = self;
        let (partition, id) = (task.address.partition, task.plan.table);
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return task };
        let Primary { root, transactions, .. } = &mut **primary;
        let seen = task.within.and_then(|within| within.cut).and_then(|cut| cuts.read(cut, partition, account));
        let base = seen.unwrap_or(root);
        let (_, mut open) = transactions.with(task.transaction());
        if open.as_mut().is_some_and(|open| open.lay(base, id, account).is_err()) {
            return task;
        }
        let overlay = open.as_deref().and_then(|open| open.overlay_of(id));
        let found = match (overlay.map_or(base, Overlay::root).table(id), lent.table(id)) {
            (Some(table), Some(before)) => refresh(found, table, before),
            _ => found,
        };
        let named = name_found(&found, id, overlay);
        match task.body {
            Body::Point { params, .. } => Task { body: Body::Point { params, found: Some(named) }, ..task },
            Body::Insert { .. } => task,
        }
    }

    /// Answers what was read on an earlier root, or why it could not be.
    fn conclude_found(&mut self, task: &Task, read: SqlResult<Vec<u8>>, now: Time, actions: &mut Actions) {
        match (self.judge_task(task), read) {
            (Verdict::Execute, Ok(outcome)) => {
                let may_leave = self.lease.holds(now);
                let Worker { replicas, counters, .. } = self;
                let Address { connection, request, partition, .. } = task.address;
                let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
                let open = task.transaction();
                if let Some(open) = open.and_then(|id| primary.transactions.get_mut(id)) {
                    open.executed(request.sequence, None);
                }
                counters.reads += 1;
                answer(primary, connection, may_leave, counters, actions, |out, _| {
                    write_encoded_answer(out, request.sequence, &outcome);
                });
            }
            (Verdict::Execute, Err(error)) => self.fail_task(task, error, now, actions),
            (Verdict::Repeat(outcome), _) => self.repeat(&task.address, &outcome, now, actions),
            (Verdict::Lost, _) => self.fail(&task.address, forgotten(), now, actions),
            (Verdict::Refuse(refusal), _) => {
                let (connection, sequence) = task.asker();
                self.refuse(connection, sequence, refusal, actions);
            }
        }
        self.forget_task(task);
    }
}

/// Rows that were found in an earlier state of a table, with all rows of what has changed since.
fn refresh(mut found: Vec<Position>, table: &TableRows, before: &TableRows) -> Vec<Position> {
    let changed: Vec<usize> = table.chunks_changed_since(before).collect();
    if !changed.is_empty() {
        found.retain(|position| changed.binary_search(&(position.0 as usize / CHUNK_ROWS)).is_err());
        found.extend(changed.iter().flat_map(|chunk| table.chunk_positions(*chunk)));
        found.sort_unstable();
    }
    found
}

/// An encoded outcome of the rows that were found on a root.
fn read_found(task: &Task, root: &Root, found: &[Position]) -> SqlResult<Vec<u8>> {
    let (Verb::Select { output, .. }, Body::Point { params, .. }) = (&task.plan.verb, &task.body) else {
        return Err(SqlError::internal("rows were looked for that nobody reads"));
    };
    let mut values = Vec::new();
    read_params(params, &task.plan, &mut values)?;
    let statement = Statement { params: &values, env: &task.env, found: Some(found) };
    let table = root.table(task.plan.table).ok_or_else(|| SqlError::internal("the table is not there"))?;
    let (mut bytes, mut outcome) = (Vec::new(), Vec::new());
    let count = select(&statement, table, &Access::Scan, None, output, &mut bytes)?;
    Outcome::Rows { count, bytes: &bytes }.encode(&mut outcome);
    Ok(outcome)
}

/// What a statement comes to.
struct Computed<'b> {
    count: u32,
    /// Named for the write set of its transaction.
    changes: SmallVec<[Change<'b>; 1]>,
    returned: &'b [u8],
    outcome: &'b mut Vec<u8>,
}

impl<'b> Computed<'b> {
    fn new(count: u32, changes: SmallVec<[Change<'b>; 1]>, returned: &'b [u8], outcome: &'b mut Vec<u8>) -> Self {
        Computed { count, changes, returned, outcome }
    }
}

/// Takes the locks of a statement and evaluates it, on the captured root of a partition or on the present one.
fn compute_task<'b>(
    primary: &mut Primary,
    task: &'b Task,
    seen: Option<&Root>,
    scratch: &'b mut Scratch,
    account: &mut Account,
) -> Result<Computed<'b>, Stop> {
    scratch.clear();
    let table_id = task.plan.table;
    let Primary { root, transactions, .. } = primary;
    let transaction = task.transaction();
    let held = transaction.map_or(0, |transaction| transactions.locks.held_by(transaction));
    let (locks, mut open) = transactions.with(transaction);
    // Such are judged by their keys, and see nothing.
    let plain = seen.is_none() && task.inserts_only();
    if let Some(open) = &mut open {
        open.begin(held);
        if !plain {
            open.lay(seen.unwrap_or(root), table_id, account)?;
        }
    }
    let overlay = open.as_deref().filter(|_| !plain);
    let overlay = overlay.and_then(|open| open.overlay_of(table_id));
    let base = overlay.map_or(seen.unwrap_or(root), Overlay::root);
    let rows = base.table(table_id).ok_or_else(|| SqlError::internal("the table is not there"))?;
    if rows.definition().version != task.plan.table_version {
        return Err(altered().into());
    }
    let mut params: Vec<DatumRef<'_>> = Vec::new();
    let insert = match &task.body {
        Body::Point { params: bytes, .. } => read_params(bytes, &task.plan, &mut params).map(|()| None)?,
        Body::Insert { rows, bytes } => Some((*rows, split_rows(bytes, &task.plan, &mut params)?)),
    };
    let found = task.placed(overlay).or_else(|| task.finds_nothing().then(Vec::new));
    let statement = Statement { params: &params, env: &task.env, found: found.as_deref() };
    let mut claim = Claim { locks, transaction, wait: task.wait };
    match (&task.plan.verb, insert) {
        (Verb::Select { access, .. } | Verb::Update { access, .. } | Verb::Delete { access, .. }, _) => {
            claim.read(&statement, rows, access, Reading::of(task.within.as_ref()))?;
            if matches!(access, Access::Scan) && found.is_none() {
                return Err(Stop::Find);
            }
        }
        (Verb::Insert { conflict: Some(conflict), .. }, Some(insert)) => claim.arbitrate(rows, conflict, insert)?,
        (Verb::Insert { .. }, _) => {}
    }
    if let Verb::Select { .. } = &task.plan.verb {
        let past = seen.map(|seen| (seen, &*root));
        let count = read(&mut claim, &statement, (rows, overlay), task, past, &mut scratch.returned)?;
        let Scratch { returned, outcome, .. } = scratch;
        return Ok(Computed::new(count, SmallVec::new(), returned, outcome));
    }
    let write = Write { plan: &task.plan, insert };
    let count = compute(base, &write, &statement, scratch)?;
    let Scratch { rows, values, steps, returned, outcome } = scratch;
    let changes = changes(&write, rows, steps, values);
    claim.change(&changes, (table_id, base), overlay)?;
    let named = named(&changes, overlay);
    match seen {
        Some(seen) => {
            let touched = rows_of(&changes, base, overlay)?;
            unchanged_since(seen.lsn(), root, table_id, &touched)?;
            check_on_present(&named, (root, open.as_deref()), account).map_err(|error| serialized(task, error))?;
        }
        None if !plain => base.check(&changes, account)?,
        None => check_insert(&changes, root, open, account)?,
    }
    Ok(Computed::new(count, named, returned, outcome))
}

/// Changes as the write set has them: rows of its own by number.
fn named<'b>(changes: &[Change<'b>], overlay: Option<&Overlay>) -> SmallVec<[Change<'b>; 1]> {
    let name = |change: &Change<'b>| match overlay {
        Some(overlay) => overlay.name(change.clone()),
        None => change.clone(),
    };
    changes.iter().map(name).collect()
}

/// Checks a plain INSERT.
fn check_insert(
    changes: &[Change<'_>],
    root: &Root,
    open: Option<&mut Transaction>,
    account: &mut Account,
) -> SqlResult<()> {
    let (Some(open), [insert]) = (open, changes) else { return root.check(changes, account) };
    if open.writes.check_insert(insert, root, account)? {
        return Ok(());
    }
    let Some(table) = insert.table_of_rows() else { return Ok(()) };
    open.lay(root, table, account)?;
    open.overlay_of(table).map_or(root, Overlay::root).check(changes, account)
}

/// What a past state does not show cannot be what a row conflicts with.
fn serialized(task: &Task, error: SqlError) -> SqlError {
    match &task.plan.verb {
        Verb::Insert { conflict: Some(_), .. } if error.state() == SqlState::UNIQUE_VIOLATION => {
            SqlError::new(SqlState::SERIALIZATION_FAILURE, "could not serialize access due to concurrent update")
        }
        _ => error,
    }
}

/// Reads rows, and locks them if they are to stay.
fn read(
    claim: &mut Claim<'_>,
    statement: &Statement<'_>,
    (rows, overlay): (&TableRows, Option<&Overlay>),
    task: &Task,
    past: Option<(&Root, &Root)>,
    out: &mut Vec<u8>,
) -> Result<u32, Stop> {
    let Verb::Select { access, filter, output, lock } = &task.plan.verb else {
        return Err(SqlError::internal("only SELECT reads").into());
    };
    let Some(lock) = lock else {
        return Ok(select(statement, rows, access, filter.as_ref(), output, out)?);
    };
    let table = task.plan.table;
    let mut wanted = Vec::new();
    statement.matching(rows, access, filter.as_ref(), |position| {
        wanted.push(position);
        Ok(())
    })?;
    let is_own = |position| overlay.is_some_and(|overlay| overlay.number(table, position).is_some());
    let had = claim.lock_rows(rows, *lock, wanted, is_own)?;
    if let Some((seen, present)) = past {
        let others: Vec<Position> = had.iter().copied().filter(|position| !is_own(*position)).collect();
        unchanged_since(seen.lsn(), present, table, &others)?;
    }
    let statement = Statement { found: Some(&had), ..*statement };
    Ok(select(&statement, rows, &Access::Scan, None, output, out)?)
}

/// 40001 when one of these rows was changed by somebody after a cut.
fn unchanged_since(cut: Lsn, present: &Root, table: TableId, rows: &[Position]) -> SqlResult<()> {
    let table = present.table(table).ok_or_else(|| SqlError::internal("the table is not there"))?;
    for position in rows {
        let what = match table.is_live(*position) {
            true if table.changed(*position) <= cut => continue,
            true => "update",
            false => "delete",
        };
        let message = format!("could not serialize access due to concurrent {what}");
        return Err(SqlError::new(SqlState::SERIALIZATION_FAILURE, message));
    }
    Ok(())
}

/// Checks changes that were computed on a past state on the present one.
fn check_on_present(
    named: &[Change<'_>],
    (root, open): (&Root, Option<&Transaction>),
    account: &mut Account,
) -> SqlResult<()> {
    let mut present = Overlay::new(root);
    let checked = (|| {
        if let Some(open) = open {
            present.lay_all(root, &open.writes, account)?;
        }
        let placed = named.iter().cloned().map(|change| present.place(change));
        let placed: Vec<Change<'_>> = placed.collect::<SqlResult<_>>()?;
        present.root().check(&placed, account)
    })();
    present.finish(account);
    checked
}

/// Adds changes to a transaction's write set; true when an entry was appended, because it is large.
fn keep_writes(
    primary: &mut Primary,
    transaction: TransactionId,
    changes: &[Change<'_>],
    account: &mut Account,
) -> SqlResult<bool> {
    let Primary { root, transactions, .. } = primary;
    let Some(open) = transactions.get_mut(transaction).filter(|_| !changes.is_empty()) else { return Ok(false) };
    open.push(changes, root, account)?;
    if open.writes.unreplicated() <= CHUNK_BYTES {
        return Ok(false);
    }
    let writes = std::mem::take(&mut open.writes);
    primary.append(None, &[writes.chunk(transaction)], account);
    let Primary { root, transactions, .. } = primary;
    if let Some(open) = transactions.get_mut(transaction) {
        open.writes = writes;
        open.writes.chunked(transaction, root, account);
    }
    Ok(true)
}
