//! A store and a plain map beside it, driven by random statements, with roots held at random moments.
#![allow(dead_code, reason = "each test takes what it needs")]

use crate::fixture::{Random, T, catalog, column, content, delete, encode, index, insert, lent, table, text, update};
use imbl::{OrdMap, OrdSet};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{ColumnId, IndexId, Lsn};
use toroid_common::types::SqlType;
use toroid_common::types::numeric::Numeric;
use toroid_engine::store::account::Account;
use toroid_engine::store::change::Change;
use toroid_engine::store::root::Root;
use toroid_engine::store::table::Position;

type Rows = OrdMap<Position, Vec<Datum>>;
type Keys = OrdSet<(IndexId, Vec<u8>)>;

/// What one run drives: the store, the model, and everything that was held on the way.
pub struct Run {
    pub random: Random,
    account: Account,
    pub root: Root,
    rows: Rows,
    /// The unique keys of `rows`.
    keys: Keys,
    definition: Table,
    held: Vec<(Root, Table, Rows)>,
    lsn: u64,
    /// The changes of the last entry.
    pub last: Option<Vec<u8>>,
}

fn definition() -> Table {
    let mut columns = vec![
        column(1, "id", SqlType::Int4),
        column(2, "code", SqlType::Text),
        column(3, "n", SqlType::Int8),
        column(4, "note", SqlType::Varchar),
        column(5, "amount", SqlType::Numeric),
        column(6, "flag", SqlType::Bool),
        column(7, "key", SqlType::Uuid),
    ];
    columns[0].not_null = true;
    table(columns, vec![index(1, "t_pkey", &[0], true), index(2, "t_code", &[1], true), index(3, "t_n", &[2], false)])
}

pub fn value(random: &mut Random, ty: SqlType) -> Datum {
    if random.below(8) == 0 {
        return Datum::Null;
    }
    let number = random.below(50);
    match ty {
        SqlType::Int8 => Datum::Int8(number as i64 - 25),
        SqlType::Numeric => Datum::Numeric(Numeric::from_parts(i128::from(number) << number, 2)),
        SqlType::Bool => Datum::Bool(number.is_multiple_of(2)),
        SqlType::Uuid => Datum::Uuid([number as u8; 16]),
        _ => text(&"text ".repeat(number as usize % 7)),
    }
}

impl Run {
    pub fn new(seed: u64) -> Run {
        let definition = definition();
        let mut account = Account::new(usize::MAX);
        let root = Root::new(catalog(&definition), &mut account);
        Run {
            random: Random(seed),
            account,
            root,
            rows: Rows::new(),
            keys: Keys::new(),
            definition,
            held: Vec::new(),
            lsn: 0,
            last: None,
        }
    }

    /// A row that is wrong now and then: rarely when it is one of many.
    fn row(&mut self, of: usize) -> Vec<Datum> {
        let columns = self.definition.columns.clone();
        let wrong = self.random.below(20 * of as u64) == 0;
        let known = self.any_position().filter(|_| wrong).map(|position| self.rows[&position].clone());
        columns
            .iter()
            .map(|column| match column.id.0 {
                1 if wrong && self.random.below(3) == 0 => Datum::Null,
                1 => {
                    known.as_ref().map_or_else(|| Datum::Int4(self.random.below(1 << 31) as i32), |row| row[0].clone())
                }
                2 if self.random.below(3) > 0 => Datum::Null,
                2 => text(&format!("code number {}", self.random.below(1 << 40))),
                _ => value(&mut self.random, column.ty.ty),
            })
            .collect()
    }

    fn any_position(&mut self) -> Option<Position> {
        let start = Position(self.random.below(self.rows.len() as u64 + 1) as u32);
        self.rows.range(start..).next().or_else(|| self.rows.iter().next()).map(|(position, _)| *position)
    }

    fn free_position(rows: &Rows) -> Position {
        let gap = rows.keys().enumerate().find(|(at, position)| position.0 as usize != *at);
        Position(gap.map_or(rows.len(), |(at, _)| at) as u32)
    }

    /// The unique keys of a row, one for each unique index in which it has no NULL.
    fn keys(definition: &Table, row: &[Datum]) -> Vec<(IndexId, Vec<u8>)> {
        let unique = definition.indexes.iter().filter(|index| index.unique);
        unique
            .map(|index| {
                (index.id, index.columns.iter().map(|c| row[usize::from(c.column)].clone()).collect::<Vec<_>>())
            })
            .filter(|(_, key)| !key.iter().any(Datum::is_null))
            .map(|(id, key)| (id, encode(&[key])))
            .collect()
    }

    /// What the model says to a row that comes in beside these keys: the constraint that it would break.
    fn broken(definition: &Table, keys: &mut Keys, row: &[Datum]) -> Option<SqlState> {
        if row[0].is_null() {
            return Some(SqlState::NOT_NULL_VIOLATION);
        }
        let all_new = Run::keys(definition, row).into_iter().all(|key| keys.insert(key).is_none());
        (!all_new).then_some(SqlState::UNIQUE_VIOLATION)
    }

    fn submit(&mut self, changes: &[Change<'_>], expected: Result<(Rows, Keys), SqlState>) {
        let mut bytes = Vec::new();
        changes.iter().for_each(|change| change.write(&mut bytes));
        let changes = Change::read_all(&bytes).unwrap();
        let checked = self.root.check(&changes, &self.account);
        assert_eq!(checked.as_ref().err().map(|error| error.state()), expected.as_ref().err().copied(), "{checked:?}");
        if let Ok((rows, keys)) = expected {
            self.lsn += 1;
            self.last = Some(bytes.clone());
            self.root.apply(&changes, Lsn(self.lsn), &mut self.account);
            (self.rows, self.keys) = (rows, keys);
        }
    }

    fn insert(&mut self) {
        let count = if self.random.below(10) == 0 { 900 } else { 1 + self.random.below(3) } as usize;
        let rows: Vec<Vec<Datum>> = (0..count).map(|_| self.row(count)).collect();
        let mut after = self.rows.clone();
        let mut keys = self.keys.clone();
        let broken = rows.iter().find_map(|row| Run::broken(&self.definition, &mut keys, row));
        let mut free = (0..).map(Position).filter(|position| !self.rows.contains_key(position));
        rows.iter().for_each(|row| drop(after.insert(free.next().unwrap(), row.clone())));
        let bytes = encode(&rows);
        self.submit(&[insert(count, &bytes)], broken.map_or(Ok((after, keys)), Err));
    }

    /// Updates of some rows in one statement, judged one after the other.
    fn update(&mut self) {
        let mut after = self.rows.clone();
        let mut broken = None;
        let mut keys = self.keys.clone();
        let mut updates: BTreeMap<Position, (Vec<u16>, Vec<u8>)> = BTreeMap::new();
        let count = 1 + self.random.below(3);
        let positions: BTreeSet<Position> = (0..count).filter_map(|_| self.any_position()).collect();
        for position in positions {
            let new = self.row(1);
            let columns: Vec<u16> = (0..new.len() as u16).filter(|_| self.random.below(3) == 0).collect();
            let mut row = after[&position].clone();
            Run::keys(&self.definition, &row).iter().for_each(|key| drop(keys.remove(key)));
            columns.iter().for_each(|c| row[usize::from(*c)] = new[usize::from(*c)].clone());
            broken = broken.or_else(|| Run::broken(&self.definition, &mut keys, &row));
            after.insert(position, row);
            let values: Vec<Datum> = columns.iter().map(|c| new[usize::from(*c)].clone()).collect();
            updates.insert(position, (columns, encode(&[values])));
        }
        let changes: Vec<Change<'_>> =
            updates.iter().map(|(position, (columns, values))| update(*position, columns, values)).collect();
        self.submit(&changes, broken.map_or(Ok((after, keys)), Err));
    }

    fn delete(&mut self) {
        let mut after = self.rows.clone();
        let count = if self.random.below(50) == 0 { 3000 } else { 1 + self.random.below(20) };
        let start = self.any_position().unwrap_or_default();
        let gone: Vec<Position> = after.range(start..).map(|(position, _)| *position).take(count as usize).collect();
        let mut keys = self.keys.clone();
        for row in gone.iter().filter_map(|position| after.remove(position)) {
            Run::keys(&self.definition, &row).iter().for_each(|key| drop(keys.remove(key)));
        }
        let changes: Vec<Change<'_>> = gone.into_iter().map(delete).collect();
        self.submit(&changes, Ok((after, keys)));
    }

    /// Adds or drops a column or an index, or truncates.
    fn alter(&mut self) {
        let mut after = self.rows.clone();
        let mut keys = self.keys.clone();
        let mut changed = self.definition.clone();
        let last = changed.columns.len() - 1;
        match self.random.below(5) {
            0 => {
                let missing = value(&mut self.random, SqlType::Text);
                let mut new = column(changed.next_column, "added", SqlType::Text);
                new.id = ColumnId(changed.next_column);
                new.missing = Some(missing.clone());
                changed.next_column += 1;
                changed.columns.push(new);
                after = each(after, |row| row.push(missing.clone()));
            }
            1 if last > 3 => {
                let gone = 3 + self.random.below(last as u64 - 3) as usize;
                changed.columns.remove(gone);
                changed.indexes.retain(|index| index.columns.iter().all(|c| usize::from(c.column) < 3));
                after = each(after, |row| drop(row.remove(gone)));
            }
            2 if changed.indexes.len() == 3 => changed.indexes.push(index(9, "t_last", &[last as u16, 2], false)),
            3 => changed.indexes.retain(|index| index.id != IndexId(9)),
            _ if self.random.below(8) == 0 => {
                changed.generation += 1;
                after.clear();
                keys.clear();
            }
            _ => return,
        }
        let next = catalog(&changed);
        self.submit(&[Change::Catalog(next)], Ok((after, keys)));
        self.definition = changed;
    }

    pub fn step(&mut self) {
        match self.random.below(100) {
            0..45 => self.insert(),
            45..75 => self.update(),
            75..97 => self.delete(),
            97 => self.alter(),
            _ => self.held.push((self.root.clone(), self.definition.clone(), self.rows.clone())),
        }
        if self.random.below(10) == 0 && !self.held.is_empty() {
            let at = self.random.below(self.held.len() as u64) as usize;
            let (root, definition, rows) = self.held.swap_remove(at);
            agrees(&root, &definition, &rows);
            root.finish(&mut self.account);
        }
        self.account.drop_some(5);
    }

    pub fn end(mut self) {
        assert!(self.root.table(T).unwrap().chunks() > 2, "a run fills several chunks");
        agrees(&self.root, &self.definition, &self.rows);
        for (root, definition, rows) in std::mem::take(&mut self.held) {
            agrees(&root, &definition, &rows);
            root.finish(&mut self.account);
        }
        while !self.account.is_clean() {
            self.account.drop_some(100);
        }
        assert_eq!(self.account.used(), self.root.bytes(), "only the last root is left");
        self.root.finish(&mut self.account);
        while !self.account.is_clean() {
            self.account.drop_some(1);
        }
        assert_eq!(self.account.used(), 0);
    }
}

fn each(rows: Rows, change: impl Fn(&mut Vec<Datum>)) -> Rows {
    let changed = rows.into_iter().map(|(position, mut row)| {
        change(&mut row);
        (position, row)
    });
    changed.collect()
}

/// The whole content of a root, read in every way there is, is the model's.
fn agrees(root: &Root, definition: &Table, rows: &Rows) {
    let store = root.table(T).unwrap();
    let expected: Vec<(Position, Vec<Datum>)> = rows.iter().map(|(p, row)| (*p, row.clone())).collect();
    assert_eq!(store.len() as usize, rows.len());
    assert!(content(store) == expected, "by position");
    assert!(lent(store) == expected, "by batch");
    assert_eq!(store.next_position(), Run::free_position(rows));
    assert_eq!(store.indexes().len(), definition.indexes.len());
    for index in store.indexes() {
        assert_eq!(index.len(), rows.len());
        for (position, row) in rows.iter().step_by(17) {
            let key = index.key(index.columns().iter().map(|column| row[usize::from(column.column)].borrow()));
            let Some(key) = key else { continue };
            assert!(store.find(index, &key).any(|found| found == *position));
            assert!(!index.is_unique() || store.get(index, &key) == Some(*position));
        }
        let mut all: Vec<Position> = store.find(index, &[]).collect();
        all.sort();
        assert!(all.iter().eq(rows.keys()), "every row is in every index once");
    }
}
