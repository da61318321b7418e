//! A queue of byte strings in one buffer: nothing is allocated per element.

use std::collections::VecDeque;

/// Dead bytes at the front that are worth moving the rest.
const COMPACT_BYTES: usize = 64 << 10;

/// Byte strings, first in, first out.
#[derive(Debug, Default)]
pub struct ByteQueue {
    bytes: Vec<u8>,
    /// Where in `bytes` each element ends, in order, counted from the first byte that was ever pushed.
    ends: VecDeque<u64>,
    /// The front element's first byte, counted so.
    front: u64,
    /// `bytes[0]`, counted so.
    base: u64,
}

impl ByteQueue {
    /// Appends what `write` appends to the buffer.
    pub fn push<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = write(&mut self.bytes);
        self.ends.push_back(self.base + self.bytes.len() as u64);
        result
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.ends.back().map_or(0, |end| (end - self.front) as usize)
    }

    /// Bytes of the elements from this one on.
    pub fn bytes_from(&self, index: usize) -> usize {
        let Some(end) = self.ends.back() else { return 0 };
        (*end - self.start(index).unwrap_or(*end)) as usize
    }

    /// How many elements, counted from this one, are no longer than `bytes` together; at least one, if there is one.
    pub fn fitting(&self, index: usize, bytes: usize) -> usize {
        let Some(start) = self.start(index) else { return 0 };
        let end = self.ends.partition_point(|end| *end <= start + bytes as u64);
        end.saturating_sub(index).max(usize::from(index < self.ends.len()))
    }

    /// Where an element begins.
    fn start(&self, index: usize) -> Option<u64> {
        match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied(),
            None => Some(self.front),
        }
    }

    /// The oldest element.
    pub fn front(&self) -> Option<&[u8]> {
        self.get(0)
    }

    /// An element by its distance from the oldest.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = self.start(index)?;
        self.bytes.get((start - self.base) as usize..(end - self.base) as usize)
    }

    /// Removes all but the oldest `len` elements.
    pub fn truncate(&mut self, len: usize) {
        if len < self.ends.len()
            && let Some(end) = self.start(len)
        {
            self.ends.truncate(len);
            self.bytes.truncate((end - self.base) as usize);
        }
    }

    /// Removes the oldest element.
    pub fn pop(&mut self) {
        let Some(end) = self.ends.pop_front() else { return };
        self.front = end;
        let dead = (self.front - self.base) as usize;
        if self.ends.is_empty() {
            self.bytes.clear();
            self.base = self.front;
            self.bytes.shrink_to(COMPACT_BYTES);
        } else if dead > COMPACT_BYTES && dead > self.bytes.len() / 2 {
            self.bytes.drain(..dead);
            self.base = self.front;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_elements_can_be_taken_back() {
        let mut queue = ByteQueue::default();
        ["a", "bb", "ccc", "dddd"].iter().for_each(|text| queue.push(|out| out.extend_from_slice(text.as_bytes())));
        queue.pop();
        assert_eq!((queue.bytes(), queue.bytes_from(1), queue.bytes_from(2), queue.bytes_from(3)), (9, 7, 4, 0));
        assert_eq!([0, 1, 2, 5, 100].map(|bytes| queue.fitting(0, bytes)), [1, 1, 1, 2, 3]);
        assert_eq!((queue.fitting(2, 0), queue.fitting(3, 9)), (1, 0));
        queue.truncate(1);
        queue.push(|out| out.push(b'e'));
        assert_eq!((queue.len(), queue.get(0), queue.get(1), queue.bytes()), (2, Some(&b"bb"[..]), Some(&b"e"[..]), 3));
        queue.truncate(0);
        assert_eq!((queue.len(), queue.front(), queue.bytes()), (0, None, 0));
    }

    #[test]
    fn elements_leave_in_the_order_they_came() {
        let mut queue = ByteQueue::default();
        let mut expected = VecDeque::new();
        for i in 0..20_000_u32 {
            queue.push(|out| out.extend_from_slice(&i.to_le_bytes()[..(i % 5) as usize]));
            expected.push_back(i);
            if i % 3 != 0 {
                let oldest: u32 = expected.pop_front().unwrap();
                assert_eq!(queue.front(), Some(&oldest.to_le_bytes()[..(oldest % 5) as usize]));
                queue.pop();
            }
            let middle = expected.len() / 2;
            let bytes = expected.get(middle).map(|i| i.to_le_bytes()[..(i % 5) as usize].to_vec());
            assert_eq!(queue.get(middle).map(<[u8]>::to_vec), bytes);
        }
        assert_eq!(queue.len(), expected.len());
        assert_eq!(queue.bytes(), expected.iter().map(|i| (i % 5) as usize).sum::<usize>());
        while !queue.is_empty() {
            queue.pop();
        }
        assert_eq!((queue.bytes(), queue.front()), (0, None));
    }
}
