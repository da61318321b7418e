//! INSERT: complete rows from the request; only RETURNING is left to be computed.

use super::statement::{Made, Statement};
use crate::store::table::TableRows;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::row::RowReader;

/// Appends what RETURNING makes of the new rows, and sees that there are as many as the request says.
pub(super) fn insert(
    statement: &Statement<'_>,
    table: &TableRows,
    count: u32,
    rows: &[u8],
    returning: &[Expr],
    returned: &mut Made<'_>,
) -> SqlResult<()> {
    if returning.is_empty() {
        // The store reads the rows when it checks them.
        return Ok(());
    }
    let mut reader = RowReader::new(rows);
    for _ in 0..count {
        let mut row = Vec::with_capacity(table.types().len());
        reader.read(table.types(), &mut row)?;
        statement.write(returning.iter(), &row, returned)?;
    }
    if reader.is_empty() {
        Ok(())
    } else {
        Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "more rows than an insert says"))
    }
}
