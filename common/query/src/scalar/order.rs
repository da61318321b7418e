//! Keys whose Arrow order and equality are PostgreSQL's, for types whose own arrays do not compare so.

use crate::column::{open, scalar_of};
use crate::error::external;
use arrow::array::{ArrayRef, AsArray, BinaryViewBuilder, PrimitiveArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use bytes::Bytes;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::env::Env;
use toroid_common::error::SqlError;
use toroid_common::func::{Context, FuncId, Function};
use toroid_common::key::write_ascending;
use toroid_common::types::SqlType;

/// The key of a value of one type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OrderKey {
    pub ty: SqlType,
}

/// How values of a type are compared by Arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// As they are.
    Native,
    /// Through [`OrderKey`].
    Key,
    /// The type has no equality.
    None,
}

impl Comparison {
    pub fn of(ty: SqlType) -> Comparison {
        match ty {
            SqlType::Bool
            | SqlType::Int2
            | SqlType::Int4
            | SqlType::Int8
            | SqlType::Text
            | SqlType::Varchar
            | SqlType::Bpchar
            | SqlType::Name
            | SqlType::Char
            | SqlType::Unknown
            | SqlType::Bytea
            | SqlType::Date
            | SqlType::Time
            | SqlType::Timestamp
            | SqlType::Timestamptz
            | SqlType::Uuid
            | SqlType::Oid
            | SqlType::Regclass
            | SqlType::Regtype => Comparison::Native,
            SqlType::Float4 | SqlType::Float8 | SqlType::Numeric | SqlType::Interval | SqlType::Jsonb => {
                Comparison::Key
            }
            SqlType::Array(element) => match Comparison::of(element.ty()) {
                Comparison::None => Comparison::None,
                Comparison::Native | Comparison::Key => Comparison::Key,
            },
            SqlType::Json | SqlType::Void => Comparison::None,
        }
    }
}

impl OrderKey {
    fn key_type(&self) -> DataType {
        match self.ty {
            SqlType::Float4 => DataType::Float32,
            SqlType::Float8 => DataType::Float64,
            _ => DataType::BinaryView,
        }
    }

    /// The keys of a column.
    pub fn keys(&self, array: &ArrayRef) -> Result<ArrayRef> {
        // Arrow compares floats by their bits' total order: one zero and one NaN make that PostgreSQL's.
        match self.ty {
            SqlType::Float4 => {
                let keys: PrimitiveArray<Float32Type> =
                    array.as_primitive::<Float32Type>().unary(|v| if v.is_nan() { f32::NAN } else { v + 0.0 });
                return Ok(Arc::new(keys));
            }
            SqlType::Float8 => {
                let keys: PrimitiveArray<Float64Type> =
                    array.as_primitive::<Float64Type>().unary(|v| if v.is_nan() { f64::NAN } else { v + 0.0 });
                return Ok(Arc::new(keys));
            }
            _ => {}
        }
        let column = open(array, self.ty)?;
        let mut builder = BinaryViewBuilder::with_capacity(array.len());
        let mut key = Vec::new();
        let kernel = (self.ty == SqlType::Jsonb).then(KeyKernel::jsonb).transpose()?;
        for row in 0..array.len() {
            let value = column.get(row);
            match value.is_null() {
                true => builder.append_null(),
                false => {
                    key.clear();
                    match &kernel {
                        Some(kernel) => builder.append_value(kernel.key(value)?),
                        None => {
                            write_ascending(&mut key, value);
                            builder.append_value(&key);
                        }
                    }
                }
            }
        }
        Ok(Arc::new(builder.finish()))
    }
}

/// The kernel `sort_key` of a type whose keys are not those of indexes.
struct KeyKernel {
    function: &'static Function,
    env: Env,
}

impl KeyKernel {
    fn jsonb() -> Result<KeyKernel> {
        let id = FuncId::by_signature("sort_key(jsonb)")
            .ok_or_else(|| external(SqlError::unsupported("comparing jsonb")))?;
        Ok(KeyKernel { function: id.function(), env: Env::default() })
    }

    fn key(&self, value: DatumRef<'_>) -> Result<Bytes> {
        let context = Context { env: &self.env, args: &[SqlType::Jsonb], result: SqlType::Bytea };
        match (self.function.kernel)(&context, &[value]).map_err(external)? {
            Datum::Bytea(key) => Ok(key),
            other => Err(external(SqlError::internal(format_args!("a sort key was {other:?}")))),
        }
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(1, Volatility::Immutable));

impl ScalarUDFImpl for OrderKey {
    fn name(&self) -> &str {
        "order_key"
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.key_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(array)] => Ok(ColumnarValue::Array(self.keys(array)?)),
            [ColumnarValue::Scalar(value)] => {
                let keys = self.keys(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&keys, 0)?))
            }
            _ => Ok(ColumnarValue::Scalar(scalar_of(DatumRef::Null, self.ty)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;
    use toroid_common::types::columnar::ColumnBuilder;
    use toroid_common::types::numeric::Numeric;

    #[test]
    fn keys_of_floats_have_one_zero_and_one_nan() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0, -f64::NAN, f64::NAN]));
        let keys = OrderKey { ty: SqlType::Float8 }.keys(&floats).unwrap();
        let bits: Vec<u64> = keys.as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits[0], bits[1]);
        assert_eq!(bits[2], bits[3]);
        assert!(bits[2] >> 63 == 0, "NaN is above all others");
    }

    #[test]
    fn keys_of_numerics_order_as_the_numbers() {
        let texts = ["-Infinity", "-10.5", "-1", "0", "0.001", "1.5", "1.50", "2", "10", "Infinity", "NaN"];
        let mut builder = ColumnBuilder::new(SqlType::Numeric);
        for text in texts {
            builder.push(DatumRef::Numeric(Numeric::parse(text).unwrap().borrow())).unwrap();
        }
        let keys = OrderKey { ty: SqlType::Numeric }.keys(&builder.finish()).unwrap();
        let keys: Vec<&[u8]> = keys.as_binary_view().iter().flatten().collect();
        assert_eq!(keys.len(), texts.len());
        assert!(keys.is_sorted());
        assert_eq!(keys[5], keys[6]);
    }
}
