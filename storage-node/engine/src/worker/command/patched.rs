//! SELECT of one row by its unique key from a table of which the transaction has only changed values that no index has: the root's row with these values,
//! without a state that is laid over.

use super::statement::{Made, Statement, StoredRow, index_of};
use crate::store::change::Change;
use crate::store::table::{Position, TableRows};
use crate::store::write_set::WriteSet;
use smallvec::SmallVec;
use toroid_common::datum::DatumRef;
use toroid_common::error::SqlResult;
use toroid_common::eval::{Row, is_true};
use toroid_common::expr::Expr;
use toroid_common::plan::{Access, Verb};

/// With more changes than these a laid-over state costs less.
const MOST_CHANGES: usize = 16;

/// What a point SELECT asks for.
pub(super) struct Point<'a> {
    access: &'a Access,
    filter: Option<&'a Expr>,
    output: &'a [Expr],
}

impl<'a> Point<'a> {
    /// The verb, if it is such a SELECT that locks nothing.
    pub(super) fn of(verb: &'a Verb) -> Option<Point<'a>> {
        match verb {
            Verb::Select { access: access @ Access::Index { exact: true, .. }, filter, output, lock: None } => {
                Some(Point { access, filter: filter.as_ref(), output })
            }
            Verb::Select { .. } | Verb::Insert { .. } | Verb::Update { .. } | Verb::Delete { .. } | Verb::Act(_) => {
                None
            }
        }
    }

    /// Appends the output for the row as the transaction sees it, and returns how many rows that is; nothing when it takes a laid-over state to tell.
    pub(super) fn read(
        &self,
        statement: &Statement<'_>,
        rows: &TableRows,
        writes: &WriteSet,
        out: &mut Vec<u8>,
    ) -> SqlResult<Option<u32>> {
        let Access::Index { index, key, .. } = self.access else { return Ok(None) };
        let definition = rows.definition();
        if !definition.indexes.iter().any(|defined| defined.id == *index && defined.unique) {
            return Ok(None);
        }
        let Some(key) = statement.key(rows, *index, key)? else { return Ok(Some(0)) };
        let found = rows.get(index_of(rows, *index)?, &key);
        let Some(values) = values_of(writes, rows, found)? else { return Ok(None) };
        let Some(position) = found else { return Ok(Some(0)) };
        let row = PatchedRow { stored: StoredRow { rows, position }, values };
        if let Some(filter) = self.filter
            && !is_true(filter, &row, &statement.params, statement.env)?
        {
            return Ok(Some(0));
        }
        statement.write(self.output.iter(), &row, &mut Made::rows(out))?;
        Ok(Some(1))
    }
}

/// Values by column; a later one replaces an earlier one.
type Values<'a> = SmallVec<[(u16, DatumRef<'a>); 4]>;

/// A stored row with values of its transaction.
struct PatchedRow<'a> {
    stored: StoredRow<'a>,
    values: Values<'a>,
}

impl Row for PatchedRow<'_> {
    fn get(&self, index: u16) -> DatumRef<'_> {
        match self.values.iter().rev().find(|(column, _)| *column == index) {
            Some((_, value)) => *value,
            None => self.stored.get(index),
        }
    }
}

/// What the write set has for a row; nothing when it does more to the table than to change values that no index has.
fn values_of<'a>(writes: &'a WriteSet, rows: &TableRows, row: Option<Position>) -> SqlResult<Option<Values<'a>>> {
    let definition = rows.definition();
    let mut values = Values::new();
    for (number, change) in writes.changes().enumerate() {
        let change = change?;
        if change.table_of_rows() != Some(definition.id) {
            continue;
        }
        let Change::Update { position, columns, values: bytes, .. } = change else { return Ok(None) };
        if number >= MOST_CHANGES || rows.indexes().iter().any(|index| index.touches(&columns)) {
            return Ok(None);
        }
        if Some(position) == row {
            let read = rows.read_values(columns.iter().copied(), bytes)?;
            values.extend(columns.iter().copied().zip(read));
        }
    }
    Ok(Some(values))
}
