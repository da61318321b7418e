//! Arrow batches → values: the readers of a batch's columns are found once, then every row is read without looking at types again.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, ListArray, PrimitiveArray,
    StringViewArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, UInt32Type,
};
use arrow::record_batch::RecordBatch;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::SqlError;
use toroid_common::types::SqlType;
use toroid_common::types::interval::Interval;
use toroid_common::types::numeric::NumericRef;

/// Reads one column of a batch.
pub enum Reader {
    Bool(BooleanArray),
    Int2(PrimitiveArray<Int16Type>),
    Int4(PrimitiveArray<Int32Type>),
    Int8(PrimitiveArray<Int64Type>),
    Float4(PrimitiveArray<Float32Type>),
    Float8(PrimitiveArray<Float64Type>),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64MicrosecondType>),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>),
    Timestamptz(PrimitiveArray<TimestampMicrosecondType>),
    Oid(PrimitiveArray<UInt32Type>),
    Numeric(BinaryViewArray),
    Text(StringViewArray),
    Bytea(BinaryViewArray),
    Interval(FixedSizeBinaryArray),
    Uuid(FixedSizeBinaryArray),
    Null,
    /// Values are built once per batch: arrays are rare in results.
    List(Vec<Datum>),
}

/// The readers of a batch whose columns are of these types.
pub fn readers(batch: &RecordBatch, types: impl Iterator<Item = SqlType>) -> Result<Vec<Reader>, SqlError> {
    batch.columns().iter().zip(types).map(|(column, ty)| Reader::new(column, ty)).collect()
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> Result<PrimitiveArray<T>, SqlError> {
    array.as_primitive_opt::<T>().cloned().ok_or_else(unexpected)
}

fn unexpected() -> SqlError {
    SqlError::internal("a column of a batch is not of its type")
}

impl Reader {
    fn new(column: &ArrayRef, ty: SqlType) -> Result<Reader, SqlError> {
        let wanted = ty.arrow();
        let cast;
        let array = match *column.data_type() == wanted {
            true => column,
            false => {
                cast = arrow::compute::cast(column, &wanted).map_err(SqlError::internal)?;
                &cast
            }
        };
        Ok(match ty {
            SqlType::Bool => Reader::Bool(array.as_boolean_opt().cloned().ok_or_else(unexpected)?),
            SqlType::Int2 => Reader::Int2(primitive(array)?),
            SqlType::Int4 => Reader::Int4(primitive(array)?),
            SqlType::Int8 => Reader::Int8(primitive(array)?),
            SqlType::Float4 => Reader::Float4(primitive(array)?),
            SqlType::Float8 => Reader::Float8(primitive(array)?),
            SqlType::Date => Reader::Date(primitive(array)?),
            SqlType::Time => Reader::Time(primitive(array)?),
            SqlType::Timestamp => Reader::Timestamp(primitive(array)?),
            SqlType::Timestamptz => Reader::Timestamptz(primitive(array)?),
            SqlType::Oid | SqlType::Regclass | SqlType::Regtype => Reader::Oid(primitive(array)?),
            SqlType::Numeric => Reader::Numeric(array.as_binary_view_opt().cloned().ok_or_else(unexpected)?),
            SqlType::Bytea => Reader::Bytea(array.as_binary_view_opt().cloned().ok_or_else(unexpected)?),
            SqlType::Text
            | SqlType::Varchar
            | SqlType::Bpchar
            | SqlType::Json
            | SqlType::Jsonb
            | SqlType::Name
            | SqlType::Char
            | SqlType::Unknown => Reader::Text(array.as_string_view_opt().cloned().ok_or_else(unexpected)?),
            SqlType::Interval => Reader::Interval(array.as_fixed_size_binary_opt().cloned().ok_or_else(unexpected)?),
            SqlType::Uuid => Reader::Uuid(array.as_fixed_size_binary_opt().cloned().ok_or_else(unexpected)?),
            SqlType::Void => Reader::Null,
            SqlType::Array(element) => Reader::List(list(array, element.ty())?),
        })
    }

    fn nulls(&self) -> Option<&arrow::buffer::NullBuffer> {
        match self {
            Reader::Bool(a) => a.nulls(),
            Reader::Int2(a) => a.nulls(),
            Reader::Int4(a) => a.nulls(),
            Reader::Int8(a) => a.nulls(),
            Reader::Float4(a) => a.nulls(),
            Reader::Float8(a) => a.nulls(),
            Reader::Date(a) => a.nulls(),
            Reader::Time(a) => a.nulls(),
            Reader::Timestamp(a) | Reader::Timestamptz(a) => a.nulls(),
            Reader::Oid(a) => a.nulls(),
            Reader::Numeric(a) | Reader::Bytea(a) => a.nulls(),
            Reader::Text(a) => a.nulls(),
            Reader::Interval(a) | Reader::Uuid(a) => a.nulls(),
            Reader::Null | Reader::List(_) => None,
        }
    }

    /// The value in a row of the batch; `row` is below the batch's number of rows.
    pub fn value(&self, row: usize) -> DatumRef<'_> {
        if self.nulls().is_some_and(|nulls| nulls.is_null(row)) {
            return DatumRef::Null;
        }
        match self {
            Reader::Bool(a) => DatumRef::Bool(a.value(row)),
            Reader::Int2(a) => DatumRef::Int2(a.value(row)),
            Reader::Int4(a) => DatumRef::Int4(a.value(row)),
            Reader::Int8(a) => DatumRef::Int8(a.value(row)),
            Reader::Float4(a) => DatumRef::Float4(a.value(row)),
            Reader::Float8(a) => DatumRef::Float8(a.value(row)),
            Reader::Date(a) => DatumRef::Date(a.value(row)),
            Reader::Time(a) => DatumRef::Time(a.value(row)),
            Reader::Timestamp(a) => DatumRef::Timestamp(a.value(row)),
            Reader::Timestamptz(a) => DatumRef::Timestamptz(a.value(row)),
            Reader::Oid(a) => DatumRef::Oid(a.value(row)),
            Reader::Numeric(a) => NumericRef::decode(a.value(row)).map_or(DatumRef::Null, DatumRef::Numeric),
            Reader::Text(a) => DatumRef::Text(a.value(row)),
            Reader::Bytea(a) => DatumRef::Bytea(a.value(row)),
            Reader::Interval(a) => {
                sixteen(a.value(row)).map_or(DatumRef::Null, |b| DatumRef::Interval(Interval::from_bytes(b)))
            }
            Reader::Uuid(a) => sixteen(a.value(row)).map_or(DatumRef::Null, DatumRef::Uuid),
            Reader::Null => DatumRef::Null,
            Reader::List(values) => values.get(row).map_or(DatumRef::Null, Datum::borrow),
        }
    }
}

fn sixteen(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.try_into().ok()
}

fn list(array: &ArrayRef, element: SqlType) -> Result<Vec<Datum>, SqlError> {
    let lists: &ListArray = array.as_list_opt().ok_or_else(unexpected)?;
    (0..lists.len())
        .map(|row| {
            if lists.is_null(row) {
                return Ok(Datum::Null);
            }
            let values = lists.value(row);
            let reader = Reader::new(&values, element)?;
            Ok(Datum::Array((0..values.len()).map(|i| reader.value(i).to_owned()).collect()))
        })
        .collect()
}
