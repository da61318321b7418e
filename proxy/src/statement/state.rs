//! A session as the conductor sees it: who is connected, with which settings, in which transaction.

use crate::settings::Settings;
use crate::statement::hearing::Hearing;
use crate::statement::transaction::{Open, Running};
use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use toroid_common::env::{Env, Relations};
use toroid_common::error::SqlError;
use toroid_common::holding::Holding;

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
    settings: RefCell<Settings>,
    /// Follows `settings`; its seed is that of the statement.
    env: RefCell<Env>,
    pub transaction: Cell<TransactionStatus>,
    /// The transaction that statements run in, a block's or that of several statements sent together; none when each commits by itself.
    open: RefCell<Option<Rc<Open>>>,
    /// Behind the running statement nothing stands but the commitment of that transaction.
    commits_next: Cell<bool>,
    running: Rc<Running>,
    notices: RefCell<Vec<Notice>>,
    holding: RefCell<Holding>,
    hearing: RefCell<Hearing>,
}

impl State {
    pub fn new(user: String, database: String, process: i32, settings: Settings, canceled: Arc<AtomicBool>) -> State {
        let env = Env { user: user.clone(), database: database.clone(), backend: process, ..Env::default() };
        let state = State {
            user,
            database,
            process,
            settings: RefCell::new(settings),
            env: RefCell::new(env),
            transaction: Cell::default(),
            open: RefCell::default(),
            commits_next: Cell::default(),
            running: Rc::new(Running::new(canceled)),
            notices: RefCell::default(),
            holding: RefCell::default(),
            hearing: RefCell::default(),
        };
        state.change(|_| ());
        state
    }

    /// Lets the session's functions see the catalog.
    pub fn know(&self, relations: Relations) {
        self.env.borrow_mut().relations = relations;
    }

    pub fn settings(&self) -> Ref<'_, Settings> {
        self.settings.borrow()
    }

    /// Whether nothing stands behind the running statement but the commitment of its transaction, as far as is known.
    pub fn commits_next(&self) -> bool {
        self.commits_next.get() && self.hearing.borrow().wishes.is_empty()
    }

    pub fn set_commits_next(&self, next: bool) {
        self.commits_next.set(next);
    }

    /// Changes settings, and what follows from them.
    pub fn change<T>(&self, action: impl FnOnce(&mut Settings) -> T) -> T {
        let result = action(&mut self.settings.borrow_mut());
        let settings = self.settings.borrow();
        let mut env = self.env.borrow_mut();
        env.time_zone = settings.time_zone();
        env.date_order = settings.date_order();
        env.extra_float_digits = settings.extra_float_digits();
        env.search_path = settings.search_path(&self.user);
        env.settings.clone_from(settings.changed());
        env.settings.extend(settings.modes_by_default());
        result
    }

    /// The settings at the end of a transaction. Gives the names that the client must be told.
    pub fn end_transaction(&self, commit: bool) -> Vec<&'static str> {
        // Most transactions change none, and then there is nothing to work out anew.
        if !self.settings.borrow().has_changed() {
            return Vec::new();
        }
        self.change(|settings| settings.end_transaction(commit))
    }

    /// A transaction begins within a statement, with it.
    pub fn begin_transaction_time(&self) {
        let mut env = self.env.borrow_mut();
        env.transaction_time = env.statement_time;
    }

    /// A statement begins. `now` is microseconds since 1970-01-01 UTC.
    pub fn begin_statement(&self, now: i64, seed: u64) {
        self.running.begin();
        let mut env = self.env.borrow_mut();
        env.statement_time = now;
        env.seed = seed;
        if self.transaction.get() == TransactionStatus::Idle && self.open.borrow().is_none() {
            env.transaction_time = now;
        }
    }

    /// What the running statement's stable and volatile functions see. Not to be held across an await; [`Env::clone`] copies strings, so
    /// only statements that need it should take it with them.
    pub fn env(&self) -> Ref<'_, Env> {
        self.env.borrow()
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
        self.running.is_canceled()
    }

    /// What the running statement waits for.
    pub fn running(&self) -> &Rc<Running> {
        &self.running
    }

    /// Lets the session's functions see which channels it listens to.
    pub fn show_channels(&self, channels: Vec<String>) {
        self.env.borrow_mut().listening = channels;
    }

    /// What it holds beside its transactions. Not to be held across an await.
    pub fn holding(&self) -> RefMut<'_, Holding> {
        self.holding.borrow_mut()
    }

    /// The channels that it listens to. Not to be held across an await.
    pub fn hearing(&self) -> RefMut<'_, Hearing> {
        self.hearing.borrow_mut()
    }

    /// The transaction that statements run in.
    pub fn open(&self) -> Option<Rc<Open>> {
        self.open.borrow().clone()
    }

    /// From now on statements run in this transaction, or each in its own; the one before.
    pub fn set_open(&self, open: Option<Rc<Open>>) -> Option<Rc<Open>> {
        self.open.replace(open)
    }
}
