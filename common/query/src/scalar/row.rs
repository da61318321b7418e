//! Any expression, evaluated row by row with the same evaluator that point statements use.
//!
//! One function holds a whole expression tree, so that CASE, AND, OR and COALESCE reach only what PostgreSQL would reach; its arguments are the
//! columns that the tree reads.

use crate::column::{Column, open, scalar_of};
use crate::error::external;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use toroid_common::datum::DatumRef;
use toroid_common::env::Env;
use toroid_common::eval::{NO_ROW, Row, eval_ref, volatility};
use toroid_common::expr::Expr;
use toroid_common::func;
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnBuilder;

/// An expression over its arguments: `Slot` positions are positions in `args`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// For EXPLAIN.
    pub name: String,
    pub expr: Expr,
    pub args: Vec<SqlType>,
}

/// The function.
#[derive(Debug)]
pub struct RowExpr {
    definition: Definition,
    env: Arc<Env>,
    signature: Signature,
    result: SqlType,
}

impl RowExpr {
    pub fn new(definition: Definition, env: &Arc<Env>) -> RowExpr {
        // Two draws of a volatile function differ, so such an expression equals nothing and is never computed ahead.
        let volatility = match volatility(&definition.expr) {
            func::Volatility::Immutable | func::Volatility::Stable => Volatility::Stable,
            func::Volatility::Volatile => Volatility::Volatile,
        };
        let result = definition.expr.ty();
        // Constants that fail and calls without arguments read no column at all.
        let arguments = vec![TypeSignature::VariadicAny, TypeSignature::Nullary];
        let signature = Signature::one_of(arguments, volatility);
        RowExpr { definition, env: Arc::clone(env), signature, result }
    }

    pub fn definition(&self) -> &Definition {
        &self.definition
    }
}

impl PartialEq for RowExpr {
    fn eq(&self, other: &RowExpr) -> bool {
        self.definition == other.definition
    }
}

impl Eq for RowExpr {}

impl Hash for RowExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
        self.definition.args.hash(state);
    }
}

/// One row of several columns; a constant argument has its value in row 0.
struct Cursor<'a> {
    columns: &'a [(Column<'a>, bool)],
    row: usize,
}

impl Row for Cursor<'_> {
    fn get(&self, index: u16) -> DatumRef<'_> {
        match self.columns.get(usize::from(index)) {
            Some((column, true)) => column.get(0),
            Some((column, false)) => column.get(self.row),
            None => DatumRef::Null,
        }
    }
}

impl ScalarUDFImpl for RowExpr {
    fn name(&self) -> &str {
        &self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)))
            && self.signature.volatility != Volatility::Volatile;
        let arrays = args
            .args
            .iter()
            .map(|arg| match arg {
                ColumnarValue::Array(array) => Ok((Arc::clone(array), false)),
                ColumnarValue::Scalar(value) => Ok((value.to_array()?, true)),
            })
            .collect::<Result<Vec<_>>>()?;
        let columns = arrays
            .iter()
            .zip(&self.definition.args)
            .map(|((array, scalar), ty)| Ok((open(array, *ty)?, *scalar)))
            .collect::<Result<Vec<_>>>()?;
        let mut cursor = Cursor { columns: &columns, row: 0 };
        if constant {
            let value = eval_ref(&self.definition.expr, &cursor, &NO_ROW, &self.env).map_err(external)?;
            return Ok(ColumnarValue::Scalar(scalar_of(value.borrow(), self.result)?));
        }
        let mut builder = ColumnBuilder::with_capacity(self.result, args.number_rows);
        for row in 0..args.number_rows {
            cursor.row = row;
            let value = eval_ref(&self.definition.expr, &cursor, &NO_ROW, &self.env).map_err(external)?;
            builder.push(value.borrow()).map_err(external)?;
        }
        Ok(ColumnarValue::Array(builder.finish()))
    }
}
