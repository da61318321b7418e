//! Transactions as a proxy's session would run them, request by request.

use super::{Cluster, DELETE, Got, INSERT, RENAME, SELECT, UPDATE, named, row};
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{CutId, Epoch, PartitionId, PlanId};
use toroid_common::transaction::{Level, Step};
use toroid_common::wire::{Message, Request, RequestBody, Transact, Within};

/// SELECT … FOR UPDATE, also NOWAIT and SKIP LOCKED, FOR SHARE, and without a key.
pub const LOCK: u32 = 6;
pub const LOCK_NOWAIT: u32 = 7;
pub const LOCK_SKIP: u32 = 8;
pub const LOCK_SHARE: u32 = 9;
/// SELECT * WHERE name = $1.
pub const NAMED: u32 = 10;
/// UPDATE … SET id = $2 WHERE id = $1.
pub const MOVE: u32 = 11;
/// SELECT * WHERE FALSE.
pub const NOBODY: u32 = 12;
pub const LOCK_TABLE: u32 = 13;
/// The same, giving way in a circle.
pub const YIELD_TABLE: u32 = 14;

/// What a request was answered, in short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Count(u64),
    Names(Vec<String>),
    Error(String),
    Refused(String),
}

pub fn said(got: Got) -> (u64, Said) {
    let name = |row: Vec<Datum>| match &row[1] {
        Datum::Text(name) => name.clone(),
        other => panic!("{other:?}"),
    };
    match got {
        Got::Done(sequence, count) => (sequence, Said::Count(count)),
        Got::Rows(sequence, rows) => (sequence, Said::Names(rows.into_iter().map(name).collect())),
        Got::Error(sequence, error) => (sequence, Said::Error(error.state().as_str().to_owned())),
        Got::Refused(sequence, refusal) => (sequence, Said::Refused(format!("{refusal:?}"))),
        other => panic!("{other:?}"),
    }
}

pub fn error(state: SqlState) -> Said {
    Said::Error(state.as_str().to_owned())
}

pub fn names(names: &[&str]) -> Said {
    Said::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

/// One transaction, or statements that commit by themselves: its number, and the requests that each partition has executed.
#[derive(Clone, Debug)]
pub struct Session {
    pub proxy: usize,
    pub number: Option<u64>,
    pub level: Level,
    pub requests: Vec<u32>,
    pub timeout_ms: u32,
    pub cut: Option<CutId>,
    /// The anchor with which its next request prepares.
    pub prepares: Option<PartitionId>,
}

impl Session {
    pub fn begin(proxy: usize, number: u64, level: Level) -> Session {
        Session { proxy, number: Some(number), level, requests: vec![0; 8], timeout_ms: 0, cut: None, prepares: None }
    }

    pub fn auto(proxy: usize) -> Session {
        Session { number: None, ..Session::begin(proxy, 0, Level::ReadCommitted) }
    }
}

pub fn plan_of(id: u32, key: i32, name: &str) -> (u32, Vec<u8>) {
    let (key, name) = (Datum::Int4(key), Datum::Text(name.to_owned()));
    let params = match id {
        SELECT | DELETE | LOCK | LOCK_NOWAIT | LOCK_SKIP | LOCK_SHARE => row(&[key]),
        UPDATE => row(&[key, name]),
        MOVE => row(&[
            key,
            Datum::Int4(match name {
                Datum::Text(to) => to.parse().unwrap(),
                _ => unreachable!(),
            }),
        ]),
        NAMED => row(&[name]),
        NOBODY | LOCK_TABLE | YIELD_TABLE => Vec::new(),
        RENAME => row(&[name, Datum::Text("renamed".to_owned())]),
        other => panic!("plan {other}"),
    };
    (id, params)
}

impl Cluster {
    /// Sends a request of a session with this sequence; counts it.
    pub fn statement(&mut self, session: &mut Session, partition: usize, sequence: u64, what: (u32, i32, &str)) {
        self.repeat(session, partition, sequence, what);
        session.requests[partition] += 1;
    }

    /// The same without counting.
    pub fn repeat(&mut self, session: &Session, partition: usize, sequence: u64, (plan, key, name): (u32, i32, &str)) {
        let within = session.number.map(|number| Within {
            number,
            earlier: session.requests[partition],
            level: session.level,
            cut: session.cut,
            process: number as u32 + 1_000,
            prepares: session.prepares,
        });
        let insert = row(&named(key, name));
        let params = if plan == INSERT { Vec::new() } else { plan_of(plan, key, name).1 };
        let body = match plan {
            INSERT => RequestBody::Insert { rows: 1, bytes: &insert },
            _ => RequestBody::Point { params: &params },
        };
        let epoch = self.epoch_of(partition);
        let request = Request {
            sequence,
            low: sequence.min(self.low),
            partition: PartitionId(partition as u16),
            epoch,
            plan: PlanId(plan),
            within,
            lock_timeout_ms: session.timeout_ms,
            env: None,
            body,
        };
        self.send(session.proxy, &Message::Request(request));
    }

    fn epoch_of(&self, partition: usize) -> Epoch {
        self.map.assignment(PartitionId(partition as u16)).map_or(Epoch(1), |assignment| assignment.epoch)
    }

    /// Sends a step of a session's transaction.
    pub fn step_of(&mut self, session: &Session, partition: usize, sequence: u64, step: Step) {
        let transact = Transact {
            sequence,
            low: sequence.min(self.low),
            partition: PartitionId(partition as u16),
            epoch: self.epoch_of(partition),
            number: session.number.unwrap(),
            step,
        };
        self.send(session.proxy, &Message::Transact(transact));
    }

    /// What a session is told in the end about one request.
    #[track_caller]
    pub fn told(&mut self, proxy: usize) -> Vec<(u64, Said)> {
        self.run();
        self.take(proxy).into_iter().map(said).collect()
    }
}
