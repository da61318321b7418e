//! AST → bound statement: all meaning is settled here.
//!
//! 1. [`bind`] picks the verb's file: `query` (with `from`, `select`, `setop`, `values`), `insert`, `update`, `delete`, `copy`, `ddl`, `session`;
//! 2. names are looked up in a stack of [`scope`]s; the sub-tree's expressions are typed in `expr` and its neighbours;
//! 3. `prune` takes the columns that nobody uses out of the scans.

pub mod context;

pub use context::{Context, VirtualSchemas, VirtualTable};

use crate::bound::Bound;
use crate::parse::Parsed;
use toroid_common::error::{SqlError, SqlResult};

/// Binds one statement.
pub fn bind(context: &Context<'_>, parsed: &Parsed) -> SqlResult<Bound> {
    let _ = (context, parsed);
    Err(SqlError::unsupported("binding"))
}
