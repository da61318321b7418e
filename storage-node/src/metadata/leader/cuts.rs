//! Cuts and deadlocks at the leader: what the service orders goes to nodes and readers, what workers say comes to it.

use super::{Action, Actions, ClientId, Leader, Ticket, send};
use crate::metadata::cuts::{Order, Orders, Reader};
use crate::metadata::state::State;
use toroid_common::id::{CutId, NodeId, WorkerId};
use toroid_common::map::Assignment;
use toroid_common::wire::{Captured, LockWaits, NoticeBody};

impl Leader {
    pub(super) fn open_cut(&mut self, client: ClientId, number: u32, state: &State, out: &mut Actions) {
        self.cuts.open(Reader { client, number });
        self.step_cuts(state, out);
    }

    pub(super) fn close_cut(&mut self, client: ClientId, cut: CutId, out: &mut Actions) {
        let mut orders = Orders::new();
        self.cuts.close(client, cut, &mut orders);
        self.carry_out_cuts(orders, out);
    }

    pub(super) fn captured(&mut self, client: ClientId, captured: &Captured, state: &State, out: &mut Actions) {
        if self.lines.get(&captured.worker.node) == Some(&client) {
            let mut orders = Orders::new();
            self.cuts.committed_here(state.committed());
            self.cuts.captured(captured, self.now, &mut orders);
            self.carry_out_cuts(orders, out);
            self.step_cuts(state, out);
        }
    }

    /// A node watches from now on over this connection, unless it does so over a newer one: what it said over a former one may come late, behind a cut link,
    /// and that connection is given up already. Connections are numbered as they are accepted.
    pub(super) fn begin_line(&mut self, client: ClientId, node: NodeId, out: &mut Actions) {
        if self.lines.get(&node).is_some_and(|newer| *newer > client) {
            return;
        }
        self.end_line(node, out);
        self.lines.insert(node, client);
        let (term, read) = self.cuts.read();
        send(client, 0, NoticeBody::Cuts { term, read }, out);
    }

    /// What was said to a node and heard of it over its former line counts no more.
    pub(super) fn end_line(&mut self, node: NodeId, out: &mut Actions) {
        self.deadlocks.forget(node);
        if self.lines.remove(&node).is_some() {
            let mut orders = Orders::new();
            self.cuts.line_ended(node, self.now, &mut orders);
            self.carry_out_cuts(orders, out);
        }
    }

    pub(super) fn reader_gone(&mut self, client: ClientId, state: &State, out: &mut Actions) {
        let mut orders = Orders::new();
        self.cuts.client_gone(client, &mut orders);
        self.carry_out_cuts(orders, out);
        self.step_cuts(state, out);
    }

    /// Voids and begins rounds.
    pub(super) fn step_cuts(&mut self, state: &State, out: &mut Actions) {
        let Leader { cuts, lines, clients, .. } = self;
        let map = state.map();
        let reached = |node: NodeId| {
            let life = map.and_then(|map| map.node(node)).map(|entry| (node, entry.incarnation));
            let line = lines.get(&node).and_then(|client| clients.get(client));
            life.is_some() && line.is_some_and(|client| client.node == life)
        };
        let mut orders = Orders::new();
        let lost = |assignment: &Assignment| state.is_lost(assignment);
        cuts.step(map.filter(|_| state.is_ready()), lost, reached, self.now, &mut orders);
        self.carry_out_cuts(orders, out);
    }

    /// Whether this was a confirmation for a cut.
    pub(super) fn cut_confirmed(&mut self, ticket: Ticket, out: &mut Actions) -> bool {
        let Some(cut) = self.cut_tickets.remove(&ticket) else { return false };
        let mut orders = Orders::new();
        self.cuts.confirmed(cut, &mut orders);
        self.carry_out_cuts(orders, out);
        true
    }

    /// Whether this was a confirmation for a cut that did not come.
    pub(super) fn cut_failed(&mut self, ticket: Ticket, out: &mut Actions) -> bool {
        let Some(cut) = self.cut_tickets.remove(&ticket) else { return false };
        for reader in self.cuts.unconfirmed(cut) {
            send(reader.client, reader.number, NoticeBody::NotLeader { leader: None }, out);
        }
        true
    }

    fn carry_out_cuts(&mut self, orders: Orders, out: &mut Actions) {
        for order in orders {
            match order {
                Order::Capture { nodes, cut, map } => self.tell(&nodes, &NoticeBody::Capture { cut, map }, out),
                Order::Release { nodes, cut, committed } => {
                    self.tell(&nodes, &NoticeBody::Release { cut, committed }, out);
                }
                Order::Drop { nodes, cut } => self.tell(&nodes, &NoticeBody::DropCut(cut), out),
                Order::Confirm(cut) => {
                    self.tickets += 1;
                    self.cut_tickets.insert(self.tickets, cut);
                    out.push(Action::Confirm { ticket: self.tickets });
                }
                Order::Give { reader, cut, map } => {
                    send(reader.client, reader.number, NoticeBody::Cut { cut, map }, out);
                }
            }
        }
    }

    fn tell(&self, nodes: &[NodeId], body: &NoticeBody, out: &mut Actions) {
        for client in nodes.iter().filter_map(|node| self.lines.get(node)) {
            send(*client, 0, body.clone(), out);
        }
    }

    pub(super) fn waits(&mut self, client: ClientId, worker: WorkerId, waits: Vec<LockWaits>, out: &mut Actions) {
        if self.lines.get(&worker.node) != Some(&client) {
            return;
        }
        for victim in self.deadlocks.report(worker, waits) {
            let Some(line) = self.lines.get(&victim.worker.node) else { continue };
            let (worker, transaction, wait, detail) = (victim.worker, victim.transaction, victim.wait, victim.detail);
            send(*line, 0, NoticeBody::Deadlock { worker, transaction, wait, detail }, out);
        }
    }
}
