//! Point plans: one request to one worker where the key says which, one to every partition for writes without a key.

use super::rows::{Batch, Batches};
use super::transaction::Scope;
use super::{Conductor, PointBody};
use crate::cluster::client::{CallError, Reply, too_large};
use crate::point::Route;
use crate::statement::{Answer, Encoded, RowSource, State};
use bytes::Bytes;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval::{NO_ROW, eval, eval_ref};
use toroid_common::expr::Expr;
use toroid_common::hash::partition_of;
use toroid_common::id::PartitionId;
use toroid_common::limits::MAX_ENTRY_BYTES;
use toroid_common::plan::{Conflict, Verb};
use toroid_common::row::write_row;
use toroid_common::wire::{RequestBody, encode_env};

impl Conductor {
    pub(super) async fn point(&self, session: &State, body: &PointBody, params: &[Datum]) -> Result<Answer, CallError> {
        let lock = match &body.handle.plan.verb {
            Verb::Select { lock, .. } => *lock,
            Verb::Insert { .. } | Verb::Update { .. } | Verb::Delete { .. } | Verb::Act(_) => None,
        };
        if let Some(lock) = lock
            && session.settings().read_only()
        {
            let text = format!("cannot execute SELECT {} in a read-only transaction", lock.strength.clause());
            return Err(SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, text).into());
        }
        match &body.route {
            Route::Key(key) => self.keyed(session, body, key, params).await,
            Route::Rows { rows, .. } => self.insert_values(session, body, rows, params).await,
            Route::All => self.everywhere(session, body, params).await,
            Route::Reference if body.handle.plan.verb.writes() => self.everywhere(session, body, params).await,
            Route::Reference => {
                // Who locks a row does so where all others do, too.
                let partition = PartitionId(if lock.is_some() { 0 } else { self.next_copy() });
                self.one(session, body, partition, params).await
            }
        }
    }

    pub(super) fn partitions(&self) -> usize {
        self.client.view().map.partitions.len()
    }

    async fn keyed(
        &self,
        session: &State,
        body: &PointBody,
        key: &[Expr],
        params: &[Datum],
    ) -> Result<Answer, CallError> {
        match self.key_partition(session, key, params)? {
            Some(partition) => self.one(session, body, partition, params).await,
            None => Ok(nothing(body)),
        }
    }

    /// The partition that a key's values name; none when one of them is NULL, which equals nothing.
    pub(super) fn key_partition(
        &self,
        session: &State,
        key: &[Expr],
        params: &[Datum],
    ) -> SqlResult<Option<PartitionId>> {
        let partitions = self.partitions() as u16;
        let env = session.env();
        let values = key
            .iter()
            .map(|e| eval_ref(e, &NO_ROW, &params, &env))
            .collect::<SqlResult<smallvec::SmallVec<[_; 4]>>>()?;
        if values.iter().any(|v| v.borrow().is_null()) {
            return Ok(None);
        }
        Ok(Some(partition_of(values.iter().map(|v| v.borrow()), partitions)))
    }

    async fn one(
        &self,
        session: &State,
        body: &PointBody,
        partition: PartitionId,
        params: &[Datum],
    ) -> Result<Answer, CallError> {
        let env = self.request_env(session, body);
        let mut bytes = Vec::with_capacity(16 + params.len() * 12);
        write_row(&mut bytes, params.iter().map(Datum::borrow));
        let request = RequestBody::Point { params: &bytes };
        let scope = Scope::whole(session);
        let reply = scope.request(&self.client, partition, body, env.as_deref(), request).await?;
        Ok(answer(body, reply))
    }

    pub(super) fn request_env(&self, session: &State, body: &PointBody) -> Option<Vec<u8>> {
        body.handle.plan.needs_env.then(|| encode_env(&session.env()))
    }

    /// A statement in every partition.
    async fn everywhere(&self, session: &State, body: &PointBody, params: &[Datum]) -> Result<Answer, CallError> {
        let env = self.request_env(session, body);
        let mut bytes = Vec::new();
        write_row(&mut bytes, params.iter().map(Datum::borrow));
        let partitions = 0..self.partitions() as u16;
        let requests = partitions.map(|partition| (PartitionId(partition), RequestBody::Point { params: &bytes }));
        let replies = self.each_part(session, body, env.as_deref(), requests, &self.pool.share()).await?;
        Ok(merge(body, replies, matches!(body.route, Route::Reference)))
    }

    async fn insert_values(
        &self,
        session: &State,
        body: &PointBody,
        rows: &[Vec<Expr>],
        params: &[Datum],
    ) -> Result<Answer, CallError> {
        let (batches, env) = self.gather_values(session, body, rows, params)?;
        match batches.as_slice() {
            [batch @ Batch { partition: Some(partition), .. }] => {
                self.insert_batch(&Scope::whole(session), body, (*partition, batch), env.as_deref()).await
            }
            _ => self.insert_batches(session, body, batches, env.as_deref(), None).await,
        }
    }

    /// The rows of VALUES by partition, and the environment for RETURNING where it needs one. The session's environment is only borrowed: most
    /// statements insert one row, and a copy of its strings would cost more than the row.
    fn gather_values(
        &self,
        session: &State,
        body: &PointBody,
        rows: &[Vec<Expr>],
        params: &[Datum],
    ) -> SqlResult<(Vec<Batch>, Option<Vec<u8>>)> {
        let env = session.env();
        let partitions = self.partitions() as u16;
        let home =
            session.open().filter(|_| rows.len() == 1).and_then(|open| open.with(|t| Ok(t.home())).ok().flatten());
        let identity = || match home {
            Some(home) => self.row_identity.next_at(home, partitions),
            None => self.row_identity.next(),
        };
        let mut length = 0;
        let mut evaluate = |exprs: &[Expr], row: &mut Vec<Datum>| -> SqlResult<()> {
            for (expr, column) in exprs.iter().zip(&body.table.columns) {
                let value = if column.hidden { identity() } else { eval(expr, &NO_ROW, &params, &env)? };
                length += value.borrow().variable_bytes();
                // Short expressions make long values: before there are many of them.
                if length > MAX_ENTRY_BYTES {
                    return Err(too_large());
                }
                row.push(value);
            }
            Ok(())
        };
        let mut row = Vec::with_capacity(body.table.columns.len());
        let full = if let [exprs] = rows {
            evaluate(exprs, &mut row)?;
            vec![Batch::of_one(&body.table, &row, &carried(body, params), partitions)?]
        } else {
            let mut batches = Batches::new(partitions, carried(body, params), may_split(body));
            for exprs in rows {
                row.clear();
                evaluate(exprs, &mut row)?;
                batches.add(&body.table, &row)?;
            }
            batches.take()
        };
        Ok((full, body.handle.plan.needs_env.then(|| encode_env(&env))))
    }
}

/// The parameters that an INSERT's requests begin with.
pub(super) fn carried(body: &PointBody, params: &[Datum]) -> Vec<u8> {
    let mut head = Vec::new();
    if let Route::Rows { carried, .. } = &body.route
        && !carried.is_empty()
    {
        let value = |index: &u16| params.get(usize::from(*index)).map_or(DatumRef::Null, Datum::borrow);
        write_row(&mut head, carried.iter().map(value));
    }
    head
}

/// Whether a partition may get the rows of an INSERT one part after the other: what each row does must not depend on those of other parts.
pub(super) fn may_split(body: &PointBody) -> bool {
    !matches!(&body.handle.plan.verb, Verb::Insert { conflict: Some(Conflict { update: Some(_), .. }), .. })
}

/// The answer of a statement that matches no row.
fn nothing(body: &PointBody) -> Answer {
    if body.handle.plan.verb.output().is_empty() && body.handle.plan.verb.writes() {
        return Answer::Done { count: 0 };
    }
    Answer::Rows(RowSource::Encoded(Encoded { bytes: Bytes::new(), count: 0 }))
}

fn answer(body: &PointBody, reply: Reply) -> Answer {
    match reply {
        Reply::Rows { count, bytes } => Answer::Rows(RowSource::Encoded(Encoded { bytes, count: u64::from(count) })),
        Reply::Done { count: 0 } => nothing(body),
        Reply::Done { count } => Answer::Done { count },
    }
}

/// One answer out of many; where all partitions hold the same rows, the first one speaks for them.
fn merge(body: &PointBody, replies: Vec<Reply>, same: bool) -> Answer {
    let mut total = 0;
    let mut rows = Vec::new();
    for reply in replies.into_iter().take(if same { 1 } else { usize::MAX }) {
        let (count, bytes) = match reply {
            Reply::Rows { count, bytes } => (u64::from(count), bytes),
            Reply::Done { count } => (count, Bytes::new()),
        };
        total += count;
        rows.extend_from_slice(&bytes);
    }
    if body.handle.plan.verb.output().is_empty() {
        return Answer::Done { count: total };
    }
    Answer::Rows(RowSource::Encoded(Encoded { bytes: rows.into(), count: total }))
}

/// A row of results as text, for plans that are shown.
pub(super) fn text_rows(lines: Vec<String>) -> RowSource {
    let mut bytes = Vec::new();
    let count = lines.len() as u64;
    for line in &lines {
        write_row(&mut bytes, std::iter::once(DatumRef::Text(line)));
    }
    RowSource::Encoded(Encoded { bytes: bytes.into(), count })
}
