//! What clients do: single-partition statements by key on one table of counters, and now and then a change of the table.

use super::clock::{Instant, MILLISECOND, SECOND};
use crate::random::Random;
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

/// What one operation does to the row of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// INSERT (key, value).
    Insert(i64),
    /// SELECT n.
    Read,
    /// UPDATE SET n = n + 1 RETURNING n; by the primary key, or by a scan outside the worker's thread.
    Add { scan: bool },
    /// UPDATE SET n = value.
    Put(i64),
    /// DELETE RETURNING n.
    Delete,
}

impl Act {
    #[must_use]
    pub fn writes(self) -> bool {
        !matches!(self, Act::Read)
    }
}

/// An operation of the workload.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Not before this instant, and not before the session has ended its last one.
    pub at: Instant,
    pub session: u16,
    pub what: Work,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    On {
        key: i32,
        act: Act,
    },
    /// ALTER TABLE SET (fillfactor = …): every plan is stale afterwards.
    Alter,
}

/// What an operation was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The row's value before or after, as the act says; none when there was no row.
    Value(Option<i64>),
    /// So many rows were written.
    Wrote(u64),
    /// There was such a row already.
    Duplicate,
}

pub const TYPES: [SqlType; 2] = [SqlType::Int4, SqlType::Int8];

/// Operations until `end`: most of them while something goes wrong, or close to when that begins or ends, because there the bugs are.
#[must_use]
pub fn operations(
    random: &mut Random,
    count: usize,
    sessions: u16,
    keys: u64,
    end: Instant,
    troubled: &[(Instant, Instant)],
) -> Vec<Operation> {
    let mut next_value = 1_000_000;
    let mut operations: Vec<Operation> = (0..count)
        .map(|_| {
            let at = moment(random, SECOND, end, troubled);
            let session = random.below(u64::from(sessions)) as u16;
            // Half of the keys get most of the operations.
            let key = if random.percent(60) { random.below(keys / 2 + 1) } else { random.below(keys) } as i32;
            next_value += 1_000_000;
            let act = match random.below(100) {
                0..22 => Act::Insert(next_value),
                22..45 => Act::Read,
                45..75 => Act::Add { scan: false },
                75..80 => Act::Add { scan: true },
                80..90 => Act::Put(next_value),
                _ => Act::Delete,
            };
            Operation { at, session, what: Work::On { key, act } }
        })
        .collect();
    for _ in 0..random.below(4) {
        let at = moment(random, 2 * SECOND, end, troubled);
        operations.push(Operation { at, session: random.below(u64::from(sessions)) as u16, what: Work::Alter });
    }
    operations.sort_by_key(|operation| operation.at);
    operations
}

fn moment(random: &mut Random, from: Instant, end: Instant, troubled: &[(Instant, Instant)]) -> Instant {
    let point = match random.pick(troubled) {
        Some((begin, end)) => match random.below(10) {
            0..3 => close_to(begin, random),
            3..5 => close_to(end, random),
            5..8 => random.between(begin, end),
            _ => random.between(from, end),
        },
        None => random.between(from, end),
    };
    point.clamp(from, end)
}

/// Shortly before an instant or, rather, after it.
fn close_to(point: Instant, random: &mut Random) -> Instant {
    let spread = random.pick(&[3, 30, 300, 1_000]).unwrap_or(30) * MILLISECOND;
    (point + random.below(spread)).saturating_sub(random.below(spread / 3 + 1))
}

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

/// The plan of an act on this table, as the proxy's planner would make it.
#[must_use]
pub fn plan(act: Act, table: &Table) -> PointPlan {
    let key = Expr::Param { index: 0, ty: SqlType::Int4 };
    let index = table.primary_key().map_or(IndexId(0), |index| index.id);
    let by_key = Access::Index { index, key: vec![key.clone()], exact: true };
    let n = || Expr::Leaf(Slot { index: 1, ty: SqlType::Int8 });
    let one = Expr::Const { value: Datum::Int8(1), ty: SqlType::Int8 };
    let (params, verb) = match act {
        Act::Insert(_) => (vec![], Verb::Insert { returning: vec![] }),
        Act::Read => {
            (vec![SqlType::Int4], Verb::Select { access: by_key, filter: None, output: vec![n()], lock: None })
        }
        Act::Add { scan } => {
            let plus = resolve_operator("+", Some(SqlType::Int8), SqlType::Int8).expect("int8 + int8 is there");
            let set = vec![(1, Expr::Call { func: plus.func, args: vec![n(), one], ty: SqlType::Int8 })];
            let equal = equal_of(SqlType::Int4).expect("int4 = int4 is there");
            let id = Expr::Leaf(Slot { index: 0, ty: SqlType::Int4 });
            let same = Expr::Call { func: equal, args: vec![id, key], ty: SqlType::Bool };
            let (access, filter) = if scan { (Access::Scan, Some(same)) } else { (by_key, None) };
            (vec![SqlType::Int4], Verb::Update { access, filter, set, returning: vec![n()] })
        }
        Act::Put(_) => {
            let set = vec![(1, Expr::Param { index: 1, ty: SqlType::Int8 })];
            (TYPES.to_vec(), Verb::Update { access: by_key, filter: None, set, returning: vec![] })
        }
        Act::Delete => (vec![SqlType::Int4], Verb::Delete { access: by_key, filter: None, returning: vec![n()] }),
    };
    PointPlan { table: table.id, table_version: table.version, params, verb, needs_env: false }
}

/// The bytes that a request of this act carries: a row to insert, or parameters.
#[must_use]
pub fn body(key: i32, act: Act) -> Vec<u8> {
    let mut out = Vec::new();
    let key = DatumRef::Int4(key);
    match act {
        Act::Insert(value) | Act::Put(value) => write_row(&mut out, [key, DatumRef::Int8(value)].into_iter()),
        Act::Read | Act::Add { .. } | Act::Delete => write_row(&mut out, [key].into_iter()),
    }
    out
}

/// What an answer says; an error when no answer to this act can look so.
pub fn response(act: Act, outcome: &Outcome<'_>) -> Result<Response, String> {
    let strange = || Err(format!("{act:?} was answered {outcome:?}"));
    match (act, outcome) {
        (Act::Insert(_), Outcome::Error(error)) if error.state().as_str() == "23505" => Ok(Response::Duplicate),
        (Act::Insert(_) | Act::Put(_), Outcome::Done { count }) if *count <= 1 => Ok(Response::Wrote(*count)),
        (Act::Read | Act::Add { .. } | Act::Delete, Outcome::Rows { count: 0, bytes: [] }) => Ok(Response::Value(None)),
        (Act::Read | Act::Add { .. } | Act::Delete, Outcome::Rows { count: 1, bytes }) => {
            match read_owned(bytes, &[SqlType::Int8]).as_deref() {
                Ok([Datum::Int8(value)]) => Ok(Response::Value(Some(*value))),
                _ => strange(),
            }
        }
        _ => strange(),
    }
}
