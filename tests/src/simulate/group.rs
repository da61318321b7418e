//! The metadata group: the real state, leader, detector and planner, over a log that is agreed on by decree.
//!
//! What Raft promises is assumed, and nothing more: one leader a term, a log in one order, a confirmation only for who still leads. A former
//! leader may not know that it is one; what it proposed last may stand in the log or not.

use super::clock::{Instant, MILLISECOND, NodeClock};
use super::context::{Context, Happening, group_address, name};
use super::network::{Arrival, End, Host, MEMBERS, Side, What, WireId};
use super::observe;
use super::sabotage::Sabotage;
use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};
use toroid_common::id::{ClusterId, Incarnation};
use toroid_common::map::ClusterMap;
use toroid_common::wire::{
    Control, ControlBody, Message, Notice, NoticeBody, Proposal, RawFrame, Reconfigure, Welcome,
};
use toroid_storage_node::metadata::Founding;
use toroid_storage_node::metadata::leader::{Action, Actions, Leader};
use toroid_storage_node::metadata::state::{Command, Reply, State};

#[derive(Debug)]
pub struct Group {
    cluster: ClusterId,
    members: Vec<Member>,
    /// Everything that was ever agreed on.
    log: Vec<Command>,
    term: u64,
    leads: Option<u8>,
    /// How long a command takes to be agreed on, at most.
    latency: Instant,
    /// The map as the group has it.
    pub map: Option<ClusterMap>,
}

/// Names what no leader asked for.
const NOBODYS: u64 = 0;

/// A process of the group.
#[derive(Debug)]
struct Member {
    index: u8,
    clock: NodeClock,
    /// As far as the log has been applied here.
    state: State,
    applied: usize,
    /// Who believes that it leads.
    leader: Option<Leader>,
    paused_until: Instant,
    deferred: Vec<Deferred>,
    clients: BTreeMap<u64, WireId>,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    last_commit: Instant,
    wakes: Option<Instant>,
}

#[derive(Debug)]
enum Deferred {
    Arrival(Arrival),
    Task(u64),
}

/// What a leader has asked of the others.
#[derive(Debug)]
enum Task {
    Commit { ticket: u64, command: Box<Command> },
    Confirm { ticket: u64 },
}

impl Group {
    #[must_use]
    pub fn new(founding: Founding, mut random: Random) -> Group {
        let member = |index| Member {
            index,
            clock: NodeClock::new(random.below(1 << 40), random.between(970, 1_030)),
            state: State::default(),
            applied: 0,
            leader: None,
            paused_until: 0,
            deferred: Vec::new(),
            clients: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_task: 0,
            last_commit: 0,
            wakes: None,
        };
        Group {
            cluster: founding.cluster,
            members: (0..MEMBERS).map(member).collect(),
            log: vec![Command::Found(founding)],
            term: 0,
            leads: None,
            latency: random.pick(&[200, 2 * MILLISECOND, 20 * MILLISECOND]).unwrap_or(MILLISECOND),
            map: None,
        }
    }

    pub fn start(&mut self, context: &mut Context) {
        for index in 0..MEMBERS {
            context.network.listen(group_address(index), end(index));
        }
        self.elect(0, context);
    }

    /// Who leads.
    #[must_use]
    pub fn leads(&self) -> Option<u8> {
        self.leads
    }

    /// A majority elects a member. Who led before is not told.
    pub fn elect(&mut self, index: u8, context: &mut Context) {
        // What the former leader had sent to a majority already is agreed on, whether it hears of that or not.
        if let Some(former) = self.leads.and_then(|former| self.members.get_mut(usize::from(former))) {
            let kept = context.random.below(former.tasks.len() as u64 + 1) as usize;
            for task in former.tasks.values().take(kept) {
                if let Task::Commit { command, .. } = task {
                    self.log.push((**command).clone());
                }
            }
            former.tasks.retain(|_, task| matches!(task, Task::Confirm { .. }));
        }
        self.term += 1;
        self.leads = Some(index);
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        context.note(|| format!("{} is elected for term {}", name(Host::Group(index)), self.term));
        member.close_all(context);
        member.tasks.clear();
        for command in self.log.get(member.applied..).unwrap_or_default() {
            let _ = member.state.apply((*command).clone());
        }
        member.applied = self.log.len();
        let now = member.clock.read(context.now());
        member.leader = Some(Leader::elected(self.term, None, &member.state, now));
        member.wake_at(context.now() + 1, context);
        self.publish(index, None, context);
    }

    /// A member that led and does no more learns of it: it closes its connections.
    pub fn learn(&mut self, index: u8, context: &mut Context) {
        if self.leads == Some(index) {
            return;
        }
        if let Some(member) = self.members.get_mut(usize::from(index))
            && member.leader.take().is_some()
        {
            context.note(|| format!("{} learns that it does not lead any more", name(Host::Group(index))));
            member.close_all(context);
        }
    }

    pub fn pause(&mut self, index: u8, until: Instant, context: &mut Context) {
        if let Some(member) = self.members.get_mut(usize::from(index)) {
            member.paused_until = member.paused_until.max(until);
            member.wake_at(until, context);
        }
    }

    pub fn woken(&mut self, end: End, context: &mut Context) {
        let Host::Group(index) = end.host else { return };
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        if member.wakes.is_none_or(|at| at > context.now()) {
            return;
        }
        member.wakes = None;
        if context.now() < member.paused_until {
            return member.wake_at(member.paused_until, context);
        }
        for deferred in std::mem::take(&mut member.deferred) {
            match deferred {
                Deferred::Arrival(arrival) => self.take(index, arrival, context),
                Deferred::Task(number) => self.task_done(index, number, context),
            }
        }
        let mut actions = Actions::new();
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        let now = member.clock.read(context.now());
        if let Some(leader) = &mut member.leader {
            leader.tick(&member.state, now, &mut actions);
        }
        self.carry_out(index, actions, context);
    }

    pub fn arrived(&mut self, end: End, arrival: Arrival, context: &mut Context) {
        let Host::Group(index) = end.host else { return };
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        if context.now() < member.paused_until {
            return member.deferred.push(Deferred::Arrival(arrival));
        }
        self.take(index, arrival, context);
    }

    /// What a leader asked for has been agreed on, or not.
    pub fn done(&mut self, end: End, number: u64, context: &mut Context) {
        let Host::Group(index) = end.host else { return };
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        if context.now() < member.paused_until {
            return member.deferred.push(Deferred::Task(number));
        }
        self.task_done(index, number, context);
    }

    fn task_done(&mut self, index: u8, number: u64, context: &mut Context) {
        let leads = self.leads == Some(index);
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        let Some(task) = member.tasks.remove(&number) else { return };
        let now = member.clock.read(context.now());
        let Some(leader) = &mut member.leader else { return };
        let mut actions = Actions::new();
        let mut made_by = None;
        match task {
            Task::Commit { ticket, .. } | Task::Confirm { ticket } if !leads => leader.failed(ticket, &mut actions),
            Task::Confirm { ticket } => leader.confirmed(ticket, &member.state, now, &mut actions),
            Task::Commit { ticket, mut command } => {
                if let (true, Command::Propose(proposal)) = (context.sabotages(Sabotage::Epoch), &mut *command) {
                    name_present_epoch(proposal, &member.state);
                }
                made_by = Some((*command).clone());
                self.log.push((*command).clone());
                member.applied = self.log.len();
                let reply: Reply = member.state.apply((*command).clone());
                if !matches!(*command, Command::AllocateIncarnation) {
                    context.note(|| format!("the group agrees on {command:?}: {reply:?}"));
                }
                leader.applied(Some(ticket), &command, &reply, &member.state, now, &mut actions);
                if context.sabotages(Sabotage::PromoteStranger)
                    && reply == Reply::Done
                    && let Some(command) = admission(&command, &member.state)
                {
                    member.ask(
                        Task::Commit { ticket: NOBODYS, command: Box::new(command) },
                        context.now() + 1,
                        context,
                    );
                }
            }
        }
        self.publish(index, made_by.as_ref(), context);
        self.carry_out(index, actions, context);
    }

    /// The map that is agreed on by now is judged.
    fn publish(&mut self, index: u8, command: Option<&Command>, context: &mut Context) {
        let Some(member) = self.members.get(usize::from(index)) else { return };
        if self.leads == Some(index)
            && let Some(map) = member.state.map()
            && self.map.as_ref().is_none_or(|known| known.version < map.version)
        {
            observe::mapped(map, command, context);
            self.map = Some(map.clone());
        }
    }

    fn carry_out(&mut self, index: u8, actions: Actions, context: &mut Context) {
        let latency = self.latency;
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::Send { client, notice } => {
                    if let Some(wire) = member.clients.get(&client) {
                        context.send_message(*wire, Side::Accepter, &Message::Notice(notice));
                    }
                }
                Action::Propose { ticket, command } => {
                    let at = member.last_commit.max(context.now() + 1 + context.random.below(latency));
                    member.last_commit = at;
                    member.ask(Task::Commit { ticket, command: Box::new(command) }, at, context);
                }
                Action::Confirm { ticket } => {
                    // Whatever was agreed on before is applied before.
                    let at = member.last_commit.max(context.now() + 1 + context.random.below(latency));
                    member.ask(Task::Confirm { ticket }, at, context);
                }
            }
        }
        if let Some(leader) = &member.leader {
            let at = member.clock.when(leader.wakes_at(), context.now() + 1);
            member.wake_at(at, context);
        }
    }

    fn take(&mut self, index: u8, arrival: Arrival, context: &mut Context) {
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        let client = u64::from(arrival.wire.0);
        match arrival.what {
            What::Accepted => drop(member.clients.insert(client, arrival.wire)),
            What::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    rest = rest.get(used..).unwrap_or_default();
                    self.frame(index, client, arrival.wire, frame, context);
                }
            }
            What::Closed | What::Failed => {
                member.clients.remove(&client);
                let mut actions = Actions::new();
                let now = member.clock.read(context.now());
                if let Some(leader) = &mut member.leader {
                    leader.closed(client, &member.state, now, &mut actions);
                }
                self.carry_out(index, actions, context);
            }
            What::Opened | What::Knock => {}
        }
    }

    fn frame(&mut self, index: u8, client: u64, wire: WireId, frame: RawFrame<'_>, context: &mut Context) {
        let leads = self.leads;
        let Some(member) = self.members.get_mut(usize::from(index)) else { return };
        if !member.clients.contains_key(&client) {
            return;
        }
        match Message::decode(frame) {
            Ok(Message::Hello(_)) => {
                let welcome = Welcome { cluster: self.cluster, worker: None, incarnation: Incarnation(1) };
                context.send_message(wire, Side::Accepter, &Message::Welcome(welcome));
            }
            Ok(Message::Control(mut control)) => {
                if context.sabotages(Sabotage::Epoch) {
                    ignore_epoch(&mut control, &member.state);
                }
                let mut actions = Actions::new();
                let now = member.clock.read(context.now());
                match &mut member.leader {
                    Some(leader) => leader.control(client, control, &member.state, now, &mut actions),
                    None => turn_away(client, &control, leads, &mut actions),
                }
                self.carry_out(index, actions, context);
            }
            Ok(_) | Err(_) => {
                context.close(wire, Side::Accepter);
                member.clients.remove(&client);
            }
        }
    }
}

/// With the epoch check off: a proposal counts as one of the present epoch.
fn name_present_epoch(proposal: &mut Proposal, state: &State) {
    if let Some(assignment) = state.map().and_then(|map| map.assignment(proposal.partition)) {
        proposal.epoch = assignment.epoch;
    }
}

fn ignore_epoch(control: &mut Control, state: &State) {
    if let ControlBody::Propose(proposal) = &mut control.body {
        name_present_epoch(proposal, state);
    }
}

/// The admission, as if its primary had asked for it, of a replica that has been added to those that join.
fn admission(command: &Command, state: &State) -> Option<Command> {
    let Command::AddJoining { partition, worker, .. } = command else { return None };
    let epoch = state.map()?.assignment(*partition)?.epoch;
    let incarnation = state.member(worker.node)?.entry.incarnation;
    let change = Reconfigure::Admit { worker: *worker, incarnation };
    Some(Command::Propose(Proposal { partition: *partition, epoch, change }))
}

fn turn_away(client: u64, control: &Control, leads: Option<u8>, actions: &mut Actions) {
    let body = NoticeBody::NotLeader { leader: leads.map(group_address) };
    actions.push(Action::Send { client, notice: Notice { number: control.number, body } });
}

fn end(index: u8) -> End {
    End { host: Host::Group(index), part: 0, life: 1 }
}

impl Member {
    fn ask(&mut self, task: Task, at: Instant, context: &mut Context) {
        self.next_task += 1;
        self.tasks.insert(self.next_task, task);
        context.agenda.at(at, Happening::Done(end(self.index), self.next_task));
    }

    fn wake_at(&mut self, at: Instant, context: &mut Context) {
        if self.wakes.is_none_or(|known| known > at) {
            self.wakes = Some(at);
            context.agenda.at(at, Happening::Wake(end(self.index)));
        }
    }

    fn close_all(&mut self, context: &mut Context) {
        for wire in std::mem::take(&mut self.clients).into_values() {
            context.close(wire, Side::Accepter);
        }
    }
}
