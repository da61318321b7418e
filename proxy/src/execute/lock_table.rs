//! LOCK TABLE: the table is locked in all its partitions.
//!
//! A statement that writes takes its part of the table's lock where it writes only, in several partitions at once. Who waits for such a one in a partition
//! while he has locked others would wait in a circle with it, where PostgreSQL has one lock and one queue. So the first partition is where those who
//! lock a table stand in line; the others are waited for only for moments, and then all is let go of and tried again, but now and then for so long
//! that true deadlocks are found.

use super::transaction::Scope;
use super::{Conductor, PointBody};
use crate::bound::ObjectName;
use crate::cluster::client::{CallError, PlanHandle};
use crate::point::Route;
use crate::statement::{Answer, Open, State};
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
        let body = plan(table, mode, if nowait { LockWait::Fail } else { LockWait::Wait });
        let begun = Instant::now();
        let timeout = session.settings().lock_timeout_ms();
        let partitions = self.partitions() as u16;
        for attempt in 1_u32.. {
            let mark = open.with(|transaction| Ok(transaction.mark()))?;
            let left = match timeout {
                0 => 0,
                timeout => timeout.saturating_sub(begun.elapsed().as_millis() as u32).max(1),
            };
            let scope = Scope::of(session).for_locks(left);
            self.lock_parts(&scope, &body, 0..1).await?;
            let moment = if attempt % ATTEMPTS_TO_LONG == 0 { LONG_MOMENT_MS } else { MOMENT_MS };
            let scope = scope.for_locks(if left == 0 { moment } else { moment.min(left) });
            match self.lock_parts(&scope, &body, 1..partitions).await {
                Err(CallError::Sql(error)) if error.state() == SqlState::LOCK_NOT_AVAILABLE && !nowait => {
                    if session.canceled() {
                        let text = "canceling statement due to user request";
                        return Err(SqlError::new(SqlState::QUERY_CANCELED, text).into());
                    }
                    if timeout > 0 && begun.elapsed() >= Duration::from_millis(u64::from(timeout)) {
                        return Err(error.into());
                    }
                }
                result => return result,
            }
            let sends = open.with(|transaction| transaction.undo(&mark))?;
            self.undo(open, sends).await?;
            tokio::time::sleep(Duration::from_millis((1_u64 << attempt.min(16)).min(LONGEST_PAUSE_MS))).await;
        }
        Ok(())
    }

    async fn lock_parts(
        &self,
        scope: &Scope,
        body: &PointBody,
        partitions: std::ops::Range<u16>,
    ) -> Result<(), CallError> {
        let requests = partitions.map(|partition| (PartitionId(partition), RequestBody::Point { params: &[] }));
        self.each_part_in(scope, body, None, requests, &self.pool.share()).await.map(drop)
    }
}

fn plan(table: &Arc<Table>, mode: TableLock, wait: LockWait) -> PointBody {
    let lock = Some(RowLock { strength: Strength::KeyShare, wait });
    let verb = Verb::Select { access: Access::Table { mode }, filter: None, output: Vec::new(), lock };
    let (id, table_version) = (table.id, table.version);
    let plan = PointPlan { table: id, table_version, params: Vec::new(), verb, needs_env: false };
    PointBody { handle: PlanHandle::new(plan), route: Route::All, table: Arc::clone(table) }
}
