//! What the writing verbs share: the write set while it is computed, its check, and the entry that it becomes.

use super::super::Worker;
use super::super::event::Actions;
use super::super::links::Link;
use super::super::replica::{Primary, Replica};
use super::super::task::Address;
use super::answer::{answer, writes_too_much};
use super::conflict::{Buffers, Step, insert_or};
use super::delete::delete;
use super::insert::insert;
use super::statement::{Made, Statement};
use super::update::update;
use crate::gate::Time;
use crate::log::Executed;
use crate::store::change::{Change, ColumnList};
use crate::store::root::Root;
use crate::store::table::Position;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::expr::Expr;
use toroid_common::id::{PartitionId, WorkerId};
use toroid_common::limits::MAX_ENTRY_BYTES;
use toroid_common::plan::{PointPlan, Verb};
use toroid_common::wire::{Outcome, write_encoded_answer};

/// Buffers of the statement that is being executed, kept between statements.
#[derive(Debug, Default)]
pub(in super::super) struct Scratch {
    /// The rows that are changed, in order, and where each one's new values end in `values`.
    pub rows: Vec<(Position, usize)>,
    pub values: Vec<u8>,
    /// What an INSERT with ON CONFLICT does.
    pub(super) steps: Vec<Step>,
    /// Rows of RETURNING.
    pub returned: Vec<u8>,
    pub outcome: Vec<u8>,
}

impl Scratch {
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.steps.clear();
        for bytes in [&mut self.values, &mut self.returned, &mut self.outcome] {
            bytes.clear();
            bytes.shrink_to(1 << 20);
        }
    }
}

/// A statement that writes.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    pub plan: &'a PointPlan,
    /// Of an INSERT: how many rows, and their bytes.
    pub insert: Option<(u32, &'a [u8])>,
}

impl Worker {
    /// Computes, checks, appends and applies a write, and answers it. The caller has checked that it may be executed.
    pub(super) fn write(
        &mut self,
        address: &Address,
        write: &Write<'_>,
        statement: &Statement<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let Worker { replicas, account, scratch, lease, counters, links, .. } = self;
        let Address { connection, request, low, partition, .. } = *address;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        scratch.clear();
        let may_leave = lease.holds(now);
        let computed = compute(&primary.root, write, statement, scratch);
        let Scratch { rows, values, steps, returned, outcome } = scratch;
        let computed = computed.and_then(|count| {
            let changes = changes(write, rows, steps, values);
            primary.root.check(&changes, account)?;
            match write.plan.verb.output() {
                [] => Outcome::Done { count: u64::from(count) }.encode(outcome),
                _ => Outcome::Rows { count, bytes: returned }.encode(outcome),
            }
            expect_entry(outcome, &changes)?;
            Ok(changes)
        });
        let changes = match computed {
            Ok(changes) => {
                counters.writes += 1;
                changes
            }
            Err(error) => {
                counters.errors += 1;
                outcome.clear();
                Outcome::Error(error).encode(outcome);
                SmallVec::new()
            }
        };
        // Remembered also where nothing changed: a second execution might find what the first one, whose answer is late, did not.
        let executed = Executed { request, low, outcome };
        primary.append(Some(executed), &changes, account);
        touch_followers(primary, partition, links);
        answer(primary, connection, may_leave, counters, actions, |out, _| {
            write_encoded_answer(out, request.sequence, outcome);
        });
    }
}

/// Notes for the followers that there is something for them.
pub(super) fn touch_followers(primary: &Primary, partition: PartitionId, links: &mut BTreeMap<WorkerId, Link>) {
    for progress in &primary.followers {
        if let Some(link) = links.get_mut(&progress.worker) {
            link.touch(partition);
        }
    }
}

/// Evaluates the statement into the buffers; returns how many rows it changes.
pub(super) fn compute(
    root: &Root,
    write: &Write<'_>,
    statement: &Statement<'_>,
    scratch: &mut Scratch,
) -> SqlResult<u32> {
    let Scratch { rows, values, steps, returned, .. } = scratch;
    let table = root.table(write.plan.table).ok_or_else(|| SqlError::internal("the table is not there"))?;
    Ok(match &write.plan.verb {
        Verb::Select { .. } | Verb::Act(_) => return Err(SqlError::internal("the verb writes no rows")),
        Verb::Insert { conflict, returning } => {
            let (count, bytes) = write.insert.ok_or_else(|| SqlError::internal("INSERT without rows"))?;
            match conflict {
                None => {
                    insert(statement, table, count, bytes, returning, &mut Made::rows(returned))?;
                    count
                }
                Some(conflict) => {
                    let buffers = Buffers { steps, values, returned };
                    insert_or(statement, root, table, (conflict, returning), (count, bytes), buffers)?
                }
            }
        }
        Verb::Update { access, filter, set, returning } => {
            let buffers = (&mut *rows, &mut Made::values(values), &mut Made::rows(returned));
            update(statement, table, (access, filter.as_ref()), set, returning, buffers)?;
            rows.len() as u32
        }
        Verb::Delete { access, filter, returning } => {
            delete(statement, table, (access, filter.as_ref()), returning, (rows, &mut Made::rows(returned)))?;
            rows.len() as u32
        }
    })
}

/// 54000 when changes and the answer that is kept with them are more than one entry may have.
pub(super) fn expect_entry(outcome: &[u8], changes: &[Change<'_>]) -> SqlResult<()> {
    let bytes = outcome.len() + changes.iter().map(Change::encoded_bytes).sum::<usize>();
    if bytes > MAX_ENTRY_BYTES { Err(writes_too_much()) } else { Ok(()) }
}

/// The changes that the buffers come to.
pub(super) fn changes<'a>(
    write: &Write<'a>,
    rows: &[(Position, usize)],
    steps: &[Step],
    values: &'a [u8],
) -> SmallVec<[Change<'a>; 1]> {
    let table = write.plan.table;
    let mut start = 0;
    let mut set = |set: &[(u16, Expr)], position, end| {
        let columns: ColumnList = set.iter().map(|(column, _)| *column).collect();
        let values = values.get(start..end).unwrap_or_default();
        start = end;
        Change::Update { table, position, columns, values }
    };
    match (&write.plan.verb, write.insert) {
        (Verb::Select { .. } | Verb::Act(_), _) | (Verb::Insert { .. }, None | Some((0, _))) => SmallVec::new(),
        (Verb::Insert { conflict: None, .. }, Some((count, rows))) => {
            SmallVec::from_elem(Change::Insert { table, count, rows }, 1)
        }
        (Verb::Insert { conflict: Some(conflict), .. }, Some((_, rows))) => {
            let update = conflict.update.as_ref().map_or(&[][..], |update| &update.set);
            let change = |step: &Step| match *step {
                Step::Insert { start, end, count } => {
                    Change::Insert { table, count, rows: rows.get(start..end).unwrap_or_default() }
                }
                Step::Update { position, end } => set(update, position, end),
            };
            steps.iter().map(change).collect()
        }
        (Verb::Delete { .. }, _) => {
            rows.iter().map(|(position, _)| Change::Delete { table, position: *position }).collect()
        }
        (Verb::Update { set: update, .. }, _) => {
            rows.iter().map(|(position, end)| set(update, *position, *end)).collect()
        }
    }
}
