//! Judging the changes of a statement before any of them is applied.

use super::keys::Keys;
use super::{NewKeys, Root, detail};
use crate::store::account::Account;
use crate::store::change::{Change, ChangeList};
use crate::store::index::{Index, KeyBytes, KeyKind};
use crate::store::position::Position;
use crate::store::table::TableRows;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::catalog;
use toroid_common::datum::DatumRef;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::{NO_ROW, is_false};
use toroid_common::id::{IndexId, TableId, TransactionId};
use toroid_common::limits::{MAX_KEY_BYTES, MAX_KEY_COLUMNS};
use toroid_common::row::RowReader;

/// What a row takes besides its values, at most: a place in the vectors, views, LSN, validity.
const ROW_BYTES: usize = 16;
/// What a column of a row takes besides the bytes of its value.
const COLUMN_BYTES: usize = 16;
/// What an index entry takes besides its key.
const ENTRY_BYTES: usize = 24;

impl Root {
    /// Whether the changes of one statement may be applied, judged as PostgreSQL does, row by row in order: NOT NULL, unique keys, key length,
    /// and the account's limit. Also that rows and values can be decoded and that positions hold live rows, each of which stands in one
    /// change at most.
    pub fn check(&self, changes: &[Change<'_>], account: &Account) -> SqlResult<()> {
        self.judge(changes, None, account)
    }

    /// [`Root::check`] of inserts, beside rows with these keys that are not in this state.
    pub(in crate::store) fn check_beside(
        &self,
        changes: &[Change<'_>],
        beside: &NewKeys,
        account: &Account,
    ) -> SqlResult<()> {
        self.judge(changes, Some(beside), account)
    }

    fn judge(&self, changes: &[Change<'_>], beside: Option<&NewKeys>, account: &Account) -> SqlResult<()> {
        let rows: usize = changes
            .iter()
            .map(|change| if let Change::Insert { count, .. } = change { *count as usize } else { 1 })
            .sum();
        let mut judge = Judge { beside, ..Judge::new(self, rows > 1) };
        for change in changes {
            judge.change(change)?;
        }
        if judge.grown > 0 { account.room(judge.grown) } else { Ok(()) }
    }

    /// Whether a row may stand in a table as far as it alone tells: NOT NULL and CHECK.
    pub fn check_row(&self, table: &TableRows, row: &[DatumRef<'_>]) -> SqlResult<()> {
        let value = |column: u16| row.get(usize::from(column)).copied().unwrap_or(DatumRef::Null);
        check_nulls(table, 0..row.len(), value)?;
        Judge::new(self, false).check_conditions(table, value)
    }
}

/// The state that a statement has brought about so far, as far as later rows depend on it.
struct Judge<'r> {
    root: &'r Root,
    /// Whether there are later rows at all.
    remembers: bool,
    /// Unique keys of rows that are not in the root.
    beside: Option<&'r NewKeys>,
    /// Unique keys that came and went.
    keys: BTreeMap<(TableId, IndexId), Keys>,
    /// Tables that were truncated.
    emptied: BTreeSet<TableId>,
    /// Upper bound of the bytes that the changes take.
    grown: usize,
    /// For CHECK constraints, which depend on nothing in it.
    env: OnceCell<Env>,
}

impl<'r> Judge<'r> {
    fn new(root: &'r Root, remembers: bool) -> Judge<'r> {
        Judge {
            root,
            remembers,
            beside: None,
            keys: BTreeMap::new(),
            emptied: BTreeSet::new(),
            grown: 0,
            env: OnceCell::new(),
        }
    }

    fn change(&mut self, change: &Change<'_>) -> SqlResult<()> {
        match change {
            Change::Insert { table, count, rows } => self.insert(self.table(*table)?, *count, rows),
            Change::Update { table, position, columns, values } => {
                self.update(self.table(*table)?, *position, columns, values)
            }
            Change::Delete { table, position } => self.delete(self.table(*table)?, *position),
            Change::Truncate { table } => {
                self.table(*table)?;
                self.emptied.insert(*table);
                self.keys.retain(|(id, _), _| id != table);
                Ok(())
            }
            Change::Catalog(catalog) => self.root.check_catalog(catalog),
            Change::UpdateOwn { .. } | Change::DeleteOwn { .. } => {
                Err(SqlError::internal("a statement names a row by its number"))
            }
            Change::Chunk { transaction, keep, changes } => self.chunk(*transaction, *keep, changes),
            Change::Prepare { transaction, reserve, keep, changes, .. } => {
                self.grown += *reserve as usize;
                self.chunk(*transaction, *keep, changes)
            }
            Change::Commit { transaction } => {
                let known = self.root.transactions();
                match known.prepared(*transaction).is_some() || known.chunks(*transaction).is_some() {
                    true => Ok(()),
                    false => Err(SqlError::internal(format!("transaction {transaction} has no write set here"))),
                }
            }
            Change::Outcome { transaction, fate, .. } => match self.root.transactions().outcome(*transaction) {
                Some(known) if known.fate != *fate => {
                    Err(SqlError::internal(format!("transaction {transaction} has another outcome")))
                }
                Some(_) | None => Ok(()),
            },
            Change::Keep(_)
            | Change::Forbidden(_)
            | Change::Fence(_)
            | Change::Answered { .. }
            | Change::Abort { .. }
            | Change::Confirmed { .. }
            | Change::Forget { .. }
            | Change::Advise { .. }
            | Change::Dismiss { .. }
            | Change::Notify { .. } => Ok(()),
        }
    }

    fn chunk(&mut self, transaction: TransactionId, keep: u64, changes: &[u8]) -> SqlResult<()> {
        let known = self.root.transactions();
        if known.prepared(transaction).is_some() {
            return Err(SqlError::internal(format!("transaction {transaction} is prepared already")));
        }
        if known.chunks(transaction).map_or(0, ChangeList::bytes) < keep {
            return Err(SqlError::internal(format!("transaction {transaction} lacks chunks here")));
        }
        self.grown += changes.len();
        Ok(())
    }

    fn table(&self, id: TableId) -> SqlResult<&'r TableRows> {
        self.root.table(id).ok_or_else(|| SqlError::internal(format!("table {id} is not in this partition")))
    }

    fn insert(&mut self, table: &'r TableRows, count: u32, rows: &[u8]) -> SqlResult<()> {
        let mut reader = RowReader::new(rows);
        let mut row = Vec::with_capacity(table.types().len());
        let mut key = KeyBytes::new();
        for _ in 0..count {
            row.clear();
            reader.read(table.types(), &mut row)?;
            let value = |column: u16| row.get(usize::from(column)).copied().unwrap_or(DatumRef::Null);
            check_nulls(table, 0..row.len(), value)?;
            self.check_conditions(table, value)?;
            for (index, definition) in indexes(table) {
                if !index.enforces() && !may_be_long(rows.len()) {
                    continue;
                }
                let kind = index.write_entry(&mut key, Position(0), value);
                check_length(table, definition, &key)?;
                if kind == KeyKind::Unique && index.enforces() {
                    self.enter(table, index, &key)
                        .map_err(|()| detail::duplicate_key(table.definition(), definition, value))?;
                }
            }
        }
        if !reader.is_empty() {
            return Err(SqlError::internal("a change has bytes behind its rows"));
        }
        self.grown += inserted_bytes(table, count, rows);
        Ok(())
    }

    fn update(&mut self, table: &'r TableRows, position: Position, columns: &[u16], values: &[u8]) -> SqlResult<()> {
        expect_live(table, position)?;
        let row = table.read_values(columns.iter().copied(), values)?;
        let before = |column: u16| table.value(position, column);
        let after = |column: u16| {
            let set = columns.iter().position(|set| *set == column).and_then(|set| row.get(set));
            set.copied().unwrap_or_else(|| before(column))
        };
        check_nulls(table, columns.iter().map(|column| usize::from(*column)), after)?;
        self.check_conditions(table, after)?;
        let (mut old_key, mut key) = (KeyBytes::new(), KeyBytes::new());
        for (index, definition) in indexes(table) {
            if !index.touches(columns) || (!index.enforces() && !may_be_long(values.len())) {
                continue;
            }
            let kind = index.write_entry(&mut key, position, after);
            check_length(table, definition, &key)?;
            let old_kind = index.write_entry(&mut old_key, position, before);
            if key == old_key || !index.enforces() {
                continue;
            }
            if old_kind == KeyKind::Unique {
                self.leave(table, index, &old_key);
            }
            if kind == KeyKind::Unique {
                self.enter(table, index, &key)
                    .map_err(|()| detail::duplicate_key(table.definition(), definition, after))?;
            }
        }
        self.grown += updated_bytes(&row) + table.shared_bytes(position, columns);
        Ok(())
    }

    fn delete(&mut self, table: &'r TableRows, position: Position) -> SqlResult<()> {
        expect_live(table, position)?;
        if !self.remembers {
            return Ok(());
        }
        let mut key = KeyBytes::new();
        for index in table.indexes().iter().filter(|index| index.enforces()) {
            if index.write_entry(&mut key, position, |column| table.value(position, column)) == KeyKind::Unique {
                self.leave(table, index, &key);
            }
        }
        Ok(())
    }

    /// CHECK constraints: none may be false.
    fn check_conditions<'v>(&self, table: &TableRows, value: impl Fn(u16) -> DatumRef<'v> + Copy) -> SqlResult<()> {
        let definition = table.definition();
        if definition.checks.is_empty() {
            return Ok(());
        }
        let env = self.env.get_or_init(Env::default);
        let row: Vec<DatumRef<'v>> = (0..definition.columns.len() as u16).map(value).collect();
        for check in &definition.checks {
            if is_false(&check.expr, &row.as_slice(), &NO_ROW, env)? {
                return Err(detail::violated(definition, check, value));
            }
        }
        Ok(())
    }

    /// A key comes in; an error when a row has it at this moment.
    fn enter(&mut self, table: &TableRows, index: &Index, key: &KeyBytes) -> Result<(), ()> {
        let id = table.definition().id;
        let pending = self.keys.get(&(id, index.id())).and_then(|keys| keys.get(key));
        let beside = || self.beside.is_some_and(|beside| beside.has((id, index.id()), key));
        let taken = pending.unwrap_or_else(|| (!self.emptied.contains(&id) && index.get(key).is_some()) || beside());
        if taken {
            return Err(());
        }
        self.remember(id, index, key, true);
        Ok(())
    }

    fn leave(&mut self, table: &TableRows, index: &Index, key: &KeyBytes) {
        self.remember(table.definition().id, index, key, false);
    }

    fn remember(&mut self, table: TableId, index: &Index, key: &KeyBytes, taken: bool) {
        if self.remembers {
            self.keys.entry((table, index.id())).or_default().put(key, taken);
        }
    }
}

/// Most bytes that inserting rows takes.
pub(super) fn inserted_bytes(table: &TableRows, count: u32, rows: &[u8]) -> usize {
    let row_bytes = ROW_BYTES + COLUMN_BYTES * table.types().len() + ENTRY_BYTES * table.indexes().len();
    rows.len() * (1 + table.indexes().len()) + row_bytes * count as usize
}

/// Most bytes that new values take where nobody else holds the chunk.
pub(super) fn updated_bytes(row: &[DatumRef<'_>]) -> usize {
    let long = row.iter().map(|value| match value {
        DatumRef::Text(v) => v.len(),
        DatumRef::Bytea(v) => v.len(),
        DatumRef::Numeric(v) => v.encode().len(),
        _ => 0,
    });
    long.filter(|len| *len > 12).sum::<usize>()
}

/// The table's indexes, each with its definition.
fn indexes(table: &TableRows) -> impl Iterator<Item = (&Index, &catalog::Index)> {
    table.indexes().iter().zip(&table.definition().indexes)
}

/// Whether a key of a row with so many bytes could exceed the limit: escaping doubles a value at most, and numbers take nine bytes.
fn may_be_long(row_bytes: usize) -> bool {
    row_bytes * 2 + MAX_KEY_COLUMNS * 18 > MAX_KEY_BYTES
}

fn check_length(table: &TableRows, index: &catalog::Index, key: &KeyBytes) -> SqlResult<()> {
    if key.len() > MAX_KEY_BYTES {
        return Err(detail::key_too_long(table.definition(), index, key.len(), MAX_KEY_BYTES));
    }
    Ok(())
}

fn check_nulls<'a>(
    table: &TableRows,
    columns: impl Iterator<Item = usize>,
    value: impl Fn(u16) -> DatumRef<'a>,
) -> SqlResult<()> {
    let definition = table.definition();
    // PostgreSQL reports the first column in table order.
    let missing = columns.filter(|column| {
        definition.columns.get(*column).is_some_and(|column| column.not_null) && value(*column as u16).is_null()
    });
    missing.min().map_or(Ok(()), |column| Err(detail::null_value(definition, column, value)))
}

pub(super) fn expect_live(table: &TableRows, position: Position) -> SqlResult<()> {
    if table.is_live(position) {
        return Ok(());
    }
    Err(SqlError::internal(format!("there is no row at position {} of table {}", position.0, table.definition().id)))
}
