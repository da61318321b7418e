//! UPDATE: new values of some columns, over the rows as they are now.

use super::statement::{Statement, StoredRow};
use crate::store::table::{Position, TableRows};
use toroid_common::datum::DatumRef;
use toroid_common::error::SqlResult;
use toroid_common::eval::Row;
use toroid_common::expr::Expr;
use toroid_common::plan::Access;
use toroid_common::row::RowReader;
use toroid_common::types::SqlType;

/// A stored row with the new values of some columns over it.
struct Updated<'a> {
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

/// Puts the rows that change, their new values and what RETURNING makes of them into the buffers.
pub(super) fn update(
    statement: &Statement<'_>,
    table: &TableRows,
    (access, filter): (&Access, Option<&Expr>),
    set: &[(u16, Expr)],
    returning: &[Expr],
    (rows, values, returned): (&mut Vec<(Position, usize)>, &mut Vec<u8>, &mut Vec<u8>),
) -> SqlResult<()> {
    statement.matching(table, access, filter, |position| {
        let start = values.len();
        statement.write(set.iter().map(|(_, expr)| expr), &StoredRow { rows: table, position }, values)?;
        rows.push((position, values.len()));
        if returning.is_empty() {
            return Ok(());
        }
        let types: Vec<SqlType> =
            set.iter().filter_map(|(column, _)| table.types().get(usize::from(*column))).copied().collect();
        let mut new = Vec::with_capacity(types.len());
        RowReader::new(values.get(start..).unwrap_or_default()).read(&types, &mut new)?;
        let row = Updated { stored: StoredRow { rows: table, position }, set, values: new };
        statement.write(returning.iter(), &row, returned)
    })
}
