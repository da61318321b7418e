//! Fields of COPY FROM → rows in table order, gathered per partition.

use crate::copy::text::Fields;
use crate::protocol::frontend::utf8;
use crate::statement::{CopyBatch, CopyIn, Fill};
use smallvec::SmallVec;
use std::ops::Range;
use toroid_common::catalog::{Column, Distribution};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::hash::partition_of;
use toroid_common::id::PartitionId;
use toroid_common::limits::BULK_FRAME_BYTES;
use toroid_common::row::{read_owned, write_row_slice};
use toroid_common::types::binary::read_binary;
use toroid_common::types::digits::short_integer;
use toroid_common::types::input::parse_text;
use toroid_common::types::output::to_text;
use toroid_common::types::{ColumnType, SqlType};

/// Bytes of all partitions' batches together, after which the fullest is sent.
const GATHERED_BYTES: usize = 4 << 20;
/// Most bytes of a line or a field that an error's context shows (PostgreSQL: `MAX_COPY_DATA_DISPLAY`).
const SHOWN_BYTES: usize = 100;
/// Most bytes of a value in `Failing row contains (…)`.
const SHOWN_VALUE_BYTES: usize = 64;

/// Where a column's value comes from.
#[derive(Clone, Debug)]
enum Source {
    Field(usize),
    Value(Datum),
    PerRow,
}

/// Gathers rows.
pub struct Rows {
    /// The line that is being read, from 1.
    pub line: u64,
    /// Rows taken so far.
    pub count: u64,
    env: Env,
    table: String,
    sources: Vec<Source>,
    key: SmallVec<[usize; 2]>,
    values: Vec<Datum>,
    row: Vec<u8>,
    batches: Vec<CopyBatch>,
    gathered: usize,
    full: Option<usize>,
}

/// What one field of the client holds.
enum Input<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

impl Rows {
    pub fn new(copy: &CopyIn, env: Env) -> Rows {
        let source = |column: usize| {
            let field = copy.targets.iter().position(|target| usize::from(*target) == column);
            match (field, copy.fills.get(column)) {
                (Some(field), _) => Source::Field(field),
                (None, Some(Fill::Value(value))) => Source::Value(value.clone()),
                (None, Some(Fill::PerRow)) => Source::PerRow,
                (None, None) => Source::Value(Datum::Null),
            }
        };
        let (key, partitions) = match &copy.table.distribution {
            Distribution::Hash(columns) => (columns.iter().map(|c| usize::from(*c)).collect(), copy.partitions),
            Distribution::Replicated => (SmallVec::new(), 1),
        };
        let batch = |partition: u16| CopyBatch {
            partition: (!key_is_empty(&copy.table.distribution)).then_some(PartitionId(partition)),
            ..CopyBatch::default()
        };
        Rows {
            line: 0,
            count: 0,
            env,
            table: copy.table.name.clone(),
            sources: (0..copy.table.columns.len()).map(source).collect(),
            key,
            values: Vec::new(),
            row: Vec::new(),
            batches: (0..partitions.max(1)).map(batch).collect(),
            gathered: 0,
            full: None,
        }
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// Whether a batch should be sent before more is read.
    pub fn full(&self) -> bool {
        self.full.is_some() || self.gathered >= GATHERED_BYTES
    }

    /// A batch to send: one that is full, or at the end (`all`) any that has rows.
    pub fn take(&mut self, all: bool) -> Option<CopyBatch> {
        let fullest = || {
            let batches = self.batches.iter().enumerate();
            batches.max_by_key(|(_, batch)| batch.rows.len()).map(|(index, _)| index)
        };
        let index = match self.full {
            Some(index) => index,
            None if all || self.gathered >= GATHERED_BYTES => fullest()?,
            None => return None,
        };
        self.full = None;
        let batch = self.batches.get_mut(index).filter(|batch| batch.count > 0)?;
        self.gathered -= batch.rows.len();
        let empty = CopyBatch { partition: batch.partition, ..CopyBatch::default() };
        Some(std::mem::replace(batch, empty))
    }

    /// A line whose fields stand in it.
    pub fn push(&mut self, line: &[u8], fields: &Fields, copy: &mut CopyIn) -> Result<(), SqlError> {
        self.push_from(line, line, fields, copy)
    }

    /// A line whose fields stand in `bytes`.
    pub fn push_from(&mut self, line: &[u8], bytes: &[u8], fields: &Fields, copy: &mut CopyIn) -> Result<(), SqlError> {
        let (given, wanted) = (fields.found.len(), copy.targets.len());
        let field = |range: &Range<usize>| Input::Text(bytes.get(range.clone()).unwrap_or_default());
        if given < wanted {
            // PostgreSQL has read the values by the time that it misses one.
            for (target, range) in copy.targets.iter().zip(&fields.found) {
                if let (Some(column), Some(range)) = (copy.table.columns.get(usize::from(*target)), range) {
                    self.convert(column, &field(range))?;
                }
            }
            let column = copy.targets.get(given).and_then(|target| copy.table.columns.get(usize::from(*target)));
            let name = column.map_or("", |column| &column.name);
            let message = format!("missing data for column \"{name}\"");
            return Err(
                SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message).with_context(self.line_context(copy, line))
            );
        }
        if given > wanted {
            return Err(SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, "extra data after last expected column")
                .with_context(self.line_context(copy, line)));
        }
        let get = |index: usize| fields.found.get(index).and_then(Option::as_ref).map(field);
        self.add(get, copy, |rows, copy| rows.line_context(copy, line))
    }

    pub fn push_binary(&mut self, fields: &[Option<&[u8]>], copy: &mut CopyIn) -> Result<(), SqlError> {
        let get = |index: usize| fields.get(index).copied().flatten().map(Input::Binary);
        self.add(get, copy, |rows, copy| format!("COPY {}, line {}", copy.table.name, rows.line))
    }

    fn add<'a>(
        &mut self,
        get: impl Fn(usize) -> Option<Input<'a>>,
        copy: &mut CopyIn,
        context: impl Fn(&Rows, &CopyIn) -> String,
    ) -> Result<(), SqlError> {
        self.values.clear();
        for (index, column) in copy.table.columns.iter().enumerate() {
            let value = match self.sources.get(index) {
                Some(Source::Field(field)) => match get(*field) {
                    Some(input) => self.convert(column, &input)?,
                    None => Datum::Null,
                },
                Some(Source::Value(value)) => value.clone(),
                Some(Source::PerRow) => {
                    let position = u16::try_from(index).unwrap_or(u16::MAX);
                    copy.sink.fill(position).map_err(|error| error.with_context(context(self, copy)))?
                }
                None => Datum::Null,
            };
            self.values.push(value);
        }
        self.row.clear();
        let refs: SmallVec<[DatumRef<'_>; 16]> = self.values.iter().map(Datum::borrow).collect();
        write_row_slice(&mut self.row, &refs);
        drop(refs);
        let nullable = |(column, value): (&Column, &Datum)| !(column.not_null && value.is_null());
        if !copy.table.columns.iter().zip(&self.values).all(nullable) {
            return Err(self.null_violation(copy).with_context(context(self, copy)));
        }
        self.gather(copy.partitions);
        Ok(())
    }

    /// Appends the row to its partition's batch.
    fn gather(&mut self, partitions: u16) {
        let index = match self.key.is_empty() {
            true => 0,
            false => {
                let key = self.key.iter().filter_map(|column| self.values.get(*column)).map(Datum::borrow);
                usize::from(partition_of(key, partitions).0)
            }
        };
        if let Some(batch) = self.batches.get_mut(index) {
            batch.rows.extend_from_slice(&self.row);
            batch.count += 1;
            self.gathered += self.row.len();
            self.count += 1;
            if batch.rows.len() >= BULK_FRAME_BYTES {
                self.full = Some(index);
            }
        }
    }

    fn convert(&self, column: &Column, input: &Input<'_>) -> Result<Datum, SqlError> {
        let ColumnType { ty, modifier } = column.ty;
        let (result, shown) = match input {
            Input::Text(bytes) => (self.text_value(ty, modifier, bytes), Some(bytes)),
            Input::Binary(bytes) => (read_binary(ty, modifier, bytes), None),
        };
        result.map_err(|error| {
            let mut context = format!("COPY {}, line {}, column {}", self.table, self.line, column.name);
            if let Some(bytes) = shown {
                context.push_str(&format!(": \"{}\"", shortened(bytes, SHOWN_BYTES)));
            }
            error.with_context(context)
        })
    }

    fn text_value(&self, ty: SqlType, modifier: i32, bytes: &[u8]) -> Result<Datum, SqlError> {
        // The common cases without a look at the general reader.
        let integer = match ty {
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => short_integer(bytes),
            _ => None,
        };
        match (ty, integer) {
            (SqlType::Int8, Some(value)) => return Ok(Datum::Int8(value)),
            (SqlType::Int4, Some(value)) => {
                if let Ok(value) = i32::try_from(value) {
                    return Ok(Datum::Int4(value));
                }
            }
            (SqlType::Int2, Some(value)) => {
                if let Ok(value) = i16::try_from(value) {
                    return Ok(Datum::Int2(value));
                }
            }
            _ => {}
        }
        parse_text(ty, modifier, utf8(bytes)?, &self.env)
    }

    fn null_violation(&self, copy: &CopyIn) -> SqlError {
        let types: Vec<SqlType> = copy.table.columns.iter().map(|column| column.ty.ty).collect();
        let values = read_owned(&self.row, &types).unwrap_or_default();
        let columns = || copy.table.columns.iter().zip(&values);
        let name = columns().find(|(c, v)| c.not_null && v.is_null()).map_or("", |(column, _)| &column.name);
        let shown: Vec<String> = columns()
            .filter(|(column, _)| !column.hidden)
            .map(|(column, value)| match value {
                Datum::Null => "null".to_owned(),
                value => {
                    let text = to_text(column.ty.ty, column.ty.modifier, value.borrow(), &self.env);
                    shortened(text.as_bytes(), SHOWN_VALUE_BYTES)
                }
            })
            .collect();
        let table = &copy.table.name;
        let message = format!("null value in column \"{name}\" of relation \"{table}\" violates not-null constraint");
        SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
            .with_detail(format!("Failing row contains ({}).", shown.join(", ")))
            .with_table(table)
            .with_column(name)
    }

    /// `COPY t, line 3: "…"`.
    pub fn line_context(&self, copy: &CopyIn, line: &[u8]) -> String {
        format!("COPY {}, line {}: \"{}\"", copy.table.name, self.line, shortened(line, SHOWN_BYTES))
    }

    /// Gives an error that does not say where it happened the line.
    pub fn located(&self, error: SqlError, copy: &CopyIn) -> SqlError {
        match error.context() {
            Some(_) => error,
            None => error.with_context(format!("COPY {}, line {}", copy.table.name, self.line.max(1))),
        }
    }
}

fn key_is_empty(distribution: &Distribution) -> bool {
    match distribution {
        Distribution::Hash(columns) => columns.is_empty(),
        Distribution::Replicated => true,
    }
}

fn shortened(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.len() <= most {
        return text.into_owned();
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", text.get(..end).unwrap_or_default())
}
