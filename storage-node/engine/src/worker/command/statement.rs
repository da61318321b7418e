//! A point statement at its table: which rows it means, and rows made of expressions.

use super::answer::{result_too_large, writes_too_much};
use crate::store::index::{Index, KeyBytes};
use crate::store::table::{Position, TableRows};
use smallvec::SmallVec;
use toroid_common::datum::DatumRef;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::{NO_ROW, Row, Value, eval_ref, is_true};
use toroid_common::expr::Expr;
use toroid_common::id::IndexId;
use toroid_common::limits::MAX_VALUE_BYTES;
use toroid_common::plan::Access;
use toroid_common::row::write_row;

/// What a statement's expressions can see besides a row, and the rows that a scan found for it.
#[derive(Clone, Copy)]
pub(super) struct Statement<'a> {
    pub params: &'a [DatumRef<'a>],
    pub env: &'a Env,
    /// For [`Access::Scan`]: where rows stood that met the condition on an earlier root.
    pub found: Option<&'a [Position]>,
}

/// A row in the store.
pub(super) struct StoredRow<'a> {
    pub rows: &'a TableRows,
    pub position: Position,
}

impl Row for StoredRow<'_> {
    fn get(&self, index: u16) -> DatumRef<'_> {
        self.rows.value(self.position, index)
    }
}

/// Where a statement's rows are put: all that it makes in a partition goes into one frame, so whoever writes a row writes it here.
pub(super) struct Made<'o> {
    bytes: &'o mut Vec<u8>,
    /// How long `bytes` may get.
    end: usize,
    too_much: fn() -> SqlError,
}

impl<'o> Made<'o> {
    /// Rows for an answer, behind what is there.
    pub(super) fn rows(bytes: &'o mut Vec<u8>) -> Made<'o> {
        Made { end: bytes.len() + MAX_VALUE_BYTES, bytes, too_much: result_too_large }
    }

    /// New values for the store.
    pub(super) fn values(bytes: &'o mut Vec<u8>) -> Made<'o> {
        Made { too_much: writes_too_much, ..Made::rows(bytes) }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What was written from a place on.
    pub(super) fn since(&self, start: usize) -> &[u8] {
        self.bytes.get(start..).unwrap_or_default()
    }
}

impl Statement<'_> {
    /// Calls `each` for every row that the statement means, judged on this state.
    pub(super) fn matching(
        &self,
        rows: &TableRows,
        access: &Access,
        filter: Option<&Expr>,
        mut each: impl FnMut(Position) -> SqlResult<()>,
    ) -> SqlResult<()> {
        let mut visit = |position| {
            if let Some(filter) = filter
                && !is_true(filter, &StoredRow { rows, position }, &self.params, self.env)?
            {
                return Ok(());
            }
            each(position)
        };
        match access {
            Access::Index { index, key, exact } => {
                let unique = rows.definition().indexes.iter().any(|defined| defined.id == *index && defined.unique);
                let Some(key) = self.key(rows, *index, key)? else { return Ok(()) };
                let index = index_of(rows, *index)?;
                if *exact && unique {
                    return rows.get(index, &key).map_or(Ok(()), visit);
                }
                rows.find(index, &key).try_for_each(visit)
            }
            Access::Keys { .. } => Err(SqlError::internal("keys that nobody locks")),
            Access::Table { .. } => Ok(()),
            Access::Scan => {
                let found = self.found.ok_or_else(|| SqlError::internal("a scan in the worker's thread"))?;
                found.iter().copied().filter(|position| rows.is_live(*position)).try_for_each(&mut visit)
            }
        }
    }

    /// The beginning of the keys that an access by index looks for; none when a value is NULL.
    pub(super) fn key(&self, rows: &TableRows, index: IndexId, key: &[Expr]) -> SqlResult<Option<KeyBytes>> {
        let values = self.values(key)?;
        Ok(index_of(rows, index)?.key(values.iter().map(Value::borrow)))
    }

    /// Values of expressions that see no row.
    fn values<'e>(&'e self, exprs: &'e [Expr]) -> SqlResult<SmallVec<[Value<'e>; 4]>> {
        exprs.iter().map(|expr| eval_ref(expr, &NO_ROW, &self.params, self.env)).collect()
    }

    /// Appends a row of expressions over `row`; 54000 as soon as it is known to be too much.
    pub(super) fn write<'e>(
        &'e self,
        exprs: impl Iterator<Item = &'e Expr>,
        row: &'e dyn Row,
        out: &mut Made<'_>,
    ) -> SqlResult<()> {
        let mut values: SmallVec<[Value<'e>; 8]> = SmallVec::new();
        let mut length = out.len();
        for expr in exprs {
            let value = eval_ref(expr, row, &self.params, self.env)?;
            length += value.borrow().variable_bytes();
            if length > out.end {
                return Err((out.too_much)());
            }
            values.push(value);
        }
        write_row(out.bytes, values.iter().map(Value::borrow));
        if out.len() > out.end { Err((out.too_much)()) } else { Ok(()) }
    }
}

pub(super) fn index_of(rows: &TableRows, index: IndexId) -> SqlResult<&Index> {
    rows.index(index).ok_or_else(|| SqlError::internal(format!("no index {index}")))
}
