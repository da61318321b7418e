//! DELETE: the rows that go, and what RETURNING makes of them as they were.

use super::statement::{Made, Statement, StoredRow};
use crate::store::table::{Position, TableRows};
use toroid_common::error::SqlResult;
use toroid_common::expr::Expr;
use toroid_common::plan::Access;

/// Puts the rows that go and what RETURNING makes of them into the buffers.
pub(super) fn delete(
    statement: &Statement<'_>,
    table: &TableRows,
    (access, filter): (&Access, Option<&Expr>),
    returning: &[Expr],
    (rows, returned): (&mut Vec<(Position, usize)>, &mut Made<'_>),
) -> SqlResult<()> {
    statement.matching(table, access, filter, |position| {
        rows.push((position, 0));
        if returning.is_empty() {
            return Ok(());
        }
        statement.write(returning.iter(), &StoredRow { rows: table, position }, returned)
    })
}
