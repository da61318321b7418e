//! Integer and float arithmetic over whole columns, with PostgreSQL's errors.

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::kernels::arity::{try_binary, try_unary};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};
use toroid_common::error::{SqlError, SqlState};
use toroid_common::types::SqlType;

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Negate,
}

/// An operation on one numeric type: int2, int4, int8, float4 or float8, both arguments and the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Arithmetic {
    pub operation: Operation,
    pub ty: SqlType,
}

impl Arithmetic {
    /// Whether there is a vectorised form.
    pub fn supports(operation: Operation, ty: SqlType) -> bool {
        match ty {
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => true,
            SqlType::Float4 | SqlType::Float8 => operation != Operation::Modulo,
            _ => false,
        }
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::variadic_any(Volatility::Immutable));

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "add",
            Operation::Subtract => "subtract",
            Operation::Multiply => "multiply",
            Operation::Divide => "divide",
            Operation::Modulo => "modulo",
            Operation::Negate => "negate",
        }
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.ty.arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let sides = args.args.into_iter().map(Side::new).collect::<Result<Vec<_>>>()?;
        let array = match self.ty {
            SqlType::Int2 => integers::<Int16Type>(self.operation, &sides, "smallint"),
            SqlType::Int4 => integers::<Int32Type>(self.operation, &sides, "integer"),
            SqlType::Int8 => integers::<Int64Type>(self.operation, &sides, "bigint"),
            SqlType::Float4 => floats::<Float32Type>(self.operation, &sides),
            SqlType::Float8 => floats::<Float64Type>(self.operation, &sides),
            other => Err(ArrowError::NotYetImplemented(format!("arithmetic on {other}"))),
        }?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

/// One argument: a column, or one value for all rows.
struct Side {
    array: ArrayRef,
    scalar: bool,
}

impl Side {
    fn new(value: ColumnarValue) -> Result<Side> {
        Ok(match value {
            ColumnarValue::Array(array) => Side { array, scalar: false },
            ColumnarValue::Scalar(value) => Side { array: value.to_array()?, scalar: true },
        })
    }
}

fn sql(state: SqlState, message: String) -> ArrowError {
    ArrowError::ExternalError(Box::new(SqlError::new(state, message)))
}

fn division_by_zero() -> ArrowError {
    sql(SqlState::DIVISION_BY_ZERO, "division by zero".to_owned())
}

fn binary<T: ArrowPrimitiveType>(
    sides: &[Side],
    op: impl Fn(T::Native, T::Native) -> Result<T::Native, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let [left, right] = sides else {
        return Err(ArrowError::InvalidArgumentError("an operator takes two arguments".to_owned()));
    };
    let wrong = || ArrowError::InvalidArgumentError("an operator's arguments are of another type".to_owned());
    let a = left.array.as_primitive_opt::<T>().ok_or_else(wrong)?;
    let b = right.array.as_primitive_opt::<T>().ok_or_else(wrong)?;
    let result: PrimitiveArray<T> = match (left.scalar, right.scalar) {
        (true, false) if a.is_null(0) => PrimitiveArray::new_null(b.len()),
        (false, true) if b.is_null(0) => PrimitiveArray::new_null(a.len()),
        (true, false) => {
            let a = a.value(0);
            try_unary(b, |b| op(a, b))?
        }
        (false, true) => {
            let b = b.value(0);
            try_unary(a, |a| op(a, b))?
        }
        (true, true) | (false, false) => try_binary(a, b, op)?,
    };
    Ok(Arc::new(result))
}

fn negate<T: ArrowPrimitiveType>(
    sides: &[Side],
    op: impl Fn(T::Native) -> Result<T::Native, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let array = sides.first().and_then(|side| side.array.as_primitive_opt::<T>());
    let array = array.ok_or_else(|| ArrowError::InvalidArgumentError("negation of another type".to_owned()))?;
    let result: PrimitiveArray<T> = try_unary(array, op)?;
    Ok(Arc::new(result))
}

fn integers<T: ArrowPrimitiveType>(operation: Operation, sides: &[Side], ty: &str) -> Result<ArrayRef, ArrowError>
where
    T::Native: ArrowNativeTypeOp,
{
    let overflow = |_| sql(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{ty} out of range"));
    match operation {
        Operation::Add => binary::<T>(sides, |a, b| a.add_checked(b).map_err(overflow)),
        Operation::Subtract => binary::<T>(sides, |a, b| a.sub_checked(b).map_err(overflow)),
        Operation::Multiply => binary::<T>(sides, |a, b| a.mul_checked(b).map_err(overflow)),
        Operation::Divide => binary::<T>(sides, |a, b| match b.is_zero() {
            true => Err(division_by_zero()),
            false => a.div_checked(b).map_err(overflow),
        }),
        // The smallest value modulo -1 is 0, not an overflow.
        Operation::Modulo => binary::<T>(sides, |a, b| match b.is_zero() {
            true => Err(division_by_zero()),
            false => Ok(a.mod_wrapping(b)),
        }),
        Operation::Negate => negate::<T>(sides, |a| a.neg_checked().map_err(overflow)),
    }
}

/// What float arithmetic needs to know of its operands.
trait Float: Copy {
    fn zero(self) -> bool;
    fn infinite(self) -> bool;
    fn nan(self) -> bool;
}

macro_rules! float {
    ($($ty:ty)*) => {$(
        impl Float for $ty {
            fn zero(self) -> bool {
                self == 0.0
            }
            fn infinite(self) -> bool {
                self.is_infinite()
            }
            fn nan(self) -> bool {
                self.is_nan()
            }
        }
    )*};
}
float!(f32 f64);

fn floats<T: ArrowPrimitiveType>(operation: Operation, sides: &[Side]) -> Result<ArrayRef, ArrowError>
where
    T::Native: ArrowNativeTypeOp + Float,
{
    fn range<F: Float>(result: F, infinite: bool, zero: bool) -> Result<F, ArrowError> {
        let fault = |what: &str| sql(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("value out of range: {what}"));
        match result {
            r if r.infinite() && !infinite => Err(fault("overflow")),
            r if r.zero() && !zero => Err(fault("underflow")),
            r => Ok(r),
        }
    }
    match operation {
        Operation::Add => binary::<T>(sides, |a, b| range(a.add_wrapping(b), a.infinite() || b.infinite(), true)),
        Operation::Subtract => binary::<T>(sides, |a, b| range(a.sub_wrapping(b), a.infinite() || b.infinite(), true)),
        Operation::Multiply => {
            binary::<T>(sides, |a, b| range(a.mul_wrapping(b), a.infinite() || b.infinite(), a.zero() || b.zero()))
        }
        Operation::Divide => binary::<T>(sides, |a, b| match b.zero() && !a.nan() {
            true => Err(division_by_zero()),
            false => range(a.div_wrapping(b), a.infinite(), a.zero() || b.infinite()),
        }),
        Operation::Negate => negate::<T>(sides, |a| Ok(a.neg_wrapping())),
        Operation::Modulo => Err(ArrowError::NotYetImplemented("modulo of floats".to_owned())),
    }
}
