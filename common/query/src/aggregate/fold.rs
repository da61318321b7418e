//! Aggregates that keep a value or several: extremes, boolean and bit folds, lists, single values.

use super::state::{State, malformed};
use crate::scalar::order::Comparison;
use std::cmp::Ordering;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::func::aggregate::Aggregate;
use toroid_common::key::write_ascending;
use toroid_common::types::SqlType;

/// `min` and `max`.
#[derive(Debug)]
pub(super) struct Extreme {
    pub(super) greatest: bool,
    pub(super) best: Datum,
    pub(super) ty: SqlType,
}

/// The order of two values of one type, as ORDER BY has it.
fn order(a: DatumRef<'_>, b: DatumRef<'_>) -> Ordering {
    match (a, b) {
        (DatumRef::Int2(a), DatumRef::Int2(b)) => a.cmp(&b),
        (DatumRef::Int4(a), DatumRef::Int4(b)) | (DatumRef::Date(a), DatumRef::Date(b)) => a.cmp(&b),
        (DatumRef::Int8(a), DatumRef::Int8(b)) => a.cmp(&b),
        (DatumRef::Timestamp(a), DatumRef::Timestamp(b)) | (DatumRef::Timestamptz(a), DatumRef::Timestamptz(b)) => {
            a.cmp(&b)
        }
        (DatumRef::Text(a), DatumRef::Text(b)) => a.cmp(b),
        (DatumRef::Numeric(a), DatumRef::Numeric(b)) => a.compare(b),
        (a, b) => {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            write_ascending(&mut left, a);
            write_ascending(&mut right, b);
            left.cmp(&right)
        }
    }
}

impl State for Extreme {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        let Some(value) = args.first().filter(|v| !v.is_null()) else { return Ok(()) };
        if Comparison::of(self.ty) == Comparison::None {
            return Err(SqlError::unsupported(format_args!("min or max of {}", self.ty)));
        }
        let better = match (self.best.is_null(), self.greatest) {
            (true, _) => true,
            (false, true) => order(*value, self.best.borrow()).is_gt(),
            (false, false) => order(*value, self.best.borrow()).is_lt(),
        };
        if better {
            self.best = DatumRef::to_owned(*value);
        }
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        self.update(state)
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![self.best.clone()])
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.best.clone())
    }

    fn size(&self) -> usize {
        bytes_of(self.best.borrow()).map_or(0, <[u8]>::len)
    }
}

/// bool_and, bool_or, bit_and, bit_or.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) aggregate: Aggregate,
    pub(super) value: Datum,
}

impl State for Fold {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        let Some(value) = args.first().filter(|v| !v.is_null()) else { return Ok(()) };
        let and = matches!(self.aggregate, Aggregate::BoolAnd | Aggregate::BitAnd);
        self.value = match (&self.value, value) {
            (Datum::Null, value) => (*value).to_owned(),
            (Datum::Bool(a), DatumRef::Bool(b)) => Datum::Bool(if and { *a && *b } else { *a || *b }),
            (Datum::Int2(a), DatumRef::Int2(b)) => Datum::Int2(if and { a & b } else { a | b }),
            (Datum::Int4(a), DatumRef::Int4(b)) => Datum::Int4(if and { a & b } else { a | b }),
            (Datum::Int8(a), DatumRef::Int8(b)) => Datum::Int8(if and { a & b } else { a | b }),
            _ => return Err(malformed()),
        };
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        self.update(state)
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![self.value.clone()])
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.value.clone())
    }
}

/// `string_agg`: every value behind its delimiter; the first delimiter is cut off at the end.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) skip: usize,
    pub(super) text: bool,
}

impl Joined {
    fn datum(&self, bytes: &[u8]) -> SqlResult<Datum> {
        match self.text {
            true => Ok(Datum::Text(std::str::from_utf8(bytes).map_err(|_| malformed())?.to_owned())),
            false => Ok(Datum::Bytea(bytes.to_vec().into())),
        }
    }
}

fn bytes_of<'a>(value: DatumRef<'a>) -> Option<&'a [u8]> {
    match value {
        DatumRef::Text(text) => Some(text.as_bytes()),
        DatumRef::Bytea(bytes) => Some(bytes),
        _ => None,
    }
}

impl State for Joined {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        let [value, delimiter, ..] = args else { return Err(malformed()) };
        let Some(value) = bytes_of(*value) else { return Ok(()) };
        let delimiter = bytes_of(*delimiter).unwrap_or(&[]);
        let bytes = self.bytes.get_or_insert_with(|| {
            self.skip = delimiter.len();
            Vec::new()
        });
        bytes.extend_from_slice(delimiter);
        bytes.extend_from_slice(value);
        match bytes.len() > toroid_common::limits::MAX_VALUE_BYTES {
            true => Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "out of memory")
                .with_detail("A value would be larger than the largest one that can be held.")),
            false => Ok(()),
        }
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        let [value, DatumRef::Int4(skip)] = state else { return Ok(()) };
        let Some(value) = bytes_of(*value) else { return Ok(()) };
        match &mut self.bytes {
            Some(bytes) => bytes.extend_from_slice(value),
            None => {
                self.skip = *skip as usize;
                self.bytes = Some(value.to_vec());
            }
        }
        Ok(())
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        let value = self.bytes.as_ref().and_then(|bytes| self.datum(bytes).ok()).unwrap_or(Datum::Null);
        Ok(vec![value, Datum::Int4(self.skip as i32)])
    }

    fn finish(&self) -> SqlResult<Datum> {
        match &self.bytes {
            Some(bytes) => self.datum(bytes.get(self.skip..).unwrap_or(&[])),
            None => Ok(Datum::Null),
        }
    }

    fn size(&self) -> usize {
        self.bytes.as_ref().map_or(0, Vec::capacity)
    }
}

/// `array_agg`.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) values: Option<Vec<Datum>>,
    pub(super) bytes: usize,
}

impl State for Collected {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        let value = args.first().copied().ok_or_else(malformed)?;
        self.bytes += bytes_of(value).map_or(0, <[u8]>::len);
        self.values.get_or_insert_default().push(value.to_owned());
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        match state {
            [DatumRef::Array(values)] => {
                self.values.get_or_insert_default().extend(values.iter().map(DatumRef::to_owned));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![self.values.clone().map_or(Datum::Null, Datum::Array)])
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.values.clone().map_or(Datum::Null, Datum::Array))
    }

    fn size(&self) -> usize {
        self.bytes + self.values.as_ref().map_or(0, |v| v.capacity() * size_of::<Datum>())
    }
}

/// The only row's value.
#[derive(Debug)]
pub(super) struct Single {
    pub(super) count: i64,
    pub(super) value: Datum,
}

impl Single {
    fn add(&mut self, count: i64, value: DatumRef<'_>) -> SqlResult<()> {
        self.count += count;
        if self.count > 1 {
            return Err(SqlError::new(
                SqlState::CARDINALITY_VIOLATION,
                "more than one row returned by a subquery used as an expression",
            ));
        }
        if count > 0 {
            self.value = value.to_owned();
        }
        Ok(())
    }
}

impl State for Single {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        self.add(1, args.first().copied().ok_or_else(malformed)?)
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        let [DatumRef::Int8(count), value] = state else { return Err(malformed()) };
        self.add(*count, *value)
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![Datum::Int8(self.count), self.value.clone()])
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.value.clone())
    }
}

/// Any row's value: carries columns that are the same in the whole group.
#[derive(Debug, Default)]
pub(super) struct First {
    value: Option<Datum>,
}

impl State for First {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        if self.value.is_none() {
            self.value = Some(args.first().copied().ok_or_else(malformed)?.to_owned());
        }
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        match state {
            [DatumRef::Bool(true), value] => self.update(&[*value]),
            _ => Ok(()),
        }
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![Datum::Bool(self.value.is_some()), self.value.clone().unwrap_or(Datum::Null)])
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.value.clone().unwrap_or(Datum::Null))
    }
}
