//! INSERT … ON CONFLICT: which rows are inserted, which ones update the row that has their key, and which ones do nothing.

use super::statement::{Made, Statement, StoredRow};
use super::update::{Updated, set_row};
use crate::store::index::{Index, KeyBytes};
use crate::store::root::Root;
use crate::store::table::{Position, TableRows};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval::{Row, is_true};
use toroid_common::expr::Expr;
use toroid_common::id::IndexId;
use toroid_common::plan::{Conflict, ConflictUpdate};
use toroid_common::row::RowReader;

/// What a statement does, in the order of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Inserts rows that stand side by side in these bytes of the request's.
    Insert { start: usize, end: usize, count: u32 },
    /// Sets the values that end here in the buffer of values.
    Update { position: Position, end: usize },
}

/// The row that is there, and behind it the one that could not be inserted.
struct Both<'a> {
    stored: StoredRow<'a>,
    excluded: &'a [DatumRef<'a>],
}

impl Row for Both<'_> {
    fn get(&self, index: u16) -> DatumRef<'_> {
        match usize::from(index).checked_sub(self.excluded.len()) {
            None => self.stored.get(index),
            Some(behind) => <[_]>::get(self.excluded, behind).copied().unwrap_or(DatumRef::Null),
        }
    }
}

/// Who has a row's key.
enum Holder {
    Stored(Position),
    /// A row that this statement has inserted or updated.
    Own,
}

/// The statement so far.
struct Pass<'a> {
    table: &'a TableRows,
    conflict: &'a Conflict,
    arbiters: Vec<&'a Index>,
    /// Whether there are other rows at all.
    remembers: bool,
    /// Keys that came with rows of this statement (true), or went.
    keys: BTreeMap<(IndexId, KeyBytes), bool>,
    updated: BTreeSet<Position>,
}

/// Rows and what is made of them go into these.
pub(super) struct Buffers<'b> {
    pub steps: &'b mut Vec<Step>,
    pub values: &'b mut Vec<u8>,
    pub returned: &'b mut Vec<u8>,
}

/// Decides on each row of an INSERT; the number of rows that are inserted or updated.
pub(super) fn insert_or(
    statement: &Statement<'_>,
    root: &Root,
    table: &TableRows,
    (conflict, returning): (&Conflict, &[Expr]),
    (count, rows): (u32, &[u8]),
    buffers: Buffers<'_>,
) -> SqlResult<u32> {
    let Buffers { steps, values, returned } = buffers;
    let arbiter = |id: &IndexId| table.index(*id).ok_or_else(|| SqlError::internal(format!("no index {id}")));
    let arbiters = conflict.arbiters.iter().map(arbiter).collect::<SqlResult<Vec<&Index>>>()?;
    let (keys, updated) = (BTreeMap::new(), BTreeSet::new());
    let mut pass = Pass { table, conflict, arbiters, remembers: count > 1, keys, updated };
    // Which rows are answered stands before them.
    let start = returned.len();
    let mut marks = if returning.is_empty() { Vec::new() } else { vec![0_u8; (count as usize).div_ceil(8)] };
    returned.extend_from_slice(&marks);
    let (mut values, mut made) = (Made::values(values), Made::rows(returned));
    let mut reader = RowReader::new(rows);
    let mut row = Vec::with_capacity(table.types().len());
    let mut changed = 0;
    for number in 0..count as usize {
        let start = rows.len() - reader.rest().len();
        row.clear();
        reader.read(table.types(), &mut row)?;
        match pass.holder(&row) {
            None => {
                insert(steps, start, rows.len() - reader.rest().len());
                pass.inserted(&row);
                if !returning.is_empty() {
                    statement.write(returning.iter(), &row, &mut made)?;
                }
            }
            Some(holder) => {
                // PostgreSQL looks at the row itself first.
                root.check_row(table, &row)?;
                let buffers = (&mut values, &mut made);
                let Some(position) = pass.update(statement, &row, &holder, returning, buffers)? else {
                    continue;
                };
                steps.push(Step::Update { position, end: values.len() });
            }
        }
        changed += 1;
        if let Some(mark) = marks.get_mut(number / 8) {
            *mark |= 1 << (number % 8);
        }
    }
    if let Some(place) = returned.get_mut(start..start + marks.len()) {
        place.copy_from_slice(&marks);
    }
    match reader.is_empty() {
        true => Ok(changed),
        false => Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "more rows than an insert says")),
    }
}

fn insert(steps: &mut Vec<Step>, start: usize, end: usize) {
    match steps.last_mut() {
        Some(Step::Insert { end: before, count, .. }) if *before == start => (*before, *count) = (end, *count + 1),
        _ => steps.push(Step::Insert { start, end, count: 1 }),
    }
}

fn key_of(index: &Index, row: &(impl Row + ?Sized)) -> Option<KeyBytes> {
    index.key(index.columns().iter().map(|column| row.get(column.column)))
}

impl Pass<'_> {
    fn holder(&self, row: &[DatumRef<'_>]) -> Option<Holder> {
        self.arbiters.iter().find_map(|index| {
            let key = key_of(index, row)?;
            let stored = self.table.get(index, &key);
            match self.remembers.then(|| self.keys.get(&(index.id(), key))).flatten() {
                Some(true) => Some(Holder::Own),
                Some(false) => None,
                None => stored.map(|position| match self.updated.contains(&position) {
                    true => Holder::Own,
                    false => Holder::Stored(position),
                }),
            }
        })
    }

    fn inserted(&mut self, row: &[DatumRef<'_>]) {
        if self.remembers {
            let keys = self.arbiters.iter().filter_map(|index| Some(((index.id(), key_of(index, row)?), true)));
            self.keys.extend(keys);
        }
    }

    /// The row that has the key of `row`, if it is to change, with its new values in the buffer.
    fn update(
        &mut self,
        statement: &Statement<'_>,
        row: &[DatumRef<'_>],
        holder: &Holder,
        returning: &[Expr],
        (values, returned): (&mut Made<'_>, &mut Made<'_>),
    ) -> SqlResult<Option<Position>> {
        let Some(ConflictUpdate { filter, set }) = &self.conflict.update else { return Ok(None) };
        let position = match holder {
            Holder::Stored(position) => *position,
            Holder::Own => return Err(second_time()),
        };
        let stored = StoredRow { rows: self.table, position };
        let both = Both { stored, excluded: row };
        if let Some(filter) = filter
            && !is_true(filter, &both, &statement.params, statement.env)?
        {
            return Ok(None);
        }
        let start = values.len();
        set_row(statement, (self.table, position), &both, set, returning, (values, returned))?;
        if self.remembers {
            self.updated.insert(position);
            let columns: Vec<u16> = set.iter().map(|(column, _)| *column).collect();
            let updated = Updated::read(self.table, position, set, values.since(start))?;
            for index in self.arbiters.iter().filter(|index| index.touches(&columns)) {
                let old = key_of(index, &StoredRow { rows: self.table, position });
                let new = key_of(index, &updated);
                self.keys.extend(old.map(|key| ((index.id(), key), false)));
                self.keys.extend(new.map(|key| ((index.id(), key), true)));
            }
        }
        Ok(Some(position))
    }
}

fn second_time() -> SqlError {
    let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
    SqlError::new(SqlState::CARDINALITY_VIOLATION, message).with_hint(
        "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
    )
}
