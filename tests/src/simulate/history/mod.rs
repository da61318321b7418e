//! What clients saw: each operation's statements with what they were told, and how the operation ended as a whole.
//!
//! An operation is a statement by itself, or a transaction of several, whose outcome may be as unknown as theirs.

pub mod transaction;
pub mod grip;
pub mod notices;
pub mod forsaken;
pub mod changes;

use super::workload::{Act, Response, table};
use changes::Change;
use forsaken::Forsaken;
use grip::Grips;
use notices::Notices;
use std::collections::BTreeMap;
use toroid_common::id::{PartitionId, TransactionId};
use toroid_common::transaction::Level;
use transaction::{Did, Fate, Statement, Transaction};

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

impl Record {
    /// A statement by itself is a transaction of one statement.
    fn as_transaction(&self, number: usize, keys: &[i32], partitions: u16) -> Transaction {
        let fate = match self.end {
            End::Open | End::Unknown => Fate::Unknown,
            End::Refused => Fate::Aborted,
            End::Answered => Fate::Committed,
        };
        let did = self.steps.iter().flat_map(|step| match step {
            Step::On { key, act, told } => {
                let told = told.filter(|_| self.end == End::Answered);
                Did::of(*key, *act, told).into_iter().collect::<Vec<Did>>()
            }
            Step::Scan { told: Some(rows) } if self.end == End::Answered => saw(rows, keys, partitions),
            Step::Scan { .. } => Vec::new(),
        });
        let statement = Statement { began: self.began, ended: self.ended, undone: None, did: did.collect() };
        let name = format!("O{number}");
        let (level, began, ended) = (Level::Serializable, self.began, self.ended);
        Transaction { name, level, began, asked: began, ended, fate, statements: vec![statement] }
    }
}

/// What a scan saw of all keys in the partitions that it read.
#[must_use]
pub fn saw(rows: &Rows, keys: &[i32], partitions: u16) -> Vec<Did> {
    let of = |key: &i32| {
        let there = rows.get(&table::partition(*key, partitions))?;
        Some(Did::Saw { key: *key, value: there.get(key).copied() })
    };
    keys.iter().filter_map(of).collect()
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
    pub transactions: Vec<Transaction>,
    /// By which number each transaction is known here.
    pub numbers: BTreeMap<TransactionId, usize>,
    pub forsaken: Vec<Forsaken>,
    pub emptied: Vec<Emptied>,
    pub grips: Grips,
    pub notices: Notices,
    pub changes: Vec<Change>,
}

impl History {
    fn next(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// The last statement that a transaction has begun.
    fn last_statement(&self, transaction: usize) -> usize {
        self.transactions.get(transaction).map_or(0, |it| it.statements.len().saturating_sub(1))
    }

    /// How many there have been: statements, in transactions or not, locks, notifications, and channels listened to.
    #[must_use]
    pub fn operations(&self) -> usize {
        let within: usize = self.transactions.iter().map(|transaction| transaction.statements.len()).sum();
        within + self.records.len() + self.grips.all.len() + self.notices.said.len() + self.notices.ears.len()
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

    /// A transaction begins; returns its number.
    pub fn begin_transaction(&mut self, level: Level) -> usize {
        let number = self.transactions.len();
        let (began, ended) = (self.next(), u64::MAX);
        let asked = began;
        let name = format!("T{number}");
        let statements = Vec::new();
        self.transactions.push(Transaction { name, level, began, asked, ended, fate: Fate::Unknown, statements });
        number
    }

    /// A statement of a transaction begins; `may` is what comes of it if nobody is told.
    pub fn begin_statement(&mut self, transaction: usize, may: Vec<Did>) {
        let began = self.next();
        if let Some(it) = self.transactions.get_mut(transaction) {
            it.statements.push(Statement { began, ended: u64::MAX, undone: None, did: may });
        }
    }

    /// The last statement of a transaction was told something.
    pub fn end_statement(&mut self, transaction: usize, did: Vec<Did>) {
        let ended = self.next();
        if let Some(statement) = self.transactions.get_mut(transaction).and_then(|it| it.statements.last_mut()) {
            (statement.ended, statement.did) = (ended, did);
        }
    }

    /// All but the first so many statements of a transaction were rolled back.
    pub fn undo(&mut self, transaction: usize, keep: usize) {
        if let Some(it) = self.transactions.get_mut(transaction) {
            let count = it.statements.len();
            for statement in it.statements.iter_mut().skip(keep) {
                statement.undone.get_or_insert(count);
            }
        }
    }

    /// A transaction is asked to commit.
    pub fn ask(&mut self, transaction: usize) {
        let asked = self.next();
        if let Some(it) = self.transactions.get_mut(transaction) {
            it.asked = asked;
        }
    }

    pub fn end_transaction(&mut self, transaction: usize, fate: Fate) {
        let ended = self.next();
        if let Some(it) = self.transactions.get_mut(transaction) {
            it.fate = fate;
            if fate != Fate::Unknown {
                it.ended = ended;
            }
        }
    }

    /// Everything as transactions, without the rows of partitions that were given up. Who scanned saw of each of these keys a row, or none.
    #[must_use]
    pub fn as_transactions(&self, keys: &[i32], partitions: u16) -> Vec<Transaction> {
        let kept = |key: i32| {
            let partition = table::partition(key, partitions);
            !self.emptied.iter().any(|emptied| emptied.partition == partition)
        };
        let mut all: Vec<Transaction> = self
            .records
            .iter()
            .enumerate()
            .map(|(number, record)| record.as_transaction(number, keys, partitions))
            .collect();
        all.extend(self.transactions.iter().cloned());
        for statement in all.iter_mut().flat_map(|it| &mut it.statements) {
            statement.did.retain(|did| match *did {
                Did::Saw { key, .. } | Did::Locked { key, .. } | Did::Made { key, .. } | Did::May { key, .. } => {
                    kept(key)
                }
            });
        }
        all
    }

    /// A partition begins again without its rows.
    pub fn empty(&mut self, partition: PartitionId) {
        let at = self.next();
        self.emptied.push(Emptied { partition, at });
        let lost = self.grips.all.iter_mut().filter(|grip| grip.partition == partition);
        lost.for_each(|grip| grip.given = grip.given.min(at));
        let heirs = self.forsaken.iter_mut().filter(|it| it.anchor == partition && it.anew == u64::MAX);
        heirs.for_each(|it| it.anew = at);
    }
}

/// What a statement was told.
#[derive(Clone, Debug)]
pub enum Told {
    Response(Response),
    Rows(Rows),
}
