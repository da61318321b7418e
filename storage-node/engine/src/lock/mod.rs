//! The locks of one partition: who holds what, who waits for whom, and who may go on when a transaction ends. Pure.
//!
//! Transactions hold locks until they end; statements that commit by themselves hold none, but wait for those of others. Whoever waits does so in
//! the order in which it first came: it stands in the way of later ones as if it held what it waits for, except of a transaction that it waits for
//! itself. Who waits, waits for one thing at a time, and is judged anew when nobody stands in its way any more.

mod want;
mod facts;
mod circle;

pub use circle::circle;
pub use want::{Key, Want};

use facts::{Before, Facts};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use toroid_common::id::{Incarnation, TableId, TransactionId};

/// A statement that waits, by the order in which they came; the caller counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(pub u64);

#[derive(Debug, Default)]
struct Holder {
    /// In the order of taking.
    taken: Vec<(Want<Key>, Before)>,
    prepared: bool,
}

#[derive(Debug)]
struct Waiter {
    transaction: Option<TransactionId>,
    /// Where its waits are found, too.
    session: Option<TransactionId>,
    want: Want<Key>,
}

/// The locks of one partition.
#[derive(Debug, Default)]
pub struct LockTable {
    held: Facts<TransactionId>,
    holders: BTreeMap<TransactionId, Holder>,
    /// What is held takes so many bytes.
    bytes: usize,
    prepared: usize,
    waited: Facts<WaitId>,
    waiters: BTreeMap<WaitId, Waiter>,
    /// By transaction, and by the session that it is of.
    by_transaction: BTreeSet<(TransactionId, WaitId)>,
    /// Sessions that hold advisory locks, and waiters for such.
    sessions: usize,
    advised: usize,
    /// Those that wait only for prepared transactions.
    settling: BTreeSet<WaitId>,
    /// Nobody stands in the way of these any more.
    ready: BTreeSet<WaitId>,
}

impl LockTable {
    /// Nobody holds anything, and nobody waits, but for advisory locks: no statement on rows needs to look here.
    pub fn is_empty(&self) -> bool {
        self.holders.len() == self.sessions && self.waiters.len() == self.advised
    }

    /// Whether sessions hold advisory locks or wait for some: then waits of transactions are not all that there is.
    pub fn has_advisory(&self) -> bool {
        self.sessions > 0 || self.advised > 0
    }

    /// About how many bytes it takes what is held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a waiter waits for.
    pub fn want_of(&self, wait: WaitId) -> Option<&Want<Key>> {
        self.waiters.get(&wait).map(|waiter| &waiter.want)
    }

    /// How many locks a transaction holds: a mark for [`LockTable::give_back`].
    pub fn held_by(&self, transaction: TransactionId) -> usize {
        self.holders.get(&transaction).map_or(0, |holder| holder.taken.len())
    }

    /// The tables in which a transaction has locked rows or changed some, as often as it did.
    pub fn tables_of(&self, transaction: TransactionId) -> impl Iterator<Item = TableId> + '_ {
        let taken = self.holders.get(&transaction).into_iter().flat_map(|holder| &holder.taken);
        taken.filter_map(|(want, _)| match want {
            Want::Row { table, .. } | Want::Write { table } | Want::Read { table } | Want::Table { table, .. } => {
                Some(*table)
            }
            Want::Bring { .. }
            | Want::Touch { .. }
            | Want::Range { .. }
            | Want::SettledRange { .. }
            | Want::SettledTable { .. }
            | Want::Advisory { .. } => None,
        })
    }

    /// What a transaction holds that it has only read or locked, in the order of taking.
    pub fn kept_by(&self, transaction: TransactionId) -> impl Iterator<Item = Want<&[u8]>> + '_ {
        let taken = self.holders.get(&transaction).into_iter().flat_map(|holder| &holder.taken);
        taken.map(|(want, _)| want.borrow()).filter(|want| match want {
            Want::Row { .. } | Want::Range { .. } | Want::Read { .. } | Want::Table { .. } | Want::Advisory { .. } => {
                true
            }
            Want::Bring { .. }
            | Want::Touch { .. }
            | Want::Write { .. }
            | Want::SettledRange { .. }
            | Want::SettledTable { .. } => false,
        })
    }

    /// How many statements wait.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody stands in the way of this want: of a transaction, or of a statement that commits by itself, which may have waited already.
    pub fn is_free(&self, want: &Want<&[u8]>, transaction: Option<TransactionId>, wait: Option<WaitId>) -> bool {
        if want.is_settled() && self.prepared == 0 {
            return true;
        }
        let held = self.held.opposing(want, |holder| match self.opposes(want, holder, transaction) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        if held.is_break() {
            return false;
        }
        // Who reads what is settled keeps nobody waiting, and waits behind nobody.
        if self.waiters.is_empty() || want.is_settled() {
            return true;
        }
        // Who waits for this may well wait for the same session.
        if let Want::Advisory { key, session, .. } = want
            && self.held.has_advised(*key, *session)
        {
            return true;
        }
        let holds = transaction.filter(|transaction| self.holders.contains_key(transaction));
        let mut seen = BTreeSet::new();
        let waited = self.waited.opposing(want, |waiter| {
            let earlier = wait.is_none_or(|wait| waiter < wait);
            let own = transaction.is_some() && self.waiters.get(&waiter).is_some_and(|w| w.transaction == transaction);
            match earlier && !own && !holds.is_some_and(|holds| self.waits_for(waiter, holds, &mut seen)) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        waited.is_continue()
    }

    /// Whether any table is locked as such, or somebody waits for one.
    pub fn has_tables(&self) -> bool {
        self.held.has_tables() || self.waited.has_tables()
    }

    /// Whether only prepared transactions stand in its way, whose outcome may be told already and is about to be known here.
    pub fn is_settling(&self, want: &Want<&[u8]>, transaction: Option<TransactionId>) -> bool {
        let mut settling = false;
        let others = self.held.opposing(want, |holder| {
            if !self.opposes(want, holder, transaction) {
                return ControlFlow::Continue(());
            }
            settling = self.holders.get(&holder).is_some_and(|holder| holder.prepared);
            if settling { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        settling && others.is_continue()
    }

    fn opposes(&self, want: &Want<&[u8]>, holder: TransactionId, transaction: Option<TransactionId>) -> bool {
        Some(holder) != transaction
            && (!want.is_settled() || self.holders.get(&holder).is_some_and(|holder| holder.prepared))
    }

    /// Takes a lock that [`LockTable::is_free`]; true when the transaction did not hold it already.
    pub fn take(&mut self, transaction: TransactionId, want: &Want<&[u8]>) -> bool {
        if want.is_settled() {
            return false;
        }
        let want = want.keep();
        let before = self.held.put(&want, transaction);
        if before == Before::Same {
            return false;
        }
        let holder = self.holders.entry(transaction).or_default();
        if holder.taken.is_empty() && transaction.session().is_some() {
            self.sessions += 1;
        }
        self.bytes += cost_of(&want);
        holder.taken.push((want, before));
        true
    }

    /// What a transaction does, others have to wait for, even if they only read.
    pub fn prepare(&mut self, transaction: TransactionId) {
        if let Some(holder) = self.holders.get_mut(&transaction)
            && !holder.prepared
        {
            holder.prepared = true;
            self.prepared += 1;
        }
    }

    /// Gives locks back, but the first `keep` ones, and those of what was read: what was seen was seen.
    pub fn give_back(&mut self, transaction: TransactionId, keep: usize) {
        self.give(transaction, keep, |want| matches!(want, Want::Range { .. } | Want::Read { .. }));
    }

    fn give(&mut self, transaction: TransactionId, keep: usize, stays: impl Fn(&Want<Key>) -> bool) {
        let Some(holder) = self.holders.get_mut(&transaction) else { return };
        let mut given = match keep {
            0 => std::mem::take(&mut holder.taken),
            _ => holder.taken.split_off(keep.min(holder.taken.len())),
        };
        holder.taken.extend(given.extract_if(.., |(want, _)| stays(want)));
        let settles = holder.prepared;
        if holder.taken.is_empty() {
            self.forget_holder(transaction);
        }
        for (want, before) in given.iter().rev() {
            self.bytes -= cost_of(want);
            self.held.take(want, transaction, *before);
        }
        let mut concerned = Vec::new();
        for (want, _) in &given {
            self.waited.opposed(&want.borrow(), &mut concerned);
        }
        if settles {
            concerned.extend(&self.settling);
        }
        self.review(concerned);
    }

    fn forget_holder(&mut self, transaction: TransactionId) {
        let Some(holder) = self.holders.remove(&transaction) else { return };
        self.prepared -= usize::from(holder.prepared);
        self.sessions -= usize::from(transaction.session().is_some());
    }

    /// Gives one lock back, of those that stand by themselves: advisory ones.
    pub fn give_one(&mut self, holder: TransactionId, want: &Want<&[u8]>) {
        let want = want.keep();
        let Some(known) = self.holders.get_mut(&holder) else { return };
        let Some(place) = known.taken.iter().rposition(|(taken, _)| *taken == want) else { return };
        let (_, before) = known.taken.remove(place);
        if known.taken.is_empty() {
            self.forget_holder(holder);
        }
        self.bytes -= cost_of(&want);
        self.held.take(&want, holder, before);
        let mut concerned = Vec::new();
        self.waited.opposed(&want.borrow(), &mut concerned);
        self.review(concerned);
    }

    /// Sessions of these proxies hold nothing any more.
    pub fn release_sessions(&mut self, dead: impl Fn(Incarnation) -> bool) {
        if self.sessions > 0 {
            let gone = |holder: &&TransactionId| holder.session().is_some() && dead(holder.proxy);
            let gone: Vec<TransactionId> = self.holders.keys().filter(gone).copied().collect();
            gone.into_iter().for_each(|session| self.release(session));
        }
    }

    /// The transaction has ended.
    pub fn release(&mut self, transaction: TransactionId) {
        self.give(transaction, 0, |_| false);
    }

    /// A statement waits for this from now on; one that waited already keeps its place among the others.
    pub fn park(
        &mut self,
        wait: WaitId,
        (transaction, session): (Option<TransactionId>, Option<TransactionId>),
        want: &Want<&[u8]>,
    ) {
        self.leave(wait);
        let want = want.keep();
        self.waited.put(&want, wait);
        if want.is_settled() {
            self.settling.insert(wait);
        }
        self.by_transaction.extend(transaction.into_iter().chain(session).map(|waits| (waits, wait)));
        self.advised += usize::from(matches!(want, Want::Advisory { .. }));
        self.waiters.insert(wait, Waiter { transaction, session, want });
    }

    /// A statement waits no more: it was executed or given up.
    pub fn leave(&mut self, wait: WaitId) {
        let Some(waiter) = self.waiters.remove(&wait) else { return };
        self.ready.remove(&wait);
        self.settling.remove(&wait);
        for waits in waiter.transaction.into_iter().chain(waiter.session) {
            self.by_transaction.remove(&(waits, wait));
        }
        self.advised -= usize::from(matches!(waiter.want, Want::Advisory { .. }));
        self.waited.take(&waiter.want, wait, Before::Nothing);
        let mut concerned = Vec::new();
        self.waited.opposed(&waiter.want.borrow(), &mut concerned);
        self.review(concerned);
    }

    /// Looks whether somebody still stands in the way of these.
    fn review(&mut self, concerned: Vec<WaitId>) {
        for wait in concerned {
            if let Some(waiter) = self.waiters.get(&wait)
                && !self.ready.contains(&wait)
                && self.is_free(&waiter.want.borrow(), waiter.transaction, Some(wait))
            {
                self.ready.insert(wait);
            }
        }
    }

    /// The statement that came first of those that may go on. It waits until it [`LockTable::leave`]s, or is parked for something else.
    pub fn next_ready(&mut self) -> Option<WaitId> {
        self.ready.pop_first()
    }

    /// The transactions that a statement waits for, be it behind others, in order. Of those ahead who wait for it themselves it need not wait.
    pub fn blockers(&self, wait: WaitId) -> BTreeSet<TransactionId> {
        self.before(wait, true, false)
    }

    /// [`LockTable::blockers`] without those that the last of them waits for as well, because it waits for the same thing: few in a long queue.
    pub fn nearest_blockers(&self, wait: WaitId) -> BTreeSet<TransactionId> {
        self.before(wait, true, true)
    }

    /// [`LockTable::blockers`], and whoever else is ahead: where these come to a circle somebody may have become free to overtake.
    pub fn suspects(&self, wait: WaitId) -> BTreeSet<TransactionId> {
        self.before(wait, false, false)
    }

    /// Whom a statement waits for: without those ahead that may be overtaken, and of those ahead only the nearest.
    fn before(&self, wait: WaitId, overtaking: bool, nearest: bool) -> BTreeSet<TransactionId> {
        let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
        let mut rest = vec![wait];
        while let Some(wait) = rest.pop() {
            let Some(waiter) = self.waiters.get(&wait).filter(|_| seen.insert(wait)) else { continue };
            let (mut overtakes, mut looked_at) = (None, BTreeSet::new());
            let mut queue: Vec<TransactionId> = Vec::new();
            let exempt = || waiter.transaction.filter(|transaction| overtaking && self.keeps_waiting(*transaction));
            let _ = self.each_before(wait, waiter, |before| {
                let ahead = match before {
                    Ok(transaction) => {
                        found.insert(transaction);
                        return ControlFlow::<()>::Continue(());
                    }
                    Err(ahead) => ahead,
                };
                let overtakes = *overtakes.get_or_insert_with(exempt);
                if overtakes.is_some_and(|transaction| self.waits_for(ahead, transaction, &mut looked_at)) {
                    return ControlFlow::Continue(());
                }
                let Some(Waiter { transaction, want, .. }) = self.waiters.get(&ahead) else {
                    return ControlFlow::Continue(());
                };
                // Who waits for the same is behind nobody else.
                let same = *want == waiter.want;
                match transaction {
                    Some(transaction) => {
                        if nearest && same {
                            queue.clear();
                        }
                        queue.push(*transaction);
                    }
                    None if same => {}
                    None => rest.push(ahead),
                }
                ControlFlow::Continue(())
            });
            found.extend(queue);
        }
        found
    }

    /// Whether anybody might wait because of this transaction: if not, it is in no circle.
    pub fn stands_in_way(&self, transaction: TransactionId) -> bool {
        let all = (transaction, WaitId(0))..=(transaction, WaitId(u64::MAX));
        let mut behind = Vec::new();
        let last = self.waiters.last_key_value().map(|(wait, _)| *wait);
        for (_, wait) in self.by_transaction.range(all).filter(|(_, wait)| last > Some(*wait)) {
            if let Some(waiter) = self.waiters.get(wait) {
                self.waited.opposed(&waiter.want.borrow(), &mut behind);
            }
        }
        behind.iter().any(|wait| self.is_of_another(*wait, transaction)) || self.keeps_waiting(transaction)
    }

    /// Whether anybody waits for what this transaction holds.
    fn keeps_waiting(&self, transaction: TransactionId) -> bool {
        let Some(holder) = self.holders.get(&transaction) else { return false };
        if holder.taken.len() > self.waiters.len() {
            return self.waiters.values().filter(|waiter| waiter.transaction != Some(transaction)).any(|waiter| {
                let opposing = self.held.opposing(&waiter.want.borrow(), |holder| match holder == transaction {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                });
                opposing.is_break()
            });
        }
        let mut waiting = Vec::new();
        holder.taken.iter().any(|(want, _)| {
            waiting.clear();
            self.waited.opposed(&want.borrow(), &mut waiting);
            waiting.iter().any(|wait| self.is_of_another(*wait, transaction))
        })
    }

    fn is_of_another(&self, wait: WaitId, transaction: TransactionId) -> bool {
        self.waiters.get(&wait).is_some_and(|waiter| waiter.transaction != Some(transaction))
    }

    /// Whether a statement waits for this transaction, be it behind others.
    fn waits_for(&self, wait: WaitId, transaction: TransactionId, seen: &mut BTreeSet<WaitId>) -> bool {
        let mut rest = vec![wait];
        let mut found = false;
        while let Some(wait) = rest.pop() {
            let Some(waiter) = self.waiters.get(&wait).filter(|_| seen.insert(wait)) else { continue };
            let _ = self.each_before(wait, waiter, |before| {
                match before {
                    Ok(holder) if holder == transaction => found = true,
                    Ok(holder) => rest.extend(self.waits_of(holder)),
                    Err(ahead) => rest.push(ahead),
                }
                if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if found {
                // Others that wait for this one have been seen as well.
                seen.clear();
                return true;
            }
        }
        false
    }

    /// The statements of a transaction that wait, and may not go on yet.
    pub fn waits_of(&self, transaction: TransactionId) -> impl Iterator<Item = WaitId> + '_ {
        let all = (transaction, WaitId(0))..=(transaction, WaitId(u64::MAX));
        self.by_transaction.range(all).map(|(_, wait)| *wait).filter(|wait| !self.ready.contains(wait))
    }

    /// These transactions wait for each other: whoever of them only stands behind others may overtake them. True when there is one.
    pub fn let_overtake(&mut self, circle: &[TransactionId]) -> bool {
        let waits: Vec<WaitId> = circle.iter().flat_map(|transaction| self.waits_of(*transaction)).collect();
        self.review(waits.clone());
        waits.iter().any(|wait| self.ready.contains(wait))
    }

    /// Whoever only stands behind others that wait for it may overtake them.
    pub fn review_all(&mut self) {
        self.review(self.waiters.keys().copied().collect());
    }

    /// Whom a statement waits for: transactions, and statements that came before it.
    fn each_before<B>(
        &self,
        wait: WaitId,
        waiter: &Waiter,
        mut each: impl FnMut(Result<TransactionId, WaitId>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let want = waiter.want.borrow();
        self.held.opposing(&want, |holder| match self.opposes(&want, holder, waiter.transaction) {
            true => each(Ok(holder)),
            false => ControlFlow::Continue(()),
        })?;
        if want.is_settled() {
            return ControlFlow::Continue(());
        }
        self.waited.opposing(&want, |ahead| match ahead < wait {
            true => each(Err(ahead)),
            false => ControlFlow::Continue(()),
        })
    }

    /// Whether nothing is left of anybody: what holders and waiters have is what stands in the way of others.
    #[cfg(test)]
    fn is_consistent(&self) -> bool {
        (!self.holders.is_empty() || (self.held.is_empty() && self.bytes == 0))
            && (!self.waiters.is_empty() || self.waited.is_empty())
    }
}

/// Bytes of one lock: its place among those of its holder, which double when they grow, one among what is held, and its key with the counts before it.
fn cost_of(want: &Want<Key>) -> usize {
    const PLACES: usize = 2 * size_of::<(Want<Key>, Before)>() + 96;
    let key = want.key().map_or(0, |key| key.len() + 2 * size_of::<usize>());
    PLACES + key
}

#[cfg(test)]
mod tests;
