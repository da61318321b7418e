//! The task of one member: leads while Raft says so, and sends everybody elsewhere otherwise.

use super::log::member_id;
use super::machine::Committed;
use super::members;
use super::network::Caller;
use super::types::{MemberId, Peer, Proposed, Raft, term_of};
use crate::clock::Clock;
use crate::metadata::clients::{Clients, Input, MAX_WAITING_INPUTS};
use crate::metadata::gauges;
use crate::metadata::leader::{Action, Actions, Leader, Ticket};
use crate::metadata::state::{Command, Founding, Member, State};
use openraft::error::{CheckIsLeaderError, RaftError};
use openraft::{ChangeMembers, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use toroid_common::id::NodeId;
use toroid_common::wire::NoticeBody;
use toroid_engine::gate::Time;

/// A majority that does not confirm in this time is not there: whoever waits is better served elsewhere.
const CONFIRMATION: Duration = Duration::from_millis(250);
const CONFIRM_AGAIN: Duration = Duration::from_millis(5);
/// Between two looks at whether this member leads, when nothing happens.
const LOOK: Duration = Duration::from_millis(50);
/// How long a member that is to lead next may take to hear of it, and then to be elected.
const ELEVATION: Duration = Duration::from_millis(100);
const SUCCESSION: Duration = Duration::from_millis(300);
/// Between changes of the group's members.
const MEMBERS_MICROS: u64 = 500_000;
/// How long one change of the members may take.
const CHANGE: Duration = Duration::from_secs(20);

/// What comes back from Raft, besides what is committed.
enum Answer {
    /// A majority has confirmed that this member leads in this term.
    Leads(u64),
    LeadsNot,
    Confirmed(Ticket),
    Failed(Ticket),
    MembersChanged,
}

/// One member's task.
pub(super) struct Group {
    pub raft: Raft,
    /// Reaches other members.
    pub caller: Caller,
    pub identity: u32,
    pub node: NodeId,
    pub clock: Clock,
    /// Makes the cluster, where there is none.
    pub found: Option<Founding>,
    /// Where this node itself finds the leader, for members that Raft does not tell.
    pub known: watch::Receiver<Option<SocketAddr>>,
}

struct Task {
    group: Group,
    state: State,
    leader: Option<Leader>,
    /// The term whose confirmation is awaited before leading.
    claiming: bool,
    changing_members: bool,
    members_checked: Time,
    clients: Clients,
    /// What was asked while this member is elected and a majority has yet to confirm it.
    held: Vec<Input>,
    answers: UnboundedSender<Answer>,
}

impl Group {
    /// Serves until the node ends.
    pub(super) async fn run(self, mut inputs: Receiver<Input>, mut committed: UnboundedReceiver<Committed>) {
        let (answers, mut answered) = unbounded_channel();
        let mut metrics = self.raft.server_metrics();
        let mut task = Task {
            group: self,
            state: State::default(),
            leader: None,
            claiming: false,
            changing_members: false,
            members_checked: Time(0),
            clients: Clients::default(),
            held: Vec::new(),
            answers,
        };
        loop {
            // Not left to the select: who asks without pause must not keep the leader from giving up who is silent.
            let wake = task.leader.as_ref().map_or(LOOK, |leader| task.group.clock.until(leader.wakes_at()));
            if wake.is_zero() {
                task.tick().await;
            }
            tokio::select! {
                // What is committed comes before what was asked for after it.
                biased;
                entry = committed.recv() => match entry {
                    Some(entry) => task.committed(entry).await,
                    None => return,
                },
                answer = answered.recv() => {
                    // A confirmation speaks of all that was committed before it.
                    while let Ok(entry) = committed.try_recv() {
                        task.committed(entry).await;
                    }
                    if let Some(answer) = answer {
                        task.answered(answer).await;
                    }
                }
                input = inputs.recv() => match input {
                    Some(input) => task.input(input).await,
                    None => return,
                },
                changed = metrics.changed() => {
                    if changed.is_err() {
                        return tracing::error!("the metadata group's Raft has ended");
                    }
                }
                () = tokio::time::sleep(wake) => {}
            }
            if task.leader.as_ref().is_some_and(Leader::yields) {
                task.give_way().await;
            }
            task.look();
        }
    }
}

impl Task {
    fn me(&self) -> MemberId {
        member_id(self.group.identity)
    }

    /// The term in which this member leads, as far as it knows.
    fn leads(&self) -> Option<u64> {
        let metrics = self.group.raft.server_metrics();
        let metrics = metrics.borrow();
        let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(self.me());
        leads.then(|| term_of(&metrics.vote))
    }

    /// Where the leader is.
    fn hint(&self) -> Option<SocketAddr> {
        let metrics = self.group.raft.server_metrics();
        let metrics = metrics.borrow();
        match metrics.current_leader {
            Some(leader) if leader == self.me() => None,
            Some(leader) => {
                let mut nodes = metrics.membership_config.nodes();
                nodes.find(|(id, _)| **id == leader).map(|(_, peer)| peer.control)
            }
            None if metrics.membership_config.voter_ids().any(|id| id == self.me()) => None,
            None => *self.group.known.borrow(),
        }
    }

    /// Begins to lead or ceases to, as Raft says.
    fn look(&mut self) {
        let leads = self.leads();
        if self.leader.as_ref().is_some_and(|leader| leads != Some(leader.term())) {
            self.step_down("another election");
        }
        if let Some(term) = leads.filter(|_| self.leader.is_none() && !self.claiming) {
            self.claiming = true;
            let (raft, answers) = (self.group.raft.clone(), self.answers.clone());
            tokio::spawn(async move {
                let answer = if confirm(&raft).await { Answer::Leads(term) } else { Answer::LeadsNot };
                if matches!(answer, Answer::LeadsNot) {
                    // Not at once again: the majority is elsewhere, or not there.
                    tokio::time::sleep(LOOK).await;
                }
                let _ = answers.send(answer);
            });
        }
    }

    fn step_down(&mut self, why: &str) {
        if let Some(leader) = self.leader.take() {
            tracing::info!(node = %self.group.node, term = leader.term(), why, "this node leads the metadata group no more");
            gauges::not_leading();
            self.clients.tell_all(&NoticeBody::NotLeader { leader: self.hint() });
        }
    }

    /// The member that should lead next: one that has the whole log, on a node that stays.
    fn heir(&self) -> Option<(MemberId, Peer)> {
        let metrics = self.group.raft.metrics();
        let metrics = metrics.borrow();
        let has_all = |id: &MemberId| {
            let matched = metrics.replication.as_ref().and_then(|to| to.get(id).copied().flatten());
            matched.map(|log_id| log_id.index) == metrics.last_log_index
        };
        let voters: BTreeSet<MemberId> = metrics.membership_config.voter_ids().collect();
        let mut nodes = metrics.membership_config.nodes().filter(|(id, _)| voters.contains(id) && **id != self.me());
        let stays = |peer: &Peer| self.state.member(peer.node).is_some_and(Member::is_up);
        nodes.find(|(id, peer)| has_all(id) && stays(peer)).map(|(id, peer)| (*id, peer.clone()))
    }

    /// Has another member elected, before this one's node stops: found only after it is missed, leases would have ended. Nothing is proposed meanwhile,
    /// since nobody votes for a member that lacks an entry.
    async fn give_way(&mut self) {
        let Some((id, peer)) = self.heir().filter(|_| !self.changing_members) else { return };
        let node = peer.node;
        if let Err(error) = self.group.caller.elevate(id, peer, ELEVATION).await {
            return tracing::warn!(%node, %error, "cannot ask another node to lead the metadata group");
        }
        let mut metrics = self.group.raft.server_metrics();
        let me = self.me();
        let another = metrics.wait_for(|metrics| metrics.current_leader.is_some_and(|leader| leader != me));
        match tokio::time::timeout(SUCCESSION, another).await {
            Ok(Ok(_)) => self.step_down("its node stops"),
            Ok(Err(_)) | Err(_) => tracing::warn!(%node, "was asked to lead the metadata group, and does not yet"),
        }
    }

    async fn committed(&mut self, entry: Committed) {
        let proposed = match entry {
            Committed::State(state) => {
                self.state = *state;
                return;
            }
            Committed::Command(proposed) => *proposed,
        };
        let Proposed { term, ticket, command } = proposed;
        let reply = self.state.apply(command.clone());
        let Some(leader) = &mut self.leader else { return };
        let ticket = (term == leader.term()).then_some(ticket);
        let mut actions = Actions::new();
        leader.applied(ticket, &command, &reply, &self.state, self.group.clock.now(), &mut actions);
        self.carry_out(actions).await;
    }

    async fn answered(&mut self, answer: Answer) {
        let now = self.group.clock.now();
        let mut actions = Actions::new();
        match answer {
            Answer::LeadsNot => {
                self.claiming = false;
                self.take_held().await;
            }
            Answer::Leads(term) => {
                self.claiming = false;
                if self.leads() == Some(term) && self.leader.is_none() {
                    tracing::info!(node = %self.group.node, term, "this node leads the metadata group");
                    self.leader = Some(Leader::elected(term, Some(self.group.node), &self.state, now));
                    // It has to know the members from the first tick on.
                    self.members_checked = Time(0);
                    self.found(term).await;
                }
                self.take_held().await;
            }
            Answer::MembersChanged => self.changing_members = false,
            Answer::Confirmed(ticket) => {
                if let Some(leader) = &mut self.leader {
                    leader.confirmed(ticket, &self.state, now, &mut actions);
                }
            }
            Answer::Failed(ticket) => {
                // What an earlier leadership asked for says nothing of this one.
                if self.leader.as_mut().is_some_and(|leader| leader.failed(ticket, &mut actions)) {
                    self.carry_out(actions).await;
                    self.step_down("no majority confirms it");
                }
                return;
            }
        }
        self.carry_out(actions).await;
    }

    async fn take_held(&mut self) {
        for input in std::mem::take(&mut self.held) {
            self.take(input).await;
        }
    }

    /// The cluster's first command.
    async fn found(&mut self, term: u64) {
        let Some(founding) = self.group.found.filter(|_| self.state.founding().is_none()) else { return };
        let proposed = Proposed { term, ticket: 0, command: Command::Found(founding) };
        if let Err(error) = self.group.raft.client_write_ff(proposed).await {
            tracing::error!(%error, "the cluster cannot be made");
        }
    }

    /// Takes what was asked, or keeps it for the moment when it is known who leads: sent away, a client would look for the leader elsewhere.
    async fn input(&mut self, input: Input) {
        let claims = self.leader.is_none() && self.leads().is_some();
        match input {
            Input::Control(..) | Input::Closed(_) if claims && self.held.len() < MAX_WAITING_INPUTS => {
                self.held.push(input);
            }
            Input::Opened(..) | Input::Control(..) | Input::Closed(_) => self.take(input).await,
        }
    }

    async fn take(&mut self, input: Input) {
        let now = self.group.clock.now();
        let mut actions = Actions::new();
        match input {
            Input::Opened(client, sender) => self.clients.opened(client, sender),
            Input::Control(client, control) => match &mut self.leader {
                Some(leader) => leader.control(client, *control, &self.state, now, &mut actions),
                None => self.clients.tell(client, control.number, NoticeBody::NotLeader { leader: self.hint() }),
            },
            Input::Closed(client) => {
                self.clients.closed(client);
                if let Some(leader) = &mut self.leader {
                    leader.closed(client, &self.state, now, &mut actions);
                }
            }
        }
        self.carry_out(actions).await;
    }

    async fn tick(&mut self) {
        let now = self.group.clock.now();
        let mut actions = Actions::new();
        if let Some(leader) = &mut self.leader {
            leader.tick(&self.state, now, &mut actions);
            gauges::leading(leader.gauges(&self.state));
        }
        self.carry_out(actions).await;
        if self.leader.is_some() && now >= self.members_checked.after(MEMBERS_MICROS) {
            self.members_checked = now;
            self.change_members();
        }
    }

    async fn carry_out(&mut self, actions: Actions) {
        let term = self.leader.as_ref().map_or(0, Leader::term);
        for action in actions {
            match action {
                Action::Send { client, notice } => self.clients.send(client, notice),
                Action::Propose { ticket, command } => {
                    let answers = self.answers.clone();
                    match self.group.raft.client_write_ff(Proposed { term, ticket, command }).await {
                        // When it is committed, the state machine tells.
                        Ok(receiver) => drop(tokio::spawn(async move {
                            if !matches!(receiver.await, Ok(Ok(_))) {
                                let _ = answers.send(Answer::Failed(ticket));
                            }
                        })),
                        Err(_) => drop(answers.send(Answer::Failed(ticket))),
                    }
                }
                Action::Confirm { ticket } => {
                    let (raft, answers) = (self.group.raft.clone(), self.answers.clone());
                    tokio::spawn(async move {
                        let confirmed = confirm(&raft).await;
                        let answer = if confirmed { Answer::Confirmed(ticket) } else { Answer::Failed(ticket) };
                        let _ = answers.send(answer);
                    });
                }
            }
        }
    }

    /// Takes members in and out, one change at a time.
    fn change_members(&mut self) {
        let metrics = self.group.raft.server_metrics();
        let (have, at): (BTreeSet<MemberId>, BTreeMap<MemberId, Peer>) = {
            let metrics = metrics.borrow();
            let config = &metrics.membership_config;
            (config.voter_ids().collect(), config.nodes().map(|(id, peer)| (*id, peer.clone())).collect())
        };
        let peers = members::peers(&self.state);
        let wanted = members::wanted(&self.state, &have, self.me());
        let nodes: Vec<NodeId> = have.iter().filter_map(|id| at.get(id)).map(|peer| peer.node).collect();
        if let Some(leader) = &mut self.leader {
            leader.members_are(nodes);
        }
        let moved = |id: &&MemberId| peers.get(id).is_some_and(|peer| at.get(id) != Some(peer));
        let absent: BTreeMap<MemberId, Peer> =
            wanted.iter().filter(moved).filter_map(|id| Some((*id, peers.get(id)?.clone()))).collect();
        if self.changing_members || (absent.is_empty() && wanted == have) || wanted.is_empty() {
            return;
        }
        tracing::info!(?have, ?wanted, "the metadata group changes its members");
        self.changing_members = true;
        let (raft, answers) = (self.group.raft.clone(), self.answers.clone());
        tokio::spawn(async move {
            if !matches!(tokio::time::timeout(CHANGE, change(&raft, &have, absent, wanted)).await, Ok(true)) {
                tracing::warn!("the metadata group could not change its members yet");
            }
            let _ = answers.send(Answer::MembersChanged);
        });
    }
}

/// Whether a majority confirms that this member leads. A member that misses one question is asked again: it may have been busy for longer than Raft waits.
async fn confirm(raft: &Raft) -> bool {
    let asking = async {
        loop {
            match raft.ensure_linearizable().await {
                Ok(_) => return true,
                Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                    tokio::time::sleep(CONFIRM_AGAIN).await;
                }
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_)) | RaftError::Fatal(_)) => return false,
            }
        }
    };
    tokio::time::timeout(CONFIRMATION, asking).await.unwrap_or(false)
}

/// New members learn the log before they vote.
async fn change(
    raft: &Raft,
    have: &BTreeSet<MemberId>,
    absent: BTreeMap<MemberId, Peer>,
    wanted: BTreeSet<MemberId>,
) -> bool {
    let (moved, new): (BTreeMap<_, _>, BTreeMap<_, _>) = absent.into_iter().partition(|(id, _)| have.contains(id));
    if !moved.is_empty() && raft.change_membership(ChangeMembers::SetNodes(moved), true).await.is_err() {
        return false;
    }
    for (id, peer) in new {
        if raft.add_learner(id, peer, true).await.is_err() {
            return false;
        }
    }
    wanted == *have || raft.change_membership(wanted, false).await.is_ok()
}
