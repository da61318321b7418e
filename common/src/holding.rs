//! What a session holds in the cluster beside its transactions: advisory locks. Pure, so that the simulator runs this.

use crate::id::{Incarnation, PartitionId};
use crate::plan::AdvisoryKey;
use std::collections::{BTreeMap, BTreeSet};

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

    /// Whether any was asked for there.
    pub fn is_expected(&self, partition: PartitionId) -> bool {
        self.partitions.contains(&partition)
    }

    /// It is not known whether one was taken.
    pub fn unsure(&mut self) {
        self.unsure = true;
    }

    /// One was taken.
    pub fn took(&mut self, key: AdvisoryKey, shared: bool) {
        *self.held.entry((key, shared)).or_default() += 1;
    }

    /// One was given back.
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

    /// The life of the proxy under which all is held.
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
