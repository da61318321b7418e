//! Statements on one key: the product's loop around a request, step by step.

use super::super::clock::{Instant, MILLISECOND};
use super::super::context::Context;
use super::super::history::{self, History, Told};
use super::super::observe;
use super::super::sabotage::Sabotage;
use super::super::workload::{Act, table};
use super::link::{Lead, Use};
use super::{Proxy, VIEW_PATIENCE};
use std::sync::Arc;
use std::task::{Poll, Waker};
use toroid_common::calls::Event;
use toroid_common::id::{CatalogVersion, MapVersion, PartitionId, PlanId};
use toroid_common::routing::{self, Attempts, Failure, Next, Trouble};
use toroid_common::wire::{Message, Outcome, PlanMessage, Request, RequestBody};

/// A statement of a session, while it lasts.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) session: u16,
    pub(super) record: usize,
    key: i32,
    act: Act,
    partition: PartitionId,
    /// 0 before the first send.
    sequence: u64,
    attempts: Attempts,
    in_trouble_since: Option<Instant>,
    state: State,
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
    Done(history::End),
}

impl Call {
    pub(super) fn new(session: u16, record: usize, (key, act): (i32, Act), partition: PartitionId) -> Call {
        Call {
            session,
            record,
            key,
            act,
            partition,
            sequence: 0,
            attempts: Attempts::new(act.writes()),
            in_trouble_since: None,
            state: State::Ready,
        }
    }

    pub(super) fn waits_for(&self) -> String {
        let Call { record, partition, state, attempts, .. } = self;
        format!("operation {record} in partition {partition} ({state:?}, {attempts:?})")
    }
}

impl Proxy {
    /// Lets every open statement do its next step.
    pub(super) fn statements_go_on(&mut self, history: &mut History, idle: &mut Vec<u16>, context: &mut Context) {
        let mut open = std::mem::take(&mut self.open);
        for call in &mut open {
            // A step may make the next one possible at once.
            while self.advance(call, history, context) {}
        }
        open.retain(|call| {
            let State::Done(end) = call.state else { return true };
            context.note(|| format!("operation {} ends: {end:?}", call.record));
            history.end(call.record, end);
            idle.push(call.session);
            false
        });
        self.open = open;
    }

    /// One step of a statement; false when it waits.
    fn advance(&mut self, call: &mut Call, history: &mut History, context: &mut Context) -> bool {
        let now = context.now();
        let version = self.map.as_ref().map_or(MapVersion(0), |map| map.version);
        let catalog = self.catalog.as_ref().map_or(CatalogVersion(0), |catalog| catalog.version);
        let before = call.state;
        match call.state {
            State::Ready => self.send(call, context),
            State::Sent { by } => match self.calls.poll(call.sequence, Waker::noop()) {
                Poll::Pending => {}
                Poll::Ready(Event::Answer(answer)) => self.answered(call, &answer, history, context),
                Poll::Ready(Event::Trouble(trouble)) => self.trouble(call, trouble, by, context),
            },
            State::Pause { until, newer_than } if now >= until || version > newer_than => call.state = State::Ready,
            State::AwaitMap { version: wanted, .. } if version >= wanted => call.state = State::Ready,
            State::AwaitCatalog { version: wanted, .. } if catalog >= wanted => call.state = State::Ready,
            State::Pause { until, .. } => self.wake_at(until, context),
            State::AwaitMap { until, .. } | State::AwaitCatalog { until, .. } => {
                if now >= until {
                    self.give_up(call, history::End::Refused);
                } else {
                    self.wake_at(until, context);
                }
            }
            State::Done(_) => {}
        }
        call.state != before && !matches!(call.state, State::Done(_))
    }

    fn give_up(&mut self, call: &mut Call, end: history::End) {
        if call.sequence != 0 {
            self.calls.end(call.sequence, false);
        }
        call.state = State::Done(end);
    }

    fn answered(&mut self, call: &mut Call, bytes: &[u8], history: &mut History, context: &mut Context) {
        self.calls.end(call.sequence, true);
        let response = Outcome::decode(bytes)
            .map_err(|error| error.to_string())
            .and_then(|outcome| table::response(call.act, &outcome));
        match response {
            Ok(response) => {
                context.note(|| format!("operation {} is told {response:?}", call.record));
                history.told(call.record, 0, Told::Response(response));
                call.state = State::Done(history::End::Answered);
            }
            Err(what) => {
                context.violated(|| format!("operation {}: {what}", call.record));
                call.state = State::Done(history::End::Unknown);
            }
        }
    }

    fn trouble(&mut self, call: &mut Call, trouble: Trouble, by: MapVersion, context: &mut Context) {
        let now = context.now();
        context.note(|| format!("operation {} is in trouble: {trouble:?}", call.record));
        let waited = (now - *call.in_trouble_since.get_or_insert(now)) / MILLISECOND;
        match call.attempts.after(trouble, waited as u32, by) {
            Ok(Next::RegisterPlan) => {
                if let Some((plan, _)) = self.plan_of(call.act)
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
                call.sequence = 0;
                call.attempts = Attempts::new(call.act.writes());
                call.in_trouble_since = None;
                call.state = State::AwaitCatalog { version, until: now + VIEW_PATIENCE };
            }
            Err(failure) => self.give_up(call, ended(failure)),
        }
    }

    /// The plan of an act by its number, with its bytes.
    fn plan_of(&mut self, act: Act) -> Option<(PlanId, Vec<u8>)> {
        let table = Arc::clone(self.table()?);
        let kind = match act {
            Act::Insert(_) => 0,
            Act::Read => 1,
            Act::Add { scan: false } => 2,
            Act::Add { scan: true } => 3,
            Act::Put(_) => 4,
            Act::Delete => 5,
        };
        let next = PlanId(self.plans.len() as u32 + 1);
        let plan = self
            .plans
            .entry((kind, table.version))
            .or_insert_with(|| (next, PlanMessage::encode_plan(&table::plan(act, &table))));
        Some(plan.clone())
    }

    fn send(&mut self, call: &mut Call, context: &mut Context) {
        let (Some(map), Some((plan, plan_bytes))) = (self.map.clone(), self.plan_of(call.act)) else { return };
        let Some(route) = routing::route(&map, call.partition) else {
            // The partition is lost. Whether it happened before nobody will ever see.
            return self.give_up(call, ended(call.attempts.nowhere()));
        };
        let (Some(address), Some(node)) = (map.address(route.worker), map.node(route.worker.node)) else { return };
        match call.sequence {
            0 => call.sequence = self.calls.begin(call.partition, route.worker),
            again if context.sabotages(Sabotage::RequestIds) => {
                self.calls.end(again, true);
                call.sequence = self.calls.begin(call.partition, route.worker);
            }
            again if self.calls.resend(again, call.partition, route.worker) => {}
            _ => {
                // Its answer has come meanwhile, and is taken next.
                call.state = State::Sent { by: map.version };
                return;
            }
        }
        let low = self.calls.low(call.partition, call.sequence);
        call.attempts.sent();
        call.state = State::Sent { by: map.version };
        let bytes = table::body(call.key, call.act);
        let body = match call.act {
            _ if call.attempts.withdraws() => RequestBody::Withdraw,
            Act::Insert(_) => RequestBody::Insert { rows: 1, bytes: &bytes },
            Act::Read | Act::Add { .. } | Act::Put(_) | Act::Delete => RequestBody::Point { params: &bytes },
        };
        let request = Request {
            sequence: call.sequence,
            low,
            partition: call.partition,
            epoch: route.epoch,
            plan,
            within: None,
            lock_timeout_ms: 0,
            env: None,
            body,
        };
        observe::asked(self.incarnation, &request, context);
        let incarnation = node.incarnation;
        let lead = Lead { to: Use::Requests, worker: route.worker, incarnation };
        let Some(link) = self.link(lead, address, context) else { return };
        let mut out = Vec::new();
        if link.plans.insert(plan) {
            Message::Plan(PlanMessage { id: plan, bytes: &plan_bytes }).write(&mut out);
        }
        Message::Request(request).write(&mut out);
        link.send(out, context);
    }
}

/// What the client is told.
fn ended(failure: Failure) -> history::End {
    match failure {
        Failure::Unknown => history::End::Unknown,
        Failure::Nothing(_) | Failure::PartitionLost => history::End::Refused,
    }
}
