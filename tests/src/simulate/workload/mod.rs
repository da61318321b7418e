//! What clients do: statements by key on one table of counters, scans of all of it, and now and then a change of the table.

pub mod table;

use super::clock::{Instant, MILLISECOND, SECOND};
use crate::random::Random;

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

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One statement on the row of one key.
    On { key: i32, act: Act },
    /// SELECT of all rows: fragments in all partitions, each of which is read in one instant of its own.
    Scan,
    /// ALTER TABLE SET (fillfactor = …): every plan is stale afterwards.
    Alter,
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
            let what = if random.percent(4) { Work::Scan } else { Work::On { key, act } };
            Operation { at, session, what }
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
