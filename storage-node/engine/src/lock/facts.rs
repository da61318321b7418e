//! Who holds what, or waits for it, so that whoever stands in a want's way is found without looking at the others.

use super::want::{Key, Want};
use crate::store::position::Position;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use toroid_common::id::{IndexId, TableId, TransactionId};
use toroid_common::plan::{AdvisoryKey, Strength, TableLock};

/// Locked rows, each with who locked it and how strongly.
type Rows<I> = BTreeMap<(TableId, Position), SmallVec<[(I, Strength); 1]>>;
/// Advisory locks, each with who has it, whether shared, and the session that it is of. One may have both modes.
type Advised<I> = BTreeMap<AdvisoryKey, SmallVec<[(I, bool, TransactionId); 1]>>;
type Keys<I> = BTreeMap<IndexId, BTreeMap<Key, SmallVec<[I; 1]>>>;

/// What stands behind each want of each `I`: a transaction that holds it, or a waiter.
#[derive(Debug)]
pub(super) struct Facts<I> {
    rows: Rows<I>,
    touched: Keys<I>,
    ranges: Keys<I>,
    written: BTreeMap<TableId, BTreeSet<I>>,
    read: BTreeMap<TableId, BTreeSet<I>>,
    advised: Advised<I>,
    /// Locked tables, each with who locked it in which modes.
    tables: BTreeMap<TableId, BTreeSet<(I, TableLock)>>,
}

impl<I> Default for Facts<I> {
    fn default() -> Facts<I> {
        Facts {
            rows: BTreeMap::new(),
            touched: Keys::new(),
            ranges: Keys::new(),
            written: BTreeMap::new(),
            read: BTreeMap::new(),
            advised: Advised::new(),
            tables: BTreeMap::new(),
        }
    }
}

/// What there was before: how to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// The row, at a weaker strength.
    Weaker(Strength),
    /// All of it: nothing changed.
    Same,
}

impl<I: Copy + Ord> Facts<I> {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.touched.is_empty()
            && self.ranges.is_empty()
            && self.written.is_empty()
            && self.read.is_empty()
            && self.advised.is_empty()
            && self.tables.is_empty()
    }

    pub(super) fn put(&mut self, want: &Want<Key>, id: I) -> Before {
        match want {
            Want::Row { table, position, strength } => {
                let holders = self.rows.entry((*table, *position)).or_default();
                match holders.binary_search_by_key(&id, |(holder, _)| *holder) {
                    Ok(at) => match holders.get_mut(at) {
                        Some((_, held)) if *held < *strength => Before::Weaker(std::mem::replace(held, *strength)),
                        Some(_) | None => Before::Same,
                    },
                    Err(at) => {
                        holders.insert(at, (id, *strength));
                        Before::Nothing
                    }
                }
            }
            Want::Bring { index, key } | Want::Touch { index, key } => put_key(&mut self.touched, *index, key, id),
            Want::Range { index, prefix } => put_key(&mut self.ranges, *index, prefix, id),
            Want::Write { table } => put_table(&mut self.written, *table, id),
            Want::Read { table } => put_table(&mut self.read, *table, id),
            Want::Table { table, mode } => put_table(&mut self.tables, *table, (id, *mode)),
            Want::SettledRange { .. } | Want::SettledTable { .. } => Before::Same,
            Want::Advisory { key, shared, session } => {
                let holders = self.advised.entry(*key).or_default();
                match holders.contains(&(id, *shared, *session)) {
                    true => Before::Same,
                    false => {
                        holders.push((id, *shared, *session));
                        Before::Nothing
                    }
                }
            }
        }
    }

    /// Whether something of this session has the key already, in any mode.
    pub(super) fn has_advised(&self, key: AdvisoryKey, session: TransactionId) -> bool {
        self.advised.get(&key).is_some_and(|holders| holders.iter().any(|(_, _, of)| *of == session))
    }

    /// Undoes [`Facts::put`], whose answer was `before`.
    pub(super) fn take(&mut self, want: &Want<Key>, id: I, before: Before) {
        if before == Before::Same {
            return;
        }
        match want {
            Want::Row { table, position, .. } => {
                let Some(holders) = self.rows.get_mut(&(*table, *position)) else { return };
                match before {
                    Before::Weaker(strength) => {
                        holders.iter_mut().filter(|(holder, _)| *holder == id).for_each(|(_, held)| *held = strength);
                    }
                    Before::Nothing | Before::Same => holders.retain(|(holder, _)| *holder != id),
                }
                if holders.is_empty() {
                    self.rows.remove(&(*table, *position));
                }
            }
            Want::Bring { index, key } | Want::Touch { index, key } => take_key(&mut self.touched, *index, key, id),
            Want::Range { index, prefix } => take_key(&mut self.ranges, *index, prefix, id),
            Want::Write { table } => take_table(&mut self.written, *table, id),
            Want::Read { table } => take_table(&mut self.read, *table, id),
            Want::Table { table, mode } => take_table(&mut self.tables, *table, (id, *mode)),
            Want::SettledRange { .. } | Want::SettledTable { .. } => {}
            Want::Advisory { key, shared, session } => {
                let Some(holders) = self.advised.get_mut(key) else { return };
                holders.retain(|holder| *holder != (id, *shared, *session));
                if holders.is_empty() {
                    self.advised.remove(key);
                }
            }
        }
    }

    /// Everyone who stands in the way of a want, in order on each thing, until `each` has enough.
    pub(super) fn opposing<B>(&self, want: &Want<&[u8]>, mut each: impl FnMut(I) -> ControlFlow<B>) -> ControlFlow<B> {
        match want {
            Want::Row { table, position, strength } => self
                .on_row(*table, *position)
                .filter(|(_, held)| held.conflicts(*strength))
                .try_for_each(|(holder, _)| each(holder)),
            Want::Bring { index, key } => at_key(&self.touched, *index, key).try_for_each(each),
            Want::Touch { index, key } => covering(&self.ranges, *index, key, &mut each),
            Want::Range { index, prefix } | Want::SettledRange { index, prefix } => {
                under(&self.touched, *index, prefix).try_for_each(each)
            }
            Want::Write { table } => on_table(&self.read, *table).try_for_each(each),
            Want::Read { table } | Want::SettledTable { table } => on_table(&self.written, *table).try_for_each(each),
            Want::Advisory { key, shared, session } => self
                .on_advised(*key)
                .filter(|(_, with, of)| of != session && !(*with && *shared))
                .try_for_each(|(holder, _, _)| each(holder)),
            Want::Table { table, mode } => {
                let conflicting = |(id, held): (I, TableLock)| held.conflicts(*mode).then_some(id);
                on_table(&self.tables, *table).filter_map(conflicting).try_for_each(&mut each)?;
                match mode.conflicts(TableLock::RowExclusive) {
                    true => on_table(&self.written, *table).try_for_each(each),
                    false => ControlFlow::Continue(()),
                }
            }
        }
    }

    /// Everyone in whose way this want stands, or might.
    pub(super) fn opposed(&self, want: &Want<&[u8]>, found: &mut Vec<I>) {
        let mut each = |id| {
            found.push(id);
            ControlFlow::<()>::Continue(())
        };
        let _ = match want {
            Want::Row { table, position, .. } => self.on_row(*table, *position).try_for_each(|(id, _)| each(id)),
            Want::Bring { index, key } | Want::Touch { index, key } => {
                let _ = at_key(&self.touched, *index, key).try_for_each(&mut each);
                covering(&self.ranges, *index, key, &mut each)
            }
            Want::Range { index, prefix } => under(&self.touched, *index, prefix).try_for_each(each),
            Want::Write { table } => {
                let _ = on_table(&self.tables, *table).try_for_each(|(id, _)| each(id));
                on_table(&self.read, *table).try_for_each(each)
            }
            Want::Read { table } => on_table(&self.written, *table).try_for_each(each),
            Want::Table { table, .. } => on_table(&self.tables, *table).try_for_each(|(id, _)| each(id)),
            Want::SettledRange { .. } | Want::SettledTable { .. } => ControlFlow::Continue(()),
            Want::Advisory { key, .. } => self.on_advised(*key).try_for_each(|(id, _, _)| each(id)),
        };
    }

    fn on_advised(&self, key: AdvisoryKey) -> impl Iterator<Item = (I, bool, TransactionId)> + '_ {
        self.advised.get(&key).into_iter().flatten().copied()
    }

    /// Whether anybody has locked a table, or wants to.
    pub(super) fn has_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    fn on_row(&self, table: TableId, position: Position) -> impl Iterator<Item = (I, Strength)> + '_ {
        self.rows.get(&(table, position)).into_iter().flatten().copied()
    }
}

fn put_key<I: Copy + Ord>(keys: &mut Keys<I>, index: IndexId, key: &Key, id: I) -> Before {
    let holders = keys.entry(index).or_default().entry(Key::clone(key)).or_default();
    match holders.binary_search(&id) {
        Ok(_) => Before::Same,
        Err(at) => {
            holders.insert(at, id);
            Before::Nothing
        }
    }
}

fn take_key<I: Copy + Ord>(keys: &mut Keys<I>, index: IndexId, key: &Key, id: I) {
    let Some(of_index) = keys.get_mut(&index) else { return };
    if let Some(holders) = of_index.get_mut(key) {
        holders.retain(|holder| *holder != id);
        if holders.is_empty() {
            of_index.remove(key);
        }
    }
    if of_index.is_empty() {
        keys.remove(&index);
    }
}

fn put_table<I: Copy + Ord>(tables: &mut BTreeMap<TableId, BTreeSet<I>>, table: TableId, id: I) -> Before {
    match tables.entry(table).or_default().insert(id) {
        true => Before::Nothing,
        false => Before::Same,
    }
}

fn take_table<I: Copy + Ord>(tables: &mut BTreeMap<TableId, BTreeSet<I>>, table: TableId, id: I) {
    if let Some(holders) = tables.get_mut(&table) {
        holders.remove(&id);
        if holders.is_empty() {
            tables.remove(&table);
        }
    }
}

fn on_table<I: Copy>(tables: &BTreeMap<TableId, BTreeSet<I>>, table: TableId) -> impl Iterator<Item = I> + '_ {
    tables.get(&table).into_iter().flatten().copied()
}

fn at_key<'a, I: Copy>(keys: &'a Keys<I>, index: IndexId, key: &[u8]) -> impl Iterator<Item = I> + use<'a, I> {
    keys.get(&index).and_then(|of_index| of_index.get(key)).into_iter().flatten().copied()
}

/// Who stands under keys that begin with `prefix`.
fn under<'a, I: Copy>(keys: &'a Keys<I>, index: IndexId, prefix: &'a [u8]) -> impl Iterator<Item = I> + use<'a, I> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    let of_index = keys.get(&index).into_iter().flat_map(move |of_index| of_index.range::<[u8], _>(from));
    of_index.take_while(move |(key, _)| key.starts_with(prefix)).flat_map(|(_, holders)| holders).copied()
}

/// Who stands under beginnings of `key`, the longest first.
fn covering<I: Copy, B>(
    keys: &Keys<I>,
    index: IndexId,
    key: &[u8],
    each: &mut impl FnMut(I) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let Some(of_index) = keys.get(&index) else { return ControlFlow::Continue(()) };
    let mut rest = Some(key);
    while let Some(bound) = rest {
        let last = of_index.range::<[u8], _>((Bound::Unbounded, Bound::Included(bound))).next_back();
        let Some((prefix, holders)) = last else { break };
        let common = prefix.iter().zip(bound).take_while(|(a, b)| a == b).count();
        // Shorter beginnings of the key come before this prefix, and before what it shares with the key.
        rest = match common == prefix.len() {
            true => {
                holders.iter().copied().try_for_each(&mut *each)?;
                common.checked_sub(1).and_then(|shorter| bound.get(..shorter))
            }
            false => bound.get(..common),
        };
    }
    ControlFlow::Continue(())
}
