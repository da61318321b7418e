//! PostgreSQL values in and out of DataFusion's columns and constants.

use crate::error::external;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnBuilder;
pub use toroid_common::types::columnar::ColumnReader as Column;

/// Opens an array that should hold values of `ty`.
pub fn open(array: &dyn Array, ty: SqlType) -> Result<Column<'_>> {
    Column::new(array, ty).map_err(external)
}

/// A batch under a schema that has other names for the same columns.
pub fn renamed(batch: &RecordBatch, schema: SchemaRef) -> SqlResult<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    // DataFusion may keep a column where none is wanted, for the number of rows.
    let columns = if schema.fields().is_empty() { Vec::new() } else { batch.columns().to_vec() };
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(SqlError::internal)
}

/// One value as an array of one row.
pub fn array_of(value: DatumRef<'_>, ty: SqlType) -> Result<ArrayRef> {
    let mut builder = ColumnBuilder::with_capacity(ty, 1);
    builder.push(value).map_err(external)?;
    Ok(builder.finish())
}

/// One value as DataFusion's constant.
pub fn scalar_of(value: DatumRef<'_>, ty: SqlType) -> Result<ScalarValue> {
    ScalarValue::try_from_array(&array_of(value, ty)?, 0)
}

/// A constant of DataFusion's as a value.
pub fn datum_of(value: &ScalarValue, ty: SqlType) -> Result<Datum> {
    let array = value.to_array()?;
    Ok(open(&array, ty)?.get(0).to_owned())
}
