//! What the metadata group agrees on: cluster map, catalog, nodes and proxies, as a pure function of commands in their order.
//!
//! No time and no connections: when a node counts as dead, what is to be moved and who is told are decided by the leader, which proposes commands.
//! A command that was overtaken by another finds that what it names has changed, and does nothing.

mod replicas;
mod membership;
mod schema;

pub use replicas::{holders, least_loaded};

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlError;
use toroid_common::id::{
    CatalogVersion, ClusterId, Epoch, Incarnation, MapVersion, NodeId, PartitionId, RequestId, TransactionId, WorkerId,
};
use toroid_common::map::{ClusterMap, NodeEntry};
use toroid_common::transaction::Fate;
use toroid_common::wire::{CatalogChange, ChangeError, ChangeId, NodeAnnouncement, NodeLife, Proposal};

/// How a cluster is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    pub cluster: ClusterId,
    /// So many nodes are waited for, for some time, before the first map is made.
    pub nodes: usize,
    pub copies: u8,
    /// Below so many replicas of a partition its writes wait.
    pub min_copies: u8,
    pub partitions: u16,
}

/// A change of the state, proposed by the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Makes the cluster, once.
    Found(Founding),
    /// A proxy's sender of requests comes to life.
    AllocateIncarnation,
    /// A proxy's incarnation is dead.
    Fence {
        incarnation: Incarnation,
    },
    /// A node's process is there. `dead`: the incarnation of its number that the leader does not hear of.
    Join {
        announcement: NodeAnnouncement,
        dead: Option<Incarnation>,
    },
    /// The first map, over all nodes that are up.
    Form,
    /// All replicas of the first map are in place.
    Ready,
    /// The node was not heard of for the grace period, and neither were these others: a silent node is nobody's heir.
    Expire {
        node: NodeId,
        incarnation: Incarnation,
        others: Vec<(NodeId, Incarnation)>,
    },
    /// It has been down for so long that its replicas are made elsewhere.
    Abandon {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// It is heard of again.
    Revive {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// It is about to stop.
    Leave {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// It stops now, and is nobody's primary.
    Depart {
        node: NodeId,
        incarnation: Incarnation,
    },
    Drain {
        node: NodeId,
    },
    Remove {
        node: NodeId,
    },
    /// Without a least number that stays, as far as it may be.
    SetCopies {
        copies: u8,
        min_copies: Option<u8>,
    },
    /// Partitions without a living replica begin again, empty: once, however often it is asked for under this identity.
    Recover {
        id: u64,
    },
    /// A primary asks for another configuration.
    Propose(Proposal),
    /// The nodes that the ring wants for each partition, the primary's first.
    Retarget {
        targets: Vec<Vec<NodeId>>,
    },
    AddJoining {
        partition: PartitionId,
        epoch: Epoch,
        worker: WorkerId,
    },
    NameSuccessor {
        partition: PartitionId,
        epoch: Epoch,
        to: WorkerId,
    },
    /// A backup that is not needed any more.
    Release {
        partition: PartitionId,
        epoch: Epoch,
        worker: WorkerId,
    },
    Change {
        id: Option<ChangeId>,
        expected: CatalogVersion,
        change: CatalogChange,
    },
    /// All primaries have this catalog version in their acknowledged logs, or one could not.
    CatalogTaken {
        version: CatalogVersion,
        fault: Option<SqlError>,
    },
    /// A participant asks what became of a transaction whose anchor the metadata group is: one that is not committed is aborted.
    Decide {
        transaction: TransactionId,
    },
    /// A participant has heard that it is committed, and has applied its part.
    Confirmed {
        transaction: TransactionId,
        participant: PartitionId,
    },
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// What the command names has changed: nothing was done.
    Overtaken,
    /// For whoever asked.
    Refused(String),
    Incarnation(Incarnation),
    Joined {
        cluster: ClusterId,
        node: NodeId,
        incarnation: Incarnation,
    },
    Recovered(Vec<PartitionId>),
    /// The catalog after the beginning of a change.
    Changing(Result<CatalogVersion, ChangeError>),
    /// A change has ended so.
    Changed(Result<CatalogVersion, SqlError>),
    /// A transaction that changed the catalog is committed, or cannot be.
    Published(Result<CatalogVersion, ChangeError>),
    /// What became of a transaction.
    Fate(Fate),
}

/// A storage node that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub entry: NodeEntry,
    /// Drawn at the start of the process.
    pub process: u64,
    /// Who it is in the metadata group, if it keeps the group's log.
    pub group_member: Option<u32>,
    pub life: NodeLife,
}

impl Member {
    /// It can take replicas and keep them.
    pub fn is_up(&self) -> bool {
        self.life == NodeLife::Up
    }
}

/// How many replicas the ring wanted elsewhere, and how many are there by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    pub required: u64,
    pub moved: u64,
    /// Lost replicas that were made again where the ring had them.
    pub repaired: u64,
}

/// How often nodes were given up for silence, and how often one that was lived and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silences {
    pub expired: u64,
    pub returned: u64,
}

/// A schema change that workers are taking up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changing {
    before: Catalog,
    id: Option<RequestId>,
    /// Why it is being taken back.
    fault: Option<SqlError>,
    /// It is not taken back, whatever workers say: it decides, or takes back itself.
    fixed: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// The change itself, with its indexes being built.
    Build,
    /// New indexes ready, or the change undone.
    Settle,
}

/// The replicated state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    founding: Option<Founding>,
    members: BTreeMap<NodeId, Member>,
    /// Processes of nodes that were removed.
    removed: BTreeMap<NodeId, u64>,
    map: Option<ClusterMap>,
    /// Per partition: the map in which its present primary became it.
    primary_since: Vec<MapVersion>,
    targets: Vec<Vec<NodeId>>,
    /// Replicas that the ring wants where they have never been.
    owed: BTreeSet<(PartitionId, NodeId)>,
    moves: Moves,
    ready: bool,
    catalog: Catalog,
    changing: Option<Changing>,
    /// How changes ended whose proxies may ask again.
    changed: BTreeMap<RequestId, Result<CatalogVersion, SqlError>>,
    /// Transactions that changed the catalog and are committed, with the participants that may not know.
    committed: BTreeMap<TransactionId, BTreeSet<PartitionId>>,
    /// Transactions that are decided, and whose changes of the catalog are published or taken back when the change that is under way is over.
    ending: BTreeMap<TransactionId, Fate>,
    next_incarnation: u64,
    proxies: BTreeSet<Incarnation>,
    silences: Silences,
    /// The last recovery that was asked for, with what it made anew.
    recovered: Option<(u64, Vec<PartitionId>)>,
}

impl Default for State {
    fn default() -> State {
        State {
            founding: None,
            members: BTreeMap::new(),
            removed: BTreeMap::new(),
            map: None,
            primary_since: Vec::new(),
            targets: Vec::new(),
            owed: BTreeSet::new(),
            moves: Moves::default(),
            ready: false,
            catalog: Catalog::empty(),
            changing: None,
            changed: BTreeMap::new(),
            committed: BTreeMap::new(),
            ending: BTreeMap::new(),
            next_incarnation: 1,
            proxies: BTreeSet::new(),
            silences: Silences::default(),
            recovered: None,
        }
    }
}

impl State {
    /// Takes the next command.
    pub fn apply(&mut self, command: Command) -> Reply {
        let before = self.map.clone();
        let reply = self.dispatch(command);
        self.publish(before.as_ref());
        reply
    }

    fn dispatch(&mut self, command: Command) -> Reply {
        match command {
            Command::Found(founding) => self.found(founding),
            Command::AllocateIncarnation => {
                let incarnation = self.allocate();
                self.proxies.insert(incarnation);
                Reply::Incarnation(incarnation)
            }
            Command::Fence { incarnation } => {
                self.forget_changes(incarnation, u64::MAX);
                done_if(self.proxies.remove(&incarnation))
            }
            Command::Join { announcement, dead } => self.join(announcement, dead),
            Command::Form => self.form(),
            Command::Ready => done_if(self.map.is_some() && !std::mem::replace(&mut self.ready, true)),
            Command::Expire { node, incarnation, others } => {
                let before = self.count_down();
                let reply = self.expire((node, incarnation), others);
                self.silences.expired += self.count_down().saturating_sub(before);
                reply
            }
            Command::Abandon { node, incarnation } => {
                self.change_life(node, incarnation, &[NodeLife::Down], NodeLife::Away)
            }
            Command::Revive { node, incarnation } => self.revive(node, incarnation),
            Command::Leave { node, incarnation } => {
                self.change_life(node, incarnation, &[NodeLife::Up], NodeLife::Leaving)
            }
            // A primary may answer under its lease: of what it has others become primary after its silence.
            Command::Depart { node, .. } if self.is_primary(node) => Reply::Overtaken,
            Command::Depart { node, incarnation } => self.expire((node, incarnation), Vec::new()),
            Command::Drain { node } => self.drain(node),
            Command::Remove { node } => self.remove(node),
            Command::SetCopies { copies, min_copies } => self.set_copies(copies, min_copies),
            Command::Recover { id } => self.recover_once(id),
            Command::Propose(proposal) => self.reconfigure(proposal),
            Command::Retarget { targets } => self.retarget(targets),
            Command::AddJoining { partition, epoch, worker } => self.add_joining(partition, epoch, worker),
            Command::NameSuccessor { partition, epoch, to } => self.name_successor(partition, epoch, to),
            Command::Release { partition, epoch, worker } => self.release(partition, epoch, worker),
            Command::Change { id, expected, change } => self.change(id, expected, change),
            Command::CatalogTaken { version, fault } => self.catalog_taken(version, fault),
            Command::Decide { transaction } => self.decide(transaction),
            Command::Confirmed { transaction, participant } => {
                self.confirmed(transaction, participant);
                Reply::Done
            }
        }
    }

    /// Gives the map its next version if the command changed it.
    fn publish(&mut self, before: Option<&ClusterMap>) {
        let Some(map) = &mut self.map else { return };
        map.nodes = self.members.values().map(|member| member.entry.clone()).collect();
        let Some(before) = before else { return };
        if *map == *before {
            return;
        }
        map.version = before.version.next();
        for ((assignment, former), since) in map.partitions.iter().zip(&before.partitions).zip(&mut self.primary_since)
        {
            if assignment.primary != former.primary {
                *since = map.version;
            }
        }
    }

    fn allocate(&mut self) -> Incarnation {
        self.next_incarnation += 1;
        Incarnation(self.next_incarnation)
    }

    pub fn founding(&self) -> Option<&Founding> {
        self.founding.as_ref()
    }

    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    pub fn map(&self) -> Option<&ClusterMap> {
        self.map.as_ref()
    }

    /// The map in which the partition's present primary became it.
    pub fn primary_since(&self, partition: PartitionId) -> MapVersion {
        self.primary_since.get(usize::from(partition.0)).copied().unwrap_or_default()
    }

    /// The nodes that the ring wants for a partition, the primary's first.
    pub fn target(&self, partition: PartitionId) -> &[NodeId] {
        self.targets.get(usize::from(partition.0)).map_or(&[], Vec::as_slice)
    }

    pub fn targets(&self) -> &[Vec<NodeId>] {
        &self.targets
    }

    /// Whether the ring wants a replica there that has never been there.
    pub fn owes(&self, partition: PartitionId, node: NodeId) -> bool {
        self.owed.contains(&(partition, node))
    }

    /// Whether the node is primary of any partition.
    pub fn is_primary(&self, node: NodeId) -> bool {
        let mut partitions = self.map.iter().flat_map(|map| &map.partitions);
        partitions.any(|assignment| assignment.primary.is_some_and(|primary| primary.node == node))
    }

    fn count_down(&self) -> u64 {
        self.members.values().filter(|member| member.life == NodeLife::Down).count() as u64
    }

    pub fn silences(&self) -> Silences {
        self.silences
    }

    pub fn moves(&self) -> Moves {
        self.moves
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn is_changing(&self) -> bool {
        self.changing.is_some()
    }

    pub fn proxies(&self) -> &BTreeSet<Incarnation> {
        &self.proxies
    }

    /// Every incarnation below is a node's, lives, or is dead.
    pub fn given_below(&self) -> Incarnation {
        Incarnation(self.next_incarnation + 1)
    }

    /// Whether the worker's node is up, or leaving.
    pub fn lives(&self, worker: WorkerId) -> bool {
        self.member(worker.node).is_some_and(|member| matches!(member.life, NodeLife::Up | NodeLife::Leaving))
    }
}

fn done_if(done: bool) -> Reply {
    if done { Reply::Done } else { Reply::Overtaken }
}
