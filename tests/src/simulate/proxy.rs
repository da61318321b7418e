//! A proxy: the real table of open requests and the real routing and retry decisions, around virtual connections and sessions.

use super::clock::{Instant, MILLISECOND, SECOND};
use super::context::{Context, Happening, group_address, name};
use super::history::{self, History};
use super::network::{Arrival, End, Host, MEMBERS, Side, What, WireId};
use super::observe;
use super::sabotage::Sabotage;
use super::workload::{self, Act, Work};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use toroid_common::calls::{Calls, Event};
use toroid_common::catalog::{Catalog, PUBLIC_SCHEMA, Table};
use toroid_common::id::{CatalogVersion, Incarnation, MapVersion, PartitionId, PlanId, WorkerId};
use toroid_common::map::ClusterMap;
use toroid_common::routing::{self, Attempts, Failure, Next, Trouble};
use toroid_common::wire::{
    CatalogChange, Control, ControlBody, Hello, Message, NoticeBody, Outcome, PROTOCOL_VERSION, PlanMessage, RawFrame,
    Request, RequestBody, Role,
};

/// How long a statement waits for a newer map or catalog before it gives up.
const VIEW_PATIENCE: Instant = 10 * SECOND;
const RECONNECT: Instant = 100 * MILLISECOND;
/// Without a word from the metadata service for so long, the line is given up.
const SILENCE: Instant = 2 * SECOND;
const TICK: Instant = 50 * MILLISECOND;
const RENEWAL: Instant = SECOND / 2;
const ALLOCATE: u32 = 2;
const RENEW: u32 = 3;

#[derive(Debug)]
pub struct Proxy {
    pub index: u8,
    pub life: u32,
    pub up: bool,
    paused_until: Instant,
    deferred: Vec<Arrival>,
    incarnation: Option<Incarnation>,
    metadata: Option<WireId>,
    /// Whether that connection stands.
    stands: bool,
    /// Where the group was said to be led.
    leader: Option<SocketAddr>,
    tries: u8,
    renew_at: Instant,
    heard: Instant,
    number: u32,
    pub map: Option<Arc<ClusterMap>>,
    catalog: Option<Arc<Catalog>>,
    ready: bool,
    links: BTreeMap<WorkerId, Link>,
    /// Connections to workers, also those that are links no more: what is under way on them still arrives.
    wires: BTreeMap<WireId, (WorkerId, Incarnation)>,
    calls: Calls<Result<Vec<u8>, String>>,
    open: Vec<Call>,
    plans: BTreeMap<(u8, CatalogVersion), (PlanId, Vec<u8>)>,
    changes: BTreeMap<u32, u16>,
    wakes: Option<Instant>,
}

/// The connection by which requests go to a worker.
#[derive(Debug)]
struct Link {
    wire: WireId,
    incarnation: Incarnation,
    welcome: bool,
    /// What waits for the welcome.
    out: Vec<u8>,
    plans: BTreeSet<PlanId>,
}

/// A statement of a session, while it lasts.
#[derive(Debug)]
struct Call {
    session: u16,
    record: usize,
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

impl Proxy {
    #[must_use]
    pub fn new(index: u8) -> Proxy {
        Proxy {
            index,
            life: 0,
            up: false,
            paused_until: 0,
            deferred: Vec::new(),
            incarnation: None,
            metadata: None,
            stands: false,
            leader: None,
            tries: 0,
            renew_at: 0,
            heard: 0,
            number: RENEW,
            map: None,
            catalog: None,
            ready: false,
            links: BTreeMap::new(),
            wires: BTreeMap::new(),
            calls: Calls::new(),
            open: Vec::new(),
            plans: BTreeMap::new(),
            changes: BTreeMap::new(),
            wakes: None,
        }
    }

    fn end(&self) -> End {
        End { host: Host::Proxy(self.index), part: 0, life: self.life }
    }

    pub fn start(&mut self, context: &mut Context) {
        *self = Proxy { life: self.life + 1, up: true, ..Proxy::new(self.index) };
        self.heard = context.now();
        self.wake_at(context.now() + 1, context);
    }

    /// The process is gone: what was open stays open for ever. Returns the sessions whose statement it was.
    pub fn crash(&mut self, told: bool, history: &mut History, context: &mut Context) -> Vec<u16> {
        self.up = false;
        context.network.crash(Host::Proxy(self.index), told, &mut context.agenda);
        let changes = std::mem::take(&mut self.changes).into_values();
        let open = std::mem::take(&mut self.open);
        open.iter().for_each(|call| history.end(call.record, history::End::Unknown));
        open.iter().map(|call| call.session).chain(changes).collect()
    }

    pub fn pause(&mut self, until: Instant, context: &mut Context) {
        self.paused_until = self.paused_until.max(until);
        self.wake_at(self.paused_until, context);
    }

    /// Whether statements can be served.
    #[must_use]
    pub fn serves(&self, now: Instant) -> bool {
        self.up && self.ready && now >= self.paused_until && self.incarnation.is_some() && self.table().is_some()
    }

    /// Whether the cluster was said to be ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.up && self.ready && self.catalog.is_some()
    }

    /// What its statements wait for, for who wonders why nothing ends.
    #[must_use]
    pub fn waits_for(&self) -> String {
        let calls = self.open.iter().map(|call| {
            format!("operation {} in partition {} ({:?}, {:?})", call.record, call.partition, call.state, call.attempts)
        });
        calls.chain(self.changes.keys().map(|number| format!("catalog change {number}"))).collect::<Vec<_>>().join(", ")
    }

    fn wake_at(&mut self, at: Instant, context: &mut Context) {
        if self.wakes.is_none_or(|known| known > at) {
            self.wakes = Some(at);
            context.agenda.at(at, Happening::Wake(self.end()));
        }
    }

    pub fn woken(&mut self, end: End, history: &mut History, context: &mut Context) -> Vec<u16> {
        if !self.up || end.life != self.life || self.wakes.is_none_or(|at| at > context.now()) {
            return Vec::new();
        }
        self.wakes = None;
        if context.now() < self.paused_until {
            self.wake_at(self.paused_until, context);
            return Vec::new();
        }
        let mut idle = Vec::new();
        for arrival in std::mem::take(&mut self.deferred) {
            self.take(arrival, &mut idle, context);
        }
        let silent = context.now() > self.heard + SILENCE;
        if let (Some(wire), Some(incarnation), true) = (self.metadata, self.incarnation, self.stands)
            && context.now() >= self.renew_at
        {
            self.renew_at = context.now() + RENEWAL;
            let body = ControlBody::RenewProxies { incarnations: vec![incarnation] };
            context.send_message(wire, Side::Opener, &Message::Control(Control { number: RENEW, body }));
        }
        match self.metadata {
            None => {
                self.heard = context.now();
                self.tries = self.tries.wrapping_add(1);
                let address = self.leader.take().unwrap_or_else(|| group_address(self.tries % MEMBERS));
                self.metadata = Some(context.connect(self.end(), address));
            }
            Some(wire) if silent => {
                context.close(wire, Side::Opener);
                self.line_lost(&mut idle, context);
            }
            Some(_) => {}
        }
        self.wake_at(context.now() + TICK, context);
        self.go_on(history, &mut idle, context);
        idle
    }

    /// Something arrived; returns sessions whose statement has ended.
    pub fn arrived(&mut self, end: End, arrival: Arrival, history: &mut History, context: &mut Context) -> Vec<u16> {
        if !self.up || end.life != self.life {
            return Vec::new();
        }
        if context.now() < self.paused_until {
            self.deferred.push(arrival);
            return Vec::new();
        }
        let mut idle = Vec::new();
        self.take(arrival, &mut idle, context);
        self.go_on(history, &mut idle, context);
        idle
    }

    fn take(&mut self, arrival: Arrival, idle: &mut Vec<u16>, context: &mut Context) {
        if self.metadata == Some(arrival.wire) {
            self.metadata_arrived(arrival, idle, context);
        } else {
            self.worker_arrived(arrival, context);
        }
    }

    fn metadata_arrived(&mut self, arrival: Arrival, idle: &mut Vec<u16>, context: &mut Context) {
        match arrival.what {
            What::Opened => {
                self.stands = true;
                let hello = Hello { version: PROTOCOL_VERSION, cluster: None, role: Role::Client };
                let mut bytes = Vec::new();
                Message::Hello(hello).write(&mut bytes);
                Message::Control(Control { number: 1, body: ControlBody::Watch }).write(&mut bytes);
                if self.incarnation.is_none() {
                    let body = ControlBody::AllocateIncarnation;
                    Message::Control(Control { number: ALLOCATE, body }).write(&mut bytes);
                }
                context.send(arrival.wire, Side::Opener, bytes);
            }
            What::Bytes(bytes) => {
                self.heard = context.now();
                let mut rest = &bytes[..];
                while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    rest = rest.get(used..).unwrap_or_default();
                    if let Ok(Message::Notice(notice)) = Message::decode(frame) {
                        self.notice(notice.number, notice.body, idle, context);
                    }
                }
            }
            What::Closed | What::Failed => self.line_lost(idle, context),
            What::Accepted | What::Knock => {}
        }
    }

    fn line_lost(&mut self, idle: &mut Vec<u16>, context: &mut Context) {
        (self.metadata, self.stands) = (None, false);
        // The client of a schema change is told that nobody knows.
        idle.extend(std::mem::take(&mut self.changes).into_values());
        self.wake_at(context.now() + RECONNECT, context);
    }

    fn notice(&mut self, number: u32, body: NoticeBody, idle: &mut Vec<u16>, context: &mut Context) {
        match body {
            NoticeBody::Incarnation(incarnation) => {
                self.incarnation.get_or_insert(incarnation);
            }
            NoticeBody::Map(map) => {
                if self.map.as_ref().is_some_and(|have| have.version >= map.version) {
                    return;
                }
                self.links.retain(|worker, link| {
                    map.node(worker.node).is_some_and(|node| node.incarnation == link.incarnation)
                });
                self.calls.moved(&map);
                self.map = Some(Arc::new(map));
            }
            NoticeBody::Catalog(catalog) => self.catalog = Some(Arc::new(catalog)),
            NoticeBody::Ready => self.ready = true,
            NoticeBody::Changed(result) => {
                context.note(|| format!("{} changed the catalog: {result:?}", name(Host::Proxy(self.index))));
                idle.extend(self.changes.remove(&number));
            }
            NoticeBody::Failed { .. } => idle.extend(self.changes.remove(&number)),
            NoticeBody::NotLeader { leader } => {
                self.leader = leader;
                if let Some(wire) = self.metadata {
                    context.close(wire, Side::Opener);
                    self.line_lost(idle, context);
                }
            }
            NoticeBody::Joined { .. }
            | NoticeBody::LeaseRenewed { .. }
            | NoticeBody::Proxies { .. }
            | NoticeBody::Done
            | NoticeBody::Recovered(_)
            | NoticeBody::Status(_)
            | NoticeBody::Cut { .. }
            | NoticeBody::Capture { .. }
            | NoticeBody::Release { .. }
            | NoticeBody::DropCut(_)
            | NoticeBody::Deadlock { .. } => {}
        }
    }

    fn worker_arrived(&mut self, arrival: Arrival, context: &mut Context) {
        let Some((worker, incarnation)) = self.wires.get(&arrival.wire).copied() else { return };
        match arrival.what {
            What::Opened => {
                let (Some(map), Some(mine)) = (&self.map, self.incarnation) else { return };
                let role = Role::Proxy { incarnation: mine };
                let hello = Hello { version: PROTOCOL_VERSION, cluster: Some(map.cluster), role };
                observe::introduced(arrival.wire, mine, context);
                context.send_message(arrival.wire, Side::Opener, &Message::Hello(hello));
            }
            What::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    rest = rest.get(used..).unwrap_or_default();
                    if !self.frame(arrival.wire, worker, incarnation, frame, context) {
                        context.close(arrival.wire, Side::Opener);
                        return self.link_lost(arrival.wire, worker);
                    }
                }
            }
            What::Closed | What::Failed => self.link_lost(arrival.wire, worker),
            What::Accepted | What::Knock => {}
        }
    }

    fn link_lost(&mut self, wire: WireId, worker: WorkerId) {
        self.wires.remove(&wire);
        if self.links.get(&worker).is_some_and(|link| link.wire == wire) {
            self.links.remove(&worker);
        }
        self.calls.lose(worker);
    }

    /// A frame of a worker; false when the connection is of no use.
    fn frame(
        &mut self,
        wire: WireId,
        worker: WorkerId,
        incarnation: Incarnation,
        frame: RawFrame<'_>,
        context: &mut Context,
    ) -> bool {
        match Message::decode(frame) {
            Ok(Message::Welcome(welcome)) => {
                if welcome.incarnation != incarnation {
                    return false;
                }
                if let Some(link) = self.links.get_mut(&worker).filter(|link| link.wire == wire) {
                    link.welcome = true;
                    let out = std::mem::take(&mut link.out);
                    context.send(wire, Side::Opener, out);
                }
                true
            }
            Ok(Message::Answer(answer)) => {
                let event = match &answer.outcome {
                    Outcome::Refused(refusal) => Event::Trouble(Trouble::Refused(*refusal)),
                    outcome @ (Outcome::Rows { .. } | Outcome::Done { .. } | Outcome::Error(_)) => {
                        let mut bytes = Vec::new();
                        outcome.encode(&mut bytes);
                        Event::Answer(Ok(bytes))
                    }
                };
                self.calls.deliver(answer.sequence, worker, event);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn table(&self) -> Option<&Arc<Table>> {
        self.catalog.as_ref()?.find(PUBLIC_SCHEMA, "c")
    }

    /// A session begins its next operation; returns it when it has ended at once.
    pub fn begin(&mut self, session: u16, work: Work, history: &mut History, context: &mut Context) -> Vec<u16> {
        let mut idle = Vec::new();
        match work {
            Work::On { key, act } => {
                let Some(map) = &self.map else { return vec![session] };
                let partition = workload::partition(key, map.partitions.len() as u16);
                let record = history.begin(key, act);
                context.note(|| {
                    format!(
                        "operation {record} begins at proxy {}: {act:?} on {key} in partition {partition}",
                        self.index
                    )
                });
                self.open.push(Call {
                    session,
                    record,
                    key,
                    act,
                    partition,
                    sequence: 0,
                    attempts: Attempts::new(act.writes()),
                    in_trouble_since: None,
                    state: State::Ready,
                });
                self.go_on(history, &mut idle, context);
            }
            Work::Alter => match self.alter(context) {
                Some(number) => drop(self.changes.insert(number, session)),
                None => idle.push(session),
            },
        }
        idle
    }

    fn alter(&mut self, context: &mut Context) -> Option<u32> {
        let (wire, catalog) = (self.metadata.filter(|_| self.stands)?, self.catalog.clone()?);
        let mut table = Table::clone(self.table()?);
        table.options = vec![format!("fillfactor={}", 10 + catalog.version.0 % 90)];
        let number = self.ask(
            wire,
            ControlBody::Change { expected: catalog.version, change: CatalogChange::AlterTable(table) },
            context,
        );
        Some(number)
    }

    fn ask(&mut self, wire: WireId, body: ControlBody, context: &mut Context) -> u32 {
        self.number += 1;
        context.send_message(wire, Side::Opener, &Message::Control(Control { number: self.number, body }));
        self.number
    }

    /// Somebody asks for another number of copies.
    pub fn set_copies(&mut self, copies: u8, context: &mut Context) {
        if let (Some(wire), true) = (self.metadata, self.stands) {
            self.ask(wire, ControlBody::SetCopies { copies }, context);
        }
    }

    /// Asks for the table that all operations are on.
    pub fn create_table(&mut self, context: &mut Context) {
        let (Some(wire), Some(catalog), true) = (self.metadata, &self.catalog, self.stands) else { return };
        let change = CatalogChange::CreateTable(workload::table());
        let body = ControlBody::Change { expected: catalog.version, change };
        self.ask(wire, body, context);
    }

    /// Lets every open statement do its next step.
    fn go_on(&mut self, history: &mut History, idle: &mut Vec<u16>, context: &mut Context) {
        let mut open = std::mem::take(&mut self.open);
        for call in &mut open {
            // A step may make the next one possible at once.
            while self.advance(call, context) {}
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
    fn advance(&mut self, call: &mut Call, context: &mut Context) -> bool {
        let now = context.now();
        let version = self.map.as_ref().map_or(MapVersion(0), |map| map.version);
        let catalog = self.catalog.as_ref().map_or(CatalogVersion(0), |catalog| catalog.version);
        let before = call.state;
        match call.state {
            State::Ready => self.send(call, context),
            State::Sent { by } => match self.calls.poll(call.sequence, Waker::noop()) {
                Poll::Pending => {}
                Poll::Ready(Event::Answer(answer)) => self.answered(call, answer, context),
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

    fn answered(&mut self, call: &mut Call, answer: Result<Vec<u8>, String>, context: &mut Context) {
        self.calls.end(call.sequence, true);
        let bytes = answer.unwrap_or_default();
        let response = Outcome::decode(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|outcome| workload::response(call.act, &outcome));
        match response {
            Ok(response) => call.state = State::Done(history::End::Answered(response)),
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
                    && let Some(link) = self.links.get_mut(&route.worker)
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
            .or_insert_with(|| (next, PlanMessage::encode_plan(&workload::plan(act, &table))));
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
        let bytes = workload::body(call.key, call.act);
        let body = match call.act {
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
        self.link(route.worker, address, incarnation, context);
        let Some(link) = self.links.get_mut(&route.worker) else { return };
        let mut out = Vec::new();
        if link.plans.insert(plan) {
            Message::Plan(PlanMessage { id: plan, bytes: &plan_bytes }).write(&mut out);
        }
        Message::Request(request).write(&mut out);
        if link.welcome {
            context.send(link.wire, Side::Opener, out);
        } else {
            link.out.extend_from_slice(&out);
        }
    }

    /// Opens a connection to a worker unless there is one.
    fn link(&mut self, worker: WorkerId, address: SocketAddr, incarnation: Incarnation, context: &mut Context) {
        if self.links.contains_key(&worker) {
            return;
        }
        let wire = context.connect(self.end(), address);
        self.wires.insert(wire, (worker, incarnation));
        let link = Link { wire, incarnation, welcome: false, out: Vec::new(), plans: BTreeSet::new() };
        self.links.insert(worker, link);
    }

    /// Statements that have no answer yet.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len() + self.changes.len()
    }
}

/// What the client is told.
fn ended(failure: Failure) -> history::End {
    match failure {
        Failure::Unknown => history::End::Unknown,
        Failure::Nothing(_) | Failure::PartitionLost => history::End::Refused,
    }
}
