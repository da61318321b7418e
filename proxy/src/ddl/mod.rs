//! Schema changes: names are resolved against the newest catalog, the change is made there by compare-and-set, and tried again if another came first.

mod alter;
mod create;
mod drop;
mod index;
mod names;
mod rekey;
mod within;

pub use within::{execute as execute_within, is_never_within};

use crate::bound::Ddl;
use crate::cluster::Cluster;
use crate::statement::State;
use std::time::Duration;
use tokio::time::Instant;
use toroid_common::catalog::{Catalog, Check, Table};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::id::ColumnId;
use toroid_common::wire::{CatalogChange, ChangeError};

/// How long a change waits for those of others where no `lock_timeout` is set: two transactions may wait for each other. Longer than it takes
/// until what a dead proxy has changed is taken back.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Between attempts while another change is under way.
const PAUSE: Duration = Duration::from_millis(5);

/// What schema changes need of rows: the conductor reads and moves them.
pub trait Rows {
    /// Whether a table has any row.
    fn any(&self, session: &State, table: &Table) -> impl Future<Output = SqlResult<bool>>;

    /// Whether a column holds a NULL.
    fn any_null(&self, session: &State, table: &Table, column: u16) -> impl Future<Output = SqlResult<bool>>;

    /// Whether a constraint is false of a row.
    fn any_violating(&self, session: &State, table: &Table, check: &Check) -> impl Future<Output = SqlResult<bool>>;

    /// Copies all rows that the session sees; `columns` say where the values of the columns of `to` come from, in order.
    fn move_all(
        &self,
        session: &State,
        from: &Table,
        to: &Table,
        columns: &[Origin],
    ) -> impl Future<Output = SqlResult<()>>;
}

/// Where the values of a column come from when rows are copied.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The column at this position in the other table.
    Column(u16),
    Value(Datum),
    /// Over the other table's row.
    Expr(Expr),
}

impl Origin {
    /// The positions of the columns that it reads, with repetitions.
    pub fn columns(&self) -> Vec<u16> {
        match self {
            Origin::Column(place) => vec![*place],
            Origin::Value(_) => Vec::new(),
            Origin::Expr(expr) => {
                let mut places = Vec::new();
                expr.each_leaf(&mut |slot| places.push(slot.index));
                places
            }
        }
    }
}

/// What a statement comes to against one catalog.
enum Step {
    /// Nothing to do; notices have been given.
    Nothing,
    Change(CatalogChange),
    /// ADD PRIMARY KEY that changes where rows live.
    Rekey(rekey::Rekey),
    /// ALTER COLUMN … TYPE: the values of columns, by their identities, are these expressions over the old row. Only within a transaction.
    Retype {
        table: Table,
        values: Vec<(ColumnId, Expr)>,
    },
    /// SET NOT NULL and ADD CHECK: the change first, so that no new row is against it, then a look at the rows.
    Verified {
        change: CatalogChange,
        not_null: Vec<String>,
        checks: Vec<String>,
    },
}

/// Executes a schema change; it is in force everywhere when this returns. False when there was nothing to change.
pub async fn execute(cluster: &Cluster, rows: &impl Rows, session: &State, ddl: &Ddl) -> SqlResult<bool> {
    let mut patience = Patience::of(session);
    loop {
        let view = cluster.view()?;
        let step = resolve(rows, session, &view.catalog, ddl).await?;
        let made = match step {
            Step::Nothing => return Ok(false),
            Step::Change(change) => change_catalog(cluster, &view.catalog, change).await?,
            Step::Retype { .. } => {
                return Err(SqlError::internal("a column gets another type outside of a transaction"));
            }
            Step::Rekey(rekey) => rekey::execute(cluster, rows, session, &view.catalog, rekey).await?,
            Step::Verified { change, not_null, checks } => {
                let made = change_catalog(cluster, &view.catalog, change).await?;
                if made {
                    alter::verify(cluster, rows, session, ddl, &not_null, &checks).await?;
                }
                made
            }
        };
        if made {
            return Ok(true);
        }
        patience.pause(session).await?;
    }
}

/// How long a statement waits for schema changes of others.
pub struct Patience {
    until: Instant,
}

impl Patience {
    pub fn of(session: &State) -> Patience {
        let longest = match session.settings().lock_timeout_ms() {
            0 => LONGEST_WAIT,
            millis => Duration::from_millis(u64::from(millis)),
        };
        Patience { until: Instant::now() + longest }
    }

    /// Waits before the next attempt; an error when it should not be made.
    pub async fn pause(&mut self, session: &State) -> SqlResult<()> {
        if session.canceled() {
            let text = "canceling statement due to user request";
            return Err(SqlError::new(SqlState::QUERY_CANCELED, text));
        }
        if Instant::now() >= self.until {
            let text = "canceling statement due to lock timeout";
            return Err(SqlError::new(SqlState::LOCK_NOT_AVAILABLE, text));
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

async fn resolve(rows: &impl Rows, session: &State, catalog: &Catalog, ddl: &Ddl) -> SqlResult<Step> {
    match ddl {
        Ddl::CreateTable { if_not_exists, table } => create::table(session, catalog, *if_not_exists, table),
        Ddl::DropTable { if_exists, names, cascade: _ } => drop::tables(session, catalog, *if_exists, names),
        Ddl::Truncate { names } => drop::truncate(catalog, names),
        Ddl::CreateIndex { if_not_exists, table, index, concurrently: _ } => {
            index::create(session, catalog, *if_not_exists, table, index)
        }
        Ddl::DropIndex { if_exists, names, .. } => index::drop(session, catalog, *if_exists, names),
        Ddl::AlterTable { if_exists, name, actions } => {
            alter::table(rows, session, catalog, *if_exists, name, actions).await
        }
        Ddl::Nothing { .. } => Ok(Step::Nothing),
    }
}

/// Whether the change was made; false when the catalog has moved on and the statement must be resolved again.
async fn change_catalog(cluster: &Cluster, catalog: &Catalog, change: CatalogChange) -> SqlResult<bool> {
    match cluster.change(catalog.version, change).await? {
        Ok(version) => {
            cluster.catalog(version).await?;
            Ok(true)
        }
        Err(ChangeError::Conflict { have } | ChangeError::Blocked { have }) => {
            cluster.catalog(have).await?;
            Ok(false)
        }
        Err(ChangeError::Sql(error)) => Err(error),
    }
}
