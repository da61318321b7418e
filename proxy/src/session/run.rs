//! Executes one statement: checks what the transaction allows, waits interruptibly, counts and times.

use crate::session::wire::{BY_TIMEOUT, BY_USER};
use crate::session::{Fault, Session, Wire, aborted};
use crate::statement::{Answer, Executor, Kind, Prepared, Tag, TransactionStatus};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlState};

/// After how long a statement lets out the answers of those before it.
const PATIENCE: Duration = Duration::from_millis(1);

impl<E: Executor> Session<E> {
    /// Notes that a statement begins.
    pub(super) fn begin_statement(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        self.state.begin_statement(micros, self.metrics.seed());
    }

    /// Executes and counts.
    pub(super) async fn run(&mut self, prepared: &Arc<Prepared<E::Plan>>, params: &[Datum]) -> Result<Answer, Fault> {
        if let Some(error) = self.executor.lost(&self.state) {
            return Err(Fault::Fatal(error));
        }
        self.allow(prepared)?;
        match prepared.kind {
            Kind::Select | Kind::Insert | Kind::Update | Kind::Delete | Kind::Copy | Kind::Explain | Kind::Ddl => {
                self.queried = true
            }
            Kind::Empty | Kind::Session => {}
        }
        let answer = self.wait_for(prepared, params).await;
        self.send_notices();
        answer
    }

    /// Statements that are sent together are one transaction, even if no BEGIN stands before them.
    pub(super) fn begin_implicit(&mut self) {
        if self.state.transaction.get() == TransactionStatus::Idle && self.state.open().is_none() {
            self.queried = false;
            self.executor.begin(&self.state);
        }
    }

    /// CommandComplete; the transaction that ends with this statement is committed before.
    pub(super) async fn complete(&mut self, tag: Tag, count: u64) -> Result<(), Fault> {
        if std::mem::take(&mut self.last) {
            self.end_of_implicit().await?;
        }
        self.wire.output.complete(tag, count);
        Ok(())
    }

    fn allow(&self, prepared: &Prepared<E::Plan>) -> Result<(), SqlError> {
        if self.state.transaction.get() == TransactionStatus::Failed && !prepared.ends_transaction {
            return Err(aborted());
        }
        if prepared.writes && self.state.settings().read_only() {
            let name = statement_name(prepared);
            return Err(SqlError::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {name} in a read-only transaction"),
            ));
        }
        Ok(())
    }

    /// From now on the statement, or what is asked for of its rows, may take so long.
    pub(super) fn start_clock(&mut self) {
        self.deadline = self.state.settings().statement_timeout().map(|time| Instant::now() + time);
    }

    async fn wait_for(&mut self, prepared: &Arc<Prepared<E::Plan>>, params: &[Datum]) -> Result<Answer, Fault> {
        self.start_clock();
        // One before it in the same string may have ended a transaction.
        self.state.running().unseal();
        let executor = self.executor.clone();
        let mut future = pin!(executor.execute(&self.state, prepared, params));
        // A transaction must know what became of each of its requests; the executor lets go of the rest.
        let to_its_end = prepared.writes || prepared.acts || self.state.open().is_some();
        wait(&mut self.wire, future.as_mut(), self.deadline, to_its_end).await
    }
}

/// Waits for a part of a statement, unless it is canceled. A write is asked to stop, and waited for.
pub(super) async fn wait<T>(
    wire: &mut Wire,
    mut future: Pin<&mut impl Future<Output = Result<T, SqlError>>>,
    deadline: Option<Instant>,
    writes: bool,
) -> Result<T, Fault> {
    // A stream that never lets its consumer wait can be stopped, too.
    if !writes && let Some(stopped) = wire.stopped(deadline) {
        return Err(stopped.into());
    }
    // What is there at once needs nothing of the following.
    if let Poll::Ready(result) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        return Ok(result?);
    }
    let expired = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let (mut expired, mut canceled) = (pin!(expired), pin!(wire.canceled()));
    let mut stopped = None;
    loop {
        tokio::select! {
            biased;
            result = &mut future => return Ok(result.map_err(|error| reason(error, stopped))?),
            () = async { tokio::time::sleep(PATIENCE).await }, if wire.awaited => wire.flush().await?,
            () = &mut canceled, if stopped.is_none() => stopped = Some(BY_USER),
            () = &mut expired, if stopped.is_none() => stopped = Some(BY_TIMEOUT),
        }
        match stopped {
            Some(message) if !writes => return Err(SqlError::new(SqlState::QUERY_CANCELED, message).into()),
            Some(_) => wire.interrupt.canceled.store(true, Ordering::Relaxed),
            None => {}
        }
    }
}

/// Why a statement was stopped is known here only.
fn reason(error: SqlError, stopped: Option<&'static str>) -> SqlError {
    match stopped {
        Some(message) if error.state() == SqlState::QUERY_CANCELED => SqlError::new(SqlState::QUERY_CANCELED, message),
        Some(_) | None => error,
    }
}

fn statement_name<P>(prepared: &Prepared<P>) -> &'static str {
    match prepared.kind {
        Kind::Insert => "INSERT",
        Kind::Update => "UPDATE",
        Kind::Delete => "DELETE",
        Kind::Copy => "COPY FROM",
        Kind::Select => "SELECT INTO",
        Kind::Ddl | Kind::Empty | Kind::Session | Kind::Explain => match prepared.tag {
            // CREATE TABLE AS tells how many rows it wrote.
            Tag::Counted(_) => "CREATE TABLE AS",
            Tag::Plain(text) => text,
        },
    }
}
