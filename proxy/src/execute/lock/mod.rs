//! SELECT … FOR UPDATE and its kin where no key names the rows: a query finds candidates, these are locked at their partitions, and judged again as they
//! are then.
//!
//! Rows of one table are judged where they are locked, by condition and output, and keep the place in the order that they had. Where several tables or
//! subqueries have a say, what the query read of the locked rows is compared with what they are: if any has changed, the query runs again, now over
//! rows that nobody else can change. With LIMIT, rows that turn out not to belong to the result, or are passed over, make room for further ones.

mod rows;

use super::Conductor;
use crate::bind::write::over_row;
use crate::bound::{BoundExpr, ColId, Query};
use crate::cluster::client::CallError;
use crate::lower::is_correlated;
use crate::point::lock::{LockedPart, candidates, judged_by_row, locked_parts, with_rows};
use crate::statement::{Encoded, State};
use bytes::Bytes;
use futures::StreamExt;
use rows::{Got, Row, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval::{NO_ROW, eval};
use toroid_common::limits::MAX_VALUE_BYTES;
use toroid_common::plan::Strength;
use toroid_common::row::{read_owned, write_row};
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnReader;
use toroid_query::memory::Share;

/// How often candidates are looked for, since others kept changing them or stood in the way.
const MOST_ROUNDS: u32 = 100;
/// Rows that are locked at once.
const CHUNK: usize = 4_096;
/// How many more candidates than rows are looked for, at least, after some had to be passed over.
const FIRST_EXTRA: u64 = 16;

/// The rows of a query that locks them.
pub(super) enum Locked {
    /// All of its result.
    Rows(Encoded),
    /// What is left of it, with them as constants.
    Rest(Query),
}

/// A row that a part may have, and what it was made of.
struct Candidate {
    /// Its output, where that is not the worker's business.
    shown: Vec<u8>,
    /// By locked table.
    rows: Vec<Row>,
}

/// How many rows of a part are asked for, and how many of them are only locked.
struct Window {
    most: Option<u64>,
    skip: u64,
}

impl Conductor {
    /// Locks the rows of a query's locked parts.
    pub(super) async fn locked(
        &self,
        session: &State,
        query: &Query,
        params: &[Datum],
        memory: &Arc<Share>,
    ) -> Result<Locked, CallError> {
        let (parts, whole) = locked_parts(query);
        let mut all = Vec::with_capacity(parts.len());
        for part in &parts {
            if is_correlated(&Query { rel: part.input.clone(), output: Vec::new() }) {
                return Err(SqlError::unsupported("a locking clause in a correlated subquery").into());
            }
            let rows = self.locked_part(session, part, params, memory).await?;
            if whole {
                return Ok(Locked::Rows(encoded(&rows)?));
            }
            let types: Vec<SqlType> = part.output.iter().map(|column| column.ty.ty).collect();
            all.push(rows.iter().map(|row| read_owned(row, &types)).collect::<SqlResult<Vec<_>>>()?);
        }
        Ok(Locked::Rest(with_rows(query.clone(), all)))
    }

    async fn locked_part(
        &self,
        session: &State,
        part: &LockedPart,
        params: &[Datum],
        memory: &Arc<Share>,
    ) -> Result<Vec<Bytes>, CallError> {
        if session.settings().read_only() {
            let clause = part.tables.iter().map(|locked| locked.lock.strength).max().map_or("", Strength::clause);
            let text = format!("cannot execute SELECT {clause} in a read-only transaction");
            return Err(SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, text).into());
        }
        let open = session.open().ok_or_else(|| SqlError::internal("rows are locked without a transaction"))?;
        open.share();
        let window = self.window(session, part, params)?;
        if window.most == Some(0) {
            return Ok(Vec::new());
        }
        let mut rows = match judged_by_row(part, params) {
            Some((filter, output)) => {
                let target = Target::judging(session, part, filter, output)?;
                self.lock_judged(session, part, (&target, &window), params, memory).await?
            }
            None => {
                let targets = part.tables.iter().map(|locked| Target::comparing(part, locked));
                let targets = targets.collect::<SqlResult<Vec<_>>>()?;
                self.lock_compared(session, part, (&targets, &window), params, memory).await?
            }
        };
        rows.drain(..rows.len().min(usize::try_from(window.skip).unwrap_or(usize::MAX)));
        Ok(rows)
    }

    fn window(&self, session: &State, part: &LockedPart, params: &[Datum]) -> SqlResult<Window> {
        let env = session.env();
        let count = |expr: &Option<BoundExpr>, what: &str, state: SqlState| {
            let Some(expr) = expr else { return Ok(None) };
            match eval(&over_row(expr.clone(), &[])?, &NO_ROW, &params, &env)? {
                Datum::Int8(count) => u64::try_from(count)
                    .map(Some)
                    .map_err(|_| SqlError::new(state, format!("{what} must not be negative"))),
                _ => Ok(None),
            }
        };
        let limit = count(&part.limit, "LIMIT", SqlState::INVALID_ROW_COUNT_IN_LIMIT)?;
        let skip = count(&part.offset, "OFFSET", SqlState::INVALID_ROW_COUNT_IN_OFFSET)?.unwrap_or(0);
        // Rows that OFFSET leaves out are locked, but where there is nothing behind them.
        let most = limit.map(|limit| if limit == 0 { 0 } else { limit.saturating_add(skip) });
        Ok(Window { most, skip })
    }

    /// Rows of one table, which workers judge.
    async fn lock_judged(
        &self,
        session: &State,
        part: &LockedPart,
        (target, window): (&Target, &Window),
        params: &[Datum],
        memory: &Arc<Share>,
    ) -> Result<Vec<Bytes>, CallError> {
        let mut had: BTreeMap<Vec<u8>, Bytes> = BTreeMap::new();
        let want = window.want();
        let mut extra = 0;
        for _ in 0..MOST_ROUNDS {
            let targets = std::slice::from_ref(target);
            let fetch = window.most.map(|most| most.saturating_add(extra));
            let found = self.candidates(session, part, (targets, false), fetch, params, memory).await?;
            let known = |row: &&Row, had: &BTreeMap<Vec<u8>, Bytes>| !had.contains_key(&row.key);
            let (mut left, mut moved) = (found.iter().flat_map(|candidate| &candidate.rows), false);
            while had.len() < want {
                let chunk = left.by_ref().filter(|row| known(row, &had)).take(CHUNK.min(want - had.len()));
                let chunk: Vec<&Row> = chunk.collect();
                if chunk.is_empty() {
                    break;
                }
                for (row, got) in chunk.iter().zip(self.lock_rows(session, target, &chunk, memory).await?) {
                    match got {
                        Got::Row(bytes) => drop(had.insert(row.key.clone(), bytes)),
                        Got::Gone => moved |= target.identity.changes,
                        Got::Unwanted | Got::Skipped => {}
                    }
                }
            }
            let all = fetch.is_none_or(|fetch| (found.len() as u64) < fetch);
            if had.len() >= want || (all && !moved) {
                let order: Vec<&Vec<u8>> = found.iter().flat_map(|c| &c.rows).map(|row| &row.key).collect();
                return Ok(in_order(had, &order));
            }
            extra = if moved { extra } else { (2 * extra).max(2 * found.len() as u64).max(FIRST_EXTRA) };
        }
        Err(changing())
    }

    /// Rows of several tables, or such as subqueries have a say in.
    async fn lock_compared(
        &self,
        session: &State,
        part: &LockedPart,
        (targets, window): (&[Target], &Window),
        params: &[Datum],
        memory: &Arc<Share>,
    ) -> Result<Vec<Bytes>, CallError> {
        let want = window.want();
        let mut extra = 0;
        for _ in 0..MOST_ROUNDS {
            let fetch = window.most.map(|most| most.saturating_add(extra));
            let found = self.candidates(session, part, (targets, true), fetch, params, memory).await?;
            let all = fetch.is_none_or(|fetch| (found.len() as u64) < fetch);
            let mut taken: Vec<&Candidate> = Vec::new();
            let (mut left, mut changed) = (found.iter(), false);
            while taken.len() < want && !changed {
                let mut chunk: Vec<&Candidate> = left.by_ref().take(CHUNK.min(want - taken.len())).collect();
                if chunk.is_empty() {
                    break;
                }
                for (place, target) in targets.iter().enumerate() {
                    let rows: Vec<&Row> = chunk.iter().filter_map(|candidate| candidate.rows.get(place)).collect();
                    let mut got = self.lock_rows(session, target, &rows, memory).await?.into_iter().zip(&rows);
                    chunk.retain(|_| match got.next() {
                        Some((Got::Row(bytes), row)) if *bytes == *row.seen => true,
                        Some((Got::Skipped, _)) => false,
                        Some((Got::Row(_) | Got::Gone | Got::Unwanted, _)) | None => {
                            changed = true;
                            false
                        }
                    });
                }
                taken.append(&mut chunk);
            }
            if changed {
                continue;
            }
            if taken.len() >= want || all {
                return Ok(taken.into_iter().map(|candidate| Bytes::copy_from_slice(&candidate.shown)).collect());
            }
            extra = (2 * extra).max(2 * found.len() as u64).max(FIRST_EXTRA);
        }
        Err(changing())
    }

    /// What a part would lock, in order.
    async fn candidates(
        &self,
        session: &State,
        part: &LockedPart,
        (targets, shown): (&[Target], bool),
        most: Option<u64>,
        params: &[Datum],
        memory: &Arc<Share>,
    ) -> Result<Vec<Candidate>, CallError> {
        let shown: Vec<(ColId, SqlType)> =
            part.output.iter().filter(|_| shown).map(|column| (column.id, column.ty.ty)).collect();
        let of_targets = targets.iter().flat_map(|target| target.identity.columns.iter().chain(&target.seen));
        let columns: Vec<(ColId, SqlType)> = shown.iter().chain(of_targets).copied().collect();
        let query = candidates(part, columns.iter().copied(), most);
        let mut batches = self.query_stream_plain(session, &query, params, memory).await?;
        let partitions = self.partitions() as u16;
        let mut found = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let arrays = batch.columns().iter().zip(&columns);
            let readers = arrays.map(|(array, (_, ty))| ColumnReader::new(array.as_ref(), *ty));
            let readers = readers.collect::<SqlResult<Vec<_>>>()?;
            for at in 0..batch.num_rows() {
                let values: Vec<DatumRef<'_>> = readers.iter().map(|reader| reader.get(at)).collect();
                let (head, mut rest) = values.split_at(shown.len().min(values.len()));
                let mut candidate = Candidate { shown: encode(head), rows: Vec::with_capacity(targets.len()) };
                for target in targets {
                    let (row, others) = target.row(rest, partitions)?;
                    rest = others;
                    candidate.rows.push(row);
                }
                memory.take(candidate.bytes())?;
                found.push(candidate);
            }
        }
        Ok(found)
    }
}

impl Candidate {
    fn bytes(&self) -> usize {
        let rows = self.rows.iter().map(|row| size_of::<Row>() + row.key.len() + row.seen.len());
        size_of::<Candidate>() + self.shown.len() + rows.sum::<usize>()
    }
}

impl Window {
    fn want(&self) -> usize {
        self.most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
    }
}

fn encode(values: &[DatumRef<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_row(&mut out, values.iter().copied());
    out
}

/// Rows in the order in which they were found last; those that were not found again before them.
fn in_order(mut had: BTreeMap<Vec<u8>, Bytes>, order: &[&Vec<u8>]) -> Vec<Bytes> {
    let found: BTreeSet<&Vec<u8>> = order.iter().copied().collect();
    let earlier: Vec<Vec<u8>> = had.keys().filter(|key| !found.contains(key)).cloned().collect();
    let mut rows: Vec<Bytes> = earlier.iter().filter_map(|key| had.remove(key)).collect();
    rows.extend(order.iter().filter_map(|key| had.remove(*key)));
    rows
}

fn encoded(rows: &[Bytes]) -> SqlResult<Encoded> {
    let bytes: usize = rows.iter().map(Bytes::len).sum();
    if bytes > MAX_VALUE_BYTES {
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many rows are locked by one statement"));
    }
    Ok(Encoded { bytes: rows.concat().into(), count: rows.len() as u64 })
}

fn changing() -> CallError {
    let message = "could not serialize access due to concurrent update";
    SqlError::new(SqlState::SERIALIZATION_FAILURE, message).into()
}
