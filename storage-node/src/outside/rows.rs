//! Roots that a worker lent, as the rows that a fragment reads.

use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, PartitionId, TableId};
use toroid_engine::store::root::Root;
use toroid_query::source::RowSource;

pub(super) struct LentRoots {
    roots: Arc<Vec<(PartitionId, Root)>>,
}

impl LentRoots {
    pub(super) fn new(roots: Vec<(PartitionId, Root)>) -> LentRoots {
        LentRoots { roots: Arc::new(roots) }
    }

    /// The roots, unless a scan still reads them.
    pub(super) fn into_roots(self) -> Vec<(PartitionId, Root)> {
        Arc::into_inner(self.roots).unwrap_or_default()
    }
}

impl RowSource for LentRoots {
    fn scan(
        &self,
        table: TableId,
        version: CatalogVersion,
        columns: &[u16],
    ) -> SqlResult<Box<dyn Iterator<Item = SqlResult<RecordBatch>> + Send>> {
        for (_, root) in self.roots.iter() {
            if root.table(table).is_none_or(|rows| rows.definition().version != version) {
                let message = format!("table {table} changed while a statement was planned");
                return Err(SqlError::new(SqlState::SERIALIZATION_FAILURE, message));
            }
        }
        // Every partition has a full copy of a reference table: one of them is the table.
        let replicated = self.roots.first().and_then(|(_, root)| root.table(table)).is_some_and(|rows| {
            matches!(rows.definition().distribution, toroid_common::catalog::Distribution::Replicated)
        });
        let end = if replicated { 1 } else { self.roots.len() };
        let columns: Vec<usize> = columns.iter().map(|column| usize::from(*column)).collect();
        let roots = Arc::clone(&self.roots);
        let mut at = (0, 0);
        Ok(Box::new(std::iter::from_fn(move || next_batch(roots.get(..end)?, table, &columns, &mut at).map(Ok))))
    }
}

/// The next chunk with live rows, from the root and chunk that `at` says.
fn next_batch(
    roots: &[(PartitionId, Root)],
    table: TableId,
    columns: &[usize],
    at: &mut (usize, usize),
) -> Option<RecordBatch> {
    loop {
        let (_, root) = roots.get(at.0)?;
        let Some(rows) = root.table(table).filter(|rows| at.1 < rows.chunks()) else {
            *at = (at.0 + 1, 0);
            continue;
        };
        at.1 += 1;
        if let Some(batch) = rows.batch(at.1 - 1, columns) {
            return Some(batch);
        }
    }
}
