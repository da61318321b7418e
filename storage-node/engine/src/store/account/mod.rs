//! A worker's memory: what its roots hold, its limit, and the bounded dropping of what is finished.
//!
//! Counted are the bytes of every vector, tree node and chunk once, however many roots share it: growth and copies when changes are applied, and
//! what becomes free when [`Account::drop_some`] lets go of the last share. Batches must be let go before the root that lent them, because their
//! shares are not counted.

use crate::store::change::ChangeList;
use crate::store::cost::Cost;
use crate::store::table::{Chunk, TableRows};
use crate::store::tree::Node;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult, SqlState};

/// The memory account of one worker, for all its partitions.
#[derive(Debug)]
pub struct Account {
    limit: usize,
    used: usize,
    finished: Vec<Piece>,
    building: bool,
}

/// Something that a finished root held and that may now be free.
#[derive(Debug)]
enum Piece {
    Chunks(imbl::Vector<Arc<Chunk>>),
    Node(Node),
}

/// Memory that is kept free for applying something for certain.
#[derive(Debug)]
pub struct Reserve(usize);

impl Reserve {
    pub fn bytes(&self) -> usize {
        self.0
    }
}

impl Account {
    /// An account that refuses growth beyond `limit` bytes.
    pub fn new(limit: usize) -> Account {
        Account { limit, used: 0, finished: Vec::new(), building: false }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes of all that is alive: current roots and what older roots still hold.
    pub fn used(&self) -> usize {
        self.used
    }

    pub fn would_exceed(&self, bytes: usize) -> bool {
        self.used.saturating_add(bytes) > self.limit
    }

    /// 53200 when `bytes` more would exceed the limit.
    pub fn room(&self, bytes: usize) -> SqlResult<()> {
        match self.would_exceed(bytes) {
            false => Ok(()),
            true => Err(SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory")),
        }
    }

    /// Adds what a step cost.
    pub(in crate::store) fn settle(&mut self, cost: Cost) {
        self.used = self.used.saturating_add_signed(cost.grown).saturating_add(cost.copied);
    }

    /// Notes that something takes so many bytes.
    pub(in crate::store) fn take(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Notes that something takes no longer so many bytes.
    pub(in crate::store) fn free(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Notes that something of which `known` bytes are counted takes so many now.
    pub(crate) fn follow(&mut self, known: &mut usize, bytes: usize) {
        if *known != bytes {
            self.used = (self.used + bytes).saturating_sub(std::mem::replace(known, bytes));
        }
    }

    /// Keeps bytes free. Roots share what was reserved for them: the last share that is given back ends it.
    pub(in crate::store) fn reserve(&mut self, bytes: usize) -> Arc<Reserve> {
        self.take(bytes);
        Arc::new(Reserve(bytes))
    }

    pub(in crate::store) fn give_back(&mut self, reserve: Arc<Reserve>) {
        self.free(Arc::into_inner(reserve).map_or(0, |reserve| reserve.0));
    }

    /// Drops a share of encoded changes; the last one frees them.
    pub(in crate::store) fn finish_bytes(&mut self, bytes: Arc<Vec<u8>>) {
        self.free(Arc::into_inner(bytes).map_or(0, |bytes| bytes.capacity()));
    }

    /// Drops shares of encoded changes.
    pub(in crate::store) fn finish_list(&mut self, changes: ChangeList) {
        changes.into_pieces().for_each(|piece| self.finish_bytes(piece));
    }

    /// Takes a table that a root no longer has. Where others share it nothing is left to be done: the last one gives it back.
    pub(in crate::store) fn finish_table(&mut self, table: Arc<TableRows>) {
        if let Some(table) = Arc::into_inner(table) {
            let (chunks, indexes) = table.into_parts();
            self.finished.push(Piece::Chunks(chunks));
            indexes.into_iter().for_each(|index| self.finish_node(index.into_tree().into_root()));
        }
    }

    /// Drops a table of an overlay, which differs in these chunks only from one that is still there; how many nodes it had of its own is bounded by what
    /// was changed.
    pub(in crate::store) fn finish_overlaid(&mut self, table: Arc<TableRows>, touched: &[usize]) {
        let Some(table) = Arc::into_inner(table) else { return };
        let (chunks, indexes) = table.into_parts();
        let touched: SmallVec<[Arc<Chunk>; 4]> = touched.iter().filter_map(|at| chunks.get(*at)).cloned().collect();
        drop(chunks);
        let freed: usize = touched.into_iter().filter_map(Arc::into_inner).map(Chunk::drop_share).sum();
        self.free(freed);
        let before = self.finished.len();
        indexes.into_iter().for_each(|index| self.finish_node(index.into_tree().into_root()));
        // What others write meanwhile would be copied because of what is not dropped yet.
        while self.finished.len() > before {
            self.drop_some(1);
        }
    }

    /// Takes the topmost node of an index that a table no longer has.
    pub(in crate::store) fn finish_node(&mut self, node: Arc<Node>) {
        self.finished.extend(Arc::into_inner(node).map(Piece::Node));
    }

    /// Drops up to `pieces` chunks and index nodes of finished roots, and returns the bytes that became free. Call it until
    /// [`Account::is_clean`], a few pieces per turn of the event loop.
    pub fn drop_some(&mut self, pieces: usize) -> usize {
        let mut freed = 0;
        for _ in 0..pieces {
            let Some(piece) = self.finished.pop() else { break };
            freed += self.drop_piece(piece);
        }
        self.used = self.used.saturating_sub(freed);
        freed
    }

    /// Some root of the worker has indexes to be built: work in steps, like dropping.
    pub(in crate::store) fn note_building(&mut self) {
        self.building = true;
    }

    /// Whether a root may have indexes to be built.
    pub fn is_building(&self) -> bool {
        self.building
    }

    /// No root has.
    pub fn all_built(&mut self) {
        self.building = false;
    }

    /// Nothing is waiting to be dropped.
    pub fn is_clean(&self) -> bool {
        self.finished.is_empty()
    }

    /// Drops one piece; what was below it waits in turn. A piece that somebody else still holds costs nothing and frees nothing.
    fn drop_piece(&mut self, piece: Piece) -> usize {
        match piece {
            Piece::Chunks(mut chunks) => {
                let last = chunks.pop_back();
                if !chunks.is_empty() {
                    self.finished.push(Piece::Chunks(chunks));
                }
                last.and_then(Arc::into_inner).map_or(0, Chunk::drop_share)
            }
            Piece::Node(node) => {
                let bytes = node.bytes();
                self.finished.extend(node.into_children().into_iter().filter_map(Arc::into_inner).map(Piece::Node));
                bytes
            }
        }
    }
}
