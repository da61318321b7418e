//! Statements that act on their session or on others: advisory locks, notifications, LISTEN.

use super::Conductor;
use super::transaction::Scope;
use crate::bound::{ActCall, Acts, SessionCall};
use crate::cluster::client::{CallError, Client, PlanHandle, Reply, Terms};
use crate::statement::{Answer, Encoded, Holding, RowSource, Running, Severity, State};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval::eval;
use toroid_common::id::{CatalogVersion, PartitionId, TableId};
use toroid_common::plan::{Act, AdvisoryKey, LockScope, PointPlan, Verb, partition_of_channel};
use toroid_common::row::write_row_slice;
use toroid_common::wire::RequestBody;

/// Before a partition is asked again to give back what a session held that has ended.
const AGAIN: Duration = Duration::from_secs(1);

/// Names and payloads of notifications are shorter than this, as in PostgreSQL.
const MAX_CHANNEL_BYTES: usize = 64;
const MAX_PAYLOAD_BYTES: usize = 8_000;

/// The plans of acts, which are always the same.
#[derive(Default)]
pub(super) struct ActPlans(RefCell<Vec<(Act, Arc<PlanHandle>)>>);

impl ActPlans {
    fn get(&self, act: Act) -> Arc<PlanHandle> {
        let mut known = self.0.borrow_mut();
        if let Some((_, handle)) = known.iter().find(|(known, _)| *known == act) {
            return handle.clone();
        }
        let (table, table_version) = (TableId(0), CatalogVersion(0));
        let handle = PlanHandle::new(PointPlan {
            table,
            table_version,
            params: act.params().to_vec(),
            verb: Verb::Act(act),
            needs_env: false,
        });
        known.push((act, handle.clone()));
        handle
    }
}

impl Conductor {
    /// Carries the calls out in their order, and gives the one row.
    pub(super) async fn act(&self, session: &State, acts: &Acts, params: &[Datum]) -> Result<Answer, CallError> {
        let mut results: Vec<Datum> = Vec::with_capacity(acts.calls.len());
        for ActCall { call, args, strict } in &acts.calls {
            let values = self.values(session, args, &results, params)?;
            let null = values.iter().any(|value| matches!(value, Datum::Null));
            results.push(match call {
                _ if *strict && null => Datum::Null,
                SessionCall::Advisory(act) => self.advise(session, *act, &values).await?,
                SessionCall::Notify => {
                    let only = acts.calls.len() == 1;
                    let scope = if only { Scope::single(session) } else { Scope::of(session) };
                    self.notify(session, scope, &values).await?
                }
            });
        }
        if acts.tag.is_some() {
            return Ok(Answer::Done { count: 0 });
        }
        let values = self.values(session, &acts.columns, &results, params)?;
        let mut bytes = Vec::new();
        write_row_slice(&mut bytes, &values.iter().map(Datum::borrow).collect::<Vec<_>>());
        Ok(Answer::Rows(RowSource::Encoded(Encoded { bytes: bytes.into(), count: 1 })))
    }

    fn values(
        &self,
        session: &State,
        exprs: &[toroid_common::expr::Expr],
        results: &[Datum],
        params: &[Datum],
    ) -> SqlResult<Vec<Datum>> {
        let env = session.env();
        exprs.iter().map(|expr| eval(expr, &results, &params, &env)).collect()
    }

    async fn advise(&self, session: &State, act: Act, args: &[Datum]) -> Result<Datum, CallError> {
        let key = match args {
            [Datum::Int8(key)] => AdvisoryKey { pair: false, key: *key },
            [Datum::Int4(first), Datum::Int4(second)] => AdvisoryKey::of_pair(*first, *second),
            _ => AdvisoryKey { pair: false, key: 0 },
        };
        match act {
            Act::Lock { scope: LockScope::Transaction, wait, .. } => {
                let taken = self.ask(session, Scope::of(session), act, key).await?;
                Ok(if wait { nothing() } else { Datum::Bool(taken) })
            }
            Act::Lock { scope: LockScope::Session, shared, wait } => {
                session.holding().expect(self.client.incarnation(), key.partition(self.partitions() as u16));
                let taken = self.ask(session, Scope::alone(session), act, key).await;
                match &taken {
                    Ok(true) => session.holding().took(key, shared),
                    Ok(false) => {}
                    Err(CallError::Sql(error)) if is_refusal(error) => {}
                    Err(_) => session.holding().unsure(),
                }
                Ok(if wait { taken.map(|_| nothing())? } else { Datum::Bool(taken?) })
            }
            Act::Unlock { shared } => {
                let asked = session.holding().is_expected(key.partition(self.partitions() as u16));
                let held = asked && self.ask(session, Scope::alone(session), act, key).await?;
                match held {
                    true => session.holding().gave(key, shared),
                    false => session.notify(Severity::Warning, not_owned(shared)),
                }
                Ok(Datum::Bool(held))
            }
            Act::UnlockAll => {
                self.give_back_held(session).await?;
                Ok(nothing())
            }
            Act::Notify | Act::Listen | Act::Unlisten => Err(SqlError::internal("no advisory lock").into()),
        }
    }

    async fn notify(&self, session: &State, scope: Scope, args: &[Datum]) -> Result<Datum, CallError> {
        let text = |at: usize| match args.get(at) {
            Some(Datum::Text(text)) => text.as_str(),
            Some(_) | None => "",
        };
        let (channel, payload) = (text(0), text(1));
        let fault = match (channel.len(), payload.len()) {
            (0, _) => "channel name cannot be empty",
            (MAX_CHANNEL_BYTES.., _) => "channel name too long",
            (_, MAX_PAYLOAD_BYTES..) => "payload string too long",
            (_, _) => "",
        };
        if !fault.is_empty() {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, fault).into());
        }
        let mut bytes = Vec::with_capacity(24 + channel.len() + payload.len());
        let params = [DatumRef::Int4(session.process), DatumRef::Text(channel), DatumRef::Text(payload)];
        write_row_slice(&mut bytes, &params);
        let (handle, partition) = (self.acts.get(Act::Notify), partition_of_channel(channel, self.partitions() as u16));
        let request = RequestBody::Point { params: &bytes };
        scope.ask(&self.client, partition, &handle, None, request).await?;
        Ok(nothing())
    }

    /// Listens to what the session wishes beside what it listens to: before the transaction is committed, whose notifications it is to hear. The
    /// channels that are new.
    pub(super) async fn begin_hearing(&self, session: &State) -> SqlResult<Vec<String>> {
        let (new, inbox) = {
            let hearing = session.hearing();
            if hearing.wishes.is_empty() {
                return Ok(Vec::new());
            }
            let new: Vec<String> = hearing.wished().difference(&hearing.channels).cloned().collect();
            (new, hearing.inbox.clone())
        };
        for (at, channel) in new.iter().enumerate() {
            if let Err(error) = self.client.listen(channel, &inbox).await {
                self.end_hearing(session, new.get(..at).unwrap_or_default());
                return Err(error);
            }
        }
        Ok(new)
    }

    /// The transaction has failed, or the session ends: it does not listen to these.
    pub(super) fn end_hearing(&self, session: &State, channels: &[String]) {
        let mut hearing = session.hearing();
        hearing.wishes.clear();
        for channel in channels {
            self.client.unlisten(channel, &hearing.inbox);
            hearing.inbox.forget(channel);
        }
    }

    /// The transaction is committed: its wishes are in force.
    pub(super) fn settle_hearing(&self, session: &State) {
        let mut hearing = session.hearing();
        if hearing.wishes.is_empty() {
            return;
        }
        let wished = hearing.wished();
        hearing.wishes.clear();
        for channel in hearing.channels.difference(&wished) {
            self.client.unlisten(channel, &hearing.inbox);
            hearing.inbox.forget(channel);
        }
        session.show_channels(wished.iter().cloned().collect());
        hearing.channels = wished;
    }

    async fn ask(&self, session: &State, scope: Scope, act: Act, key: AdvisoryKey) -> Result<bool, CallError> {
        let mut bytes = Vec::with_capacity(24);
        let params = [DatumRef::Int4(session.process), DatumRef::Bool(key.pair), DatumRef::Int8(key.key)];
        write_row_slice(&mut bytes, &params);
        let handle = self.acts.get(act);
        let partition = key.partition(self.partitions() as u16);
        let request = RequestBody::Point { params: &bytes };
        match scope.ask(&self.client, partition, &handle, None, request).await? {
            Reply::Done { count } => Ok(count > 0),
            Reply::Rows { .. } => Err(SqlError::internal("an act was answered with rows").into()),
        }
    }

    /// Gives back all advisory locks of the session. Where that fails the session goes on as one that may hold some, and may ask again.
    pub(super) async fn give_back_held(&self, session: &State) -> SqlResult<()> {
        let partitions: Vec<PartitionId> = {
            let mut held = session.holding();
            if held.life() != Some(self.client.incarnation()) {
                held.take();
                return Ok(());
            }
            held.unsure();
            held.partitions().collect()
        };
        let handle = self.acts.get(Act::UnlockAll);
        for partition in partitions {
            unlock_all(&self.client, &handle, session.process, partition).await?;
        }
        session.holding().take();
        Ok(())
    }

    /// Has the locks of a session given back that waits for nothing any more.
    pub(super) fn leave_held(&self, session: &State) {
        self.leave_to_others(&session.holding().take(), session.process);
        let channels: Vec<String> = session.hearing().channels.iter().cloned().collect();
        self.end_hearing(session, &channels);
    }

    fn leave_to_others(&self, held: &Holding, process: i32) {
        for partition in held.partitions() {
            let (client, handle, life) = (self.client.clone(), self.acts.get(Act::UnlockAll), held.life());
            tokio::task::spawn_local(async move {
                // Of a dead proxy nothing is held.
                while life == Some(client.incarnation()) {
                    match unlock_all(&client, &handle, process, partition).await {
                        Ok(()) => return,
                        Err(error) => tracing::warn!(%partition, %error, "advisory locks of a session are still held"),
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
    }
}

async fn unlock_all(client: &Client, handle: &Arc<PlanHandle>, process: i32, partition: PartitionId) -> SqlResult<()> {
    let mut bytes = Vec::with_capacity(8);
    write_row_slice(&mut bytes, &[DatumRef::Int4(process)]);
    let running = Rc::new(Running::default());
    let terms = Terms { running: &running, lock_timeout_ms: 0, within: None };
    match client.call(partition, handle, None, RequestBody::Point { params: &bytes }, terms).await {
        Ok(_) => Ok(()),
        Err(failed) => match CallError::from(failed) {
            CallError::Sql(error) => Err(error),
            CallError::Replan(_) => Err(SqlError::internal("an act is of no catalog")),
        },
    }
}

/// Whether a lock was certainly not taken: who was waiting for it gave up, or there was no room for it.
fn is_refusal(error: &SqlError) -> bool {
    let refusals =
        [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED, SqlState::DEADLOCK_DETECTED, SqlState::OUT_OF_MEMORY];
    refusals.contains(&error.state())
}

/// The value of a function that gives nothing, which is not NULL.
fn nothing() -> Datum {
    Datum::Text(String::new())
}

fn not_owned(shared: bool) -> SqlError {
    let mode = if shared { "ShareLock" } else { "ExclusiveLock" };
    SqlError::new(SqlState(*b"01000"), format!("you don't own a lock of type {mode}"))
}

/// The session's proxy was taken for dead: others may hold what it held.
pub(super) fn dispossessed() -> SqlError {
    let message = "terminating connection because the advisory locks of the session were lost";
    SqlError::new(SqlState::CONNECTION_FAILURE, message)
}
