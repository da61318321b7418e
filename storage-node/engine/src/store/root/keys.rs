//! The unique keys of one index that a statement's rows, or a write set's, have brought and taken away so far.

use std::collections::BTreeMap;
use toroid_common::id::{IndexId, TableId};

/// Unique keys that were brought and not taken away.
#[derive(Debug, Default)]
pub struct NewKeys {
    by_index: BTreeMap<(TableId, IndexId), Keys>,
}

impl NewKeys {
    pub(in crate::store) fn add(&mut self, index: (TableId, IndexId), key: &[u8]) {
        self.by_index.entry(index).or_default().put(key, true);
    }

    pub(super) fn has(&self, index: (TableId, IndexId), key: &[u8]) -> bool {
        self.by_index.get(&index).is_some_and(|keys| keys.get(key) == Some(true))
    }

    /// Bytes that they take, about.
    pub(in crate::store) fn memory(&self) -> usize {
        self.by_index.values().map(Keys::memory).sum()
    }
}

/// What an entry of the tree takes besides its key.
const ENTRY_BYTES: usize = 48;

/// Rows often come in the order of their key: such keys stand in one buffer, without a tree and without memory of their own.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Keys that came, each greater than the one before.
    ascending: Vec<u8>,
    ends: Vec<usize>,
    /// All others that came (true) or went (false); these speak first.
    others: BTreeMap<Vec<u8>, bool>,
    /// Bytes of their keys.
    other_bytes: usize,
}

impl Keys {
    /// Whether the statement brought this key or took it away; none when it did neither.
    pub(super) fn get(&self, key: &[u8]) -> Option<bool> {
        if let Some(came) = self.others.get(key) {
            return Some(*came);
        }
        if self.is_greatest(key) {
            return None;
        }
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.nth(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(true),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    pub(super) fn put(&mut self, key: &[u8], came: bool) {
        if came && self.is_greatest(key) && !self.others.contains_key(key) {
            self.ascending.extend_from_slice(key);
            self.ends.push(self.ascending.len());
        } else {
            let known = self.others.insert(key.to_vec(), came).is_some();
            self.other_bytes += if known { 0 } else { key.len() };
        }
    }

    fn memory(&self) -> usize {
        let tree = self.other_bytes + self.others.len() * ENTRY_BYTES;
        self.ascending.capacity() + self.ends.capacity() * size_of::<usize>() + tree
    }

    fn is_greatest(&self, key: &[u8]) -> bool {
        self.ends.len().checked_sub(1).is_none_or(|last| self.nth(last) < key)
    }

    fn nth(&self, n: usize) -> &[u8] {
        let start = n.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(n).copied().unwrap_or(start);
        self.ascending.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_remembered_in_whatever_order_they_come_and_go() {
        // A multiplier that is odd visits every number below the power of two once, in an order of its own.
        for step in [1_u64, 3, 5, 63] {
            let mut keys = Keys::default();
            let mut model = BTreeMap::new();
            for turn in 0..640 {
                let number = turn * step % 64;
                // Lengths differ, and the empty key is one of them.
                let key = &number.to_be_bytes()[8 - (number % 9) as usize..];
                assert_eq!(keys.get(key), model.get(key).copied(), "{step} {turn}");
                let came = turn % 7 != 3;
                keys.put(key, came);
                model.insert(key.to_vec(), came);
            }
            for (key, came) in &model {
                assert_eq!(keys.get(key), Some(*came));
            }
        }
    }

    #[test]
    fn ascending_keys_need_no_tree() {
        let mut keys = Keys::default();
        for number in 0..1_000_u64 {
            keys.put(&number.to_be_bytes(), true);
        }
        assert!(keys.others.is_empty());
        assert_eq!(keys.get(&500_u64.to_be_bytes()), Some(true));
        assert_eq!(keys.get(&1_000_u64.to_be_bytes()), None);
        keys.put(&500_u64.to_be_bytes(), false);
        assert_eq!(keys.get(&500_u64.to_be_bytes()), Some(false));
    }
}
