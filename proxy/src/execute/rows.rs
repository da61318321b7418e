//! Rows on their way into tables: the identity of rows without a key, and which partition each row belongs to.

use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use toroid_common::catalog::{Distribution, Table};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::hash::partition_of;
use toroid_common::id::{Incarnation, PartitionId};
use toroid_common::limits::{BULK_FRAME_BYTES, MAX_VALUE_BYTES};
use toroid_common::row::write_row;

/// Bits of a row identity that count within one proxy thread's life; those above name the life.
const COUNTER_BITS: u32 = 39;
const INCARNATION_MASK: u64 = (1 << (63 - COUNTER_BITS)) - 1;

/// How many more rows than its share a partition may be given because transactions have written there before.
const MOST_AT_HOME: u64 = 4_096;
/// Identities whose rows go to one partition that are kept until one is wanted.
const MOST_KEPT: usize = 64;

/// Gives every row of a table without primary key an identity that no other row ever has.
pub struct RowIdentity {
    next: Cell<i64>,
    /// By partition.
    homes: RefCell<Vec<Home>>,
    /// Rows that were to go to a certain partition.
    chosen: Cell<u64>,
}

/// What is known of one partition.
#[derive(Default)]
struct Home {
    /// Rows that were to go there.
    rows: u64,
    /// Identities whose rows go there, passed over while one was sought for another partition.
    kept: Vec<i64>,
}

impl RowIdentity {
    pub fn new(incarnation: Incarnation) -> RowIdentity {
        let next = Cell::new(((incarnation.0 & INCARNATION_MASK) << COUNTER_BITS) as i64);
        RowIdentity { next, homes: RefCell::default(), chosen: Cell::default() }
    }

    pub fn next(&self) -> Datum {
        Datum::Int8(self.draw())
    }

    fn draw(&self) -> i64 {
        let value = self.next.get();
        self.next.set(value + 1);
        value
    }

    /// An identity whose row goes to this partition, if it is the identity that places rows: one partition less has a part in the transaction. Where that
    /// would give a partition far more than its share, any.
    pub fn next_at(&self, home: PartitionId, partitions: u16) -> Datum {
        let mut homes = self.homes.borrow_mut();
        homes.resize_with(usize::from(partitions), Home::default);
        let share = self.chosen.get() / u64::from(partitions.max(1));
        let Some(wanted) = homes.get_mut(usize::from(home.0)).filter(|home| home.rows <= 2 * share + MOST_AT_HOME)
        else {
            return self.next();
        };
        wanted.rows += 1;
        self.chosen.set(self.chosen.get() + 1);
        if let Some(value) = wanted.kept.pop() {
            return Datum::Int8(value);
        }
        for _ in 0..8 * u32::from(partitions) {
            let value = self.draw();
            let place = partition_of(std::iter::once(DatumRef::Int8(value)), partitions);
            if place == home {
                return Datum::Int8(value);
            }
            if let Some(other) = homes.get_mut(usize::from(place.0)).filter(|other| other.kept.len() < MOST_KEPT) {
                other.kept.push(value);
            }
        }
        self.next()
    }
}

/// The partition of a complete row; none for a reference table.
pub fn place(table: &Table, row: &[Datum], partitions: u16) -> SqlResult<Option<PartitionId>> {
    match &table.distribution {
        Distribution::Replicated => Ok(None),
        Distribution::Hash(columns) => {
            let mut key: SmallVec<[DatumRef<'_>; 4]> = SmallVec::new();
            for column in columns {
                let value = row
                    .get(usize::from(*column))
                    .ok_or_else(|| SqlError::internal("a row lacks a distribution column"))?;
                key.push(value.borrow());
            }
            Ok(Some(partition_of(key.into_iter(), partitions)))
        }
    }
}

/// Rows gathered per partition.
pub struct Batches {
    /// What every batch begins with.
    head: Vec<u8>,
    /// Whether a partition's rows may go in several batches.
    splits: bool,
    /// Those that are worth a frame.
    full: Vec<Batch>,
    /// The others, in the order in which partitions first had a row.
    open: Vec<Batch>,
    /// By partition: its place in `open`.
    places: Vec<Option<usize>>,
    rows: usize,
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// None: every partition gets it (reference tables).
    pub partition: Option<PartitionId>,
    pub rows: u32,
    pub bytes: Vec<u8>,
    /// Which rows of the statement these are, from 0.
    pub numbers: Vec<usize>,
}

impl Batch {
    /// A statement's only row, behind `head`.
    pub fn of_one(table: &Table, row: &[Datum], head: &[u8], partitions: u16) -> SqlResult<Batch> {
        let partition = place(table, row, partitions)?;
        let mut bytes = Vec::with_capacity(head.len() + 16 * row.len());
        bytes.extend_from_slice(head);
        write_row(&mut bytes, row.iter().map(Datum::borrow));
        Ok(Batch { partition, rows: 1, bytes, numbers: vec![0] })
    }
}

impl Batches {
    /// For a statement whose batches begin with `head`; where none `splits`, a partition gets all its rows at once.
    pub fn new(partitions: u16, head: Vec<u8>, splits: bool) -> Batches {
        let places = vec![None; usize::from(partitions)];
        Batches { head, splits, full: Vec::new(), open: Vec::new(), places, rows: 0, bytes: 0 }
    }

    /// Bytes that the rows take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a complete row.
    pub fn add(&mut self, table: &Table, row: &[Datum]) -> SqlResult<()> {
        let partitions = self.places.len() as u16;
        let partition = place(table, row, partitions)?;
        let slot = partition.map_or(0, |p| usize::from(p.0));
        let known = self.places.get_mut(slot).ok_or_else(|| SqlError::internal("a partition beyond the map"))?;
        let place = *known.get_or_insert(self.open.len());
        if place == self.open.len() {
            self.open.push(Batch { partition, bytes: self.head.clone(), ..Batch::default() });
        }
        let Some(batch) = self.open.get_mut(place) else { return Err(SqlError::internal("a batch was lost")) };
        let before = batch.bytes.len();
        write_row(&mut batch.bytes, row.iter().map(Datum::borrow));
        self.bytes += batch.bytes.len() - before + size_of::<usize>();
        batch.rows += 1;
        batch.numbers.push(self.rows);
        self.rows += 1;
        if batch.bytes.len() >= BULK_FRAME_BYTES && self.splits {
            let next = Batch { partition, bytes: self.head.clone(), ..Batch::default() };
            self.full.push(std::mem::replace(batch, next));
        }
        if self.bytes > MAX_VALUE_BYTES && !self.splits {
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many rows for one ON CONFLICT DO UPDATE"));
        }
        Ok(())
    }

    /// All rows so far; those that follow are numbered from 0 again.
    pub fn take(&mut self) -> Vec<Batch> {
        let next = Batches::new(self.places.len() as u16, self.head.clone(), self.splits);
        let all = std::mem::replace(self, next);
        all.full.into_iter().chain(all.open.into_iter().filter(|batch| batch.rows > 0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn rows_go_home_until_that_is_too_much_of_them() {
        let identity = RowIdentity::new(Incarnation(3));
        let place = |value: Datum| partition_of(std::iter::once(value.borrow()), 16);
        let mut given = BTreeSet::new();
        for home in (0..16).cycle().take(1_600).map(PartitionId) {
            let value = identity.next_at(home, 16);
            assert_eq!(place(value.clone()), home);
            assert!(
                given.insert(format!("{value:?}")) && given.insert(format!("{:?}", identity.next())),
                "given twice"
            );
        }
        let rows = 3 * MOST_AT_HOME;
        let there = (0..rows).filter(|_| place(identity.next_at(PartitionId(5), 16)) == PartitionId(5)).count() as u64;
        assert!(there < rows / 2, "{there} of {rows}");
    }
}
