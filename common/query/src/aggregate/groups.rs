//! Accumulates the common aggregates for many groups at once.

use super::state::{malformed, whole};
use super::sum::integer_result;
use super::{AggregateKind, Definition};
use crate::column::open;
use crate::error::external;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use std::sync::Arc;
use toroid_common::datum::DatumRef;
use toroid_common::func::aggregate::Aggregate;
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnBuilder;

/// Whether [`create`] has something for this aggregate; all others go group by group.
pub(super) fn supports(definition: &Definition) -> bool {
    let AggregateKind::Pg(aggregate) = definition.kind else { return false };
    let arg = definition.args.first().copied().unwrap_or(SqlType::Bool);
    if definition.keeps_rows() {
        return false;
    }
    match aggregate {
        Aggregate::CountStar | Aggregate::Count => true,
        Aggregate::Sum | Aggregate::Avg => matches!(arg, SqlType::Int2 | SqlType::Int4 | SqlType::Int8),
        Aggregate::Min | Aggregate::Max => matches!(
            arg,
            SqlType::Int2
                | SqlType::Int4
                | SqlType::Int8
                | SqlType::Date
                | SqlType::Time
                | SqlType::Timestamp
                | SqlType::Timestamptz
        ),
        Aggregate::BoolAnd
        | Aggregate::BoolOr
        | Aggregate::StringAgg
        | Aggregate::ArrayAgg
        | Aggregate::StddevSamp
        | Aggregate::StddevPop
        | Aggregate::VarSamp
        | Aggregate::VarPop
        | Aggregate::BitAnd
        | Aggregate::BitOr
        | Aggregate::SingleValue
        | Aggregate::AnyValue => false,
    }
}

pub(super) fn create(definition: &Definition) -> Result<Box<dyn GroupsAccumulator>> {
    let AggregateKind::Pg(aggregate) = definition.kind else { return internal_err!("no accumulator for groups") };
    let arg = definition.args.first().copied().unwrap_or(SqlType::Bool);
    let result = definition.result;
    Ok(match (aggregate, arg) {
        (Aggregate::CountStar, _) => Box::new(Counts { counts: Vec::new(), star: true }),
        (Aggregate::Count, _) => Box::new(Counts { counts: Vec::new(), star: false }),
        (Aggregate::Sum | Aggregate::Avg, _) => Box::new(IntegerSums {
            sums: Vec::new(),
            counts: Vec::new(),
            arg,
            average: aggregate == Aggregate::Avg,
            result,
        }),
        (Aggregate::Min | Aggregate::Max, ty) => {
            let greatest = aggregate == Aggregate::Max;
            match ty {
                SqlType::Int2 => Box::new(Extremes::<Int16Type>::new(greatest, ty)),
                SqlType::Int4 => Box::new(Extremes::<Int32Type>::new(greatest, ty)),
                SqlType::Int8 => Box::new(Extremes::<Int64Type>::new(greatest, ty)),
                SqlType::Date => Box::new(Extremes::<Date32Type>::new(greatest, ty)),
                SqlType::Time => Box::new(Extremes::<Time64MicrosecondType>::new(greatest, ty)),
                _ => Box::new(Extremes::<TimestampMicrosecondType>::new(greatest, ty)),
            }
        }
        _ => return internal_err!("no accumulator for groups"),
    })
}

/// Calls `f` with group and row of every row that the filter lets pass.
fn each_row(groups: &[usize], filter: Option<&BooleanArray>, mut f: impl FnMut(usize, usize)) {
    match filter {
        None => groups.iter().enumerate().for_each(|(row, group)| f(*group, row)),
        Some(filter) => groups
            .iter()
            .enumerate()
            .filter(|(row, _)| filter.is_valid(*row) && filter.value(*row))
            .for_each(|(row, group)| f(*group, row)),
    }
}

struct Counts {
    counts: Vec<i64>,
    star: bool,
}

impl GroupsAccumulator for Counts {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.counts.resize(total, 0);
        let nulls = values.first().filter(|_| !self.star).and_then(|array| array.logical_nulls());
        let counts = &mut self.counts;
        match nulls.filter(|nulls| nulls.null_count() > 0) {
            None => each_row(groups, filter, |group, _| counts[group] += 1),
            Some(nulls) => each_row(groups, filter, |group, row| counts[group] += i64::from(nulls.is_valid(row))),
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.counts.resize(total, 0);
        let Some(partial) = values.first().and_then(|array| array.as_primitive_opt::<Int64Type>()) else {
            return Err(external(malformed()));
        };
        each_row(groups, None, |group, row| self.counts[group] += partial.value(row));
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(emit_to.take_needed(&mut self.counts))))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |array| array.len());
        let mut each = Counts { counts: Vec::new(), star: self.star };
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}

/// Sums and averages of integers, exact in 128 bits.
struct IntegerSums {
    sums: Vec<i128>,
    counts: Vec<i64>,
    arg: SqlType,
    average: bool,
    result: SqlType,
}

impl IntegerSums {
    fn add<T: ArrowPrimitiveType>(
        &mut self,
        array: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()>
    where
        T::Native: Into<i128>,
    {
        let Some(array) = array.as_primitive_opt::<T>() else { return Err(external(malformed())) };
        let values = array.values();
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        match array.nulls() {
            None => each_row(groups, filter, |group, row| {
                sums[group] += values[row].into();
                counts[group] += 1;
            }),
            Some(nulls) => each_row(groups, filter, |group, row| {
                if nulls.is_valid(row) {
                    sums[group] += values[row].into();
                    counts[group] += 1;
                }
            }),
        }
        Ok(())
    }
}

impl GroupsAccumulator for IntegerSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sums.resize(total, 0);
        self.counts.resize(total, 0);
        let Some(array) = values.first() else { return Err(external(malformed())) };
        match self.arg {
            SqlType::Int2 => self.add::<Int16Type>(array, groups, filter),
            SqlType::Int4 => self.add::<Int32Type>(array, groups, filter),
            _ => self.add::<Int64Type>(array, groups, filter),
        }
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.sums.resize(total, 0);
        self.counts.resize(total, 0);
        let [counts, sums] = values else { return Err(external(malformed())) };
        let (counts, sums) = (open(counts, SqlType::Int8)?, open(sums, SqlType::Numeric)?);
        for (row, group) in groups.iter().enumerate() {
            let (DatumRef::Int8(count), DatumRef::Numeric(sum)) = (counts.get(row), sums.get(row)) else {
                return Err(external(malformed()));
            };
            let Some((sum, _)) = sum.small() else { return Err(external(malformed())) };
            self.counts[*group] += count;
            self.sums[*group] += sum;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = (emit_to.take_needed(&mut self.sums), emit_to.take_needed(&mut self.counts));
        let mut builder = ColumnBuilder::with_capacity(self.result, sums.len());
        for (sum, count) in sums.into_iter().zip(counts) {
            let value = integer_result(count, sum, self.average, self.result).map_err(external)?;
            builder.push(value.borrow()).map_err(external)?;
        }
        Ok(builder.finish())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts) = (emit_to.take_needed(&mut self.sums), emit_to.take_needed(&mut self.counts));
        let mut builder = ColumnBuilder::with_capacity(SqlType::Numeric, sums.len());
        for sum in sums {
            builder.push(DatumRef::Numeric(whole(sum).borrow())).map_err(external)?;
        }
        Ok(vec![Arc::new(Int64Array::from(counts)), builder.finish()])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |array| array.len());
        let groups: Vec<usize> = (0..rows).collect();
        let mut each = IntegerSums {
            sums: Vec::new(),
            counts: Vec::new(),
            arg: self.arg,
            average: self.average,
            result: self.result,
        };
        each.update_batch(values, &groups, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.counts.capacity() * size_of::<i64>()
    }
}

/// `min` and `max` of types that compare as their numbers.
struct Extremes<T: ArrowPrimitiveType> {
    values: Vec<Option<T::Native>>,
    greatest: bool,
    ty: SqlType,
}

impl<T: ArrowPrimitiveType> Extremes<T> {
    fn new(greatest: bool, ty: SqlType) -> Extremes<T> {
        Extremes { values: Vec::new(), greatest, ty }
    }
}

impl<T: ArrowPrimitiveType + Send> GroupsAccumulator for Extremes<T>
where
    T::Native: PartialOrd,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.values.resize(total, None);
        let Some(array) = values.first().and_then(|array| array.as_primitive_opt::<T>()) else {
            return Err(external(malformed()));
        };
        let (best, greatest) = (&mut self.values, self.greatest);
        each_row(groups, filter, |group, row| {
            if array.is_valid(row) {
                let value = array.value(row);
                let best = &mut best[group];
                if best.is_none_or(|best| if greatest { value > best } else { value < best }) {
                    *best = Some(value);
                }
            }
        });
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(values, groups, None, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let values = emit_to.take_needed(&mut self.values);
        let array: arrow::array::PrimitiveArray<T> = values.into_iter().collect();
        Ok(Arc::new(array.with_data_type(self.ty.arrow())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |array| array.len());
        let groups: Vec<usize> = (0..rows).collect();
        let mut each = Extremes::<T>::new(self.greatest, self.ty);
        each.update_batch(values, &groups, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<Option<T::Native>>()
    }
}
