//! The table that all operations are on, and its plans as the proxy's planner and the storage node's pool would make and run them.

use super::alteration::OWN_COLUMNS;
use super::{Act, Response};
use toroid_common::catalog::{Column, Distribution, Index, IndexColumn, IndexState, PUBLIC_SCHEMA, Table, TableState};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::expr::{Expr, Slot};
use toroid_common::func::resolve::{equal_of, resolve_operator};
use toroid_common::hash::partition_of;
use toroid_common::id::{CatalogVersion, ColumnId, IndexId, PartitionId, TableId};
use toroid_common::plan::{Access, PointPlan, Verb};
use toroid_common::row::{read_owned, write_row};
use toroid_common::types::SqlType;
use toroid_common::wire::Outcome;
use toroid_engine::store::root::Root;

pub const TYPES: [SqlType; 2] = [SqlType::Int4, SqlType::Int8];

/// Where a key's row lives.
#[must_use]
pub fn partition(key: i32, partitions: u16) -> PartitionId {
    partition_of([DatumRef::Int4(key)].into_iter(), partitions)
}

/// CREATE TABLE c (id int4 PRIMARY KEY, n int8).
#[must_use]
pub fn table() -> Table {
    let column = |number: u16, name: &str, ty: SqlType| Column {
        id: ColumnId(number),
        name: name.to_owned(),
        ty: ty.into(),
        not_null: number == 1,
        default: None,
        missing: None,
        hidden: false,
    };
    let primary = Index {
        id: IndexId(0),
        name: "c_pkey".to_owned(),
        columns: vec![IndexColumn { column: 0, descending: false, nulls_first: false }],
        unique: true,
        primary: true,
        constraint: true,
        state: IndexState::Ready,
    };
    Table {
        id: TableId(0),
        schema: PUBLIC_SCHEMA.to_owned(),
        name: "c".to_owned(),
        version: CatalogVersion(0),
        columns: vec![column(1, "id", SqlType::Int4), column(2, "n", SqlType::Int8)],
        indexes: vec![primary],
        distribution: Distribution::Hash(vec![0]),
        state: TableState::Open,
        next_column: 3,
        generation: 0,
        checks: Vec::new(),
        options: Vec::new(),
    }
}

/// An index through which statements may go that do not go by the primary key, if there is one.
#[must_use]
pub fn detour(table: &Table) -> Option<IndexId> {
    let mut ready = table.indexes.iter().filter(|index| !index.primary && index.state == IndexState::Ready);
    ready.next_back().map(|index| index.id)
}

/// The plan of an act on this table, as the proxy's planner would make it; by a detour through all of an index, it may be.
#[must_use]
pub fn plan(act: Act, table: &Table, detour: Option<IndexId>) -> PointPlan {
    let key = Expr::Param { index: 0, ty: SqlType::Int4 };
    let index = table.primary_key().map_or(IndexId(0), |index| index.id);
    let by_key = Access::Index { index, key: vec![key.clone()], exact: true };
    let counter = |index: u16| Expr::Leaf(Slot { index, ty: SqlType::Int8 });
    let n = || counter(1);
    let counters = 1..table.columns.len() as u16;
    let all = || counters.clone().map(counter).collect::<Vec<Expr>>();
    let equal = equal_of(SqlType::Int4).expect("int4 = int4 is there");
    let id = Expr::Leaf(Slot { index: 0, ty: SqlType::Int4 });
    let same = Expr::Call { func: equal, args: vec![id, key], ty: SqlType::Bool };
    let through = |index| Access::Index { index, key: Vec::new(), exact: false };
    let more = Expr::Param { index: 1, ty: SqlType::Int8 };
    let (params, verb) = match act {
        Act::Insert(_) => (vec![], Verb::Insert { conflict: None, returning: vec![] }),
        Act::Read => {
            let (access, filter) = detour.map_or((by_key, None), |index| (through(index), Some(same)));
            (vec![SqlType::Int4], Verb::Select { access, filter, output: all(), lock: None })
        }
        Act::Lock(lock) => {
            (vec![SqlType::Int4], Verb::Select { access: by_key, filter: None, output: all(), lock: Some(lock) })
        }
        Act::Add { scan, .. } => {
            let plus = resolve_operator("+", Some(SqlType::Int8), SqlType::Int8).expect("int8 + int8 is there");
            let sum = Expr::Call { func: plus.func, args: vec![n(), more], ty: SqlType::Int8 };
            let set = counters.clone().map(|column| (column, sum.clone())).collect();
            let (access, filter) = match (scan, detour) {
                (false, _) => (by_key, None),
                (true, Some(index)) => (through(index), Some(same)),
                (true, None) => (Access::Scan, Some(same)),
            };
            (TYPES.to_vec(), Verb::Update { access, filter, set, returning: all() })
        }
        Act::Put(_) => {
            let set = counters.clone().map(|column| (column, more.clone())).collect();
            (TYPES.to_vec(), Verb::Update { access: by_key, filter: None, set, returning: vec![] })
        }
        Act::Delete => (vec![SqlType::Int4], Verb::Delete { access: by_key, filter: None, returning: all() }),
    };
    PointPlan { table: table.id, table_version: table.version, params, verb, needs_env: false }
}

/// Finds no row, and leaves the whole partition locked for a serializable transaction that is about to read it in fragments.
#[must_use]
pub fn lock_plan(table: &Table) -> PointPlan {
    let filter = Some(Expr::Const { value: Datum::Bool(false), ty: SqlType::Bool });
    let verb = Verb::Select { access: Access::Scan, filter, output: Vec::new(), lock: None };
    PointPlan { table: table.id, table_version: table.version, params: Vec::new(), verb, needs_env: false }
}

/// The bytes that a request of this act carries: a row to insert, or parameters.
#[must_use]
pub fn body(key: i32, act: Act, table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    let key = DatumRef::Int4(key);
    match act {
        Act::Insert(value) => {
            let counters = table.columns.iter().skip(1).map(|_| DatumRef::Int8(value));
            let row: Vec<DatumRef<'_>> = std::iter::once(key).chain(counters).collect();
            write_row(&mut out, row.into_iter());
        }
        Act::Put(value) | Act::Add { by: value, .. } => {
            write_row(&mut out, [key, DatumRef::Int8(value)].into_iter());
        }
        Act::Read | Act::Lock(_) | Act::Delete => write_row(&mut out, [key].into_iter()),
    }
    out
}

/// What an answer says; an error when no answer to this act can look so.
pub fn response(act: Act, outcome: &Outcome<'_>, table: &Table) -> Result<Response, String> {
    let strange = || Err(format!("{act:?} was answered {outcome:?}"));
    let types = vec![SqlType::Int8; table.columns.len() - 1];
    match (act, outcome) {
        (Act::Insert(_), Outcome::Error(error)) if error.state().as_str() == "23505" => Ok(Response::Duplicate),
        (Act::Insert(_) | Act::Put(_), Outcome::Done { count }) if *count <= 1 => Ok(Response::Wrote(*count)),
        (Act::Read | Act::Lock(_) | Act::Add { .. } | Act::Delete, Outcome::Rows { count: 0, bytes: [] }) => {
            Ok(Response::Value(None))
        }
        (Act::Read | Act::Lock(_) | Act::Add { .. } | Act::Delete, Outcome::Rows { count: 1, bytes }) => {
            let Ok(row) = read_owned(bytes, &types) else { return strange() };
            let [Datum::Int8(value), added @ ..] = &row[..] else { return strange() };
            let same = |(column, it): (&Column, &Datum)| {
                let written = *it == Datum::Int8(*value);
                written || (!matches!(act, Act::Add { .. }) && column.missing.as_ref() == Some(it))
            };
            match table.columns.iter().skip(OWN_COLUMNS).zip(added).all(same) {
                true => Ok(Response::Value(Some(*value))),
                false => Err(format!("{act:?} was answered {row:?} of {:?}", table.columns)),
            }
        }
        _ => strange(),
    }
}

/// Rows in one batch of a fragment: few, so that fragments have several.
const ROWS_IN_BATCH: usize = 3;
const ROW_BYTES: usize = 14;

/// The row of a key, wherever it is.
#[must_use]
pub fn find(root: &Root, key: i32) -> Option<i64> {
    let mut values = Vec::new();
    root.tables().find_map(|table| {
        table.positions().find_map(|position| {
            values.clear();
            table.row(position, &mut values);
            match values[..] {
                [DatumRef::Int4(of), DatumRef::Int8(n), ..] if of == key => Some(n),
                _ => None,
            }
        })
    })
}

/// What is wrong with the rows that are there, or with indexes that say that they have all of them.
#[must_use]
pub fn unsound(root: &Root) -> Option<String> {
    root.tables().find_map(|table| {
        let mut rows = 0;
        let mut values = Vec::new();
        let wrong = table.positions().find_map(|position| {
            rows += 1;
            values.clear();
            table.row(position, &mut values);
            let fits = |(column, value): (&Column, &DatumRef<'_>)| {
                Some(value) == values.get(1) || column.missing.as_ref().is_some_and(|it| it.borrow() == *value)
            };
            let columns = &table.definition().columns;
            if !columns.iter().zip(&values).skip(OWN_COLUMNS).all(fits) {
                return Some(format!("the row {values:?} of columns {columns:?}"));
            }
            let lacks = table.indexes().iter().filter(|index| index.is_complete()).find(|index| {
                let of_row = index.columns().iter().filter_map(|c| values.get(usize::from(c.column)).copied());
                !index.key(of_row).is_none_or(|key| table.find(index, &key).any(|at| at == position))
            })?;
            Some(format!("the row {values:?}, which index {} does not find", lacks.id()))
        });
        let many = || {
            let index = table.indexes().iter().find(|index| index.is_complete() && index.len() != rows)?;
            Some(format!("{} entries of {rows} rows in index {}", index.len(), index.id()))
        };
        wrong.or_else(many)
    })
}

/// What a fragment that reads a whole table is sent as.
#[must_use]
pub fn fragment(table: &Table) -> Vec<u8> {
    table.id.0.to_le_bytes().to_vec()
}

/// Runs such a fragment over its roots: its batches, and how many rows they have.
#[must_use]
pub fn run_fragment(plan: &[u8], roots: &[(PartitionId, Root)]) -> (Vec<Vec<u8>>, u64) {
    let id = TableId(plan.first_chunk().copied().map_or(0, u32::from_le_bytes));
    let mut rows: Vec<[u8; ROW_BYTES]> = Vec::new();
    let mut values = Vec::new();
    for (partition, root) in roots {
        let Some(table) = root.table(id) else { continue };
        for position in table.positions() {
            values.clear();
            table.row(position, &mut values);
            if let [DatumRef::Int4(key), DatumRef::Int8(n), ..] = values[..] {
                let mut row = [0; ROW_BYTES];
                row[..2].copy_from_slice(&partition.0.to_le_bytes());
                row[2..6].copy_from_slice(&key.to_le_bytes());
                row[6..].copy_from_slice(&n.to_le_bytes());
                rows.push(row);
            }
        }
    }
    (rows.chunks(ROWS_IN_BATCH).map(<[_]>::concat).collect(), rows.len() as u64)
}

/// The rows of a fragment's batch; none when it is none of ours.
#[must_use]
pub fn read_batch(bytes: &[u8]) -> Option<Vec<(PartitionId, i32, i64)>> {
    let (rows, rest) = bytes.as_chunks::<ROW_BYTES>();
    let row = |row: &[u8; ROW_BYTES]| {
        let partition = PartitionId(u16::from_le_bytes(*row.first_chunk()?));
        let key = i32::from_le_bytes(*row.get(2..)?.first_chunk()?);
        Some((partition, key, i64::from_le_bytes(*row.last_chunk()?)))
    };
    if rest.is_empty() { rows.iter().map(row).collect() } else { None }
}
