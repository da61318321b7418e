//! Worker → proxy: what became of a request.

use super::bytes::{Input, put_postcard, put_slice, put_u16, put_u32, put_u64};
use super::{Kind, WireError, frame, read_postcard};
use crate::error::SqlError;
use crate::id::{CatalogVersion, MapVersion, PartitionId};

/// The answer to the request with this sequence. Answers of one partition leave in the order of execution, those of different partitions in any.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<'a> {
    pub sequence: u64,
    pub outcome: Outcome<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// Rows ([`crate::row`]) of the types of the plan's output; for writes with RETURNING also the count of changed rows.
    Rows { count: u32, bytes: &'a [u8] },
    /// A write without RETURNING: so many rows.
    Done { count: u64 },
    /// The statement failed; nothing of it happened in this partition.
    Error(SqlError),
    /// Not executed, as far as the refusal says; the proxy mends what it lacks and sends again under the same identity.
    Refused(Refusal),
}

/// A notification, to a connection that listens to its channel. Those of a partition come in ascending order, each as often as the connection asks for
/// it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    pub partition: PartitionId,
    /// Counts up over all channels of the partition.
    pub number: u64,
    /// The session that sent it.
    pub process: u32,
    pub channel: &'a str,
    pub payload: &'a str,
}

impl<'a> Notification<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Notification, |out| {
            put_u16(out, self.partition.0);
            put_u64(out, self.number);
            put_u32(out, self.process);
            put_slice(out, self.channel.as_bytes());
            put_slice(out, self.payload.as_bytes());
        });
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<Notification<'a>, WireError> {
        const WHAT: &str = "Notification";
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| WireError::Malformed(WHAT));
        Ok(Notification {
            partition: PartitionId(input.u16(WHAT)?),
            number: input.u64(WHAT)?,
            process: input.u32(WHAT)?,
            channel: text(input.slice(WHAT)?)?,
            payload: text(input.slice(WHAT)?)?,
        })
    }
}

/// Why a request or fragment has no answer, named by what the proxy must do. All but [`Refusal::Deposed`] say that it was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The table changed since the plan was made: get the catalog of this version or a later one and plan again.
    StaleCatalog { have: CatalogVersion },
    /// The plan is of a newer catalog than the worker's: wait a little, send again.
    BehindCatalog { have: CatalogVersion },
    /// Not the primary in this epoch (or not under lease): get the map of this version or a later one. When it is the one that the proxy has
    /// already, wait a little and send again.
    StaleMap { have: MapVersion },
    /// It was executed, and its primary was replaced before the answer could leave: whether the next one has it cannot be told here. Get the map of this
    /// version or a later one, and send again.
    Deposed { have: MapVersion },
    /// The plan is not registered on this connection.
    UnknownPlan,
    /// The request's sequence is below the mark that a later request gave.
    BelowMark,
    /// Too much is waiting at the worker: wait a little, send again.
    Busy,
    /// The table is being moved: wait for the catalog that ends it, plan again.
    Moving { have: CatalogVersion },
    /// The proxy's incarnation was given up as dead, and what it had executed is forgotten: whether this request was executed before cannot be told.
    Fenced,
    /// The cut that it should read is not here (any more): open another one, if nothing that was read in this one is known to the client.
    NoCut,
    /// It was withdrawn before it was executed: it has not happened, and never will.
    Withdrawn,
    /// Others let nobody read its table, and it is a read of nobody in particular. Who asks may hold what they wait for: he is to wait under his name,
    /// as part of a transaction.
    TableLocked,
}

const ROWS: u8 = 0;
const DONE: u8 = 1;
const ERROR: u8 = 2;
const REFUSED: u8 = 3;

impl<'a> Outcome<'a> {
    /// Appends the outcome alone, as it is kept for a request that may be sent again.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Rows { count, bytes } => {
                out.push(ROWS);
                put_u32(out, *count);
                out.extend_from_slice(bytes);
            }
            Outcome::Done { count } => {
                out.push(DONE);
                put_u64(out, *count);
            }
            Outcome::Error(error) => {
                out.push(ERROR);
                put_postcard(out, error);
            }
            Outcome::Refused(refusal) => {
                out.push(REFUSED);
                refusal.encode(out);
            }
        }
    }

    /// The inverse of [`Outcome::encode`].
    pub fn decode(bytes: &'a [u8]) -> Result<Outcome<'a>, WireError> {
        let mut input = Input::new(bytes);
        let outcome = Outcome::read(&mut input)?;
        input.finish()?;
        Ok(outcome)
    }

    fn read(input: &mut Input<'a>) -> Result<Outcome<'a>, WireError> {
        const WHAT: &str = "Answer";
        match input.u8(WHAT)? {
            ROWS => Ok(Outcome::Rows { count: input.u32(WHAT)?, bytes: input.remaining() }),
            DONE => Ok(Outcome::Done { count: input.u64(WHAT)? }),
            ERROR => Ok(Outcome::Error(read_postcard(input.remaining(), WHAT)?)),
            REFUSED => Ok(Outcome::Refused(Refusal::read(input)?)),
            _ => Err(WireError::Malformed(WHAT)),
        }
    }
}

impl Refusal {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let (tag, have) = match self {
            Refusal::StaleCatalog { have } => (0, have.0),
            Refusal::BehindCatalog { have } => (1, have.0),
            Refusal::StaleMap { have } => (2, have.0),
            Refusal::UnknownPlan => (3, 0),
            Refusal::BelowMark => (4, 0),
            Refusal::Busy => (5, 0),
            Refusal::Moving { have } => (6, have.0),
            Refusal::Fenced => (7, 0),
            Refusal::NoCut => (8, 0),
            Refusal::Withdrawn => (9, 0),
            Refusal::TableLocked => (10, 0),
            Refusal::Deposed { have } => (11, have.0),
        };
        out.push(tag);
        put_u64(out, have);
    }

    pub(super) fn read(input: &mut Input<'_>) -> Result<Refusal, WireError> {
        const WHAT: &str = "Refusal";
        let tag = input.u8(WHAT)?;
        let have = input.u64(WHAT)?;
        match tag {
            0 => Ok(Refusal::StaleCatalog { have: CatalogVersion(have) }),
            1 => Ok(Refusal::BehindCatalog { have: CatalogVersion(have) }),
            2 => Ok(Refusal::StaleMap { have: MapVersion(have) }),
            3 => Ok(Refusal::UnknownPlan),
            4 => Ok(Refusal::BelowMark),
            5 => Ok(Refusal::Busy),
            6 => Ok(Refusal::Moving { have: CatalogVersion(have) }),
            7 => Ok(Refusal::Fenced),
            8 => Ok(Refusal::NoCut),
            9 => Ok(Refusal::Withdrawn),
            10 => Ok(Refusal::TableLocked),
            11 => Ok(Refusal::Deposed { have: MapVersion(have) }),
            _ => Err(WireError::Malformed(WHAT)),
        }
    }
}

impl<'a> Answer<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        frame(out, Kind::Answer, |out| {
            put_u64(out, self.sequence);
            self.outcome.encode(out);
        });
    }

    pub(super) fn read(input: &mut Input<'a>) -> Result<Answer<'a>, WireError> {
        Ok(Answer { sequence: input.u64("Answer")?, outcome: Outcome::read(input)? })
    }
}

/// Writes an [`Answer`] whose outcome is encoded already.
pub fn write_encoded_answer(out: &mut Vec<u8>, sequence: u64, outcome: &[u8]) {
    frame(out, Kind::Answer, |out| {
        put_u64(out, sequence);
        out.extend_from_slice(outcome);
    });
}

/// An [`Answer`] of rows that is being written: rows go straight from the store into the frame.
#[derive(Debug)]
pub struct OpenAnswer {
    start: usize,
}

/// Frame length, kind, sequence, tag, count.
const OPEN_HEADER: usize = super::LENGTH_BYTES + 1 + 8 + 1 + 4;

impl OpenAnswer {
    /// Begins the frame; the rows are appended to `out` next.
    pub fn begin(out: &mut Vec<u8>, sequence: u64) -> OpenAnswer {
        let start = out.len();
        out.extend_from_slice(&[0, 0, 0, 0, Kind::Answer as u8]);
        put_u64(out, sequence);
        out.push(ROWS);
        put_u32(out, 0);
        OpenAnswer { start }
    }

    /// Fills in what is known now. False when the answer is too long for a frame; it has been taken out of `out` then.
    #[must_use]
    pub fn finish(self, out: &mut Vec<u8>, count: u32) -> bool {
        let length = out.len() - self.start - super::LENGTH_BYTES;
        if length > crate::limits::MAX_FRAME_BYTES {
            out.truncate(self.start);
            return false;
        }
        if let Some(header) = out.get_mut(self.start..self.start + OPEN_HEADER) {
            let (front, field) = header.split_at_mut(OPEN_HEADER - 4);
            field.copy_from_slice(&count.to_le_bytes());
            if let Some(field) = front.get_mut(..super::LENGTH_BYTES) {
                field.copy_from_slice(&(length as u32).to_le_bytes());
            }
        }
        true
    }

    /// Takes the answer out of `out` again.
    pub fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }
}
