//! Correlated subqueries that no join can stand for: they run once for every different set of values that they read from around them.

use super::initial::{Initial, InitialKind};
use crate::bind::walk;
use crate::bound::{BoundExpr, BoundLeaf, ColId, Query};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::async_udf::AsyncScalarUDFImpl;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnBuilder;
use toroid_query::column::open;
use toroid_query::error::external;

/// Most runs of one subquery in one statement.
const MOST_RUNS: usize = 10_000;

/// Runs subqueries on behalf of expressions.
pub trait Runner: Send + Sync + 'static {
    fn run(&self, subquery: Initial) -> BoxFuture<'static, SqlResult<Datum>>;
}

/// A subquery as a function of the columns that it reads from the query around it.
pub(super) struct Apply {
    pub(super) subquery: Initial,
    pub(super) outer: Vec<(ColId, SqlType)>,
    pub(super) result: SqlType,
    pub(super) runner: Arc<dyn Runner>,
    /// Tells it from others in the statement.
    pub(super) number: u32,
    pub(super) signature: Signature,
}

impl Apply {
    pub(super) fn new(subquery: Initial, result: SqlType, runner: &Arc<dyn Runner>, number: u32) -> Apply {
        let outer = outer_columns(&subquery.query);
        // Volatile: nothing may move it to where it runs more often.
        let signature = Signature::variadic_any(Volatility::Volatile);
        Apply { subquery, outer, result, runner: Arc::clone(runner), number, signature }
    }
}

impl fmt::Debug for Apply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subquery {}", self.number)
    }
}

impl PartialEq for Apply {
    fn eq(&self, other: &Apply) -> bool {
        self.number == other.number
    }
}

impl Eq for Apply {}

impl Hash for Apply {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl ScalarUDFImpl for Apply {
    fn name(&self) -> &str {
        "subquery"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.arrow())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("a subquery was called without waiting for it")
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Apply {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut rows = Vec::with_capacity(args.number_rows);
        {
            let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
            let columns = arrays.iter().zip(&self.outer).map(|(array, (_, ty))| open(array, *ty));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            for row in 0..args.number_rows {
                rows.push(columns.iter().map(|column| column.get(row).to_owned()).collect::<Vec<Datum>>());
            }
        }
        let mut known: BTreeMap<String, Datum> = BTreeMap::new();
        let mut builder = ColumnBuilder::with_capacity(self.result, args.number_rows);
        for values in rows {
            // Exactly the same values: 1.0 and 1.00 are equal, yet the subquery may tell them apart.
            let key = format!("{values:?}");
            if !known.contains_key(&key) {
                if known.len() == MOST_RUNS {
                    let message = format!("a correlated subquery would have to run more than {MOST_RUNS} times");
                    return Err(external(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)));
                }
                let query = substituted(&self.subquery.query, &self.outer, &values).map_err(external)?;
                let run = self.runner.run(Initial { kind: self.subquery.kind, query });
                known.insert(key.clone(), run.await.map_err(external)?);
            }
            let value = known.get(&key).unwrap_or(&Datum::Null);
            builder.push(value.borrow()).map_err(external)?;
        }
        Ok(ColumnarValue::Array(builder.finish()))
    }
}

/// What an expression's subquery is run as; ANY and ALL compare with the array of its rows.
pub(super) fn initial_kind(kind: &crate::bound::SubqueryKind) -> InitialKind {
    match kind {
        crate::bound::SubqueryKind::Exists { negated } => InitialKind::Exists { negated: *negated },
        crate::bound::SubqueryKind::Scalar => InitialKind::Scalar,
        crate::bound::SubqueryKind::Array | crate::bound::SubqueryKind::Quantified { .. } => InitialKind::Array,
    }
}

/// The columns of the query around it that a subquery reads.
fn outer_columns(query: &Query) -> Vec<(ColId, SqlType)> {
    let mut found = Vec::new();
    let mut query = query.clone();
    // Nothing fails in this walk.
    let _ = each_outer(&mut query, 0, &mut |expr| {
        if let Expr::Leaf(BoundLeaf::Outer { id, ty, .. }) = expr
            && !found.contains(&(*id, *ty))
        {
            found.push((*id, *ty));
        }
    });
    found
}

/// The subquery with values in the place of these columns.
fn substituted(query: &Query, outer: &[(ColId, SqlType)], values: &[Datum]) -> SqlResult<Query> {
    let mut query = query.clone();
    each_outer(&mut query, 0, &mut |expr| {
        if let Expr::Leaf(BoundLeaf::Outer { id, ty, .. }) = expr
            && let Some(at) = outer.iter().position(|(column, _)| column == id)
        {
            let value = values.get(at).cloned().unwrap_or(Datum::Null);
            *expr = Expr::Const { value, ty: *ty };
        }
    })?;
    Ok(query)
}

/// Visits all references to columns of the query around the one where the walk began, `level` queries further in.
fn each_outer(query: &mut Query, level: u16, visit: &mut dyn FnMut(&mut BoundExpr)) -> SqlResult<()> {
    walk::exprs(&mut query.rel, level, &mut |expr, level| in_expr(expr, level, visit))
}

fn in_expr(expr: &mut BoundExpr, level: u16, visit: &mut dyn FnMut(&mut BoundExpr)) -> SqlResult<()> {
    if matches!(expr, Expr::Leaf(BoundLeaf::Outer { depth, .. }) if *depth == level + 1) {
        visit(expr);
        return Ok(());
    }
    for child in walk::children(expr) {
        in_expr(child, level, visit)?;
    }
    match walk::subquery(expr) {
        Some(subquery) => each_outer(&mut subquery.query, level + 1, visit),
        None => Ok(()),
    }
}
