//! Request: may it be executed here and now, and by which verb.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::replica::{Primary, Replica};
use super::answer::{answer, write_rows};
use super::select::select;
use super::statement::Statement;
use super::write::Write;
use crate::gate::Time;
use bytes::Bytes;
use std::sync::Arc;
use toroid_common::catalog::TableState;
use toroid_common::datum::DatumRef;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Epoch, MapVersion, PartitionId, RequestId};
use toroid_common::plan::{Access, PointPlan, Verb};
use toroid_common::row::RowReader;
use toroid_common::wire::{Answer, Message, Outcome, Refusal, Request, RequestBody, decode_env, write_encoded_answer};

/// What becomes of a request, before anything is computed.
enum Verdict {
    Execute,
    /// It was executed before: the answer of that time.
    Repeat(Bytes),
    Refuse(Refusal),
}

/// A request's identity and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub connection: ConnectionId,
    pub request: RequestId,
    pub low: u64,
    pub partition: PartitionId,
    pub epoch: Epoch,
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
                    self.execute(&address, &plan, env.as_ref(), Input::Params(params, None), now, actions);
                }
                Access::Scan => self.park(&address, plan, params, env, actions),
            },
            (Verb::Insert { .. }, RequestBody::Point { .. })
            | (Verb::Select { .. } | Verb::Update { .. } | Verb::Delete { .. }, RequestBody::Insert { .. })
            | (_, RequestBody::Withdraw) => {
                self.close(connection, "a request that does not fit its plan".to_owned(), now, actions);
            }
        }
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
        }
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
        if writes && address.request.sequence < primary.root.answers.lowest(proxy) {
            return Err(Verdict::Refuse(Refusal::BelowMark));
        }
        if primary.epoch != address.epoch || !primary.serves() {
            return Err(Verdict::Refuse(self.stale_map()));
        }
        match primary.is_choked() {
            true => Err(Verdict::Refuse(Refusal::Busy)),
            false => Ok(primary),
        }
    }

    fn judge(&self, address: &Address, plan: &PointPlan) -> Verdict {
        let writes = plan.verb.writes();
        let primary = match self.judge_identity(address, writes) {
            Ok(primary) => primary,
            Err(verdict) => return verdict,
        };
        let have = primary.root.catalog().version;
        let Some(table) = primary.root.table(plan.table) else {
            return Verdict::Refuse(match plan.table_version > have {
                true => Refusal::BehindCatalog { have },
                false => Refusal::StaleCatalog { have },
            });
        };
        let definition = table.definition();
        if definition.version != plan.table_version {
            return Verdict::Refuse(match plan.table_version > have {
                true => Refusal::BehindCatalog { have },
                false => Refusal::StaleCatalog { have },
            });
        }
        if writes && matches!(definition.state, TableState::Moving { .. }) {
            return Verdict::Refuse(Refusal::Moving { have });
        }
        Verdict::Execute
    }

    pub(super) fn stale_map(&self) -> Refusal {
        Refusal::StaleMap { have: self.map.as_ref().map_or(MapVersion(0), |map| map.version) }
    }

    /// Answers what was executed before.
    fn repeat(&mut self, address: &Address, outcome: &[u8], now: Time, actions: &mut Actions) {
        self.counters.repeats += 1;
        let Worker { replicas, lease, counters, .. } = self;
        if let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(address.partition.0)) {
            answer(primary, address.connection, lease.holds(now), counters, actions, |out, _| {
                write_encoded_answer(out, address.request.sequence, outcome);
            });
        }
    }

    /// Runs a request that [`Worker::may_execute`].
    pub(super) fn execute(
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
            Input::Params(params, found) => read_params(params, plan, &mut values).map(|()| (None, found)),
            Input::Rows(count, bytes) => split_rows(bytes, plan, &mut values).map(|rows| (Some((count, rows)), None)),
        };
        let (insert, found) = match read {
            Ok(read) => read,
            Err(error) => return self.fail(address, error, now, actions),
        };
        let plain = Arc::clone(&self.plain_env);
        let statement = Statement { params: &values, env: env.unwrap_or(&plain), found };
        if plan.verb.writes() {
            let Address { connection, request, low, partition, .. } = *address;
            let write = Write { connection, request, low, partition, plan, insert };
            self.write(&write, &statement, now, actions);
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
pub(super) enum Input<'a> {
    /// Parameters, and the rows that a scan found.
    Params(&'a [u8], Option<&'a [crate::store::table::Position]>),
    Rows(u32, &'a [u8]),
}

/// The rows of an INSERT, behind the parameters of its plan.
fn split_rows<'a>(bytes: &'a [u8], plan: &PointPlan, values: &mut Vec<DatumRef<'a>>) -> SqlResult<&'a [u8]> {
    if plan.params.is_empty() {
        return Ok(bytes);
    }
    let mut reader = RowReader::new(bytes);
    reader.read(&plan.params, values)?;
    Ok(reader.rest())
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
