//! INSERT of rows for several partitions: VALUES, SELECT and what COPY reads.

use super::point::{may_split, text_rows};
use super::rows::{Batch, Batches};
use super::transaction::Scope;
use super::{Conductor, PointBody};
use crate::bound::Insert;
use crate::cluster::client::{CallError, PlanHandle, Reply};
use crate::merge::reads;
use crate::point::{self, Route};
use crate::statement::{Answer, Encoded, RowSource, State};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::{NO_ROW, eval};
use toroid_common::expr::Expr;
use toroid_common::id::PartitionId;
use toroid_common::plan::{PointPlan, Verb};
use toroid_common::row::RowReader;
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnReader;
use toroid_common::wire::{RequestBody, encode_env};
use toroid_query::memory::Share;

/// Rows of a source that are gathered between two looks at how much memory they take.
const ROWS_PER_STEP: usize = 64;

/// The plan by which workers take complete rows.
pub(super) fn insert_plan(table: &Arc<Table>) -> PointBody {
    let verb = Verb::Insert { conflict: None, returning: Vec::new() };
    plan_of(table, verb, Vec::new(), Vec::new())
}

fn plan_of(table: &Arc<Table>, verb: Verb, params: Vec<SqlType>, carried: Vec<u16>) -> PointBody {
    let needs_env = point::needs_env(&verb);
    let plan = PointPlan { table: table.id, table_version: table.version, params, verb, needs_env };
    PointBody { handle: PlanHandle::new(plan), route: Route::Rows { rows: Vec::new(), carried }, table: table.clone() }
}

impl Conductor {
    /// INSERT … SELECT, and VALUES that are no point plan.
    ///
    /// Rows are gathered before the first is written, so that the source cannot see its own rows and an error in it leaves nothing behind. What is too
    /// large for that goes in parts where it could not see them: the source reads other tables, and no RETURNING puts all rows in order.
    pub(super) async fn insert(
        &self,
        session: &State,
        insert: &Insert,
        (types, params): (&[SqlType], &[Datum]),
    ) -> Result<Answer, CallError> {
        let (verb, carried) =
            point::insert_verb(insert).ok_or_else(|| SqlError::unsupported("an INSERT with such a clause"))?;
        let carried_types = carried.iter().filter_map(|index| types.get(usize::from(*index))).copied().collect();
        let body = plan_of(&insert.table, verb, carried_types, carried);
        let env = session.env().clone();
        let encoded_env = body.handle.plan.needs_env.then(|| encode_env(&env));
        let types: Vec<SqlType> = insert.source.output.iter().map(|c| c.ty.ty).collect();
        let memory = self.pool.share();
        let mut rows = self.query_stream(session, &insert.source, params, &memory).await?;
        let in_parts = insert.returning.is_empty()
            && may_split(&body)
            && !reads(&insert.source).tables.contains_key(&insert.table.id);
        let head = super::point::carried(&body, params);
        let mut batches = Batches::new(self.partitions() as u16, head, may_split(&body));
        let mut written = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            for start in (0..batch.num_rows()).step_by(ROWS_PER_STEP) {
                let rows = batch.slice(start, ROWS_PER_STEP.min(batch.num_rows() - start));
                let before = batches.bytes();
                self.complete_rows(insert, &rows, &types, &env, &mut batches)?;
                memory.take(batches.bytes() - before)?;
                if in_parts && batches.bytes() >= self.pool.part_bytes() {
                    let bytes = batches.bytes();
                    written += self.insert_part(session, &body, &mut batches).await?;
                    memory.give_back(bytes);
                }
            }
        }
        if written > 0 {
            written += self.insert_part(session, &body, &mut batches).await?;
            return Ok(Answer::Done { count: written });
        }
        self.insert_batches(session, &body, batches.take(), encoded_env.as_deref(), Some(&memory)).await
    }

    /// Gathers a batch of the source, each row with the defaults of the columns that it lacks.
    fn complete_rows(
        &self,
        insert: &Insert,
        batch: &RecordBatch,
        types: &[SqlType],
        env: &Env,
        batches: &mut Batches,
    ) -> SqlResult<()> {
        let columns = batch.columns().iter().zip(types);
        let readers =
            columns.map(|(array, ty)| ColumnReader::new(array.as_ref(), *ty)).collect::<SqlResult<Vec<_>>>()?;
        for at in 0..batch.num_rows() {
            let mut row = self.default_row(&insert.table, &insert.targets, &insert.defaults, env)?;
            for (target, reader) in insert.targets.iter().zip(&readers) {
                if let Some(slot) = row.get_mut(usize::from(*target)) {
                    *slot = reader.get(at).to_owned();
                }
            }
            batches.add(&insert.table, &row)?;
        }
        Ok(())
    }

    /// Writes what has been gathered of a statement that is not at its end; the number of rows.
    async fn insert_part(&self, session: &State, body: &PointBody, batches: &mut Batches) -> Result<u64, CallError> {
        // More will follow: the first of them is not all of the statement either.
        session.open().inspect(|open| open.share());
        match self.insert_batches(session, body, batches.take(), None, None).await {
            Ok(Answer::Done { count }) => Ok(count),
            Ok(_) => Err(SqlError::internal("rows came back from an INSERT without RETURNING").into()),
            Err(error) => Err(error),
        }
    }

    /// A row with the defaults of all columns that are no target.
    fn default_row(&self, table: &Table, targets: &[u16], defaults: &[Expr], env: &Env) -> SqlResult<Vec<Datum>> {
        let value = |(place, (column, default)): (usize, (&toroid_common::catalog::Column, &Expr))| {
            if column.hidden {
                Ok(self.row_identity.next())
            } else if targets.contains(&(place as u16)) {
                Ok(Datum::Null)
            } else {
                eval(default, &NO_ROW, &NO_ROW, env)
            }
        };
        table.columns.iter().zip(defaults).enumerate().map(value).collect()
    }

    /// Sends a statement's only batch to its partition.
    pub(super) async fn insert_batch(
        &self,
        scope: &Scope,
        body: &PointBody,
        (partition, batch): (PartitionId, &Batch),
        env: Option<&[u8]>,
    ) -> Result<Answer, CallError> {
        let request = RequestBody::Insert { rows: batch.rows, bytes: &batch.bytes };
        match scope.request(&self.client, partition, body, env, request).await? {
            Reply::Rows { count, bytes } => {
                let marks = marks_of(body, batch);
                Ok(encoded(bytes.slice(marks.min(bytes.len())..), u64::from(count)))
            }
            Reply::Done { count } => Ok(self.inserted(body, count)),
        }
    }

    /// Sends batches to their partitions and gathers the answers in the order of the rows; what RETURNING brings back is taken from `memory`, or a share
    /// of its own.
    pub(super) async fn insert_batches(
        &self,
        session: &State,
        body: &PointBody,
        batches: Vec<Batch>,
        env: Option<&[u8]>,
        memory: Option<&Share>,
    ) -> Result<Answer, CallError> {
        if let [batch] = batches.as_slice()
            && let Some(partition) = batch.partition
        {
            return self.insert_batch(&Scope::single(session), body, (partition, batch), env).await;
        }
        let everywhere = self.partitions() as u16;
        let targets = batches.iter().flat_map(|batch| {
            let partitions = batch.partition.map_or(0..everywhere, |partition| partition.0..partition.0 + 1);
            partitions.map(move |partition| (batch, PartitionId(partition)))
        });
        let requests = targets
            .clone()
            .map(|(batch, partition)| (partition, RequestBody::Insert { rows: batch.rows, bytes: &batch.bytes }));
        let own;
        let memory = match memory {
            Some(memory) => memory,
            None => {
                own = self.pool.share();
                &own
            }
        };
        let replies = self.each_part(session, body, env, requests, memory).await?;
        gather(body, &batches, targets.map(|(batch, _)| batch).zip(replies))
    }

    fn inserted(&self, body: &PointBody, count: u64) -> Answer {
        if body.handle.plan.verb.output().is_empty() {
            Answer::Done { count }
        } else {
            Answer::Rows(text_rows(Vec::new()))
        }
    }
}

fn encoded(bytes: Bytes, count: u64) -> Answer {
    Answer::Rows(RowSource::Encoded(Encoded { bytes, count }))
}

/// Bytes before the rows of an answer that say which rows of the batch have one.
fn marks_of(body: &PointBody, batch: &Batch) -> usize {
    match &body.handle.plan.verb {
        Verb::Insert { conflict: Some(_), .. } => batch.numbers.len().div_ceil(8),
        _ => 0,
    }
}

/// The rows of RETURNING in the order of the statement's rows; of a reference table's copies one speaks for all.
fn gather<'b>(
    body: &PointBody,
    batches: &[Batch],
    replies: impl Iterator<Item = (&'b Batch, Reply)>,
) -> Result<Answer, CallError> {
    let output = body.handle.plan.verb.output();
    let types: Vec<SqlType> = output.iter().map(Expr::ty).collect();
    let total: usize = batches.iter().map(|b| b.numbers.len()).sum();
    let mut slots: Vec<Option<Bytes>> = vec![None; if output.is_empty() { 0 } else { total }];
    let (mut done, mut last) = (0, None);
    for (batch, reply) in replies {
        let first = last.replace(batch.numbers.first()) != Some(batch.numbers.first());
        let bytes = match reply {
            Reply::Done { count } => {
                done += if first { count } else { 0 };
                continue;
            }
            Reply::Rows { bytes, .. } => bytes,
        };
        let marks = marks_of(body, batch);
        let (has, rows) =
            bytes.split_at_checked(marks).ok_or_else(|| SqlError::internal("an answer without its marks"))?;
        let mut reader = RowReader::new(rows);
        for (place, number) in batch.numbers.iter().enumerate() {
            if marks > 0 && has.get(place / 8).is_none_or(|byte| byte >> (place % 8) & 1 == 0) {
                continue;
            }
            let row = bytes.slice_ref(reader.skip(&types)?);
            if let Some(slot) = slots.get_mut(*number) {
                slot.get_or_insert(row);
            }
        }
    }
    if output.is_empty() {
        return Ok(Answer::Done { count: done });
    }
    let mut out = Vec::new();
    let mut count = 0;
    for row in slots.into_iter().flatten() {
        out.extend_from_slice(&row);
        count += 1;
    }
    let conditional = matches!(&body.handle.plan.verb, Verb::Insert { conflict: Some(_), .. });
    if count != total as u64 && !conditional {
        return Err(SqlError::internal("a row of RETURNING did not come back").into());
    }
    Ok(encoded(out.into(), count))
}
