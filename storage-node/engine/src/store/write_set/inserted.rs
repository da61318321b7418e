//! Judging inserts into tables into which the write set has inserted only: by the unique keys that it brought, without an overlay. So a bulk load within a
//! transaction costs the same per row however long it is, whatever others change meanwhile.

use super::{Mark, WriteSet};
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::index::{KeyBytes, KeyKind};
use crate::store::position::Position;
use crate::store::root::{NewKeys, Root};
use toroid_common::datum::DatumRef;
use toroid_common::error::SqlResult;
use toroid_common::id::TableId;
use toroid_common::row::RowReader;

/// The unique keys that a write set brought to one table.
#[derive(Debug)]
pub(super) struct Inserted {
    table: TableId,
    keys: NewKeys,
    /// How much of the write set they are of.
    mark: Mark,
    cuts: u32,
    /// Memory that is accounted for.
    charged: usize,
}

impl WriteSet {
    /// Judges a statement that inserts rows, without an overlay where none is needed. False when it must be judged on one.
    pub fn check_insert(&mut self, change: &Change<'_>, root: &Root, account: &mut Account) -> SqlResult<bool> {
        let Change::Insert { table, .. } = change else { return Ok(false) };
        if !self.changes_table(*table) {
            return root.check(std::slice::from_ref(change), account).map(|()| true);
        }
        if !self.only_inserts_into(*table) {
            return Ok(false);
        }
        self.expect_version(*table, root)?;
        let mut known = match self.inserted.take() {
            Some(known) if known.table == *table && known.cuts == self.cuts() => known,
            other => {
                other.into_iter().for_each(|other| other.finish(account));
                let (table, keys, cuts) = (*table, NewKeys::default(), self.cuts());
                Box::new(Inserted { table, keys, mark: Mark(0), cuts, charged: 0 })
            }
        };
        let judged = self
            .bring_up(&mut known, root)
            .and_then(|()| root.check_beside(std::slice::from_ref(change), &known.keys, account));
        let memory = known.keys.memory();
        account.free(known.charged);
        account.take(memory);
        known.charged = memory;
        self.inserted = Some(known);
        judged.map(|()| true)
    }

    fn bring_up(&self, known: &mut Inserted, root: &Root) -> SqlResult<()> {
        let Some(table) = root.table(known.table) else { return Ok(()) };
        let mut row = Vec::with_capacity(table.types().len());
        let mut key = KeyBytes::new();
        for change in self.changes_from(known.mark) {
            let Change::Insert { table: id, count, rows } = change? else { continue };
            if id != known.table {
                continue;
            }
            let mut reader = RowReader::new(rows);
            for _ in 0..count {
                row.clear();
                reader.read(table.types(), &mut row)?;
                for index in table.indexes().iter().filter(|index| index.is_unique()) {
                    let value = |column: u16| row.get(usize::from(column)).copied().unwrap_or(DatumRef::Null);
                    if index.write_entry(&mut key, Position(0), value) == KeyKind::Unique {
                        known.keys.add((id, index.id()), &key);
                    }
                }
            }
        }
        known.mark = self.mark();
        Ok(())
    }
}

impl Inserted {
    pub(super) fn finish(self, account: &mut Account) {
        account.free(self.charged);
    }
}
