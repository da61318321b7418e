//! The incarnations under which this proxy sends requests, kept alive at the metadata group; one that is dead there is replaced.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;
use toroid_common::id::Incarnation;

/// All incarnations of a proxy.
pub(super) struct Lives {
    alive: Mutex<BTreeSet<Incarnation>>,
    /// Counts the times at which some were found dead.
    deaths: watch::Sender<u64>,
}

impl Lives {
    pub(super) fn new() -> Lives {
        Lives { alive: Mutex::default(), deaths: watch::Sender::new(0) }
    }

    pub(super) fn add(&self, incarnation: Incarnation) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).insert(incarnation);
    }

    /// Whether requests may be sent under it, as far as is known here.
    pub(super) fn is_alive(&self, incarnation: Incarnation) -> bool {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).contains(&incarnation)
    }

    /// This one is fenced.
    pub(super) fn died(&self, incarnation: Incarnation) {
        if self.alive.lock().unwrap_or_else(PoisonError::into_inner).remove(&incarnation) {
            self.deaths.send_modify(|count| *count += 1);
        }
    }

    /// Tells of deaths; whoever sends requests then looks whether its own is meant.
    pub(super) fn deaths(&self) -> watch::Receiver<u64> {
        self.deaths.subscribe()
    }

    pub(super) fn all(&self) -> Vec<Incarnation> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}
