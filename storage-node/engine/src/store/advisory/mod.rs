//! Advisory locks that sessions hold: part of the root, so that they survive their primary. Those of transactions are its primary's alone.

use crate::store::account::{Account, Reserve};
use std::sync::Arc;
use toroid_common::id::{Incarnation, TransactionId};
use toroid_common::plan::AdvisoryKey;

/// What a lock takes here, in the lock table and in what others wait for, about.
const LOCK_BYTES: usize = 256;

/// How often a session holds a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub shared: u32,
    pub exclusive: u32,
}

impl Counts {
    /// Of one mode.
    pub fn of(self, shared: bool) -> u32 {
        if shared { self.shared } else { self.exclusive }
    }

    fn of_mut(&mut self, shared: bool) -> &mut u32 {
        if shared { &mut self.shared } else { &mut self.exclusive }
    }
}

#[derive(Clone, Debug)]
struct Held {
    counts: Counts,
    charge: Arc<Reserve>,
}

/// All keys that sessions hold in a partition, by session ([`TransactionId::of_session`]).
#[derive(Clone, Debug, Default)]
pub struct Advisory {
    held: imbl::OrdMap<(TransactionId, AdvisoryKey), Held>,
}

impl Advisory {
    /// Bytes that one more lock takes.
    pub const BYTES: usize = LOCK_BYTES;

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn counts(&self, session: TransactionId, key: AdvisoryKey) -> Counts {
        self.held.get(&(session, key)).map(|held| held.counts).unwrap_or_default()
    }

    /// All from this one on, in order.
    pub fn from(
        &self,
        first: (TransactionId, AdvisoryKey),
    ) -> impl Iterator<Item = (TransactionId, AdvisoryKey, Counts)> {
        self.held.range(first..).map(|((session, key), held)| (*session, *key, held.counts))
    }

    pub fn all(&self) -> impl Iterator<Item = (TransactionId, AdvisoryKey, Counts)> {
        self.held.iter().map(|((session, key), held)| (*session, *key, held.counts))
    }

    /// The keys of a session.
    pub fn of(&self, session: TransactionId) -> impl Iterator<Item = (AdvisoryKey, Counts)> {
        let first = (session, AdvisoryKey { pair: false, key: i64::MIN });
        self.from(first).take_while(move |(holder, _, _)| *holder == session).map(|(_, key, counts)| (key, counts))
    }

    pub(in crate::store) fn memory(&self) -> usize {
        self.held.len() * LOCK_BYTES
    }

    /// A session holds a key once more.
    pub(in crate::store) fn take(
        &mut self,
        session: TransactionId,
        key: AdvisoryKey,
        shared: bool,
        account: &mut Account,
    ) {
        let held = self
            .held
            .entry((session, key))
            .or_insert_with(|| Held { counts: Counts::default(), charge: account.reserve(LOCK_BYTES) });
        let count = held.counts.of_mut(shared);
        *count = count.saturating_add(1);
    }

    /// Puts a key back as it was held; false when it is there already, or nobody holds it.
    #[must_use]
    pub(in crate::store) fn restore(
        &mut self,
        place: (TransactionId, AdvisoryKey),
        counts: Counts,
        account: &mut Account,
    ) -> bool {
        let fits = counts != Counts::default() && !self.held.contains_key(&place);
        if fits {
            self.held.insert(place, Held { counts, charge: account.reserve(LOCK_BYTES) });
        }
        fits
    }

    /// A session holds a key once less.
    pub(in crate::store) fn give(
        &mut self,
        session: TransactionId,
        key: AdvisoryKey,
        shared: bool,
        account: &mut Account,
    ) {
        let Some(held) = self.held.get_mut(&(session, key)) else { return };
        let count = held.counts.of_mut(shared);
        *count = count.saturating_sub(1);
        if held.counts == Counts::default() {
            self.remove((session, key), account);
        }
    }

    /// A session holds nothing any more.
    pub(in crate::store) fn dismiss(&mut self, session: TransactionId, account: &mut Account) {
        let keys: Vec<AdvisoryKey> = self.of(session).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.remove((session, key), account));
    }

    /// Sessions of dead proxies hold nothing any more.
    pub(in crate::store) fn fenced(&mut self, dead: impl Fn(Incarnation) -> bool, account: &mut Account) {
        let dead: Vec<(TransactionId, AdvisoryKey)> =
            self.held.keys().filter(|(session, _)| dead(session.proxy)).copied().collect();
        dead.into_iter().for_each(|place| self.remove(place, account));
    }

    fn remove(&mut self, place: (TransactionId, AdvisoryKey), account: &mut Account) {
        if let Some(held) = self.held.remove(&place) {
            account.give_back(held.charge);
        }
    }

    /// Gives the memory back, as far as no other root shares it.
    pub(in crate::store) fn finish(self, account: &mut Account) {
        let charges: Vec<Arc<Reserve>> = self.held.values().map(|held| Arc::clone(&held.charge)).collect();
        drop(self.held);
        charges.into_iter().for_each(|charge| account.give_back(charge));
    }
}

impl PartialEq for Advisory {
    fn eq(&self, other: &Advisory) -> bool {
        self.all().eq(other.all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_counted_paid_for_and_given_back_by_the_last_root_that_has_them() {
        let mut account = Account::new(1 << 20);
        let mut held = Advisory::default();
        let session = |process| TransactionId::of_session(Incarnation(3), process);
        let key = AdvisoryKey::of_pair(1, -1);
        held.take(session(7), key, false, &mut account);
        held.take(session(7), key, false, &mut account);
        held.take(session(8), key, true, &mut account);
        assert_eq!((account.used(), held.memory()), (2 * LOCK_BYTES, 2 * LOCK_BYTES));
        let before = held.clone();
        held.give(session(7), key, false, &mut account);
        assert_eq!(held.counts(session(7), key), Counts { shared: 0, exclusive: 1 });
        held.give(session(7), key, false, &mut account);
        held.dismiss(session(8), &mut account);
        assert!(held.is_empty());
        // The older root still has both.
        assert_eq!(account.used(), 2 * LOCK_BYTES);
        before.finish(&mut account);
        held.finish(&mut account);
        assert_eq!(account.used(), 0);
    }
}
