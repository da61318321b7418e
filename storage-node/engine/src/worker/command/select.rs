//! SELECT: rows by key, written from the store into the answer.

use super::statement::{Made, Statement, StoredRow};
use crate::store::table::TableRows;
use toroid_common::error::SqlResult;
use toroid_common::expr::Expr;
use toroid_common::plan::Access;

/// Appends the output of every row that the statement means; returns how many.
pub(super) fn select(
    statement: &Statement<'_>,
    rows: &TableRows,
    access: &Access,
    filter: Option<&Expr>,
    output: &[Expr],
    out: &mut Vec<u8>,
) -> SqlResult<u32> {
    let mut out = Made::rows(out);
    let mut count = 0;
    statement.matching(rows, access, filter, |position| {
        statement.write(output.iter(), &StoredRow { rows, position }, &mut out)?;
        count += 1;
        Ok(())
    })?;
    Ok(count)
}
