//! The metadata leader: turns requests and silence into commands, and what commands came to into replies and pushes. Pure.
//!
//! One value lives from an election to the next. It holds connections, watchers, who was heard of and what is on its way through the log; whatever must
//! survive it is in the [`State`], which each call is given as it stands after all commands that were applied.

mod leases;
mod changes;
mod news;
mod departures;
mod steps;
mod cuts;
mod status;

pub use super::cuts::ClientId;
pub use status::Gauges;

use super::cuts::Cuts;
use super::deadlocks::Deadlocks;
use super::detector::Detector;
use super::state::{Command, Reply, State};
use changes::{Changes, Wanted};
use leases::Leases;
use std::collections::{BTreeMap, BTreeSet};
use steps::Steps;
use toroid_common::id::{CatalogVersion, CutId, Incarnation, MapVersion, NodeId, PartitionId, TransactionId};
use toroid_common::map::ClusterMap;
use toroid_common::transaction::{Inquiry, InquiryBody};
use toroid_common::wire::{
    CatalogChange, ChangeError, Control, ControlBody, NodeAnnouncement, NodeLife, NodeLoad, Notice, NoticeBody,
    Proposal,
};
use toroid_engine::gate::Time;

/// Names what the leader asked its log for.
pub type Ticket = u64;

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Notices to one client arrive in their order.
    Send { client: ClientId, notice: Notice },
    /// [`Leader::applied`] follows with this ticket, or [`Leader::failed`].
    Propose { ticket: Ticket, command: Command },
    /// Have a majority confirm that this is still the leader, from now: [`Leader::confirmed`] follows when they have, and when all that was
    /// committed before is applied; or [`Leader::failed`].
    Confirm { ticket: Ticket },
}

pub type Actions = Vec<Action>;

/// Why a command was proposed.
#[derive(Clone, Debug)]
enum Asker {
    Client {
        client: ClientId,
        number: u32,
    },
    Join {
        client: ClientId,
        number: u32,
    },
    /// The change at the head of the queue.
    Change,
    CatalogTaken,
    /// Of a transaction, over the connection of its node.
    Participant(ClientId, TransactionId, PartitionId),
    Primary(Proposal),
    Life(NodeId),
    Fence,
    Form,
    Ready,
    Plan,
}

#[derive(Clone, Debug, Default)]
struct Client {
    watches: bool,
    node: Option<(NodeId, Incarnation)>,
    /// Lives of a proxy that it speaks for.
    proxies: BTreeSet<Incarnation>,
}

/// What was pushed last.
#[derive(Clone, Debug)]
struct Pushed {
    map: Option<ClusterMap>,
    catalog: CatalogVersion,
    ready: bool,
}

/// Who is leader, and since when.
#[derive(Debug)]
pub struct Leader {
    term: u64,
    /// The node that leads; `None` where the metadata is not replicated.
    node: Option<NodeId>,
    members: Vec<NodeId>,
    now: Time,
    elected: Time,
    detector: Detector,
    clients: BTreeMap<ClientId, Client>,
    /// Lives of nodes whose connections to this leader have ended.
    gone: BTreeSet<Incarnation>,
    /// Processes that were told that their number is taken.
    rivals: BTreeSet<(NodeId, u64)>,
    tickets: Ticket,
    asked: BTreeMap<Ticket, Asker>,
    leases: Leases,
    changes: Changes,
    steps: Steps,
    pushed: Pushed,
    /// When the leading node was first seen to be about to stop.
    ends_since: Option<Time>,
    cuts: Cuts,
    /// Confirmations that were asked for, with the cuts that they are for.
    cut_tickets: BTreeMap<Ticket, CutId>,
    deadlocks: Deadlocks,
    /// The connection over which each node watches.
    lines: BTreeMap<NodeId, ClientId>,
    /// What nodes said last of what they hold.
    loads: BTreeMap<NodeId, (Incarnation, NodeLoad)>,
}

impl Leader {
    /// Begins to lead.
    pub fn elected(term: u64, node: Option<NodeId>, state: &State, now: Time) -> Leader {
        Leader {
            term,
            node,
            members: node.into_iter().collect(),
            now,
            elected: now,
            detector: Detector::elected(now),
            clients: BTreeMap::new(),
            gone: BTreeSet::new(),
            rivals: BTreeSet::new(),
            // A process that leads twice in one term must not take what is left of the first time for its own.
            tickets: now.0.saturating_mul(1 << 16),
            asked: BTreeMap::new(),
            leases: Leases::default(),
            changes: Changes::default(),
            steps: Steps::default(),
            ends_since: None,
            loads: BTreeMap::new(),
            cuts: Cuts::elected(term, now),
            cut_tickets: BTreeMap::new(),
            deadlocks: Deadlocks::default(),
            lines: BTreeMap::new(),
            pushed: Pushed { map: state.map().cloned(), catalog: state.catalog().version, ready: state.is_ready() },
        }
    }

    /// The nodes that decide by majority, for whoever asks.
    pub fn members_are(&mut self, members: Vec<NodeId>) {
        self.members = members;
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    fn look(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.detector.look(now);
    }

    /// Takes one request.
    pub fn control(&mut self, client: ClientId, control: Control, state: &State, now: Time, out: &mut Actions) {
        self.look(now);
        self.clients.entry(client).or_default();
        let number = control.number;
        let asker = Asker::Client { client, number };
        match control.body {
            ControlBody::AllocateIncarnation => self.propose(asker, Command::AllocateIncarnation, out),
            ControlBody::Watch => self.watch(client, state, out),
            // What others wait for may wait for its participants.
            ControlBody::Change { id, expected, change: change @ CatalogChange::Publish { .. } } => {
                self.propose(asker, Command::Change { id, expected, change }, out);
            }
            ControlBody::Change { id, expected, change } => {
                self.changes.queue(client, number, Wanted { id, expected, change }, out);
                self.next_change(state, out);
            }
            ControlBody::Join(announcement) => self.join(client, number, announcement, state, out),
            ControlBody::CatalogApplied { worker, version, map, result } => {
                if self.speaks_for(client, worker.node, state) {
                    self.changes.reported(worker, version, map, result);
                    self.weigh_change(state, out);
                }
            }
            ControlBody::MapApplied { version } => self.map_applied(client, version, state, out),
            ControlBody::Propose(proposal) => self.proposed(client, proposal, state, out),
            ControlBody::RenewLease { node, incarnation } => {
                self.renew_node(client, number, (node, incarnation), state, out);
            }
            ControlBody::Load { node, incarnation, load } => {
                if self.speaks_for(client, node, state) {
                    self.loads.insert(node, (incarnation, load));
                }
            }
            ControlBody::RenewProxies { incarnations } => self.renew_proxies(client, number, &incarnations, state, out),
            ControlBody::Leave { node, incarnation } => {
                self.steps.leaving.push((client, number, node, incarnation));
                self.propose(Asker::Life(node), Command::Leave { node, incarnation }, out);
            }
            ControlBody::Drain { node } => self.propose(asker, Command::Drain { node }, out),
            ControlBody::Remove { node } => self.propose(asker, Command::Remove { node }, out),
            ControlBody::SetCopies { copies, min_copies } => {
                self.propose(asker, Command::SetCopies { copies, min_copies }, out);
            }
            ControlBody::Recover { id } => self.propose(asker, Command::Recover { id }, out),
            ControlBody::Status => send(client, number, self.status(state), out),
            ControlBody::OpenCut => self.open_cut(client, number, state, out),
            ControlBody::CloseCut(cut) => self.close_cut(client, cut, out),
            ControlBody::Captured(captured) => self.captured(client, &captured, state, out),
            ControlBody::Waits { worker, waits } => self.waits(client, worker, waits, out),
            ControlBody::Inquiry(inquiry) => self.inquired(client, inquiry, out),
        }
    }

    /// A connection ended. What it asked for goes on; nobody hears of it.
    pub fn closed(&mut self, client: ClientId, state: &State, now: Time, out: &mut Actions) {
        self.look(now);
        let known = self.clients.remove(&client);
        self.reader_gone(client, state, out);
        let Some(Client { node, proxies, .. }) = known else { return };
        for proxy in proxies {
            if !self.clients.values().any(|other| other.proxies.contains(&proxy)) {
                self.detector.proxy_ended(proxy);
            }
        }
        let Some((node, incarnation)) = node else { return };
        if self.lines.get(&node) == Some(&client) {
            self.end_line(node, out);
        }
        if !self.clients.values().any(|other| other.node.is_some_and(|(_, life)| life == incarnation)) {
            self.gone.insert(incarnation);
        }
    }

    /// A command has been applied: one of this leader's (by its ticket), or one that an earlier leader left in the log.
    pub fn applied(
        &mut self,
        ticket: Option<Ticket>,
        command: &Command,
        reply: &Reply,
        state: &State,
        now: Time,
        out: &mut Actions,
    ) {
        self.look(now);
        self.push(command, state, out);
        // Also what leaves the map as it is may call for another step: a node that is about to stop.
        self.steps.changed |= *reply == Reply::Done;
        if let Command::Fence { .. } = command {
            self.push_to_all(&proxies(state), out);
        }
        if let Some(asker) = ticket.and_then(|ticket| self.asked.remove(&ticket)) {
            self.answer(&asker, command, reply, out);
        }
        if let Reply::Changed(result) = reply {
            let result = result.clone().map_err(ChangeError::Sql);
            self.changes.ended(result, out);
        }
        self.weigh_change(state, out);
        self.next_change(state, out);
        self.step(state, out);
        self.step_cuts(state, out);
    }

    /// What was asked of the log came to nothing, or nobody knows to what: this is no leader any more, or will be told again. False where this leader
    /// did not ask.
    pub fn failed(&mut self, ticket: Ticket, out: &mut Actions) -> bool {
        if self.leases.failed(ticket, out) || self.cut_failed(ticket, out) {
            return true;
        }
        let Some(asker) = self.asked.remove(&ticket) else { return false };
        match asker {
            Asker::Client { client, number } | Asker::Join { client, number } => {
                send(client, number, NoticeBody::NotLeader { leader: None }, out);
            }
            Asker::Change => self.changes.lost(),
            Asker::CatalogTaken
            | Asker::Participant(..)
            | Asker::Primary(_)
            | Asker::Life(_)
            | Asker::Fence
            | Asker::Form
            | Asker::Ready
            | Asker::Plan => {}
        }
        true
    }

    fn answer(&mut self, asker: &Asker, command: &Command, reply: &Reply, out: &mut Actions) {
        match asker {
            Asker::Client { client, number } => {
                if let Reply::Incarnation(incarnation) = reply {
                    self.speaks_for_proxy(*client, *incarnation);
                }
                send(*client, *number, body_of(reply), out);
            }
            Asker::Join { client, number } => {
                if let Reply::Joined { node, incarnation, .. } = reply {
                    self.detector.heard(*node, *incarnation);
                    self.gone.remove(incarnation);
                    if let Some(client) = self.clients.get_mut(client) {
                        client.node = Some((*node, *incarnation));
                    }
                }
                send(*client, *number, body_of(reply), out);
            }
            Asker::Change => {
                if let Reply::Changing(result) = reply {
                    self.changes.begun(result.clone(), out);
                }
            }
            Asker::Primary(proposal) => {
                if *reply == Reply::Done {
                    self.steps.shun(proposal, self.now);
                }
            }
            Asker::Life(_) => {
                if let Command::Depart { incarnation, .. } = command {
                    self.steps.departed.insert(*incarnation);
                }
            }
            Asker::Participant(client, transaction, to) => {
                if let Reply::Fate(fate) = reply {
                    let (from, body) = (PartitionId::METADATA, InquiryBody::Tell(*fate));
                    let told = Inquiry { transaction: *transaction, to: *to, from, body };
                    send(*client, 0, NoticeBody::Inquiry(told), out);
                }
            }
            Asker::CatalogTaken | Asker::Fence | Asker::Form | Asker::Ready | Asker::Plan => {}
        }
    }

    fn propose(&mut self, asker: Asker, command: Command, out: &mut Actions) {
        self.tickets += 1;
        self.asked.insert(self.tickets, asker);
        out.push(Action::Propose { ticket: self.tickets, command });
    }

    fn under_way(&self, which: impl Fn(&Asker) -> bool) -> bool {
        self.asked.values().any(which)
    }

    fn watch(&mut self, client: ClientId, state: &State, out: &mut Actions) {
        let entry = self.clients.entry(client).or_default();
        entry.watches = true;
        if let Some((node, _)) = entry.node {
            self.begin_line(client, node, out);
        }
        if let Some(map) = state.map() {
            send(client, 0, NoticeBody::Map(map.clone()), out);
        }
        send(client, 0, NoticeBody::Catalog(state.catalog().clone()), out);
        send(client, 0, proxies(state), out);
        if state.is_ready() {
            send(client, 0, NoticeBody::Ready, out);
        }
        self.step_cuts(state, out);
    }

    fn push_to_all(&self, body: &NoticeBody, out: &mut Actions) {
        for (client, _) in self.clients.iter().filter(|(_, client)| client.watches) {
            send(*client, 0, body.clone(), out);
        }
    }

    /// Tells watchers what a command has changed, and the log of the process why.
    fn push(&mut self, command: &Command, state: &State, out: &mut Actions) {
        if let Some(map) = state.map()
            && self.pushed.map.as_ref().is_none_or(|pushed| pushed.version < map.version)
        {
            news::tell(self.pushed.map.as_ref(), map, command);
            self.push_to_all(&NoticeBody::Map(map.clone()), out);
            self.pushed.map = Some(map.clone());
        }
        if state.catalog().version > self.pushed.catalog {
            self.pushed.catalog = state.catalog().version;
            self.push_to_all(&NoticeBody::Catalog(state.catalog().clone()), out);
        }
        if state.is_ready() && !self.pushed.ready {
            self.pushed.ready = true;
            self.push_to_all(&NoticeBody::Ready, out);
        }
    }

    /// Whether this connection is that of the life of the node that the cluster knows.
    fn speaks_for(&self, client: ClientId, node: NodeId, state: &State) -> bool {
        let life = state.member(node).map(|member| (node, member.entry.incarnation));
        life.is_some() && self.clients.get(&client).is_some_and(|client| client.node == life)
    }

    fn join(
        &mut self,
        client: ClientId,
        number: u32,
        announcement: NodeAnnouncement,
        state: &State,
        out: &mut Actions,
    ) {
        let node = state.number_of(&announcement);
        let mut dead = None;
        if let Some(member) = state.member(node).filter(|member| member.process != announcement.process) {
            let former = member.entry.incarnation;
            let ended = matches!(member.life, NodeLife::Down | NodeLife::Away);
            if ended || self.gone.contains(&former) || self.detector.is_silent(node, former) {
                dead = Some(former);
            } else if self.rivals.insert((node, announcement.process)) {
                let (first, second) = (member.entry.control, announcement.control);
                tracing::warn!(%node, %first, %second, "two processes are one node: the second has to wait");
            }
        }
        self.propose(Asker::Join { client, number }, Command::Join { announcement, dead }, out);
    }

    fn map_applied(&mut self, client: ClientId, version: MapVersion, state: &State, out: &mut Actions) {
        let Some((node, _)) = self.clients.get(&client).and_then(|client| client.node) else { return };
        if self.speaks_for(client, node, state) {
            self.steps.in_place.insert(node, version);
            self.step(state, out);
        }
    }

    /// Only a primary may ask for another configuration of its partition.
    fn proposed(&mut self, client: ClientId, proposal: Proposal, state: &State, out: &mut Actions) {
        let assignment = state.map().and_then(|map| map.assignment(proposal.partition));
        let Some(primary) = assignment.filter(|a| a.epoch == proposal.epoch).and_then(|a| a.primary) else { return };
        let again = self.under_way(|asker| matches!(asker, Asker::Primary(other) if *other == proposal));
        if self.speaks_for(client, primary.node, state) && !again {
            self.propose(Asker::Primary(proposal), Command::Propose(proposal), out);
        }
    }
}

fn send(client: ClientId, number: u32, body: NoticeBody, out: &mut Actions) {
    out.push(Action::Send { client, notice: Notice { number, body } });
}

fn proxies(state: &State) -> NoticeBody {
    NoticeBody::Proxies { alive: state.proxies().iter().copied().collect(), below: state.given_below() }
}

fn body_of(reply: &Reply) -> NoticeBody {
    match reply {
        Reply::Done => NoticeBody::Done,
        Reply::Overtaken => NoticeBody::Failed { reason: "what was asked for has been overtaken".to_owned() },
        Reply::Refused(reason) => NoticeBody::Failed { reason: reason.clone() },
        Reply::Incarnation(incarnation) => NoticeBody::Incarnation(*incarnation),
        Reply::Joined { cluster, node, incarnation } => {
            NoticeBody::Joined { cluster: *cluster, node: *node, incarnation: *incarnation }
        }
        Reply::Recovered(partitions) => NoticeBody::Recovered(partitions.clone()),
        Reply::Changing(result) => NoticeBody::Changed(result.clone()),
        Reply::Changed(result) => NoticeBody::Changed(result.clone().map_err(ChangeError::Sql)),
        Reply::Published(result) => NoticeBody::Changed(result.clone()),
        Reply::Fate(_) => NoticeBody::Done,
    }
}
