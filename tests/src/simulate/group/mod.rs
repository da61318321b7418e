//! The metadata group: the real state, leader, detector and planner, on members that agree by a small Raft over disks and messages that fail.
//!
//! openraft itself cannot run here: it has threads and clocks of its own. What stands in its place keeps to the same rules, so that leaders are deposed
//! without knowing, entries are left behind, and members come back with what their disks hold.

mod member;
mod raft;

use super::clock::{Instant, NodeClock};
use super::context::Context;
use super::network::{Arrival, End, Host, MEMBERS};
use super::observe;
use super::sabotage::Sabotage;
use crate::random::Random;
use member::Member;
use raft::{Entry, Id, Note, Payload, Record};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use toroid_common::id::ClusterId;
use toroid_common::map::ClusterMap;
use toroid_common::wire::{Control, ControlBody, Notice, NoticeBody, Proposal, Reconfigure};
use toroid_storage_node::metadata::Founding;
use toroid_storage_node::metadata::leader::{Action, Actions};
use toroid_storage_node::metadata::state::{Command, Reply, State};

#[derive(Debug)]
pub struct Group {
    members: Vec<Member>,
    agreed: Agreed,
    /// Counts disks that were lost.
    lost_disks: u32,
}

/// What was agreed on, as nobody in the group can see it.
#[derive(Debug)]
pub struct Agreed {
    cluster: ClusterId,
    log: Vec<Entry>,
    state: State,
    map: Option<ClusterMap>,
}

/// A message between members; `to` is 0 for whoever is there.
#[derive(Clone, Debug)]
pub struct Letter {
    from: Id,
    to: Id,
    note: Note,
}

/// Where a member lives.
fn home(id: Id) -> u8 {
    (id.saturating_sub(1) % u32::from(MEMBERS)) as u8
}

impl Agreed {
    fn len(&self) -> u64 {
        self.log.len() as u64
    }

    /// The first member that knows an entry to be agreed on.
    fn take(&mut self, index: u64, entry: &Entry, context: &mut Context) {
        debug_assert_eq!(index, self.len() + 1, "entries come in order");
        self.log.push(entry.clone());
        let Payload::Command { command, .. } = &entry.payload else { return };
        let mut state = std::mem::take(&mut self.state);
        let (command, reply) = self.apply(&mut state, (**command).clone(), context);
        self.state = state;
        if !matches!(command, Command::AllocateIncarnation) {
            context.note(|| format!("the group agrees on {command:?}: {reply:?}"));
        }
        if let Command::Fence { incarnation } = command {
            context.observed.fenced.push(incarnation);
        }
        if let Some(map) = self.state.map()
            && self.map.as_ref().is_none_or(|known| known.version < map.version)
        {
            observe::mapped(map, Some(&command), context);
            self.map = Some(map.clone());
        }
    }

    /// Applies a command as every member does.
    fn apply(&self, state: &mut State, mut command: Command, context: &Context) -> (Command, Reply) {
        if let (true, Command::Propose(proposal)) = (context.sabotages(Sabotage::Epoch), &mut command) {
            name_present_epoch(proposal, state);
        }
        let reply = state.apply(command.clone());
        (command, reply)
    }
}

impl Group {
    #[must_use]
    pub fn new(founding: Founding, mut random: Random) -> Group {
        let first = |payload| Record::Entry(Entry { term: 0, payload });
        let voters = first(Payload::Voters((1..=u32::from(MEMBERS)).collect()));
        let found = first(Payload::Command { ticket: 0, command: Box::new(Command::Found(founding)) });
        let member = |index: u8| {
            let clock = NodeClock::new(random.below(1 << 40), random.between(970, 1_030));
            let records = [Record::Identity(u32::from(index) + 1), voters.clone(), found.clone()];
            Member::new(index, &records, clock)
        };
        let members = (0..MEMBERS).map(member).collect();
        let agreed = Agreed { cluster: founding.cluster, log: Vec::new(), state: State::default(), map: None };
        Group { members, agreed, lost_disks: 0 }
    }

    pub fn start(&mut self, context: &mut Context) {
        self.members.iter_mut().for_each(|member| member.start(context));
        self.stand(0, context);
    }

    /// The map as the group has it.
    #[must_use]
    pub fn map(&self) -> Option<&ClusterMap> {
        self.agreed.map.as_ref()
    }

    fn member(&mut self, host: Host) -> Option<(&mut Member, &mut Agreed)> {
        let Host::Group(index) = host else { return None };
        Some((self.members.get_mut(usize::from(index))?, &mut self.agreed))
    }

    /// A member stands for election.
    pub fn stand(&mut self, index: u8, context: &mut Context) {
        if let Some((member, agreed)) = self.member(Host::Group(index)) {
            member.stand(agreed, context);
        }
    }

    pub fn pause(&mut self, index: u8, until: Instant, context: &mut Context) {
        if let Some((member, _)) = self.member(Host::Group(index)) {
            member.pause(until, context);
        }
    }

    pub fn slow_disk(&mut self, index: u8, extra: Instant) {
        if let Some((member, _)) = self.member(Host::Group(index)) {
            member.disk.slow_down(extra);
        }
    }

    /// Whether a member's process runs, and its disk may be lost: those that most of them need are spared.
    #[must_use]
    pub fn may_crash(&self, index: u8, loses_disk: bool) -> bool {
        let voters = self.members.iter().map(|member| member.raft.voters()).max_by_key(|voters| voters.iter().max());
        let intact =
            |member: &&Member| member.index != index && voters.is_some_and(|voters| voters.contains(&member.raft.id));
        let left = self.members.iter().filter(intact).count();
        let up = self.members.get(usize::from(index)).is_some_and(|member| member.up);
        up && (!loses_disk || (left * 2 > usize::from(MEMBERS) && self.is_whole()))
    }

    pub fn crash(&mut self, index: u8, told: bool, loses_disk: bool, context: &mut Context) {
        self.lost_disks += u32::from(loses_disk);
        let another = self.lost_disks * u32::from(MEMBERS) + u32::from(index) + 1;
        if let Some((member, _)) = self.member(Host::Group(index)) {
            member.crash(told, loses_disk.then_some(another), context);
        }
    }

    pub fn restart(&mut self, index: u8, context: &mut Context) {
        if let Some((member, _)) = self.member(Host::Group(index))
            && !member.up
        {
            context.network.revive(Host::Group(index), &mut context.agenda);
            member.start(context);
        }
    }

    /// Whether one leads, and all that there are vote.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let ids: BTreeSet<Id> = self.members.iter().map(|member| member.raft.id).collect();
        let whole = |member: &Member| member.leads() && *member.raft.voters() == ids;
        self.members.iter().all(|member| member.up) && self.members.iter().any(whole)
    }

    pub fn woken(&mut self, end: End, context: &mut Context) {
        if let Some((member, agreed)) = self.member(end.host) {
            member.woken(end, agreed, context);
        }
    }

    pub fn arrived(&mut self, end: End, arrival: Arrival, context: &mut Context) {
        if let Some((member, agreed)) = self.member(end.host) {
            member.arrived(end, arrival, agreed, context);
        }
    }

    pub fn letter(&mut self, to: u8, letter: Letter, context: &mut Context) {
        if let Some((member, agreed)) = self.member(Host::Group(to)) {
            member.letter(letter, agreed, context);
        }
    }

    /// A member's disk has synced what was written by then.
    pub fn synced(&mut self, end: End, written: u64, context: &mut Context) {
        if let Some((member, agreed)) = self.member(end.host) {
            member.synced(end, written as usize, agreed, context);
        }
    }

    /// What was agreed on once must be what every member holds.
    pub fn judge(&self, context: &mut Context) {
        for member in &self.members {
            let known = (1..=member.raft.committed).filter_map(|index| member.raft.entry(index));
            if let Some(at) = known.zip(&self.agreed.log).position(|(entry, agreed)| entry != agreed) {
                context.violated(|| {
                    format!("member {} holds another entry {} than was agreed on", member.raft.id, at + 1)
                });
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

fn turn_away(client: u64, control: &Control, leader: Option<SocketAddr>, actions: &mut Actions) {
    let body = NoticeBody::NotLeader { leader };
    actions.push(Action::Send { client, notice: Notice { number: control.number, body } });
}
