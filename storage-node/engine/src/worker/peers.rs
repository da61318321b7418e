//! Who is at the other end of each connection, and the plans that it registered.

use super::event::{ConnectionId, Ticket};
use std::collections::BTreeMap;
use std::sync::Arc;
use toroid_common::id::{Incarnation, PlanId, WorkerId};
use toroid_common::limits::MAX_PLANS_PER_CONNECTION;
use toroid_common::plan::PointPlan;

/// The other end of a connection.
#[derive(Debug)]
pub(super) enum Peer {
    /// Has not said yet.
    Unknown,
    Proxy(ProxyPeer),
    /// A primary's worker that connected to us as its follower.
    Primary(WorkerId),
    /// A follower's worker that we connected to; it has answered our hello or not.
    Follower {
        worker: WorkerId,
        welcome: bool,
    },
}

#[derive(Debug)]
pub(super) struct ProxyPeer {
    pub incarnation: Incarnation,
    plans: BTreeMap<PlanId, Arc<PointPlan>>,
    /// Its running fragments by their sequence.
    pub fragments: BTreeMap<u64, Ticket>,
}

impl ProxyPeer {
    pub(super) fn new(incarnation: Incarnation) -> ProxyPeer {
        ProxyPeer { incarnation, plans: BTreeMap::new(), fragments: BTreeMap::new() }
    }

    pub(super) fn plan(&self, id: PlanId) -> Option<&Arc<PointPlan>> {
        self.plans.get(&id)
    }

    /// False when there are too many.
    #[must_use]
    pub(super) fn register(&mut self, id: PlanId, plan: PointPlan) -> bool {
        if self.plans.len() >= MAX_PLANS_PER_CONNECTION {
            return false;
        }
        self.plans.insert(id, Arc::new(plan));
        true
    }

    pub(super) fn forget(&mut self, id: PlanId) {
        self.plans.remove(&id);
    }
}

/// All connections by slot.
#[derive(Debug, Default)]
pub(super) struct Peers {
    slots: Vec<Option<(u32, Peer)>>,
}

impl Peers {
    pub(super) fn add(&mut self, connection: ConnectionId, peer: Peer) {
        let slot = connection.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        if let Some(entry) = self.slots.get_mut(slot) {
            *entry = Some((connection.generation, peer));
        }
    }

    pub(super) fn get(&self, connection: ConnectionId) -> Option<&Peer> {
        match self.slots.get(connection.slot as usize)? {
            Some((generation, peer)) if *generation == connection.generation => Some(peer),
            Some(_) | None => None,
        }
    }

    pub(super) fn get_mut(&mut self, connection: ConnectionId) -> Option<&mut Peer> {
        match self.slots.get_mut(connection.slot as usize)? {
            Some((generation, peer)) if *generation == connection.generation => Some(peer),
            Some(_) | None => None,
        }
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Peer> {
        let entry = self.slots.get_mut(connection.slot as usize)?;
        entry.take_if(|(generation, _)| *generation == connection.generation).map(|(_, peer)| peer)
    }

    pub(super) fn contains(&self, connection: ConnectionId) -> bool {
        self.get(connection).is_some()
    }

    /// Whether a proxy's life has a connection here.
    pub(super) fn has_proxy(&self, incarnation: Incarnation) -> bool {
        let is_it = |(_, peer): &(u32, Peer)| matches!(peer, Peer::Proxy(proxy) if proxy.incarnation == incarnation);
        self.slots.iter().flatten().any(is_it)
    }

    pub(super) fn proxy_mut(&mut self, connection: ConnectionId) -> Option<&mut ProxyPeer> {
        match self.get_mut(connection)? {
            Peer::Proxy(proxy) => Some(proxy),
            Peer::Unknown | Peer::Primary(_) | Peer::Follower { .. } => None,
        }
    }
}
