//! Identities of schema changes: one that is asked for again, of another leader, happens once and is answered as it went.

use super::lives::Lives;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use toroid_common::id::{Incarnation, RequestId};
use toroid_common::wire::ChangeId;

/// The schema changes of a proxy that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// Under which changes are asked for.
    proxy: Option<Incarnation>,
    last: u64,
    open: BTreeSet<u64>,
}

/// A change while somebody waits for its answer.
pub(super) struct Open<'a> {
    changes: &'a Changes,
    pub(super) id: ChangeId,
}

impl Changes {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The incarnation of this proxy's changes, if it has one that lives.
    pub(super) fn proxy(&self, lives: &Lives) -> Option<Incarnation> {
        self.numbers().proxy.filter(|proxy| lives.is_alive(*proxy))
    }

    /// A new change under this incarnation, and those that follow.
    pub(super) fn begin(&self, proxy: Incarnation) -> Open<'_> {
        let mut numbers = self.numbers();
        numbers.proxy = Some(proxy);
        numbers.last += 1;
        let sequence = numbers.last;
        numbers.open.insert(sequence);
        let low = numbers.open.first().copied().unwrap_or(sequence);
        Open { changes: self, id: ChangeId { request: RequestId { proxy, sequence }, low } }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.changes.numbers().open.remove(&self.id.request.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_may_be_forgotten() {
        let changes = Changes::default();
        let lives = Lives::new();
        assert_eq!(changes.proxy(&lives), None);
        lives.add(Incarnation(7));
        let first = changes.begin(Incarnation(7));
        assert_eq!(changes.proxy(&lives), Some(Incarnation(7)));
        let second = changes.begin(Incarnation(7));
        assert_eq!((first.id.request.sequence, first.id.low), (1, 1));
        assert_eq!((second.id.request.sequence, second.id.low), (2, 1));
        drop(first);
        assert_eq!(changes.begin(Incarnation(7)).id.low, 2);
        lives.died(Incarnation(7));
        assert_eq!(changes.proxy(&lives), None);
    }
}
