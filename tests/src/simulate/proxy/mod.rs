//! A proxy: the real table of open requests and the real routing and retry decisions, around virtual connections and sessions.

mod line;
mod link;
mod cut;
mod statement;
mod scan;
mod deed;
mod ears;
mod block;
mod schema;

use super::clock::{Instant, MILLISECOND, SECOND};
use super::context::{Context, Happening, group_address};
use super::history::{self, History, Rows, Step};
use super::network::{Arrival, End, Host, MEMBERS, Side, WireId};
use super::workload::block::Block;
use super::workload::{Work, table};
use block::Open;
use cut::Cuts;
use deed::Sessions;
use ears::Ears;
use line::RENEW;
use link::{Lead, Link, Use};
use scan::{Scan, Snapshot};
use schema::Changing;
use statement::{Call, CallEnd, Job, Owner};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use toroid_common::calls::Calls;
use toroid_common::catalog::{Catalog, PUBLIC_SCHEMA, Table};
use toroid_common::id::{CatalogVersion, Incarnation, PartitionId, PlanId, WorkerId};
use toroid_common::map::ClusterMap;
use toroid_common::wire::{Control, ControlBody, Message};

/// How long a statement waits for a newer map or catalog before it gives up.
const VIEW_PATIENCE: Instant = 10 * SECOND;
const RECONNECT: Instant = 100 * MILLISECOND;
/// Without a word from the metadata service for so long, the line is given up.
const SILENCE: Instant = 2 * SECOND;
const TICK: Instant = 50 * MILLISECOND;
const RENEWAL: Instant = SECOND / 2;

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
    links: BTreeMap<(Use, WorkerId), Link>,
    /// Connections to workers, also those that are links no more: what is under way on them still arrives.
    wires: BTreeMap<WireId, Lead>,
    calls: Calls<Vec<u8>>,
    open: Vec<Call>,
    scans: Vec<Scan>,
    cuts: Cuts,
    blocks: Vec<Open>,
    /// What anchors may forget, and when they are told.
    forgets: Vec<(Instant, PartitionId, u64)>,
    sessions: Sessions,
    ears: Ears,
    /// Counts transactions.
    transactions: u64,
    /// What requests and steps of transactions have come to.
    block_ended: Vec<(u64, PartitionId, Job, CallEnd)>,
    /// What scans of transactions have seen; nothing when they failed.
    scanned: Vec<(u64, Option<Rows>)>,
    /// Counts fragments.
    fragments: u64,
    plans: BTreeMap<(u8, CatalogVersion), (PlanId, Vec<u8>)>,
    changes: Vec<Changing>,
    /// Counts changes of the table.
    last_change: u64,
    wakes: Option<Instant>,
    stalls: Option<Stall>,
    ends: Option<TheEnd>,
}

/// Where a proxy is to stand still, or to die: as soon as it has sent what prepares a transaction, or what decides one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    pub decided: bool,
    pub dies: bool,
    pub until: Instant,
}

/// Why a proxy ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TheEnd {
    Dies,
    /// Its incarnation is fenced: the product's process goes on under another one, and what was open under the former is as lost as if it had not.
    Fenced,
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
            // What stays open for long is to be told of in every run, not only in long ones.
            calls: Calls::crowded_at(3),
            open: Vec::new(),
            scans: Vec::new(),
            cuts: Cuts::default(),
            blocks: Vec::new(),
            forgets: Vec::new(),
            sessions: Sessions::new(),
            ears: Ears::default(),
            transactions: 0,
            block_ended: Vec::new(),
            scanned: Vec::new(),
            fragments: 0,
            plans: BTreeMap::new(),
            changes: Vec::new(),
            last_change: 0,
            wakes: None,
            stalls: None,
            ends: None,
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
        let changes = std::mem::take(&mut self.changes).into_iter().map(|changing| changing.session);
        let blocks = self.end_blocks(history);
        if let Some(life) = self.incarnation {
            history.bereave(life);
            history.deafen_all(life);
        }
        let calls = std::mem::take(&mut self.open).into_iter().map(|call| call.owner);
        let scans = std::mem::take(&mut self.scans).into_iter().map(|scan| scan.owner);
        let sessions = calls.chain(scans).filter_map(|owner| match owner {
            Owner::Session { session, record } => {
                history.end(record, history::End::Unknown);
                Some(session)
            }
            Owner::Deed(session) => Some(session),
            Owner::Ear(number) => self.ears.begins(number),
            Owner::Block(_) | Owner::Left { .. } | Owner::Deaf(_) | Owner::Nobody => None,
        });
        sessions.chain(blocks).chain(changes).collect()
    }

    pub fn pause(&mut self, until: Instant, context: &mut Context) {
        self.paused_until = self.paused_until.max(until);
        self.wake_at(self.paused_until, context);
    }

    /// At the next step of this kind it is to stand still.
    pub fn stall(&mut self, stall: Option<Stall>) {
        self.stalls = stall;
    }

    /// A step of a transaction is about to be sent that changes what others must do if nothing follows it.
    fn steps(&mut self, decides: bool, context: &mut Context) {
        if let Some(stall) = self.stalls.take_if(|stall| stall.decided == decides) {
            match stall.dies {
                true => self.ends = Some(TheEnd::Dies),
                false => self.pause(stall.until, context),
            }
        }
    }

    /// Its life, as far as others know it.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// Whether it has come to its end by itself.
    pub fn takes_end(&mut self) -> Option<TheEnd> {
        self.ends.take().filter(|_| self.up)
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

    /// Whether it could pass something on to the metadata service.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.up && self.stands && self.metadata.is_some()
    }

    /// What its statements wait for, for who wonders why nothing ends.
    #[must_use]
    pub fn waits_for(&self) -> String {
        let calls = self.open.iter().map(Call::waits_for);
        let scans = self.scans.iter().map(Scan::waits_for);
        calls
            .chain(scans)
            .chain(self.blocks_wait_for())
            .chain(self.changes.iter().map(Changing::waits_for))
            .collect::<Vec<_>>()
            .join(", ")
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
            self.take(arrival, history, &mut idle, context);
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
                self.line_lost(context);
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
        self.take(arrival, history, &mut idle, context);
        self.go_on(history, &mut idle, context);
        idle
    }

    fn take(&mut self, arrival: Arrival, history: &mut History, idle: &mut Vec<u16>, context: &mut Context) {
        if self.metadata == Some(arrival.wire) {
            self.metadata_arrived(arrival, history, idle, context);
        } else {
            self.worker_arrived(arrival, context);
        }
    }

    /// The table that all operations are on, as this proxy knows it.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<Table>> {
        self.catalog.as_ref()?.find(PUBLIC_SCHEMA, "c")
    }

    /// A session begins its next operation; returns it when it has ended at once.
    pub fn begin(&mut self, session: u16, work: Work, history: &mut History, context: &mut Context) -> Vec<u16> {
        let mut idle = Vec::new();
        match work {
            Work::On { key, act } if act.writes() && self.holds(session) => {
                self.begin_block(session, Block::of(key, act), history, context);
                self.go_on(history, &mut idle, context);
            }
            Work::Deed(deed, terms) => {
                self.begin_deed(session, (deed, terms), history, &mut idle, context);
                self.go_on(history, &mut idle, context);
            }
            Work::On { key, act } => {
                let Some(map) = &self.map else { return vec![session] };
                let partition = table::partition(key, map.partitions.len() as u16);
                let record = history.begin(vec![Step::On { key, act, told: None }]);
                context.note(|| {
                    format!(
                        "operation {record} begins at proxy {}: {act:?} on {key} in partition {partition}",
                        self.index
                    )
                });
                let job = Job::On { key, act, within: None, lock_timeout_ms: 0, patience: None };
                self.open.push(Call::new(Owner::Session { session, record }, job, partition, context.now()));
                self.go_on(history, &mut idle, context);
            }
            Work::Scan { cut } => {
                let record = history.begin(vec![Step::Scan { told: None }]);
                context.note(|| format!("scan {record} begins at proxy {}", self.index));
                let snapshot = if cut { Snapshot::Own(None) } else { Snapshot::Present };
                self.scans.push(Scan::new(Owner::Session { session, record }, snapshot, None, context.now()));
                self.go_on(history, &mut idle, context);
            }
            Work::Block(block) => {
                self.begin_block(session, block, history, context);
                self.go_on(history, &mut idle, context);
            }
            Work::Alter(what) => {
                self.changes.push(Changing::new(session, what));
                self.go_on(history, &mut idle, context);
            }
        }
        idle
    }

    /// Lets every operation do its next step.
    fn go_on(&mut self, history: &mut History, idle: &mut Vec<u16>, context: &mut Context) {
        self.tell_anchors(context);
        self.ears_go_on(history, context);
        self.changes_go_on(history, idle, context);
        loop {
            self.statements_go_on(history, idle, context);
            self.scans_go_on(history, idle, context);
            if !self.blocks_go_on(history, idle, context) {
                break;
            }
        }
    }

    /// Requests whose identities partitions are still made to remember.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.calls.len()
    }

    /// Whether all that its sessions listen to is asked for.
    #[must_use]
    pub fn hears(&self) -> bool {
        self.ears.is_settled()
    }

    /// Operations that have no answer yet.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len() + self.scans.len() + self.blocks.len() + self.changes.len()
    }
}
