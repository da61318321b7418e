//! The encoding of changes in log entries: hand-made, little-endian, decoded without copying rows.

use super::{Change, ColumnList};
use crate::store::fence::Fence;
use crate::store::table::Position;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::decode::decode;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Incarnation, TableId};
use toroid_common::limits::MAX_COLUMNS;

const INSERT: u8 = 1;
const UPDATE: u8 = 2;
const DELETE: u8 = 3;
const TRUNCATE: u8 = 4;
const CATALOG: u8 = 5;
const FENCE: u8 = 6;
const FORBIDDEN: u8 = 7;

impl<'a> Change<'a> {
    /// Appends the change to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Change::Insert { table, count, rows } => {
                out.push(INSERT);
                put_u32(out, table.0);
                put_u32(out, *count);
                put_bytes(out, rows);
            }
            Change::Update { table, position, columns, values } => {
                out.push(UPDATE);
                put_u32(out, table.0);
                put_u32(out, position.0);
                out.extend_from_slice(&(columns.len() as u16).to_le_bytes());
                for column in columns {
                    out.extend_from_slice(&column.to_le_bytes());
                }
                put_bytes(out, values);
            }
            Change::Delete { table, position } => {
                out.push(DELETE);
                put_u32(out, table.0);
                put_u32(out, position.0);
            }
            Change::Truncate { table } => {
                out.push(TRUNCATE);
                put_u32(out, table.0);
            }
            Change::Catalog(catalog) => {
                out.push(CATALOG);
                put_bytes(out, &catalog_bytes(catalog));
            }
            Change::Forbidden(error) => {
                out.push(FORBIDDEN);
                put_bytes(out, &error_bytes(error));
            }
            Change::Fence(fence) => {
                out.push(FENCE);
                out.extend_from_slice(&fence.below.0.to_le_bytes());
                put_u32(out, fence.alive.len() as u32);
                fence.alive.iter().for_each(|proxy| out.extend_from_slice(&proxy.0.to_le_bytes()));
            }
        }
    }

    /// Takes one change from the front of `input`, which is left at the rest.
    pub fn read(input: &mut &'a [u8]) -> SqlResult<Change<'a>> {
        let [kind] = take_array(input)?;
        Ok(match kind {
            INSERT => {
                Change::Insert { table: TableId(take_u32(input)?), count: take_u32(input)?, rows: take_bytes(input)? }
            }
            UPDATE => Change::Update {
                table: TableId(take_u32(input)?),
                position: Position(take_u32(input)?),
                columns: take_columns(input)?,
                values: take_bytes(input)?,
            },
            DELETE => Change::Delete { table: TableId(take_u32(input)?), position: Position(take_u32(input)?) },
            TRUNCATE => Change::Truncate { table: TableId(take_u32(input)?) },
            CATALOG => Change::Catalog(Arc::new(take_catalog(take_bytes(input)?)?)),
            FENCE => Change::Fence(take_fence(input)?),
            FORBIDDEN => Change::Forbidden(take_error(take_bytes(input)?)?),
            _ => return Err(malformed()),
        })
    }

    /// All changes of an entry, to the end of `input`.
    pub fn read_all(mut input: &'a [u8]) -> SqlResult<Vec<Change<'a>>> {
        let mut changes = Vec::with_capacity(1);
        while !input.is_empty() {
            changes.push(Change::read(&mut input)?);
        }
        Ok(changes)
    }
}

fn malformed() -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, "malformed change in a log entry")
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn take_array<const N: usize>(input: &mut &[u8]) -> SqlResult<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or_else(malformed)?;
    *input = rest;
    Ok(*head)
}

fn take_u32(input: &mut &[u8]) -> SqlResult<u32> {
    take_array(input).map(u32::from_le_bytes)
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> SqlResult<&'a [u8]> {
    let len = take_u32(input)? as usize;
    let (head, rest) = input.split_at_checked(len).ok_or_else(malformed)?;
    *input = rest;
    Ok(head)
}

fn take_columns(input: &mut &[u8]) -> SqlResult<ColumnList> {
    let count = usize::from(u16::from_le_bytes(take_array(input)?));
    if count > MAX_COLUMNS {
        return Err(malformed());
    }
    (0..count).map(|_| take_array(input).map(u16::from_le_bytes)).collect()
}

fn take_fence(input: &mut &[u8]) -> SqlResult<Fence> {
    let below = Incarnation(u64::from_le_bytes(take_array(input)?));
    let count = take_u32(input)?;
    let alive = (0..count).map(|_| take_array(input).map(|bytes| Incarnation(u64::from_le_bytes(bytes))));
    Ok(Fence { below, alive: alive.collect::<SqlResult<_>>()? })
}

// Writing to memory fails only for types that postcard cannot represent, and neither catalogs nor errors have any.

fn catalog_bytes(catalog: &Catalog) -> Vec<u8> {
    postcard::to_stdvec(catalog).unwrap_or_default()
}

fn error_bytes(error: &SqlError) -> Vec<u8> {
    postcard::to_stdvec(error).unwrap_or_default()
}

fn take_error(bytes: &[u8]) -> SqlResult<SqlError> {
    decode(bytes).map_err(|_| malformed())
}

fn take_catalog(bytes: &[u8]) -> SqlResult<Catalog> {
    decode(bytes).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Change<'static>> {
        vec![
            Change::Insert { table: TableId(7), count: 2, rows: b"abcdef" },
            Change::Update {
                table: TableId(7),
                position: Position(9),
                columns: ColumnList::from_slice(&[0, 3]),
                values: b"xyz",
            },
            Change::Delete { table: TableId(8), position: Position(u32::MAX) },
            Change::Truncate { table: TableId(1) },
            Change::Catalog(Arc::new(Catalog::empty())),
            Change::Forbidden(SqlError::internal("reason")),
            Change::Fence(Fence { below: Incarnation(9), alive: [3, 4].map(Incarnation).into() }),
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut bytes = Vec::new();
        samples().iter().for_each(|change| change.write(&mut bytes));
        assert_eq!(Change::read_all(&bytes).unwrap(), samples());
    }

    #[test]
    fn the_bytes_of_an_update_stay_as_they_are() {
        let mut bytes = Vec::new();
        samples()[1].write(&mut bytes);
        assert_eq!(bytes, [2, 7, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 3, 0, 3, 0, 0, 0, b'x', b'y', b'z']);
    }

    #[test]
    fn truncated_and_foreign_bytes_are_errors() {
        for change in samples() {
            let mut bytes = Vec::new();
            change.write(&mut bytes);
            for len in 1..bytes.len() {
                let error = Change::read_all(&bytes[..len]).unwrap_err();
                assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
            }
        }
        assert!(Change::read_all(&[0]).is_err());
        assert!(Change::read_all(&[99, 1, 2, 3]).is_err());
    }
}
