//! Rows of one table, told apart by their keys, and how they are locked where they are.

use super::super::{Conductor, PointBody};
use super::encode;
use crate::bound::{ColId, LockedTable, Rel};
use crate::cluster::client::{CallError, PlanHandle, Reply};
use crate::point::Route;
use crate::point::lock::{Identity, LockedPart, identity, lock_plan};
use crate::statement::State;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::{Expr, Slot};
use toroid_common::hash::partition_of;
use toroid_common::id::PartitionId;
use toroid_common::plan::{KeyFate, LockWait};
use toroid_common::row::{RowReader, read_owned, write_row};
use toroid_common::types::SqlType;
use toroid_common::wire::{RequestBody, encode_env};
use toroid_query::memory::Share;

/// A table whose rows are locked.
pub(super) struct Target {
    pub identity: Identity,
    /// What the query reads of a row besides, to be compared with what it is.
    pub seen: Vec<(ColId, SqlType)>,
    wait: LockWait,
    /// As the statement wants it, and without waiting.
    asked: PointBody,
    trying: PointBody,
    env: Option<Vec<u8>>,
    /// Of the output for each row.
    types: Vec<SqlType>,
}

/// A row that was found, where it is, and what was read of it.
pub(super) struct Row {
    pub partition: PartitionId,
    pub key: Vec<u8>,
    pub seen: Vec<u8>,
}

/// What became of a row that was to be locked.
pub(super) enum Got {
    Row(Bytes),
    /// It does not meet the condition any more.
    Unwanted,
    /// It has another key, or is not there any more.
    Gone,
    Skipped,
}

impl Target {
    /// The only table of a part: the worker knows what to show of its rows.
    pub(super) fn judging(
        session: &State,
        part: &LockedPart,
        filter: Option<Expr>,
        output: Vec<Expr>,
    ) -> SqlResult<Target> {
        let locked = part.tables.first().ok_or_else(|| SqlError::internal("a locked part without tables"))?;
        let mut target = Target::new(locked, Vec::new(), (filter, output))?;
        target.env = target.asked.handle.plan.needs_env.then(|| encode_env(&session.env()));
        Ok(target)
    }

    /// One of several tables, or one that subqueries look at.
    pub(super) fn comparing(part: &LockedPart, locked: &LockedTable) -> SqlResult<Target> {
        let id = locked.key.first().map(|(id, _)| *id);
        let columns = id.and_then(|id| scan_of(&part.input, id));
        let columns = columns.ok_or_else(|| SqlError::internal("a locked table is not in its query"))?;
        let column = |(id, position): &(ColId, u16)| {
            let ty = locked.table.columns.get(usize::from(*position))?.ty.ty;
            Some(((*id, ty), Expr::Leaf(Slot { index: *position, ty })))
        };
        let (seen, output) = columns.iter().filter_map(column).unzip();
        Target::new(locked, seen, (None, output))
    }

    fn new(
        locked: &LockedTable,
        seen: Vec<(ColId, SqlType)>,
        (filter, output): (Option<Expr>, Vec<Expr>),
    ) -> SqlResult<Target> {
        let types = output.iter().map(Expr::ty).collect();
        let body = |wait| -> SqlResult<PointBody> {
            let plan = lock_plan(&locked.table, (locked.lock, wait), filter.clone(), output.clone())?;
            Ok(PointBody { handle: PlanHandle::new(plan), route: Route::All, table: Arc::clone(&locked.table) })
        };
        Ok(Target {
            identity: identity(locked)?,
            seen,
            wait: locked.lock.wait,
            asked: body(locked.lock.wait)?,
            trying: body(LockWait::Fail)?,
            env: None,
            types,
        })
    }

    /// The row that these values begin with, and the values behind it.
    pub(super) fn row<'v, 'd>(
        &self,
        values: &'v [DatumRef<'d>],
        partitions: u16,
    ) -> SqlResult<(Row, &'v [DatumRef<'d>])> {
        let lacking = || SqlError::internal("a candidate lacks a column");
        let (key, rest) = values.split_at_checked(self.identity.columns.len()).ok_or_else(lacking)?;
        let (seen, rest) = rest.split_at_checked(self.seen.len()).ok_or_else(lacking)?;
        let partition = match &self.identity.placed_by {
            None => PartitionId(0),
            Some(places) => {
                let by = places.iter().map(|place| key.get(*place).copied().ok_or_else(lacking));
                partition_of(by.collect::<SqlResult<Vec<_>>>()?.into_iter(), partitions)
            }
        };
        Ok((Row { partition, key: encode(key), seen: encode(seen) }, rest))
    }

    /// What a request says for these rows.
    fn request(&self, rows: &[&Row]) -> SqlResult<Vec<u8>> {
        if !self.identity.hidden {
            return Ok(rows.iter().map(|row| row.key.as_slice()).collect::<Vec<_>>().concat());
        }
        let types: Vec<SqlType> = self.identity.columns.iter().map(|(_, ty)| *ty).collect();
        let values = rows.iter().map(|row| Ok(read_owned(&row.key, &types)?.pop().unwrap_or(Datum::Null)));
        let array = Datum::Array(values.collect::<SqlResult<_>>()?);
        let mut out = Vec::new();
        write_row(&mut out, std::iter::once(array.borrow()));
        Ok(out)
    }

    /// What the answer to a request says of its rows.
    fn answers(&self, rows: &[&Row], bytes: &Bytes) -> SqlResult<Vec<Got>> {
        let malformed = || SqlError::internal("an answer that does not fit the locked rows");
        if !self.identity.hidden {
            let (fates, behind) = bytes.split_at_checked(rows.len()).ok_or_else(malformed)?;
            let mut reader = RowReader::new(behind);
            let got = fates.iter().map(|fate| {
                Ok(match KeyFate::from_byte(*fate).ok_or_else(malformed)? {
                    KeyFate::Locked => Got::Row(bytes.slice_ref(reader.skip(&self.types)?)),
                    KeyFate::Unwanted => Got::Unwanted,
                    KeyFate::Gone => Got::Gone,
                    KeyFate::Skipped => Got::Skipped,
                })
            });
            return got.collect();
        }
        let mut types: Vec<SqlType> = self.identity.columns.iter().map(|(_, ty)| *ty).collect();
        let own = types.clone();
        types.extend(&self.types);
        let mut found: BTreeMap<Vec<u8>, Bytes> = BTreeMap::new();
        let mut reader = RowReader::new(bytes);
        while !reader.is_empty() {
            let mut values = Vec::with_capacity(types.len());
            RowReader::new(reader.skip(&types)?).read(&types, &mut values)?;
            let (key, output) = values.split_at_checked(own.len()).ok_or_else(malformed)?;
            found.insert(encode(key), encode(output).into());
        }
        let missing = || if self.wait == LockWait::Skip { Got::Skipped } else { Got::Gone };
        Ok(rows.iter().map(|row| found.get(&row.key).cloned().map_or_else(missing, Got::Row)).collect())
    }
}

/// The columns of the scan that has this one.
fn scan_of(rel: &Rel, id: ColId) -> Option<&[(ColId, u16)]> {
    match rel {
        Rel::Scan { columns, .. } => columns.iter().any(|(known, _)| *known == id).then_some(columns),
        Rel::Filter { input, .. }
        | Rel::Project { input, .. }
        | Rel::Unnest { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Limit { input, .. } => scan_of(input, id),
        Rel::Join { left, right, .. } => scan_of(left, id).or_else(|| scan_of(right, id)),
        Rel::Unit
        | Rel::Virtual { .. }
        | Rel::Values { .. }
        | Rel::Series { .. }
        | Rel::Aggregate { .. }
        | Rel::Window { .. }
        | Rel::SetOp { .. }
        | Rel::Distinct { .. }
        | Rel::DistinctOn { .. }
        | Rel::Lock { .. }
        | Rel::Derived { .. } => None,
    }
}

impl Conductor {
    /// Locks rows of one table. Without waiting for any, if that is to be had, all partitions do it side by side; otherwise one row after the other, so that
    /// statements that lock rows in the same order never wait for each other in a circle.
    pub(super) async fn lock_rows(
        &self,
        session: &State,
        target: &Target,
        rows: &[&Row],
        memory: &Share,
    ) -> Result<Vec<Got>, CallError> {
        let spread = rows.windows(2).any(|pair| matches!(pair, [a, b] if a.partition != b.partition));
        if !spread || target.wait != LockWait::Wait {
            return self.lock_at_once(session, target, &target.asked, rows, memory).await;
        }
        let open = session.open().ok_or_else(|| SqlError::internal("rows are locked without a transaction"))?;
        let mark = open.with(|transaction| Ok(transaction.mark()))?;
        match self.lock_at_once(session, target, &target.trying, rows, memory).await {
            Err(CallError::Sql(error)) if error.state() == SqlState::LOCK_NOT_AVAILABLE => {
                let sends = open.with(|transaction| transaction.undo(&mark))?;
                self.undo(&open, sends).await?;
            }
            other => return other,
        }
        let mut got = Vec::with_capacity(rows.len());
        for run in rows.chunk_by(|a, b| a.partition == b.partition) {
            got.extend(self.lock_at_once(session, target, &target.asked, run, memory).await?);
        }
        Ok(got)
    }

    async fn lock_at_once(
        &self,
        session: &State,
        target: &Target,
        body: &PointBody,
        rows: &[&Row],
        memory: &Share,
    ) -> Result<Vec<Got>, CallError> {
        let mut places: BTreeMap<PartitionId, Vec<usize>> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            places.entry(row.partition).or_default().push(place);
        }
        let mut requests = Vec::with_capacity(places.len());
        for (partition, places) in &places {
            let there: Vec<&Row> = places.iter().filter_map(|place| rows.get(*place).copied()).collect();
            requests.push((*partition, target.request(&there)?, there));
        }
        let bodies = requests.iter().map(|(partition, bytes, there)| {
            let body = match target.identity.hidden {
                true => RequestBody::Point { params: bytes },
                false => RequestBody::Insert { rows: there.len() as u32, bytes },
            };
            (*partition, body)
        });
        let replies = self.each_part(session, body, target.env.as_deref(), bodies, memory).await?;
        let mut got: Vec<Option<Got>> = rows.iter().map(|_| None).collect();
        for (((_, _, there), places), reply) in requests.iter().zip(places.values()).zip(replies) {
            let bytes = match reply {
                Reply::Rows { bytes, .. } => bytes,
                Reply::Done { .. } => Bytes::new(),
            };
            for (place, one) in places.iter().zip(target.answers(there, &bytes)?) {
                if let Some(slot) = got.get_mut(*place) {
                    *slot = Some(one);
                }
            }
        }
        let got: Option<Vec<Got>> = got.into_iter().collect();
        Ok(got.ok_or_else(|| SqlError::internal("a locked row has no answer"))?)
    }
}
