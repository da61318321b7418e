//! Statements within transactions: a block's, that of several statements sent together, or one of their own where several partitions may have a part.

use super::parts::settled;
use super::plan::{Body, Plan, PointBody};
use super::{Conductor, MOST_REPLANS};
use crate::bound::{ActCall, AlterAction, Ddl, SessionCall, Statement};
use crate::cluster::client::{CallError, Client, Failed, PlanHandle, Reply, Terms};
use crate::cluster::cuts::HeldCut;
use crate::cluster::fragments::Snapshot;
use crate::point::Route;
use crate::statement::{Answer, Open, Prepared, Running, State};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use toroid_common::coordinator::{Ended, Mark, Reads, Sends, lost};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::id::{CatalogVersion, PartitionId, TableId};
use toroid_common::plan::{Access, Act, LockScope, PointPlan, Verb};
use toroid_common::transaction::Level;
use toroid_common::types::SqlType;
use toroid_common::wire::{RequestBody, Within};

/// Between two attempts of a statement whose transaction was lost.
const FIRST_PAUSE_MS: u64 = 2;
const LONGEST_PAUSE_MS: u64 = 100;
/// So often a statement is tried that comes into a circle with others.
const MOST_DEADLOCKS: usize = 100;
/// The same where the session holds locks beyond the statement: it does not get out of a circle that goes through these by letting go of its own.
const MOST_DEADLOCKS_OF_HOLDERS: usize = 2;

/// What the requests of a statement are subject to.
#[derive(Clone)]
pub(super) struct Scope {
    pub running: Rc<Running>,
    pub open: Option<Rc<Open>>,
    /// For the last request of a transaction.
    last: bool,
    lock_timeout_ms: u32,
    /// The session's number.
    process: u32,
}

/// A plan, its environment, and what the request brings for it.
type Asked<'a> = (&'a PlanHandle, Option<&'a [u8]>, RequestBody<'a>);

/// A request within a transaction; one that nobody waits for any more leaves the transaction without knowledge of that partition.
struct Pending<'a> {
    open: &'a Open,
    partition: PartitionId,
    verb: &'a Verb,
    within: Within,
    ended: Ended,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // A transaction that is over needs no word of it.
        let _ = self.open.with(|transaction| {
            transaction.answered(self.partition, self.verb, &self.within, self.ended);
            Ok(())
        });
    }
}

impl Scope {
    /// For requests that belong to no transaction.
    pub(super) fn alone(session: &State) -> Scope {
        let lock_timeout_ms = session.settings().lock_timeout_ms();
        let process = session.process as u32;
        Scope { running: session.running().clone(), open: None, last: false, lock_timeout_ms, process }
    }

    /// For requests of whatever transaction the session is in.
    pub(super) fn of(session: &State) -> Scope {
        Scope { open: session.open(), ..Scope::alone(session) }
    }

    /// For a statement's only request: where the transaction is the statement's own, the request is all of it.
    pub(super) fn single(session: &State) -> Scope {
        let mut scope = Scope::of(session);
        // Whom others wait for must be known wherever it waits itself.
        let known = session.holding().holds();
        if !known && scope.open.as_ref().is_some_and(|open| open.is_spare()) {
            scope.open = None;
        }
        scope
    }

    /// The same for a statement that surely makes no other request after it.
    pub(super) fn whole(session: &State) -> Scope {
        Scope { last: session.commits_next(), ..Scope::single(session) }
    }

    /// For requests that wait so long for locks; 0: as long as it takes.
    pub(super) fn for_locks(&self, lock_timeout_ms: u32) -> Scope {
        Scope { lock_timeout_ms, ..self.clone() }
    }

    /// One request, in its place in the transaction.
    pub(super) async fn request(
        &self,
        client: &Client,
        partition: PartitionId,
        body: &PointBody,
        env: Option<&[u8]>,
        request: RequestBody<'_>,
    ) -> Result<Reply, CallError> {
        self.ask(client, partition, &body.handle, env, request).await
    }

    /// The same of a plan alone.
    pub(super) async fn ask(
        &self,
        client: &Client,
        partition: PartitionId,
        handle: &PlanHandle,
        env: Option<&[u8]>,
        request: RequestBody<'_>,
    ) -> Result<Reply, CallError> {
        if let Some(open) = &self.open
            && let Some(within) = open.with(|transaction| transaction.request(partition, &handle.plan.verb))?
        {
            // Rows that its client is slow to take would stand between the answer and COMMIT, while others wait for the outcome.
            let is_last = self.last && handle.plan.verb.writes() && handle.plan.verb.output().is_empty();
            let within = match is_last {
                true => open.with(|transaction| Ok(transaction.finally(partition, within)))?,
                false => within,
            };
            return self.ask_within(client, partition, (handle, env, request), (open, within)).await;
        }
        let terms = Terms { running: &self.running, lock_timeout_ms: self.lock_timeout_ms, within: None };
        match client.call(partition, handle, env, request.clone(), terms).await {
            Err(Failed::TableLocked) => Box::pin(self.ask_by_name(client, partition, (handle, env, request))).await,
            result => Ok(result?),
        }
    }

    /// A read that waits for a table that is locked: who locked it may wait for this session.
    async fn ask_by_name(&self, client: &Client, partition: PartitionId, asked: Asked<'_>) -> Result<Reply, CallError> {
        if let Some(open) = &self.open {
            let within = open.with(|transaction| transaction.join(partition))?;
            return self.ask_within(client, partition, asked, (open, within)).await;
        }
        for attempt in 0..MOST_REPLANS {
            let open = client.begin(self.process, Level::default());
            let within = open.with(|transaction| transaction.join(partition))?;
            match self.ask_within(client, partition, asked.clone(), (&open, within)).await {
                // Nothing but the read was lost with it.
                Err(CallError::Sql(error))
                    if error.state() == SqlState::SERIALIZATION_FAILURE && !self.running.is_canceled() =>
                {
                    tokio::time::sleep(pause(attempt)).await;
                }
                result => return result,
            }
        }
        Err(lost().into())
    }

    /// A request as part of a transaction.
    async fn ask_within(
        &self,
        client: &Client,
        partition: PartitionId,
        (handle, env, request): Asked<'_>,
        (open, within): (&Open, Within),
    ) -> Result<Reply, CallError> {
        let verb = &handle.plan.verb;
        let terms = Terms {
            running: &self.running,
            lock_timeout_ms: self.lock_timeout_ms,
            within: Some((within, open.id().proxy)),
        };
        let mut pending = Pending { open, partition, verb, within, ended: Ended::Unclear };
        let result = client.call(partition, handle, env, request, terms).await;
        pending.ended = match &result {
            Ok(reply) if within.prepares.is_some() && reply.count() > 0 => Ended::Prepared,
            Ok(_) => Ended::Done,
            Err(Failed::Answered(_)) => Ended::Error,
            Err(Failed::Nothing(_) | Failed::Replan(_) | Failed::TableLocked) => Ended::Nothing,
            Err(Failed::Unknown(_)) => Ended::Unclear,
        };
        match result {
            // Whatever it did: it will not be committed.
            Err(Failed::Unknown(_)) => Err(lost().into()),
            result => Ok(result?),
        }
    }
}

impl Conductor {
    /// Whether a statement needs a transaction even if it is the only one.
    fn needs_transaction(prepared: &Prepared<Plan>) -> bool {
        if let Body::Statement(Statement::Acts(acts)) = &prepared.plan.body {
            let notices = acts.calls.iter().filter(|call| call.call == SessionCall::Notify).count();
            let of_transaction = |call: &ActCall| {
                let SessionCall::Advisory(act) = call.call else { return false };
                matches!(act, Act::Lock { scope: LockScope::Transaction, .. })
            };
            return notices > 1 || acts.calls.iter().any(of_transaction);
        }
        prepared.plan.locks
            || prepared.writes
                && match &prepared.plan.body {
                    Body::Empty => false,
                    Body::Point(body) => match &body.route {
                        Route::Key(_) => false,
                        Route::Rows { rows, .. } => rows.len() > 1 || is_copied(body),
                        Route::All | Route::Reference => true,
                    },
                    Body::Statement(statement) => match statement {
                        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::CreateAs(_) => {
                            true
                        }
                        Statement::Ddl(Ddl::AlterTable { actions, .. }) => {
                            actions.iter().any(|action| matches!(action, AlterAction::SetType { .. }))
                        }
                        Statement::Ddl(_)
                        | Statement::Query(_)
                        | Statement::Explain { .. }
                        | Statement::CopyIn(_)
                        | Statement::CopyOut { .. }
                        | Statement::SetConfig { .. }
                        | Statement::Acts(_)
                        | Statement::Session(_) => false,
                    },
                }
    }

    /// Executes a statement in the transaction that the session is in, or one of its own where it needs one.
    pub(super) async fn execute_in_place(
        &self,
        session: &State,
        prepared: &Arc<Prepared<Plan>>,
        params: &[Datum],
    ) -> SqlResult<Answer> {
        match session.open() {
            Some(open) => {
                let first = match &prepared.plan.body {
                    // What is read afterwards is to be what there is once the lock is there, or the table is changed.
                    Body::Statement(
                        Statement::Session(crate::bound::Session::LockTables { .. }) | Statement::Ddl(_),
                    ) => {
                        take_level(session, &open)?;
                        false
                    }
                    Body::Statement(Statement::Session(_)) | Body::Empty => false,
                    Body::Point(_) | Body::Statement(_) => self.enter(session, &open).await?,
                };
                let mark = open.with(|transaction| Ok(transaction.mark()))?;
                let result = self.execute_planned(session, prepared, params, Some((&open, &mark))).await;
                match result {
                    Err(error)
                        if first
                            && error.state() == SqlState::SERIALIZATION_FAILURE
                            && !outlives_transaction(prepared) =>
                    {
                        Box::pin(self.execute_on_another_cut(session, prepared, params, (&open, &mark, error))).await
                    }
                    result => result,
                }
            }
            None if Self::needs_transaction(prepared) || session.holding().holds() && may_wait_for_rows(prepared) => {
                Box::pin(self.execute_by_itself(session, prepared, params)).await
            }
            None => self.execute_planned(session, prepared, params, None).await,
        }
    }

    /// The first statement of a transaction that reads a cut: nobody has seen anything of the one that was lost.
    async fn execute_on_another_cut(
        &self,
        session: &State,
        prepared: &Arc<Prepared<Plan>>,
        params: &[Datum],
        (open, mark, mut error): (&Open, &Mark, SqlError),
    ) -> SqlResult<Answer> {
        for attempt in 0..MOST_REPLANS {
            if session.canceled() || open.with(|transaction| Ok(transaction.is_lost()))? {
                break;
            }
            self.undo_since(open, mark).await?;
            tokio::time::sleep(pause(attempt)).await;
            self.read_cut(open).await?;
            match self.execute_planned(session, prepared, params, Some((open, mark))).await {
                Err(again) if again.state() == SqlState::SERIALIZATION_FAILURE => error = again,
                result => return result,
            }
        }
        Err(error)
    }

    /// A statement that is a transaction. Its client has seen nothing of it when that fails: one whose state was lost is tried again, and one that came
    /// into a circle with others, as PostgreSQL's do not, which go through a table in its order.
    async fn execute_by_itself(
        &self,
        session: &State,
        prepared: &Arc<Prepared<Plan>>,
        params: &[Datum],
    ) -> SqlResult<Answer> {
        let outlives = outlives_transaction(prepared);
        let mut trials = Trials::default();
        loop {
            let open = self.client.begin(session.process as u32, Level::default());
            open.mark_own();
            if trials.deadlocks > 0 {
                open.go_in_turn();
            }
            session.set_open(Some(open.clone()));
            let guard = Leaving(session);
            let mark = Mark::default();
            let entered = match &prepared.plan.body {
                Body::Statement(Statement::Ddl(_)) => take_level(session, &open).map(drop),
                Body::Point(_) | Body::Statement(_) | Body::Empty => self.enter(session, &open).await.map(drop),
            };
            let result = match entered {
                Ok(()) => self.execute_planned(session, prepared, params, Some((&open, &mark))).await,
                Err(error) => Err(error),
            };
            drop(guard);
            if open.changes_schema() {
                session.know(self.relations.clone());
            }
            session.running().seal();
            let result = match (result, open.end()) {
                (Ok(answer), Some(transaction)) => self.client.commit(transaction).await.map(|()| answer),
                (Err(error), Some(transaction)) => {
                    self.client.roll_back(transaction).await;
                    Err(error)
                }
                (result, None) => result,
            };
            match result {
                Err(error) if !session.canceled() && !outlives => {
                    let seed = session.env().seed;
                    let holds = session.holding().holds();
                    tokio::time::sleep(trials.after(error, seed, holds)?).await;
                    session.running().unseal();
                }
                result => return result,
            }
        }
    }

    /// The first statement decides how the transaction is isolated, and what it reads. Whether it opened a cut for that.
    pub(super) async fn enter(&self, session: &State, open: &Open) -> SqlResult<bool> {
        if open.with(|transaction| Ok(transaction.has_begun()))? {
            return Ok(false);
        }
        let read_only = session.settings().read_only();
        let reads_cut = match take_level(session, open)? {
            Level::ReadCommitted => false,
            Level::RepeatableRead => true,
            Level::Serializable => read_only,
        };
        if reads_cut {
            self.read_cut(open).await?;
        }
        open.with(|transaction| {
            transaction.begin();
            Ok(())
        })?;
        Ok(reads_cut)
    }

    async fn read_cut(&self, open: &Open) -> SqlResult<()> {
        let cut = self.client.cluster().open_cut().await?;
        open.with(|transaction| {
            transaction.read_cut(cut.id());
            Ok(())
        })?;
        open.hold(cut);
        Ok(())
    }

    /// Takes back what a transaction has done since the mark.
    pub(super) async fn undo_since(&self, open: &Open, mark: &Mark) -> SqlResult<()> {
        let sends = open.with(|transaction| transaction.undo(mark))?;
        self.undo(open, sends).await?;
        self.take_back(open, mark).await;
        Ok(())
    }

    /// Sends what takes a part of a transaction back.
    pub(super) async fn undo(&self, open: &Open, sends: Sends) -> SqlResult<()> {
        if sends.is_empty() {
            return Ok(());
        }
        let mut undoing = Undoing { open, done: false };
        let result = self.client.undo(open.id(), sends).await;
        undoing.done = result.is_ok();
        result
    }

    /// Locks all rows of tables, in all partitions, for a serializable transaction that is about to read them in its queries.
    pub(super) async fn lock_reads(&self, session: &State, tables: &[(TableId, CatalogVersion)]) -> SqlResult<()> {
        let Some(open) = session.open() else { return Ok(()) };
        if open.with(|transaction| Ok(transaction.level() != Level::Serializable || transaction.cut().is_some()))? {
            return Ok(());
        }
        // A request that would be the statement's only one locks nothing by itself.
        open.share();
        self.touch(session, tables).await
    }

    /// Reads nothing of tables, in all partitions: waits until they may be read, and locks them where what is read is locked.
    pub(super) async fn touch(&self, session: &State, tables: &[(TableId, CatalogVersion)]) -> SqlResult<()> {
        let view = self.seen(session);
        for (table, table_version) in tables {
            let Some(definition) = view.catalog.table(*table) else { continue };
            let filter = Some(Expr::Const { value: Datum::Bool(false), ty: SqlType::Bool });
            let verb = Verb::Select { access: Access::Scan, filter, output: Vec::new(), lock: None };
            let (table, table_version) = (*table, *table_version);
            let plan = PointPlan { table, table_version, params: Vec::new(), verb, needs_env: false };
            let body = PointBody { handle: PlanHandle::new(plan), route: Route::All, table: Arc::clone(definition) };
            let partitions = 0..self.partitions() as u16;
            let requests = partitions.map(|partition| (PartitionId(partition), RequestBody::Point { params: &[] }));
            let locked = self.each_part(session, &body, None, requests, &self.pool.share()).await;
            settled(locked, &definition.name)?;
        }
        Ok(())
    }

    /// What the fragments of a query read, and what of their transaction they see.
    pub(super) fn snapshot(&self, session: &State) -> SqlResult<(Option<Snapshot>, Option<Reads>)> {
        let Some(open) = session.open() else { return Ok((None, None)) };
        let held = open.held().and_then(|held| held.downcast::<HeldCut>().ok());
        let locked = open.with(|transaction| Ok(transaction.level() == Level::Serializable))? && held.is_none();
        let snapshot = match held {
            Some(cut) => Some(Snapshot::Shared(cut)),
            // All that it reads is locked: there is no other state.
            None if locked => Some(Snapshot::Present),
            None => None,
        };
        Ok((snapshot, open.with(|transaction| transaction.reads())?))
    }
}

/// Lets a statement be stopped: what waits at workers is called back, and one that has nothing under way ends.
pub(super) async fn interruptible<T>(
    client: &Client,
    running: &Running,
    mut work: Pin<&mut impl Future<Output = SqlResult<T>>>,
) -> SqlResult<T> {
    let mut called_back = false;
    poll_fn(|context| {
        let canceled = running.is_canceled() && !running.is_sealed();
        if canceled && !called_back {
            called_back = true;
            client.call_back(running);
        }
        match work.as_mut().poll(context) {
            Poll::Pending if canceled && running.is_idle() => {
                Poll::Ready(Err(SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")))
            }
            polled => polled,
        }
    })
    .await
}

/// A transaction that has not read anything is isolated as the session says now.
fn take_level(session: &State, open: &Open) -> SqlResult<Level> {
    let level = session.settings().isolation();
    open.with(|transaction| {
        if !transaction.has_begun() {
            transaction.set_level(level);
        }
        Ok(level)
    })
}

pub(super) fn pause(attempt: usize) -> Duration {
    Duration::from_millis((FIRST_PAUSE_MS << attempt.min(16)).min(LONGEST_PAUSE_MS))
}

/// How often a statement was tried.
#[derive(Default)]
struct Trials {
    lost: usize,
    deadlocks: usize,
}

impl Trials {
    /// How long to wait before it is tried again; those who stood in each other's way do so for different times.
    fn after(&mut self, error: SqlError, seed: u64, holds: bool) -> SqlResult<Duration> {
        let (count, most) = match error.state() {
            SqlState::SERIALIZATION_FAILURE => (&mut self.lost, MOST_REPLANS),
            SqlState::DEADLOCK_DETECTED if holds => (&mut self.deadlocks, MOST_DEADLOCKS_OF_HOLDERS),
            SqlState::DEADLOCK_DETECTED => (&mut self.deadlocks, MOST_DEADLOCKS),
            _ => return Err(error),
        };
        *count += 1;
        if *count > most {
            return Err(error);
        }
        let pause = pause(*count - 1);
        match error.state() {
            SqlState::DEADLOCK_DETECTED => {
                Ok(pause.mul_f64(0.5 + (seed.rotate_left(*count as u32) >> 11) as f64 / (1_u64 << 53) as f64))
            }
            _ => Ok(pause),
        }
    }
}

/// A part of a transaction that is being taken back: without all answers, be it that nobody waits for them, the transaction is lost.
struct Undoing<'a> {
    open: &'a Open,
    done: bool,
}

impl Drop for Undoing<'_> {
    fn drop(&mut self) {
        if !self.done {
            // One that has ended needs nothing of this.
            drop(self.open.with(|transaction| {
                transaction.lose();
                Ok(())
            }));
        }
    }
}

/// Takes a statement's own transaction out of its session.
struct Leaving<'a>(&'a State);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.set_open(None);
    }
}

/// Whether a statement takes or gives back what its transaction does not take along when it fails.
fn outlives_transaction(prepared: &Prepared<Plan>) -> bool {
    let Body::Statement(Statement::Acts(acts)) = &prepared.plan.body else { return false };
    acts.calls.iter().any(|call| match call.call {
        SessionCall::Notify => false,
        SessionCall::Advisory(Act::Lock { scope, .. }) => scope == LockScope::Session,
        SessionCall::Advisory(_) => true,
    })
}

/// Whether it writes by requests that would be nobody's by themselves. COPY has a transaction of its own, and who changes the schema waits for no locks.
fn may_wait_for_rows(prepared: &Prepared<Plan>) -> bool {
    let otherwise = matches!(&prepared.plan.body, Body::Statement(Statement::CopyIn(_) | Statement::Ddl(_)));
    prepared.writes && !otherwise
}

/// Rows of a reference table go into every partition.
fn is_copied(body: &PointBody) -> bool {
    matches!(body.table.distribution, toroid_common::catalog::Distribution::Replicated)
}
