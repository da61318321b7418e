//! A cluster around the group: nodes that renew their leases, and primaries that do at once what the map asks of them.

use super::super::solo::{Outbox, Solo};
use super::super::state::{Founding, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use toroid_common::id::{ClusterId, Incarnation, NodeId, PartitionId, WorkerId};
use toroid_common::map::{Assignment, ClusterMap};
use toroid_common::wire::{Control, ControlBody, NodeAnnouncement, NoticeBody, Proposal, Reconfigure, Status};
use toroid_engine::gate::Time;

/// The connection that asks for everything that people ask for.
pub(super) const OPERATOR: u64 = 1;
const STEP: u64 = 50_000;

pub(super) struct Cluster {
    pub(super) group: Solo,
    pub(super) now: Time,
    pub(super) out: Outbox,
    number: u32,
    connections: u64,
    /// Living nodes: their connection and incarnation.
    pub(super) nodes: BTreeMap<u32, (u64, Incarnation)>,
    /// Whether primaries do what the map asks for.
    pub(super) obedient: bool,
    pub(super) seen: Option<ClusterMap>,
    pub(super) trace: String,
    /// Most replicas that joined at a time, and most primaries that were to hand over.
    pub(super) most: (usize, usize),
}

pub(super) fn announcement(node: u32, process: u64) -> NodeAnnouncement {
    NodeAnnouncement {
        node: NodeId(node),
        process,
        control: ([127, 0, 0, 1], 1_000 + node as u16).into(),
        workers: (0..2).map(|index| ([127, 0, 0, 1], 2_000 + node as u16 * 10 + index).into()).collect(),
        zone: String::new(),
        capacity: 1,
        member: None,
    }
}

impl Cluster {
    /// Founded, without nodes.
    pub(super) fn founded(nodes: usize, copies: u8, partitions: u16) -> Cluster {
        let founding = Founding { cluster: ClusterId(5), nodes, copies, min_copies: 1, partitions };
        let mut cluster = Cluster {
            group: Solo::new(founding, Time(0)),
            now: Time(0),
            out: Vec::new(),
            number: 0,
            connections: 100,
            nodes: BTreeMap::new(),
            obedient: true,
            seen: None,
            trace: String::new(),
            most: (0, 0),
        };
        cluster.ask(OPERATOR, ControlBody::Watch);
        cluster
    }

    /// With nodes from 1, all in place.
    pub(super) fn of(nodes: u32, copies: u8, partitions: u16) -> Cluster {
        let mut cluster = Cluster::founded(nodes as usize, copies, partitions);
        (1..=nodes).for_each(|node| cluster.start(node));
        cluster.pass(200);
        cluster
    }

    pub(super) fn state(&self) -> &State {
        self.group.state()
    }

    pub(super) fn map(&self) -> &ClusterMap {
        self.state().map().unwrap()
    }

    pub(super) fn assignment(&self, partition: u16) -> &Assignment {
        self.map().assignment(PartitionId(partition)).unwrap()
    }

    /// Asks; returns the replies to that client that came at once.
    pub(super) fn ask(&mut self, client: u64, body: ControlBody) -> Vec<NoticeBody> {
        self.number += 1;
        self.group.control(client, Control { number: self.number, body }, self.now, &mut self.out);
        let number = self.number;
        self.look();
        let taken: Vec<_> = self.out.extract_if(.., |(to, n)| *to == client && n.number == number).collect();
        taken.into_iter().map(|(_, notice)| notice.body).collect()
    }

    pub(super) fn close(&mut self, client: u64) {
        self.group.closed(client, self.now, &mut self.out);
        self.look();
    }

    pub(super) fn status(&mut self) -> Status {
        match &self.ask(OPERATOR, ControlBody::Status)[..] {
            [NoticeBody::Status(status)] => Status::clone(status),
            other => panic!("{other:?}"),
        }
    }

    /// A new process of this node comes, over a new connection.
    pub(super) fn join(&mut self, node: u32, process: u64) -> Result<(), String> {
        self.connections += 1;
        let client = self.connections;
        match &self.ask(client, ControlBody::Join(announcement(node, process)))[..] {
            [NoticeBody::Joined { incarnation, node: named, .. }] => {
                let (incarnation, named) = (*incarnation, named.0);
                self.nodes.insert(named, (client, incarnation));
                self.ask(client, ControlBody::Watch);
                Ok(())
            }
            [NoticeBody::Failed { reason }] => Err(reason.clone()),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn start(&mut self, node: u32) {
        self.connections += 1;
        self.join(node, 7_000 + self.connections).unwrap();
    }

    /// It is not heard of any more; its connection stays open, as if its machine had lost power.
    pub(super) fn silence(&mut self, node: u32) -> (u64, Incarnation) {
        self.nodes.remove(&node).unwrap()
    }

    /// Its process ends.
    pub(super) fn kill(&mut self, node: u32) {
        let (client, _) = self.silence(node);
        self.group.closed(client, self.now, &mut self.out);
    }

    /// Milliseconds go by: nodes renew, primaries obey.
    pub(super) fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds.div_ceil(STEP / 1_000) {
            self.now = self.now.after(STEP);
            for (node, (client, incarnation)) in self.nodes.clone() {
                self.ask(client, ControlBody::RenewLease { node: NodeId(node), incarnation });
                if let Some(version) = self.seen.as_ref().map(|map| map.version) {
                    self.ask(client, ControlBody::MapApplied { version });
                }
            }
            self.group.tick(self.now, &mut self.out);
            self.look();
            if self.obedient {
                self.obey();
            }
        }
    }

    /// What primaries propose, given the map.
    fn obey(&mut self) {
        let Some(map) = self.seen.clone() else { return };
        for (index, assignment) in map.partitions.iter().enumerate() {
            let partition = PartitionId(index as u16);
            let wish = match (assignment.successor, assignment.joining.first()) {
                (Some(successor), _) => Some(Reconfigure::HandOver { since: successor.since }),
                (None, Some(worker)) => self
                    .nodes
                    .get(&worker.node.0)
                    .map(|(_, incarnation)| Reconfigure::Admit { worker: *worker, incarnation: *incarnation }),
                (None, None) => None,
            };
            if let Some(change) = wish {
                self.propose(partition.0, change);
            }
        }
    }

    /// The partition's primary proposes, if its node lives.
    pub(super) fn propose(&mut self, partition: u16, change: Reconfigure) {
        let Assignment { epoch, primary, .. } = *self.assignment(partition);
        let Some((client, _)) = primary.and_then(|primary| self.nodes.get(&primary.node.0)).copied() else { return };
        let proposal = Proposal { partition: PartitionId(partition), epoch, change };
        self.ask(client, ControlBody::Propose(proposal));
    }

    /// Looks at what was pushed: every map is checked, and what it changes goes to the trace.
    fn look(&mut self) {
        let pushed: Vec<_> = self.out.extract_if(.., |(to, notice)| *to == OPERATOR && notice.number == 0).collect();
        for (_, notice) in pushed {
            if let NoticeBody::Map(map) = notice.body {
                check(&map, self.seen.as_ref());
                let joining = map.partitions.iter().map(|a| a.joining.len()).sum();
                let hand_overs = map.partitions.iter().filter(|a| a.successor.is_some()).count();
                self.most = (self.most.0.max(joining), self.most.1.max(hand_overs));
                for (index, assignment) in map.partitions.iter().enumerate() {
                    let former = self.seen.as_ref().and_then(|seen| seen.partitions.get(index));
                    if former.is_some_and(|former| former != assignment) {
                        let ms = self.now.0 / 1_000;
                        writeln!(self.trace, "{ms:>6} p{index} {}", text(assignment)).unwrap();
                    }
                }
                self.seen = Some(map);
            }
        }
    }

    pub(super) fn note(&mut self, what: &str) {
        writeln!(self.trace, "# {what}").unwrap();
    }

    /// The nodes with a full copy of the partition.
    pub(super) fn copies_of(&self, partition: u16) -> BTreeSet<u32> {
        let assignment = self.assignment(partition);
        assignment.primary.iter().chain(&assignment.backups).map(|worker| worker.node.0).collect()
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.map().partitions.len() as u16
    }

    /// Every partition is where the ring wants it, and nothing is under way.
    pub(super) fn assert_settled(&self) {
        for partition in self.partitions() {
            let wanted: BTreeSet<u32> = self.state().target(PartitionId(partition)).iter().map(|node| node.0).collect();
            let assignment = self.assignment(partition);
            assert_eq!(self.copies_of(partition), wanted, "partition {partition}: {}", text(assignment));
            assert!(assignment.joining.is_empty() && assignment.successor.is_none());
            let first = self.state().target(PartitionId(partition))[0];
            assert_eq!(assignment.primary.unwrap().node, first, "partition {partition}");
        }
    }
}

/// What must hold of every map.
fn check(map: &ClusterMap, before: Option<&ClusterMap>) {
    for (index, assignment) in map.partitions.iter().enumerate() {
        let holders: Vec<WorkerId> =
            assignment.primary.iter().chain(&assignment.backups).chain(&assignment.joining).copied().collect();
        let nodes: BTreeSet<NodeId> = holders.iter().map(|worker| worker.node).collect();
        assert_eq!(nodes.len(), holders.len(), "partition {index} is twice on one node: {}", text(assignment));
        assert!(nodes.iter().all(|node| map.node(*node).is_some()), "partition {index}: {}", text(assignment));
        if let Some(successor) = assignment.successor {
            assert!(assignment.backups.contains(&successor.to) && successor.since <= map.version);
        }
        let Some(former) = before.and_then(|before| before.partitions.get(index)) else { continue };
        assert!(assignment.epoch >= former.epoch);
        let same = assignment.primary == former.primary && assignment.backups == former.backups;
        assert!(same || assignment.epoch > former.epoch, "partition {index} changed within its epoch");
        let left = former.joining.iter().any(|worker| !assignment.joining.contains(worker));
        assert!(!left || assignment.epoch > former.epoch, "partition {index}: a joining replica left within an epoch");
        let fresh = assignment.origin != former.origin;
        let held = former.primary.iter().chain(&former.backups).any(|worker| assignment.primary == Some(*worker));
        assert!(fresh || assignment.primary.is_none() || held, "partition {index}: a primary that has no rows");
    }
    assert!(before.is_none_or(|before| before.version < map.version));
}

pub(super) fn text(assignment: &Assignment) -> String {
    let list = |workers: &[WorkerId]| workers.iter().map(|w| w.to_string()).collect::<Vec<_>>().join(" ");
    let mut text = format!("e{} [", assignment.epoch);
    text += &assignment.primary.map_or("-".to_owned(), |worker| worker.to_string());
    if !assignment.backups.is_empty() {
        text += &format!(" | {}", list(&assignment.backups));
    }
    text.push(']');
    if !assignment.joining.is_empty() {
        text += &format!(" joining {}", list(&assignment.joining));
    }
    if let Some(successor) = assignment.successor {
        text += &format!(" successor {} since {}", successor.to, successor.since);
    }
    text
}

/// Compares with `golden/NAME.txt`; `TOROID_GOLDEN=write` writes it instead.
pub(super) fn golden(name: &str, trace: &str) {
    let path = format!("{}/src/metadata/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("TOROID_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, trace).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == trace, "{path} says otherwise:\n{trace}");
}
