//! One column of one chunk: values in the layout of an Arrow array, which borrows them without copying.
//!
//! A column whose rows all have one value (NULL, a default, a constant of a bulk load) holds it once; the second distinct value makes a vector.

mod fixed;
mod bits;
mod view;
mod array;

pub use bits::Bits;
pub(in crate::store) use fixed::{lend, push, set, vector_bytes};

use crate::store::cost::Cost;
use std::sync::Arc;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::types::SqlType;
use toroid_common::types::interval::Interval;
use toroid_common::types::numeric::NumericRef;
use view::Views;

/// The values of one column for the rows of one chunk. Its type is known from the table.
#[derive(Clone, Debug)]
pub struct ColumnChunk {
    values: Values,
    /// Absent while no row is NULL.
    valid: Option<Bits>,
}

#[derive(Clone, Debug)]
enum Values {
    /// All rows have this value.
    Constant(Arc<Datum>),
    Bool(Bits),
    Int16(Arc<Vec<i16>>),
    Int32(Arc<Vec<i32>>),
    Int64(Arc<Vec<i64>>),
    Unsigned32(Arc<Vec<u32>>),
    Float32(Arc<Vec<f32>>),
    Float64(Arc<Vec<f64>>),
    Bytes16(Arc<Vec<i128>>),
    View(Views),
}

impl ColumnChunk {
    /// A column in which every row has `value`.
    pub fn constant(value: Arc<Datum>) -> ColumnChunk {
        ColumnChunk { values: Values::Constant(value), valid: None }
    }

    /// The value of row `at`.
    pub fn get(&self, at: usize, ty: SqlType) -> DatumRef<'_> {
        if self.valid.as_ref().is_some_and(|valid| !valid.get(at)) {
            return DatumRef::Null;
        }
        match &self.values {
            Values::Constant(value) => Datum::borrow(value),
            Values::Bool(values) => DatumRef::Bool(values.get(at)),
            Values::Int16(values) => values.get(at).map_or(DatumRef::Null, |v| DatumRef::Int2(*v)),
            Values::Int32(values) => values.get(at).map_or(DatumRef::Null, |v| int32(*v, ty)),
            Values::Int64(values) => values.get(at).map_or(DatumRef::Null, |v| int64(*v, ty)),
            Values::Unsigned32(values) => values.get(at).map_or(DatumRef::Null, |v| DatumRef::Oid(*v)),
            Values::Float32(values) => values.get(at).map_or(DatumRef::Null, |v| DatumRef::Float4(*v)),
            Values::Float64(values) => values.get(at).map_or(DatumRef::Null, |v| DatumRef::Float8(*v)),
            Values::Bytes16(values) => values.get(at).map_or(DatumRef::Null, |v| bytes16(v.to_ne_bytes(), ty)),
            Values::View(values) => view(values.get(at), ty),
        }
    }

    /// Appends a value to a column of `len` rows.
    pub fn push(&mut self, value: DatumRef<'_>, ty: SqlType, len: usize, cost: &mut Cost) {
        if let Values::Constant(constant) = &mut self.values {
            if len == 0 && !same(Datum::borrow(constant), value) {
                *constant = Arc::new(value.to_owned());
            }
            if len == 0 || same(Datum::borrow(constant), value) {
                return;
            }
            self.spread(ty, len, cost);
        }
        self.note_null(value.is_null(), len, cost);
        if let Some(valid) = &mut self.valid {
            valid.push(!value.is_null(), cost);
        }
        match &mut self.values {
            Values::Constant(_) => {}
            Values::Bool(values) => values.push(bool_of(value), cost),
            Values::Int16(values) => push(values, int16_of(value), cost),
            Values::Int32(values) => push(values, int32_of(value), cost),
            Values::Int64(values) => push(values, int64_of(value), cost),
            Values::Unsigned32(values) => push(values, unsigned32_of(value), cost),
            Values::Float32(values) => push(values, float32_of(value), cost),
            Values::Float64(values) => push(values, float64_of(value), cost),
            Values::Bytes16(values) => push(values, bytes16_of(value), cost),
            Values::View(values) => values.push(bytes_of(&value), cost),
        }
    }

    /// Overwrites row `at` of a column of `len` rows.
    pub fn set(&mut self, at: usize, value: DatumRef<'_>, ty: SqlType, len: usize, cost: &mut Cost) {
        if let Values::Constant(constant) = &self.values {
            if same(Datum::borrow(constant), value) {
                return;
            }
            self.spread(ty, len, cost);
        }
        self.note_null(value.is_null(), len, cost);
        if let Some(valid) = &mut self.valid {
            valid.set(at, !value.is_null(), cost);
        }
        match &mut self.values {
            Values::Constant(_) => {}
            Values::Bool(values) => values.set(at, bool_of(value), cost),
            Values::Int16(values) => set(values, at, int16_of(value), cost),
            Values::Int32(values) => set(values, at, int32_of(value), cost),
            Values::Int64(values) => set(values, at, int64_of(value), cost),
            Values::Unsigned32(values) => set(values, at, unsigned32_of(value), cost),
            Values::Float32(values) => set(values, at, float32_of(value), cost),
            Values::Float64(values) => set(values, at, float64_of(value), cost),
            Values::Bytes16(values) => set(values, at, bytes16_of(value), cost),
            Values::View(values) => values.set(at, bytes_of(&value), cost),
        }
    }

    /// Lets go of what a dead row holds outside the vector.
    pub fn clear(&mut self, at: usize, cost: &mut Cost) {
        if let Values::View(values) = &mut self.values {
            values.clear(at, cost);
        }
    }

    /// Bytes on the heap that this column alone accounts for. Constants are shared and count nothing.
    pub fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Constant(_) => 0,
            Values::Bool(values) => values.bytes(),
            Values::Int16(values) => vector_bytes(values),
            Values::Int32(values) => vector_bytes(values),
            Values::Int64(values) => vector_bytes(values),
            Values::Unsigned32(values) => vector_bytes(values),
            Values::Float32(values) => vector_bytes(values),
            Values::Float64(values) => vector_bytes(values),
            Values::Bytes16(values) => vector_bytes(values),
            Values::View(values) => values.bytes(),
        };
        values + self.valid.as_ref().map_or(0, Bits::bytes)
    }

    /// Bytes that a write to this column would copy because somebody else holds them.
    pub fn shared_bytes(&self) -> usize {
        match &self.values {
            Values::Constant(_) => 0,
            Values::Bool(values) => values.shared_bytes(),
            Values::Int16(values) => shared_bytes(values),
            Values::Int32(values) => shared_bytes(values),
            Values::Int64(values) => shared_bytes(values),
            Values::Unsigned32(values) => shared_bytes(values),
            Values::Float32(values) => shared_bytes(values),
            Values::Float64(values) => shared_bytes(values),
            Values::Bytes16(values) => shared_bytes(values),
            Values::View(values) => values.shared_bytes(),
        }
    }

    /// Gives up this share; the bytes that became free.
    pub fn drop_share(self) -> usize {
        let values = match self.values {
            Values::Constant(_) => 0,
            Values::Bool(values) => values.drop_share(),
            Values::Int16(values) => drop_share(values),
            Values::Int32(values) => drop_share(values),
            Values::Int64(values) => drop_share(values),
            Values::Unsigned32(values) => drop_share(values),
            Values::Float32(values) => drop_share(values),
            Values::Float64(values) => drop_share(values),
            Values::Bytes16(values) => drop_share(values),
            Values::View(values) => values.drop_share(),
        };
        values + self.valid.map_or(0, Bits::drop_share)
    }

    /// The validity bitmap begins with the first NULL.
    fn note_null(&mut self, is_null: bool, len: usize, cost: &mut Cost) {
        if is_null && self.valid.is_none() {
            self.valid = Some(Bits::filled(true, len, room(len), cost));
        }
    }

    /// Turns a constant into a vector of `len` values.
    fn spread(&mut self, ty: SqlType, len: usize, cost: &mut Cost) {
        let Values::Constant(constant) = &self.values else { return };
        let value = Datum::borrow(constant);
        let valid = value.is_null().then(|| Bits::filled(false, len, room(len), cost));
        let values = match ty {
            SqlType::Bool => Values::Bool(Bits::filled(bool_of(value), len, room(len), cost)),
            SqlType::Int2 => Values::Int16(filled(int16_of(value), len, cost)),
            SqlType::Int4 | SqlType::Date => Values::Int32(filled(int32_of(value), len, cost)),
            SqlType::Int8 | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz => {
                Values::Int64(filled(int64_of(value), len, cost))
            }
            SqlType::Oid | SqlType::Regclass | SqlType::Regtype => {
                Values::Unsigned32(filled(unsigned32_of(value), len, cost))
            }
            SqlType::Float4 => Values::Float32(filled(float32_of(value), len, cost)),
            SqlType::Float8 => Values::Float64(filled(float64_of(value), len, cost)),
            SqlType::Uuid | SqlType::Interval => Values::Bytes16(filled(bytes16_of(value), len, cost)),
            SqlType::Numeric
            | SqlType::Text
            | SqlType::Varchar
            | SqlType::Bpchar
            | SqlType::Bytea
            | SqlType::Json
            | SqlType::Jsonb
            | SqlType::Name
            | SqlType::Char
            | SqlType::Unknown
            | SqlType::Void
            | SqlType::Array(_) => Values::View(Views::filled(bytes_of(&value), len, room(len), cost)),
        };
        self.values = values;
        self.valid = valid;
    }
}

/// Room for a vector of `len` values that is about to grow by one.
fn room(len: usize) -> usize {
    (len + 1).next_power_of_two().max(4)
}

fn filled<T: Copy>(value: T, len: usize, cost: &mut Cost) -> Arc<Vec<T>> {
    let mut values = Vec::with_capacity(room(len));
    values.resize(len, value);
    cost.resized(0, vector_bytes(&values));
    Arc::new(values)
}

fn shared_bytes<T>(values: &Arc<Vec<T>>) -> usize {
    if Arc::strong_count(values) > 1 { vector_bytes(values) } else { 0 }
}

fn drop_share<T>(values: Arc<Vec<T>>) -> usize {
    Arc::into_inner(values).map_or(0, |values| vector_bytes(&values))
}

/// Whether two values are the same bit for bit: `-0` is not `0` here.
pub fn same(a: DatumRef<'_>, b: DatumRef<'_>) -> bool {
    match (a, b) {
        (DatumRef::Float4(a), DatumRef::Float4(b)) => a.to_bits() == b.to_bits(),
        (DatumRef::Float8(a), DatumRef::Float8(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

fn int32(value: i32, ty: SqlType) -> DatumRef<'static> {
    if ty == SqlType::Date { DatumRef::Date(value) } else { DatumRef::Int4(value) }
}

fn int64(value: i64, ty: SqlType) -> DatumRef<'static> {
    match ty {
        SqlType::Time => DatumRef::Time(value),
        SqlType::Timestamp => DatumRef::Timestamp(value),
        SqlType::Timestamptz => DatumRef::Timestamptz(value),
        _ => DatumRef::Int8(value),
    }
}

fn bytes16(value: [u8; 16], ty: SqlType) -> DatumRef<'static> {
    match ty {
        SqlType::Interval => DatumRef::Interval(Interval::from_bytes(value)),
        _ => DatumRef::Uuid(value),
    }
}

fn view(bytes: &[u8], ty: SqlType) -> DatumRef<'_> {
    match ty {
        SqlType::Bytea => DatumRef::Bytea(bytes),
        SqlType::Numeric => NumericRef::decode(bytes).map_or(DatumRef::Null, DatumRef::Numeric),
        // Only text comes into a column of text.
        _ => DatumRef::Text(std::str::from_utf8(bytes).unwrap_or_default()),
    }
}

// A value of another type than its column's cannot come here: rows are decoded by the table's types. NULL stands as zero under the validity bitmap.

fn bool_of(value: DatumRef<'_>) -> bool {
    matches!(value, DatumRef::Bool(true))
}

fn int16_of(value: DatumRef<'_>) -> i16 {
    if let DatumRef::Int2(v) = value { v } else { 0 }
}

fn int32_of(value: DatumRef<'_>) -> i32 {
    if let DatumRef::Int4(v) | DatumRef::Date(v) = value { v } else { 0 }
}

fn int64_of(value: DatumRef<'_>) -> i64 {
    match value {
        DatumRef::Int8(v) | DatumRef::Time(v) | DatumRef::Timestamp(v) | DatumRef::Timestamptz(v) => v,
        _ => 0,
    }
}

fn unsigned32_of(value: DatumRef<'_>) -> u32 {
    if let DatumRef::Oid(v) = value { v } else { 0 }
}

fn float32_of(value: DatumRef<'_>) -> f32 {
    if let DatumRef::Float4(v) = value { v } else { 0.0 }
}

fn float64_of(value: DatumRef<'_>) -> f64 {
    if let DatumRef::Float8(v) = value { v } else { 0.0 }
}

fn bytes16_of(value: DatumRef<'_>) -> i128 {
    match value {
        DatumRef::Uuid(v) => i128::from_ne_bytes(v),
        DatumRef::Interval(v) => i128::from_ne_bytes(v.to_bytes()),
        _ => 0,
    }
}

fn bytes_of<'a>(value: &DatumRef<'a>) -> &'a [u8] {
    match value {
        DatumRef::Text(v) => v.as_bytes(),
        DatumRef::Bytea(v) => v,
        DatumRef::Numeric(v) => v.encode(),
        _ => &[],
    }
}
