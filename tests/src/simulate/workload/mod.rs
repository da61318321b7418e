//! What clients do: statements by key on one table of counters, scans of all of it, transactions of these, and now and then a change of the table.

pub mod alteration;
pub mod table;
pub mod block;
pub mod deed;

use super::clock::{Instant, MILLISECOND, SECOND};
use crate::random::Random;
use alteration::Alteration;
use block::Block;
use deed::{Deed, Terms};
use toroid_common::plan::{LockWait, RowLock, Strength};

/// Rows of each partition that are there from the beginning, and the key of the first.
const BALLAST: u64 = 80;
const FIRST_BALLAST: i32 = 1_000;

/// What one operation does to the row of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// INSERT (key, value).
    Insert(i64),
    /// SELECT n.
    Read,
    /// UPDATE SET n = n + by RETURNING n; by the primary key, or by a scan outside the worker's thread.
    Add { scan: bool, by: i64 },
    /// UPDATE SET n = value.
    Put(i64),
    /// DELETE RETURNING n.
    Delete,
    /// SELECT n … FOR UPDATE and its kin, within a transaction.
    Lock(RowLock),
}

impl Act {
    #[must_use]
    pub fn writes(self) -> bool {
        !matches!(self, Act::Read | Act::Lock(_))
    }
}

/// An operation of the workload.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Not before this instant, and not before the session has ended its last one.
    pub at: Instant,
    pub session: u16,
    pub what: Work,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// One statement on the row of one key.
    On { key: i32, act: Act },
    /// SELECT of all rows: fragments in all partitions. Without a cut each worker's are read in one instant of its own.
    Scan { cut: bool },
    /// BEGIN and what follows until its end.
    Block(Block),
    /// Something beside tables.
    Deed(Deed, Terms),
    /// A change of the table: every plan is stale afterwards.
    Alter(Alteration),
}

/// What a statement on a key was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The row's value before or after, as the act says; none when there was no row.
    Value(Option<i64>),
    /// So many rows were written.
    Wrote(u64),
    /// There was such a row already.
    Duplicate,
}

/// Which workload it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Statements by themselves, of all kinds: each key is judged like a register.
    Statements,
    /// Every value is made once, by statements by themselves or, so many times out of a hundred, by transactions.
    Values { transactions: u64 },
}

/// Operations until `end`: most of them while something goes wrong, or close to when that begins or ends, because there the bugs are.
#[must_use]
pub fn operations(
    random: &mut Random,
    kind: Kind,
    (count, sessions, keys): (usize, u16, u64),
    end: Instant,
    troubled: &[(Instant, Instant)],
) -> Vec<Operation> {
    let mut next_value = 1_000_000;
    let mut operations: Vec<Operation> = (0..count)
        .map(|_| {
            let at = moment(random, SECOND, end, troubled);
            let session = random.below(u64::from(sessions)) as u16;
            let what = match kind {
                Kind::Statements => {
                    next_value += 1_000_000;
                    let work = Work::On { key: some_key(random, keys), act: any_act(random, next_value) };
                    let scan = Work::Scan { cut: session.is_multiple_of(2) };
                    if random.percent(4) { scan } else { work }
                }
                Kind::Values { transactions } if random.percent(transactions) => Work::Block(Block::draw(random, keys)),
                Kind::Values { .. } if random.percent(8) => Work::Scan { cut: true },
                Kind::Values { .. } => {
                    let key = some_key(random, keys);
                    Work::On { key, act: unique_act(random, key) }
                }
            };
            Operation { at, session, what }
        })
        .collect();
    for _ in 0..random.below(4) {
        let at = moment(random, 2 * SECOND, end, troubled);
        let session = random.below(u64::from(sessions)) as u16;
        operations.push(Operation { at, session, what: Work::Alter(Alteration::Option) });
    }
    operations.sort_by_key(|operation| operation.at);
    operations
}

/// Rows that are there from the beginning, so many for each partition: more than are entered into a new index at once. Some statements are on them.
pub fn fill(random: &mut Random, (partitions, sessions): (u16, u16), to: &mut Vec<Operation>) {
    let rows = u64::from(partitions) * BALLAST;
    for operation in to.iter_mut() {
        if let Work::On { key, .. } = &mut operation.what
            && random.percent(25)
        {
            *key = FIRST_BALLAST + random.below(rows) as i32;
        }
    }
    for number in 0..rows {
        let session = (number % u64::from(sessions)) as u16;
        let act = Act::Insert(random.between(1, 1 << 50) as i64);
        to.push(Operation { at: SECOND, session, what: Work::On { key: FIRST_BALLAST + number as i32, act } });
    }
    to.sort_by_key(|operation| operation.at);
}

/// Half of the keys get most of the operations.
fn some_key(random: &mut Random, keys: u64) -> i32 {
    (if random.percent(60) { random.below(keys / 2 + 1) } else { random.below(keys) }) as i32
}

fn any_act(random: &mut Random, next_value: i64) -> Act {
    match random.below(100) {
        0..22 => Act::Insert(next_value),
        22..45 => Act::Read,
        45..75 => Act::Add { scan: false, by: 1 },
        75..80 => Act::Add { scan: true, by: 1 },
        80..90 => Act::Put(next_value),
        _ => Act::Delete,
    }
}

/// An act whose value nobody else will make; few keys are ever deleted, so that it is known of the others what it means to find no row.
fn unique_act(random: &mut Random, key: i32) -> Act {
    let value = random.between(1, 1 << 50) as i64;
    match random.below(100) {
        0..20 => Act::Insert(value),
        20..45 => Act::Read,
        45..50 => Act::Add { scan: true, by: value },
        50..60 if key % 4 == 3 => Act::Delete,
        _ => Act::Add { scan: false, by: value },
    }
}

/// One that locks a row and leaves it as it is.
fn locking_act(random: &mut Random) -> Act {
    let strength = random.pick(&[Strength::Update, Strength::NoKeyUpdate, Strength::Share, Strength::KeyShare]);
    let wait = random.pick(&[LockWait::Wait, LockWait::Wait, LockWait::Fail, LockWait::Skip]);
    Act::Lock(RowLock { strength: strength.unwrap_or(Strength::Update), wait: wait.unwrap_or(LockWait::Wait) })
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
