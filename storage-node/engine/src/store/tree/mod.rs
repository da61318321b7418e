//! An ordered copy-on-write tree from memcomparable keys to row positions.
//!
//! A B+tree whose nodes are shared between roots: a write copies the nodes on its path that somebody else holds, and changes the others in
//! place. Our own rather than `imbl::OrdMap`, which took 0.77 µs for a get among a million entries (0.37 µs was `std`'s `BTreeMap`), three
//! times the memory per key, and leaves that stay half empty when keys ascend.

mod packed;
mod node;
mod cursor;

pub use cursor::Cursor;
pub(in crate::store) use node::Node;

use crate::store::cost::Cost;
use node::Split;
use std::sync::Arc;

/// Distinct keys in order, each with a row's position.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Arc<Node>,
    len: usize,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { root: Arc::new(Node::empty()), len: 0 }
    }
}

impl Tree {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The row with exactly this key.
    pub fn get(&self, key: &[u8]) -> Option<u32> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.get(key),
                Node::Inner(inner) => node = inner.child(key),
            }
        }
    }

    /// Rows from the first key that is not below `from` to the last one below `to`, in key order.
    pub fn range(&self, from: &[u8], to: Option<Vec<u8>>) -> Cursor<'_> {
        Cursor::new(&self.root, from, to)
    }

    /// Rows whose keys start with `prefix`, in key order.
    pub fn prefix(&self, prefix: &[u8]) -> Cursor<'_> {
        self.range(prefix, after_prefix(prefix))
    }

    /// Enters a key; the row that it had before, if it was there.
    pub fn insert(&mut self, key: &[u8], row: u32, cost: &mut Cost) -> Option<u32> {
        let (old, split) = node::insert(&mut self.root, key, row, cost);
        if let Some(Split { separator, right }) = split {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::empty()));
            let above = Node::above(left, &separator, right);
            cost.resized(0, above.bytes());
            self.root = Arc::new(above);
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a key out; the row that it had.
    pub fn remove(&mut self, key: &[u8], cost: &mut Cost) -> Option<u32> {
        // Looking first spares copying a path for a key that is not there.
        let row = self.get(key)?;
        node::remove(&mut self.root, key, cost);
        node::lower(&mut self.root, cost);
        self.len -= 1;
        Some(row)
    }

    /// Bytes of all nodes; walks the tree.
    pub fn bytes(&self) -> usize {
        self.root.tree_bytes()
    }

    /// Hands out the topmost node for dropping in steps.
    pub(super) fn into_root(self) -> Arc<Node> {
        self.root
    }
}

/// The first key behind all that start with `prefix`; none when there is no such key.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut after = prefix.get(..=last)?.to_vec();
    if let Some(byte) = after.last_mut() {
        *byte += 1;
    }
    Some(after)
}

#[cfg(test)]
mod tests;
