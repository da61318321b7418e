//! Executes one statement: checks what the transaction allows, waits interruptibly, counts and times.

use crate::session::wire::{BY_TIMEOUT, BY_USER};
use crate::session::{Fault, Session, Wire, aborted};
use crate::statement::{Answer, Executor, Kind, Prepared, TransactionStatus};
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
        self.allow(prepared)?;
        let answer = self.wait_for(prepared, params).await;
        self.send_notices();
        if prepared.writes && self.state.transaction.get() == TransactionStatus::Open && answer.is_ok() {
            self.wrote = true;
        }
        answer
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

    async fn wait_for(&mut self, prepared: &Arc<Prepared<E::Plan>>, params: &[Datum]) -> Result<Answer, Fault> {
        self.deadline = self.state.settings().statement_timeout().map(|time| Instant::now() + time);
        let executor = self.executor.clone();
        let mut future = pin!(executor.execute(&self.state, prepared, params));
        wait(&mut self.wire, future.as_mut(), self.deadline, prepared.writes).await
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
            result = &mut future => return Ok(result?),
            () = tokio::time::sleep(PATIENCE), if wire.awaited => wire.flush().await?,
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

fn statement_name<P>(prepared: &Prepared<P>) -> &'static str {
    match prepared.kind {
        Kind::Insert => "INSERT",
        Kind::Update => "UPDATE",
        Kind::Delete => "DELETE",
        Kind::Copy => "COPY FROM",
        Kind::Select => "SELECT INTO",
        Kind::Ddl | Kind::Empty | Kind::Session | Kind::Explain => match prepared.tag {
            crate::statement::Tag::Plain(text) | crate::statement::Tag::Counted(text) => text,
        },
    }
}
