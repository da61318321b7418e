//! Changes: what a log entry does to a partition's rows, by position and deterministic, with its encoding.

mod codec;

use crate::store::fence::Fence;
use crate::store::table::Position;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlError;
use toroid_common::id::TableId;

/// Positions in `Table::columns`.
pub type ColumnList = SmallVec<[u16; 8]>;

/// One step of an entry. Rows and values are in [`toroid_common::row`]'s encoding and borrow from the request or the entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<'a> {
    /// `count` complete rows in table order, one after the other. Each takes the table's lowest dead position, or a new one at the end.
    Insert {
        table: TableId,
        count: u32,
        rows: &'a [u8],
    },
    /// New values of some columns of the row at a position, as one row of just these columns.
    Update {
        table: TableId,
        position: Position,
        columns: ColumnList,
        values: &'a [u8],
    },
    Delete {
        table: TableId,
        position: Position,
    },
    /// Empties the table in this partition.
    Truncate {
        table: TableId,
    },
    /// The catalog from here on: makes, drops and rebuilds tables, columns and indexes by the difference to the one before.
    Catalog(Arc<Catalog>),
    /// The catalog that this entry brings cannot stay, for this reason: whoever is primary says so until another one comes.
    Forbidden(SqlError),
    /// These proxies are dead: their answers go, and their requests are refused.
    Fence(Fence),
}
