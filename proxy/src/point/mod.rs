//! Recognition of point plans: statements on one table that workers run by themselves, without DataFusion.

use crate::bound::Bound;
use toroid_common::datum::Datum;
use toroid_common::expr::Expr;
use toroid_common::id::TableId;
use toroid_common::plan::PointPlan;
use toroid_common::types::ColumnType;

/// A statement as a point plan, and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub plan: PointPlan,
    pub route: Route,
    /// What `plan`'s output columns are called; empty if nothing is sent back.
    pub output: Vec<PointColumn>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PointColumn {
    pub name: String,
    pub ty: ColumnType,
    pub origin: Option<(TableId, u16)>,
}

/// Which partitions a point plan is sent to. Expressions read constants and parameters only.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// The partition of this distribution key, whose values have the columns' types. A NULL among them: no row can match.
    Key(Vec<Expr>),
    /// INSERT: complete rows in table order, cast to the columns' types; each row's partition is that of its distribution columns. The hidden row
    /// identity is NULL: the proxy gives it.
    Rows(Vec<Vec<Expr>>),
    /// UPDATE and DELETE without a key: every partition.
    All,
    /// A reference table: one copy to read, every copy to write.
    Reference,
}

/// The point plan of a statement, if it has one. UPDATE and DELETE on one table always have one once their subqueries are constants.
pub fn point(bound: &Bound) -> Option<Point> {
    let _ = bound;
    None
}

/// The uncorrelated subqueries of an UPDATE or DELETE, in the order in which [`with_subqueries_as_constants`] takes their values.
pub fn subqueries(bound: &Bound) -> Vec<crate::bound::Subquery> {
    let _ = bound;
    Vec::new()
}

/// The statement with each subquery replaced by the rows of its first column: scalar ones by the value, EXISTS by whether there are rows, quantified
/// ones by a comparison with an array of the values.
pub fn with_subqueries_as_constants(bound: Bound, rows: Vec<Vec<Datum>>) -> Bound {
    let _ = rows;
    bound
}
