//! Walking a tree in key order.

use super::node::{Leaf, Node};
use smallvec::SmallVec;

/// Rows of a key range, in key order.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    /// The inner nodes above the current leaf, each with the child to visit next.
    above: SmallVec<[(&'a Node, usize); 6]>,
    leaf: Option<&'a Leaf>,
    at: usize,
    /// Where the range ends in the current leaf.
    end: usize,
    to: Option<Vec<u8>>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(root: &'a Node, from: &[u8], to: Option<Vec<u8>>) -> Cursor<'a> {
        let mut cursor = Cursor { above: SmallVec::new(), leaf: None, at: 0, end: 0, to };
        let mut node = root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_index(from);
                    cursor.above.push((node, at + 1));
                    node = &inner.children[at];
                }
                Node::Leaf(leaf) => {
                    cursor.enter(leaf);
                    cursor.at = leaf.keys.search(from).unwrap_or_else(|at| at);
                    return cursor;
                }
            }
        }
    }

    fn enter(&mut self, leaf: &'a Leaf) {
        let len = leaf.rows.len();
        self.end = match &self.to {
            Some(to) => leaf.keys.search(to).unwrap_or_else(|at| at),
            None => len,
        };
        self.at = 0;
        // The range ends in this leaf: nothing above it is of interest any more.
        if self.end < len {
            self.above.clear();
        }
        self.leaf = Some(leaf);
    }

    /// Goes to the leaf right of the current one; false when there is none.
    fn advance(&mut self) -> bool {
        while let Some((node, next)) = self.above.pop() {
            let Node::Inner(inner) = node else { continue };
            let Some(child) = inner.children.get(next) else { continue };
            self.above.push((node, next + 1));
            match &**child {
                Node::Inner(_) => self.above.push((child, 0)),
                Node::Leaf(leaf) => {
                    self.enter(leaf);
                    return true;
                }
            }
        }
        false
    }

    /// The row's key and position, the key appended to `out`.
    pub fn next_entry(&mut self, out: &mut Vec<u8>) -> Option<u32> {
        let row = self.next()?;
        if let Some(leaf) = self.leaf {
            leaf.keys.write(self.at - 1, out);
        }
        Some(row)
    }
}

impl Iterator for Cursor<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while self.at >= self.end {
            if !self.advance() {
                return None;
            }
        }
        let row = self.leaf.and_then(|leaf| leaf.rows.get(self.at)).copied();
        self.at += 1;
        row
    }
}
