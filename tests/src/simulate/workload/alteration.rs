//! Changes of the table that clients ask for, resolved as the product's schema changes would be.

use super::{Operation, Work, moment};
use crate::random::Random;
use crate::simulate::clock::{Instant, MILLISECOND, SECOND};
use toroid_common::catalog::{Column, Distribution, Index, IndexColumn, IndexState, Table};
use toroid_common::datum::Datum;
use toroid_common::id::{ColumnId, IndexId};
use toroid_common::types::SqlType;
use toroid_common::wire::CatalogChange;

/// Columns that every table has: the key and the counter.
pub const OWN_COLUMNS: usize = 2;
/// No more are added.
const MOST_COLUMNS: usize = 6;
/// No more are made.
const MOST_INDEXES: usize = 4;
/// Operations that are close to each change.
const CROWD: usize = 8;

/// A change of the table that leaves the counters what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// SET (fillfactor = …).
    Option,
    /// CREATE INDEX on the counters.
    Index,
    /// CREATE UNIQUE INDEX on counters and keys.
    UniqueIndex,
    /// CREATE INDEX on the last column that was added.
    IndexOnAdded,
    /// DROP INDEX of the oldest that is not the primary key's.
    DropIndex,
    /// ADD COLUMN, with a default for the rows that are there.
    AddColumn,
    /// DROP COLUMN of the oldest that was added; indexes on it go as well.
    DropColumn,
}

/// What a change comes to against one version of the table.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub change: CatalogChange,
    /// The name of what it makes.
    pub makes: Option<String>,
    /// Names of what goes.
    pub drops: Vec<String>,
}

/// Resolves a change; what it makes gets this name. None where there is nothing to change.
#[must_use]
pub fn resolve(table: &Table, what: Alteration, name: String) -> Option<Resolved> {
    let mut altered = table.clone();
    let key = |column: u16| IndexColumn { column, descending: false, nulls_first: false };
    let last = table.columns.len() as u16 - 1;
    match what {
        Alteration::Option => {
            altered.options = vec![format!("fillfactor={}", 10 + table.version.0 % 90)];
            return Some(Resolved { change: CatalogChange::AlterTable(altered), makes: None, drops: Vec::new() });
        }
        Alteration::Index => make_index(&mut altered, &name, vec![key(1)], false)?,
        Alteration::UniqueIndex => make_index(&mut altered, &name, vec![key(1), key(0)], true)?,
        Alteration::IndexOnAdded if table.columns.len() > OWN_COLUMNS => {
            make_index(&mut altered, &name, vec![key(last)], false)?;
        }
        Alteration::IndexOnAdded => return None,
        Alteration::DropIndex => {
            let index = table.indexes.iter().find(|index| !index.primary)?;
            let drops = vec![index.name.clone()];
            return Some(Resolved { change: CatalogChange::DropIndexes(vec![index.id]), makes: None, drops });
        }
        Alteration::AddColumn if table.columns.len() < MOST_COLUMNS => add_column(&mut altered, &name),
        Alteration::AddColumn => return None,
        Alteration::DropColumn => {
            let drops = drop_column(&mut altered)?;
            return Some(Resolved { change: CatalogChange::AlterTable(altered), makes: None, drops });
        }
    }
    Some(Resolved { change: CatalogChange::AlterTable(altered), makes: Some(name), drops: Vec::new() })
}

fn make_index(table: &mut Table, name: &str, columns: Vec<IndexColumn>, unique: bool) -> Option<()> {
    (table.indexes.len() < MOST_INDEXES).then(|| {
        table.indexes.push(Index {
            id: IndexId(0),
            name: name.to_owned(),
            columns,
            unique,
            primary: false,
            constraint: false,
            state: IndexState::Building,
        });
    })
}

fn add_column(table: &mut Table, name: &str) {
    table.columns.push(Column {
        id: ColumnId(table.next_column),
        name: name.to_owned(),
        ty: SqlType::Int8.into(),
        not_null: false,
        default: None,
        // No counter is negative.
        missing: Some(Datum::Int8(-i64::from(table.next_column))),
        hidden: false,
    });
    table.next_column += 1;
}

/// Returns the names of what goes; none where nothing was added.
fn drop_column(table: &mut Table) -> Option<Vec<String>> {
    if table.columns.len() <= OWN_COLUMNS {
        return None;
    }
    let place = OWN_COLUMNS as u16;
    let mut drops = vec![table.columns.remove(OWN_COLUMNS).name];
    table.indexes.retain(|index| {
        let on_it = index.columns.iter().any(|key| key.column == place);
        drops.extend(on_it.then(|| index.name.clone()));
        !on_it
    });
    for key in table.indexes.iter_mut().flat_map(|index| &mut index.columns) {
        key.column -= u16::from(key.column > place);
    }
    debug_assert_eq!(table.distribution, Distribution::Hash(vec![0]));
    Some(drops)
}

/// Puts some of what clients do close to the changes of the table: an index is built in some milliseconds.
pub fn crowd(random: &mut Random, operations: &mut [Operation]) {
    let changes: Vec<Instant> = operations
        .iter()
        .filter(|operation| matches!(operation.what, Work::Alter(_)))
        .map(|operation| operation.at)
        .collect();
    for at in changes.into_iter().flat_map(|at| std::iter::repeat_n(at, CROWD)) {
        let place = random.below(operations.len() as u64) as usize;
        if let Some(Operation { at: known, what: Work::On { .. } | Work::Block(_), .. }) = operations.get_mut(place)
            && *known > 2 * SECOND
        {
            *known = at + random.below(12 * MILLISECOND);
        }
    }
    operations.sort_by_key(|operation| operation.at);
}

/// Adds changes of the table to what clients do.
pub fn mix(random: &mut Random, sessions: u16, end: Instant, troubled: &[(Instant, Instant)], to: &mut Vec<Operation>) {
    let kinds = [
        Alteration::Index,
        Alteration::UniqueIndex,
        Alteration::IndexOnAdded,
        Alteration::DropIndex,
        Alteration::AddColumn,
        Alteration::AddColumn,
        Alteration::DropColumn,
    ];
    for _ in 0..random.between(6, 24) {
        let at = moment(random, 2 * SECOND, end, troubled);
        let what = Work::Alter(random.pick(&kinds).unwrap_or(Alteration::Option));
        to.push(Operation { at, session: random.below(u64::from(sessions)) as u16, what });
    }
    to.sort_by_key(|operation| operation.at);
}
