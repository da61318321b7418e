//! A backup's role: holds every entry, applies those that are acknowledged.

use crate::log::{Entry, Tail};
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::root::Root;
use bytes::Bytes;
use toroid_common::error::SqlError;
use toroid_common::id::{Epoch, Lsn};
use toroid_common::wire::AppendPart;

#[derive(Debug)]
pub(in super::super) struct Backup {
    pub epoch: Epoch,
    /// The state after the last applied entry.
    pub root: Root,
    /// Appended entries that are not applied.
    tail: Tail,
}

impl Backup {
    /// A backup that starts with its partition.
    pub(in super::super) fn first(epoch: Epoch, root: Root) -> Backup {
        Backup { epoch, tail: Tail::after(root.lsn()), root }
    }

    /// The last entry that it holds.
    pub(in super::super) fn appended(&self) -> Lsn {
        self.tail.last()
    }

    /// Holds the entries of its epoch, and applies what is acknowledged. An error says why the sender cannot be the primary.
    pub(in super::super) fn append(&mut self, part: &AppendPart<'_>, account: &mut Account) -> Result<(), String> {
        if part.head.epoch != self.epoch {
            return Err(format!("entries of epoch {}, the backup has {}", part.head.epoch, self.epoch));
        }
        let mut lsn = part.head.first;
        if lsn > self.appended().next() {
            return Err(format!("entries from {lsn} leave a gap after {}", self.appended()));
        }
        for entry in part.entries() {
            let entry = entry.map_err(|error| error.to_string())?;
            // A primary that connects again sends what it has no confirmation for, also what has arrived.
            if lsn > self.appended() {
                Entry::read(entry).map_err(|error| error.to_string())?;
                self.tail.push(|out| out.extend_from_slice(entry));
            }
            lsn = lsn.next();
        }
        if part.head.acknowledged > self.appended() {
            return Err(format!(
                "entry {} is said to be acknowledged, the log ends at {}",
                part.head.acknowledged,
                self.appended()
            ));
        }
        self.apply_to(part.head.acknowledged, account).map_err(|error| error.to_string())
    }

    /// Applies acknowledged entries only.
    fn apply_to(&mut self, acknowledged: Lsn, account: &mut Account) -> Result<(), SqlError> {
        while let Some((lsn, bytes)) = self.tail.front() {
            if lsn > acknowledged {
                break;
            }
            assert_eq!(lsn, self.root.lsn().next(), "entries are applied in order, without gaps");
            let entry = Entry::read(bytes)?;
            let changes = Change::read_all(entry.changes)?;
            self.root.apply(&changes, lsn, account);
            if let Some(executed) = entry.executed {
                self.root.answers.insert(executed.request, Bytes::copy_from_slice(executed.outcome));
                self.root.answers.forget_below(executed.request.proxy, executed.low);
            }
            self.tail.drop_to(lsn);
        }
        Ok(())
    }
}
