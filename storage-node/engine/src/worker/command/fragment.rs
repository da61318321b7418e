//! Fragments: parts of distributed plans, run outside the thread over roots that are lent: present ones, and their batches pass the gates by these roots'
//! LSNs, or those of a cut; with the own writes of their transaction laid over them.

use super::super::Worker;
use super::super::cuts::Standing;
use super::super::event::{Action, Actions, ConnectionId, Ticket};
use super::super::replica::{Primary, Replica};
use super::super::transaction::{Transactions, altered, forgotten};
use super::compute::all_unchanged_since;
use crate::gate::Time;
use crate::lock::Want;
use crate::store::account::Account;
use crate::store::root::Root;
use crate::store::write_set::{Overlay, WriteSet};
use bytes::Bytes;
use std::collections::VecDeque;
use toroid_common::catalog::TableState;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, CutId, Epoch, Lsn, PartitionId, TableId};
use toroid_common::plan::TableLock;
use toroid_common::transaction::Level;
use toroid_common::wire::{Fragment, FragmentBatch, FragmentEnd, FragmentOutcome, Message, Refusal};

/// Fragments that one worker runs at a time.
const MAX_FRAGMENTS: usize = 4_096;

/// A fragment that runs, or whose last batches wait.
#[derive(Debug)]
pub(in super::super) struct Running {
    connection: ConnectionId,
    sequence: u64,
    /// Nothing of a cut: all of it is acknowledged.
    saw: Saw,
    /// The capture behind which its present roots were taken.
    behind: Option<CutId>,
    held: VecDeque<Bytes>,
    end: Option<FragmentOutcome>,
}

/// Roots that are lent.
type Roots = Vec<(PartitionId, Root)>;
/// What present roots have seen, and since when their worker is the primary.
type Saw = Vec<(PartitionId, Epoch, Lsn)>;

/// Whether a fragment's batches may leave.
enum Passage {
    Open,
    Wait,
    /// A partition's primary was another one in the meantime: what the fragment saw may not be so.
    Lost,
}

impl Worker {
    pub(in super::super) fn fragment(
        &mut self,
        connection: ConnectionId,
        fragment: &Fragment<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let sequence = fragment.sequence;
        if self.peers.proxy_mut(connection).is_none() {
            return self.close(connection, "a fragment from a peer that is no proxy".to_owned(), now, actions);
        }
        if let Some(cut) = fragment.cut
            && self.standing(cut) == Standing::Open
        {
            return self.await_release(connection, &Message::Fragment(fragment.clone()), now, actions);
        }
        self.admit_tables(fragment);
        if let Err(refusal) = self.may_run(fragment) {
            self.counters.refusals += 1;
            return end(connection, sequence, FragmentOutcome::Refused(refusal), actions);
        }
        let ticket = self.ticket();
        let Some(proxy) = self.peers.proxy_mut(connection) else { return };
        if proxy.fragments.contains_key(&sequence) {
            return self.close(connection, format!("fragment {sequence} runs already"), now, actions);
        }
        let (roots, saw) = match self.roots(fragment) {
            Ok(roots) => roots,
            Err(error) => return end(connection, sequence, FragmentOutcome::Error(error), actions),
        };
        if let Some(proxy) = self.peers.proxy_mut(connection) {
            proxy.fragments.insert(sequence, ticket);
        }
        self.counters.fragments += 1;
        let behind = self.cuts.open.as_ref().map(|open| open.cut).filter(|_| fragment.cut.is_none());
        self.fragments.insert(ticket, Running { connection, sequence, saw, behind, held: VecDeque::new(), end: None });
        actions.push(Action::RunFragment {
            ticket,
            roots,
            plan: Bytes::copy_from_slice(fragment.plan),
            env: Bytes::copy_from_slice(fragment.env),
            credit: fragment.credit,
        });
    }

    /// Tables that are newer than the cut that is read.
    fn admit_tables(&mut self, fragment: &Fragment<'_>) {
        let Some(cut) = fragment.cut else { return };
        let Worker { replicas, cuts, account, .. } = self;
        for (partition, _) in &fragment.partitions {
            let Some(Some(Replica::Primary(primary))) = replicas.get(usize::from(partition.0)) else { continue };
            for (table, _) in &fragment.tables {
                cuts.admit(cut, *partition, *table, &primary.root, account);
            }
        }
    }

    fn may_run(&self, fragment: &Fragment<'_>) -> Result<(), Refusal> {
        if self.fragments.len() >= MAX_FRAGMENTS {
            return Err(Refusal::Busy);
        }
        for (partition, epoch) in &fragment.partitions {
            let root = match fragment.cut {
                // Backups may have come and gone since.
                Some(cut) => self.cuts.as_captured(cut, *partition).ok_or(Refusal::NoCut)?,
                None => self.present(*partition, *epoch)?,
            };
            // Their outcome may be known elsewhere already: a cut tells.
            let locked = fragment.within.is_some_and(|within| within.level == Level::Serializable);
            let undecided = |(table, _): &(TableId, CatalogVersion)| root.transactions().prepared_on(*table);
            if fragment.cut.is_none() && !locked && fragment.tables.iter().any(undecided) {
                return Err(Refusal::NoCut);
            }
            if self.is_locked(fragment, *partition) {
                return Err(Refusal::TableLocked);
            }
            let have = root.catalog().version;
            for (table, version) in &fragment.tables {
                let found = root.table(*table).map(|table| table.definition().version);
                if found != Some(*version) {
                    return Err(match *version > have {
                        true => Refusal::BehindCatalog { have },
                        false => Refusal::StaleCatalog { have },
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether somebody else lets nobody read one of its tables.
    fn is_locked(&self, fragment: &Fragment<'_>, partition: PartitionId) -> bool {
        let Some(Some(Replica::Primary(primary))) = self.replicas.get(usize::from(partition.0)) else { return false };
        let locks = &primary.transactions.locks;
        let own = fragment.transaction();
        let want = |table| Want::<&[u8]>::Table { table, mode: TableLock::AccessShare };
        locks.has_tables() && fragment.tables.iter().any(|(table, _)| !locks.is_free(&want(*table), own, None))
    }

    /// What a fragment that may run reads of each of its partitions, and of which present ones its batches tell.
    fn roots(&mut self, fragment: &Fragment<'_>) -> SqlResult<(Roots, Saw)> {
        let mut roots = Vec::with_capacity(fragment.partitions.len());
        let mut saw = Vec::with_capacity(fragment.partitions.len());
        let Worker { replicas, cuts, account, .. } = self;
        for (at, (partition, _)) in fragment.partitions.iter().enumerate() {
            let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { continue };
            let since = primary.since;
            let Primary { root, transactions, .. } = &mut **primary;
            let captured = fragment.cut.and_then(|cut| cuts.read(cut, *partition, account));
            if captured.is_none() {
                saw.push((*partition, since, root.lsn()));
            }
            let base = captured.unwrap_or(root);
            let replaced = captured.map_or(Ok(()), |cut| may_be_replaced(cut, root, fragment));
            match replaced.and_then(|()| with_own_writes(transactions, fragment, at, base, account)) {
                Ok(own) => roots.push((*partition, own.unwrap_or_else(|| base.clone()))),
                Err(error) => {
                    roots.into_iter().for_each(|(_, root): (PartitionId, Root)| root.finish(account));
                    return Err(error);
                }
            }
        }
        Ok((roots, saw))
    }

    /// The root of a partition that this worker serves in that epoch.
    fn present(&self, partition: PartitionId, epoch: Epoch) -> Result<&Root, Refusal> {
        match self.replicas.get(usize::from(partition.0)) {
            Some(Some(Replica::Primary(primary))) if primary.epoch == epoch && primary.serves() => Ok(&primary.root),
            Some(_) | None => Err(self.stale_map()),
        }
    }

    pub(in super::super) fn fragment_credit(
        &mut self,
        connection: ConnectionId,
        sequence: u64,
        batches: u32,
        actions: &mut Actions,
    ) {
        // Credit for a fragment that has ended in the meantime is no mistake.
        if let Some(ticket) = self.peers.proxy_mut(connection).and_then(|proxy| proxy.fragments.get(&sequence)) {
            actions.push(Action::FragmentCredit { ticket: *ticket, batches });
        }
    }

    /// The proxy wants no more of it, and gets no more, not even its end.
    pub(in super::super) fn fragment_cancel(
        &mut self,
        connection: ConnectionId,
        sequence: u64,
        now: Time,
        actions: &mut Actions,
    ) {
        let is_it = |message: &Message<'_>| matches!(message, Message::Fragment(it) if it.sequence == sequence);
        if self.awaits_release(connection, is_it) {
            return self.await_release(connection, &Message::FragmentCancel { sequence }, now, actions);
        }
        if let Some(ticket) = self.peers.proxy_mut(connection).and_then(|proxy| proxy.fragments.remove(&sequence)) {
            actions.push(Action::FragmentCancel { ticket });
        }
    }

    pub(in super::super) fn fragment_batch(&mut self, ticket: Ticket, bytes: Bytes, now: Time, actions: &mut Actions) {
        let Some(running) = self.fragments.get_mut(&ticket) else { return };
        running.held.push_back(bytes);
        self.flush_fragment(ticket, now, actions);
    }

    pub(in super::super) fn fragment_finished(
        &mut self,
        ticket: Ticket,
        roots: Vec<(PartitionId, Root)>,
        outcome: FragmentOutcome,
        now: Time,
        actions: &mut Actions,
    ) {
        for (_, root) in roots {
            root.finish(&mut self.account);
        }
        let Some(running) = self.fragments.get_mut(&ticket) else { return };
        running.end = Some(outcome);
        self.flush_fragment(ticket, now, actions);
    }

    /// Lets out what waited, after more is acknowledged or the lease renewed.
    pub(super) fn flush_fragments(&mut self, now: Time, actions: &mut Actions) {
        let waiting = |(ticket, running): (&Ticket, &Running)| {
            (!running.held.is_empty() || running.end.is_some()).then_some(*ticket)
        };
        let tickets: Vec<Ticket> = self.fragments.iter().filter_map(waiting).collect();
        for ticket in tickets {
            self.flush_fragment(ticket, now, actions);
        }
    }

    fn flush_fragment(&mut self, ticket: Ticket, now: Time, actions: &mut Actions) {
        let Some(running) = self.fragments.get(&ticket) else { return };
        let passage = if self.lease.holds(now) { self.passage(running) } else { Passage::Wait };
        let Worker { fragments, peers, .. } = self;
        let Some(running) = fragments.get_mut(&ticket) else { return };
        let Running { connection, sequence, .. } = *running;
        let wanted = peers.proxy_mut(connection).is_some_and(|proxy| proxy.fragments.get(&sequence) == Some(&ticket));
        match (wanted, passage) {
            (false, _) => running.held.clear(),
            (true, Passage::Wait) => return,
            (true, Passage::Open) => {
                for bytes in running.held.drain(..) {
                    let batch = Message::FragmentBatch(FragmentBatch { sequence, bytes: &bytes });
                    actions.send(connection, |out| batch.write(out));
                }
            }
            (true, Passage::Lost) => {
                running.held.clear();
                let error = SqlError::new(SqlState::SERIALIZATION_FAILURE, "a partition moved while it was read");
                end(connection, sequence, FragmentOutcome::Error(error), actions);
                actions.push(Action::FragmentCancel { ticket });
                if let Some(proxy) = peers.proxy_mut(connection) {
                    proxy.fragments.remove(&sequence);
                }
            }
        }
        let Some(outcome) = running.end.take() else { return };
        fragments.remove(&ticket);
        if let Some(proxy) = peers.proxy_mut(connection)
            && proxy.fragments.get(&sequence) == Some(&ticket)
        {
            proxy.fragments.remove(&sequence);
            end(connection, sequence, outcome, actions);
        }
    }

    fn passage(&self, running: &Running) -> Passage {
        let open = self.cuts.open.as_ref().map(|open| open.cut);
        let mut passage =
            if running.behind.is_some() && running.behind == open { Passage::Wait } else { Passage::Open };
        for (partition, since, lsn) in &running.saw {
            match self.replicas.get(usize::from(partition.0)) {
                Some(Some(Replica::Primary(primary))) if primary.since == *since => {
                    // While a hand-over is planned the successor may be the primary already.
                    if primary.acknowledged() < *lsn || primary.successor.is_some() {
                        passage = Passage::Wait;
                    }
                }
                Some(_) | None => return Passage::Lost,
            }
        }
        passage
    }
}

/// A transaction reads a table that it has claimed in order to fill what replaces it: what others have written since its cut would be lost.
fn may_be_replaced(cut: &Root, present: &Root, fragment: &Fragment<'_>) -> SqlResult<()> {
    let own = fragment.transaction();
    let is_claimed = |table| {
        let state = present.table(table).map(|table| table.definition().state);
        matches!(state, Some(TableState::Claimed { owner, .. }) if Some(owner) == own)
    };
    let mut claimed = fragment.tables.iter().map(|(table, _)| *table).filter(|table| is_claimed(*table));
    claimed.try_for_each(|table| all_unchanged_since(cut, present, table))
}

/// What the fragment's transaction sees of a partition, where that is something else than what is there.
fn with_own_writes(
    transactions: &mut Transactions,
    fragment: &Fragment<'_>,
    at: usize,
    base: &Root,
    account: &mut Account,
) -> SqlResult<Option<Root>> {
    let Some(transaction) = fragment.transaction() else { return Ok(None) };
    let earlier = fragment.earlier.get(at).copied().unwrap_or_default();
    match transactions.get_mut(transaction) {
        None if earlier == 0 => Ok(None),
        // A part of a query that is sent while its transaction goes on: it sees what there was when the query began.
        Some(open) if open.executed > earlier && open.prepared.is_none() && !open.doomed => {
            match open.writes_of(earlier)? {
                Some(writes) => laid_apart(fragment, base, &writes, account),
                None => Err(forgotten()),
            }
        }
        Some(open) if open.executed == earlier && open.prepared.is_none() && !open.doomed => {
            if fragment.cut.is_some() {
                // What is laid over for others has another state below, be its LSN the same.
                return laid_apart(fragment, base, &open.writes, account);
            }
            for (table, _) in &fragment.tables {
                open.lay(base, *table, account)?;
            }
            let changed = fragment.tables.iter().any(|(table, _)| open.writes.changes_table(*table));
            Ok(open.overlay.as_ref().filter(|_| changed).map(|overlay| overlay.root().clone()))
        }
        Some(open) if open.doomed => Err(altered()),
        Some(_) | None => Err(forgotten()),
    }
}

/// A state of its own with these writes laid over.
fn laid_apart(
    fragment: &Fragment<'_>,
    base: &Root,
    writes: &WriteSet,
    account: &mut Account,
) -> SqlResult<Option<Root>> {
    let mut overlay = Overlay::new(base);
    let laid = fragment.tables.iter().try_for_each(|(table, _)| overlay.lay(base, writes, *table, account));
    let root = laid.map(|()| Some(overlay.root().clone()));
    overlay.finish(account);
    root
}

fn end(connection: ConnectionId, sequence: u64, outcome: FragmentOutcome, actions: &mut Actions) {
    let message = Message::FragmentEnd(FragmentEnd { sequence, outcome });
    actions.send(connection, |out| message.write(out));
}
