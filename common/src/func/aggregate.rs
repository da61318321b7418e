//! Aggregate functions: which exist and what types they take and give; `query` implements them over Arrow.

use crate::types::SqlType;
use serde::{Deserialize, Serialize};

/// An aggregate function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Aggregate {
    CountStar,
    Count,
    Sum,
    Avg,
    Min,
    Max,
    BoolAnd,
    BoolOr,
    StringAgg,
    ArrayAgg,
    StddevSamp,
    StddevPop,
    VarSamp,
    VarPop,
    BitAnd,
    BitOr,
    /// The value of the only row; a second row is 21000. Scalar subqueries become it.
    SingleValue,
}

impl Aggregate {
    /// By PostgreSQL's name, with the argument types as written: the types to cast the arguments to, and the result's.
    pub fn resolve(name: &str, args: &[SqlType]) -> Option<(Aggregate, Vec<SqlType>, SqlType)> {
        let _ = (name, args);
        None
    }
}
