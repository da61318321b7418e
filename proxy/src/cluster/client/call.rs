//! One request, or one step of a transaction, while it lasts: sent, tried again after trouble, answered once.

use super::{CallError, Client, PlanHandle, Reply};
use crate::cluster::View;
use crate::statement::Running;
use std::time::{Duration, Instant};
use toroid_common::calls::Event;
use toroid_common::coordinator::{StepEnd, lost};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, Incarnation, PartitionId, TransactionId};
use toroid_common::limits::{MAX_ENTRY_BYTES, MAX_PLANS_PER_CONNECTION};
use toroid_common::routing::{self, Attempts, Failure, Next, Trouble};
use toroid_common::transaction::Step;
use toroid_common::wire::{Message, PlanMessage, Refusal, Request, RequestBody, Transact, Within};

/// What a request is subject to.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub running: &'a Running,
    /// For so many milliseconds it may wait for locks; 0: as long as it takes.
    pub lock_timeout_ms: u32,
    /// The transaction that it is part of, and the life of the proxy that the transaction belongs to.
    pub within: Option<(Within, Incarnation)>,
}

/// Why a request has no result.
#[derive(Debug)]
pub enum Failed {
    /// Not executed: wait for this catalog, plan the statement again.
    Replan(CatalogVersion),
    /// It was answered so.
    Answered(SqlError),
    /// Not executed, and nothing will come of it.
    Nothing(SqlError),
    /// Not executed: its table is locked, for which only part of a transaction can wait.
    TableLocked,
    /// It may have been executed.
    Unknown(SqlError),
}

impl From<Failed> for CallError {
    fn from(failed: Failed) -> CallError {
        match failed {
            Failed::Replan(version) => CallError::Replan(version),
            Failed::Answered(error) | Failed::Nothing(error) | Failed::Unknown(error) => CallError::Sql(error),
            Failed::TableLocked => CallError::Sql(table_locked()),
        }
    }
}

enum What<'a> {
    Request { plan: &'a PlanHandle, env: Option<&'a [u8]>, body: RequestBody<'a>, terms: Terms<'a> },
    Step { transaction: TransactionId, step: &'a Step },
}

impl What<'_> {
    /// The life under which alone it may be sent.
    fn life(&self) -> Option<Incarnation> {
        match self {
            What::Request { terms, .. } => terms.within.map(|(_, life)| life),
            What::Step { transaction, .. } => Some(transaction.proxy),
        }
    }

    fn running(&self) -> Option<&Running> {
        match self {
            What::Request { terms, .. } => Some(terms.running),
            What::Step { .. } => None,
        }
    }
}

impl Client {
    /// Runs a plan in one partition and waits for its answer. It happens once, or not at all when the error says so.
    pub async fn call(
        &self,
        partition: PartitionId,
        plan: &PlanHandle,
        env: Option<&[u8]>,
        body: RequestBody<'_>,
        terms: Terms<'_>,
    ) -> Result<Reply, Failed> {
        // Such could not be sent, and what it wrote would fit no entry.
        let bytes = plan.bytes.len().max(env.map_or(0, <[u8]>::len) + body.bytes());
        if bytes > MAX_ENTRY_BYTES {
            return Err(Failed::Nothing(too_large()));
        }
        // Within a transaction a read counts, too: it may lock, and has its place among the requests.
        let attempts = Attempts::new(plan.plan.verb.writes() || terms.within.is_some());
        Call::new(self, partition, What::Request { plan, env, body, terms }, attempts).run().await
    }

    /// Has a partition do a step of a transaction: once, however often it must be asked.
    pub async fn step(&self, partition: PartitionId, transaction: TransactionId, step: &Step) -> StepEnd {
        let call = Call::new(self, partition, What::Step { transaction, step }, Attempts::of_step(step));
        match call.run().await {
            Ok(reply) => StepEnd::Done(reply.count()),
            Err(Failed::Answered(error) | Failed::Nothing(error)) => StepEnd::Error(error),
            Err(Failed::Unknown(error)) => StepEnd::Unknown(error),
            Err(Failed::Replan(_) | Failed::TableLocked) => StepEnd::Error(lost()),
        }
    }
}

/// One call while it lasts; dropped early when its statement is cancelled.
struct Call<'a> {
    client: &'a Client,
    partition: PartitionId,
    what: What<'a>,
    /// 0 before the first send.
    sequence: u64,
    answered: bool,
    attempts: Attempts,
}

impl<'a> Call<'a> {
    fn new(client: &'a Client, partition: PartitionId, what: What<'a>, attempts: Attempts) -> Call<'a> {
        Call { client, partition, what, sequence: 0, answered: false, attempts }
    }

    async fn run(mut self) -> Result<Reply, Failed> {
        let mut first = None;
        loop {
            let view = self.client.view();
            self.send(&view)?;
            let trouble = match std::future::poll_fn(|cx| self.poll(cx.waker())).await {
                Event::Answer(answer) => {
                    self.answered = true;
                    return answer.map_err(|error| match error.state() {
                        SqlState::STATEMENT_COMPLETION_UNKNOWN => Failed::Unknown(error),
                        _ => Failed::Answered(error),
                    });
                }
                Event::Trouble(trouble) => trouble,
            };
            let waited = first.get_or_insert_with(Instant::now).elapsed().as_millis() as u32;
            match self.attempts.after(trouble, waited, view.map.version) {
                // In a transaction nothing is withdrawn but all of it.
                Ok(_) if self.attempts.withdraws() && self.what.life().is_some() => {
                    return Err(Failed::Unknown(unknown()));
                }
                Ok(_) if self.is_called_back() => return Err(Failed::Nothing(canceled())),
                Ok(Next::RegisterPlan) => self.forget_plan(&view),
                Ok(Next::Resend { after_ms }) => {
                    let newer = self.client.inner.cluster.map_after(view.map.version);
                    let pause = Duration::from_millis(u64::from(after_ms));
                    // Either way it is sent again, by what is known then.
                    drop(tokio::time::timeout(pause, newer).await);
                }
                Ok(Next::AwaitMap(version)) => {
                    let newer = self.client.inner.cluster.map(version).await;
                    if let Err(error) = newer.map(drop)
                        && !self.attempts.is_endless()
                    {
                        return Err(self.without_answer(error));
                    }
                }
                Ok(Next::Replan(version)) => {
                    self.answered = true;
                    return Err(Failed::Replan(version));
                }
                Err(failure) => {
                    if trouble == Trouble::Refused(Refusal::Fenced) {
                        self.client.inner.cluster.lives().died(self.client.incarnation());
                    }
                    return Err(failed(failure, self.partition));
                }
            }
        }
    }

    /// Whether its statement is to stop, and it was certainly not executed.
    fn is_called_back(&self) -> bool {
        !self.attempts.is_unclear() && self.what.running().is_some_and(Running::is_canceled)
    }

    fn without_answer(&self, error: SqlError) -> Failed {
        match self.attempts.nowhere() {
            Failure::Unknown => Failed::Unknown(unknown()),
            Failure::Nothing(_) | Failure::PartitionLost => Failed::Nothing(error),
        }
    }

    fn send(&mut self, view: &View) -> Result<(), Failed> {
        if self.what.life().is_some_and(|life| life != self.client.incarnation()) {
            return Err(self.without_answer(lost()));
        }
        let nowhere = || failed(self.attempts.nowhere(), self.partition);
        let route = routing::route(&view.map, self.partition).ok_or_else(nowhere)?;
        let link = self.client.link(route.worker, view).map_err(|error| self.without_answer(error))?;
        let holds = matches!(&self.what, What::Request { terms: Terms { within: Some(_), .. }, .. });
        let mut calls = self.client.inner.calls.borrow_mut();
        let is_first = self.sequence == 0;
        if is_first {
            self.sequence = calls.begin(self.partition, route.worker);
            if let Some(running) = self.what.running() {
                running.sent(self.sequence);
            }
        }
        if holds && !calls.hold(self.sequence, self.partition, route.worker) {
            return Err(self.without_answer(lost()));
        }
        if !is_first && !calls.resend(self.sequence, self.partition, route.worker) {
            return Ok(());
        }
        self.attempts.sent();
        let low = calls.low(self.partition, self.sequence);
        let (sequence, partition, epoch) = (self.sequence, self.partition, route.epoch);
        let mut out = link.out.borrow_mut();
        if let Some(answered) = calls.answered(partition) {
            Message::Answered(answered).write(&mut out);
        }
        match &self.what {
            What::Request { plan, env, body, terms } => {
                register_plan(&mut link.plans.borrow_mut(), plan, &mut out);
                let within = terms.within.map(|(within, _)| within);
                let lock_timeout_ms = terms.lock_timeout_ms;
                let body = if self.attempts.withdraws() { RequestBody::Withdraw } else { body.clone() };
                let (plan, env) = (plan.id, *env);
                let request = Request { sequence, low, partition, epoch, plan, within, lock_timeout_ms, env, body };
                Message::Request(request).write(&mut out);
                if terms.running.is_canceled() {
                    Message::Cancel { sequence }.write(&mut out);
                }
            }
            What::Step { transaction, step } => {
                let (number, step) = (transaction.number, (*step).clone());
                Message::Transact(Transact { sequence, low, partition, epoch, number, step }).write(&mut out);
            }
        }
        drop(out);
        link.flush();
        Ok(())
    }

    fn poll(&self, waker: &std::task::Waker) -> std::task::Poll<Event<SqlResult<Reply>>> {
        self.client.inner.calls.borrow_mut().poll(self.sequence, waker)
    }

    /// The worker has lost this plan (it keeps a bounded number): the next send registers it again.
    fn forget_plan(&self, view: &View) {
        if let What::Request { plan, .. } = &self.what
            && let Some(route) = routing::route(&view.map, self.partition)
            && let Some(link) = self.client.inner.links.borrow().get(&route.worker)
        {
            link.plans.borrow_mut().remove(&plan.id);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.sequence == 0 {
            return;
        }
        if let Some(running) = self.what.running() {
            running.ended(self.sequence);
            if !self.answered {
                self.client.cancel(self.sequence);
            }
        }
        self.client.inner.calls.borrow_mut().end(self.sequence, self.answered);
    }
}

fn register_plan(
    plans: &mut std::collections::BTreeSet<toroid_common::id::PlanId>,
    plan: &PlanHandle,
    out: &mut Vec<u8>,
) {
    if plans.contains(&plan.id) {
        return;
    }
    // Statements of one use have plans, too. The worker takes frames in order, so what was sent with the oldest plan still has it.
    if plans.len() >= MAX_PLANS_PER_CONNECTION
        && let Some(oldest) = plans.pop_first()
    {
        Message::ForgetPlan(oldest).write(out);
    }
    plans.insert(plan.id);
    Message::Plan(PlanMessage { id: plan.id, bytes: &plan.bytes }).write(out);
}

/// What a statement brings does not fit a frame.
pub fn too_large() -> SqlError {
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "statement is too large for one partition")
}

/// Somebody else lets nobody read a table.
pub fn table_locked() -> SqlError {
    SqlError::new(SqlState::LOCK_NOT_AVAILABLE, "a table is locked by another transaction")
}

/// What a statement says that was asked to stop; its session knows why.
pub(super) fn canceled() -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")
}

pub(super) fn unknown() -> SqlError {
    SqlError::new(
        SqlState::STATEMENT_COMPLETION_UNKNOWN,
        "the connection to the storage node was lost and could not be restored; the statement may have been executed",
    )
}

/// What becomes of a request that got no answer.
fn failed(failure: Failure, partition: PartitionId) -> Failed {
    match failure {
        Failure::Unknown => Failed::Unknown(unknown()),
        Failure::PartitionLost => Failed::Nothing(routing::lost(partition)),
        Failure::Nothing(Trouble::Lost | Trouble::Moved) => {
            Failed::Nothing(SqlError::new(SqlState::CONNECTION_FAILURE, "no storage node answers for this partition"))
        }
        // What the transaction reads is gone with the node that had it: it may have better luck with another cut.
        Failure::Nothing(Trouble::Refused(Refusal::NoCut)) => Failed::Nothing(lost()),
        Failure::Nothing(Trouble::Refused(Refusal::TableLocked)) => Failed::TableLocked,
        Failure::Nothing(Trouble::Refused(refusal)) => Failed::Nothing(SqlError::new(
            SqlState::CANNOT_CONNECT_NOW,
            format!("the partition is not available: {refusal:?}"),
        )),
    }
}
