//! What a session holds in the cluster beside its transactions: advisory locks.

use std::collections::{BTreeMap, BTreeSet};
use toroid_common::id::{Incarnation, PartitionId};
use toroid_common::plan::AdvisoryKey;

/// The advisory locks of a session, as far as it knows.
#[derive(Debug, Default)]
pub struct Holding {
    /// The life of the proxy under which they are held.
    life: Option<Incarnation>,
    /// By key and whether shared, how often.
    held: BTreeMap<(AdvisoryKey, bool), u32>,
    /// There may be more.
    unsure: bool,
    /// Where any were asked for.
    partitions: BTreeSet<PartitionId>,
}

impl Holding {
    /// One is about to be asked for there.
    pub fn expect(&mut self, life: Incarnation, partition: PartitionId) {
        self.life = Some(life);
        self.partitions.insert(partition);
    }

    pub fn is_expected(&self, partition: PartitionId) -> bool {
        self.partitions.contains(&partition)
    }

    /// It is not known whether one was taken.
    pub fn unsure(&mut self) {
        self.unsure = true;
    }

    pub fn took(&mut self, key: AdvisoryKey, shared: bool) {
        *self.held.entry((key, shared)).or_default() += 1;
    }

    pub fn gave(&mut self, key: AdvisoryKey, shared: bool) {
        if let Some(count) = self.held.get_mut(&(key, shared)) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&(key, shared));
            }
        }
    }

    /// Whether anything is held, or may be.
    pub fn holds(&self) -> bool {
        self.unsure || !self.held.is_empty()
    }

    pub fn life(&self) -> Option<Incarnation> {
        self.life
    }

    /// Where there may be something to give back.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions.iter().copied()
    }

    /// All of it, to be given back.
    pub fn take(&mut self) -> Holding {
        std::mem::take(self)
    }
}
