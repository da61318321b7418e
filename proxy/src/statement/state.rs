//! A session as the conductor sees it: who is connected, with which settings, in which transaction.

use crate::settings::Settings;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use toroid_common::env::{Draws, Env};
use toroid_common::error::SqlError;

/// The status letter of ReadyForQuery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransactionStatus {
    #[default]
    Idle,
    Open,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Debug,
    Log,
    Notice,
    Warning,
    Info,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Debug => "DEBUG",
            Severity::Log => "LOG",
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Info => "INFO",
        }
    }
}

/// A message that is no error; its SQLSTATE is 00000 or one of class 01.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub severity: Severity,
    pub text: SqlError,
}

/// One session's state; belongs to one thread.
#[derive(Debug)]
pub struct State {
    pub user: String,
    pub database: String,
    /// The number of BackendKeyData, `pg_backend_pid()`.
    pub process: i32,
    pub settings: RefCell<Settings>,
    pub transaction: Cell<TransactionStatus>,
    /// `statement_timestamp()`: microseconds since 1970-01-01 UTC.
    pub statement_time: Cell<i64>,
    /// `now()`.
    pub transaction_time: Cell<i64>,
    notices: RefCell<Vec<Notice>>,
    canceled: Arc<AtomicBool>,
}

impl State {
    pub fn new(user: String, database: String, process: i32, settings: Settings, canceled: Arc<AtomicBool>) -> State {
        State {
            user,
            database,
            process,
            settings: RefCell::new(settings),
            transaction: Cell::default(),
            statement_time: Cell::new(0),
            transaction_time: Cell::new(0),
            notices: RefCell::default(),
            canceled,
        }
    }

    /// What a statement that calls stable or volatile functions takes with it. It copies strings: only for plans that need it.
    pub fn env(&self, seed: u64) -> Env {
        let settings = self.settings.borrow();
        Env {
            statement_time: self.statement_time.get(),
            transaction_time: self.transaction_time.get(),
            time_zone: settings.time_zone().to_owned(),
            date_order: settings.date_order(),
            extra_float_digits: settings.extra_float_digits(),
            seed,
            user: self.user.clone(),
            database: self.database.clone(),
            search_path: settings.search_path(&self.user),
            settings: settings.changed().clone(),
            backend: self.process,
            clock: 0,
            draws: Draws::default(),
        }
    }

    /// Queues a notice; it goes to the client before the answer's next message.
    pub fn notify(&self, severity: Severity, text: SqlError) {
        self.notices.borrow_mut().push(Notice { severity, text });
    }

    pub fn take_notices(&self) -> Vec<Notice> {
        match self.notices.try_borrow_mut() {
            Ok(mut notices) if !notices.is_empty() => std::mem::take(&mut notices),
            _ => Vec::new(),
        }
    }

    /// Whether a cancel request or a timeout waits for the running statement: a write that has done nothing yet may answer 57014.
    pub fn canceled(&self) -> bool {
        self.canceled.load(Ordering::Relaxed)
    }
}
