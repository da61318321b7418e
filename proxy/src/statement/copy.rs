//! COPY between session and conductor: what the session parses rows into and where it takes them from.

use crate::bound::CopyOptions;
use crate::statement::Column;
use crate::statement::answer::RowSource;
use futures::future::LocalBoxFuture;
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::error::SqlError;
use toroid_common::id::PartitionId;

/// Rows of one partition, complete and in table order, in the encoding of [`toroid_common::row`].
#[derive(Debug, Default)]
pub struct CopyBatch {
    /// None for a reference table.
    pub partition: Option<PartitionId>,
    pub rows: Vec<u8>,
    pub count: u64,
}

/// Takes the rows of COPY FROM; dropped without [`CopySink::finish`] when the copy fails.
pub trait CopySink {
    /// The value of a column whose [`Fill`] is `PerRow`, for the next row.
    fn fill(&mut self, column: u16) -> Result<Datum, SqlError>;

    /// Sends one batch; may return before it is stored, so that batches overlap.
    fn send(&mut self, batch: CopyBatch) -> LocalBoxFuture<'_, Result<(), SqlError>>;

    /// Waits until all is stored.
    fn finish(&mut self) -> LocalBoxFuture<'_, Result<(), SqlError>>;

    /// The COPY has failed: what is under way is called back, and waited for, since its transaction must know what became of it.
    fn give_up(&mut self) -> LocalBoxFuture<'_, ()>;
}

/// What a column gets that the client does not send.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// The same for all rows of this statement.
    Value(Datum),
    /// Asked for with [`CopySink::fill`].
    PerRow,
}

/// COPY … FROM STDIN.
pub struct CopyIn {
    pub table: Arc<Table>,
    /// Positions in `Table::columns` of the fields that the client sends, in order.
    pub targets: Vec<u16>,
    /// One per column of the table; not looked at for targets.
    pub fills: Vec<Fill>,
    pub options: CopyOptions,
    /// How many partitions the cluster has.
    pub partitions: u16,
    pub sink: Box<dyn CopySink>,
}

/// COPY … TO STDOUT.
pub struct CopyOut {
    pub columns: Arc<[Column]>,
    pub options: CopyOptions,
    pub rows: RowSource,
}
