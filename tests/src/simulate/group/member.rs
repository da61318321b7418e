//! A member of the metadata group: the product's leader and state over the small Raft and a disk that fails.

use super::super::clock::{Instant, MILLISECOND, NodeClock};
use super::super::context::{Context, Happening, group_address, name};
use super::super::disk::Disk;
use super::super::network::{Arrival, End, Host, MEMBERS, Side, What, WireId};
use super::super::sabotage::Sabotage;
use super::raft::{Id, Note, Output, Payload, Raft, Record};
use super::{Agreed, Letter, admission, home, ignore_epoch, turn_away};
use std::collections::{BTreeMap, VecDeque};
use toroid_common::id::Incarnation;
use toroid_common::wire::{Message, Notice, NoticeBody, RawFrame, Welcome};
use toroid_storage_node::metadata::leader::{Action, Actions, Leader, Ticket};
use toroid_storage_node::metadata::state::{Reply, State};

/// A majority that does not confirm in this time is not there.
const CONFIRMATION: Instant = 250 * MILLISECOND;
/// Between two tries to become a member.
const KNOCK: Instant = 200 * MILLISECOND;
/// Names what no leader asked for.
const NOBODYS: Ticket = 0;

#[derive(Debug)]
pub struct Member {
    pub index: u8,
    pub up: bool,
    life: u32,
    clock: NodeClock,
    pub disk: Disk<Record>,
    syncing: bool,
    /// By how much must have been synced before.
    waiting: VecDeque<(usize, Waiting)>,
    pub raft: Raft,
    /// As far as the log has been applied here.
    state: State,
    applied: u64,
    /// Who believes that it leads.
    leader: Option<Leader>,
    /// The round whose confirmation is awaited before leading.
    claim: Option<u64>,
    confirmations: Vec<(Ticket, u64, Instant)>,
    knock_at: Instant,
    paused_until: Instant,
    deferred: Vec<Deferred>,
    clients: BTreeMap<u64, WireId>,
    wakes: Option<Instant>,
}

#[derive(Debug)]
enum Waiting {
    Send {
        to: Id,
        note: Note,
    },
    /// The end of the log as it was written.
    Durable((u64, u64)),
}

#[derive(Debug)]
enum Deferred {
    Arrival(Arrival),
    Letter(Letter),
    Synced(usize),
}

impl Member {
    /// A member whose disk holds these records.
    #[must_use]
    pub fn new(index: u8, records: &[Record], clock: NodeClock) -> Member {
        let mut disk = Disk::default();
        records.iter().for_each(|record| disk.write(record.clone()));
        disk.sync(disk.written());
        Member {
            index,
            up: false,
            life: 0,
            clock,
            disk,
            syncing: false,
            waiting: VecDeque::new(),
            raft: Raft::open(0, Vec::new(), 0, &mut crate::random::Random::new(0)),
            state: State::default(),
            applied: 0,
            leader: None,
            claim: None,
            confirmations: Vec::new(),
            knock_at: 0,
            paused_until: 0,
            deferred: Vec::new(),
            clients: BTreeMap::new(),
            wakes: None,
        }
    }

    fn host(&self) -> Host {
        Host::Group(self.index)
    }

    fn end(&self) -> End {
        End { host: self.host(), part: 0, life: self.life }
    }

    /// A new process, which knows what is on its disk.
    pub fn start(&mut self, context: &mut Context) {
        let records = self.disk.read();
        let raft = Raft::open(0, records, context.now(), &mut context.random);
        let disk = std::mem::take(&mut self.disk);
        let life = self.life + 1;
        *self = Member { up: true, life, disk, raft, ..Member::new(self.index, &[], self.clock) };
        context.note(|| format!("{} starts as member {}", name(self.host()), self.raft.id));
        context.network.listen(group_address(self.index), self.end());
        self.wake_at(context.now() + 1, context);
    }

    /// The process is gone, and with it what was not synced; `lost`: the disk, too, and it will come back as this other member.
    pub fn crash(&mut self, told: bool, lost: Option<Id>, context: &mut Context) {
        self.up = false;
        self.leader = None;
        context.network.crash(self.host(), told, &mut context.agenda);
        self.disk.crash(&mut context.random);
        if let Some(id) = lost {
            self.disk.lose();
            self.disk.write(Record::Identity(id));
            self.disk.sync(self.disk.written());
        }
    }

    pub fn pause(&mut self, until: Instant, context: &mut Context) {
        self.paused_until = self.paused_until.max(until);
        self.wake_at(until, context);
    }

    /// Stands for election now.
    pub fn stand(&mut self, agreed: &mut Agreed, context: &mut Context) {
        if self.up && context.now() >= self.paused_until {
            let mut out = Vec::new();
            self.raft.stand(true, context.now(), &mut out);
            self.settle(out, agreed, context);
        }
    }

    /// Whether it leads and may decide.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.up && self.leader.is_some()
    }

    fn wake_at(&mut self, at: Instant, context: &mut Context) {
        if self.wakes.is_none_or(|known| known > at) {
            self.wakes = Some(at);
            context.agenda.at(at, Happening::Wake(self.end()));
        }
    }

    fn is_other(&self, end: End) -> bool {
        !self.up || end.life != self.life
    }

    pub fn woken(&mut self, end: End, agreed: &mut Agreed, context: &mut Context) {
        if self.is_other(end) || self.wakes.is_none_or(|at| at > context.now()) {
            return;
        }
        self.wakes = None;
        if context.now() < self.paused_until {
            return self.wake_at(self.paused_until, context);
        }
        for deferred in std::mem::take(&mut self.deferred) {
            match deferred {
                Deferred::Arrival(arrival) => self.take(arrival, agreed, context),
                Deferred::Letter(letter) => self.read(letter, agreed, context),
                Deferred::Synced(written) => self.take_synced(written, agreed, context),
            }
        }
        let mut out = Vec::new();
        let now = context.now();
        self.raft.tick(now, &mut context.random, &mut out);
        if now >= self.knock_at && !self.raft.voters().contains(&self.raft.id) {
            self.knock_at = now + KNOCK;
            for index in (0..MEMBERS).filter(|index| *index != self.index) {
                let letter = Letter { from: self.raft.id, to: 0, note: Note::Knock };
                post(self.host(), index, &letter, context);
            }
        }
        let time = self.clock.read(now);
        let mut actions = Actions::new();
        if let Some(leader) = &mut self.leader {
            leader.tick(&self.state, time, &mut actions);
        }
        self.carry_out(actions, &mut out, context);
        self.settle(out, agreed, context);
    }

    pub fn arrived(&mut self, end: End, arrival: Arrival, agreed: &mut Agreed, context: &mut Context) {
        if self.is_other(end) {
            return;
        }
        match context.now() < self.paused_until {
            true => self.deferred.push(Deferred::Arrival(arrival)),
            false => self.take(arrival, agreed, context),
        }
    }

    /// Another member's message.
    pub fn letter(&mut self, letter: Letter, agreed: &mut Agreed, context: &mut Context) {
        if !self.up || (letter.to != 0 && letter.to != self.raft.id) {
            return;
        }
        match context.now() < self.paused_until {
            true => self.deferred.push(Deferred::Letter(letter)),
            false => self.read(letter, agreed, context),
        }
    }

    fn read(&mut self, letter: Letter, agreed: &mut Agreed, context: &mut Context) {
        let mut out = Vec::new();
        self.raft.hear(letter.from, letter.note, context.now(), &mut context.random, &mut out);
        self.settle(out, agreed, context);
    }

    /// The disk has done a sync.
    pub fn synced(&mut self, end: End, written: usize, agreed: &mut Agreed, context: &mut Context) {
        if self.is_other(end) {
            return;
        }
        match context.now() < self.paused_until {
            true => self.deferred.push(Deferred::Synced(written)),
            false => self.take_synced(written, agreed, context),
        }
    }

    fn take_synced(&mut self, written: usize, agreed: &mut Agreed, context: &mut Context) {
        self.disk.sync(written);
        self.syncing = false;
        while let Some((_, what)) = self.waiting.pop_front_if(|(before, _)| *before <= written) {
            match what {
                Waiting::Send { to, note } => self.send(to, note, context),
                Waiting::Durable(end) => self.raft.synced(end),
            }
        }
        self.settle(Vec::new(), agreed, context);
    }

    fn send(&self, to: Id, note: Note, context: &mut Context) {
        let letter = Letter { from: self.raft.id, to, note };
        post(self.host(), home(to), &letter, context);
    }

    /// Does what Raft asks for, and what has become possible by that.
    fn settle(&mut self, mut out: Vec<Output>, agreed: &mut Agreed, context: &mut Context) {
        loop {
            self.put_out(std::mem::take(&mut out), context);
            for index in agreed.len() + 1..=self.raft.committed {
                if let Some(entry) = self.raft.entry(index) {
                    agreed.take(index, entry, context);
                }
            }
            let term = self.raft.term;
            if self.leader.as_ref().is_some_and(|leader| !self.raft.leads() || leader.term() != term) {
                self.step_down("another election", context);
            }
            self.claim(agreed, &mut out, context);
            self.apply(agreed, &mut out, context);
            self.confirm(&mut out, context);
            self.change_members(&mut out, context);
            if out.is_empty() {
                break;
            }
        }
        let leader = self.leader.as_ref().map(|leader| self.clock.when(leader.wakes_at(), context.now() + 1));
        let knock = (!self.raft.voters().contains(&self.raft.id)).then_some(self.knock_at);
        let deadline = self.confirmations.iter().map(|(_, _, deadline)| *deadline).min();
        let timers = [Some(self.raft.wakes_at()), leader, knock, deadline];
        let at = timers.into_iter().flatten().min().unwrap_or(u64::MAX);
        self.wake_at(at.max(context.now() + 1), context);
    }

    fn put_out(&mut self, out: Vec<Output>, context: &mut Context) {
        let before = self.disk.written();
        for output in out {
            match output {
                Output::Write(record) => self.disk.write(record),
                Output::SendNow { to, note } => self.send(to, note, context),
                Output::Send { to, note } if self.syncing || self.disk.written() > before => {
                    self.waiting.push_back((self.disk.written(), Waiting::Send { to, note }));
                }
                Output::Send { to, note } => self.send(to, note, context),
            }
        }
        if self.disk.written() > before {
            self.waiting.push_back((self.disk.written(), Waiting::Durable(self.raft.end())));
        }
        if let (Some((written, _)), false) = (self.waiting.back(), self.syncing) {
            self.syncing = true;
            let delay = self.disk.latency(&mut context.random);
            context.agenda.after(delay, Happening::Done(self.end(), *written as u64));
        }
    }

    /// Who Raft says leads has that confirmed first.
    fn claim(&mut self, agreed: &mut Agreed, out: &mut Vec<Output>, context: &mut Context) {
        if !self.raft.leads() || self.leader.is_some() {
            self.claim = None;
            return;
        }
        match self.claim {
            None => self.claim = Some(self.raft.beat(context.now(), out)),
            Some(round) if self.raft.is_confirmed(round) => {
                self.claim = None;
                self.apply(agreed, out, context);
                context.note(|| format!("{} leads in term {}", name(self.host()), self.raft.term));
                let now = self.clock.read(context.now());
                self.leader = Some(Leader::elected(self.raft.term, None, &self.state, now));
            }
            Some(_) => {}
        }
    }

    /// Who leads applies what is agreed on; others will when they do.
    fn apply(&mut self, agreed: &Agreed, out: &mut Vec<Output>, context: &mut Context) {
        while self.raft.leads() && self.applied < self.raft.committed {
            self.applied += 1;
            let Some(entry) = self.raft.entry(self.applied) else { return };
            let (term, Payload::Command { ticket, command }) = (entry.term, entry.payload.clone()) else { continue };
            let (command, reply) = agreed.apply(&mut self.state, *command, context);
            let Some(leader) = &mut self.leader else { continue };
            let ticket = (term == leader.term()).then_some(ticket);
            let mut actions = Actions::new();
            let now = self.clock.read(context.now());
            leader.applied(ticket, &command, &reply, &self.state, now, &mut actions);
            self.carry_out(actions, out, context);
            if context.sabotages(Sabotage::PromoteStranger)
                && reply == Reply::Done
                && let Some(command) = admission(&command, &self.state)
            {
                let payload = Payload::Command { ticket: NOBODYS, command: Box::new(command) };
                self.raft.propose(payload, context.now(), out);
            }
        }
    }

    fn confirm(&mut self, out: &mut Vec<Output>, context: &mut Context) {
        let now = self.clock.read(context.now());
        let mut actions = Actions::new();
        let mut failed = false;
        for (ticket, round, deadline) in std::mem::take(&mut self.confirmations) {
            let Some(leader) = &mut self.leader else { continue };
            if self.raft.is_confirmed(round) && self.applied == self.raft.committed {
                leader.confirmed(ticket, &self.state, now, &mut actions);
            } else if context.now() >= deadline {
                leader.failed(ticket, &mut actions);
                failed = true;
            } else {
                self.confirmations.push((ticket, round, deadline));
            }
        }
        self.carry_out(actions, out, context);
        if failed {
            self.step_down("no majority confirms it", context);
        }
    }

    /// One that lost its disk takes the place of who it was before: first that one goes, then this one comes.
    fn change_members(&mut self, out: &mut Vec<Output>, context: &mut Context) {
        if self.leader.is_none() {
            return;
        }
        let Some(applicant) = self.raft.applicants().into_iter().max() else { return };
        let mut voters = self.raft.voters().clone();
        let former = voters.iter().copied().find(|voter| home(*voter) == home(applicant));
        match former {
            Some(former) if former > applicant => return,
            Some(former) => drop(voters.remove(&former)),
            None => drop(voters.insert(applicant)),
        }
        context.note(|| format!("{} makes {voters:?} the members", name(self.host())));
        self.raft.propose(Payload::Voters(voters), context.now(), out);
    }

    fn step_down(&mut self, why: &str, context: &mut Context) {
        if self.leader.take().is_some() {
            context.note(|| format!("{} leads no more: {why}", name(self.host())));
            self.confirmations.clear();
            let notice = Notice { number: 0, body: NoticeBody::NotLeader { leader: self.hint() } };
            for wire in self.clients.values() {
                context.send_message(*wire, Side::Accepter, &Message::Notice(notice.clone()));
            }
        }
    }

    fn hint(&self) -> Option<std::net::SocketAddr> {
        self.raft.leader().filter(|leader| *leader != self.raft.id).map(|leader| group_address(home(leader)))
    }

    fn carry_out(&mut self, actions: Actions, out: &mut Vec<Output>, context: &mut Context) {
        for action in actions {
            match action {
                Action::Send { client, notice } => {
                    if let Some(wire) = self.clients.get(&client) {
                        context.send_message(*wire, Side::Accepter, &Message::Notice(notice));
                    }
                }
                Action::Propose { ticket, command } => {
                    let payload = Payload::Command { ticket, command: Box::new(command) };
                    self.raft.propose(payload, context.now(), out);
                }
                Action::Confirm { ticket } => {
                    let round = self.raft.beat(context.now(), out);
                    self.confirmations.push((ticket, round, context.now() + CONFIRMATION));
                }
            }
        }
    }

    fn take(&mut self, arrival: Arrival, agreed: &mut Agreed, context: &mut Context) {
        let client = u64::from(arrival.wire.0);
        match arrival.what {
            What::Accepted => drop(self.clients.insert(client, arrival.wire)),
            What::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    rest = rest.get(used..).unwrap_or_default();
                    self.frame(client, arrival.wire, frame, agreed, context);
                }
            }
            What::Closed | What::Failed => {
                self.clients.remove(&client);
                let mut actions = Actions::new();
                let now = self.clock.read(context.now());
                if let Some(leader) = &mut self.leader {
                    leader.closed(client, &self.state, now, &mut actions);
                }
                let mut out = Vec::new();
                self.carry_out(actions, &mut out, context);
                self.settle(out, agreed, context);
            }
            What::Opened | What::Knock => {}
        }
    }

    fn frame(&mut self, client: u64, wire: WireId, frame: RawFrame<'_>, agreed: &mut Agreed, context: &mut Context) {
        if !self.clients.contains_key(&client) {
            return;
        }
        match Message::decode(frame) {
            Ok(Message::Hello(_)) => {
                let welcome = Welcome { cluster: agreed.cluster, worker: None, incarnation: Incarnation(1) };
                context.send_message(wire, Side::Accepter, &Message::Welcome(welcome));
            }
            Ok(Message::Control(mut control)) => {
                if context.sabotages(Sabotage::Epoch) {
                    ignore_epoch(&mut control, &self.state);
                }
                let mut actions = Actions::new();
                let now = self.clock.read(context.now());
                match &mut self.leader {
                    Some(leader) => leader.control(client, control, &self.state, now, &mut actions),
                    None => turn_away(client, &control, self.hint(), &mut actions),
                }
                let mut out = Vec::new();
                self.carry_out(actions, &mut out, context);
                self.settle(out, agreed, context);
            }
            Ok(_) | Err(_) => {
                context.close(wire, Side::Accepter);
                self.clients.remove(&client);
            }
        }
    }
}

/// Sends a member's message: it may be lost, doubled or overtaken.
fn post(from: Host, to: u8, letter: &Letter, context: &mut Context) {
    for delay in context.network.datagram(from, Host::Group(to)) {
        context.agenda.after(delay, Happening::Letter { to, letter: Box::new(letter.clone()) });
    }
}
