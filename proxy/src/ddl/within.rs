//! Schema changes within a transaction: made at once in tables that only the transaction sees, for all when it commits.
//!
//! A table that is changed is replaced by another one, which is filled with what the transaction sees of its rows; until the end the old one is read by
//! others, whose writes wait. The rows that fill it need not be taken back: nobody sees the table when the transaction does not commit.

use super::rekey::as_index_error;
use super::{Origin, Patience, Rows, Step, resolve};
use crate::bound::Ddl;
use crate::cluster::Cluster;
use crate::statement::{Open, State};
use std::sync::Arc;
use toroid_common::catalog::{Catalog, Index, IndexState, Table};
use toroid_common::coordinator::lost;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::id::{CatalogVersion, ColumnId, IndexId, TableId};
use toroid_common::wire::{CatalogChange, ChangeError};

/// What a schema change does to tables.
#[derive(Default)]
struct Plan {
    replaces: Vec<TableId>,
    creates: Vec<Table>,
    /// Which of the created tables have rows of which others.
    fills: Vec<(Arc<Table>, usize, Vec<Origin>)>,
}

/// Executes a schema change in a transaction, which sees it when this returns. False when there was nothing to change.
pub async fn execute(cluster: &Cluster, rows: &impl Rows, session: &State, open: &Open, ddl: &Ddl) -> SqlResult<bool> {
    may_be_within(ddl)?;
    let owner = open.id();
    let mut patience = Patience::of(session);
    loop {
        let view = cluster.view()?;
        let seen = view.catalog.seen_by(owner);
        let step = resolve(rows, session, &seen, ddl).await?;
        let Some(plan) = plan(&seen, step)? else { return Ok(false) };
        let Plan { replaces, creates, fills } = plan;
        let names: Vec<_> = creates.iter().map(|table| (table.schema.clone(), table.name.clone())).collect();
        let number = open.with(|transaction| Ok(transaction.change()))?;
        let change = CatalogChange::Provide { owner, number, replaces, creates };
        match cluster.change(view.catalog.version, change).await? {
            Ok(version) => {
                let made = cluster.catalog(version).await?.catalog.seen_by(owner);
                for (from, to, columns) in fills {
                    let (schema, name) = names.get(to).ok_or_else(gone)?;
                    // Somebody took this proxy for dead meanwhile.
                    let to = made.find(schema, name).ok_or_else(lost)?;
                    let filled = rows.move_all(session, &from, to, &columns).await;
                    filled.map_err(|error| as_fault_of_old_rows(error, &to.name))?;
                }
                return Ok(true);
            }
            Err(ChangeError::Conflict { have } | ChangeError::Blocked { have }) => {
                cluster.catalog(have).await?;
            }
            Err(ChangeError::Sql(error)) => return Err(error),
        }
        patience.pause(session).await?;
    }
}

fn gone() -> SqlError {
    SqlError::internal("a table that a transaction made is not there")
}

fn may_be_within(ddl: &Ddl) -> SqlResult<()> {
    match is_never_within(ddl) {
        Some(what) => {
            let text = format!("{what} cannot run inside a transaction block");
            Err(SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, text))
        }
        None => Ok(()),
    }
}

/// What a change that cannot be made in a transaction with others is called.
pub fn is_never_within(ddl: &Ddl) -> Option<&'static str> {
    match ddl {
        Ddl::CreateIndex { concurrently: true, .. } => Some("CREATE INDEX CONCURRENTLY"),
        Ddl::DropIndex { concurrently: true, .. } => Some("DROP INDEX CONCURRENTLY"),
        Ddl::Nothing { tag: tag @ "VACUUM" } => Some(tag),
        _ => None,
    }
}

/// What is to be done, if anything; `seen` are the tables as the transaction sees them.
fn plan(seen: &Catalog, step: Step) -> SqlResult<Option<Plan>> {
    let mut plan = Plan::default();
    match step {
        Step::Nothing => return Ok(None),
        Step::Rekey(rekey) => {
            let columns = rekey.columns.iter().map(|column| Origin::Column(*column)).collect();
            plan.replace(seen, rekey.from, Some((rekey.to, columns)))?;
        }
        Step::Retype { table, values } => plan.alter(seen, table, &values)?,
        // Old rows are judged as they fill the new table.
        Step::Change(change) | Step::Verified { change, .. } => match change {
            CatalogChange::CreateTable(table) => plan.creates.push(table),
            CatalogChange::AlterTable(table) => plan.alter(seen, table, &[])?,
            CatalogChange::DropTables(tables) => {
                tables.into_iter().try_for_each(|table| plan.replace(seen, table, None))?;
            }
            CatalogChange::Truncate(tables) => {
                for id in tables {
                    let old = seen.table(id).ok_or_else(gone)?;
                    plan.replaces.push(id);
                    plan.creates.push(renewed(Table::clone(old)));
                }
            }
            CatalogChange::DropIndexes(indexes) => {
                let dropped = |index: &Index| indexes.contains(&index.id);
                for old in seen.tables.values().filter(|table| table.indexes.iter().any(dropped)) {
                    let mut table = Table::clone(old);
                    table.indexes.retain(|index| !dropped(index));
                    plan.alter(seen, table, &[])?;
                }
            }
            CatalogChange::StartMove { .. }
            | CatalogChange::FinishMove { .. }
            | CatalogChange::AbandonMove { .. }
            | CatalogChange::Provide { .. }
            | CatalogChange::TakeBack { .. }
            | CatalogChange::Publish { .. }
            | CatalogChange::Forget { .. } => {
                return Err(SqlError::internal("a schema change that cannot be made in a transaction"));
            }
        },
    }
    Ok(Some(plan))
}

impl Plan {
    /// A table goes; another one comes with its rows.
    fn replace(&mut self, seen: &Catalog, from: TableId, to: Option<(Table, Vec<Origin>)>) -> SqlResult<()> {
        self.replaces.push(from);
        if let Some((table, columns)) = to {
            let old = seen.table(from).ok_or_else(gone)?;
            self.fills.push((Arc::clone(old), self.creates.len(), columns));
            self.creates.push(renewed(table));
        }
        Ok(())
    }

    /// The same columns, by their identities, but these; new ones have what ALTER TABLE gave the rows that are there.
    fn alter(&mut self, seen: &Catalog, table: Table, values: &[(ColumnId, Expr)]) -> SqlResult<()> {
        let from = table.id;
        let old = seen.table(from).ok_or_else(gone)?;
        let origin = |column: &toroid_common::catalog::Column| {
            if let Some((_, expr)) = values.iter().find(|(id, _)| *id == column.id) {
                return Origin::Expr(expr.clone());
            }
            let place = old.columns.iter().position(|before| before.id == column.id);
            place.map_or_else(
                || Origin::Value(column.missing.clone().unwrap_or(Datum::Null)),
                |place| Origin::Column(place as u16),
            )
        };
        let columns = table.columns.iter().map(origin).collect();
        self.replace(seen, from, Some((table, columns)))
    }
}

/// A table of the same kind without rows.
fn renewed(mut table: Table) -> Table {
    (table.id, table.version, table.generation) = (TableId(0), CatalogVersion(0), 0);
    for index in &mut table.indexes {
        (index.id, index.state) = (IndexId(0), IndexState::Ready);
    }
    table.checks.iter_mut().for_each(|check| check.id = 0);
    table.columns.iter_mut().for_each(|column| column.missing = None);
    table
}

/// Rows that are there already are at fault, not new ones.
fn as_fault_of_old_rows(error: SqlError, table: &str) -> SqlError {
    if error.state() != SqlState::CHECK_VIOLATION {
        return as_index_error(error, table);
    }
    let check = error.constraint().unwrap_or_default().to_owned();
    let text = format!("check constraint \"{check}\" of relation \"{table}\" is violated by some row");
    SqlError::new(SqlState::CHECK_VIOLATION, text).with_table(table).with_constraint(check)
}
