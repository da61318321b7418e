//! The cut service: one round at a time, in which all workers capture their partitions; whoever asked before it began shares its cut. Pure.
//!
//! Gates open before a majority has confirmed the leader: nobody reads a cut before its readers are told of it, and they are told only once it is
//! certain that no other leader could have changed the map while the round went on.

use std::collections::{BTreeMap, BTreeSet};
use toroid_common::id::{CutId, Epoch, MapVersion, NodeId, PartitionId, TransactionId, WorkerId};
use toroid_common::map::{Assignment, ClusterMap};
use toroid_common::wire::Captured;
use toroid_engine::gate::Time;

/// A connection to the leader; never used twice.
pub type ClientId = u64;

/// A round that takes longer is void: half of what a worker's gates stand.
const ROUND_MICROS: u64 = 100_000;
/// After a round that a worker refused, or that took too long.
const PAUSE_MICROS: u64 = 5_000;
/// After a round in which a transaction was pending whose anchor is not there to be asked.
const LONG_PAUSE_MICROS: u64 = 250_000;

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Capture {
        nodes: Vec<NodeId>,
        cut: CutId,
        map: MapVersion,
    },
    Release {
        nodes: Vec<NodeId>,
        cut: CutId,
        committed: Option<Vec<TransactionId>>,
    },
    Drop {
        nodes: Vec<NodeId>,
        cut: CutId,
    },
    /// Have a majority confirm that this is still the leader, then call [`Cuts::confirmed`].
    Confirm(CutId),
    /// Tell a reader.
    Give {
        reader: Reader,
        cut: CutId,
        map: MapVersion,
    },
}

pub type Orders = Vec<Order>;

/// Who asked for a cut, under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    pub client: ClientId,
    pub number: u32,
}

/// A round that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    cut: CutId,
    map: MapVersion,
    begun: Time,
    readers: Vec<Reader>,
    /// What is to be captured by whom.
    needed: BTreeMap<WorkerId, Vec<(PartitionId, Epoch)>>,
    captured: BTreeSet<WorkerId>,
    /// With their anchors.
    pending: BTreeMap<TransactionId, PartitionId>,
    committed: BTreeSet<TransactionId>,
}

/// A cut that workers hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kept {
    map: MapVersion,
    nodes: Vec<NodeId>,
    /// Who is to be told of it once the leader is confirmed.
    waiting: Vec<Reader>,
    /// How often each client reads it.
    readers: BTreeMap<ClientId, u32>,
}

/// What the service has done, ever counting up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    pub cuts: u64,
    pub voids: u64,
}

/// The cuts of one leader in one term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cuts {
    last: CutId,
    asked: Vec<Reader>,
    round: Option<Round>,
    kept: BTreeMap<CutId, Kept>,
    /// Workers that have not said what became of this capture: no round can be complete before they are back, or replaced.
    silent: BTreeMap<WorkerId, CutId>,
    paused_until: Time,
    counts: Counts,
}

impl Cuts {
    /// Of a leader that was elected now. One that leads twice in a term must not take what is left of the first time for its own.
    pub fn elected(term: u64, now: Time) -> Cuts {
        Cuts {
            last: CutId { term, round: now.0 },
            asked: Vec::new(),
            round: None,
            kept: BTreeMap::new(),
            silent: BTreeMap::new(),
            paused_until: Time(0),
            counts: Counts::default(),
        }
    }

    /// A cut is wanted: one of a round that begins after this.
    pub fn open(&mut self, reader: Reader) {
        self.asked.push(reader);
    }

    /// A client reads a cut once less.
    pub fn close(&mut self, client: ClientId, cut: CutId, out: &mut Orders) {
        let Some(kept) = self.kept.get_mut(&cut) else { return };
        if let Some(times) = kept.readers.get_mut(&client) {
            *times -= 1;
            if *times == 0 {
                kept.readers.remove(&client);
            }
        }
        self.drop_unread(cut, out);
    }

    /// A client's connection ended.
    pub fn client_gone(&mut self, client: ClientId, out: &mut Orders) {
        let other = |reader: &Reader| reader.client != client;
        self.asked.retain(other);
        if let Some(round) = &mut self.round {
            round.readers.retain(other);
        }
        let cuts: Vec<CutId> = self.kept.keys().copied().collect();
        for cut in cuts {
            if let Some(kept) = self.kept.get_mut(&cut) {
                kept.waiting.retain(other);
                kept.readers.remove(&client);
            }
            self.drop_unread(cut, out);
        }
    }

    /// A node's line ended, or begins anew: nothing that was said over the former one can be relied on.
    pub fn line_ended(&mut self, node: NodeId, now: Time, out: &mut Orders) {
        self.silent.retain(|worker, _| worker.node != node);
        if self.round.as_ref().is_some_and(|round| round.needed.keys().any(|worker| worker.node == node)) {
            self.void(now, out);
            self.silent.retain(|worker, _| worker.node != node);
        }
    }

    /// The cuts that are read, for a node whose line begins.
    pub fn read(&self) -> (u64, Vec<CutId>) {
        (self.last.term, self.kept.keys().copied().collect())
    }

    /// A worker says what it holds, or that it cannot.
    pub fn captured(&mut self, captured: &Captured, now: Time, out: &mut Orders) {
        let Captured { worker, cut, partitions, pending, committed } = captured;
        if self.silent.get(worker).is_some_and(|owed| owed <= cut) {
            self.silent.remove(worker);
        }
        let Some(round) = self.round.as_mut().filter(|round| round.cut == *cut) else { return };
        if !round.needed.contains_key(worker) {
            return;
        }
        let complete = partitions.as_ref() == round.needed.get(worker);
        let in_time = now < round.begun.after(ROUND_MICROS);
        round.captured.insert(*worker);
        if !complete || !in_time {
            return self.void(now, out);
        }
        round.pending.extend(pending.iter().copied());
        round.committed.extend(committed);
        if round.captured.len() == round.needed.len() {
            self.release(now, out);
        }
    }

    fn release(&mut self, now: Time, out: &mut Orders) {
        if self.round.as_ref().is_some_and(Round::is_in_doubt) {
            self.void(now, out);
            self.paused_until = now.after(LONG_PAUSE_MICROS);
        }
        let Some(round) = self.round.take() else { return };
        let (nodes, cut) = (round.nodes(), round.cut);
        let committed = round.pending.keys().filter(|transaction| round.committed.contains(*transaction));
        let committed = committed.copied().collect();
        self.counts.cuts += 1;
        out.push(Order::Release { nodes: nodes.clone(), cut, committed: Some(committed) });
        let kept = Kept { map: round.map, nodes, waiting: round.readers, readers: BTreeMap::new() };
        self.kept.insert(cut, kept);
        out.push(Order::Confirm(cut));
    }

    /// The round comes to nothing; those who asked wait for another.
    fn void(&mut self, now: Time, out: &mut Orders) {
        let Some(round) = self.round.take() else { return };
        self.counts.voids += 1;
        self.paused_until = now.after(PAUSE_MICROS);
        let silent = round.needed.keys().filter(|worker| !round.captured.contains(*worker));
        self.silent.extend(silent.map(|worker| (*worker, round.cut)));
        out.push(Order::Release { nodes: round.nodes(), cut: round.cut, committed: None });
        self.asked.splice(0..0, round.readers);
    }

    /// A majority has confirmed the leader after it asked for that: the cut can be read.
    pub fn confirmed(&mut self, cut: CutId, out: &mut Orders) {
        let Some(kept) = self.kept.get_mut(&cut) else { return };
        for reader in std::mem::take(&mut kept.waiting) {
            *kept.readers.entry(reader.client).or_default() += 1;
            out.push(Order::Give { reader, cut, map: kept.map });
        }
        self.drop_unread(cut, out);
    }

    /// Transactions that the metadata group has decided to be committed: they belong to the open round if they were captured, prepared or applied.
    pub fn committed_here(&mut self, committed: impl Iterator<Item = TransactionId>) {
        if let Some(round) = &mut self.round {
            round.committed.extend(committed);
        }
    }

    /// This is no leader any more: who waited for that cut must ask elsewhere.
    pub fn unconfirmed(&mut self, cut: CutId) -> Vec<Reader> {
        self.kept.get_mut(&cut).map(|kept| std::mem::take(&mut kept.waiting)).unwrap_or_default()
    }

    fn drop_unread(&mut self, cut: CutId, out: &mut Orders) {
        let unread = |kept: &Kept| kept.waiting.is_empty() && kept.readers.is_empty();
        if self.kept.get(&cut).is_some_and(unread)
            && let Some(kept) = self.kept.remove(&cut)
        {
            out.push(Order::Drop { nodes: kept.nodes, cut });
        }
    }

    /// Voids a round that cannot become complete any more, and begins one that is wanted. `lost` says which partitions have no replica that lives,
    /// `reached` which nodes are there to be told.
    pub fn step(
        &mut self,
        map: Option<&ClusterMap>,
        lost: impl Fn(&Assignment) -> bool,
        reached: impl Fn(NodeId) -> bool,
        now: Time,
        out: &mut Orders,
    ) {
        let Some(map) = map else { return };
        if let Some(round) = &self.round {
            if round.map != map.version {
                self.void(now, out);
                // The map was the cause, and all hear of the new one before they are asked again.
                self.paused_until = Time(0);
            } else if now >= round.begun.after(ROUND_MICROS) {
                self.void(now, out);
            }
        }
        if self.round.is_some() || self.asked.is_empty() || now < self.paused_until {
            return;
        }
        // The pause is over; a round that cannot begin now waits for news, not for a time that has passed.
        self.paused_until = Time(0);
        let mut needed: BTreeMap<WorkerId, Vec<(PartitionId, Epoch)>> = BTreeMap::new();
        for (index, assignment) in map.partitions.iter().enumerate() {
            // Lost partitions belong to no cut: reading them is an error.
            if let Some(primary) = assignment.primary.filter(|_| !lost(assignment)) {
                needed.entry(primary).or_default().push((PartitionId(index as u16), assignment.epoch));
            }
        }
        if needed.keys().any(|worker| self.silent.contains_key(worker) || !reached(worker.node)) {
            return;
        }
        self.last.round += 1;
        let round = Round {
            cut: self.last,
            map: map.version,
            begun: now,
            readers: std::mem::take(&mut self.asked),
            needed,
            captured: BTreeSet::new(),
            pending: BTreeMap::new(),
            committed: BTreeSet::new(),
        };
        let empty = round.needed.is_empty();
        out.push(Order::Capture { nodes: round.nodes(), cut: round.cut, map: round.map });
        self.round = Some(round);
        if empty {
            // Everything is lost: there is nobody to wait for, and who reads the cut is told so partition by partition.
            self.release(now, out);
        }
    }

    /// When [`Cuts::step`] has something to do at the latest, if nothing else happens.
    pub fn wakes_at(&self) -> Option<Time> {
        match &self.round {
            Some(round) => Some(round.begun.after(ROUND_MICROS)),
            None => (!self.asked.is_empty() && self.paused_until > Time(0)).then_some(self.paused_until),
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Round {
    fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.needed.keys().map(|worker| worker.node).collect();
        nodes.dedup();
        nodes
    }

    /// A transaction was pending whose anchor was not captured: it may have been answered as committed.
    fn is_in_doubt(&self) -> bool {
        let is_captured =
            |anchor: &PartitionId| self.needed.values().flatten().any(|(partition, _)| partition == anchor);
        // What the metadata group has decided is known here.
        !self.pending.values().all(|anchor| *anchor == PartitionId::METADATA || is_captured(anchor))
    }
}
