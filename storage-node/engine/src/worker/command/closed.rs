//! Closed: what a lost connection leaves behind.

use super::super::Worker;
use super::super::event::{Action, Actions, ConnectionId};
use super::super::peers::Peer;
use crate::gate::Time;

impl Worker {
    /// Forgets a connection. Answers that wait for it in gates are dropped when their turn comes: the proxy asks again elsewhere.
    pub(in super::super) fn closed(&mut self, connection: ConnectionId, now: Time, actions: &mut Actions) {
        match self.peers.remove(connection) {
            None | Some(Peer::Unknown) => {}
            Some(Peer::Proxy(proxy)) => {
                for ticket in proxy.fragments.into_values() {
                    actions.push(Action::FragmentCancel { ticket });
                }
            }
            Some(Peer::Primary(_)) => self.confirmations.retain(|(to, _)| *to != connection),
            Some(Peer::Backup { worker, .. }) => {
                if let Some(link) = self.links.get_mut(&worker) {
                    link.down(now);
                }
            }
        }
    }
}
