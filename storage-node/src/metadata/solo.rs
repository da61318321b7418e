//! A metadata group of one that keeps no log: what is proposed is applied at once. For development clusters, tests and the simulator. Pure.

use super::leader::{Action, Actions, ClientId, Leader};
use super::state::{Command, Founding, State};
use std::collections::VecDeque;
use toroid_common::wire::{Control, Notice};
use toroid_engine::gate::Time;

/// What is to be sent, in order.
pub type Outbox = Vec<(ClientId, Notice)>;

/// State and leader, without anything between them.
#[derive(Debug)]
pub struct Solo {
    state: State,
    leader: Leader,
}

impl Solo {
    pub fn new(founding: Founding, now: Time) -> Solo {
        let mut state = State::default();
        state.apply(Command::Found(founding));
        let leader = Leader::elected(1, None, &state, now);
        Solo { state, leader }
    }

    /// Another leader takes over: connections are gone, the state stays.
    pub fn elect(&mut self, now: Time) {
        self.leader = Leader::elected(self.leader.term() + 1, None, &self.state, now);
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn leader(&self) -> &Leader {
        &self.leader
    }

    /// Takes one request.
    pub fn control(&mut self, client: ClientId, control: Control, now: Time, out: &mut Outbox) {
        let mut actions = Actions::new();
        self.leader.control(client, control, &self.state, now, &mut actions);
        self.carry_out(actions, now, out);
    }

    /// A connection ended.
    pub fn closed(&mut self, client: ClientId, now: Time, out: &mut Outbox) {
        let mut actions = Actions::new();
        self.leader.closed(client, &self.state, now, &mut actions);
        self.carry_out(actions, now, out);
    }

    pub fn tick(&mut self, now: Time, out: &mut Outbox) {
        let mut actions = Actions::new();
        self.leader.tick(&self.state, now, &mut actions);
        self.carry_out(actions, now, out);
    }

    pub fn wakes_at(&self) -> Time {
        self.leader.wakes_at()
    }

    fn carry_out(&mut self, actions: Actions, now: Time, out: &mut Outbox) {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            let mut more = Actions::new();
            match action {
                Action::Send { client, notice } => out.push((client, notice)),
                Action::Propose { ticket, command } => {
                    let reply = self.state.apply(command.clone());
                    self.leader.applied(Some(ticket), &command, &reply, &self.state, now, &mut more);
                }
                Action::Confirm { ticket } => self.leader.confirmed(ticket, &self.state, now, &mut more),
            }
            queue.extend(more);
        }
    }
}
