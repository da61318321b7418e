//! Statements on one key, and the steps of transactions: the product's loop around a request, step by step.

use super::super::clock::{Instant, MILLISECOND};
use super::super::context::Context;
use super::super::history::grip::Holder;
use super::super::history::{self, History, Told};
use super::super::observe;
use super::super::sabotage::Sabotage;
use super::super::workload::{Act, Response, table};
use super::link::{Lead, Use};
use super::{Proxy, TheEnd, VIEW_PATIENCE, deed};
use std::sync::Arc;
use std::task::{Poll, Waker};
use toroid_common::calls::Event;
use toroid_common::catalog::Table;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::id::{CatalogVersion, MapVersion, PartitionId, PlanId};
use toroid_common::plan::{self, PointPlan, Verb};
use toroid_common::routing::{self, Attempts, Failure, Next, Trouble};
use toroid_common::transaction::Step;
use toroid_common::wire::{Message, Outcome, PlanMessage, Refusal, Request, RequestBody, Transact, Within};

/// Place of plans that go through another index, among plans.
const BY_DETOUR: u8 = 50;

/// Who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A statement by itself.
    Session { session: u16, record: usize },
    /// A transaction, by its number.
    Block(u64),
    /// A session that does something beside tables.
    Deed(u16),
    /// Sessions that listen, by this request.
    Ear(u64),
    /// A channel that nobody listens to any more.
    Deaf(u8),
    /// What a session held that has ended, and since when.
    Left { holder: Holder, since: u64 },
    /// Nobody.
    Nobody,
}

#[derive(Clone, Debug)]
pub(super) enum Job {
    On {
        key: i32,
        act: Act,
        within: Option<Within>,
        lock_timeout_ms: u32,
        /// After so long it is called back.
        patience: Option<Instant>,
    },
    /// All rows of a partition are locked for reading.
    Lock {
        within: Within,
    },
    /// Something beside tables.
    Act {
        act: plan::Act,
        params: Vec<u8>,
        within: Option<Within>,
        lock_timeout_ms: u32,
        patience: Option<Instant>,
    },
    Step {
        number: u64,
        step: Step,
    },
}

/// How it ended for a transaction.
#[derive(Clone, Debug)]
pub(super) enum CallEnd {
    Response(Response),
    Count(u64),
    Error(SqlError),
    /// It was never executed.
    Nothing,
    Unknown,
}

/// A statement or step, while it lasts.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) owner: Owner,
    pub(super) job: Job,
    pub(super) partition: PartitionId,
    began: Instant,
    called_back: bool,
    /// 0 before the first send.
    sequence: u64,
    attempts: Attempts,
    in_trouble_since: Option<Instant>,
    /// As it was planned when it was sent first.
    planned: Option<Planned>,
    state: State,
}

/// What a request says, and of which table.
#[derive(Clone, Debug)]
struct Planned {
    plan: PlanId,
    plan_bytes: Vec<u8>,
    bytes: Vec<u8>,
    table: Arc<Table>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent, by what is known then.
    Ready,
    Sent {
        by: MapVersion,
    },
    Pause {
        until: Instant,
        newer_than: MapVersion,
    },
    AwaitMap {
        version: MapVersion,
        until: Instant,
    },
    AwaitCatalog {
        version: CatalogVersion,
        until: Instant,
    },
    Done,
}

impl Call {
    pub(super) fn new(owner: Owner, job: Job, partition: PartitionId, now: Instant) -> Call {
        let attempts = match &job {
            Job::Step { step, .. } => Attempts::of_step(step),
            Job::On { .. } | Job::Act { .. } | Job::Lock { .. } => Attempts::new(job.writes()),
        };
        Call {
            owner,
            partition,
            began: now,
            called_back: false,
            sequence: 0,
            attempts,
            in_trouble_since: None,
            planned: None,
            state: State::Ready,
            job,
        }
    }

    /// It leaves later.
    pub(super) fn later(mut self, until: Instant) -> Call {
        self.state = State::Pause { until, newer_than: MapVersion(u64::MAX) };
        self
    }

    pub(super) fn waits_for(&self) -> String {
        let Call { owner, job, partition, state, attempts, .. } = self;
        format!("{job:?} of {owner:?} in partition {partition} ({state:?}, {attempts:?})")
    }
}

impl Job {
    fn writes(&self) -> bool {
        match self {
            Job::On { act, .. } => act.writes(),
            Job::Act { act, within, .. } => act.writes() || within.is_some(),
            Job::Lock { .. } => false,
            Job::Step { .. } => true,
        }
    }

    /// Whether it is a request of a transaction.
    fn is_within(&self) -> bool {
        match self {
            Job::On { within, .. } | Job::Act { within, .. } => within.is_some(),
            Job::Lock { .. } => true,
            Job::Step { .. } => false,
        }
    }

    /// Its plan's place among those of one table version, and its plan.
    fn plan(&self, table: &Table) -> Option<(u8, PointPlan)> {
        match self {
            Job::On { key, act, .. } => {
                let detour = match act {
                    Act::Add { scan: true, .. } => table::detour(table),
                    Act::Read if key % 3 == 1 => table::detour(table),
                    _ => None,
                };
                let kind = match act {
                    Act::Insert(_) => 0,
                    Act::Read => 1,
                    Act::Add { scan: false, .. } => 2,
                    Act::Add { scan: true, .. } => 3,
                    Act::Put(_) => 4,
                    Act::Delete => 5,
                    Act::Lock(lock) => 7 + lock.strength as u8 * 3 + lock.wait as u8,
                };
                let kind = if detour.is_some() { kind + BY_DETOUR } else { kind };
                Some((kind, table::plan(*act, table, detour)))
            }
            Job::Act { act, .. } => Some(deed::plan(*act)),
            Job::Lock { .. } => Some((6, table::lock_plan(table))),
            Job::Step { .. } => None,
        }
    }
}

impl Proxy {
    /// Lets every open statement do its next step.
    pub(super) fn statements_go_on(&mut self, history: &mut History, idle: &mut Vec<u16>, context: &mut Context) {
        let mut open = std::mem::take(&mut self.open);
        for call in &mut open {
            // A step may make the next one possible at once.
            while let Some(next) = self.advance(call, context) {
                if let Some(end) = next {
                    self.ended(call, end, history, idle, context);
                    break;
                }
            }
        }
        open.retain(|call| call.state != State::Done);
        open.append(&mut self.open);
        self.open = open;
    }

    fn ended(
        &mut self,
        call: &mut Call,
        end: CallEnd,
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) {
        call.state = State::Done;
        context.note(|| format!("{:?} of {:?} in partition {}: {end:?}", call.job, call.owner, call.partition));
        let (session, record) = match call.owner {
            Owner::Session { session, record } => (session, record),
            Owner::Block(number) => return self.block_ended.push((number, call.partition, call.job.clone(), end)),
            Owner::Deed(session) => return self.deed_ended(session, call.partition, &end, history, idle, context),
            Owner::Left { holder, since } => return self.left(call, (holder, since), &end, history, context),
            Owner::Ear(number) => return self.asked_for(number, &end, history, idle, context),
            Owner::Deaf(channel) => return self.left_channel(channel),
            Owner::Nobody => return,
        };
        let end = match end {
            CallEnd::Response(response) => {
                history.told(record, 0, Told::Response(response));
                history::End::Answered
            }
            CallEnd::Nothing => history::End::Refused,
            CallEnd::Unknown => history::End::Unknown,
            CallEnd::Count(_) | CallEnd::Error(_) => {
                context.violated(|| format!("{:?} by itself was answered {end:?}", call.job));
                history::End::Unknown
            }
        };
        history.end(record, end);
        idle.push(session);
    }

    /// One step of a statement: none when it waits, its end if it has ended.
    fn advance(&mut self, call: &mut Call, context: &mut Context) -> Option<Option<CallEnd>> {
        let now = context.now();
        let version = self.map.as_ref().map_or(MapVersion(0), |map| map.version);
        let catalog = self.catalog.as_ref().map_or(CatalogVersion(0), |catalog| catalog.version);
        self.call_back(call, context);
        match call.state {
            State::Ready => {
                if let Some(end) = self.send(call, context) {
                    return Some(Some(end));
                }
                return (call.state != State::Ready).then_some(None);
            }
            State::Sent { by } => match self.calls.poll(call.sequence, Waker::noop()) {
                Poll::Pending => return None,
                Poll::Ready(Event::Answer(answer)) => return Some(Some(self.answered(call, &answer, context))),
                Poll::Ready(Event::Trouble(trouble)) => return Some(self.trouble(call, trouble, by, context)),
            },
            State::Pause { until, newer_than } if now >= until || version > newer_than => call.state = State::Ready,
            State::AwaitMap { version: wanted, .. } if version >= wanted => call.state = State::Ready,
            State::AwaitCatalog { version: wanted, .. } if catalog >= wanted => call.state = State::Ready,
            State::AwaitMap { until, .. } if now >= until && call.attempts.is_endless() => call.state = State::Ready,
            State::AwaitMap { until, .. } | State::AwaitCatalog { until, .. } if now >= until => {
                return Some(Some(self.give_up(call, call.attempts.nowhere())));
            }
            State::Pause { until, .. } | State::AwaitMap { until, .. } | State::AwaitCatalog { until, .. } => {
                self.wake_at(until, context);
                return None;
            }
            State::Done => return None,
        }
        Some(None)
    }

    /// Its client wants to wait no longer: whatever it waits for at the worker, it is to end.
    fn call_back(&mut self, call: &mut Call, context: &mut Context) {
        let (Job::On { patience: Some(patience), .. } | Job::Act { patience: Some(patience), .. }) = call.job else {
            return;
        };
        if call.called_back {
            return;
        }
        if context.now() < call.began + patience {
            return self.wake_at(call.began + patience, context);
        }
        call.called_back = true;
        let (State::Sent { .. }, Some(map)) = (call.state, &self.map) else { return };
        let route = routing::route(map, call.partition);
        if let Some(link) = route.and_then(|route| self.links.get_mut(&(Use::Requests, route.worker))) {
            let mut bytes = Vec::new();
            Message::Cancel { sequence: call.sequence }.write(&mut bytes);
            link.send(bytes, context);
        }
    }

    fn give_up(&mut self, call: &Call, failure: Failure) -> CallEnd {
        if call.sequence != 0 {
            self.calls.end(call.sequence, false);
        }
        match failure {
            Failure::Unknown => CallEnd::Unknown,
            Failure::Nothing(_) | Failure::PartitionLost => CallEnd::Nothing,
        }
    }

    fn answered(&mut self, call: &Call, bytes: &[u8], context: &mut Context) -> CallEnd {
        self.calls.end(call.sequence, true);
        let outcome = match Outcome::decode(bytes) {
            Ok(outcome) => outcome,
            Err(error) => {
                context.violated(|| format!("{:?}: {error}", call.job));
                return CallEnd::Unknown;
            }
        };
        match (&call.job, outcome, call.owner) {
            (_, Outcome::Error(error), _) if error.state() == SqlState::STATEMENT_COMPLETION_UNKNOWN => {
                CallEnd::Unknown
            }
            (Job::Act { .. }, Outcome::Error(error), _) | (_, Outcome::Error(error), Owner::Block(_)) => {
                CallEnd::Error(error)
            }
            (Job::Act { .. } | Job::Lock { .. } | Job::Step { .. }, Outcome::Done { count }, _) => {
                CallEnd::Count(count)
            }
            (Job::Lock { .. } | Job::Step { .. }, Outcome::Rows { count, .. }, _) => CallEnd::Count(u64::from(count)),
            (Job::On { act, .. }, outcome, _) => match self.response(call, *act, &outcome) {
                Ok(response) => CallEnd::Response(response),
                Err(what) => {
                    context.violated(|| format!("{:?}: {what}", call.owner));
                    CallEnd::Unknown
                }
            },
            (Job::Act { .. } | Job::Lock { .. } | Job::Step { .. }, outcome, _) => {
                context.violated(|| format!("{:?} was answered {outcome:?}", call.job));
                CallEnd::Unknown
            }
        }
    }

    fn response(&self, call: &Call, act: Act, outcome: &Outcome<'_>) -> Result<Response, String> {
        let table = call.planned.as_ref().map(|planned| &planned.table).or(self.table());
        table::response(act, outcome, table.ok_or("it was never planned")?)
    }

    fn trouble(&mut self, call: &mut Call, trouble: Trouble, by: MapVersion, context: &mut Context) -> Option<CallEnd> {
        let now = context.now();
        context.note(|| format!("{:?} of {:?} is in trouble: {trouble:?}", call.job, call.owner));
        let waited = (now - *call.in_trouble_since.get_or_insert(now)) / MILLISECOND;
        let within =
            matches!(call.job, Job::On { within: Some(_), .. } | Job::Act { within: Some(_), .. } | Job::Lock { .. });
        match call.attempts.after(trouble, waited as u32, by) {
            // In a transaction nothing is withdrawn but all of it.
            Ok(_) if call.attempts.withdraws() && within => {
                self.calls.end(call.sequence, false);
                return Some(CallEnd::Unknown);
            }
            Ok(Next::RegisterPlan) => {
                if let Some(Planned { plan, .. }) = call.planned
                    && let Some(route) = self.map.as_ref().and_then(|map| routing::route(map, call.partition))
                    && let Some(link) = self.links.get_mut(&(Use::Requests, route.worker))
                {
                    link.plans.remove(&plan);
                }
                call.state = State::Ready;
            }
            Ok(Next::Resend { after_ms }) => {
                call.state = State::Pause { until: now + u64::from(after_ms) * MILLISECOND, newer_than: by };
            }
            Ok(Next::AwaitMap(version)) => call.state = State::AwaitMap { version, until: now + VIEW_PATIENCE },
            Ok(Next::Replan(version)) => {
                // The product plans the statement again, as a new request.
                self.calls.end(call.sequence, true);
                if let Job::Step { .. } = call.job {
                    return Some(CallEnd::Error(toroid_common::coordinator::lost()));
                }
                (call.sequence, call.planned) = (0, None);
                call.attempts = Attempts::new(call.job.writes());
                call.in_trouble_since = None;
                call.state = State::AwaitCatalog { version, until: now + VIEW_PATIENCE };
            }
            Err(failure) => {
                if trouble == Trouble::Refused(Refusal::Fenced) {
                    self.ends = Some(TheEnd::Fenced);
                }
                return Some(self.give_up(call, failure));
            }
        }
        None
    }

    fn planned(&mut self, job: &Job) -> Option<Planned> {
        let table = Arc::clone(self.table()?);
        let (plan, plan_bytes) = self.plan_of(job)?;
        let bytes = match job {
            Job::On { key, act, .. } => table::body(*key, *act, &table),
            Job::Act { params, .. } => params.clone(),
            Job::Lock { .. } | Job::Step { .. } => Vec::new(),
        };
        Some(Planned { plan, plan_bytes, bytes, table })
    }

    /// The plan of a job by its number, with its bytes.
    fn plan_of(&mut self, job: &Job) -> Option<(PlanId, Vec<u8>)> {
        let table = Arc::clone(self.table()?);
        let (kind, plan) = job.plan(&table)?;
        let next = PlanId(self.plans.len() as u32 + 1);
        let known =
            self.plans.entry((kind, plan.table_version)).or_insert_with(|| (next, PlanMessage::encode_plan(&plan)));
        Some(known.clone())
    }

    /// What a job does, as coordinators see it.
    pub(super) fn verb_of(&self, job: &Job) -> Option<Verb> {
        Some(job.plan(self.table()?)?.1.verb)
    }

    /// Sends it by what is known now; its end when nobody can have it.
    fn send(&mut self, call: &mut Call, context: &mut Context) -> Option<CallEnd> {
        let map = self.map.clone()?;
        call.planned = call.planned.take().or_else(|| self.planned(&call.job));
        let Some(route) = routing::route(&map, call.partition) else {
            // The partition is lost. Whether it happened before nobody will ever see.
            return Some(self.give_up(call, call.attempts.nowhere()));
        };
        let (Some(address), Some(node)) = (map.address(route.worker), map.node(route.worker.node)) else {
            return None;
        };
        let is_first = match call.sequence {
            0 => true,
            again if context.sabotages(Sabotage::RequestIds) => {
                self.calls.end(again, true);
                true
            }
            _ => false,
        };
        if is_first {
            call.sequence = self.calls.begin(call.partition, route.worker);
        }
        if call.job.is_within() && !self.calls.hold(call.sequence, call.partition, route.worker) {
            return Some(self.give_up(call, call.attempts.nowhere()));
        }
        if !is_first && !self.calls.resend(call.sequence, call.partition, route.worker) {
            // Its answer has come meanwhile, and is taken next.
            call.state = State::Sent { by: map.version };
            return None;
        }
        let (sequence, partition, epoch) = (call.sequence, call.partition, route.epoch);
        let low = self.calls.low(partition, sequence);
        call.attempts.sent();
        call.state = State::Sent { by: map.version };
        let lead = Lead { to: Use::Requests, worker: route.worker, incarnation: node.incarnation };
        let mut out = Vec::new();
        if let Some(answered) = self.calls.answered(partition) {
            Message::Answered(answered).write(&mut out);
        }
        if let Job::Step { number, step } = &call.job {
            let transact = Transact { sequence, low, partition, epoch, number: *number, step: step.clone() };
            observe::asked_step(self.incarnation, &transact, context);
            Message::Transact(transact).write(&mut out);
            self.link(lead, address, context)?.send(out, context);
            return None;
        }
        let Planned { plan, plan_bytes, bytes, .. } = call.planned.clone()?;
        let (within, lock_timeout_ms, body) = match &call.job {
            Job::On { act: Act::Insert(_), within, lock_timeout_ms, .. } => {
                (*within, *lock_timeout_ms, RequestBody::Insert { rows: 1, bytes: &bytes })
            }
            Job::On { within, lock_timeout_ms, .. } => {
                (*within, *lock_timeout_ms, RequestBody::Point { params: &bytes })
            }
            Job::Act { within, lock_timeout_ms, .. } => {
                (*within, *lock_timeout_ms, RequestBody::Point { params: &bytes })
            }
            Job::Lock { within } => (Some(*within), 0, RequestBody::Point { params: &bytes }),
            Job::Step { .. } => return None,
        };
        let body = if call.attempts.withdraws() { RequestBody::Withdraw } else { body };
        let request = Request { sequence, low, partition, epoch, plan, within, lock_timeout_ms, env: None, body };
        observe::asked(self.incarnation, &request, context);
        let link = self.link(lead, address, context)?;
        if link.plans.insert(plan) {
            Message::Plan(PlanMessage { id: plan, bytes: &plan_bytes }).write(&mut out);
        }
        Message::Request(request).write(&mut out);
        link.send(out, context);
        None
    }
}
