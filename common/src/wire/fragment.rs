//! Fragments: parts of a distributed plan that run next to the data, and the batches that they send back.

use super::answer::Refusal;
use super::bytes::{Input, put_cut, put_postcard, put_slice, put_u16, put_u32, put_u64};
use super::{Kind, WireError, frame, read_postcard};
use crate::error::SqlError;
use crate::id::{CatalogVersion, CutId, Epoch, Incarnation, PartitionId, TableId, TransactionId};

/// Runs a plan over the roots of some of a worker's partitions, all taken in one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment<'a> {
    /// From the same sequence as the proxy's requests.
    pub sequence: u64,
    /// Batches that may be sent before the first [`super::Message::FragmentCredit`].
    pub credit: u32,
    pub partitions: Vec<(PartitionId, Epoch)>,
    /// The cut whose roots it reads; without one it reads the present roots of this worker, all at one instant.
    pub cut: Option<CutId>,
    /// The transaction whose own writes it sees as well; what it reads of a serializable one is locked already. `earlier` says nothing here.
    pub within: Option<super::Within>,
    /// With `within`, the life of the proxy that coordinates the transaction: fragments come over connections of another one.
    pub coordinator: Incarnation,
    /// With `within`, per partition, what [`super::Within::earlier`] says of a request.
    pub earlier: Vec<u32>,
    /// The tables that the plan reads with the versions (`Table::version`) it was made for.
    pub tables: Vec<(TableId, CatalogVersion)>,
    /// postcard of an [`crate::env::Env`].
    pub env: &'a [u8],
    /// Known to who made it and who runs it.
    pub plan: &'a [u8],
}

/// One batch of a fragment's result, encoded as whoever runs fragments does it.
#[derive(Clone, Debug, PartialEq)]
pub struct FragmentBatch<'a> {
    pub sequence: u64,
    pub bytes: &'a [u8],
}

/// Nothing more comes of this fragment.
#[derive(Clone, Debug, PartialEq)]
pub struct FragmentEnd {
    pub sequence: u64,
    pub outcome: FragmentOutcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FragmentOutcome {
    Done {
        rows: u64,
    },
    Error(SqlError),
    /// Only ever before the first batch.
    Refused(Refusal),
}

const CUT: u8 = 1;
const WITHIN: u8 = 2;

impl<'a> Fragment<'a> {
    /// Whose own writes it sees.
    pub fn transaction(&self) -> Option<TransactionId> {
        self.within.map(|within| TransactionId { proxy: self.coordinator, number: within.number })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Fragment, |out| {
            put_u64(out, self.sequence);
            put_u32(out, self.credit);
            out.push(if self.cut.is_some() { CUT } else { 0 } | if self.within.is_some() { WITHIN } else { 0 });
            if let Some(cut) = self.cut {
                put_cut(out, cut);
            }
            if let Some(within) = &self.within {
                put_u64(out, self.coordinator.0);
                within.write(out);
            }
            put_u16(out, self.partitions.len() as u16);
            for (partition, epoch) in &self.partitions {
                put_u16(out, partition.0);
                put_u32(out, epoch.0);
            }
            put_u16(out, self.tables.len() as u16);
            for (table, version) in &self.tables {
                put_u32(out, table.0);
                put_u64(out, version.0);
            }
            if self.within.is_some() {
                let mut earlier = self.earlier.iter();
                self.partitions.iter().for_each(|_| put_u32(out, earlier.next().copied().unwrap_or_default()));
            }
            put_slice(out, self.env);
            out.extend_from_slice(self.plan);
        });
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<Fragment<'a>, WireError> {
        const WHAT: &str = "Fragment";
        let sequence = input.u64(WHAT)?;
        let credit = input.u32(WHAT)?;
        let flags = input.u8(WHAT)?;
        if flags & !(CUT | WITHIN) != 0 {
            return Err(WireError::Malformed(WHAT));
        }
        let cut = if flags & CUT != 0 { Some(input.cut(WHAT)?) } else { None };
        let is_within = flags & WITHIN != 0;
        let coordinator = if is_within { Incarnation(input.u64(WHAT)?) } else { Incarnation::default() };
        let within = if is_within { Some(super::Within::read(input, WHAT)?) } else { None };
        let partitions = (0..input.u16(WHAT)?)
            .map(|_| Ok((PartitionId(input.u16(WHAT)?), Epoch(input.u32(WHAT)?))))
            .collect::<Result<Vec<_>, WireError>>()?;
        let tables = (0..input.u16(WHAT)?)
            .map(|_| Ok((TableId(input.u32(WHAT)?), CatalogVersion(input.u64(WHAT)?))))
            .collect::<Result<Vec<_>, WireError>>()?;
        let counted = if within.is_some() { partitions.len() } else { 0 };
        let earlier = (0..counted).map(|_| input.u32(WHAT)).collect::<Result<Vec<_>, WireError>>()?;
        let env = input.slice(WHAT)?;
        let plan = input.remaining();
        Ok(Fragment { sequence, credit, cut, within, coordinator, earlier, partitions, tables, env, plan })
    }
}

impl<'a> FragmentBatch<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::FragmentBatch, |out| {
            put_u64(out, self.sequence);
            out.extend_from_slice(self.bytes);
        });
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<FragmentBatch<'a>, WireError> {
        Ok(FragmentBatch { sequence: input.u64("FragmentBatch")?, bytes: input.remaining() })
    }
}

const DONE: u8 = 0;
const ERROR: u8 = 1;
const REFUSED: u8 = 2;

impl FragmentEnd {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::FragmentEnd, |out| {
            put_u64(out, self.sequence);
            match &self.outcome {
                FragmentOutcome::Done { rows } => {
                    out.push(DONE);
                    put_u64(out, *rows);
                }
                FragmentOutcome::Error(error) => {
                    out.push(ERROR);
                    put_postcard(out, error);
                }
                FragmentOutcome::Refused(refusal) => {
                    out.push(REFUSED);
                    refusal.encode(out);
                }
            }
        });
    }

    pub(super) fn read(input: &mut Input<'_>) -> Result<FragmentEnd, WireError> {
        const WHAT: &str = "FragmentEnd";
        let sequence = input.u64(WHAT)?;
        let outcome = match input.u8(WHAT)? {
            DONE => FragmentOutcome::Done { rows: input.u64(WHAT)? },
            ERROR => FragmentOutcome::Error(read_postcard(input.remaining(), WHAT)?),
            REFUSED => FragmentOutcome::Refused(Refusal::read(input)?),
            _ => return Err(WireError::Malformed(WHAT)),
        };
        Ok(FragmentEnd { sequence, outcome })
    }
}
