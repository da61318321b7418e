//! From bound queries to DataFusion's logical plans.
//!
//! Every column goes by its [`ColId`](crate::bound::ColId), so names that repeat never matter. Types stay as the binder set them: nothing here
//! or later coerces. What DataFusion's operators do exactly as PostgreSQL is left to them; all else is a function of `toroid_query`.

mod initial;
mod apply;
mod expression;
mod shape;
mod beside;
mod unnest;
mod condition;
mod relation;
mod grouping;
mod set_operation;
mod window;

pub use apply::Runner;
pub use initial::{Initial, InitialKind, has_correlated, is_correlated, lift, reads};

use crate::bound::{ColId, Query};
use arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan};
use std::collections::HashMap;
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_query::error::sql_error;

/// Tables that the proxy makes up: pg_catalog, information_schema, toroid.
pub trait VirtualTables: Send + Sync + 'static {
    /// All rows with all columns in the order of the table's definition, as [`toroid_common::types::SqlType::arrow`] has them.
    fn rows(&self, schema: &str, name: &str) -> SqlResult<RecordBatch>;
}

/// What a statement brings to its lowering.
pub struct Lowering<'a> {
    env: Arc<Env>,
    /// Parameters, then the results of the subqueries that ran first.
    params: &'a [Datum],
    virtuals: &'a dyn VirtualTables,
    /// How many workers hold parts of tables.
    workers: usize,
    /// Under which name each column is known where it is visible.
    columns: HashMap<ColId, Column>,
    /// Who runs correlated subqueries one by one; without it they become joins.
    runner: Option<Arc<dyn Runner>>,
    /// Tables are named by a number, as one may stand several times in a statement.
    names: u32,
}

type Result<T> = SqlResult<T>;

/// What a query is lowered with.
pub struct Surroundings<'a> {
    pub env: &'a Arc<Env>,
    pub virtuals: &'a dyn VirtualTables,
    pub workers: usize,
    pub runner: Option<Arc<dyn Runner>>,
}

/// Lowers a query without uncorrelated subqueries in expressions ([`lift`] took them out). The plan's columns are the query's output, in order.
pub fn lower(query: &Query, params: &[Datum], surroundings: Surroundings<'_>) -> Result<LogicalPlan> {
    let Surroundings { env, virtuals, workers, runner } = surroundings;
    let env = Arc::clone(env);
    let mut lowering = Lowering { env, params, virtuals, workers, columns: HashMap::new(), runner, names: 0 };
    let query = lowering.unnested(query.clone())?;
    lowering.query(&query)
}

impl Lowering<'_> {
    /// A new name.
    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// The column's name once it is computed rather than scanned.
    fn column_name(id: ColId) -> String {
        format!("c{}", id.0)
    }

    /// From now on `id` is the unqualified column of its own name.
    fn define(&mut self, id: ColId) -> String {
        let name = Self::column_name(id);
        self.columns.insert(id, Column::new_unqualified(&name));
        name
    }

    fn column(&self, id: ColId) -> Result<Column> {
        self.columns.get(&id).cloned().ok_or_else(|| SqlError::internal(format_args!("column {} is not visible", id.0)))
    }

    fn column_expr(&self, id: ColId) -> Result<Expr> {
        Ok(Expr::Column(self.column(id)?))
    }
}

/// Results of DataFusion's builders.
fn built<T>(result: datafusion::common::Result<T>) -> Result<T> {
    result.map_err(sql_error)
}
