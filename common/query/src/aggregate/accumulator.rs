//! Accumulates any aggregate for one group, and keeps rows for DISTINCT and ORDER BY until the end.

use super::kind::new_state;
use super::state::{State, malformed};
use super::{AggregateKind, Definition};
use crate::column::{self, Column, scalar_of};
use crate::error::external;
use arrow::array::{Array, ArrayRef, ArrowNumericType, AsArray, PrimitiveArray};
use arrow::compute::{max, min};
use arrow::datatypes::{Date32Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use std::collections::BTreeMap;
use std::sync::Arc;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::func::aggregate::Aggregate;
use toroid_common::key::write_key;
use toroid_common::row::{RowReader, write_row};
use toroid_common::types::SqlType;

/// One group of one aggregate.
#[derive(Debug)]
pub(super) struct RowAccumulator {
    definition: Definition,
    state: Box<dyn State>,
    kept: Option<Kept>,
    /// What whole columns added beside `state`, for the plain counts and sums.
    fast: Option<Fast>,
}

/// Count and sum over whole columns.
#[derive(Debug, Default)]
struct Fast {
    count: i64,
    sum: i128,
}

/// Rows by their keys: ORDER BY's, or all arguments for DISTINCT; rows of equal keys stay in order of arrival.
#[derive(Debug, Default)]
struct Kept {
    rows: BTreeMap<Vec<u8>, Vec<Vec<Datum>>>,
    bytes: usize,
}

impl RowAccumulator {
    pub(super) fn new(definition: &Definition) -> Result<RowAccumulator> {
        let fast = match (definition.keeps_rows(), definition.kind, definition.args.first()) {
            (true, _, _) => None,
            (_, AggregateKind::Pg(Aggregate::Count | Aggregate::CountStar), _) => Some(Fast::default()),
            (
                _,
                AggregateKind::Pg(Aggregate::Sum | Aggregate::Avg),
                Some(SqlType::Int2 | SqlType::Int4 | SqlType::Int8),
            ) => Some(Fast::default()),
            _ => None,
        };
        Ok(RowAccumulator {
            definition: definition.clone(),
            state: new_state(definition).map_err(external)?,
            kept: definition.keeps_rows().then(Kept::default),
            fast,
        })
    }

    /// Moves what `fast` has into the state.
    fn settle(&mut self) -> Result<()> {
        let Some(fast) = &mut self.fast else { return Ok(()) };
        let (count, sum) = (std::mem::take(&mut fast.count), std::mem::take(&mut fast.sum));
        let merged = match self.definition.kind {
            AggregateKind::Pg(Aggregate::Count | Aggregate::CountStar) => self.state.merge(&[DatumRef::Int8(count)]),
            _ => self.state.merge(&[DatumRef::Int8(count), DatumRef::Numeric(super::state::whole(sum).borrow())]),
        };
        merged.map_err(external)
    }

    fn keep(&mut self, values: &[DatumRef<'_>]) -> SqlResult<()> {
        let arity = self.definition.args.len();
        let (args, order) = values.split_at_checked(arity).ok_or_else(malformed)?;
        let mut key = Vec::new();
        for (value, spec) in order.iter().zip(&self.definition.order) {
            write_key(&mut key, *value, spec.descending, spec.nulls_first);
        }
        if self.definition.distinct {
            for value in args {
                write_key(&mut key, *value, false, false);
            }
        }
        let row = args.iter().map(|v| DatumRef::to_owned(*v)).collect();
        self.keep_row(key, row);
        Ok(())
    }

    fn keep_row(&mut self, key: Vec<u8>, row: Vec<Datum>) {
        let Some(kept) = &mut self.kept else { return };
        let bytes = 2 * key.len() + row.len() * size_of::<Datum>() + 64;
        let rows = kept.rows.entry(key).or_default();
        if rows.is_empty() || !self.definition.distinct {
            kept.bytes += bytes;
            rows.push(row);
        }
    }

    fn kept_types(&self) -> Vec<SqlType> {
        std::iter::once(SqlType::Bytea).chain(self.definition.args.iter().copied()).collect()
    }

    fn kept_state(&self, kept: &Kept) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, rows) in &kept.rows {
            for row in rows {
                let values = std::iter::once(DatumRef::Bytea(key)).chain(row.iter().map(Datum::borrow));
                write_row(&mut out, values.collect::<Vec<_>>().into_iter());
            }
        }
        out
    }

    fn merge_kept(&mut self, bytes: &[u8]) -> SqlResult<()> {
        let types = self.kept_types();
        let mut reader = RowReader::new(bytes);
        while !reader.is_empty() {
            let mut values = Vec::with_capacity(types.len());
            reader.read(&types, &mut values)?;
            let Some((DatumRef::Bytea(key), args)) = values.split_first() else { return Err(malformed()) };
            let (key, row) = (key.to_vec(), args.iter().map(|v| DatumRef::to_owned(*v)).collect());
            self.keep_row(key, row);
        }
        Ok(())
    }
}

/// Opens the columns of an aggregate's arguments.
pub(super) fn open<'a>(values: &'a [ArrayRef], types: impl Iterator<Item = SqlType>) -> Result<Vec<Column<'a>>> {
    values.iter().zip(types).map(|(array, ty)| column::open(array, ty)).collect()
}

/// The extreme of a whole column, for types whose arrays compare as PostgreSQL does.
fn extreme(definition: &Definition, array: &ArrayRef) -> Option<ArrayRef> {
    fn of<T: ArrowNumericType>(array: &ArrayRef, greatest: bool) -> Option<ArrayRef> {
        let array = array.as_primitive_opt::<T>()?;
        let best = if greatest { max(array) } else { min(array) };
        let best = PrimitiveArray::<T>::from_iter([best]);
        Some(Arc::new(best.with_data_type(array.data_type().clone())))
    }
    let greatest = match definition.kind {
        _ if definition.keeps_rows() => return None,
        AggregateKind::Pg(Aggregate::Max) => true,
        AggregateKind::Pg(Aggregate::Min) => false,
        AggregateKind::Pg(_) | AggregateKind::First => return None,
    };
    match definition.result {
        SqlType::Int2 => of::<Int16Type>(array, greatest),
        SqlType::Int4 => of::<Int32Type>(array, greatest),
        SqlType::Int8 => of::<Int64Type>(array, greatest),
        SqlType::Date => of::<Date32Type>(array, greatest),
        SqlType::Timestamp | SqlType::Timestamptz => of::<TimestampMicrosecondType>(array, greatest),
        _ => None,
    }
}

impl Fast {
    fn add(&mut self, kind: AggregateKind, array: &ArrayRef) -> bool {
        let present = (array.len() - array.null_count()) as i64;
        match kind {
            AggregateKind::Pg(Aggregate::CountStar) => self.count += array.len() as i64,
            AggregateKind::Pg(Aggregate::Count) => self.count += present,
            _ => {
                let sum = if let Some(a) = array.as_primitive_opt::<Int32Type>() {
                    i128::from(match a.null_count() {
                        0 => a.values().iter().map(|v| i64::from(*v)).sum::<i64>(),
                        _ => a.iter().flatten().map(i64::from).sum(),
                    })
                } else if let Some(a) = array.as_primitive_opt::<Int16Type>() {
                    i128::from(a.iter().flatten().map(i64::from).sum::<i64>())
                } else if let Some(a) = array.as_primitive_opt::<Int64Type>() {
                    match a.null_count() {
                        0 => a.values().iter().map(|v| i128::from(*v)).sum(),
                        _ => a.iter().flatten().map(i128::from).sum(),
                    }
                } else {
                    return false;
                };
                self.count += present;
                self.sum += sum;
            }
        }
        true
    }
}

impl Accumulator for RowAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if let (Some(fast), Some(array)) = (&mut self.fast, values.first())
            && fast.add(self.definition.kind, array)
        {
            return Ok(());
        }
        if let Some(best) = values.first().and_then(|array| extreme(&self.definition, array)) {
            let column = column::open(&best, self.definition.result)?;
            return self.state.update(&[column.get(0)]).map_err(external);
        }
        let types =
            self.definition.args.clone().into_iter().chain(self.definition.order.clone().into_iter().map(|o| o.ty));
        let star = self.definition.args.is_empty();
        let columns = if star { Vec::new() } else { open(values, types)? };
        let rows = values.first().map_or(0, |array| array.len());
        let mut row_values = Vec::with_capacity(columns.len());
        for row in 0..rows {
            row_values.clear();
            row_values.extend(columns.iter().map(|column| column.get(row)));
            match self.kept {
                Some(_) => self.keep(&row_values),
                None => self.state.update(&row_values),
            }
            .map_err(external)?;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let types = self.definition.state_types();
        let columns = open(states, types.into_iter())?;
        let rows = states.first().map_or(0, |array| array.len());
        for row in 0..rows {
            let values: Vec<DatumRef<'_>> = columns.iter().map(|column| column.get(row)).collect();
            match (&self.kept, values.as_slice()) {
                (None, values) => self.state.merge(values),
                (Some(_), [DatumRef::Bytea(bytes)]) => self.merge_kept(bytes),
                (Some(_), _) => Ok(()),
            }
            .map_err(external)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.settle()?;
        if let Some(kept) = &self.kept {
            let bytes = self.kept_state(kept);
            return Ok(vec![scalar_of(DatumRef::Bytea(&bytes), SqlType::Bytea)?]);
        }
        let types = self.definition.state_types();
        self.state
            .state()
            .map_err(external)?
            .iter()
            .zip(types)
            .map(|(value, ty)| scalar_of(value.borrow(), ty))
            .collect()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.settle()?;
        if let Some(kept) = self.kept.take() {
            for row in kept.rows.values().flatten() {
                let values: Vec<DatumRef<'_>> = row.iter().map(Datum::borrow).collect();
                self.state.update(&values).map_err(external)?;
            }
        }
        let value = self.state.finish().map_err(external)?;
        scalar_of(value.borrow(), self.definition.result)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut gone = Fast::default();
        match (&mut self.fast, values.first()) {
            (Some(fast), Some(array)) if gone.add(self.definition.kind, array) => {
                fast.count -= gone.count;
                fast.sum -= gone.sum;
                Ok(())
            }
            _ => Err(external(SqlError::unsupported("this aggregate over a moving window frame"))),
        }
    }

    fn supports_retract_batch(&self) -> bool {
        self.fast.is_some()
    }

    fn size(&self) -> usize {
        size_of::<RowAccumulator>() + self.state.size() + self.kept.as_ref().map_or(0, |kept| kept.bytes)
    }
}
