//! Leases: to whom, after which confirmation, and not while somebody is being given up.

use super::super::leader::{Action, Actions, Leader};
use super::super::state::{Command, Founding, State};
use super::cluster::{Cluster, OPERATOR, announcement};
use toroid_common::id::{ClusterId, Incarnation, NodeId};
use toroid_common::wire::{Control, ControlBody, NoticeBody};
use toroid_engine::gate::Time;

const NODE: NodeId = NodeId(1);
const CLIENT: u64 = 11;

/// A leader whose log and majority answer when the test wants.
struct Slow {
    leader: Leader,
    state: State,
    now: Time,
    actions: Actions,
    number: u32,
}

impl Slow {
    fn with_node() -> (Slow, Incarnation) {
        let mut state = State::default();
        state.apply(Command::Found(Founding {
            cluster: ClusterId(5),
            nodes: 1,
            copies: 1,
            min_copies: 1,
            partitions: 4,
        }));
        state.apply(Command::Join { announcement: announcement(1, 1), dead: None });
        state.apply(Command::Form);
        let incarnation = state.member(NODE).unwrap().entry.incarnation;
        let leader = Leader::elected(3, Some(NODE), &state, Time(0));
        (Slow { leader, state, now: Time(0), actions: Vec::new(), number: 0 }, incarnation)
    }

    fn ask(&mut self, body: ControlBody) -> u32 {
        self.number += 1;
        let control = Control { number: self.number, body };
        self.leader.control(CLIENT, control, &self.state, self.now, &mut self.actions);
        self.number
    }

    /// The node joins, again, and watches over this connection.
    fn join(&mut self, client: u64) {
        let join = Control { number: 0, body: ControlBody::Join(announcement(1, 1)) };
        self.leader.control(client, join, &self.state, self.now, &mut self.actions);
        let proposed = std::mem::take(&mut self.actions).into_iter().find_map(|action| match action {
            Action::Propose { ticket, command } => Some((ticket, command)),
            Action::Send { .. } | Action::Confirm { .. } => None,
        });
        let (ticket, command) = proposed.unwrap();
        let reply = self.state.apply(command.clone());
        self.leader.applied(Some(ticket), &command, &reply, &self.state, self.now, &mut self.actions);
        let watch = Control { number: 0, body: ControlBody::Watch };
        self.leader.control(client, watch, &self.state, self.now, &mut self.actions);
    }

    fn confirm(&mut self) -> u64 {
        let asked = self.actions.iter().find_map(|action| match action {
            Action::Confirm { ticket } => Some(*ticket),
            Action::Send { .. } | Action::Propose { .. } => None,
        });
        self.actions.retain(|action| !matches!(action, Action::Confirm { .. }));
        asked.unwrap()
    }

    fn answer(&mut self, number: u32) -> Option<NoticeBody> {
        self.actions.iter().find_map(|action| match action {
            Action::Send { notice, .. } if notice.number == number => Some(notice.body.clone()),
            Action::Send { .. } | Action::Propose { .. } | Action::Confirm { .. } => None,
        })
    }

    fn tick_until(&mut self, until: Time) {
        while self.now < until {
            self.now = self.now.after(50_000);
            self.leader.tick(&self.state, self.now, &mut self.actions);
        }
    }
}

#[test]
fn a_renewal_is_answered_after_a_confirmation_that_began_after_it() {
    let (mut slow, incarnation) = Slow::with_node();
    let renew = ControlBody::RenewLease { node: NODE, incarnation };
    let first = slow.ask(renew.clone());
    let confirmation = slow.confirm();
    let second = slow.ask(renew);
    slow.leader.confirmed(confirmation, &slow.state, slow.now, &mut slow.actions);
    assert_eq!(slow.answer(first), Some(NoticeBody::LeaseRenewed { term: 3 }));
    assert_eq!(slow.answer(second), None, "its confirmation had begun before");
    let confirmation = slow.confirm();
    assert!(slow.leader.failed(confirmation, &mut slow.actions));
    assert_eq!(slow.answer(second), Some(NoticeBody::NotLeader { leader: None }));
}

#[test]
fn who_is_being_given_up_gets_no_lease() {
    let (mut slow, incarnation) = Slow::with_node();
    let renewal = slow.ask(ControlBody::RenewLease { node: NODE, incarnation });
    let confirmation = slow.confirm();
    slow.tick_until(Time(700_000));
    let expired = |action: &Action| matches!(action, Action::Propose { command: Command::Expire { .. }, .. });
    assert!(slow.actions.iter().any(expired));
    slow.leader.confirmed(confirmation, &slow.state, slow.now, &mut slow.actions);
    assert!(matches!(slow.answer(renewal), Some(NoticeBody::Failed { .. })), "the log may already say so");
}

#[test]
fn what_comes_late_over_a_former_connection_does_not_end_the_newer_one() {
    let (mut slow, _) = Slow::with_node();
    slow.state.apply(Command::Ready);
    let (former, newer) = (CLIENT + 1, CLIENT + 2);
    slow.join(newer);
    slow.join(former);
    slow.leader.closed(former, &slow.state, slow.now, &mut slow.actions);
    slow.actions.clear();
    slow.ask(ControlBody::OpenCut);
    let captures: Vec<u64> = slow
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Send { client, notice } if matches!(notice.body, NoticeBody::Capture { .. }) => Some(*client),
            Action::Send { .. } | Action::Propose { .. } | Action::Confirm { .. } => None,
        })
        .collect();
    assert_eq!(captures, [newer]);
}

#[test]
fn other_lives_have_no_lease() {
    let (mut slow, incarnation) = Slow::with_node();
    let other = ControlBody::RenewLease { node: NODE, incarnation: Incarnation(incarnation.0 + 1) };
    let number = slow.ask(other);
    assert!(matches!(slow.answer(number), Some(NoticeBody::Failed { .. })));
}

#[test]
fn proxies_that_are_silent_for_long_are_fenced() {
    let mut cluster = Cluster::of(1, 1, 4);
    let allocate = |cluster: &mut Cluster| match &cluster.ask(OPERATOR, ControlBody::AllocateIncarnation)[..] {
        [NoticeBody::Incarnation(incarnation)] => *incarnation,
        other => panic!("{other:?}"),
    };
    let (kept, lost) = (allocate(&mut cluster), allocate(&mut cluster));
    let mut fenced = Vec::new();
    for _ in 0..32 {
        cluster.pass(1_000);
        let renew = ControlBody::RenewProxies { incarnations: vec![kept] };
        assert_eq!(cluster.ask(OPERATOR, renew), [NoticeBody::LeaseRenewed { term: 1 }]);
        let (client, _) = cluster.nodes[&1];
        fenced.extend(
            cluster
                .out
                .extract_if(.., |(to, notice)| *to == client && matches!(notice.body, NoticeBody::Proxies { .. })),
        );
    }
    let last = fenced.pop().unwrap().1.body;
    assert!(matches!(last, NoticeBody::Proxies { alive, below } if alive == [kept] && below > lost));
    let renew = ControlBody::RenewProxies { incarnations: vec![lost] };
    assert!(matches!(&cluster.ask(OPERATOR, renew)[..], [NoticeBody::Failed { .. }]));
}

#[test]
fn proxies_whose_process_has_ended_are_fenced_soon() {
    let mut cluster = Cluster::of(1, 1, 4);
    let allocate = |cluster: &mut Cluster, client| match &cluster.ask(client, ControlBody::AllocateIncarnation)[..] {
        [NoticeBody::Incarnation(incarnation)] => *incarnation,
        other => panic!("{other:?}"),
    };
    let (first, second) = (OPERATOR + 1, OPERATOR + 2);
    let (ended, moved) = (allocate(&mut cluster, first), allocate(&mut cluster, first));
    let lives = |cluster: &mut Cluster, proxy| {
        let renew = ControlBody::RenewProxies { incarnations: vec![proxy] };
        !matches!(&cluster.ask(OPERATOR, renew)[..], [NoticeBody::Failed { .. }])
    };
    cluster.ask(second, ControlBody::RenewProxies { incarnations: vec![moved] });
    cluster.close(first);
    cluster.pass(2_900);
    assert!(cluster.group.state().proxies().contains(&ended));
    cluster.pass(200);
    assert!(!lives(&mut cluster, ended) && lives(&mut cluster, moved), "it had come back over another connection");
}

#[test]
fn what_the_log_did_not_take_is_answered_with_no_leader() {
    let (mut slow, _) = Slow::with_node();
    let number = slow.ask(ControlBody::AllocateIncarnation);
    let ticket = slow.actions.iter().find_map(|action| match action {
        Action::Propose { ticket, command: Command::AllocateIncarnation } => Some(*ticket),
        _ => None,
    });
    assert!(!slow.leader.failed(ticket.unwrap() + 1, &mut slow.actions), "it did not ask for that");
    assert!(slow.leader.failed(ticket.unwrap(), &mut slow.actions));
    assert_eq!(slow.answer(number), Some(NoticeBody::NotLeader { leader: None }));
    assert!(!slow.leader.failed(ticket.unwrap(), &mut slow.actions), "once");
}
