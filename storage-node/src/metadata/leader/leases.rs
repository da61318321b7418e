//! Leases: granted after a majority has confirmed the term, from a moment after the renewal's arrival.

use super::{Action, Actions, Asker, ClientId, Leader, Ticket, send};
use crate::metadata::state::{Command, State};
use toroid_common::id::{Incarnation, NodeId};
use toroid_common::wire::{NodeLife, NoticeBody};

/// Who waits for a confirmation: one is under way at a time, and who comes meanwhile waits for the next.
#[derive(Debug, Default)]
pub(super) struct Leases {
    under_way: Option<(Ticket, Vec<Renewal>)>,
    next: Vec<Renewal>,
}

#[derive(Clone, Debug)]
struct Renewal {
    client: ClientId,
    number: u32,
    /// `None` for a proxy.
    node: Option<(NodeId, Incarnation)>,
}

impl Leases {
    /// Whether this was the confirmation that is under way. Nobody is granted anything; they ask again, here or elsewhere.
    pub(super) fn failed(&mut self, ticket: Ticket, out: &mut Actions) -> bool {
        if self.under_way.as_ref().is_none_or(|(asked, _)| *asked != ticket) {
            return false;
        }
        let waiting = self.under_way.take().into_iter().flat_map(|(_, waiting)| waiting).chain(self.next.drain(..));
        for renewal in waiting {
            send(renewal.client, renewal.number, NoticeBody::NotLeader { leader: None }, out);
        }
        true
    }
}

impl Leader {
    pub(super) fn renew_node(
        &mut self,
        client: ClientId,
        number: u32,
        life: (NodeId, Incarnation),
        state: &State,
        out: &mut Actions,
    ) {
        let (node, incarnation) = life;
        let Some(member) = state.member(node).filter(|member| member.entry.incarnation == incarnation) else {
            let reason = format!("incarnation {incarnation} of node {node} is not in the cluster");
            return send(client, number, NoticeBody::Failed { reason }, out);
        };
        self.detector.heard(node, incarnation);
        self.gone.remove(&incarnation);
        let down = matches!(member.life, NodeLife::Down | NodeLife::Away);
        if down && !self.steps.departed.contains(&incarnation) && !self.life_under_way(node) {
            tracing::info!(%node, %incarnation, "a node that was given up is heard of again");
            self.propose(Asker::Life(node), Command::Revive { node, incarnation }, out);
        }
        self.leases.next.push(Renewal { client, number, node: Some(life) });
        self.confirm_leases(out);
    }

    pub(super) fn renew_proxies(
        &mut self,
        client: ClientId,
        number: u32,
        incarnations: &[Incarnation],
        state: &State,
        out: &mut Actions,
    ) {
        let mut dead = None;
        for incarnation in incarnations {
            match state.proxies().contains(incarnation) {
                true => self.speaks_for_proxy(client, *incarnation),
                false => dead = Some(*incarnation),
            }
        }
        if let Some(incarnation) = dead {
            let reason = format!("incarnation {incarnation} is dead");
            return send(client, number, NoticeBody::Failed { reason }, out);
        }
        self.leases.next.push(Renewal { client, number, node: None });
        self.confirm_leases(out);
    }

    /// This life of a proxy is heard of through this client.
    pub(super) fn speaks_for_proxy(&mut self, client: ClientId, incarnation: Incarnation) {
        self.detector.heard_proxy(incarnation);
        match self.clients.get_mut(&client) {
            Some(client) => {
                client.proxies.insert(incarnation);
            }
            // It was asked for over a connection that has ended since.
            None => self.detector.proxy_ended(incarnation),
        }
    }

    pub(super) fn life_under_way(&self, node: NodeId) -> bool {
        self.under_way(|asker| matches!(asker, Asker::Life(other) if *other == node))
    }

    fn confirm_leases(&mut self, out: &mut Actions) {
        if self.leases.under_way.is_none() && !self.leases.next.is_empty() {
            self.tickets += 1;
            self.leases.under_way = Some((self.tickets, std::mem::take(&mut self.leases.next)));
            out.push(Action::Confirm { ticket: self.tickets });
        }
    }

    /// A majority has confirmed the term after this ticket was asked for.
    pub fn confirmed(&mut self, ticket: Ticket, state: &State, now: toroid_engine::gate::Time, out: &mut Actions) {
        self.look(now);
        if self.cut_confirmed(ticket, out) {
            return;
        }
        let Some((_, waiting)) = self.leases.under_way.take_if(|(asked, _)| *asked == ticket) else { return };
        for Renewal { client, number, node } in waiting {
            let body = match node {
                // A node that is being given up must not believe in its map any longer.
                Some((node, incarnation)) if !self.may_hold(node, incarnation, state) => {
                    NoticeBody::Failed { reason: format!("node {node} was given up: try again") }
                }
                Some(_) | None => NoticeBody::LeaseRenewed { term: self.term },
            };
            send(client, number, body, out);
        }
        self.confirm_leases(out);
    }

    fn may_hold(&self, node: NodeId, incarnation: Incarnation, state: &State) -> bool {
        let up = state.member(node).is_some_and(|member| {
            member.entry.incarnation == incarnation && matches!(member.life, NodeLife::Up | NodeLife::Leaving)
        });
        let expiring = self.steps.expiring.contains(&incarnation);
        up && !expiring
    }
}
