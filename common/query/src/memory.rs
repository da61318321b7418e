//! Memory that queries take beside the store: one budget for all, of which each may hold as much as it leaves free to the others.
//!
//! So one query alone gets half, two get a third each, and whoever comes late still finds room: no query can starve all others, however much it asks for.

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use toroid_common::error::SqlResult;

use crate::error::sql_error;

/// What all queries of a process, or of a part of it, may take together.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    taken: AtomicUsize,
}

/// What one query took. What it did not give back returns to the budget with the last handle.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    taken: AtomicUsize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit, taken: AtomicUsize::new(0) })
    }

    /// For a query that begins.
    pub fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { budget: Arc::clone(self), taken: AtomicUsize::new(0) })
    }

    /// Bytes that queries hold now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Share {
    /// 53200 when `bytes` more would be more than what is left to others.
    pub fn take(&self, bytes: usize) -> SqlResult<()> {
        self.try_take(bytes).map_err(sql_error)
    }

    pub fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn try_take(&self, bytes: usize) -> Result<()> {
        let limit = self.budget.limit;
        let own = self.taken.load(Ordering::Relaxed);
        let fits = |taken: usize| {
            let after = taken.checked_add(bytes)?;
            (own.checked_add(bytes)? <= limit.checked_sub(after)?).then_some(after)
        };
        match self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.taken.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(taken) => Err(DataFusionError::ResourcesExhausted(format!(
                "The statement holds {own} bytes and asks for {bytes} more, while {} of {limit} are free; it may hold as much as it leaves free.",
                limit.saturating_sub(taken)
            ))),
        }
    }

    /// What DataFusion runs a query with: this share, and no disk.
    pub fn runtime(self: &Arc<Self>) -> Arc<RuntimeEnv> {
        static PLAIN: LazyLock<RuntimeEnv> = LazyLock::new(|| {
            let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
            RuntimeEnvBuilder::new().with_disk_manager_builder(disk).build().unwrap_or_default()
        });
        Arc::new(RuntimeEnv { memory_pool: Arc::clone(self) as _, ..PLAIN.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(*self.taken.get_mut(), Ordering::Relaxed);
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a share of {} bytes", self.budget.limit)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "share"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        // It has been allocated already.
        self.taken.fetch_add(additional, Ordering::Relaxed);
        self.budget.taken.fetch_add(additional, Ordering::Relaxed);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.give_back(shrink);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Result<()> {
        self.try_take(additional)
    }

    fn reserved(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.budget.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toroid_common::error::SqlState;

    #[test]
    fn a_share_may_hold_what_it_leaves_free() {
        let budget = Budget::new(1_000);
        let greedy = budget.share();
        greedy.take(500).unwrap();
        let error = greedy.take(1).unwrap_err();
        assert_eq!(error.state(), SqlState::OUT_OF_MEMORY);
        let late = budget.share();
        late.take(250).unwrap();
        assert!(late.take(1).is_err());
        let last = budget.share();
        last.take(125).unwrap();
        assert_eq!(budget.taken(), 875);

        greedy.give_back(500);
        late.take(150).unwrap();
        drop(late);
        last.give_back(25);
        assert_eq!(budget.taken(), 100);
        drop(last);
        assert_eq!(budget.taken(), 0);
        assert!(greedy.take(usize::MAX).is_err());
    }

    #[test]
    fn reservations_of_a_running_query_count() {
        let budget = Budget::new(1_000);
        let share = budget.share();
        let runtime = share.runtime();
        let reservation =
            datafusion::execution::memory_pool::MemoryConsumer::new("sort").register(&runtime.memory_pool);
        reservation.try_grow(400).unwrap();
        assert!(share.take(101).is_err());
        assert!(reservation.try_grow(101).is_err());
        reservation.grow(300);
        assert_eq!(budget.taken(), 700);
        drop(reservation);
        assert_eq!(budget.taken(), 0);
    }
}
