//! Rows that were looked for outside the thread: for statements without a key.

use super::super::Worker;
use super::super::event::{Action, Actions, Ticket};
use super::super::replica::{Primary, Replica};
use super::super::task::{Address, Body, Task, name_found};
use super::answer::answer;
use super::request::{Verdict, read_params};
use super::select::select;
use super::statement::Statement;
use crate::gate::Time;
use crate::store::root::Root;
use crate::store::table::{Position, TableRows};
use crate::store::write_set::Overlay;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::limits::CHUNK_ROWS;
use toroid_common::plan::{Access, Verb};
use toroid_common::wire::{Outcome, write_encoded_answer};

impl Worker {
    /// Has the rows of a statement looked for, on what it sees.
    pub(super) fn find(&mut self, task: Task, actions: &mut Actions) {
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
            (Verdict::Lost(error), _) => self.fail(&task.address, error, now, actions),
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
