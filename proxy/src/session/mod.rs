//! One client's session: messages in, statements to the conductor, answers out.
//!
//! The loop ([`serve`]) takes every message that has come before it writes; answers leave when the input is drained, when the buffer is big, or
//! when a statement whose forerunners' answers the client may be waiting for takes its time.

mod answer;
mod command;
mod copy_in;
mod copy_out;
mod extended;
mod keepalive;
pub mod metrics;
mod names;
mod portal;
mod run;
mod simple;
mod transaction;
mod wire;

pub use wire::{Interrupt, Wire};

use crate::protocol::frontend::Message;
use crate::protocol::input::Frame;
use crate::settings::Mark;
use crate::statement::{Executor, Prepared, State, TransactionStatus};
use metrics::Metrics;
use names::Names;
use portal::Portal;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlState};
use wire::Next;

/// Most prepared statements and portals that one session may keep.
const MAX_NAMES: usize = 10_000;

/// Why a message was not carried out.
#[derive(Debug)]
pub enum Fault {
    /// ErrorResponse; the session goes on.
    Sql(SqlError),
    /// ErrorResponse, where it can still be sent; the connection ends.
    Fatal(SqlError),
    /// The socket is gone.
    Closed,
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Fault {
        Fault::Sql(error)
    }
}

pub struct Session<E: Executor> {
    executor: Rc<E>,
    metrics: Rc<Metrics>,
    pub state: State,
    wire: Wire,
    statements: Names<Arc<Prepared<E::Plan>>>,
    portals: Names<Portal<E::Plan>>,
    /// Messages of the extended protocol have come since the last Sync: ReadyForQuery is due before anything that nobody asked for.
    owing: bool,
    /// After an error in the extended protocol: everything up to Sync is passed over.
    skipping: bool,
    /// A statement of the open transaction has looked at rows.
    queried: bool,
    /// What was set at the savepoints of the open transaction, how many portals had been opened, and how many wishes there were.
    savepoints: Vec<(Mark, u64, usize)>,
    /// Portals that were opened in this session.
    opened: u64,
    /// The running statement is the last of a transaction that nobody began, which is committed before the client hears of the end.
    last: bool,
    /// The running statement came in one text with others.
    several: bool,
    /// Reported settings that changed since the client was told.
    changed: Vec<&'static str>,
    /// When the running statement has taken too long.
    deadline: Option<tokio::time::Instant>,
}

impl<E: Executor> Session<E> {
    pub fn new(executor: Rc<E>, metrics: Rc<Metrics>, state: State, wire: Wire) -> Session<E> {
        state.know(executor.relations());
        Session {
            executor,
            metrics,
            state,
            wire,
            statements: Names::default(),
            portals: Names::default(),
            owing: false,
            skipping: false,
            queried: false,
            savepoints: Vec::new(),
            opened: 0,
            last: false,
            several: false,
            changed: Vec::new(),
            deadline: None,
        }
    }

    /// Serves the client until it goes, breaks the protocol, or is told to go.
    pub async fn serve(&mut self) {
        self.serve_messages().await;
        self.executor.leave(&self.state);
    }

    async fn serve_messages(&mut self) {
        self.wire.keep_alive(self.state.settings().keepalive());
        self.wire.output.ready(self.state.transaction.get());
        let fault = loop {
            match self.step().await {
                Ok(true) => {}
                // Answers to what came in one piece with Terminate are still owed.
                Ok(false) => {
                    self.wire.flush().await.ok();
                    return;
                }
                Err(fault) => break fault,
            }
        };
        if let Fault::Fatal(error) | Fault::Sql(error) = fault {
            self.metrics.fatal();
            self.wire.output.error(&error, true);
            self.wire.flush().await.ok();
        }
    }

    /// One message; false at the end of the session.
    async fn step(&mut self) -> Result<bool, Fault> {
        let frame = match self.wire.next_at_hand().await? {
            Some(frame) => frame,
            None => match self.next_frame().await? {
                Some(frame) => frame,
                None => return Ok(false),
            },
        };
        let message = Message::read(&frame).map_err(Fault::Fatal)?;
        if let Message::Terminate = message {
            return Ok(false);
        }
        if self.skipping && message != Message::Sync {
            return Ok(true);
        }
        let (outcome, extended) = match message {
            Message::Query { text } => (self.query(text).await, false),
            Message::Parse { name, text, types } => (self.parse(name, text, types).await, true),
            Message::Bind(bind) => (self.bind(&bind).await, true),
            Message::Describe { target, name } => (self.describe(target, name), true),
            Message::Execute { portal, limit } => (self.execute(portal, limit).await, true),
            Message::Close { target, name } => (self.close(target, name), true),
            Message::Flush => (self.wire.flush().await, true),
            Message::Sync => (self.sync().await, false),
            Message::FunctionCall => (Err(SqlError::unsupported("the function call protocol").into()), false),
            // What is left of a COPY that failed.
            Message::CopyData(_) | Message::CopyDone | Message::CopyFail { .. } => (Ok(()), true),
            Message::Terminate => (Ok(()), true),
        };
        self.owing = extended;
        match outcome {
            Ok(()) => {}
            Err(Fault::Sql(error)) => {
                self.fail(&error).await;
                self.skipping = extended;
                if !extended {
                    self.ready()?;
                }
            }
            Err(fault) => return Err(fault),
        }
        Ok(true)
    }

    /// The next message, waited for; meanwhile notifications leave as they come, outside of transactions.
    async fn next_frame(&mut self) -> Result<Option<Frame>, Fault> {
        let in_transaction = self.state.transaction.get() != TransactionStatus::Idle;
        let timeout = self.state.settings().idle_timeout(in_transaction);
        let inbox = self.state.hearing().inbox.clone();
        let until = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
        loop {
            let mail = (!in_transaction && !self.owing).then_some(&*inbox);
            match self.wire.next_or_idle(until, in_transaction, mail).await? {
                Next::Frame(frame) => return Ok(frame),
                Next::Mail => {
                    self.send_heard()?;
                    self.wire.flush().await?;
                }
            }
        }
    }

    /// Sends the notifications that wait.
    fn send_heard(&mut self) -> Result<(), Fault> {
        let heard = {
            let hearing = self.state.hearing();
            if hearing.inbox.is_empty() {
                return Ok(());
            }
            hearing.inbox.take().map_err(Fault::Fatal)?
        };
        for heard in heard {
            self.wire.output.notification(heard.process, &heard.channel, &heard.payload);
        }
        Ok(())
    }

    /// Reports an error and lets the transaction fail.
    async fn fail(&mut self, error: &SqlError) {
        self.send_notices();
        self.wire.output.error(error, false);
        self.last = false;
        let executor = self.executor.clone();
        match self.state.transaction.get() {
            TransactionStatus::Open => {
                self.state.transaction.set(TransactionStatus::Failed);
                executor.fail(&self.state).await;
            }
            TransactionStatus::Failed => {}
            TransactionStatus::Idle => {
                if self.state.open().is_some() {
                    executor.roll_back(&self.state).await;
                    let changed = self.state.end_transaction(false);
                    self.changed.extend(changed);
                }
            }
        }
    }

    async fn sync(&mut self) -> Result<(), Fault> {
        self.skipping = false;
        self.end_of_implicit().await?;
        self.ready()
    }

    /// Commits what several statements did that were sent together without BEGIN.
    async fn end_of_implicit(&mut self) -> Result<(), Fault> {
        if self.state.transaction.get() == TransactionStatus::Idle && self.state.open().is_some() {
            let executor = self.executor.clone();
            let committed = {
                let mut commit = pin!(executor.commit(&self.state));
                run::wait(&mut self.wire, commit.as_mut(), None, true).await
            };
            let changed = self.state.end_transaction(committed.is_ok());
            self.changed.extend(changed);
            committed?;
        }
        Ok(())
    }

    /// ReadyForQuery: the client may be waiting for all that was written.
    fn ready(&mut self) -> Result<(), Fault> {
        if self.state.transaction.get() == TransactionStatus::Idle {
            self.portals.clear();
            self.send_heard()?;
        }
        for name in std::mem::take(&mut self.changed) {
            let settings = self.state.settings();
            self.wire.output.parameter_status(name, settings.get(name).unwrap_or_default());
        }
        self.wire.keep_alive(self.state.settings().keepalive());
        self.wire.output.ready(self.state.transaction.get());
        self.wire.awaited = true;
        Ok(())
    }

    fn send_notices(&mut self) {
        for notice in self.state.take_notices() {
            let level = match notice.severity {
                crate::statement::Severity::Debug => "debug1",
                crate::statement::Severity::Log => "log",
                crate::statement::Severity::Notice => "notice",
                crate::statement::Severity::Warning => "warning",
                crate::statement::Severity::Info => "info",
            };
            if self.state.settings().sends(level) {
                self.wire.output.notice(notice.severity, &notice.text);
            }
        }
    }
}

fn aborted() -> SqlError {
    SqlError::new(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}
