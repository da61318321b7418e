//! Nodes of the tree: leaves and inner nodes, and the steps that keep them neither too full nor too empty.

use super::packed::{Packed, common_prefix, reserve};
use crate::store::cost::Cost;
use std::sync::Arc;

/// Most keys of a leaf and children of an inner node.
const FANOUT: usize = 128;
/// Bytes of keys beyond which a node is split although it has few of them.
const MAX_FILLED: usize = 24 << 10;
/// A node with fewer entries than this joins its neighbour if both fit.
const SPARSE: usize = FANOUT / 4;

#[derive(Clone, Debug)]
pub(in crate::store) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Leaf {
    pub(super) keys: Packed,
    pub(super) rows: Vec<u32>,
}

/// `children[i + 1]` has the keys from `separators[i]` on.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Inner {
    separators: Packed,
    pub(super) children: Vec<Arc<Node>>,
}

/// A node that was too full gave its upper part to a new right neighbour.
pub(super) struct Split {
    pub(super) separator: Vec<u8>,
    pub(super) right: Arc<Node>,
}

impl Leaf {
    pub(super) fn get(&self, key: &[u8]) -> Option<u32> {
        let at = self.keys.search(key).ok()?;
        self.rows.get(at).copied()
    }
}

impl Inner {
    pub(super) fn child(&self, key: &[u8]) -> &Node {
        &self.children[self.child_index(key)]
    }

    pub(super) fn child_index(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }
}

impl Node {
    pub(super) fn empty() -> Node {
        Node::Leaf(Leaf::default())
    }

    /// A new topmost node over two.
    pub(super) fn above(left: Arc<Node>, separator: &[u8], right: Arc<Node>) -> Node {
        let mut separators = Packed::default();
        separators.insert(0, separator);
        Node::Inner(Inner { separators, children: vec![left, right] })
    }

    /// Keys of a leaf, children of an inner node.
    fn entries(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.rows.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    fn keys(&self) -> &Packed {
        match self {
            Node::Leaf(leaf) => &leaf.keys,
            Node::Inner(inner) => &inner.separators,
        }
    }

    fn is_full(&self) -> bool {
        self.entries() > FANOUT || (self.keys().filled() > MAX_FILLED && self.entries() > 3)
    }

    /// Bytes of this node alone.
    pub(in crate::store) fn bytes(&self) -> usize {
        size_of::<Node>()
            + match self {
                Node::Leaf(leaf) => leaf.keys.heap_bytes() + leaf.rows.capacity() * size_of::<u32>(),
                Node::Inner(inner) => {
                    inner.separators.heap_bytes() + inner.children.capacity() * size_of::<Arc<Node>>()
                }
            }
    }

    /// Bytes of this node and all below it.
    pub(super) fn tree_bytes(&self) -> usize {
        self.bytes()
            + match self {
                Node::Leaf(_) => 0,
                Node::Inner(inner) => inner.children.iter().map(|child| child.tree_bytes()).sum(),
            }
    }

    /// The nodes right below, for dropping them one by one.
    pub(in crate::store) fn into_children(self) -> Vec<Arc<Node>> {
        match self {
            Node::Leaf(_) => Vec::new(),
            Node::Inner(inner) => inner.children,
        }
    }
}

/// The node for writing: itself when nobody else holds it, else a copy.
fn own<'a>(node: &'a mut Arc<Node>, cost: &mut Cost) -> &'a mut Node {
    if Arc::strong_count(node) > 1 {
        let copy = Node::clone(node);
        // The copy has no spare room, so it may be smaller than the original.
        cost.resized(node.bytes(), copy.bytes());
        cost.copied += node.bytes();
        *node = Arc::new(copy);
    }
    Arc::make_mut(node)
}

/// Enters a key below `node`: the row it had before, and the new right neighbour if the node had to be split.
pub(super) fn insert(node: &mut Arc<Node>, key: &[u8], row: u32, cost: &mut Cost) -> (Option<u32>, Option<Split>) {
    let node = own(node, cost);
    let before = node.bytes();
    let (old, at) = match node {
        Node::Leaf(leaf) => match leaf.keys.search(key) {
            Ok(at) => return (leaf.rows.get_mut(at).map(|old| std::mem::replace(old, row)), None),
            Err(at) => {
                leaf.keys.insert(at, key);
                reserve(&mut leaf.rows, 1);
                leaf.rows.insert(at, row);
                (None, at)
            }
        },
        Node::Inner(inner) => {
            let at = inner.child_index(key);
            let (old, split) = insert(&mut inner.children[at], key, row, cost);
            let Some(Split { separator, right }) = split else { return (old, None) };
            inner.separators.insert(at, &separator);
            reserve(&mut inner.children, 1);
            inner.children.insert(at + 1, right);
            (old, at + 1)
        }
    };
    let split = node.is_full().then(|| split(node, at));
    let right = split.as_ref().map_or(0, |split| split.right.bytes());
    cost.resized(before, node.bytes() + right);
    (old, split)
}

/// Splits a node in halves; behind its last entry when that is the one that came in, so that ascending keys leave full nodes.
fn split(node: &mut Node, entered: usize) -> Split {
    let entries = node.entries();
    let at = if entered + 1 == entries { entries - 1 } else { entries / 2 };
    match node {
        Node::Leaf(leaf) => {
            let right = Leaf { keys: leaf.keys.split_off(at), rows: leaf.rows.split_off(at) };
            leaf.rows.shrink_to_fit();
            let separator = separator_of(&leaf.keys, &right.keys);
            Split { separator, right: Arc::new(Node::Leaf(right)) }
        }
        Node::Inner(inner) => {
            // The separator between the halves moves up.
            let separators = inner.separators.split_off(at);
            let mut separator = Vec::new();
            inner.separators.write(at - 1, &mut separator);
            inner.separators.remove(at - 1);
            let children = inner.children.split_off(at);
            inner.children.shrink_to_fit();
            Split { separator, right: Arc::new(Node::Inner(Inner { separators, children })) }
        }
    }
}

/// Separators longer than this are shortened. Short ones stay whole: of one length, they are searched faster.
const LONG_SEPARATOR: usize = 64;

/// A string, shorter than a long key, that is greater than all of `left` and not greater than any of `right`.
fn separator_of(left: &Packed, right: &Packed) -> Vec<u8> {
    let (mut last, mut first) = (Vec::new(), Vec::new());
    left.write(left.len() - 1, &mut last);
    right.write(0, &mut first);
    if first.len() > LONG_SEPARATOR {
        first.truncate(common_prefix(&last, &first) + 1);
    }
    first
}

/// Takes out a key that is below `node`.
pub(super) fn remove(node: &mut Arc<Node>, key: &[u8], cost: &mut Cost) {
    let node = own(node, cost);
    match node {
        Node::Leaf(leaf) => {
            if let Ok(at) = leaf.keys.search(key) {
                leaf.keys.remove(at);
                leaf.rows.remove(at);
            }
        }
        Node::Inner(inner) => {
            let at = inner.child_index(key);
            remove(&mut inner.children[at], key, cost);
            let entries = inner.children[at].entries();
            if entries == 0 {
                remove_child(inner, at, cost);
            } else if entries < SPARSE && inner.children.len() > 1 {
                join(inner, at.min(inner.children.len() - 2), cost);
            }
        }
    }
}

fn remove_child(inner: &mut Inner, at: usize, cost: &mut Cost) {
    let child = inner.children.remove(at);
    if inner.separators.len() > 0 {
        inner.separators.remove(at.saturating_sub(1));
    }
    // It was owned for the removal, so nobody else holds it.
    cost.resized(child.bytes(), 0);
}

/// Joins the children at `at` and `at + 1` when one node can hold both.
fn join(inner: &mut Inner, at: usize, cost: &mut Cost) {
    let (left, right) = (&inner.children[at], &inner.children[at + 1]);
    let fits = left.entries() + right.entries() <= FANOUT * 3 / 4;
    if !fits || left.keys().filled() + right.keys().filled() > MAX_FILLED / 2 {
        return;
    }
    let mut separator = Vec::new();
    inner.separators.write(at, &mut separator);
    inner.separators.remove(at);
    let right = inner.children.remove(at + 1);
    let right_bytes = right.bytes();
    let left = own(&mut inner.children[at], cost);
    let before = left.bytes();
    match (&mut *left, &*right) {
        (Node::Leaf(left), Node::Leaf(right)) => {
            left.keys.append(&right.keys);
            left.rows.extend_from_slice(&right.rows);
        }
        (Node::Inner(left), Node::Inner(right)) => {
            left.separators.insert(left.separators.len(), &separator);
            left.separators.append(&right.separators);
            left.children.extend(right.children.iter().cloned());
        }
        (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
            unreachable!("children of one node are of one height")
        }
    }
    cost.resized(before + right_bytes, left.bytes());
    if Arc::into_inner(right).is_none() {
        cost.copied += right_bytes;
    }
}

/// Takes away topmost nodes that no longer decide anything.
pub(super) fn lower(root: &mut Arc<Node>, cost: &mut Cost) {
    loop {
        let next = match &**root {
            Node::Leaf(_) => return,
            Node::Inner(inner) => match inner.children.as_slice() {
                [] => Arc::new(Node::empty()),
                [only] => Arc::clone(only),
                _ => return,
            },
        };
        // The topmost node was owned for the removal, so nobody else holds it.
        cost.resized(root.bytes(), if next.entries() == 0 { next.bytes() } else { 0 });
        *root = next;
    }
}
