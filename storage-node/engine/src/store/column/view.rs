//! Strings and byte strings as Arrow views: up to twelve bytes inline, longer ones in append-only blocks.

use super::fixed::{lend, own, push, vector_bytes};
use crate::store::cost::Cost;
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::ToByteSlice;
use std::sync::Arc;

/// Longest value that its view holds itself.
const INLINE: usize = 12;
/// Least room of a new block.
const MIN_BLOCK: usize = 256;
/// Room of a new block at most, unless one value needs more.
const MAX_BLOCK: usize = 64 << 10;
/// Dead bytes below this are not worth a compaction.
const MIN_DEAD: usize = 4 << 10;

/// The views of a column chunk with the blocks they point into. A block's bytes never change or move while anyone else holds it.
#[derive(Clone, Debug, Default)]
pub(super) struct Views {
    views: Arc<Vec<u128>>,
    blocks: Vec<Arc<Vec<u8>>>,
    /// Bytes in blocks, and how many of them no view points to any more.
    filled: usize,
    dead: usize,
}

impl Views {
    /// `len` equal values, with room for `capacity`.
    pub(super) fn filled(value: &[u8], len: usize, capacity: usize, cost: &mut Cost) -> Views {
        let mut all = Views::default();
        let mut views = Vec::with_capacity(capacity);
        for _ in 0..len {
            let view = all.view(value, cost);
            views.push(view);
        }
        cost.resized(0, vector_bytes(&views));
        all.views = Arc::new(views);
        all
    }

    pub(super) fn get(&self, at: usize) -> &[u8] {
        let Some(view) = self.views.get(at) else { return &[] };
        let len = *view as u32 as usize;
        let found = if len <= INLINE {
            // A view is its length in four bytes and then the value.
            self.views.as_slice().to_byte_slice().get(at * 16 + 4..at * 16 + 4 + len)
        } else {
            let start = (view >> 96) as usize;
            self.blocks.get((view >> 64) as u32 as usize).and_then(|block| block.get(start..start + len))
        };
        found.unwrap_or_default()
    }

    pub(super) fn push(&mut self, value: &[u8], cost: &mut Cost) {
        let view = self.view(value, cost);
        push(&mut self.views, view, cost);
    }

    pub(super) fn set(&mut self, at: usize, value: &[u8], cost: &mut Cost) {
        let view = self.view(value, cost);
        if let Some(slot) = own(&mut self.views, cost).get_mut(at) {
            let old = std::mem::replace(slot, view);
            self.forget(old, cost);
        }
    }

    /// Lets go of the bytes of a value that nobody will read again.
    pub(super) fn clear(&mut self, at: usize, cost: &mut Cost) {
        if self.views.get(at).is_some_and(|view| *view as u32 as usize > INLINE) {
            self.set(at, &[], cost);
        }
    }

    fn forget(&mut self, view: u128, cost: &mut Cost) {
        let len = view as u32 as usize;
        if len > INLINE {
            self.dead += len;
            if self.dead >= MIN_DEAD && self.dead * 2 > self.filled {
                self.compact(cost);
            }
        }
    }

    /// The view of a value, which is put into a block when it is long.
    fn view(&mut self, value: &[u8], cost: &mut Cost) -> u128 {
        let len = value.len() as u32;
        if value.len() <= INLINE {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            bytes[4..4 + value.len()].copy_from_slice(value);
            return u128::from_le_bytes(bytes);
        }
        let prefix = value.first_chunk::<4>().copied().map_or(0, u32::from_le_bytes);
        let (block, start) = self.append(value, cost);
        u128::from(len) | u128::from(prefix) << 32 | (block as u128) << 64 | (start as u128) << 96
    }

    /// Puts a long value at the end of the last block, or into a new one when that is full. Room grows with what is there, so that neither
    /// small chunks waste memory nor large ones have very many blocks.
    fn append(&mut self, value: &[u8], cost: &mut Cost) -> (usize, usize) {
        let fits = self.blocks.last().is_some_and(|block| block.capacity() - block.len() >= value.len());
        if !fits {
            let room = (self.filled / 4).clamp(MIN_BLOCK, MAX_BLOCK).max(value.len());
            self.blocks.push(Arc::new(Vec::with_capacity(room)));
            cost.resized(0, room);
        }
        self.filled += value.len();
        let number = self.blocks.len() - 1;
        let Some(block) = self.blocks.last_mut() else { return (0, 0) };
        let block = own(block, cost);
        let start = block.len();
        block.extend_from_slice(value);
        (number, start)
    }

    fn compact(&mut self, cost: &mut Cost) {
        let mut fresh = Views::default();
        let mut views = Vec::with_capacity(self.views.capacity());
        for at in 0..self.views.len() {
            let view = fresh.view(self.get(at), cost);
            views.push(view);
        }
        fresh.views = Arc::new(views);
        cost.resized(0, vector_bytes(&fresh.views));
        let old = std::mem::replace(self, fresh);
        let bytes = old.bytes();
        let freed = old.drop_share();
        cost.resized(bytes, 0);
        // What a root still holds was not freed: it lives beside the new blocks.
        cost.copied += bytes - freed;
    }

    /// The views and their blocks as Arrow holds them, without copying.
    pub(super) fn lend(&self) -> (ScalarBuffer<u128>, Vec<Buffer>) {
        (ScalarBuffer::new(lend(&self.views), 0, self.views.len()), self.blocks.iter().map(lend).collect())
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| vector_bytes(block)).sum();
        vector_bytes(&self.views) + blocks
    }

    /// Bytes that a write would copy because somebody else holds them.
    pub(super) fn shared_bytes(&self) -> usize {
        let block =
            self.blocks.last().filter(|block| Arc::strong_count(block) > 1).map_or(0, |block| vector_bytes(block));
        block + if Arc::strong_count(&self.views) > 1 { vector_bytes(&self.views) } else { 0 }
    }

    /// Gives up this share; the bytes that became free.
    pub(super) fn drop_share(self) -> usize {
        let views = Arc::into_inner(self.views).map_or(0, |views| vector_bytes(&views));
        let blocks = self.blocks.into_iter().filter_map(Arc::into_inner).map(|block| vector_bytes(&block));
        views + blocks.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(i: usize) -> Vec<u8> {
        format!("a value that is too long for its view: {i}").into_bytes()
    }

    #[test]
    fn inline_and_long_values_come_back() {
        let mut cost = Cost::default();
        let mut views = Views::filled(b"twelve bytes", 3, 4, &mut cost);
        views.push(b"thirteen byte", &mut cost);
        views.push(b"", &mut cost);
        views.set(1, &long(1), &mut cost);
        let all: Vec<&[u8]> = (0..5).map(|at| views.get(at)).collect();
        assert_eq!(all, [b"twelve bytes".as_slice(), &long(1), b"twelve bytes", b"thirteen byte", b""]);
        assert_eq!(views.bytes() as isize, cost.grown);
    }

    #[test]
    fn a_share_is_not_changed_by_appends_and_compaction() {
        let mut cost = Cost::default();
        let mut views = Views::default();
        (0..1000).for_each(|i| views.push(&long(i), &mut cost));
        assert_eq!((views.bytes() as isize, cost.copied), (cost.grown, 0));
        let held = views.clone();
        (0..1000).for_each(|i| views.set(i, if i % 3 == 0 { b"x" } else { b"0123456789abcdef" }, &mut cost));
        assert!((0..1000).all(|i| held.get(i) == long(i)));
        assert!((0..1000).all(|i| views.get(i) == if i % 3 == 0 { b"x".as_slice() } else { b"0123456789abcdef" }));
        assert_eq!(views.bytes() as isize, cost.grown);
        assert!(views.filled < 40_000, "half of what was dead is gone: {}", views.filled);
    }

    #[test]
    fn cleared_values_are_compacted_away() {
        let mut cost = Cost::default();
        let mut views = Views::default();
        (0..1000).for_each(|i| views.push(&long(i), &mut cost));
        (0..900).for_each(|i| views.clear(i, &mut cost));
        assert!((900..1000).all(|i| views.get(i) == long(i)));
        assert!(views.bytes() < 40_000);
        assert_eq!((views.bytes() as isize, cost.copied), (cost.grown, 0));
    }
}
