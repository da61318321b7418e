//! Request: may it be executed here and now, and by which verb.

use super::super::Worker;
use super::super::cuts::Standing;
use super::super::event::{Actions, ConnectionId};
use super::super::replica::{Primary, Replica};
use super::super::task::{Address, Body, Task};
use super::answer::{answer, write_rows};
use super::select::select;
use super::statement::Statement;
use super::write::Write;
use crate::gate::Time;
use crate::store::table::TableRows;
use bytes::Bytes;
use std::sync::Arc;
use toroid_common::datum::DatumRef;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{MapVersion, PartitionId, RequestId, TransactionId};
use toroid_common::plan::{Access, PointPlan, Verb};
use toroid_common::row::RowReader;
use toroid_common::wire::{
    Answer, Message, Outcome, Refusal, Request, RequestBody, Within, decode_env, write_encoded_answer,
};

/// What becomes of a request, before anything is computed.
pub(super) enum Verdict {
    Execute,
    /// It was executed before: the answer of that time.
    Repeat(Bytes),
    Refuse(Refusal),
    /// What its transaction relies on is gone.
    Lost(SqlError),
}

impl Worker {
    pub(in super::super) fn request(
        &mut self,
        connection: ConnectionId,
        request: &Request<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(proxy) = self.peers.proxy_mut(connection) else {
            return self.close(connection, "a request from a peer that is no proxy".to_owned(), now, actions);
        };
        let address = Address {
            connection,
            request: RequestId { proxy: proxy.incarnation, sequence: request.sequence },
            low: request.low,
            partition: request.partition,
            epoch: request.epoch,
        };
        if let RequestBody::Withdraw = request.body {
            let verdict = self.judge_identity(&address, true).err().unwrap_or(Verdict::Execute);
            if self.obey(&address, verdict, now, actions) {
                self.withdraw(&address, now, actions);
            }
            return;
        }
        let Some(plan) = proxy.plan(request.plan).cloned() else {
            return self.refuse(connection, request.sequence, Refusal::UnknownPlan, actions);
        };
        if let Some(cut) = request.within.and_then(|within| within.cut)
            && self.standing(cut) == Standing::Open
        {
            return self.await_release(connection, &Message::Request(request.clone()), now, actions);
        }
        if request.within.is_some() || self.is_contended(request.partition) {
            return self.begin_task(&address, plan, request, now, actions);
        }
        if !self.may_execute(&address, &plan, now, actions) {
            return;
        }
        let env = match request.env.map(decode_env).transpose() {
            Ok(env) => env,
            Err(error) => return self.close(connection, error.to_string(), now, actions),
        };
        match (&plan.verb, &request.body) {
            (Verb::Insert { .. }, RequestBody::Insert { rows, bytes }) => {
                self.execute(&address, &plan, env.as_ref(), Input::Rows(*rows, bytes), now, actions);
            }
            (
                Verb::Select { access, .. } | Verb::Update { access, .. } | Verb::Delete { access, .. },
                RequestBody::Point { params },
            ) => match access {
                Access::Index { .. } => {
                    self.execute(&address, &plan, env.as_ref(), Input::Params(params), now, actions);
                }
                Access::Scan | Access::Table { .. } => self.begin_task(&address, plan, request, now, actions),
                Access::Keys { .. } => self.unfit(connection, now, actions),
            },
            (Verb::Select { access: Access::Keys { .. }, .. }, RequestBody::Insert { .. })
            | (Verb::Act(_), RequestBody::Point { .. }) => {
                self.begin_task(&address, plan, request, now, actions);
            }
            (Verb::Insert { .. }, RequestBody::Point { .. })
            | (
                Verb::Select { .. } | Verb::Update { .. } | Verb::Delete { .. } | Verb::Act(_),
                RequestBody::Insert { .. },
            )
            | (_, RequestBody::Withdraw) => self.unfit(connection, now, actions),
        }
    }

    fn unfit(&mut self, connection: ConnectionId, now: Time, actions: &mut Actions) {
        self.close(connection, "a request that does not fit its plan".to_owned(), now, actions);
    }

    /// Whether a request is to be executed now. If not it has been answered.
    pub(super) fn may_execute(
        &mut self,
        address: &Address,
        plan: &PointPlan,
        now: Time,
        actions: &mut Actions,
    ) -> bool {
        let verdict = self.judge(address, plan);
        self.obey(address, verdict, now, actions)
    }

    /// Whether the verdict is to execute the request. If not it has been answered.
    fn obey(&mut self, address: &Address, verdict: Verdict, now: Time, actions: &mut Actions) -> bool {
        match verdict {
            Verdict::Execute => true,
            Verdict::Repeat(outcome) => {
                self.repeat(address, &outcome, now, actions);
                false
            }
            Verdict::Refuse(refusal) => {
                self.refuse(address.connection, address.request.sequence, refusal, actions);
                false
            }
            Verdict::Lost(_) => false,
        }
    }

    /// Takes a request that may have to wait.
    fn begin_task(
        &mut self,
        address: &Address,
        plan: Arc<PointPlan>,
        request: &Request<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        if request.within.is_some_and(|within| self.comes_again(address, within)) {
            return;
        }
        let env = match request.env.map(decode_env).transpose() {
            Ok(env) => env.map_or_else(|| Arc::clone(&self.plain_env), Arc::new),
            Err(error) => return self.close(address.connection, error.to_string(), now, actions),
        };
        let body = match (&plan.verb, &request.body) {
            (
                Verb::Insert { .. } | Verb::Select { access: Access::Keys { .. }, .. },
                RequestBody::Insert { rows, bytes },
            ) => Body::Insert { rows: *rows, bytes: Bytes::copy_from_slice(bytes) },
            (
                Verb::Select { .. } | Verb::Update { .. } | Verb::Delete { .. } | Verb::Act(_),
                RequestBody::Point { params },
            ) => Body::Point { params: Bytes::copy_from_slice(params), found: None },
            (Verb::Insert { .. }, RequestBody::Point { .. })
            | (
                Verb::Select { .. } | Verb::Update { .. } | Verb::Delete { .. } | Verb::Act(_),
                RequestBody::Insert { .. },
            )
            | (_, RequestBody::Withdraw) => return self.unfit(address.connection, now, actions),
        };
        let Request { within, lock_timeout_ms, .. } = *request;
        let session = session_of(address, &plan, &body, within);
        if within.is_none()
            && let Some(session) = session
            && self.session_comes_again(address, session)
        {
            return;
        }
        let address = *address;
        let task = Task { address, plan, within, session, body, env, lock_timeout_ms, wait: None, since: now };
        self.attempt(task, now, actions);
    }

    /// Whether a request with this identity may be executed here and now, whatever it is.
    fn judge_identity(&self, address: &Address, writes: bool) -> Result<&Primary, Verdict> {
        let replica = self.replicas.get(usize::from(address.partition.0));
        let Some(Some(Replica::Primary(primary))) = replica else {
            return Err(Verdict::Refuse(self.stale_map()));
        };
        if writes && let Some(outcome) = primary.root.answers.get(address.request) {
            return Err(Verdict::Repeat(outcome.clone()));
        }
        let proxy = address.request.proxy;
        if self.fence.covers(proxy) || primary.root.answers.is_fenced(proxy) {
            return Err(Verdict::Refuse(Refusal::Fenced));
        }
        if writes && primary.root.answers.is_passed(address.request) {
            return Err(Verdict::Refuse(Refusal::BelowMark));
        }
        if primary.epoch != address.epoch || !primary.serves() {
            return Err(Verdict::Refuse(self.stale_map()));
        }
        match primary.is_choked() || (writes && self.is_short(address.partition)) {
            true => Err(Verdict::Refuse(Refusal::Busy)),
            false => Ok(primary),
        }
    }

    /// Whether the partition has fewer replicas that answer than it must have for writes: these are asked for again until it has.
    pub(super) fn is_short(&self, partition: PartitionId) -> bool {
        let Some(map) = self.map.as_ref().filter(|map| map.min_copies > 1) else { return false };
        let floor = usize::from(map.min_copies);
        let present = match self.replicas.get(usize::from(partition.0)) {
            Some(Some(Replica::Primary(primary))) => primary.present(),
            Some(_) | None => usize::MAX,
        };
        present < floor || map.assignment(partition).is_some_and(|assignment| assignment.copies() < floor)
    }

    pub(super) fn judge(&self, address: &Address, plan: &PointPlan) -> Verdict {
        match self.judge_identity(address, plan.verb.writes()) {
            Ok(primary) => refused_plan(primary, plan, None).map_or(Verdict::Execute, Verdict::Refuse),
            Err(verdict) => verdict,
        }
    }

    pub(super) fn stale_map(&self) -> Refusal {
        Refusal::StaleMap { have: self.map_version() }
    }

    /// 0 before the first.
    pub(super) fn map_version(&self) -> MapVersion {
        self.map.as_ref().map_or(MapVersion(0), |map| map.version)
    }

    /// Answers what was executed before. Not while it is handed over: the next primary, which knows it as well, may have answered already.
    pub(super) fn repeat(&mut self, address: &Address, outcome: &[u8], now: Time, actions: &mut Actions) {
        let have = self.map_version();
        let Worker { replicas, lease, counters, .. } = self;
        if let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(address.partition.0)) {
            if primary.successor.is_some() {
                let refusal = Refusal::Deposed { have };
                return self.refuse(address.connection, address.request.sequence, refusal, actions);
            }
            counters.repeats += 1;
            answer(primary, address.connection, lease.holds(now), counters, actions, |out, _| {
                write_encoded_answer(out, address.request.sequence, outcome);
            });
        }
    }

    /// Runs a request that [`Worker::may_execute`].
    fn execute(
        &mut self,
        address: &Address,
        plan: &Arc<PointPlan>,
        env: Option<&Env>,
        input: Input<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let mut values: Vec<DatumRef<'_>> = Vec::new();
        let read = match input {
            Input::Params(params) => read_params(params, plan, &mut values).map(|()| None),
            Input::Rows(count, bytes) => split_rows(bytes, plan, &mut values).map(|rows| Some((count, rows))),
        };
        let insert = match read {
            Ok(insert) => insert,
            Err(error) => return self.fail(address, error, now, actions),
        };
        let plain = Arc::clone(&self.plain_env);
        let statement = Statement { params: &values, env: env.unwrap_or(&plain), found: None };
        if plan.verb.writes() {
            self.write(address, &Write { plan, insert }, &statement, now, actions);
        } else {
            self.read(address, plan, &statement, now, actions);
        }
    }

    fn read(
        &mut self,
        address: &Address,
        plan: &PointPlan,
        statement: &Statement<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let Verb::Select { access, filter, output, .. } = &plan.verb else { return };
        let Worker { replicas, lease, counters, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(address.partition.0)) else { return };
        let rows = answer(primary, address.connection, lease.holds(now), counters, actions, |out, root| {
            write_rows(out, address.request.sequence, |out| {
                let table = root.table(plan.table).ok_or_else(|| SqlError::internal("the table is not there"))?;
                select(statement, table, access, filter.as_ref(), output, out)
            })
        });
        if rows {
            self.counters.reads += 1;
        } else {
            self.counters.errors += 1;
        }
    }

    /// Answers with an error, which may tell of the partition's state: through the gate.
    pub(super) fn fail(&mut self, address: &Address, error: SqlError, now: Time, actions: &mut Actions) {
        let Worker { replicas, lease, counters, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(address.partition.0)) else { return };
        counters.errors += 1;
        let sequence = address.request.sequence;
        let message = Message::Answer(Answer { sequence, outcome: Outcome::Error(error) });
        answer(primary, address.connection, lease.holds(now), counters, actions, |out, _| message.write(out));
    }
}

/// What a request brings for its plan.
enum Input<'a> {
    Params(&'a [u8]),
    Rows(u32, &'a [u8]),
}

/// Who asks: what is beside tables says so itself, where it is in no transaction.
fn session_of(address: &Address, plan: &PointPlan, body: &Body, within: Option<Within>) -> Option<TransactionId> {
    let process = match (within, &plan.verb, body) {
        (Some(within), _, _) => within.process,
        (None, Verb::Act(_), Body::Point { params, .. }) => {
            let mut values = Vec::new();
            read_params(params, plan, &mut values).ok()?;
            match values.first() {
                Some(DatumRef::Int4(process)) => process.cast_unsigned(),
                Some(_) | None => 0,
            }
        }
        (None, _, _) => 0,
    };
    (process > 0).then(|| TransactionId::of_session(address.request.proxy, process))
}

/// The rows of an INSERT, behind the parameters of its plan.
pub(super) fn split_rows<'a>(bytes: &'a [u8], plan: &PointPlan, values: &mut Vec<DatumRef<'a>>) -> SqlResult<&'a [u8]> {
    if plan.params.is_empty() {
        return Ok(bytes);
    }
    let mut reader = RowReader::new(bytes);
    reader.read(&plan.params, values)?;
    Ok(reader.rest())
}

/// Why a plan cannot be executed at this moment.
pub(super) fn refused_plan(primary: &Primary, plan: &PointPlan, transaction: Option<TransactionId>) -> Option<Refusal> {
    if let Verb::Act(_) = plan.verb {
        return None;
    }
    let have = primary.root.catalog().version;
    let definition = primary.root.table(plan.table).map(TableRows::definition);
    let Some(definition) = definition.filter(|definition| definition.version == plan.table_version) else {
        return Some(match plan.table_version > have {
            true => Refusal::BehindCatalog { have },
            false => Refusal::StaleCatalog { have },
        });
    };
    let locks = match &plan.verb {
        Verb::Select { lock, .. } => lock.is_some(),
        Verb::Insert { .. } | Verb::Update { .. } | Verb::Delete { .. } | Verb::Act(_) => true,
    };
    if locks && !definition.state.takes_writes_of(transaction) {
        return Some(Refusal::Moving { have });
    }
    None
}

/// The parameters of a plan, and nothing behind them.
pub(super) fn read_params<'a>(params: &'a [u8], plan: &PointPlan, values: &mut Vec<DatumRef<'a>>) -> SqlResult<()> {
    let mut reader = RowReader::new(params);
    reader.read(&plan.params, values)?;
    match reader.is_empty() {
        true => Ok(()),
        false => Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, "more parameters than the plan has")),
    }
}
