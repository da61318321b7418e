//! UPDATE: new values of some columns, over the rows as they are now.

use super::statement::{Made, Statement, StoredRow};
use crate::store::table::{Position, TableRows};
use toroid_common::datum::DatumRef;
use toroid_common::error::SqlResult;
use toroid_common::eval::Row;
use toroid_common::expr::Expr;
use toroid_common::plan::Access;

/// A stored row with the new values of some columns over it.
pub(super) struct Updated<'a> {
    stored: StoredRow<'a>,
    set: &'a [(u16, Expr)],
    values: Vec<DatumRef<'a>>,
}

impl Row for Updated<'_> {
    fn get(&self, index: u16) -> DatumRef<'_> {
        match self.set.iter().position(|(column, _)| *column == index) {
            Some(at) => <[_]>::get(&self.values, at).copied().unwrap_or(DatumRef::Null),
            None => self.stored.get(index),
        }
    }
}

impl<'a> Updated<'a> {
    /// From the new values as [`set_row`] writes them.
    pub(super) fn read(
        table: &'a TableRows,
        position: Position,
        set: &'a [(u16, Expr)],
        values: &'a [u8],
    ) -> SqlResult<Updated<'a>> {
        let values = table.read_values(set.iter().map(|(column, _)| *column), values)?;
        Ok(Updated { stored: StoredRow { rows: table, position }, set, values })
    }
}

/// Puts the rows that change, their new values and what RETURNING makes of them into the buffers.
pub(super) fn update(
    statement: &Statement<'_>,
    table: &TableRows,
    (access, filter): (&Access, Option<&Expr>),
    set: &[(u16, Expr)],
    returning: &[Expr],
    (rows, values, returned): (&mut Vec<(Position, usize)>, &mut Made<'_>, &mut Made<'_>),
) -> SqlResult<()> {
    statement.matching(table, access, filter, |position| {
        let stored = StoredRow { rows: table, position };
        set_row(statement, (table, position), &stored, set, returning, (values, returned))?;
        rows.push((position, values.len()));
        Ok(())
    })
}

/// Appends the new values of one row, computed over `row`, and what RETURNING makes of the row as it is then.
pub(super) fn set_row(
    statement: &Statement<'_>,
    (table, position): (&TableRows, Position),
    row: &dyn Row,
    set: &[(u16, Expr)],
    returning: &[Expr],
    (values, returned): (&mut Made<'_>, &mut Made<'_>),
) -> SqlResult<()> {
    let start = values.len();
    statement.write(set.iter().map(|(_, expr)| expr), row, values)?;
    if returning.is_empty() {
        return Ok(());
    }
    let updated = Updated::read(table, position, set, values.since(start))?;
    statement.write(returning.iter(), &updated, returned)
}
