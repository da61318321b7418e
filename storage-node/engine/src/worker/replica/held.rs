//! What a backup or joining replica holds of its partition: every entry, and the state after those that are acknowledged.

use crate::log::{Entry, Tail};
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::root::Root;
use bytes::Bytes;
use toroid_common::error::SqlError;
use toroid_common::id::{Epoch, Lsn};
use toroid_common::wire::{AppendPart, LogEnd};

#[derive(Debug)]
pub(in super::super) struct Held {
    /// The state after the last applied entry.
    pub root: Root,
    /// Appended entries that are not applied.
    tail: Tail,
}

impl Held {
    /// A root, the last entry of which was made in the epoch `created`.
    pub(super) fn after(root: Root, created: Option<Epoch>) -> Held {
        Held { tail: Tail::after(root.lsn(), created), root }
    }

    /// What a primary had that is one no more. All it applied is acknowledged.
    pub(super) fn from_primary(root: Root, mut tail: Tail) -> Held {
        tail.drop_to(root.lsn());
        Held { root, tail }
    }

    /// The last entry that it holds.
    pub(in super::super) fn appended(&self) -> Lsn {
        self.tail.last()
    }

    pub(super) fn log_end(&self) -> LogEnd {
        self.tail.log_end()
    }

    /// The primary's log differs from `first` on.
    pub(super) fn cut(&mut self, first: Lsn) -> Result<(), String> {
        if first <= self.root.lsn() {
            return Err(format!("the log is to be cut from {first}, it is applied up to {}", self.root.lsn()));
        }
        if first > self.appended().next() {
            return Err(format!("entries from {first} leave a gap after {}", self.appended()));
        }
        self.tail.cut(first);
        Ok(())
    }

    /// Takes the next entries, and applies what is acknowledged. An error says why the sender cannot be the primary.
    pub(super) fn append(&mut self, part: &AppendPart<'_>, account: &mut Account) -> Result<(), String> {
        let (head, last) = (part.head, self.appended());
        if head.first != last.next() {
            return Err(format!("entries from {} came after {last}", head.first));
        }
        if part.count > 0 && (head.created > head.epoch || self.tail.newest().is_some_and(|e| e > head.created)) {
            return Err(format!("entries of epoch {} in epoch {}, after {:?}", head.created, head.epoch, self.tail));
        }
        for entry in part.entries() {
            let entry = entry.map_err(|error| error.to_string())?;
            Entry::read(entry).map_err(|error| error.to_string())?;
            self.tail.push(head.created, |out| out.extend_from_slice(entry));
        }
        // One that is still joining may lack entries that the replicas of the epoch hold.
        self.apply_to(head.acknowledged.min(self.appended()), account).map_err(|error| error.to_string())
    }

    /// Applies entries up to this one.
    fn apply_to(&mut self, last: Lsn, account: &mut Account) -> Result<(), SqlError> {
        apply(&mut self.root, &self.tail, last, account)?;
        self.tail.drop_to(last);
        Ok(())
    }

    /// Applies all that is held, as a new primary does. The log keeps what was not known to be acknowledged: what comes after the entry that is
    /// returned.
    pub(super) fn promote(self, account: &mut Account) -> Result<(Root, Lsn, Tail), SqlError> {
        let Held { mut root, tail } = self;
        let acknowledged = root.lsn();
        apply(&mut root, &tail, tail.last(), account)?;
        root.finish_building(account);
        Ok((root, acknowledged, tail))
    }
}

/// Applies the entries that come after the state, up to `last`.
fn apply(root: &mut Root, tail: &Tail, last: Lsn, account: &mut Account) -> Result<(), SqlError> {
    assert_eq!(tail.base(), root.lsn(), "a follower's log begins where its state ends");
    while root.lsn() < last {
        let lsn = root.lsn().next();
        let Some(bytes) = tail.get(lsn) else { return Err(SqlError::internal(format!("entry {lsn} is not held"))) };
        let entry = Entry::read(bytes)?;
        let changes = Change::read_all(entry.changes)?;
        root.apply(&changes, lsn, account);
        if let Some(executed) = entry.executed {
            root.answers.insert(executed.request, Bytes::copy_from_slice(executed.outcome));
            root.answers.forget_below(executed.request.proxy, executed.low);
        }
    }
    Ok(())
}
