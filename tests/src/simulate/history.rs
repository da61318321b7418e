//! What clients saw: each operation with when it began, when it was answered, and what it was told.

use super::workload::{Act, Response};

/// How an operation ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its answer has not come. It may happen at any time, or never.
    Open,
    /// The client was told that nobody knows whether it happened, or its proxy is gone: as good as open.
    Unknown,
    /// The client was told that it did not happen.
    Refused,
    Answered(Response),
}

#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub key: i32,
    pub act: Act,
    /// Stamps count all beginnings and ends: of two, the lower was first in true time.
    pub began: u64,
    pub ended: u64,
    pub end: End,
}

#[derive(Debug, Default)]
pub struct History {
    stamp: u64,
    pub records: Vec<Record>,
}

impl History {
    /// An operation begins; returns its number.
    pub fn begin(&mut self, key: i32, act: Act) -> usize {
        self.stamp += 1;
        self.records.push(Record { key, act, began: self.stamp, ended: u64::MAX, end: End::Open });
        self.records.len() - 1
    }

    pub fn end(&mut self, number: usize, end: End) {
        self.stamp += 1;
        if let Some(record) = self.records.get_mut(number) {
            record.end = end;
            if matches!(end, End::Answered(_) | End::Refused) {
                record.ended = self.stamp;
            }
        }
    }
}
