//! What changes touch: rows of the root, and keys before and after. What locks are made of.

use super::{Overlay, WriteSet};
use crate::store::account::Account;
use crate::store::change::{Change, ChangeList};
use crate::store::index::{Index, KeyBytes, KeyKind};
use crate::store::root::Root;
use crate::store::table::{Position, TableRows};
use toroid_common::datum::DatumRef;
use toroid_common::error::SqlResult;
use toroid_common::id::{IndexId, TableId};
use toroid_common::row::RowReader;

/// Whether a row has a key before the change, after it, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Old,
    New,
    Both,
}

/// One thing that a change touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch<'a> {
    /// A row of the root. Rows that the transaction inserted are not named: nobody else knows them.
    Row {
        table: TableId,
        position: Position,
        /// It goes, or a key of it changes that must be unique.
        exclusive: bool,
    },
    Key {
        table: TableId,
        index: IndexId,
        /// Without the position that ends entries of indexes that are not unique.
        key: &'a [u8],
        /// No other row may have it.
        unique: bool,
        side: Side,
    },
}

/// Everything that the write set of a transaction touches on this root, which is where it would be applied: for a new primary that takes the locks of
/// prepared transactions again. It does not ask for room.
pub fn touches_of(
    changes: &ChangeList,
    root: &Root,
    account: &mut Account,
    mut visit: impl FnMut(Touch<'_>),
) -> SqlResult<()> {
    let (mut overlay, mut write_set) = (Overlay::new(root), WriteSet::default());
    let touched = touch_all(changes, root, (&mut overlay, &mut write_set), account, &mut visit);
    overlay.finish(account);
    write_set.finish(account);
    touched
}

fn touch_all(
    changes: &ChangeList,
    root: &Root,
    (overlay, write_set): (&mut Overlay, &mut WriteSet),
    account: &mut Account,
    visit: &mut impl FnMut(Touch<'_>),
) -> SqlResult<()> {
    for change in changes.changes() {
        let change = change?;
        if let Some(table) = change.table_of_rows() {
            overlay.lay(root, write_set, table, account)?;
        }
        overlay.touches(&change, &mut *visit)?;
        write_set.push_anyway(&[change], root, account);
    }
    Ok(())
}

impl Overlay {
    /// What a change touches that is named for the write set and not laid over yet.
    pub fn touches(&self, change: &Change<'_>, visit: impl FnMut(Touch<'_>)) -> SqlResult<()> {
        let own = change.names_own();
        self.root().touches_at(&self.place(change.clone())?, own, visit)
    }
}

impl Root {
    /// What a change touches that names rows by position, all of them rows of this root.
    pub fn touches(&self, change: &Change<'_>, visit: impl FnMut(Touch<'_>)) -> SqlResult<()> {
        self.touches_at(change, false, visit)
    }

    fn touches_at(&self, change: &Change<'_>, own: bool, mut visit: impl FnMut(Touch<'_>)) -> SqlResult<()> {
        let Some(table) = change.table_of_rows().and_then(|id| self.table(id)) else { return Ok(()) };
        match change {
            Change::Insert { count, rows, .. } => inserted(table, *count, rows, &mut visit)?,
            Change::Update { position, columns, values, .. } => {
                updated(table, *position, columns, values, own, &mut visit)?;
            }
            Change::Delete { position, .. } => deleted(table, *position, own, &mut visit),
            Change::UpdateOwn { .. }
            | Change::DeleteOwn { .. }
            | Change::Keep(_)
            | Change::Truncate { .. }
            | Change::Catalog(_)
            | Change::Forbidden(_)
            | Change::Fence(_)
            | Change::Answered { .. }
            | Change::Chunk { .. }
            | Change::Prepare { .. }
            | Change::Commit { .. }
            | Change::Abort { .. }
            | Change::Outcome { .. }
            | Change::Confirmed { .. }
            | Change::Forget { .. }
            | Change::Advise { .. }
            | Change::Dismiss { .. }
            | Change::Notify { .. } => {}
        }
        Ok(())
    }
}

fn inserted(table: &TableRows, count: u32, rows: &[u8], visit: &mut impl FnMut(Touch<'_>)) -> SqlResult<()> {
    let mut reader = RowReader::new(rows);
    let mut row = Vec::with_capacity(table.types().len());
    let mut key = KeyBytes::new();
    for _ in 0..count {
        row.clear();
        reader.read(table.types(), &mut row)?;
        for index in table.indexes() {
            let kind = index.write_entry(&mut key, Position(0), |column| value_of(&row, column));
            visit(touched_key(table, index, &key, kind, Side::New));
        }
    }
    Ok(())
}

fn updated(
    table: &TableRows,
    position: Position,
    columns: &[u16],
    values: &[u8],
    own: bool,
    visit: &mut impl FnMut(Touch<'_>),
) -> SqlResult<()> {
    let row = table.read_values(columns.iter().copied(), values)?;
    let after = |column: u16| {
        let set = columns.iter().position(|set| *set == column).and_then(|set| row.get(set));
        set.copied().unwrap_or_else(|| table.value(position, column))
    };
    let (mut old, mut new) = (KeyBytes::new(), KeyBytes::new());
    let mut exclusive = false;
    for index in table.indexes() {
        let old_kind = index.write_entry(&mut old, position, |column| table.value(position, column));
        if index.touches(columns) {
            let kind = index.write_entry(&mut new, position, after);
            if old != new {
                exclusive |= index.is_unique();
                visit(touched_key(table, index, &old, old_kind, Side::Old));
                visit(touched_key(table, index, &new, kind, Side::New));
                continue;
            }
        }
        visit(touched_key(table, index, &old, old_kind, Side::Both));
    }
    if !own {
        visit(Touch::Row { table: table.definition().id, position, exclusive });
    }
    Ok(())
}

fn deleted(table: &TableRows, position: Position, own: bool, visit: &mut impl FnMut(Touch<'_>)) {
    let mut key = KeyBytes::new();
    for index in table.indexes() {
        let kind = index.write_entry(&mut key, position, |column| table.value(position, column));
        visit(touched_key(table, index, &key, kind, Side::Old));
    }
    if !own {
        visit(Touch::Row { table: table.definition().id, position, exclusive: true });
    }
}

fn touched_key<'k>(table: &TableRows, index: &Index, key: &'k [u8], kind: KeyKind, side: Side) -> Touch<'k> {
    let key = match kind {
        KeyKind::Unique => key,
        KeyKind::Many => key.split_last_chunk::<4>().map_or(key, |(key, _)| key),
    };
    Touch::Key { table: table.definition().id, index: index.id(), key, unique: kind == KeyKind::Unique, side }
}

fn value_of<'a>(row: &[DatumRef<'a>], column: u16) -> DatumRef<'a> {
    row.get(usize::from(column)).copied().unwrap_or(DatumRef::Null)
}
