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
    len: usize,
    /// What every string has behind the prefix, while that is the same for all.
    width: usize,
    /// Otherwise: where each string ends in `bytes`.
    ends: Vec<u32>,
}

impl Packed {
    pub(super) fn len(&self) -> usize {
        self.len
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

    fn is_even(&self) -> bool {
        self.ends.is_empty()
    }

    fn start(&self, at: usize) -> usize {
        if self.is_even() {
            self.prefix + at * self.width
        } else if at == 0 {
            self.prefix
        } else {
            self.ends[at - 1] as usize
        }
    }

    fn suffix(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.start(at + 1)]
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
            Ordering::Greater => return Err(self.len),
            Ordering::Equal => {}
        }
        if self.is_even() && tail.len() == self.width {
            let suffixes = &self.bytes[self.prefix..];
            match self.width {
                1 => return search_even::<1>(suffixes, tail),
                2 => return search_even::<2>(suffixes, tail),
                3 => return search_even::<3>(suffixes, tail),
                4 => return search_even::<4>(suffixes, tail),
                8 => return search_even::<8>(suffixes, tail),
                _ => {}
            }
        }
        let (mut low, mut high) = (0, self.len);
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
        if self.len == 0 {
            *self = Packed::from_sorted(&[key]);
            return;
        }
        let shared = common_prefix(self.prefix(), key);
        if shared < self.prefix {
            self.shorten_prefix(shared);
        }
        let tail = &key[self.prefix..];
        if self.is_even() && tail.len() != self.width {
            self.ends = (0..self.len).map(|at| self.start(at + 1) as u32).collect();
        }
        let start = self.start(at);
        let old = self.bytes.len();
        reserve(&mut self.bytes, tail.len());
        self.bytes.resize(old + tail.len(), 0);
        self.bytes.copy_within(start..old, start + tail.len());
        self.bytes[start..start + tail.len()].copy_from_slice(tail);
        self.len += 1;
        if self.is_even() {
            return;
        }
        for end in &mut self.ends[at..] {
            *end += tail.len() as u32;
        }
        reserve(&mut self.ends, 1);
        self.ends.insert(at, (start + tail.len()) as u32);
    }

    pub(super) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.start(at + 1));
        self.bytes.drain(start..end);
        self.len -= 1;
        if self.is_even() {
            return;
        }
        self.ends.remove(at);
        for later in &mut self.ends[at..] {
            *later -= (end - start) as u32;
        }
    }

    /// Takes out the strings from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Packed {
        let right = self.slice(at, self.len);
        *self = self.slice(0, at);
        right
    }

    /// Appends all strings of `right`, which are greater.
    pub(super) fn append(&mut self, right: &Packed) {
        let mut all = Vec::new();
        let mut ends = vec![0];
        for (packed, len) in [(&*self, self.len), (right, right.len)] {
            for at in 0..len {
                packed.write(at, &mut all);
                ends.push(all.len());
            }
        }
        let strings: Vec<&[u8]> = ends.windows(2).map(|pair| &all[pair[0]..pair[1]]).collect();
        *self = Packed::from_sorted(&strings);
    }

    fn slice(&self, from: usize, to: usize) -> Packed {
        let strings: Vec<&[u8]> = (from..to).map(|at| self.suffix(at)).collect();
        Packed::from_parts(self.prefix(), &strings)
    }

    fn from_sorted(strings: &[&[u8]]) -> Packed {
        Packed::from_parts(&[], strings)
    }

    /// Packs sorted strings that all have `head` before them.
    fn from_parts(head: &[u8], strings: &[&[u8]]) -> Packed {
        let (Some(first), Some(last)) = (strings.first(), strings.last()) else { return Packed::default() };
        // The strings are sorted: what the first and the last share, all share.
        let shared = common_prefix(first, last).min(MAX_PREFIX - head.len());
        let prefix = head.len() + shared;
        let width = first.len() - shared;
        let even = strings.iter().all(|string| string.len() == first.len());
        let total: usize = strings.iter().map(|string| string.len() - shared).sum();
        let mut bytes = Vec::with_capacity(prefix + total);
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(&first[..shared]);
        let mut ends = Vec::with_capacity(if even { 0 } else { strings.len() });
        for string in strings {
            bytes.extend_from_slice(&string[shared..]);
            if !even {
                ends.push(bytes.len() as u32);
            }
        }
        Packed { bytes, prefix, len: strings.len(), width, ends }
    }

    fn shorten_prefix(&mut self, shared: usize) {
        let mut all = Vec::with_capacity(self.bytes.len() + self.len * (self.prefix - shared));
        let mut ends = vec![0];
        for at in 0..self.len {
            all.extend_from_slice(&self.bytes[shared..self.prefix]);
            all.extend_from_slice(self.suffix(at));
            ends.push(all.len());
        }
        let mut bytes = Vec::with_capacity(shared + all.len());
        bytes.extend_from_slice(&self.bytes[..shared]);
        bytes.extend_from_slice(&all);
        let uneven = !self.is_even();
        self.width += self.prefix - shared;
        self.bytes = bytes;
        self.prefix = shared;
        if uneven {
            self.ends = ends.into_iter().skip(1).map(|end| (shared + end) as u32).collect();
        }
    }
}

/// The search among strings of one small width, which compare as numbers.
fn search_even<const W: usize>(suffixes: &[u8], tail: &[u8]) -> Result<usize, usize> {
    let (suffixes, _) = suffixes.as_chunks::<W>();
    let Some(tail) = tail.first_chunk::<W>().map(number) else { return Err(0) };
    suffixes.binary_search_by(|suffix| number(suffix).cmp(&tail))
}

#[inline]
fn number<const W: usize>(bytes: &[u8; W]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
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
