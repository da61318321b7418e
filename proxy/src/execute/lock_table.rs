//! LOCK TABLE: the table is locked in all its partitions.
//!
//! A statement that writes takes its part of the table's lock where it writes only, in several partitions at once. Who waits for such a one in a partition
//! while he has locked others would wait in a circle with it, where PostgreSQL has one lock and one queue. So the first partition is where those who
//! lock a table stand in line; the others are waited for only for moments, and then all is let go of, the partition that could not be had is waited for
//! by itself, and all is tried again. A part gives way in a circle: others were not in one if the table had one lock. What is still one while nothing
//! but that part is wanted is a deadlock. Who has given way too often does so no more.

use super::transaction::Scope;
use super::{Conductor, PointBody};
use crate::bound::ObjectName;
use crate::cluster::client::{CallError, PlanHandle};
use crate::point::Route;
use crate::statement::{Answer, Open, State};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use toroid_common::catalog::{PUBLIC_SCHEMA, Table};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::PartitionId;
use toroid_common::plan::{Access, LockWait, PointPlan, RowLock, Strength, TableLock, Verb};
use toroid_common::wire::RequestBody;

const TAG: &str = "LOCK TABLE";
/// For so long others are kept from a table that cannot be locked as a whole yet; every so many attempts, for longer.
const MOMENT_MS: u32 = 20;
const LONG_MOMENT_MS: u32 = 500;
const ATTEMPTS_TO_LONG: u32 = 20;
/// So many attempts give way to others. More, and it would be kept waiting for as long as others write everywhere.
const MOST_YIELDS: u32 = 16;
/// So often a circle is met by a part that is waited for alone, until it is believed.
const MOST_CIRCLES: u32 = 3;
/// Between two attempts.
const LONGEST_PAUSE_MS: u64 = 50;

impl Conductor {
    pub(super) async fn lock_tables(
        &self,
        session: &State,
        names: &[ObjectName],
        mode: TableLock,
        nowait: bool,
    ) -> Result<Answer, CallError> {
        let Some(open) = session.open() else {
            let text = "LOCK TABLE can only be used in transaction blocks";
            return Err(SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, text).into());
        };
        open.share();
        for name in names {
            let table = self.named_table(session, name)?;
            self.lock_table(session, &open, &table, (mode, nowait)).await?;
        }
        Ok(Answer::Tag(TAG))
    }

    fn named_table(&self, session: &State, name: &ObjectName) -> SqlResult<Arc<Table>> {
        let schema = name.schema.as_deref();
        if let Some(table) = self.seen(session).catalog.find(schema.unwrap_or(PUBLIC_SCHEMA), &name.name) {
            return Ok(table.clone());
        }
        if crate::virtual_table::find(schema, &name.name).is_some() {
            return Err(SqlError::unsupported("LOCK TABLE of a system catalog"));
        }
        let shown = schema.map_or_else(|| name.name.clone(), |schema| format!("{schema}.{}", name.name));
        Err(SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{shown}\" does not exist")))
    }

    async fn lock_table(
        &self,
        session: &State,
        open: &Open,
        table: &Arc<Table>,
        (mode, nowait): (TableLock, bool),
    ) -> Result<(), CallError> {
        let of = |wait| plan(table, mode, if nowait { LockWait::Fail } else { wait });
        let (yielding, firm) = (of(LockWait::Skip), of(LockWait::Wait));
        let begun = Instant::now();
        let timeout = session.settings().lock_timeout_ms();
        let partitions = self.partitions() as u16;
        let (mut held_up, mut circles) = (None, 0);
        for attempt in 1_u32.. {
            let mark = open.with(|transaction| Ok(transaction.mark()))?;
            let left = match timeout {
                0 => 0,
                timeout => timeout.saturating_sub(begun.elapsed().as_millis() as u32).max(1),
            };
            let scope = Scope::of(session).for_locks(left);
            let place = held_up.take();
            let first = place.unwrap_or(0);
            match self.lock_parts(&scope, &yielding, first..first + 1).await {
                // Nothing but itself is in the way of others.
                Err((_, CallError::Sql(error))) if error.state() == SqlState::DEADLOCK_DETECTED => {
                    circles += 1;
                    if circles == MOST_CIRCLES || session.canceled() {
                        return Err(error.into());
                    }
                    held_up = place;
                }
                Err((_, error)) => return Err(error),
                Ok(()) if place.is_some() => {}
                Ok(()) => {
                    let moment = if attempt % ATTEMPTS_TO_LONG == 0 { LONG_MOMENT_MS } else { MOMENT_MS };
                    let scope = scope.for_locks(if left == 0 { moment } else { moment.min(left) });
                    let yields = attempt <= MOST_YIELDS;
                    let others = if yields { &yielding } else { &firm };
                    match self.lock_parts(&scope, others, 1..partitions).await {
                        Err((place, CallError::Sql(error))) if is_held_up(&error, yields) && !nowait => {
                            let late = timeout > 0 && begun.elapsed() >= Duration::from_millis(u64::from(timeout));
                            if late && error.state() == SqlState::LOCK_NOT_AVAILABLE {
                                return Err(error.into());
                            }
                            held_up = Some(place).filter(|_| yields);
                        }
                        result => return result.map_err(|(_, error)| error),
                    }
                }
            }
            if session.canceled() {
                let text = "canceling statement due to user request";
                return Err(SqlError::new(SqlState::QUERY_CANCELED, text).into());
            }
            let sends = open.with(|transaction| transaction.undo(&mark))?;
            self.undo(open, sends).await?;
            tokio::time::sleep(Duration::from_millis((1_u64 << attempt.min(16)).min(LONGEST_PAUSE_MS))).await;
        }
        Ok(())
    }

    /// Locks these parts side by side; the first that could not be locked.
    async fn lock_parts(
        &self,
        scope: &Scope,
        body: &PointBody,
        partitions: std::ops::Range<u16>,
    ) -> Result<(), (u16, CallError)> {
        let failed = &RefCell::new(None);
        let parts = partitions.map(|partition| async move {
            let request = RequestBody::Point { params: &[] };
            if let Err(error) = scope.request(&self.client, PartitionId(partition), body, None, request).await {
                failed.borrow_mut().get_or_insert((partition, error));
                self.client.call_back(&scope.running);
            }
        });
        futures::future::join_all(parts).await;
        failed.take().map_or(Ok(()), Err)
    }
}

/// Whether others hold a part of the table, as far as those give way who lock all of it.
fn is_held_up(error: &SqlError, yields: bool) -> bool {
    match error.state() {
        SqlState::LOCK_NOT_AVAILABLE => true,
        SqlState::DEADLOCK_DETECTED => yields,
        _ => false,
    }
}

fn plan(table: &Arc<Table>, mode: TableLock, wait: LockWait) -> PointBody {
    let lock = Some(RowLock { strength: Strength::KeyShare, wait });
    let verb = Verb::Select { access: Access::Table { mode }, filter: None, output: Vec::new(), lock };
    let (id, table_version) = (table.id, table.version);
    let plan = PointPlan { table: id, table_version, params: Vec::new(), verb, needs_env: false };
    PointBody { handle: PlanHandle::new(plan), route: Route::All, table: Arc::clone(table) }
}
