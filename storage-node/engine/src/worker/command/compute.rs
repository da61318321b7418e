//! What a statement comes to under the locks that it needs, on what its transaction sees.

use super::super::replica::Primary;
use super::super::task::{Body, Task};
use super::super::transaction::{Transaction, altered};
use super::claim::{Claim, Reading, Stop, rows_of};
use super::keys::lock_keys;
use super::patched::Point;
use super::request::{read_params, split_rows};
use super::select::select;
use super::statement::Statement;
use super::write::{Scratch, Write, changes, compute};
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::column;
use crate::store::root::Root;
use crate::store::table::{Position, TableRows};
use crate::store::write_set::{Overlay, WriteSet};
use smallvec::SmallVec;
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Lsn, TableId};
use toroid_common::plan::{Access, Conflict, LockWait, TableLock, Verb};

/// What a statement comes to.
pub(super) struct Computed<'b> {
    pub count: u32,
    /// Named for the write set of its transaction.
    pub changes: SmallVec<[Change<'b>; 1]>,
    pub returned: &'b [u8],
    pub outcome: &'b mut Vec<u8>,
}

impl<'b> Computed<'b> {
    fn new(count: u32, changes: SmallVec<[Change<'b>; 1]>, returned: &'b [u8], outcome: &'b mut Vec<u8>) -> Self {
        Computed { count, changes, returned, outcome }
    }

    /// Rows that were read into the scratch space.
    fn of_rows(count: u32, scratch: &'b mut Scratch) -> Self {
        Computed::new(count, SmallVec::new(), &scratch.returned, &mut scratch.outcome)
    }
}

/// Takes the locks of a statement and evaluates it, on the captured root of a partition or on the present one.
pub(super) fn compute_task<'b>(
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
    let room = transactions.room_for_locks(account);
    let (locks, mut open) = transactions.with(transaction);
    open.iter_mut().for_each(|open| open.begin(held));
    if let Some(open) = open.as_deref().filter(|open| seen.is_none() && open.writes.changes_table(table_id)) {
        let claim = Claim { locks: &mut *locks, transaction, wait: task.wait, room };
        if let Some(count) = read_patched(claim, task, root, &open.writes, &mut scratch.returned)? {
            return Ok(Computed::of_rows(count, scratch));
        }
    }
    // Such are judged by their keys, and see nothing.
    let plain = seen.is_none() && task.inserts_only();
    if let Some(open) = open.as_deref_mut().filter(|_| !plain) {
        open.lay(seen.unwrap_or(root), table_id, account)?;
    }
    let overlay = open.as_deref().filter(|_| !plain);
    let overlay = overlay.and_then(|open| open.overlay_of(table_id));
    let base = overlay.map_or(seen.unwrap_or(root), Overlay::root);
    // One that came after the cut, and maybe in the place of another one.
    let rows = base.table(table_id).ok_or_else(altered)?;
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
    let mut claim = Claim { locks, transaction, wait: task.wait, room };
    before_reading(&mut claim, &statement, rows, task, insert)?;
    if let Verb::Select { .. } = &task.plan.verb {
        let past = seen.map(|seen| (seen, &*root));
        let count = read(&mut claim, &statement, (rows, overlay), (task, insert), past, &mut scratch.returned)?;
        return Ok(Computed::of_rows(count, scratch));
    }
    let write = Write { plan: &task.plan, insert };
    let count = compute(base, &write, &statement, scratch)?;
    let Scratch { rows, values, steps, returned, outcome } = scratch;
    let changes = changes(&write, rows, steps, values);
    claim.change(&changes, (table_id, base), overlay)?;
    let name = |change: &Change<'b>| overlay.map_or_else(|| change.clone(), |overlay| overlay.name(change.clone()));
    let named: SmallVec<[Change<'b>; 1]> = changes.iter().map(name).collect();
    match seen {
        Some(seen) => {
            let touched = rows_of(&changes, base, overlay)?;
            unchanged_since(seen, root, table_id, &touched)?;
            let present = check_on_present(&named, (root, open.as_deref()), account);
            present.map_err(|error| serialized(task, (base, &changes), account, error))?;
            // What is gone by now may stand in the past that the transaction goes on reading.
            base.check(&changes, account).map_err(gone_since)?;
        }
        None if !plain => base.check(&changes, account)?,
        None => check_insert(&changes, root, open, account)?,
    }
    Ok(Computed::new(count, named, returned, outcome))
}

/// Reads a row whose values the transaction may have changed, where that takes no laid-over state.
fn read_patched(
    mut claim: Claim<'_>,
    task: &Task,
    root: &Root,
    writes: &WriteSet,
    out: &mut Vec<u8>,
) -> Result<Option<u32>, Stop> {
    let (Some(point), Body::Point { params: bytes, .. }) = (Point::of(&task.plan.verb), &task.body) else {
        return Ok(None);
    };
    writes.expect_version(task.plan.table, root)?;
    let rows = root.table(task.plan.table).ok_or_else(altered)?;
    if rows.definition().version != task.plan.table_version {
        return Err(altered().into());
    }
    let mut params: Vec<DatumRef<'_>> = Vec::new();
    read_params(bytes, &task.plan, &mut params)?;
    let statement = Statement { params: &params, env: &task.env, found: None };
    before_reading(&mut claim, &statement, rows, task, None)?;
    Ok(point.read(&statement, rows, writes, out)?)
}

/// Locks what a statement reads, before it does.
fn before_reading(
    claim: &mut Claim<'_>,
    statement: &Statement<'_>,
    rows: &TableRows,
    task: &Task,
    insert: Option<(u32, &[u8])>,
) -> Result<(), Stop> {
    let reading = Reading::of(task.within.as_ref());
    match (&task.plan.verb, insert) {
        (Verb::Select { access: Access::Table { mode }, lock, .. }, _) => {
            claim.lock_table(rows, *mode, lock.map_or(LockWait::Wait, |lock| lock.wait))?;
        }
        (Verb::Select { access, .. } | Verb::Update { access, .. } | Verb::Delete { access, .. }, _) => {
            if let Verb::Select { lock: Some(_), .. } = &task.plan.verb {
                claim.lock_table(rows, TableLock::RowShare, LockWait::Wait)?;
            }
            claim.read(statement, rows, access, reading)?;
            if matches!(access, Access::Scan) && statement.found.is_none() {
                return Err(Stop::Find);
            }
        }
        (Verb::Insert { conflict: Some(conflict), .. }, Some(insert)) => {
            claim.arbitrate(rows, conflict, insert, reading)?
        }
        (Verb::Insert { .. } | Verb::Act(_), _) => {}
    }
    Ok(())
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

/// What a past state does not show cannot be what a row conflicts with, by a key that it may conflict by.
fn serialized(
    task: &Task,
    (past, changes): (&Root, &[Change<'_>]),
    account: &mut Account,
    error: SqlError,
) -> SqlError {
    if past.check(changes, account).is_err_and(|seen| seen.state() == error.state()) {
        return error;
    }
    let arbitrates = |conflict: &Conflict| {
        let indexes = past.table(task.plan.table).map(|rows| rows.definition().indexes.iter());
        let mut arbiters = indexes.into_iter().flatten().filter(|index| conflict.arbiters.contains(&index.id));
        arbiters.any(|index| error.constraint() == Some(&*index.name))
    };
    match &task.plan.verb {
        Verb::Insert { conflict: Some(conflict), .. }
            if error.state() == SqlState::UNIQUE_VIOLATION && arbitrates(conflict) =>
        {
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
    (task, keys): (&Task, Option<(u32, &[u8])>),
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
    let is_own = |position| overlay.is_some_and(|overlay| overlay.number(table, position).is_some());
    let had = match keys {
        Some(keys) => lock_keys(claim, statement, (rows, overlay), task, keys, out)?,
        None => {
            let mut wanted = Vec::new();
            statement.matching(rows, access, filter.as_ref(), |position| {
                wanted.push(position);
                Ok(())
            })?;
            claim.lock_rows(rows, *lock, wanted, is_own)?
        }
    };
    if let Some((seen, present)) = past {
        let others: Vec<Position> = had.iter().copied().filter(|position| !is_own(*position)).collect();
        unchanged_since(seen, present, table, &others)?;
    }
    let statement = Statement { found: Some(&had), ..*statement };
    Ok(select(&statement, rows, &Access::Scan, None, output, out)?)
}

/// 40001 when a row of the table was changed by somebody after a cut.
pub(super) fn all_unchanged_since(cut: &Root, present: &Root, table: TableId) -> SqlResult<()> {
    let (Some(before), Some(now)) = (cut.table(table), present.table(table)) else { return Err(altered()) };
    let gone = now.chunks()..before.chunks();
    now.chunks_changed_since(before).chain(gone).try_for_each(|chunk| {
        let rows: Vec<Position> = now.chunk_positions(chunk).chain(before.chunk_positions(chunk)).collect();
        unchanged_since(cut, present, table, &rows)
    })
}

/// 40001 when one of these rows was changed by somebody after a cut.
fn unchanged_since(cut: &Root, present: &Root, table: TableId, rows: &[Position]) -> SqlResult<()> {
    let before = cut.table(table);
    let table = present.table(table).ok_or_else(|| SqlError::internal("the table is not there"))?;
    for position in rows {
        let what = match table.is_live(*position) {
            true if table.changed(*position) <= cut.lsn() => continue,
            // What was prepared at the cut, and belongs to it, was applied later.
            true if before.is_some_and(|before| is_laid_over(before, table, *position, cut.lsn())) => continue,
            true => "update",
            false => "delete",
        };
        let message = format!("could not serialize access due to concurrent {what}");
        return Err(SqlError::new(SqlState::SERIALIZATION_FAILURE, message));
    }
    Ok(())
}

/// Whether a row that was laid over a cut is as it is there.
fn is_laid_over(cut: &TableRows, present: &TableRows, position: Position, lsn: Lsn) -> bool {
    let same = cut.is_live(position)
        && cut.changed(position) > lsn
        && cut.definition().version == present.definition().version;
    same && {
        let (mut before, mut now) = (Vec::new(), Vec::new());
        cut.row(position, &mut before);
        present.row(position, &mut now);
        // Of the same version, so there are as many values. A NaN is not equal to itself.
        before.into_iter().zip(now).all(|(before, now)| column::same(before, now))
    }
}

/// A key that only the past state has was taken by a row that has been deleted since.
fn gone_since(error: SqlError) -> SqlError {
    match error.state() {
        SqlState::UNIQUE_VIOLATION => {
            SqlError::new(SqlState::SERIALIZATION_FAILURE, "could not serialize access due to concurrent delete")
        }
        _ => error,
    }
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
