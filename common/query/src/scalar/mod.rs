//! Scalar functions of DataFusion's that mean what PostgreSQL means.

pub mod arithmetic;
pub mod order;
pub mod row;

use datafusion::logical_expr::ScalarUDF;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use toroid_common::env::Env;

use arithmetic::Arithmetic;
use order::OrderKey;
use row::RowExpr;

/// What a scalar function of ours is: how it travels in fragments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ScalarKind {
    Row(row::Definition),
    Arithmetic(Arithmetic),
    Order(OrderKey),
}

/// A function from its description; `env` is the statement's.
pub fn scalar(kind: ScalarKind, env: &Arc<Env>) -> ScalarUDF {
    match kind {
        ScalarKind::Row(definition) => ScalarUDF::new_from_impl(RowExpr::new(definition, env)),
        ScalarKind::Arithmetic(arithmetic) => ScalarUDF::new_from_impl(arithmetic),
        ScalarKind::Order(order) => ScalarUDF::new_from_impl(order),
    }
}

/// The description of a function, if it is one of ours.
pub fn kind_of(udf: &ScalarUDF) -> Option<ScalarKind> {
    let inner: &dyn std::any::Any = udf.inner().as_ref();
    if let Some(row) = inner.downcast_ref::<RowExpr>() {
        return Some(ScalarKind::Row(row.definition().clone()));
    }
    if let Some(arithmetic) = inner.downcast_ref::<Arithmetic>() {
        return Some(ScalarKind::Arithmetic(arithmetic.clone()));
    }
    inner.downcast_ref::<OrderKey>().map(|order| ScalarKind::Order(order.clone()))
}
