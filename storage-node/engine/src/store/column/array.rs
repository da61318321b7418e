//! Lending a column chunk as an Arrow array of the type that `SqlType::arrow` names.

use super::{ColumnChunk, Values, lend};
use crate::store::cost::Cost;
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringViewArray,
    new_null_array,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, UInt32Type,
};
use std::sync::Arc;
use toroid_common::types::SqlType;

impl ColumnChunk {
    /// The column of `len` rows as an array that shares its memory. Dead rows are in it too.
    pub fn array(&self, ty: SqlType, len: usize) -> ArrayRef {
        let nulls = self.valid.as_ref().map(|valid| NullBuffer::new(valid.lend()));
        match &self.values {
            Values::Constant(value) if value.is_null() => new_null_array(&ty.arrow(), len),
            Values::Constant(_) => {
                let mut spread = self.clone();
                spread.spread(ty, len, &mut Cost::default());
                spread.array(ty, len)
            }
            Values::Bool(values) => Arc::new(BooleanArray::new(values.lend(), nulls)),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls),
            Values::Int32(values) if ty == SqlType::Date => primitive::<Date32Type>(values, nulls),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls),
            Values::Int64(values) => int64(values, nulls, ty),
            Values::Unsigned32(values) => primitive::<UInt32Type>(values, nulls),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls),
            Values::Bytes16(values) => Arc::new(FixedSizeBinaryArray::new(16, lend(values), nulls)),
            Values::View(values) => {
                let (views, blocks) = values.lend();
                // Arrow checks every view and text here; the constructors that do not are unsafe.
                if matches!(ty, SqlType::Bytea | SqlType::Numeric) {
                    Arc::new(BinaryViewArray::new(views, blocks, nulls))
                } else {
                    Arc::new(StringViewArray::new(views, blocks, nulls))
                }
            }
        }
    }
}

fn int64(values: &Arc<Vec<i64>>, nulls: Option<NullBuffer>, ty: SqlType) -> ArrayRef {
    match ty {
        SqlType::Time => primitive::<Time64MicrosecondType>(values, nulls),
        SqlType::Timestamp => primitive::<TimestampMicrosecondType>(values, nulls),
        SqlType::Timestamptz => {
            let utc = PrimitiveArray::<TimestampMicrosecondType>::new(scalars(values), nulls).with_timezone("UTC");
            Arc::new(utc)
        }
        _ => primitive::<Int64Type>(values, nulls),
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &Arc<Vec<T::Native>>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(scalars(values), nulls))
}

fn scalars<T: ArrowNativeType>(values: &Arc<Vec<T>>) -> ScalarBuffer<T> {
    ScalarBuffer::new(lend(values), 0, values.len())
}
