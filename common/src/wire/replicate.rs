//! Worker ↔ worker: log entries from primaries to backups, for many partitions in one frame, and roots for those that join.
//!
//! In each epoch, and on each new connection, a follower (backup or joining replica) first says where its log ends ([`Follow`]); the primary answers with
//! a part that *begins*: the follower cuts its log before that part's first entry, and from then on confirms what it holds ([`Appended`]).
//! Entries are the same where position and creating epoch are the same, so the primary finds the last entry that both logs share.

use super::bytes::{Input, put_slice, put_u16, put_u32, put_u64};
use super::{Kind, WireError, frame};
use crate::id::{Epoch, Lsn, PartitionId};
use serde::{Deserialize, Serialize};

/// Entries for some of the receiver's backups: [`AppendPart`]s, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Append<'a> {
    parts: &'a [u8],
}

/// What is said of some entries of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntriesHead {
    pub partition: PartitionId,
    /// The epoch in which they are sent.
    pub epoch: Epoch,
    /// The epoch in which they were made; all of one part were made in the same.
    pub created: Epoch,
    /// The answer to a [`Follow`]: the receiver drops what it holds from `first` on.
    pub begins: bool,
    /// LSN of the first entry; with no entries the next one that will come.
    pub first: Lsn,
    /// The last entry that all replicas of the epoch hold.
    pub acknowledged: Lsn,
}

/// Entries of one partition, without gaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppendPart<'a> {
    pub head: EntriesHead,
    pub count: u32,
    entries: &'a [u8],
}

impl<'a> Append<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Append, |out| out.extend_from_slice(self.parts));
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<Append<'a>, WireError> {
        Ok(Append { parts: input.remaining() })
    }

    /// The parts in order.
    pub fn parts(&self) -> impl Iterator<Item = Result<AppendPart<'a>, WireError>> + use<'a> {
        let mut input = Input::new(self.parts);
        std::iter::from_fn(move || {
            if input.is_empty() {
                return None;
            }
            let part = AppendPart::read(&mut input);
            if part.is_err() {
                input = Input::new(&[]);
            }
            Some(part)
        })
    }
}

impl<'a> AppendPart<'a> {
    fn read(input: &mut Input<'a>) -> Result<AppendPart<'a>, WireError> {
        const WHAT: &str = "Append";
        let head = EntriesHead {
            partition: PartitionId(input.u16(WHAT)?),
            epoch: Epoch(input.u32(WHAT)?),
            created: Epoch(input.u32(WHAT)?),
            begins: input.bool(WHAT)?,
            first: Lsn(input.u64(WHAT)?),
            acknowledged: Lsn(input.u64(WHAT)?),
        };
        let count = input.u32(WHAT)?;
        let bytes = input.u32(WHAT)?;
        let entries = input.take(bytes as usize, WHAT)?;
        Ok(AppendPart { head, count, entries })
    }

    /// The entries' payloads, the first at [`EntriesHead::first`].
    pub fn entries(&self) -> impl Iterator<Item = Result<&'a [u8], WireError>> + use<'a> {
        let mut input = Input::new(self.entries);
        let mut left = self.count;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let entry = input.slice("Append");
            if entry.is_err() {
                left = 0;
            }
            Some(entry)
        })
    }
}

/// Collects the parts of one [`Append`] frame.
#[derive(Debug, Default)]
pub struct AppendWriter {
    parts: Vec<u8>,
}

impl AppendWriter {
    /// Adds entries of one partition.
    pub fn part<'e>(&mut self, head: EntriesHead, entries: impl ExactSizeIterator<Item = &'e [u8]>) {
        let out = &mut self.parts;
        put_u16(out, head.partition.0);
        put_u32(out, head.epoch.0);
        put_u32(out, head.created.0);
        out.push(u8::from(head.begins));
        put_u64(out, head.first.0);
        put_u64(out, head.acknowledged.0);
        put_u32(out, entries.len() as u32);
        let field = out.len();
        put_u32(out, 0);
        for entry in entries {
            put_slice(out, entry);
        }
        let bytes = (out.len() - field - 4) as u32;
        if let Some(field) = out.get_mut(field..field + 4) {
            field.copy_from_slice(&bytes.to_le_bytes());
        }
    }

    /// Bytes collected so far.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Writes the frame, if there is anything to send, and starts the next one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.parts.is_empty() {
            Append { parts: &self.parts }.write(out);
            self.parts.clear();
        }
    }
}

/// The backup holds the log of these partitions up to these positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended<'a> {
    parts: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedPart {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub lsn: Lsn,
}

const APPENDED_PART_BYTES: usize = 2 + 4 + 8;

impl<'a> Appended<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Appended, |out| out.extend_from_slice(self.parts));
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<Appended<'a>, WireError> {
        let parts = input.remaining();
        if !parts.len().is_multiple_of(APPENDED_PART_BYTES) {
            return Err(WireError::Malformed("Appended"));
        }
        Ok(Appended { parts })
    }

    pub fn parts(&self) -> impl Iterator<Item = AppendedPart> + use<'a> {
        let mut input = Input::new(self.parts);
        std::iter::from_fn(move || {
            Some(AppendedPart {
                partition: PartitionId(input.u16("Appended").ok()?),
                epoch: Epoch(input.u32("Appended").ok()?),
                lsn: Lsn(input.u64("Appended").ok()?),
            })
        })
    }
}

/// Writes an [`Appended`] frame.
pub fn write_appended(out: &mut Vec<u8>, parts: impl Iterator<Item = AppendedPart>) {
    frame(out, Kind::Appended, |out| {
        for part in parts {
            put_u16(out, part.partition.0);
            put_u32(out, part.epoch.0);
            put_u64(out, part.lsn.0);
        }
    });
}

/// Where the logs of some of the sender's replicas end; their primaries are at the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    pub parts: Vec<FollowPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowPart {
    pub partition: PartitionId,
    /// The epoch that the follower is in.
    pub epoch: Epoch,
    /// `None` when it holds nothing: it needs a root.
    pub log: Option<LogEnd>,
}

/// The end of a log, as far as two replicas may differ in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    pub last: Lsn,
    /// Runs of entries that were made in one epoch: that epoch and the LSN of the run's first entry, ascending. The first run reaches back to
    /// the last applied entry or further.
    pub runs: Vec<(Epoch, Lsn)>,
}

/// A part of a root ([`crate::wire`] does not look into it), for a replica that joins.
#[derive(Clone, Debug, PartialEq)]
pub struct RootPiece<'a> {
    pub partition: PartitionId,
    pub epoch: Epoch,
    /// Counts up from 0 in one root; 0 also begins anew when an earlier root was not finished.
    pub number: u32,
    pub last: bool,
    pub bytes: &'a [u8],
}

impl<'a> RootPiece<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::RootPiece, |out| {
            put_u16(out, self.partition.0);
            put_u32(out, self.epoch.0);
            put_u32(out, self.number);
            out.push(u8::from(self.last));
            out.extend_from_slice(self.bytes);
        });
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<RootPiece<'a>, WireError> {
        const WHAT: &str = "RootPiece";
        let partition = PartitionId(input.u16(WHAT)?);
        let epoch = Epoch(input.u32(WHAT)?);
        let number = input.u32(WHAT)?;
        let last = input.bool(WHAT)?;
        Ok(RootPiece { partition, epoch, number, last, bytes: input.remaining() })
    }
}
