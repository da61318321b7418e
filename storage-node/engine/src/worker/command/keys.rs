//! Rows by keys that come with the request: each is judged and locked as it is now, in the order of the keys.

use super::super::task::Task;
use super::claim::{Claim, Reading, Stop};
use super::statement::{Statement, StoredRow, index_of};
use crate::store::table::{Position, TableRows};
use crate::store::write_set::Overlay;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::is_true;
use toroid_common::expr::Expr;
use toroid_common::plan::{Access, KeyFate, Verb};
use toroid_common::row::RowReader;
use toroid_common::types::SqlType;

/// Locks rows and appends what became of each key; the rows that are locked.
pub(super) fn lock_keys(
    claim: &mut Claim<'_>,
    statement: &Statement<'_>,
    (rows, overlay): (&TableRows, Option<&Overlay>),
    task: &Task,
    (count, keys): (u32, &[u8]),
    out: &mut Vec<u8>,
) -> Result<Vec<Position>, Stop> {
    let Verb::Select { access: Access::Keys { index }, filter, lock: Some(lock), .. } = &task.plan.verb else {
        return Err(SqlError::internal("keys of a statement that locks nothing").into());
    };
    let (reading, table) = (Reading::of(task.within.as_ref()), task.plan.table);
    let is_own = |position| overlay.is_some_and(|overlay| overlay.number(table, position).is_some());
    let index = index_of(rows, *index)?;
    let of = |column: u16| rows.types().get(usize::from(column)).copied();
    let types: Vec<SqlType> = index.columns().iter().filter_map(|column| of(column.column)).collect();
    let (mut reader, mut values) = (RowReader::new(keys), Vec::with_capacity(types.len()));
    let mut had = Vec::new();
    for _ in 0..count {
        values.clear();
        reader.read(&types, &mut values)?;
        let fate = match index.key(values.iter().copied()) {
            None => KeyFate::Gone,
            Some(key) => {
                claim.read_key(index.id(), &key, reading)?;
                match rows.get(index, &key) {
                    None => KeyFate::Gone,
                    Some(position) if !meets(statement, rows, position, filter.as_ref())? => KeyFate::Unwanted,
                    Some(position) if is_own(position) || claim.lock_row(rows, *lock, position)? => {
                        had.push(position);
                        KeyFate::Locked
                    }
                    Some(_) => KeyFate::Skipped,
                }
            }
        };
        out.push(fate.to_byte());
    }
    Ok(had)
}

fn meets(statement: &Statement<'_>, rows: &TableRows, position: Position, filter: Option<&Expr>) -> SqlResult<bool> {
    let row = StoredRow { rows, position };
    filter.map_or(Ok(true), |filter| is_true(filter, &row, &statement.params, statement.env))
}
