//! The primary's role: orders entries, applies them at once, and knows which of them all replicas hold.

use super::super::event::ConnectionId;
use crate::gate::Gate;
use crate::log::{Entry, Executed, Tail};
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::root::Root;
use bytes::Bytes;
use toroid_common::id::{CatalogVersion, Epoch, Lsn, WorkerId};

/// Bytes of entries that backups have not acknowledged, and of answers that wait for it, above which a partition takes no more requests.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// For whom an answer waits in the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Reply {
    Proxy(ConnectionId),
    /// The partition has this catalog.
    Catalog(CatalogVersion),
}

/// A backup as its primary knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Progress {
    pub worker: WorkerId,
    /// It has said that it holds the log up to here.
    pub appended: Lsn,
    /// It has been sent the log up to here, on the present connection.
    pub sent: Lsn,
    /// It has been told that the log is acknowledged up to here.
    pub told: Lsn,
}

#[derive(Debug)]
pub(in super::super) struct Primary {
    pub epoch: Epoch,
    /// The state after the last appended entry: entries are applied at once.
    pub root: Root,
    /// All replicas of the epoch hold the log up to here.
    acknowledged: Lsn,
    /// Entries that are not acknowledged.
    tail: Tail,
    pub backups: Vec<Progress>,
    pub gate: Gate<Reply>,
}

impl Primary {
    /// The first primary of a partition.
    pub(in super::super) fn first(epoch: Epoch, root: Root, backups: &[WorkerId]) -> Primary {
        let lsn = root.lsn();
        let backups = backups.iter().map(|worker| Progress { worker: *worker, appended: lsn, sent: lsn, told: lsn });
        Primary {
            epoch,
            acknowledged: lsn,
            tail: Tail::after(lsn),
            backups: backups.collect(),
            gate: Gate::default(),
            root,
        }
    }

    pub(in super::super) fn acknowledged(&self) -> Lsn {
        self.acknowledged
    }

    /// Whether an answer that saw the current state could leave now, as far as this partition is concerned.
    pub(in super::super) fn is_open(&self) -> bool {
        self.acknowledged == self.root.lsn() && self.gate.is_empty()
    }

    /// Whether too much waits for the backups.
    pub(in super::super) fn is_choked(&self) -> bool {
        self.tail.bytes() + self.gate.bytes() > MAX_WAITING_BYTES
    }

    /// Appends checked changes as the next entry and applies them.
    pub(in super::super) fn append(
        &mut self,
        executed: Option<Executed<'_>>,
        changes: &[Change<'_>],
        account: &mut Account,
    ) -> Lsn {
        let lsn = self.root.lsn().next();
        if !self.backups.is_empty() {
            self.tail.push(|out| {
                Entry::write(out, executed.as_ref(), |out| changes.iter().for_each(|change| change.write(out)));
            });
            assert_eq!(self.tail.last(), lsn, "a primary's log and state go together");
        }
        self.root.apply(changes, lsn, account);
        if let Some(executed) = executed {
            self.root.answers.insert(executed.request, Bytes::copy_from_slice(executed.outcome));
            self.root.answers.forget_below(executed.request.proxy, executed.low);
        }
        if self.backups.is_empty() {
            self.acknowledged = lsn;
        }
        lsn
    }

    /// A backup says how far its log goes. True when more is acknowledged now.
    pub(in super::super) fn appended_at(&mut self, worker: WorkerId, lsn: Lsn) -> Result<bool, String> {
        if lsn > self.root.lsn() {
            return Err(format!("backup {worker} confirms entry {lsn}, the log ends at {}", self.root.lsn()));
        }
        let Some(progress) = self.backups.iter_mut().find(|progress| progress.worker == worker) else {
            return Err(format!("worker {worker} confirms entry {lsn} and is no backup"));
        };
        progress.appended = progress.appended.max(lsn);
        let acknowledged = self.backups.iter().map(|progress| progress.appended).min().unwrap_or(self.root.lsn());
        assert!(self.acknowledged <= acknowledged, "what is acknowledged stays so");
        let advanced = self.acknowledged < acknowledged;
        if advanced {
            self.acknowledged = acknowledged;
            self.tail.drop_to(acknowledged);
        }
        Ok(advanced)
    }

    /// What a backup has not been sent yet, which counts as sent from now on: the first entry's LSN and the entries. `None` when there is
    /// nothing, not even news of what is acknowledged.
    pub(in super::super) fn unsent(
        &mut self,
        worker: WorkerId,
    ) -> Option<(Lsn, Lsn, impl ExactSizeIterator<Item = &[u8]>)> {
        let last = self.root.lsn();
        let progress = self.backups.iter_mut().find(|progress| progress.worker == worker)?;
        if progress.sent == last && progress.told == self.acknowledged {
            return None;
        }
        let sent = std::mem::replace(&mut progress.sent, last);
        progress.told = self.acknowledged;
        Some((sent.next(), self.acknowledged, self.tail.since(sent)))
    }

    /// The connection to a backup is new: it is sent again what it has not confirmed.
    pub(in super::super) fn resend(&mut self, worker: WorkerId) {
        if let Some(progress) = self.backups.iter_mut().find(|progress| progress.worker == worker) {
            progress.sent = progress.appended;
            progress.told = Lsn(0);
        }
    }
}
