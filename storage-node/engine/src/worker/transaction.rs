//! The open transactions of one partition, as only its primary knows them until they are prepared.
//!
//! Requests and steps of a transaction have ascending
//! sequences, and a coordinator sends [`toroid_common::transaction::Step::RollBack`] to every partition that it has sent anything to, until it is
//! answered. So what comes late cannot open a transaction anew: its sequence is below the mark of what came since, or the transaction is remembered as
//! ended until the mark is above the sequence of the step that ended it.

use crate::gate::Time;
use crate::lock::LockTable;
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::notices::Notices;
use crate::store::root::{Passed, Root};
use crate::store::write_set::{Mark, Overlay, WriteSet};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toroid_common::catalog::{Catalog, Table, TableState};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Incarnation, PartitionId, TableId, TransactionId};
use toroid_common::transaction::Level;

/// Locks of one partition that are to be had though memory is short, so that rows can be deleted.
const FREE_LOCK_BYTES: usize = 64 << 10;

/// What a transaction is told of which this primary has forgotten something.
pub(super) fn forgotten() -> SqlError {
    SqlError::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access: the transaction's state was lost in a failover",
    )
}

/// What a transaction is told whose tables are not what they were.
pub(super) fn altered() -> SqlError {
    SqlError::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access due to a concurrent change of a table's definition",
    )
}

#[derive(Debug, Default)]
pub(super) struct Transactions {
    pub locks: LockTable,
    /// Bytes of locks that the account knows of.
    charged: usize,
    /// Boxed: there are few at a time, which come and go.
    all: BTreeMap<TransactionId, Box<Transaction>>,
    /// The sequences of the steps that ended transactions, and whether they did what they should.
    ended: BTreeMap<TransactionId, (u64, bool)>,
    /// By proxy, what it has its answers to, as far as it said so with anything within a transaction.
    lows: BTreeMap<Incarnation, Passed>,
}

#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// The session's process number, for deadlock reports.
    pub process: u32,
    pub level: Level,
    /// What it read is not protected any more: it must not commit.
    pub doomed: bool,
    pub executed: u32,
    /// The sequence of the last request or step, with what it is answered if it comes again; a read is executed again.
    pub last: Option<(u64, Option<Bytes>)>,
    /// The request that waits, for locks or for its rows.
    pub pending: Option<u64>,
    pub writes: WriteSet,
    pub overlay: Option<Overlay>,
    /// Bytes of the notifications among the writes.
    pub notified: usize,
    /// What there was before each request: writes and locks, and bytes of notifications.
    marks: Vec<(Mark, usize, usize)>,
    pub prepared: Option<Undecided>,
    /// Until when its coordinator, who was told to decide later, is given time to come again.
    pub awaited: Time,
}

/// A transaction whose outcome is not known here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undecided {
    pub anchor: PartitionId,
    /// When the anchor is asked.
    pub asks: Time,
}

impl Transactions {
    /// Nobody needs to look at locks.
    pub(super) fn is_idle(&self) -> bool {
        self.all.is_empty() && self.locks.is_empty()
    }

    pub(super) fn get(&self, transaction: TransactionId) -> Option<&Transaction> {
        self.all.get(&transaction).map(|open| &**open)
    }

    pub(super) fn get_mut(&mut self, transaction: TransactionId) -> Option<&mut Transaction> {
        self.all.get_mut(&transaction).map(|open| &mut **open)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (TransactionId, &Transaction)> {
        self.all.iter().map(|(id, open)| (*id, &**open))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = TransactionId> + '_ {
        self.all.keys().copied()
    }

    /// All proxies that something was heard of within a transaction.
    pub(super) fn proxies(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.lows.keys().copied()
    }

    /// Transactions of which the root has chunks, and that were lost with the last primary.
    pub(super) fn orphans(&self, root: &Root) -> Vec<TransactionId> {
        if !root.transactions().has_chunked() {
            return Vec::new();
        }
        let chunked = root.transactions().all_chunked().map(|(transaction, _)| transaction);
        chunked.filter(|transaction| !self.all.contains_key(transaction)).collect()
    }

    /// The locks, and one transaction.
    pub(super) fn with(&mut self, transaction: Option<TransactionId>) -> (&mut LockTable, Option<&mut Transaction>) {
        (&mut self.locks, transaction.and_then(|transaction| self.all.get_mut(&transaction)).map(|open| &mut **open))
    }

    pub(super) fn open(&mut self, transaction: TransactionId) -> &mut Transaction {
        self.all.entry(transaction).or_default()
    }

    /// Something came from a proxy, with its mark. False when the mark of something later was above it.
    #[must_use]
    pub(super) fn heard(&mut self, transaction: TransactionId, sequence: u64, low: u64) -> bool {
        let passed = self.lows.entry(transaction.proxy).or_default();
        let late = passed.has(sequence);
        if passed.raise(low) {
            self.forget_ended(transaction.proxy);
        }
        !late
    }

    /// A proxy has its answers to all below this sequence but these. Nothing of a transaction comes any more that was ended by one that is answered: no
    /// request of it waits, or its proxy would know nothing of its end.
    pub(super) fn answered(&mut self, proxy: Incarnation, below: u64, but: &[u64]) {
        if self.lows.get_mut(&proxy).is_some_and(|passed| passed.raise_but(below, but)) {
            self.forget_ended(proxy);
        }
    }

    fn forget_ended(&mut self, proxy: Incarnation) {
        let Some(passed) = self.lows.get(&proxy) else { return };
        let all = TransactionId { proxy, number: 0 }..=TransactionId { proxy, number: u64::MAX };
        let over = self.ended.range(all).filter(|(_, (sequence, _))| passed.has(*sequence)).map(|(ended, _)| *ended);
        let over: Vec<TransactionId> = over.collect();
        for ended in over {
            self.ended.remove(&ended);
        }
    }

    /// How a transaction ended that is not forgotten yet: by the step of this sequence, which did what it should or not.
    pub(super) fn ended(&self, transaction: TransactionId) -> Option<(u64, bool)> {
        self.ended.get(&transaction).copied()
    }

    /// Tells the account what the locks take by now.
    pub(super) fn charge(&mut self, account: &mut Account) {
        account.follow(&mut self.charged, self.locks.bytes());
    }

    /// How many bytes of locks there may be: what the account has room for, and a few in any case.
    pub(super) fn room_for_locks(&self, account: &Account) -> usize {
        let others = account.used().saturating_sub(self.charged);
        account.limit().saturating_sub(others).max(FREE_LOCK_BYTES)
    }

    /// The transaction is over: its locks go, and its writes. True when the root has chunks of it.
    pub(super) fn end(&mut self, transaction: TransactionId, account: &mut Account) -> bool {
        self.locks.release(transaction);
        self.charge(account);
        let Some(over) = self.all.remove(&transaction) else { return false };
        let chunked = over.writes.is_chunked() && over.prepared.is_none();
        over.finish(account);
        chunked
    }

    /// The sequence of the last request of an open transaction, as far as it is known: late copies are not above it.
    pub(super) fn last_heard(&self, transaction: TransactionId) -> u64 {
        let last = self.all.get(&transaction).and_then(|open| open.last.as_ref()).map(|(sequence, _)| *sequence);
        last.or_else(|| self.lows.get(&transaction.proxy).map(Passed::below)).unwrap_or_default()
    }

    /// A step ended the transaction, as it should or not.
    pub(super) fn note_end(&mut self, transaction: TransactionId, sequence: u64, done: bool) {
        self.ended.insert(transaction, (sequence, done));
    }

    /// A prepared transaction, as a new primary finds it.
    pub(super) fn restore(&mut self, transaction: TransactionId, undecided: Undecided) {
        self.open(transaction).prepared = Some(undecided);
    }

    /// The tables are others now: who relied on nobody changing what it read cannot do so any longer, but if all of it is its own doing.
    pub(super) fn doom_readers(&mut self, before: &Catalog, after: &Catalog) {
        let readers = |open: &Transaction| open.level == Level::Serializable && open.prepared.is_none();
        if !self.all.values().any(|open| readers(open)) {
            return;
        }
        let ids: BTreeSet<TableId> = before.tables.keys().chain(after.tables.keys()).copied().collect();
        let changed = ids.into_iter().map(|id| (before.table(id), after.table(id))).filter(|(old, new)| old != new);
        let owner = |table: Option<&Arc<Table>>| table.and_then(|table| table.state.owner());
        let owners: BTreeSet<_> = changed.map(|(old, new)| owner(new).or_else(|| owner(old))).collect();
        for (id, open) in self.all.iter_mut().filter(|(_, open)| readers(open)) {
            open.doomed |= owners.iter().any(|owner| *owner != Some(*id));
        }
    }

    /// Another transaction is about to replace or drop these tables: who has changed rows in them, or locked some, would keep nobody from the rows'
    /// successors.
    pub(super) fn doom_claimed(&mut self, catalog: &Catalog) {
        let Transactions { locks, all, .. } = self;
        let claimed = |of: TransactionId, table: TableId| {
            let state = catalog.table(table).map(|table| table.state);
            matches!(state, Some(state @ TableState::Claimed { .. }) if !state.takes_writes_of(Some(of)))
        };
        for (id, open) in all.iter_mut().filter(|(_, open)| open.prepared.is_none()) {
            open.doomed |= open.writes.tables().chain(locks.tables_of(*id)).any(|table| claimed(*id, table));
        }
    }

    /// Whether its coordinator, who may decide here, is waited for.
    pub(super) fn is_awaited(&self, transaction: TransactionId, now: Time) -> bool {
        self.get(transaction).is_some_and(|open| open.prepared.is_none() && !open.doomed && now < open.awaited)
    }

    /// The proxy is dead: nothing of it will be executed any more.
    pub(super) fn forget_proxies(&mut self, dead: impl Fn(Incarnation) -> bool) {
        self.ended.retain(|transaction, _| !dead(transaction.proxy));
        self.lows.retain(|proxy, _| !dead(*proxy));
    }

    /// Forgets everything: another worker is the primary.
    pub(super) fn finish(mut self, account: &mut Account) {
        account.follow(&mut self.charged, 0);
        self.all.into_values().for_each(|transaction| transaction.finish(account));
    }
}

impl Transaction {
    /// Makes the overlay what the transaction sees of a table on top of this root.
    pub(super) fn lay(&mut self, root: &Root, table: TableId, account: &mut Account) -> SqlResult<()> {
        if !self.writes.changes_table(table) {
            return Ok(());
        }
        self.overlay.get_or_insert_with(|| Overlay::new(root)).lay(root, &self.writes, table, account)
    }

    /// Gives back what is laid over, which would only make others copy what they share with it.
    pub(super) fn finish_overlay(&mut self, account: &mut Account) {
        if let Some(overlay) = self.overlay.take() {
            overlay.finish(account);
        }
    }

    /// The overlay, if what the transaction sees of the table is not the root's.
    pub(super) fn overlay_of(&self, table: TableId) -> Option<&Overlay> {
        self.overlay.as_ref().filter(|_| self.writes.changes_table(table))
    }

    /// A request begins: what is done from now on is its.
    pub(super) fn begin(&mut self, held: usize) {
        let mark = (self.writes.mark(), held, self.notified);
        self.marks.truncate(self.executed as usize + 1);
        if self.marks.len() == self.executed as usize {
            self.marks.push(mark);
        }
    }

    /// What the first so many requests have written; none where that is not known.
    pub(super) fn writes_of(&self, requests: u32) -> SqlResult<Option<WriteSet>> {
        self.marks.get(requests as usize).map(|(mark, ..)| self.writes.until(*mark)).transpose()
    }

    /// A request is executed, and answered this.
    pub(super) fn executed(&mut self, sequence: u64, answer: Option<Bytes>) {
        let again = self.last.as_ref().is_some_and(|(last, _)| *last == sequence);
        self.executed += u32::from(!again);
        self.pending = None;
        self.last = Some((sequence, answer));
    }

    /// The writes of a statement, which was checked.
    pub(super) fn push(&mut self, changes: &[Change<'_>], root: &Root, account: &mut Account) -> SqlResult<()> {
        self.writes.push(changes, root, account)?;
        for change in changes {
            if let Change::Notify { channel, payload, .. } = change {
                self.notified += Notices::bytes_of(channel, payload);
            }
        }
        Ok(())
    }

    /// Forgets what was done after the first `keep` requests. Returns how many locks to keep.
    pub(super) fn cut(&mut self, keep: u32, account: &mut Account) -> SqlResult<Option<usize>> {
        let Some(mark) = self.marks.get(keep as usize).copied() else { return Ok(None) };
        self.marks.iter_mut().skip(keep as usize).for_each(|later| *later = mark);
        self.writes.cut(mark.0, account)?;
        self.notified = mark.2;
        Ok(Some(mark.1))
    }

    fn finish(mut self, account: &mut Account) {
        self.finish_overlay(account);
        self.writes.finish(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_forgotten_though_a_request_waits() {
        let mut transactions = Transactions::default();
        let of = |number| TransactionId { proxy: Incarnation(1), number };
        assert!(transactions.heard(of(1), 1, 1));
        for number in 2..=9 {
            assert!(transactions.heard(of(number), 10 * number, 1));
            transactions.note_end(of(number), 10 * number, true);
        }
        transactions.answered(Incarnation(1), 80, &[1, 35]);
        assert_eq!(
            (transactions.ended.len(), transactions.ended(of(7)), transactions.ended(of(8)).is_some()),
            (2, None, true)
        );
        assert!(transactions.heard(of(1), 1, 1) && transactions.heard(of(11), 35, 1), "they wait");
        assert!(!transactions.heard(of(7), 65, 1), "its transaction must not be opened anew");
    }
}
