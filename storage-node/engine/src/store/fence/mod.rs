//! Which proxies are dead: what they asked is forgotten, and what they ask is refused.

use std::sync::Arc;
use toroid_common::id::Incarnation;

/// Dead are all proxies below `below` but those that are `alive` (ascending).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    pub below: Incarnation,
    pub alive: Arc<[Incarnation]>,
}

impl Fence {
    /// Whether this proxy is dead.
    pub fn covers(&self, proxy: Incarnation) -> bool {
        proxy < self.below && self.alive.binary_search(&proxy).is_err()
    }

    /// Both fences: who is dead stays dead.
    #[must_use]
    pub fn and(&self, other: &Fence) -> Fence {
        let covered = |proxy: &Incarnation| self.covers(*proxy) || other.covers(*proxy);
        let mut alive: Vec<Incarnation> =
            self.alive.iter().chain(other.alive.iter()).copied().filter(|proxy| !covered(proxy)).collect();
        alive.sort_unstable();
        alive.dedup();
        Fence { below: self.below.max(other.below), alive: alive.into() }
    }
}
