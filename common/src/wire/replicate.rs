//! Worker ↔ worker: log entries from primaries to backups, for many partitions in one frame.

use super::bytes::{Input, put_slice, put_u16, put_u32, put_u64};
use super::{Kind, WireError, frame};
use crate::id::{Epoch, Lsn, PartitionId};

/// Entries for some of the receiver's backups: [`AppendPart`]s, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Append<'a> {
    parts: &'a [u8],
}

/// Entries of one partition, without gaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppendPart<'a> {
    pub partition: PartitionId,
    pub epoch: Epoch,
    /// LSN of the first entry; with no entries the next one that will come.
    pub first: Lsn,
    /// The last entry that all replicas of the epoch hold.
    pub acknowledged: Lsn,
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
        let partition = PartitionId(input.u16(WHAT)?);
        let epoch = Epoch(input.u32(WHAT)?);
        let first = Lsn(input.u64(WHAT)?);
        let acknowledged = Lsn(input.u64(WHAT)?);
        let count = input.u32(WHAT)?;
        let bytes = input.u32(WHAT)?;
        let entries = input.take(bytes as usize, WHAT)?;
        Ok(AppendPart { partition, epoch, first, acknowledged, count, entries })
    }

    /// The entries' payloads, the first at [`AppendPart::first`].
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
    pub fn part<'e>(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        first: Lsn,
        acknowledged: Lsn,
        entries: impl ExactSizeIterator<Item = &'e [u8]>,
    ) {
        let out = &mut self.parts;
        put_u16(out, partition.0);
        put_u32(out, epoch.0);
        put_u64(out, first.0);
        put_u64(out, acknowledged.0);
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
