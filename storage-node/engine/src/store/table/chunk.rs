//! A chunk: up to `limits::CHUNK_ROWS` rows, column by column, with which of them live and what changed each last.

use crate::store::column::{Bits, ColumnChunk, push, set, vector_bytes};
use crate::store::cost::Cost;
use std::sync::Arc;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::id::Lsn;
use toroid_common::limits::CHUNK_ROWS;
use toroid_common::types::SqlType;

/// Rows side by side. Vectors grow with the rows: a chunk of few rows is small.
#[derive(Clone, Debug)]
pub(in crate::store) struct Chunk {
    /// Rows, dead ones too.
    len: usize,
    live: usize,
    /// Absent while all rows live.
    alive: Option<Bits>,
    changed: Arc<Vec<u64>>,
    columns: Vec<ColumnChunk>,
}

impl Chunk {
    pub(super) fn new(columns: usize, cost: &mut Cost) -> Chunk {
        let null = Arc::new(Datum::Null);
        let columns = (0..columns).map(|_| ColumnChunk::constant(Arc::clone(&null))).collect();
        let chunk = Chunk { len: 0, live: 0, alive: None, changed: Arc::default(), columns };
        cost.resized(0, chunk.own_bytes());
        chunk
    }

    /// The chunk for writing: itself when nobody else holds it, else a copy that shares all columns.
    pub(super) fn own<'a>(chunk: &'a mut Arc<Chunk>, cost: &mut Cost) -> &'a mut Chunk {
        if Arc::strong_count(chunk) > 1 {
            cost.copied += chunk.own_bytes();
        }
        Arc::make_mut(chunk)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn has_room(&self) -> bool {
        self.live < CHUNK_ROWS
    }

    pub(super) fn is_live(&self, at: usize) -> bool {
        at < self.len && self.alive.as_ref().is_none_or(|alive| alive.get(at))
    }

    pub(super) fn alive(&self) -> Option<&Bits> {
        self.alive.as_ref()
    }

    pub(super) fn changed(&self, at: usize) -> Lsn {
        Lsn(self.changed.get(at).copied().unwrap_or_default())
    }

    pub(super) fn column(&self, column: usize) -> Option<&ColumnChunk> {
        self.columns.get(column)
    }

    pub(super) fn value(&self, at: usize, column: usize, ty: SqlType) -> DatumRef<'_> {
        self.columns.get(column).map_or(DatumRef::Null, |values| values.get(at, ty))
    }

    /// Where the next row goes: the lowest place without a live row.
    pub(super) fn free_place(&self) -> usize {
        self.alive.as_ref().and_then(Bits::first_unset).unwrap_or(self.len)
    }

    /// Puts a row at the place that [`Chunk::free_place`] named.
    pub(super) fn insert(&mut self, at: usize, row: &[DatumRef<'_>], types: &[SqlType], lsn: Lsn, cost: &mut Cost) {
        let len = self.len;
        if at < len {
            for ((column, value), ty) in self.columns.iter_mut().zip(row).zip(types) {
                column.set(at, *value, *ty, len, cost);
            }
            set(&mut self.changed, at, lsn.0, cost);
        } else {
            for ((column, value), ty) in self.columns.iter_mut().zip(row).zip(types) {
                column.push(*value, *ty, len, cost);
            }
            push(&mut self.changed, lsn.0, cost);
            self.len += 1;
        }
        self.live += 1;
        self.revive(at, cost);
    }

    /// Leaves the place behind the last row free.
    pub(super) fn leave_free(&mut self, types: &[SqlType], cost: &mut Cost) {
        let len = self.len;
        for (column, ty) in self.columns.iter_mut().zip(types) {
            column.push(DatumRef::Null, *ty, len, cost);
        }
        push(&mut self.changed, 0, cost);
        self.alive.get_or_insert_with(|| Bits::filled(true, len, len + 1, cost)).push(false, cost);
        self.len += 1;
    }

    fn revive(&mut self, at: usize, cost: &mut Cost) {
        let Some(alive) = &mut self.alive else { return };
        if self.live == self.len {
            let bytes = alive.bytes();
            let freed = self.alive.take().map_or(0, Bits::drop_share);
            cost.resized(bytes, 0);
            cost.copied += bytes - freed;
        } else if at < alive.len() {
            alive.set(at, true, cost);
        } else {
            alive.push(true, cost);
        }
    }

    pub(super) fn set(
        &mut self,
        at: usize,
        column: usize,
        value: DatumRef<'_>,
        ty: SqlType,
        lsn: Lsn,
        cost: &mut Cost,
    ) {
        let len = self.len;
        if let Some(values) = self.columns.get_mut(column) {
            values.set(at, value, ty, len, cost);
        }
        set(&mut self.changed, at, lsn.0, cost);
    }

    /// Marks a row dead; a chunk without live rows gives back its memory.
    pub(super) fn remove(&mut self, at: usize, cost: &mut Cost) {
        self.live -= 1;
        if self.live == 0 {
            let empty = Chunk::new(self.columns.len(), cost);
            let old = std::mem::replace(self, empty);
            let bytes = old.bytes();
            let freed = old.drop_share();
            cost.resized(bytes, 0);
            cost.copied += bytes - freed;
            return;
        }
        for column in &mut self.columns {
            column.clear(at, cost);
        }
        let len = self.len;
        self.alive.get_or_insert_with(|| Bits::filled(true, len, len, cost)).set(at, false, cost);
    }

    /// Rearranges the columns: each new one is an old one by its number, or a constant. What was dropped is given back.
    pub(super) fn rearrange(&mut self, columns: &[Result<usize, Arc<Datum>>], cost: &mut Cost) {
        let before = self.own_bytes();
        let old = std::mem::take(&mut self.columns);
        let kept = |number| columns.iter().any(|source| matches!(source, Ok(kept) if *kept == number));
        self.columns = columns
            .iter()
            .map(|source| match source {
                Ok(number) => old.get(*number).cloned(),
                Err(value) => Some(ColumnChunk::constant(Arc::clone(value))),
            })
            .map(|column| column.unwrap_or_else(|| ColumnChunk::constant(Arc::new(Datum::Null))))
            .collect();
        for (number, column) in old.into_iter().enumerate() {
            if !kept(number) {
                let bytes = column.bytes();
                let freed = column.drop_share();
                cost.resized(bytes, 0);
                cost.copied += bytes - freed;
            }
        }
        cost.resized(before, self.own_bytes());
    }

    /// Bytes that writing these columns of a row would copy because somebody else holds them.
    pub(super) fn shared_bytes(&self, columns: impl Iterator<Item = usize>) -> usize {
        let changed = if Arc::strong_count(&self.changed) > 1 { vector_bytes(&self.changed) } else { 0 };
        changed + columns.filter_map(|column| self.columns.get(column)).map(ColumnChunk::shared_bytes).sum::<usize>()
    }

    /// Bytes of the chunk itself, without its vectors.
    fn own_bytes(&self) -> usize {
        size_of::<Chunk>() + self.columns.len() * size_of::<ColumnChunk>()
    }

    /// Bytes of the chunk with its vectors.
    pub(in crate::store) fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(ColumnChunk::bytes).sum();
        self.own_bytes() + vector_bytes(&self.changed) + self.alive.as_ref().map_or(0, Bits::bytes) + columns
    }

    /// Gives up a chunk that nobody else holds; the bytes that became free.
    pub(in crate::store) fn drop_share(self) -> usize {
        let own = self.own_bytes();
        let changed = Arc::into_inner(self.changed).map_or(0, |changed| vector_bytes(&changed));
        let columns: usize = self.columns.into_iter().map(ColumnChunk::drop_share).sum();
        own + changed + self.alive.map_or(0, Bits::drop_share) + columns
    }
}
