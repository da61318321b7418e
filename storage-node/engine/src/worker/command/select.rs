//! SELECT: rows by key, written from the store into the answer.

use super::answer::result_too_large;
use super::statement::{Statement, StoredRow};
use crate::store::table::TableRows;
use toroid_common::error::SqlResult;
use toroid_common::expr::Expr;
use toroid_common::limits::MAX_VALUE_BYTES;
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
    let start = out.len();
    let mut count = 0;
    statement.matching(rows, access, filter, |position| {
        statement.write(output.iter(), &StoredRow { rows, position }, out)?;
        count += 1;
        if out.len() - start > MAX_VALUE_BYTES { Err(result_too_large()) } else { Ok(()) }
    })?;
    Ok(count)
}
