//! Cuts at a worker: the roots that are captured in one instant, from the capture until nobody reads them any more.

use super::event::ConnectionId;
use super::replica::Replica;
use crate::gate::Time;
use crate::store::account::Account;
use crate::store::root::Root;
use std::collections::BTreeMap;
use std::sync::Arc;
use toroid_common::catalog::TableState;
use toroid_common::id::{CutId, Epoch, PartitionId, TableId, TransactionId};

/// How long the answers behind a capture may wait for its release. The metadata leader gives up in half that time.
pub(super) const GATE_LIMIT_MICROS: u64 = 200_000;
/// How long cuts of a former leader are kept: it cannot say any more that nobody reads them.
const FORMER_TERM_MICROS: u64 = 10_000_000;

/// One partition of a cut.
#[derive(Debug)]
pub(super) struct Capture {
    pub partition: PartitionId,
    pub epoch: Epoch,
    /// Since when this worker is its primary: another one would not know of the capture.
    pub since: Epoch,
    /// As captured; once it was read in a released cut, with what belongs to it laid over it.
    pub root: Root,
    complete: bool,
}

/// A cut that is not released yet. While there is one, the gates of the captured partitions are barred.
#[derive(Debug)]
pub(super) struct Open {
    pub cut: CutId,
    pub since: Time,
    pub captures: Vec<Capture>,
    /// The metadata service has been told what is captured.
    pub told: bool,
    /// Messages of proxies that are to read it, which heard of the release first.
    pub readers: Vec<(ConnectionId, Vec<u8>)>,
}

/// A cut that may be read.
#[derive(Debug)]
pub(super) struct Released {
    captures: Vec<Capture>,
    /// Of the transactions that were prepared in it, those that belong to it.
    committed: Arc<[TransactionId]>,
}

/// Where a cut stands at this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be read.
    Released,
    /// Its release is on its way: who wants to read it waits.
    Open,
    /// It was never here, or is no more.
    Unknown,
}

/// All cuts that this worker has something of.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// The last capture or leader that was heard of: older ones are refused.
    latest: CutId,
    pub open: Option<Open>,
    released: BTreeMap<CutId, Released>,
    /// When the cuts of former terms are dropped.
    expires: Option<Time>,
}

impl Cuts {
    /// Whether this is news: captures of a leader that was replaced are refused. From a new one on, the cuts of others are on their way out.
    pub(super) fn hear(&mut self, cut: CutId, now: Time) -> bool {
        if cut <= self.latest {
            return false;
        }
        if cut.term > self.latest.term && !self.released.is_empty() {
            self.expires = Some(now.after(FORMER_TERM_MICROS));
        }
        self.latest = cut;
        true
    }

    pub(super) fn term(&self) -> u64 {
        self.latest.term
    }

    pub(super) fn standing(&self, cut: CutId) -> Standing {
        if self.released.contains_key(&cut) {
            return Standing::Released;
        }
        match self.open.as_ref().is_some_and(|open| open.cut == cut) {
            true => Standing::Open,
            false => Standing::Unknown,
        }
    }

    /// What was captured of a partition in a released cut, without what is to be laid over it: enough for whoever asks for tables alone.
    pub(super) fn as_captured(&self, cut: CutId, partition: PartitionId) -> Option<&Root> {
        let captures = &self.released.get(&cut)?.captures;
        let at = captures.binary_search_by_key(&partition, |capture| capture.partition).ok()?;
        captures.get(at).map(|capture| &capture.root)
    }

    /// A table that came later than the cut is there, and empty: whoever filled it came later, too. Not where a table of the cut is gone, whose place it
    /// may have taken with all its rows. One that is not published yet is as it is: only the transaction that made it asks for that, and what fills it is its
    /// own; published it has another version.
    pub(super) fn admit(
        &mut self,
        cut: CutId,
        partition: PartitionId,
        table: TableId,
        present: &Root,
        account: &mut Account,
    ) {
        let Some(Released { captures, .. }) = self.released.get_mut(&cut) else { return };
        let Ok(at) = captures.binary_search_by_key(&partition, |capture| capture.partition) else { return };
        let Some(capture) = captures.get_mut(at) else { return };
        if Arc::ptr_eq(capture.root.catalog(), present.catalog()) {
            return;
        }
        let Some(now) = present.table(table) else { return };
        let captured = &capture.root.catalog().tables;
        let known = capture.root.table(table).map(|known| known.definition().version);
        if captured.contains_key(&table) || known == Some(now.definition().version) {
            return;
        }
        match now.definition().state {
            TableState::Private { .. } => capture.root.take_table(table, present, account),
            TableState::Open | TableState::Moving { .. } | TableState::Filling { .. } | TableState::Claimed { .. } => {
                if captured.keys().all(|id| present.catalog().tables.contains_key(id)) {
                    capture.root.admit(Arc::clone(now.definition()), account);
                }
            }
        }
    }

    /// What is to be read of a partition in a released cut: what was captured, with the prepared write sets laid over it that belong to the cut.
    pub(super) fn read(&mut self, cut: CutId, partition: PartitionId, account: &mut Account) -> Option<&Root> {
        let Released { captures, committed } = self.released.get_mut(&cut)?;
        let at = captures.binary_search_by_key(&partition, |capture| capture.partition).ok()?;
        let capture = captures.get_mut(at)?;
        if !std::mem::replace(&mut capture.complete, true) {
            let belongs = |transaction: &TransactionId| capture.root.transactions().prepared(*transaction).is_some();
            if committed.iter().any(belongs) {
                let root = capture.root.with_committed(committed, account);
                std::mem::replace(&mut capture.root, root).finish(account);
            }
        }
        Some(&capture.root)
    }

    pub(super) fn release(&mut self, open: Open, committed: Arc<[TransactionId]>) {
        self.released.insert(open.cut, Released { captures: open.captures, committed });
    }

    /// Nobody reads it any more.
    pub(super) fn drop_cut(&mut self, cut: CutId, account: &mut Account) {
        self.released.remove(&cut).into_iter().for_each(|released| finish(released.captures, account));
    }

    /// Of this term's cuts only these are read.
    pub(super) fn keep(&mut self, term: u64, read: &[CutId], account: &mut Account) {
        let gone = self.released.extract_if(.., |cut, _| cut.term == term && !read.contains(cut));
        gone.for_each(|(_, released)| finish(released.captures, account));
    }

    /// When cuts of former terms go.
    pub(super) fn expires(&self) -> Option<Time> {
        self.expires
    }

    pub(super) fn expire(&mut self, now: Time, account: &mut Account) {
        if self.expires.is_some_and(|at| at <= now) {
            self.expires = None;
            let term = self.latest.term;
            let gone = self.released.extract_if(.., |cut, _| cut.term < term);
            gone.for_each(|(_, released)| finish(released.captures, account));
        }
    }

    /// Lets go of partitions of which this worker is not the primary any more as it was.
    pub(super) fn follow(&mut self, replicas: &[Option<Replica>], account: &mut Account) {
        for released in self.released.values_mut() {
            let gone = released.captures.extract_if(.., |capture| !capture.stands(replicas));
            finish(gone.collect(), account);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.released.len()
    }
}

impl Capture {
    pub(super) fn new((partition, epoch): (PartitionId, Epoch), since: Epoch, root: Root) -> Capture {
        Capture { partition, epoch, since, root, complete: false }
    }

    /// Whether the partition's primary is still the one that captured it.
    pub(super) fn stands(&self, replicas: &[Option<Replica>]) -> bool {
        match replicas.get(usize::from(self.partition.0)) {
            Some(Some(Replica::Primary(primary))) => primary.since == self.since,
            Some(_) | None => false,
        }
    }
}

/// Gives captured roots back.
pub(super) fn finish(captures: Vec<Capture>, account: &mut Account) {
    captures.into_iter().for_each(|capture| capture.root.finish(account));
}
