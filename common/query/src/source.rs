//! Where a fragment's scans find their rows: a storage node lends the roots that it took for one request.

use arrow::record_batch::RecordBatch;
use toroid_common::error::SqlResult;
use toroid_common::id::{CatalogVersion, TableId};

/// The stored rows that one fragment may read.
pub trait RowSource: Send + Sync + 'static {
    /// Live rows of a table, with these columns (positions in `Table::columns`) in this order and with the Arrow types of [`toroid_common::types::SqlType::arrow`].
    /// A batch per chunk, without copying where all rows of a chunk live. A table at another version than the plan's is an error.
    fn scan(
        &self,
        table: TableId,
        version: CatalogVersion,
        columns: &[u16],
    ) -> SqlResult<Box<dyn Iterator<Item = SqlResult<RecordBatch>> + Send>>;
}
