//! Looking for the rows of statements without a key: over a root, outside the worker's thread.

use super::request::read_params;
use super::statement::StoredRow;
use crate::store::root::Root;
use crate::store::table::Position;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::is_true;
use toroid_common::plan::{PointPlan, Verb};

/// The rows of a root that meet a plan's condition. Runs outside the worker's thread, for [`Action::FindRows`].
pub fn find_rows(root: &Root, plan: &PointPlan, params: &[u8], env: &Env) -> SqlResult<Vec<Position>> {
    let table = root.table(plan.table).ok_or_else(|| SqlError::internal("the table is not there"))?;
    let filter = match &plan.verb {
        Verb::Select { filter, .. } | Verb::Update { filter, .. } | Verb::Delete { filter, .. } => filter.as_ref(),
        Verb::Insert { .. } | Verb::Act(_) => return Err(SqlError::internal("the verb finds no rows")),
    };
    let mut values = Vec::new();
    read_params(params, plan, &mut values)?;
    let mut found = Vec::new();
    for position in table.positions() {
        let row = StoredRow { rows: table, position };
        if filter.map_or(Ok(true), |filter| is_true(filter, &row, &values, env))? {
            found.push(position);
        }
    }
    Ok(found)
}
