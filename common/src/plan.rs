//! Point plans: statements that a worker runs by itself, over the rows of one partition.

use crate::expr::Expr;
use crate::id::{CatalogVersion, IndexId, TableId};
use crate::types::SqlType;
use serde::{Deserialize, Serialize};

/// A statement on one table that workers execute with their own evaluator, no DataFusion involved.
///
/// Expressions read the table's row: [`crate::expr::Slot`] positions are positions in `Table::columns`. In INSERT … RETURNING and UPDATE … RETURNING
/// they read the new row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointPlan {
    pub table: TableId,
    /// `Table::version` that this plan was made for; a worker that has another one refuses as stale.
    pub table_version: CatalogVersion,
    /// The types of the parameters, as requests encode them.
    pub params: Vec<SqlType>,
    pub verb: Verb,
    /// Whether requests carry an [`crate::env::Env`] (the plan calls a stable or volatile function).
    pub needs_env: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verb {
    Select {
        access: Access,
        filter: Option<Expr>,
        output: Vec<Expr>,
    },
    /// Rows come with the request, complete, in table order, cast and checked for type by the proxy.
    Insert {
        returning: Vec<Expr>,
    },
    Update {
        access: Access,
        filter: Option<Expr>,
        set: Vec<(u16, Expr)>,
        returning: Vec<Expr>,
    },
    Delete {
        access: Access,
        filter: Option<Expr>,
        returning: Vec<Expr>,
    },
}

/// How a worker finds the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Access {
    /// Equality on a leading part of an index's columns (all of them where `exact`); expressions over parameters and constants only. A NULL key finds no row.
    Index { index: IndexId, key: Vec<Expr>, exact: bool },
    /// All rows of the partition. The worker finds candidates on a root outside its thread and evaluates again on current rows.
    Scan,
}

impl Verb {
    pub fn writes(&self) -> bool {
        !matches!(self, Verb::Select { .. })
    }

    /// The rows that are sent back.
    pub fn output(&self) -> &[Expr] {
        match self {
            Verb::Select { output, .. } => output,
            Verb::Insert { returning } | Verb::Update { returning, .. } | Verb::Delete { returning, .. } => returning,
        }
    }
}
