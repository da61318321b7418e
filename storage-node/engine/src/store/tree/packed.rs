//! Sorted byte strings side by side in one buffer, without the prefix that all of them share.
//!
//! Neighbours in an index agree in most of their bytes: sixteen-byte keys of a composite index cost one to three bytes each here, and a search
//! touches one small buffer instead of one allocation per key.

use std::cmp::Ordering;

/// Longest prefix that is taken out: bounds what a node grows by when a key without the prefix comes in.
const MAX_PREFIX: usize = 128;

/// Sorted, distinct byte strings.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    /// The shared prefix, then what follows it in each string.
    bytes: Vec<u8>,
    prefix: usize,
    /// Where each string ends in `bytes`.
    ends: Vec<u32>,
}

impl Packed {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes in use, which bound what a node may hold.
    pub(super) fn filled(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix]
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { self.prefix } else { self.ends[at - 1] as usize }
    }

    fn suffix(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    /// Appends string `at` to `out`.
    pub(super) fn write(&self, at: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(self.suffix(at));
    }

    /// Where `key` is, or where it would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (head, tail) = key.split_at(self.prefix.min(key.len()));
        match head.cmp(self.prefix()) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal => {}
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.suffix(middle).cmp(tail) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Puts `key` in at the place that [`Packed::search`] named.
    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        if self.ends.is_empty() {
            self.prefix = key.len().min(MAX_PREFIX);
            self.bytes.clear();
            reserve(&mut self.bytes, key.len());
            self.bytes.extend_from_slice(key);
            reserve(&mut self.ends, 1);
            self.ends.push(key.len() as u32);
            return;
        }
        let shared = common_prefix(self.prefix(), key);
        if shared < self.prefix {
            self.shorten_prefix(shared);
        }
        let tail = &key[self.prefix..];
        let start = self.start(at);
        reserve(&mut self.bytes, tail.len());
        let old = self.bytes.len();
        self.bytes.resize(old + tail.len(), 0);
        self.bytes.copy_within(start..old, start + tail.len());
        self.bytes[start..start + tail.len()].copy_from_slice(tail);
        for end in &mut self.ends[at..] {
            *end += tail.len() as u32;
        }
        reserve(&mut self.ends, 1);
        self.ends.insert(at, (start + tail.len()) as u32);
    }

    pub(super) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends[at] as usize);
        self.bytes.drain(start..end);
        self.ends.remove(at);
        for later in &mut self.ends[at..] {
            *later -= (end - start) as u32;
        }
    }

    /// Takes out the strings from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Packed {
        let right = self.slice(at, self.len());
        *self = self.slice(0, at);
        right
    }

    /// Appends all strings of `right`, which are greater.
    pub(super) fn append(&mut self, right: &Packed) {
        let mut all = Vec::new();
        let strings = [(&*self, self.len()), (right, right.len())];
        let keys = strings.into_iter().flat_map(|(packed, len)| (0..len).map(move |at| (packed, at)));
        let ends: Vec<usize> = keys
            .map(|(packed, at)| {
                packed.write(at, &mut all);
                all.len()
            })
            .collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        *self = Packed::from_sorted(starts.zip(&ends).map(|(start, end)| &all[start..*end]).collect());
    }

    /// Gives back room that is not needed, for a node that will not grow soon.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    fn slice(&self, from: usize, to: usize) -> Packed {
        if from == to {
            return Packed::default();
        }
        // The strings are sorted: what the first and the last share, all share.
        let shared = common_prefix(self.suffix(from), self.suffix(to - 1)).min(MAX_PREFIX - self.prefix);
        let mut bytes = Vec::with_capacity(self.ends[to - 1] as usize - self.start(from) + self.prefix + shared);
        bytes.extend_from_slice(self.prefix());
        bytes.extend_from_slice(&self.suffix(from)[..shared]);
        let mut ends = Vec::with_capacity(to - from);
        for at in from..to {
            bytes.extend_from_slice(&self.suffix(at)[shared..]);
            ends.push(bytes.len() as u32);
        }
        Packed { bytes, prefix: self.prefix + shared, ends }
    }

    fn from_sorted(strings: Vec<&[u8]>) -> Packed {
        let (Some(first), Some(last)) = (strings.first(), strings.last()) else { return Packed::default() };
        let prefix = common_prefix(first, last).min(MAX_PREFIX);
        let mut bytes = first[..prefix].to_vec();
        let mut ends = Vec::with_capacity(strings.len());
        for string in &strings {
            bytes.extend_from_slice(&string[prefix..]);
            ends.push(bytes.len() as u32);
        }
        Packed { bytes, prefix, ends }
    }

    fn shorten_prefix(&mut self, shared: usize) {
        let moved = &self.bytes[shared..self.prefix];
        let mut bytes = Vec::with_capacity(self.bytes.len() + (self.len() - 1) * moved.len());
        bytes.extend_from_slice(&self.bytes[..shared]);
        let mut ends = Vec::with_capacity(self.ends.capacity());
        for at in 0..self.len() {
            bytes.extend_from_slice(moved);
            bytes.extend_from_slice(self.suffix(at));
            ends.push(bytes.len() as u32);
        }
        *self = Packed { bytes, prefix: shared, ends };
    }
}

/// Makes room in quarters of the length: nodes are many, and doubling would leave a third of their memory unused.
pub(super) fn reserve<T>(values: &mut Vec<T>, more: usize) {
    if values.capacity() - values.len() < more {
        values.reserve_exact(more.max(values.len() / 4).max(4));
    }
}

/// How many leading bytes are alike.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(packed: &Packed) -> Vec<Vec<u8>> {
        (0..packed.len())
            .map(|at| {
                let mut out = Vec::new();
                packed.write(at, &mut out);
                out
            })
            .collect()
    }

    fn packed(keys: &[&[u8]]) -> Packed {
        let mut packed = Packed::default();
        for key in keys {
            let at = packed.search(key).unwrap_err();
            packed.insert(at, key);
        }
        packed
    }

    #[test]
    fn the_prefix_gives_way_to_keys_that_do_not_share_it() {
        let keys: [&[u8]; 7] = [b"abcx", b"abcy", b"abc", b"ab", b"b", b"", b"abcz"];
        let packed = packed(&keys);
        assert_eq!(all(&packed), [b"".as_slice(), b"ab", b"abc", b"abcx", b"abcy", b"abcz", b"b"]);
        assert!(keys.iter().all(|key| packed.search(key).is_ok()));
        assert_eq!([packed.search(b"a"), packed.search(b"abcxx"), packed.search(b"c")], [Err(1), Err(4), Err(7)]);
    }

    #[test]
    fn halves_find_their_own_prefix() {
        let mut left = packed(&[b"aa1", b"aa2", b"ab1", b"ab2"]);
        let right = left.split_off(2);
        assert_eq!((left.prefix(), right.prefix()), (b"aa".as_slice(), b"ab".as_slice()));
        left.append(&right);
        assert_eq!((left.prefix(), left.len()), (b"a".as_slice(), 4));
        left.remove(3);
        left.remove(0);
        assert_eq!(all(&left), [b"aa2", b"ab1"]);
    }

    #[test]
    fn long_prefixes_are_cut() {
        let long = [7; 500];
        let mut packed = packed(&[&long[..499], &long]);
        assert_eq!((packed.prefix, packed.search(&long)), (MAX_PREFIX, Ok(1)));
        let right = packed.split_off(1);
        assert_eq!((right.prefix, all(&right)), (MAX_PREFIX, vec![long.to_vec()]));
    }
}
