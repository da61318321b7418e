//! The metadata service as a state machine over cluster map and catalog: what is asked, what is answered, what is pushed. Pure.

use super::change;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlError;
use toroid_common::id::{CatalogVersion, ClusterId, Epoch, Incarnation, MapVersion, NodeId, WorkerId};
use toroid_common::map::{Assignment, ClusterMap, NodeEntry, NodeState};
use toroid_common::ring::{self, RingNode};
use toroid_common::wire::{CatalogChange, ChangeError, Control, ControlBody, NodeAnnouncement, Notice, NoticeBody};

/// A connection to the service.
pub type ClientId = u64;

/// How a cluster is formed.
#[derive(Clone, Copy, Debug)]
pub struct Founding {
    pub cluster: ClusterId,
    /// The cluster is formed when so many nodes are there.
    pub nodes: usize,
    pub copies: u8,
    pub partitions: u16,
}

/// The service's state.
#[derive(Debug)]
pub struct Metadata {
    founding: Founding,
    joined: BTreeMap<NodeId, NodeEntry>,
    map: Option<ClusterMap>,
    /// Nodes whose workers have taken the map up.
    in_place: BTreeSet<NodeId>,
    catalog: Catalog,
    next_incarnation: u64,
    watchers: BTreeSet<ClientId>,
    /// Which connection is which node's.
    nodes: BTreeMap<ClientId, NodeId>,
    changing: Option<Changing>,
    queued: VecDeque<Queued>,
}

#[derive(Debug)]
struct Queued {
    client: ClientId,
    number: u32,
    expected: CatalogVersion,
    change: CatalogChange,
}

/// A change that workers are taking up.
#[derive(Debug)]
struct Changing {
    client: ClientId,
    number: u32,
    before: Catalog,
    /// Workers that have not confirmed the present version.
    waiting: BTreeSet<WorkerId>,
    /// Why it is to be taken back, or is being taken back.
    fault: Option<SqlError>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The change itself, with its indexes being built.
    Build,
    /// New indexes ready, or the change undone.
    Settle,
}

/// What is to be sent, in order.
pub type Outbox = Vec<(ClientId, Notice)>;

impl Metadata {
    pub fn new(founding: Founding) -> Metadata {
        Metadata {
            founding,
            joined: BTreeMap::new(),
            map: None,
            in_place: BTreeSet::new(),
            catalog: Catalog::empty(),
            next_incarnation: 1,
            watchers: BTreeSet::new(),
            nodes: BTreeMap::new(),
            changing: None,
            queued: VecDeque::new(),
        }
    }

    /// Takes one request.
    pub fn control(&mut self, client: ClientId, control: Control, out: &mut Outbox) {
        let number = control.number;
        match control.body {
            ControlBody::AllocateIncarnation => {
                let incarnation = self.allocate();
                reply(client, number, NoticeBody::Incarnation(incarnation), out);
            }
            ControlBody::Watch => self.watch(client, out),
            ControlBody::Change { expected, change } => {
                self.queued.push_back(Queued { client, number, expected, change });
                self.next_change(out);
            }
            ControlBody::Join(announcement) => self.join(client, number, announcement, out),
            ControlBody::CatalogApplied { worker, version, result, .. } => {
                self.catalog_applied(worker, version, result, out);
            }
            ControlBody::MapApplied { version } => self.map_applied(client, version, out),
            // The map does not change yet.
            ControlBody::Propose(_) => {}
            ControlBody::RenewLease { node, incarnation } => {
                let body = match self.joined.get(&node) {
                    Some(entry) if entry.incarnation == incarnation => NoticeBody::LeaseRenewed { term: 1 },
                    Some(_) | None => NoticeBody::Failed { reason: format!("node {node} has no lease") },
                };
                reply(client, number, body, out);
            }
            ControlBody::RenewProxies { .. } => reply(client, number, NoticeBody::LeaseRenewed { term: 1 }, out),
            ControlBody::Leave { .. }
            | ControlBody::Drain { .. }
            | ControlBody::Remove { .. }
            | ControlBody::SetCopies { .. }
            | ControlBody::Recover
            | ControlBody::Status => {
                let reason = "this cluster cannot be changed yet".to_owned();
                reply(client, number, NoticeBody::Failed { reason }, out);
            }
        }
    }

    /// A connection ended. Its changes go on; nobody hears of them.
    pub fn closed(&mut self, client: ClientId) {
        self.watchers.remove(&client);
        self.nodes.remove(&client);
    }

    fn allocate(&mut self) -> Incarnation {
        self.next_incarnation += 1;
        Incarnation(self.next_incarnation)
    }

    fn is_ready(&self) -> bool {
        self.map.as_ref().is_some_and(|map| map.nodes.iter().all(|node| self.in_place.contains(&node.id)))
    }

    fn watch(&mut self, client: ClientId, out: &mut Outbox) {
        self.watchers.insert(client);
        if let Some(map) = &self.map {
            reply(client, 0, NoticeBody::Map(map.clone()), out);
        }
        reply(client, 0, NoticeBody::Catalog(self.catalog.clone()), out);
        if self.is_ready() {
            reply(client, 0, NoticeBody::Ready, out);
        }
    }

    fn push(&self, body: &NoticeBody, out: &mut Outbox) {
        out.extend(self.watchers.iter().map(|client| (*client, Notice { number: 0, body: body.clone() })));
    }

    fn join(&mut self, client: ClientId, number: u32, mut node: NodeAnnouncement, out: &mut Outbox) {
        if node.node == NodeId(0) {
            node.node = NodeId(self.joined.last_key_value().map_or(0, |(last, _)| last.0) + 1);
        }
        let known = self.joined.get(&node.node).map(|entry| (entry.incarnation, entry.workers == node.workers));
        let incarnation = match (known, &self.map) {
            // The same process, over a new connection.
            (Some((incarnation, true)), _) => incarnation,
            (Some((_, false)) | None, Some(_)) => {
                let reason = "the cluster is formed: nodes cannot join it later yet".to_owned();
                return reply(client, number, NoticeBody::Failed { reason }, out);
            }
            (Some((_, false)) | None, None) => self.allocate(),
        };
        self.nodes.insert(client, node.node);
        let entry = NodeEntry {
            id: node.node,
            incarnation,
            control: node.control,
            workers: node.workers,
            zone: node.zone,
            capacity: node.capacity,
            state: NodeState::Serving,
        };
        self.joined.insert(node.node, entry);
        let joined = NoticeBody::Joined { cluster: self.founding.cluster, node: node.node, incarnation };
        reply(client, number, joined, out);
        if self.map.is_none() && self.joined.len() >= self.founding.nodes {
            let map = self.form();
            self.push(&NoticeBody::Map(map.clone()), out);
            self.map = Some(map);
        }
    }

    /// Places all partitions, once.
    fn form(&self) -> ClusterMap {
        let nodes: Vec<NodeEntry> = self.joined.values().cloned().collect();
        let on_ring: Vec<RingNode> = nodes
            .iter()
            .map(|node| RingNode {
                id: node.id,
                workers: node.workers.len() as u16,
                zone: node.zone.clone(),
                capacity: node.capacity,
            })
            .collect();
        let holders = ring::place(&on_ring, self.founding.partitions, usize::from(self.founding.copies));
        let partitions = holders
            .into_iter()
            .map(|mut holders| {
                let backups = holders.split_off(holders.len().min(1));
                let primary = holders.first().copied().unwrap_or_default();
                Assignment::fresh(Epoch(1), primary, backups)
            })
            .collect();
        ClusterMap {
            cluster: self.founding.cluster,
            version: MapVersion(1),
            copies: self.founding.copies,
            min_copies: 1,
            nodes,
            partitions,
        }
    }

    fn map_applied(&mut self, client: ClientId, version: MapVersion, out: &mut Outbox) {
        let (Some(node), Some(map)) = (self.nodes.get(&client), &self.map) else { return };
        if map.version == version && self.in_place.insert(*node) && self.is_ready() {
            self.push(&NoticeBody::Ready, out);
        }
    }

    /// Begins the next change that waits, when none is being taken up.
    fn next_change(&mut self, out: &mut Outbox) {
        while self.changing.is_none() {
            let Some(queued) = self.queued.pop_front() else { return };
            let Queued { client, number, expected, change } = queued;
            let have = self.catalog.version;
            let next = match expected == have {
                true => change::apply(&self.catalog, change).map_err(ChangeError::Sql),
                false => Err(ChangeError::Conflict { have }),
            };
            match next {
                Err(error) => reply(client, number, NoticeBody::Changed(Err(error)), out),
                Ok(next) => {
                    let before = std::mem::replace(&mut self.catalog, next);
                    let waiting = BTreeSet::new();
                    let stage = Stage::Build;
                    self.changing = Some(Changing { client, number, before, waiting, fault: None, stage });
                    self.announce(out);
                    self.advance(out);
                }
            }
        }
    }

    /// Pushes the present catalog, whose confirmations are awaited.
    fn announce(&mut self, out: &mut Outbox) {
        self.push(&NoticeBody::Catalog(self.catalog.clone()), out);
        if let Some(changing) = &mut self.changing {
            let workers = |node: &NodeEntry| {
                let id = node.id;
                (0..node.workers.len() as u16).map(move |index| WorkerId { node: id, index })
            };
            changing.waiting = self.joined.values().flat_map(workers).collect();
        }
    }

    fn catalog_applied(
        &mut self,
        worker: WorkerId,
        version: CatalogVersion,
        result: Result<(), SqlError>,
        out: &mut Outbox,
    ) {
        let Some(changing) = &mut self.changing else { return };
        if version != self.catalog.version || !changing.waiting.remove(&worker) {
            return;
        }
        if let (Stage::Build, Err(error), None) = (changing.stage, result, &changing.fault) {
            changing.fault = Some(error);
        }
        self.advance(out);
        self.next_change(out);
    }

    /// Goes on with a change that all nodes have confirmed.
    fn advance(&mut self, out: &mut Outbox) {
        let Some(changing) = &mut self.changing else { return };
        if !changing.waiting.is_empty() {
            return;
        }
        let next = match (changing.stage, &changing.fault) {
            (Stage::Build, Some(_)) => Some(change::take_back(&changing.before, &self.catalog)),
            (Stage::Build, None) => change::finish_indexes(&self.catalog),
            (Stage::Settle, _) => None,
        };
        if let Some(next) = next {
            changing.stage = Stage::Settle;
            self.catalog = next;
            self.announce(out);
            return;
        }
        let Some(Changing { client, number, fault, .. }) = self.changing.take() else { return };
        let result = match fault {
            Some(error) => Err(ChangeError::Sql(error)),
            None => Ok(self.catalog.version),
        };
        reply(client, number, NoticeBody::Changed(result), out);
    }
}

fn reply(client: ClientId, number: u32, body: NoticeBody, out: &mut Outbox) {
    out.push((client, Notice { number, body }));
}
