//! Encoded changes in pieces that roots, checkpoints and an open transaction share.

use super::Change;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::error::SqlResult;
use toroid_common::id::TableId;

/// Changes in order. Pieces are shared by clones and never change.
#[derive(Clone, Debug, Default)]
pub struct ChangeList {
    pieces: SmallVec<[Piece; 1]>,
    bytes: u64,
}

/// Whole changes, encoded; of a piece that was cut only the front counts.
#[derive(Clone, Debug)]
struct Piece {
    bytes: Arc<Vec<u8>>,
    length: usize,
}

impl ChangeList {
    /// Bytes of the encoded changes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends whole changes. Returns the memory that they take.
    pub(in crate::store) fn push(&mut self, mut changes: Vec<u8>) -> usize {
        if changes.is_empty() {
            return 0;
        }
        changes.shrink_to_fit();
        let (length, memory) = (changes.len(), changes.capacity());
        self.bytes += length as u64;
        self.pieces.push(Piece { bytes: Arc::new(changes), length });
        memory
    }

    /// Forgets all behind the first `keep` bytes, where a change must end. Returns the pieces that are no longer needed.
    pub(in crate::store) fn cut(&mut self, keep: u64) -> SmallVec<[Arc<Vec<u8>>; 1]> {
        let mut gone = SmallVec::new();
        while self.bytes > keep {
            let Some(last) = self.pieces.last_mut() else { break };
            let before = self.bytes - last.length as u64;
            if before < keep {
                last.length = (keep - before) as usize;
                self.bytes = keep;
            } else {
                self.bytes = before;
                gone.extend(self.pieces.pop().map(|piece| piece.bytes));
            }
        }
        gone
    }

    /// The pieces one after the other, each of whole changes.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| piece.bytes.get(..piece.length).unwrap_or_default())
    }

    /// The changes behind the first `from` bytes, where one must end.
    pub fn changes_from(&self, from: u64) -> impl Iterator<Item = SqlResult<Change<'_>>> {
        let mut skip = usize::try_from(from).unwrap_or(usize::MAX);
        self.pieces().flat_map(move |piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            Changes { input: piece.get(skipped..).unwrap_or_default() }
        })
    }

    /// All changes.
    pub fn changes(&self) -> impl Iterator<Item = SqlResult<Change<'_>>> {
        self.changes_from(0)
    }

    /// The tables whose rows are changed, and whether rows are named by number.
    pub(in crate::store) fn summary(&self) -> SqlResult<(SmallVec<[TableId; 2]>, bool)> {
        let (mut tables, mut own) = (SmallVec::new(), false);
        for change in self.changes() {
            let change = change?;
            own |= change.names_own();
            if let Some(table) = change.table_of_rows()
                && !tables.contains(&table)
            {
                tables.push(table);
            }
        }
        Ok((tables, own))
    }

    /// Memory of all pieces, however many share them.
    pub(in crate::store) fn memory(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.capacity()).sum()
    }

    pub(in crate::store) fn into_pieces(self) -> impl Iterator<Item = Arc<Vec<u8>>> {
        self.pieces.into_iter().map(|piece| piece.bytes)
    }
}

impl PartialEq for ChangeList {
    fn eq(&self, other: &ChangeList) -> bool {
        self.bytes == other.bytes && self.pieces().flatten().eq(other.pieces().flatten())
    }
}

/// The changes in these bytes, one after the other; ends with the first that cannot be read.
pub(in crate::store) fn changes_in(input: &[u8]) -> impl Iterator<Item = SqlResult<Change<'_>>> {
    Changes { input }
}

struct Changes<'a> {
    input: &'a [u8],
}

impl<'a> Iterator for Changes<'a> {
    type Item = SqlResult<Change<'a>>;

    fn next(&mut self) -> Option<SqlResult<Change<'a>>> {
        if self.input.is_empty() {
            return None;
        }
        let change = Change::read(&mut self.input);
        if change.is_err() {
            self.input = &[];
        }
        Some(change)
    }
}
