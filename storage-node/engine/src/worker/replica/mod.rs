//! A partition's replica in its role. Joining replicas and promotions come with failover.

pub(super) mod backup;
pub(super) mod primary;

pub(super) use backup::Backup;
pub(super) use primary::{Primary, Reply};

use toroid_common::id::Epoch;

/// What this worker is to a partition.
#[derive(Debug)]
pub(super) enum Replica {
    Primary(Box<Primary>),
    Backup(Box<Backup>),
}

impl Replica {
    /// Answers that wait in its gate.
    pub(super) fn gated(&self) -> usize {
        match self {
            Replica::Primary(primary) => primary.gate.len(),
            Replica::Backup(_) => 0,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        match self {
            Replica::Primary(primary) => primary.epoch,
            Replica::Backup(backup) => backup.epoch,
        }
    }
}
