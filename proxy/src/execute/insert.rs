//! INSERT of rows for several partitions: VALUES, SELECT and what COPY reads.

use super::point::text_rows;
use super::rows::{Batch, Batches};
use super::{Conductor, PointBody};
use crate::bound::Insert;
use crate::cluster::client::{CallError, PlanHandle, Reply};
use crate::point::Route;
use crate::statement::{Answer, Encoded, RowSource, State};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::{NO_ROW, eval, volatility};
use toroid_common::expr::Expr;
use toroid_common::func::Volatility;
use toroid_common::id::PartitionId;
use toroid_common::plan::{PointPlan, Verb};
use toroid_common::row::RowReader;
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnReader;
use toroid_common::wire::{RequestBody, encode_env};

/// The plan by which workers take complete rows.
pub(super) fn insert_plan(table: &Arc<Table>, returning: Vec<Expr>) -> PointBody {
    let needs_env = returning.iter().any(|e| volatility(e) != Volatility::Immutable);
    let plan = PointPlan {
        table: table.id,
        table_version: table.version,
        params: Vec::new(),
        verb: Verb::Insert { returning },
        needs_env,
    };
    PointBody { handle: PlanHandle::new(plan), route: Route::Rows(Vec::new()), table: table.clone() }
}

impl Conductor {
    /// INSERT … SELECT, and VALUES that are no point plan.
    pub(super) async fn insert(&self, session: &State, insert: &Insert, params: &[Datum]) -> Result<Answer, CallError> {
        let returning = insert.returning.iter().map(|r| r.expr.clone()).collect();
        let body = insert_plan(&insert.table, returning);
        let env = session.env().clone();
        let encoded_env = body.handle.plan.needs_env.then(|| encode_env(&env));
        let types: Vec<SqlType> = insert.source.output.iter().map(|c| c.ty.ty).collect();
        let mut rows = self.query_stream(session, &insert.source, params).await?;
        let mut batches = Batches::new(self.partitions() as u16);
        let mut sent = Vec::new();
        let mut number = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let readers = batch
                .columns()
                .iter()
                .zip(&types)
                .map(|(array, ty)| ColumnReader::new(array.as_ref(), *ty))
                .collect::<SqlResult<Vec<_>>>()?;
            for at in 0..batch.num_rows() {
                let mut row = self.default_row(&insert.table, &insert.targets, &insert.defaults, &env)?;
                for (target, reader) in insert.targets.iter().zip(&readers) {
                    if let Some(slot) = row.get_mut(usize::from(*target)) {
                        *slot = reader.get(at).to_owned();
                    }
                }
                sent.extend(batches.add(&insert.table, &row, number)?);
                number += 1;
            }
        }
        // Nothing is written before the whole source was read, so that it cannot see its own rows.
        sent.extend(batches.finish());
        self.insert_batches(&body, sent, encoded_env.as_deref()).await
    }

    /// A row with the defaults of all columns that are no target.
    fn default_row(
        &self,
        table: &Table,
        targets: &[u16],
        defaults: &[Expr],
        env: &toroid_common::env::Env,
    ) -> SqlResult<Vec<Datum>> {
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

    /// Sends batches to their partitions and gathers the answers in the order of the rows. For now each partition takes its rows by itself: this is where
    /// two-phase commit will go, so that all of them happen or none.
    pub(super) async fn insert_batches(
        &self,
        body: &PointBody,
        batches: Vec<Batch>,
        env: Option<&[u8]>,
    ) -> Result<Answer, CallError> {
        if let [batch] = batches.as_slice()
            && let Some(partition) = batch.partition
        {
            let request = RequestBody::Insert { rows: batch.rows, bytes: &batch.bytes };
            return match self.client.call(partition, &body.handle, env, request).await? {
                Reply::Rows { count, bytes } => Ok(encoded(bytes, u64::from(count))),
                Reply::Done { count } => Ok(self.inserted(body, count)),
            };
        }
        let everywhere = self.partitions() as u16;
        let calls = batches.iter().flat_map(|batch| {
            let targets = match batch.partition {
                Some(partition) => partition.0..partition.0 + 1,
                None => 0..everywhere,
            };
            targets.map(move |partition| async move {
                let request = RequestBody::Insert { rows: batch.rows, bytes: &batch.bytes };
                (batch, self.client.call(PartitionId(partition), &body.handle, env, request).await)
            })
        });
        let replies = futures::future::join_all(calls).await;
        gather(body, &batches, replies)
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

/// The rows of RETURNING in the order of the statement's rows; of a reference table's copies one speaks for all.
fn gather(
    body: &PointBody,
    batches: &[Batch],
    replies: Vec<(&Batch, Result<Reply, CallError>)>,
) -> Result<Answer, CallError> {
    let output = body.handle.plan.verb.output();
    let types: Vec<SqlType> = output.iter().map(Expr::ty).collect();
    let total: usize = batches.iter().map(|b| b.numbers.len()).sum();
    let mut slots: Vec<Option<Bytes>> = vec![None; if output.is_empty() { 0 } else { total }];
    for (batch, reply) in replies {
        let Reply::Rows { bytes, .. } = reply? else { continue };
        let mut reader = RowReader::new(&bytes);
        for number in &batch.numbers {
            let row = bytes.slice_ref(reader.skip(&types)?);
            if let Some(slot) = slots.get_mut(*number) {
                slot.get_or_insert(row);
            }
        }
    }
    if output.is_empty() {
        return Ok(Answer::Done { count: total as u64 });
    }
    let mut out = Vec::new();
    for row in slots {
        let row = row.ok_or_else(|| SqlError::internal("a row of RETURNING did not come back"))?;
        out.extend_from_slice(&row);
    }
    Ok(encoded(out.into(), total as u64))
}
