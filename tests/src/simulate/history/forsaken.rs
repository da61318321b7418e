//! Parts of transactions whose anchor was lost with all its copies before they had heard the outcome: nobody will ever know it.

use super::{History, table};
use toroid_common::id::{PartitionId, TransactionId};

/// What a transaction had prepared in a partition when its anchor was lost.
#[derive(Clone, Copy, Debug)]
pub struct Forsaken {
    /// Its number among the transactions.
    pub transaction: usize,
    pub anchor: PartitionId,
    pub partition: PartitionId,
    pub lost: u64,
    /// When the anchor began again, empty: it knows of no outcome, and says that there was none. `u64::MAX` before that.
    pub anew: u64,
}

/// Rows of a transaction, by its number among all, that are left as it made them or taken back, and nobody can know which.
#[derive(Clone, Debug)]
pub struct Doubt {
    pub transaction: usize,
    pub keys: Vec<i32>,
    pub lost: u64,
    pub anew: u64,
}

impl History {
    /// An anchor is lost, and this is prepared in another partition.
    pub fn forsake(&mut self, id: TransactionId, anchor: PartitionId, partition: PartitionId) {
        let lost = self.next();
        let Some(transaction) = self.numbers.get(&id).copied() else { return };
        let known = |it: &Forsaken| (it.transaction, it.partition) == (transaction, partition);
        if !self.forsaken.iter().any(known) {
            self.forsaken.push(Forsaken { transaction, anchor, partition, lost, anew: u64::MAX });
        }
    }

    pub fn is_forsaken(&self, transaction: usize, partition: PartitionId) -> bool {
        self.forsaken.iter().any(|it| (it.transaction, it.partition) == (transaction, partition))
    }

    /// What is in doubt among [`History::as_transactions`].
    #[must_use]
    pub fn doubts(&self, keys: &[i32], partitions: u16) -> Vec<Doubt> {
        let doubt = |it: &Forsaken| Doubt {
            transaction: self.records.len() + it.transaction,
            keys: keys.iter().copied().filter(|key| table::partition(*key, partitions) == it.partition).collect(),
            lost: it.lost,
            anew: it.anew,
        };
        self.forsaken.iter().map(doubt).collect()
    }
}
