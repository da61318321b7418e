//! What clients saw: each operation's statements with what they were told, and how the operation ended as a whole.
//!
//! An operation is one statement today. A transaction is one with more of them, whose outcome may be as unknown as theirs.

use super::workload::{Act, Response};
use std::collections::BTreeMap;
use toroid_common::id::PartitionId;

/// How an operation ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its answer has not come. It may happen at any time, or never.
    Open,
    /// The client was told that nobody knows whether it happened, or its proxy is gone: as good as open.
    Unknown,
    /// The client was told that it did not happen.
    Refused,
    /// It happened, and each statement was told something.
    Answered,
}

/// One statement, with what its client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// On the row of one key.
    On { key: i32, act: Act, told: Option<Response> },
    /// All rows, by partition.
    Scan { told: Option<Rows> },
}

/// By partition, the rows that a scan saw there by their keys.
pub type Rows = BTreeMap<PartitionId, BTreeMap<i32, i64>>;

#[derive(Clone, Debug)]
pub struct Record {
    pub steps: Vec<Step>,
    /// Stamps count all beginnings and ends: of two, the lower was first in true time.
    pub began: u64,
    pub ended: u64,
    pub end: End,
}

/// A partition whose rows were given up, and which began again, empty.
#[derive(Clone, Copy, Debug)]
pub struct Emptied {
    pub partition: PartitionId,
    pub at: u64,
}

#[derive(Debug, Default)]
pub struct History {
    stamp: u64,
    pub records: Vec<Record>,
    pub emptied: Vec<Emptied>,
}

impl History {
    fn next(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// An operation of these statements begins; returns its number.
    pub fn begin(&mut self, steps: Vec<Step>) -> usize {
        let began = self.next();
        self.records.push(Record { steps, began, ended: u64::MAX, end: End::Open });
        self.records.len() - 1
    }

    /// A statement was told something.
    pub fn told(&mut self, number: usize, step: usize, what: Told) {
        let step = self.records.get_mut(number).and_then(|record| record.steps.get_mut(step));
        match (step, what) {
            (Some(Step::On { told, .. }), Told::Response(response)) => *told = Some(response),
            (Some(Step::Scan { told }), Told::Rows(rows)) => *told = Some(rows),
            (Some(Step::On { .. } | Step::Scan { .. }) | None, Told::Response(_) | Told::Rows(_)) => {}
        }
    }

    pub fn end(&mut self, number: usize, end: End) {
        let ended = self.next();
        if let Some(record) = self.records.get_mut(number) {
            record.end = end;
            if matches!(end, End::Answered | End::Refused) {
                record.ended = ended;
            }
        }
    }

    /// A partition begins again without its rows.
    pub fn empty(&mut self, partition: PartitionId) {
        let at = self.next();
        self.emptied.push(Emptied { partition, at });
    }
}

/// What a statement was told.
#[derive(Clone, Debug)]
pub enum Told {
    Response(Response),
    Rows(Rows),
}
