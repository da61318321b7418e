//! Transactions as their clients saw them: what each statement saw and did of each row.

use super::super::workload::{Act, Response};
use toroid_common::plan::{LockWait, Strength};
use toroid_common::transaction::Level;

/// How a transaction ended, as far as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Committed,
    Aborted,
    /// It may have happened at any time after it began, or never.
    Unknown,
}

/// A transaction as its client saw it; a statement by itself is a serializable one, and one that only reads a cut is a REPEATABLE READ one.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub name: String,
    pub level: Level,
    pub began: u64,
    /// When the commitment was asked for; the beginning, for a statement by itself.
    pub asked: u64,
    /// When its client was told the end; `u64::MAX` when it never was.
    pub ended: u64,
    pub fate: Fate,
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub began: u64,
    /// `u64::MAX` when it was not answered.
    pub ended: u64,
    /// Rolled back to a savepoint before it, when so many statements had begun.
    pub undone: Option<usize>,
    pub did: Vec<Did>,
}

/// What a statement saw and did of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// None: there was no row.
    Saw { key: i32, value: Option<i64> },
    /// It saw a value that nobody may replace before it has ended.
    Locked { key: i32, value: i64 },
    /// It replaced a value (or nothing) by another (or nothing).
    Made { key: i32, from: Option<i64>, to: Option<i64> },
    /// Nobody was told what became of this.
    May { key: i32, change: Change },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Insert(i64),
    Add(i64),
    Delete,
}

impl Did {
    /// What a statement on a key did that was told this, or nothing.
    #[must_use]
    pub fn of(key: i32, act: Act, told: Option<Response>) -> Option<Did> {
        Some(match (act, told) {
            (Act::Insert(value), Some(Response::Wrote(1))) => Did::Made { key, from: None, to: Some(value) },
            (Act::Add { by, .. }, Some(Response::Value(Some(value)))) => {
                Did::Made { key, from: Some(value - by), to: Some(value) }
            }
            (Act::Delete, Some(Response::Value(Some(value)))) => Did::Made { key, from: Some(value), to: None },
            (Act::Read, Some(Response::Value(value))) => Did::Saw { key, value },
            (Act::Lock(lock), Some(Response::Value(Some(value)))) => match lock.strength {
                Strength::KeyShare => Did::Saw { key, value: Some(value) },
                Strength::Share | Strength::NoKeyUpdate | Strength::Update => Did::Locked { key, value },
            },
            (Act::Lock(lock), Some(Response::Value(None))) if lock.wait != LockWait::Skip => {
                Did::Saw { key, value: None }
            }
            (Act::Add { .. } | Act::Delete, Some(Response::Value(None))) => Did::Saw { key, value: None },
            (Act::Insert(value), None) => Did::May { key, change: Change::Insert(value) },
            (Act::Add { by, .. }, None) => Did::May { key, change: Change::Add(by) },
            (Act::Delete, None) => Did::May { key, change: Change::Delete },
            // That there is some row, or nothing at all.
            (Act::Insert(_) | Act::Put(_) | Act::Read | Act::Lock(_) | Act::Add { .. } | Act::Delete, _) => {
                return None;
            }
        })
    }
}
