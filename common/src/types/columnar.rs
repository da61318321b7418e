//! The bridge to Arrow: values out of arrays, and arrays out of values. The type is looked at once per array.

use super::SqlType;
use super::array::ArrayRef;
use super::datum::DatumRef;
use super::interval::Interval;
use super::numeric::NumericRef;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::limits::MAX_BATCH_COLUMN_BYTES;
use arrow::array::{
    Array, ArrayRef as ArrowRef, ArrowPrimitiveType, BinaryArray, BinaryViewArray, BinaryViewBuilder, BooleanArray,
    BooleanBuilder, FixedSizeBinaryArray, FixedSizeBinaryBuilder, ListArray, NullArray, PrimitiveArray,
    PrimitiveBuilder, StringArray, StringViewArray, StringViewBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, UInt32Type,
};
use std::sync::Arc;

/// An array of a type's Arrow form, downcast once.
pub enum ColumnReader<'a> {
    Null,
    Bool(&'a BooleanArray),
    Int2(&'a PrimitiveArray<Int16Type>),
    Int4(&'a PrimitiveArray<Int32Type>),
    Int8(&'a PrimitiveArray<Int64Type>),
    Float4(&'a PrimitiveArray<Float32Type>),
    Float8(&'a PrimitiveArray<Float64Type>),
    Numeric(&'a BinaryViewArray),
    Text(&'a StringViewArray),
    /// Strings that are no views, as some of DataFusion's own functions give them.
    PlainText(&'a StringArray),
    Bytea(&'a BinaryViewArray),
    PlainBytea(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time64MicrosecondType>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>),
    Timestamptz(&'a PrimitiveArray<TimestampMicrosecondType>),
    Interval(&'a FixedSizeBinaryArray),
    Uuid(&'a FixedSizeBinaryArray),
    Oid(&'a PrimitiveArray<UInt32Type>),
    Array(&'a ListArray, SqlType),
}

fn downcast<A: Array + 'static>(array: &dyn Array, ty: SqlType) -> SqlResult<&A> {
    array
        .as_any()
        .downcast_ref::<A>()
        .ok_or_else(|| SqlError::internal(format_args!("a column of type {ty} came as {}", array.data_type())))
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, ty: SqlType) -> SqlResult<&PrimitiveArray<T>> {
    downcast(array, ty)
}

impl<'a> ColumnReader<'a> {
    /// For an array that holds values of `ty`; an internal error when it is of another Arrow type.
    pub fn new(array: &'a dyn Array, ty: SqlType) -> SqlResult<ColumnReader<'a>> {
        if array.data_type() == &DataType::Null {
            return Ok(ColumnReader::Null);
        }
        Ok(match ty {
            SqlType::Bool => ColumnReader::Bool(downcast(array, ty)?),
            SqlType::Int2 => ColumnReader::Int2(primitive(array, ty)?),
            SqlType::Int4 => ColumnReader::Int4(primitive(array, ty)?),
            SqlType::Int8 => ColumnReader::Int8(primitive(array, ty)?),
            SqlType::Float4 => ColumnReader::Float4(primitive(array, ty)?),
            SqlType::Float8 => ColumnReader::Float8(primitive(array, ty)?),
            SqlType::Numeric => ColumnReader::Numeric(downcast(array, ty)?),
            SqlType::Bytea => match array.data_type() {
                DataType::Binary => ColumnReader::PlainBytea(downcast(array, ty)?),
                _ => ColumnReader::Bytea(downcast(array, ty)?),
            },
            SqlType::Text
            | SqlType::Varchar
            | SqlType::Bpchar
            | SqlType::Json
            | SqlType::Jsonb
            | SqlType::Name
            | SqlType::Char
            | SqlType::Unknown => match array.data_type() {
                DataType::Utf8 => ColumnReader::PlainText(downcast(array, ty)?),
                _ => ColumnReader::Text(downcast(array, ty)?),
            },
            SqlType::Date => ColumnReader::Date(primitive(array, ty)?),
            SqlType::Time => ColumnReader::Time(primitive(array, ty)?),
            SqlType::Timestamp => ColumnReader::Timestamp(primitive(array, ty)?),
            SqlType::Timestamptz => ColumnReader::Timestamptz(primitive(array, ty)?),
            SqlType::Interval => ColumnReader::Interval(downcast(array, ty)?),
            SqlType::Uuid => ColumnReader::Uuid(downcast(array, ty)?),
            SqlType::Oid | SqlType::Regclass | SqlType::Regtype => ColumnReader::Oid(primitive(array, ty)?),
            SqlType::Void => ColumnReader::Null,
            SqlType::Array(element) => ColumnReader::Array(downcast(array, ty)?, element.ty()),
        })
    }

    /// The value in a row; NULL beyond the end.
    #[inline]
    pub fn get(&self, row: usize) -> DatumRef<'a> {
        let array: &dyn Array = match self {
            ColumnReader::Null => return DatumRef::Null,
            ColumnReader::Bool(a) => *a,
            ColumnReader::Int2(a) => *a,
            ColumnReader::Int4(a) => *a,
            ColumnReader::Int8(a) => *a,
            ColumnReader::Float4(a) => *a,
            ColumnReader::Float8(a) => *a,
            ColumnReader::Numeric(a) | ColumnReader::Bytea(a) => *a,
            ColumnReader::PlainBytea(a) => *a,
            ColumnReader::Text(a) => *a,
            ColumnReader::PlainText(a) => *a,
            ColumnReader::Date(a) => *a,
            ColumnReader::Time(a) => *a,
            ColumnReader::Timestamp(a) | ColumnReader::Timestamptz(a) => *a,
            ColumnReader::Interval(a) | ColumnReader::Uuid(a) => *a,
            ColumnReader::Oid(a) => *a,
            ColumnReader::Array(a, _) => *a,
        };
        if row >= array.len() || array.is_null(row) { DatumRef::Null } else { self.present(row) }
    }

    /// The value in a row that is known to be there.
    #[inline]
    fn present(&self, row: usize) -> DatumRef<'a> {
        match *self {
            ColumnReader::Null => DatumRef::Null,
            ColumnReader::Bool(a) => DatumRef::Bool(a.value(row)),
            ColumnReader::Int2(a) => DatumRef::Int2(a.value(row)),
            ColumnReader::Int4(a) => DatumRef::Int4(a.value(row)),
            ColumnReader::Int8(a) => DatumRef::Int8(a.value(row)),
            ColumnReader::Float4(a) => DatumRef::Float4(a.value(row)),
            ColumnReader::Float8(a) => DatumRef::Float8(a.value(row)),
            ColumnReader::Numeric(a) => NumericRef::decode(a.value(row)).map_or(DatumRef::Null, DatumRef::Numeric),
            ColumnReader::Text(a) => DatumRef::Text(a.value(row)),
            ColumnReader::PlainText(a) => DatumRef::Text(a.value(row)),
            ColumnReader::Bytea(a) => DatumRef::Bytea(a.value(row)),
            ColumnReader::PlainBytea(a) => DatumRef::Bytea(a.value(row)),
            ColumnReader::Date(a) => DatumRef::Date(a.value(row)),
            ColumnReader::Time(a) => DatumRef::Time(a.value(row)),
            ColumnReader::Timestamp(a) => DatumRef::Timestamp(a.value(row)),
            ColumnReader::Timestamptz(a) => DatumRef::Timestamptz(a.value(row)),
            ColumnReader::Interval(a) => {
                sixteen(a.value(row)).map_or(DatumRef::Null, |b| DatumRef::Interval(Interval::from_bytes(b)))
            }
            ColumnReader::Uuid(a) => sixteen(a.value(row)).map_or(DatumRef::Null, DatumRef::Uuid),
            ColumnReader::Oid(a) => DatumRef::Oid(a.value(row)),
            ColumnReader::Array(list, element) => {
                let offsets = list.value_offsets();
                let bound = |i: usize| offsets.get(i).and_then(|o| usize::try_from(*o).ok()).unwrap_or(0);
                let (start, end) = (bound(row), bound(row + 1));
                DatumRef::Array(ArrayRef::Column {
                    element,
                    values: list.values().as_ref(),
                    start,
                    count: end.saturating_sub(start),
                })
            }
        }
    }
}

fn sixteen(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.try_into().ok()
}

/// One value of an array; for many, make a [`ColumnReader`]. NULL when the array is not of the type's Arrow form.
pub fn datum_at(array: &dyn Array, ty: SqlType, row: usize) -> DatumRef<'_> {
    ColumnReader::new(array, ty).map_or(DatumRef::Null, |reader| reader.get(row))
}

/// Builds an array of [`SqlType::arrow`] from values.
pub struct ColumnBuilder {
    ty: SqlType,
    parts: Parts,
    /// Of its texts and byte strings.
    bytes: usize,
}

enum Parts {
    Null(usize),
    Bool(BooleanBuilder),
    Int2(PrimitiveBuilder<Int16Type>),
    Int4(PrimitiveBuilder<Int32Type>),
    Int8(PrimitiveBuilder<Int64Type>),
    Float4(PrimitiveBuilder<Float32Type>),
    Float8(PrimitiveBuilder<Float64Type>),
    /// bytea and numeric.
    Binary(BinaryViewBuilder),
    Text(StringViewBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    /// interval and uuid.
    Sixteen(FixedSizeBinaryBuilder),
    Oid(PrimitiveBuilder<UInt32Type>),
    List {
        offsets: Vec<i32>,
        valid: Vec<bool>,
        values: Box<ColumnBuilder>,
    },
}

impl ColumnBuilder {
    pub fn new(ty: SqlType) -> ColumnBuilder {
        ColumnBuilder::with_capacity(ty, 0)
    }

    /// With room for `rows` values.
    pub fn with_capacity(ty: SqlType, rows: usize) -> ColumnBuilder {
        let parts = match ty {
            SqlType::Bool => Parts::Bool(BooleanBuilder::with_capacity(rows)),
            SqlType::Int2 => Parts::Int2(PrimitiveBuilder::with_capacity(rows)),
            SqlType::Int4 => Parts::Int4(PrimitiveBuilder::with_capacity(rows)),
            SqlType::Int8 => Parts::Int8(PrimitiveBuilder::with_capacity(rows)),
            SqlType::Float4 => Parts::Float4(PrimitiveBuilder::with_capacity(rows)),
            SqlType::Float8 => Parts::Float8(PrimitiveBuilder::with_capacity(rows)),
            SqlType::Numeric | SqlType::Bytea => Parts::Binary(BinaryViewBuilder::with_capacity(rows)),
            SqlType::Text
            | SqlType::Varchar
            | SqlType::Bpchar
            | SqlType::Json
            | SqlType::Jsonb
            | SqlType::Name
            | SqlType::Char
            | SqlType::Unknown => Parts::Text(StringViewBuilder::with_capacity(rows)),
            SqlType::Date => Parts::Date(PrimitiveBuilder::with_capacity(rows)),
            SqlType::Time => Parts::Time(PrimitiveBuilder::with_capacity(rows)),
            SqlType::Timestamp | SqlType::Timestamptz => {
                Parts::Timestamp(PrimitiveBuilder::with_capacity(rows).with_data_type(ty.arrow()))
            }
            SqlType::Interval | SqlType::Uuid => Parts::Sixteen(FixedSizeBinaryBuilder::with_capacity(rows, 16)),
            SqlType::Oid | SqlType::Regclass | SqlType::Regtype => Parts::Oid(PrimitiveBuilder::with_capacity(rows)),
            SqlType::Void => Parts::Null(0),
            SqlType::Array(element) => Parts::List {
                offsets: vec![0],
                valid: Vec::with_capacity(rows),
                values: Box::new(ColumnBuilder::new(element.ty())),
            },
        };
        ColumnBuilder { ty, parts, bytes: 0 }
    }

    /// Appends a value; an internal error when it is not of the column's type, 53200 when the column becomes larger than any batch may be.
    #[inline]
    pub fn push(&mut self, value: DatumRef<'_>) -> SqlResult<()> {
        match (&mut self.parts, value) {
            (Parts::Null(rows), DatumRef::Null) => *rows += 1,
            (Parts::Bool(b), DatumRef::Bool(v)) => b.append_value(v),
            (Parts::Int2(b), DatumRef::Int2(v)) => b.append_value(v),
            (Parts::Int4(b), DatumRef::Int4(v)) => b.append_value(v),
            (Parts::Int8(b), DatumRef::Int8(v)) => b.append_value(v),
            (Parts::Float4(b), DatumRef::Float4(v)) => b.append_value(v),
            (Parts::Float8(b), DatumRef::Float8(v)) => b.append_value(v),
            (Parts::Binary(b), DatumRef::Numeric(v)) => b.append_value(v.encode()),
            (Parts::Binary(b), DatumRef::Bytea(v)) => {
                self.bytes = longer(self.bytes, v.len())?;
                b.append_value(v);
            }
            (Parts::Text(b), DatumRef::Text(v)) => {
                self.bytes = longer(self.bytes, v.len())?;
                b.append_value(v);
            }
            (Parts::Date(b), DatumRef::Date(v)) => b.append_value(v),
            (Parts::Time(b), DatumRef::Time(v)) => b.append_value(v),
            (Parts::Timestamp(b), DatumRef::Timestamp(v) | DatumRef::Timestamptz(v)) => b.append_value(v),
            (Parts::Sixteen(b), DatumRef::Interval(v)) => b.append_value(v.to_bytes()).map_err(SqlError::internal)?,
            (Parts::Sixteen(b), DatumRef::Uuid(v)) => b.append_value(v).map_err(SqlError::internal)?,
            (Parts::Oid(b), DatumRef::Oid(v)) => b.append_value(v),
            (Parts::List { offsets, valid, values }, DatumRef::Array(array)) => {
                for element in array.iter() {
                    values.push(element)?;
                }
                let end = offsets.last().copied().unwrap_or(0) as usize + array.len();
                offsets.push(i32::try_from(end).map_err(SqlError::internal)?);
                valid.push(true);
            }
            (_, DatumRef::Null) => self.push_null(),
            (_, value) => {
                return Err(SqlError::internal(format_args!("{value:?} in a column of type {}", self.ty)));
            }
        }
        Ok(())
    }

    pub fn push_null(&mut self) {
        match &mut self.parts {
            Parts::Null(rows) => *rows += 1,
            Parts::Bool(b) => b.append_null(),
            Parts::Int2(b) => b.append_null(),
            Parts::Int4(b) => b.append_null(),
            Parts::Int8(b) => b.append_null(),
            Parts::Float4(b) => b.append_null(),
            Parts::Float8(b) => b.append_null(),
            Parts::Binary(b) => b.append_null(),
            Parts::Text(b) => b.append_null(),
            Parts::Date(b) => b.append_null(),
            Parts::Time(b) => b.append_null(),
            Parts::Timestamp(b) => b.append_null(),
            Parts::Sixteen(b) => b.append_null(),
            Parts::Oid(b) => b.append_null(),
            Parts::List { offsets, valid, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
                valid.push(false);
            }
        }
    }

    /// The array of all that was pushed.
    pub fn finish(self) -> ArrowRef {
        match self.parts {
            Parts::Null(rows) => Arc::new(NullArray::new(rows)),
            Parts::Bool(mut b) => Arc::new(b.finish()),
            Parts::Int2(mut b) => Arc::new(b.finish()),
            Parts::Int4(mut b) => Arc::new(b.finish()),
            Parts::Int8(mut b) => Arc::new(b.finish()),
            Parts::Float4(mut b) => Arc::new(b.finish()),
            Parts::Float8(mut b) => Arc::new(b.finish()),
            Parts::Binary(mut b) => Arc::new(b.finish()),
            Parts::Text(mut b) => Arc::new(b.finish()),
            Parts::Date(mut b) => Arc::new(b.finish()),
            Parts::Time(mut b) => Arc::new(b.finish()),
            Parts::Timestamp(mut b) => Arc::new(b.finish()),
            Parts::Sixteen(mut b) => Arc::new(b.finish()),
            Parts::Oid(mut b) => Arc::new(b.finish()),
            Parts::List { offsets, valid, values } => {
                let field = Arc::new(Field::new("item", values.ty.arrow(), true));
                let nulls = NullBuffer::from(valid);
                Arc::new(ListArray::new(field, OffsetBuffer::new(offsets.into()), values.finish(), Some(nulls)))
            }
        }
    }
}

/// The bytes of a column with a further value: thousands of rows of the longest value would be more than a machine has.
fn longer(bytes: usize, by: usize) -> SqlResult<usize> {
    match bytes + by {
        sum if sum <= MAX_BATCH_COLUMN_BYTES => Ok(sum),
        _ => {
            let detail = format!("Some thousand rows have a column of more than {MAX_BATCH_COLUMN_BYTES} bytes.");
            Err(SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").with_detail(detail))
        }
    }
}
