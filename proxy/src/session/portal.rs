//! Portals: statements with their parameters, and how far their rows have been sent.

use crate::encode::batch::{Reader, readers};
use crate::encode::row::{Field, data_row};
use crate::encode::value::Style;
use crate::protocol::Output;
use crate::protocol::backend::Format;
use crate::session::run::wait;
use crate::session::{Fault, Wire};
use crate::statement::{Column, Prepared, RowSource, State};
use arrow::record_batch::RecordBatch;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::LocalBoxStream;
use smallvec::SmallVec;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::Instant;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::SqlError;
use toroid_common::row::RowReader;
use toroid_common::types::SqlType;

pub(super) type Fields = SmallVec<[Field; 8]>;

pub(super) struct Portal<P> {
    pub(super) prepared: Arc<Prepared<P>>,
    pub(super) params: Vec<Datum>,
    pub(super) formats: SmallVec<[Format; 8]>,
    pub(super) progress: Progress,
    /// How many had been opened with it.
    pub(super) number: u64,
}

pub(super) enum Progress {
    New,
    Rows(Cursor),
    /// All rows were sent.
    Exhausted,
    /// It was a statement without rows, and cannot be run again.
    Done,
}

/// The columns of a result with the formats that the client asked for: one for all, or one each.
pub(super) fn fields(columns: &[Column], formats: &[Format]) -> Fields {
    let format = |i: usize| match formats {
        [] => Format::Text,
        [one] => *one,
        many => many.get(i).copied().unwrap_or_default(),
    };
    columns.iter().enumerate().map(|(i, column)| Field { ty: column.ty, format: format(i) }).collect()
}

/// Rows on their way to the client.
pub(super) struct Cursor {
    source: Source,
    pub(super) fields: Fields,
    /// Rows sent since the portal was opened.
    pub(super) sent: u64,
}

enum Source {
    Encoded { bytes: Bytes, left: u64 },
    Stream { stream: LocalBoxStream<'static, Result<RecordBatch, SqlError>>, batch: Option<Batch> },
}

struct Batch {
    readers: Vec<Reader>,
    next: usize,
    rows: usize,
}

/// Why rows stopped coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    End,
    /// The client asked for no more for now.
    Limit,
}

impl Cursor {
    pub(super) fn new(rows: RowSource, fields: Fields) -> Cursor {
        let source = match rows {
            RowSource::Encoded(rows) => Source::Encoded { bytes: rows.bytes, left: rows.count },
            RowSource::Stream(stream) => Source::Stream { stream, batch: None },
        };
        Cursor { source, fields, sent: 0 }
    }

    /// Sends rows until there are no more or `limit` is reached; gives how many it were.
    pub(super) async fn send(
        &mut self,
        wire: &mut Wire,
        session: &State,
        limit: Option<u64>,
        deadline: Option<Instant>,
    ) -> Result<(Stop, u64), Fault> {
        let before = self.sent;
        let fields = self.fields.clone();
        loop {
            let left = limit.map_or(u64::MAX, |limit| limit - (self.sent - before));
            let mut writer = DataRows { fields: &fields, style: Style::of(session) };
            self.each(&mut wire.output, left, &mut writer)?;
            drop(writer);
            if limit == Some(self.sent - before) {
                return Ok((Stop::Limit, self.sent - before));
            }
            wire.flush_if_big().await?;
            if !self.more(wire, deadline).await? {
                return Ok((Stop::End, self.sent - before));
            }
        }
    }

    /// Waits for rows if none are at hand; false at the end.
    pub(super) async fn more(&mut self, wire: &mut Wire, deadline: Option<Instant>) -> Result<bool, Fault> {
        match &mut self.source {
            Source::Encoded { left, .. } => Ok(*left > 0),
            Source::Stream { batch: Some(_), .. } => Ok(true),
            Source::Stream { stream, batch } => {
                let next = pin!(async { stream.next().await.transpose() });
                match wait(wire, next, deadline, false).await? {
                    Some(next) => *batch = Some(Batch::new(&next, &self.fields)?),
                    None => return Ok(false),
                }
                Ok(true)
            }
        }
    }

    /// Writes rows that are at hand until the buffer is big.
    pub(super) fn each(
        &mut self,
        output: &mut Output,
        limit: u64,
        writer: &mut impl RowWriter,
    ) -> Result<(), SqlError> {
        let mut written = 0;
        match &mut self.source {
            Source::Encoded { bytes, left } => {
                let types: SmallVec<[SqlType; 8]> = self.fields.iter().map(|field| field.ty.ty).collect();
                let mut reader = RowReader::new(bytes);
                let mut values = Vec::with_capacity(types.len());
                while *left > 0 && written < limit && !output.is_big() {
                    values.clear();
                    reader.read(&types, &mut values)?;
                    writer.row(output, values.iter().copied());
                    *left -= 1;
                    written += 1;
                }
                let read = bytes.len() - reader.rest().len();
                drop(values);
                bytes.advance(read);
            }
            Source::Stream { batch, .. } => {
                let Some(open) = batch else { return Ok(()) };
                while open.next < open.rows && written < limit && !output.is_big() {
                    writer.row(output, open.readers.iter().map(|reader| reader.value(open.next)));
                    open.next += 1;
                    written += 1;
                }
                if open.next == open.rows {
                    *batch = None;
                }
            }
        }
        self.sent += written;
        Ok(())
    }
}

/// What becomes of each row: DataRow or CopyData.
pub(super) trait RowWriter {
    fn row<'v>(&mut self, output: &mut Output, values: impl Iterator<Item = DatumRef<'v>>);
}

struct DataRows<'a> {
    fields: &'a [Field],
    style: Style<'a>,
}

impl RowWriter for DataRows<'_> {
    fn row<'v>(&mut self, output: &mut Output, values: impl Iterator<Item = DatumRef<'v>>) {
        data_row(output, self.fields, values, &self.style);
    }
}

impl Batch {
    fn new(batch: &RecordBatch, fields: &[Field]) -> Result<Batch, SqlError> {
        if batch.num_columns() != fields.len() {
            return Err(SqlError::internal("a batch has not the columns of its statement"));
        }
        let readers = readers(batch, fields.iter().map(|field| field.ty.ty))?;
        Ok(Batch { readers, next: 0, rows: batch.num_rows() })
    }
}
