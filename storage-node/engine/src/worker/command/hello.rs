//! Hello and its answers: who may talk to whom.

use super::super::Worker;
use super::super::event::{Action, Actions, ConnectionId};
use super::super::links::LinkState;
use super::super::peers::{Peer, ProxyPeer};
use super::super::replica::Replica;
use crate::gate::Time;
use toroid_common::id::{PartitionId, WorkerId};
use toroid_common::wire::{Hello, Message, PROTOCOL_VERSION, Refused, Role, Welcome};

impl Worker {
    /// Somebody who connected says who it is.
    pub(in super::super) fn hello(
        &mut self,
        connection: ConnectionId,
        hello: &Hello,
        now: Time,
        actions: &mut Actions,
    ) {
        if self.map.is_none() && matches!(hello.role, Role::Worker { .. }) {
            // A node that heard of the map first: it is judged when we have.
            if self.early.iter().any(|(waiting, _)| *waiting == connection) {
                return self.close(connection, "a second hello".to_owned(), now, actions);
            }
            return self.early.push((connection, hello.clone()));
        }
        match self.greet(connection, hello) {
            Ok(peer) => {
                self.peers.add(connection, peer);
                let welcome = Message::Welcome(Welcome {
                    cluster: self.identity.cluster,
                    worker: Some(self.identity.worker),
                    incarnation: self.identity.incarnation,
                });
                actions.send(connection, |out| welcome.write(out));
            }
            Err(reason) => {
                let refused = Message::Refused(Refused { reason: reason.clone() });
                actions.send(connection, |out| refused.write(out));
                self.close(connection, reason, now, actions);
            }
        }
    }

    /// The map is there: workers that said hello too early are answered.
    pub(super) fn greet_early(&mut self, now: Time, actions: &mut Actions) {
        for (connection, hello) in std::mem::take(&mut self.early) {
            if self.peers.contains(connection) {
                self.hello(connection, &hello, now, actions);
            }
        }
    }

    fn greet(&self, connection: ConnectionId, hello: &Hello) -> Result<Peer, String> {
        if !matches!(self.peers.get(connection), Some(Peer::Unknown)) {
            return Err("a second hello".to_owned());
        }
        if hello.version != PROTOCOL_VERSION {
            return Err(format!("protocol version {} is not {PROTOCOL_VERSION}", hello.version));
        }
        if hello.cluster != Some(self.identity.cluster) {
            return Err("the cluster is another one".to_owned());
        }
        match hello.role {
            Role::Proxy { incarnation } => Ok(Peer::Proxy(ProxyPeer::new(incarnation))),
            Role::Worker { worker, incarnation } => {
                let map = self.map.as_ref().ok_or("no cluster map yet")?;
                match map.node(worker.node) {
                    Some(node) if node.incarnation == incarnation => Ok(Peer::Primary(worker)),
                    Some(_) | None => Err(format!("worker {worker} is not the one in the cluster map")),
                }
            }
            Role::Client | Role::Node { .. } => Err("workers serve proxies and other workers only".to_owned()),
        }
    }

    /// Our connection to a backup's worker stands.
    pub(in super::super) fn connected(&mut self, connection: ConnectionId, worker: WorkerId, actions: &mut Actions) {
        let Some(link) = self.links.get_mut(&worker) else {
            return actions.push(Action::Close { connection, reason: "no longer wanted".to_owned() });
        };
        link.state = LinkState::Greeting(connection);
        self.peers.add(connection, Peer::Backup { worker, welcome: false });
        let hello = Message::Hello(Hello {
            version: PROTOCOL_VERSION,
            cluster: Some(self.identity.cluster),
            role: Role::Worker { worker: self.identity.worker, incarnation: self.identity.incarnation },
        });
        actions.send(connection, |out| hello.write(out));
    }

    pub(in super::super) fn connect_failed(&mut self, worker: WorkerId, now: Time) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.down(now);
        }
    }

    /// A backup's worker takes us: from now on it gets what it has not confirmed.
    pub(in super::super) fn welcome(
        &mut self,
        connection: ConnectionId,
        welcome: &Welcome,
        now: Time,
        actions: &mut Actions,
    ) {
        let expected = match self.peers.get_mut(connection) {
            Some(Peer::Backup { worker, welcome: greeted @ false }) if welcome.worker == Some(*worker) => {
                *greeted = true;
                *worker
            }
            Some(_) | None => {
                return self.close(connection, "a welcome from the wrong worker".to_owned(), now, actions);
            }
        };
        if let Some(link) = self.links.get_mut(&expected) {
            link.state = LinkState::Up(connection);
            for (index, replica) in self.replicas.iter_mut().enumerate() {
                if let Some(Replica::Primary(primary)) = replica {
                    primary.resend(expected);
                    link.touch(PartitionId(index as u16));
                }
            }
        }
        self.report_map(actions);
    }

    pub(in super::super) fn refused(
        &mut self,
        connection: ConnectionId,
        reason: &str,
        now: Time,
        actions: &mut Actions,
    ) {
        self.close(connection, format!("refused: {reason}"), now, actions);
    }
}
