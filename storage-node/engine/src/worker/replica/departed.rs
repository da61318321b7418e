//! Followers that a primary has lost and that may come back: so far back its log is kept for them.

use crate::gate::Time;
use toroid_common::id::{Lsn, WorkerId};

/// Who does not come back in this time gets a root.
pub(in super::super) const KEPT_MICROS: u64 = 30_000_000;

/// Nothing needs to be kept while all replicas are there: when one is lost, the log still has what that one has not confirmed.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// What each has confirmed, and until when it is waited for.
    all: Vec<(WorkerId, Lsn, Time)>,
}

impl Departed {
    /// A follower is gone that had confirmed the log up to this entry.
    pub(super) fn note(&mut self, worker: WorkerId, confirmed: Lsn, now: Time) {
        self.back(worker);
        self.all.push((worker, confirmed, now.after(KEPT_MICROS)));
    }

    /// It follows again, or begins anew.
    pub(super) fn back(&mut self, worker: WorkerId) {
        self.all.retain(|(departed, ..)| *departed != worker);
    }

    /// Forgets those that stayed away. True when there were any.
    pub(super) fn expire(&mut self, now: Time) -> bool {
        let before = self.all.len();
        self.all.retain(|(_, _, until)| *until > now);
        self.all.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The last entry that none of them needs.
    pub(super) fn holds(&self) -> Option<Lsn> {
        self.all.iter().map(|(_, confirmed, _)| *confirmed).min()
    }
}
