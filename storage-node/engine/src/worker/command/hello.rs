//! Hello and its answers: who may talk to whom.

use super::super::Worker;
use super::super::event::{Action, Actions, ConnectionId};
use super::super::links::LinkState;
use super::super::peers::{Peer, ProxyPeer};
use crate::gate::Time;
use std::cmp::Ordering;
use toroid_common::id::{Incarnation, WorkerId};
use toroid_common::map::ClusterMap;
use toroid_common::wire::{Hello, Message, PROTOCOL_VERSION, Refused, Role, Welcome};

/// What becomes of somebody who says hello.
enum Greeting {
    Take(Peer),
    /// It knows a later map than we do.
    AwaitMap,
    Refuse(String),
}

impl Worker {
    /// Somebody who connected says who it is.
    pub(in super::super) fn hello(
        &mut self,
        connection: ConnectionId,
        hello: &Hello,
        now: Time,
        actions: &mut Actions,
    ) {
        if self.early_hellos.iter().any(|(waiting, _)| *waiting == connection) {
            return self.close(connection, "a second hello".to_owned(), now, actions);
        }
        match self.greet(connection, hello) {
            Greeting::Take(peer) => self.take_peer(connection, peer, now, actions),
            Greeting::AwaitMap => self.early_hellos.push((connection, hello.clone())),
            Greeting::Refuse(reason) => {
                let refused = Message::Refused(Refused { reason: reason.clone() });
                actions.send(connection, |out| refused.write(out));
                self.close(connection, reason, now, actions);
            }
        }
    }

    /// The map is a new one: workers that said hello too early are judged again.
    pub(super) fn greet_early(&mut self, now: Time, actions: &mut Actions) {
        for (connection, hello) in std::mem::take(&mut self.early_hellos) {
            if self.peers.contains(connection) {
                self.hello(connection, &hello, now, actions);
            }
        }
    }

    fn greet(&self, connection: ConnectionId, hello: &Hello) -> Greeting {
        if !matches!(self.peers.get(connection), Some(Peer::Unknown)) {
            return Greeting::Refuse("a second hello".to_owned());
        }
        if hello.version != PROTOCOL_VERSION {
            return Greeting::Refuse(format!("protocol version {} is not {PROTOCOL_VERSION}", hello.version));
        }
        if hello.cluster != Some(self.identity.cluster) {
            return Greeting::Refuse("the cluster is another one".to_owned());
        }
        match hello.role {
            Role::Proxy { incarnation } => Greeting::Take(Peer::Proxy(ProxyPeer::new(incarnation))),
            Role::Worker { worker, incarnation } => match self.life(worker).map(|known| incarnation.cmp(&known)) {
                Some(Ordering::Equal) => Greeting::Take(Peer::Primary(worker)),
                Some(Ordering::Less) => Greeting::Refuse(format!("worker {worker} has begun another life")),
                Some(Ordering::Greater) | None => Greeting::AwaitMap,
            },
            Role::Client | Role::Node { .. } | Role::Member { .. } => {
                Greeting::Refuse("workers serve proxies and other workers only".to_owned())
            }
        }
    }

    /// The incarnation of a worker that the map knows.
    fn life(&self, worker: WorkerId) -> Option<Incarnation> {
        self.map.as_ref()?.node(worker.node).map(|node| node.incarnation)
    }

    fn take_peer(&mut self, connection: ConnectionId, peer: Peer, now: Time, actions: &mut Actions) {
        let primary = if let Peer::Primary(worker) = peer { Some(worker) } else { None };
        if let Peer::Proxy(proxy) = &peer {
            self.absent.remove(&proxy.incarnation);
        }
        self.peers.add(connection, peer);
        if let Some(worker) = primary
            && let Some(former) = self.primaries.insert(worker, connection)
        {
            self.close(former, format!("worker {worker} has connected again"), now, actions);
            self.primaries.insert(worker, connection);
        }
        let welcome = Message::Welcome(Welcome {
            cluster: self.identity.cluster,
            worker: Some(self.identity.worker),
            incarnation: self.identity.incarnation,
        });
        actions.send(connection, |out| welcome.write(out));
        if primary.is_some() {
            self.tell_ends(actions);
        }
    }

    /// Closes connections of workers' former lives.
    pub(super) fn close_former_lives(&mut self, before: &ClusterMap, now: Time, actions: &mut Actions) {
        let life = |worker: &WorkerId| before.node(worker.node).map(|node| node.incarnation);
        let gone = |(worker, connection): (&WorkerId, &ConnectionId)| {
            (self.life(*worker) != life(worker)).then_some((*worker, *connection))
        };
        let gone: Vec<(WorkerId, ConnectionId)> = self.primaries.iter().filter_map(gone).collect();
        for (worker, connection) in gone {
            self.close(connection, format!("worker {worker} has begun another life"), now, actions);
        }
    }

    /// Our connection to a follower's worker stands.
    pub(in super::super) fn connected(&mut self, connection: ConnectionId, worker: WorkerId, actions: &mut Actions) {
        let Some(link) = self.links.get_mut(&worker).filter(|link| link.state == LinkState::Connecting) else {
            return actions.push(Action::Close { connection, reason: "no longer wanted".to_owned() });
        };
        link.state = LinkState::Greeting(connection);
        self.peers.add(connection, Peer::Follower { worker, welcome: false });
        let hello = Message::Hello(Hello {
            version: PROTOCOL_VERSION,
            cluster: Some(self.identity.cluster),
            role: Role::Worker { worker: self.identity.worker, incarnation: self.identity.incarnation },
        });
        actions.send(connection, |out| hello.write(out));
    }

    pub(in super::super) fn connect_failed(&mut self, worker: WorkerId, now: Time, actions: &mut Actions) {
        if self.links.get(&worker).is_some_and(|link| link.state == LinkState::Connecting) {
            self.link_lost(worker, now, actions);
        }
    }

    /// A follower's worker takes us: from now on its replicas say where their logs end.
    pub(in super::super) fn welcome(
        &mut self,
        connection: ConnectionId,
        welcome: &Welcome,
        now: Time,
        actions: &mut Actions,
    ) {
        let expected = match self.peers.get_mut(connection) {
            Some(Peer::Follower { worker, welcome: greeted @ false }) if welcome.worker == Some(*worker) => {
                *greeted = true;
                *worker
            }
            Some(_) | None => {
                return self.close(connection, "a welcome from the wrong worker".to_owned(), now, actions);
            }
        };
        match self.links.get_mut(&expected) {
            Some(link) if link.state != LinkState::Greeting(connection) => {
                self.close(connection, "a welcome that nobody waits for".to_owned(), now, actions);
            }
            Some(link) if link.incarnation != welcome.incarnation => {
                let reason = format!("worker {expected} has incarnation {}", welcome.incarnation);
                self.close(connection, reason, now, actions);
            }
            Some(link) => {
                link.up(connection, actions);
                self.report_map(actions);
            }
            None => self.close(connection, "no longer wanted".to_owned(), now, actions),
        }
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
