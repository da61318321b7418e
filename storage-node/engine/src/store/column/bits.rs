//! Bitmaps in Arrow's layout: which values are valid, which are true, which rows live.

use super::fixed::{lend, own, vector_bytes};
use crate::store::cost::Cost;
use arrow::buffer::BooleanBuffer;
use std::sync::Arc;

/// A growing row of bits behind a shared pointer.
#[derive(Clone, Debug)]
pub struct Bits {
    bytes: Arc<Vec<u8>>,
    len: usize,
}

impl Bits {
    /// `len` equal bits, with room for `capacity`.
    pub fn filled(bit: bool, len: usize, capacity: usize, cost: &mut Cost) -> Bits {
        let mut bytes = Vec::with_capacity(capacity.max(len).div_ceil(8));
        bytes.resize(len.div_ceil(8), if bit { 0xff } else { 0 });
        cost.resized(0, vector_bytes(&bytes));
        Bits { bytes: Arc::new(bytes), len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, at: usize) -> bool {
        self.bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    }

    pub fn set(&mut self, at: usize, bit: bool, cost: &mut Cost) {
        if let Some(byte) = own(&mut self.bytes, cost).get_mut(at / 8) {
            *byte = (*byte & !(1 << (at % 8))) | (u8::from(bit) << (at % 8));
        }
    }

    pub fn push(&mut self, bit: bool, cost: &mut Cost) {
        let bytes = own(&mut self.bytes, cost);
        let before = vector_bytes(bytes);
        if self.len.is_multiple_of(8) {
            bytes.push(0);
        }
        cost.resized(before, vector_bytes(bytes));
        self.len += 1;
        self.set(self.len - 1, bit, cost);
    }

    /// The lowest position whose bit is not set.
    pub fn first_unset(&self) -> Option<usize> {
        let byte = self.bytes.iter().position(|byte| *byte != 0xff)?;
        let at = byte * 8 + self.bytes.get(byte)?.trailing_ones() as usize;
        (at < self.len).then_some(at)
    }

    /// The bits as Arrow holds them, without copying.
    pub fn lend(&self) -> BooleanBuffer {
        BooleanBuffer::new(lend(&self.bytes), 0, self.len)
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        vector_bytes(&self.bytes)
    }

    /// Bytes that a write would copy because somebody else holds them.
    pub fn shared_bytes(&self) -> usize {
        if Arc::strong_count(&self.bytes) > 1 { self.bytes() } else { 0 }
    }

    /// Gives up this share; the bytes that became free.
    pub fn drop_share(self) -> usize {
        Arc::into_inner(self.bytes).map_or(0, |bytes| vector_bytes(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_pushed_set_and_found() {
        let mut cost = Cost::default();
        let mut bits = Bits::filled(true, 3, 8, &mut cost);
        for _ in 0..20 {
            bits.push(true, &mut cost);
        }
        assert_eq!((bits.len(), bits.first_unset()), (23, None));
        bits.set(17, false, &mut cost);
        assert_eq!((bits.first_unset(), bits.get(17), bits.get(18)), (Some(17), false, true));
        let lent = bits.lend();
        bits.set(2, false, &mut cost);
        assert_eq!((lent.count_set_bits(), bits.first_unset()), (22, Some(2)));
        assert_eq!(bits.bytes() as isize, cost.grown);
    }

    #[test]
    fn unused_bits_of_the_last_byte_are_no_hole() {
        let bits = Bits::filled(true, 4, 4, &mut Cost::default());
        assert_eq!(bits.first_unset(), None);
    }
}
