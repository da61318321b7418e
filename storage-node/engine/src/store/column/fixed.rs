//! Vectors behind a shared pointer: written in place by a single holder, copied otherwise, lent to Arrow as they are.

use crate::store::cost::Cost;
use arrow::buffer::Buffer;
use arrow::datatypes::{ArrowNativeType, ToByteSlice};
use std::sync::Arc;

/// The vector for writing: itself when nobody else holds it, else a copy with the same room.
pub(in crate::store) fn own<'a, T: Copy>(values: &'a mut Arc<Vec<T>>, cost: &mut Cost) -> &'a mut Vec<T> {
    if Arc::strong_count(values) > 1 {
        let mut copy = Vec::with_capacity(values.capacity());
        copy.extend_from_slice(values);
        cost.copied += vector_bytes(&copy);
        *values = Arc::new(copy);
    }
    Arc::make_mut(values)
}

/// Appends and notes what the vector grew by.
pub(in crate::store) fn push<T: Copy>(values: &mut Arc<Vec<T>>, value: T, cost: &mut Cost) {
    let values = own(values, cost);
    let before = values.capacity();
    values.push(value);
    cost.resized(before * size_of::<T>(), values.capacity() * size_of::<T>());
}

/// Overwrites one value.
pub(in crate::store) fn set<T: Copy>(values: &mut Arc<Vec<T>>, at: usize, value: T, cost: &mut Cost) {
    if let Some(slot) = own(values, cost).get_mut(at) {
        *slot = value;
    }
}

/// Bytes of a vector on the heap.
pub(in crate::store) fn vector_bytes<T>(values: &Vec<T>) -> usize {
    values.capacity() * size_of::<T>()
}

/// A share of a vector as bytes; it keeps the vector from being written in place until it is dropped.
struct Lent<T>(Arc<Vec<T>>);

impl<T: ArrowNativeType> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice().to_byte_slice()
    }
}

/// The vector as an Arrow buffer, without copying.
pub(in crate::store) fn lend<T: ArrowNativeType>(values: &Arc<Vec<T>>) -> Buffer {
    Buffer::from(bytes::Bytes::from_owner(Lent(Arc::clone(values))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_does_not_change() {
        let mut values = Arc::new(vec![1_i32, 2]);
        let lent = lend(&values);
        let address = values.as_ptr();
        let mut cost = Cost::default();
        set(&mut values, 0, 9, &mut cost);
        assert_eq!(lent.typed_data::<i32>(), [1, 2]);
        assert_eq!(lent.as_ptr().cast(), address, "lending copies nothing");
        assert_eq!((cost.copied, cost.grown), (8, 0));
        drop(lent);
        let address = values.as_ptr();
        set(&mut values, 1, 8, &mut cost);
        assert_eq!((values.as_ptr(), values.as_slice()), (address, [9, 8].as_slice()));
        assert_eq!(cost.copied, 8, "in place when nobody else holds it");
    }
}
