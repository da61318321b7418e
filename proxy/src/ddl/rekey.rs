//! ADD PRIMARY KEY on a table that was distributed by row identity: its rows move to where the key says, into a new table that then takes the name.
//!
//! While rows move, the old table serves reads and its writes wait. Uniqueness is checked where the rows arrive.

use super::alter::moved_checks;
use super::{Origin, Rows, change_catalog};
use crate::cluster::Cluster;
use crate::statement::State;
use std::sync::Arc;
use toroid_common::catalog::{Catalog, Distribution, Index, IndexState, Table, TableState};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{ColumnId, IndexId, TableId};
use toroid_common::wire::CatalogChange;

/// Whether a table is distributed by its hidden row identity.
pub(super) fn unkeyed(table: &Table) -> bool {
    table.columns.iter().any(|c| c.hidden)
}

/// A move that is planned.
pub(super) struct Rekey {
    pub(super) from: TableId,
    pub(super) to: Table,
    /// Positions in the old table of the new table's columns.
    pub(super) columns: Vec<u16>,
}

impl Rekey {
    /// `table` has its key columns set NOT NULL already; `key` names positions in it.
    pub(super) fn new(table: &Table, key: Index) -> SqlResult<Rekey> {
        let columns: Vec<u16> = table.visible().map(|(place, _)| place as u16).collect();
        let hidden = (table.columns.len() - columns.len()) as u16;
        let new_place = |old: u16| columns.iter().position(|c| *c == old).map(|p| p as u16);
        let mut to = table.clone();
        to.id = TableId(0);
        to.columns.retain(|c| !c.hidden);
        for column in &mut to.columns {
            column.id = ColumnId(column.id.0 - hidden);
            column.missing = None;
        }
        to.next_column = table.next_column - hidden;
        to.indexes.insert(0, key);
        for index in &mut to.indexes {
            index.id = IndexId(0);
            index.state = IndexState::Ready;
            for column in &mut index.columns {
                column.column =
                    new_place(column.column).ok_or_else(|| SqlError::internal("an index over a hidden column"))?;
            }
        }
        moved_checks(&mut to, &new_place)?;
        for check in &mut to.checks {
            check.id = 0;
        }
        let key = to.indexes.first().map(|i| i.columns.iter().map(|c| c.column).collect()).unwrap_or_default();
        to.distribution = Distribution::Hash(key);
        Ok(Rekey { from: table.id, to, columns })
    }
}

/// Whether it is done; false when the catalog has moved on before it began.
pub(super) async fn execute(
    cluster: &Cluster,
    rows: &impl Rows,
    session: &State,
    catalog: &Catalog,
    rekey: Rekey,
) -> SqlResult<bool> {
    let Rekey { from, to, columns } = rekey;
    let name = to.name.clone();
    if !change_catalog(cluster, catalog, CatalogChange::StartMove { from, to }).await? {
        return Ok(false);
    }
    match move_rows(cluster, rows, session, from, &columns).await {
        Ok(()) => finish(cluster, CatalogChange::FinishMove { from }).await.map(|()| true),
        Err(error) => {
            finish(cluster, CatalogChange::AbandonMove { from }).await?;
            Err(as_index_error(error, &name))
        }
    }
}

async fn move_rows(
    cluster: &Cluster,
    rows: &impl Rows,
    session: &State,
    from: TableId,
    columns: &[u16],
) -> SqlResult<()> {
    let catalog = cluster.view()?.catalog.clone();
    let table = |id: TableId| -> SqlResult<Arc<Table>> {
        catalog.table(id).cloned().ok_or_else(|| SqlError::internal("a moving table is gone"))
    };
    let source = table(from)?;
    let TableState::Moving { to } = source.state else { return Err(SqlError::internal("a table does not move")) };
    let destination = table(to)?;
    let columns: Vec<Origin> = columns.iter().map(|column| Origin::Column(*column)).collect();
    rows.move_all(session, &source, &destination, &columns).await
}

/// Ends the move against whatever catalog there is by now.
async fn finish(cluster: &Cluster, change: CatalogChange) -> SqlResult<()> {
    loop {
        let catalog = cluster.view()?.catalog.clone();
        if change_catalog(cluster, &catalog, change.clone()).await? {
            return Ok(());
        }
        tokio::time::sleep(super::PAUSE).await;
    }
}

/// Rows that clash or lack a key are faults of the key, not of an insert.
pub(super) fn as_index_error(error: SqlError, table: &str) -> SqlError {
    match error.state() {
        SqlState::UNIQUE_VIOLATION => {
            let constraint = error.constraint().unwrap_or_default().to_owned();
            let detail = error.detail().unwrap_or_default().replace("already exists.", "is duplicated.");
            SqlError::new(SqlState::UNIQUE_VIOLATION, format!("could not create unique index \"{constraint}\""))
                .with_detail(detail)
                .with_table(table)
                .with_constraint(constraint)
        }
        SqlState::NOT_NULL_VIOLATION => {
            let column = error.column().unwrap_or_default().to_owned();
            let text = format!("column \"{column}\" of relation \"{table}\" contains null values");
            SqlError::new(SqlState::NOT_NULL_VIOLATION, text).with_table(table).with_column(column)
        }
        _ => error,
    }
}
