//! What each aggregate remembers, value by value: the meaning of all of them, whatever feeds it.

use std::fmt::Debug;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::func::aggregate::Aggregate;
use toroid_common::func::{Context, FuncId};
use toroid_common::key::write_ascending;
use toroid_common::types::SqlType;
use toroid_common::types::numeric::{Numeric, NumericRef};

use super::statistics::{FloatMoments, NumericMoments};
use super::{AggregateKind, Definition};
use crate::scalar::order::Comparison;

/// The running state of one group. Partial states travel as values of [`state_types`].
pub trait State: Debug + Send + Sync {
    /// Takes one row's arguments.
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()>;
    /// Takes another state of the same aggregate.
    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()>;
    fn state(&self) -> Vec<Datum>;
    fn finish(&self) -> SqlResult<Datum>;
    /// Bytes on the heap.
    fn size(&self) -> usize {
        0
    }
}

/// The types of a partial state's values.
pub fn state_types(definition: &Definition) -> Vec<SqlType> {
    let arg = definition.args.first().copied().unwrap_or(SqlType::Bool);
    let AggregateKind::Pg(aggregate) = definition.kind else { return vec![SqlType::Bool, arg] };
    match aggregate {
        Aggregate::CountStar | Aggregate::Count => vec![SqlType::Int8],
        Aggregate::Sum | Aggregate::Avg => vec![SqlType::Int8, sum_type(arg)],
        Aggregate::Min | Aggregate::Max | Aggregate::BoolAnd | Aggregate::BoolOr => vec![definition.result],
        Aggregate::BitAnd | Aggregate::BitOr => vec![definition.result],
        Aggregate::StringAgg => vec![definition.result, SqlType::Int4],
        Aggregate::ArrayAgg => vec![definition.result],
        Aggregate::StddevSamp | Aggregate::StddevPop | Aggregate::VarSamp | Aggregate::VarPop => match arg {
            SqlType::Float4 | SqlType::Float8 => vec![SqlType::Float8; 3],
            _ => vec![SqlType::Int8, SqlType::Numeric, SqlType::Numeric],
        },
        Aggregate::SingleValue => vec![SqlType::Int8, arg],
    }
}

/// The type in which values of `ty` are added up.
fn sum_type(ty: SqlType) -> SqlType {
    match ty {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Numeric => SqlType::Numeric,
        other => other,
    }
}

/// A state for a group that has seen nothing.
pub fn new_state(definition: &Definition) -> SqlResult<Box<dyn State>> {
    let arg = definition.args.first().copied().unwrap_or(SqlType::Bool);
    let AggregateKind::Pg(aggregate) = definition.kind else { return Ok(Box::new(First::default())) };
    let average = aggregate == Aggregate::Avg;
    Ok(match aggregate {
        Aggregate::CountStar => Box::new(Count { count: 0, star: true }),
        Aggregate::Count => Box::new(Count { count: 0, star: false }),
        Aggregate::Sum | Aggregate::Avg => match arg {
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => {
                Box::new(IntegerSum { count: 0, sum: 0, average, result: definition.result })
            }
            SqlType::Numeric => Box::new(NumericSum { count: 0, sum: Numeric::zero(), average }),
            SqlType::Float4 => Box::new(FloatSum { count: 0, sum: 0.0, single: true, average }),
            SqlType::Float8 => Box::new(FloatSum { count: 0, sum: 0.0, single: false, average }),
            SqlType::Interval => Box::new(IntervalSum::new(average)?),
            other => return Err(SqlError::unsupported(format_args!("sum or avg of {other}"))),
        },
        Aggregate::Min => Box::new(Extreme { greatest: false, best: None, ty: arg }),
        Aggregate::Max => Box::new(Extreme { greatest: true, best: None, ty: arg }),
        Aggregate::BoolAnd | Aggregate::BoolOr | Aggregate::BitAnd | Aggregate::BitOr => {
            Box::new(Fold { aggregate, value: Datum::Null })
        }
        Aggregate::StringAgg => Box::new(Joined { bytes: None, skip: 0, text: definition.result != SqlType::Bytea }),
        Aggregate::ArrayAgg => Box::new(Collected { values: None, bytes: 0 }),
        Aggregate::StddevSamp | Aggregate::StddevPop | Aggregate::VarSamp | Aggregate::VarPop => match arg {
            SqlType::Float4 | SqlType::Float8 => Box::new(FloatMoments::new(aggregate)),
            _ => Box::new(NumericMoments::new(aggregate)),
        },
        Aggregate::SingleValue => Box::new(Single { count: 0, value: Datum::Null }),
    })
}

pub(super) fn malformed() -> SqlError {
    SqlError::internal("an aggregate got a value or partial state of the wrong kind")
}

/// A whole number as numeric.
pub(super) fn whole(value: i128) -> Numeric {
    Numeric::from_parts(value, 0)
}

#[derive(Debug)]
struct Count {
    count: i64,
    star: bool,
}

impl State for Count {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        self.count += i64::from(self.star || args.first().is_some_and(|v| !v.is_null()));
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        match state {
            [DatumRef::Int8(count)] => self.count += count,
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn state(&self) -> Vec<Datum> {
        vec![Datum::Int8(self.count)]
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(Datum::Int8(self.count))
    }
}

/// Sum or average of integers, exact in 128 bits.
#[derive(Debug)]
struct IntegerSum {
    count: i64,
    sum: i128,
    average: bool,
    result: SqlType,
}

/// What `sum` or `avg` of integers answers.
pub(super) fn integer_result(count: i64, sum: i128, average: bool, result: SqlType) -> SqlResult<Datum> {
    match (count, average) {
        (0, _) => Ok(Datum::Null),
        (_, true) => Ok(Datum::Numeric(whole(sum).div(&whole(i128::from(count)))?)),
        (_, false) if result == SqlType::Int8 => i64::try_from(sum)
            .map(Datum::Int8)
            .map_err(|_| SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range")),
        (_, false) => Ok(Datum::Numeric(whole(sum))),
    }
}

impl State for IntegerSum {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        let value = match args {
            [DatumRef::Null, ..] => return Ok(()),
            [DatumRef::Int2(v), ..] => i128::from(*v),
            [DatumRef::Int4(v), ..] => i128::from(*v),
            [DatumRef::Int8(v), ..] => i128::from(*v),
            _ => return Err(malformed()),
        };
        self.sum += value;
        self.count += 1;
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        let [DatumRef::Int8(count), DatumRef::Numeric(sum)] = state else { return Err(malformed()) };
        let (sum, _) = sum.small().ok_or_else(malformed)?;
        self.count += count;
        self.sum += sum;
        Ok(())
    }

    fn state(&self) -> Vec<Datum> {
        vec![Datum::Int8(self.count), Datum::Numeric(whole(self.sum))]
    }

    fn finish(&self) -> SqlResult<Datum> {
        integer_result(self.count, self.sum, self.average, self.result)
    }
}

#[derive(Debug)]
struct NumericSum {
    count: i64,
    sum: Numeric,
    average: bool,
}

impl State for NumericSum {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        match args {
            [DatumRef::Null, ..] => Ok(()),
            [DatumRef::Numeric(value), ..] => {
                self.sum = self.sum.add(&NumericRef::to_owned(*value))?;
                self.count += 1;
                Ok(())
            }
            _ => Err(malformed()),
        }
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        let [DatumRef::Int8(count), DatumRef::Numeric(sum)] = state else { return Err(malformed()) };
        // The zero of an empty state must not widen the other's scale; it has scale 0 and cannot.
        self.sum = self.sum.add(&NumericRef::to_owned(*sum))?;
        self.count += count;
        Ok(())
    }

    fn state(&self) -> Vec<Datum> {
        vec![Datum::Int8(self.count), Datum::Numeric(self.sum.clone())]
    }

    fn finish(&self) -> SqlResult<Datum> {
        match (self.count, self.average) {
            (0, _) => Ok(Datum::Null),
            (count, true) => Ok(Datum::Numeric(self.sum.div(&whole(i128::from(count)))?)),
            (_, false) => Ok(Datum::Numeric(self.sum.clone())),
        }
    }

    fn size(&self) -> usize {
        self.sum.encode().len()
    }
}

/// `sum` in the argument's precision as PostgreSQL adds it, `avg` in double.
#[derive(Debug)]
struct FloatSum {
    count: i64,
    sum: f64,
    single: bool,
    average: bool,
}

impl FloatSum {
    fn add(&mut self, value: f64) -> SqlResult<()> {
        let infinite = self.sum.is_infinite() || value.is_infinite();
        self.sum = match self.single && !self.average {
            true => f64::from(self.sum as f32 + value as f32),
            false => self.sum + value,
        };
        match self.sum.is_infinite() && !infinite {
            true => Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")),
            false => Ok(()),
        }
    }
}

impl State for FloatSum {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        match args {
            [DatumRef::Null, ..] => return Ok(()),
            [DatumRef::Float4(v), ..] => self.add(f64::from(*v))?,
            [DatumRef::Float8(v), ..] => self.add(*v)?,
            _ => return Err(malformed()),
        }
        self.count += 1;
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        let (count, sum) = match state {
            [DatumRef::Int8(count), DatumRef::Float4(sum)] => (count, f64::from(*sum)),
            [DatumRef::Int8(count), DatumRef::Float8(sum)] => (count, *sum),
            _ => return Err(malformed()),
        };
        self.count += count;
        self.add(sum)
    }

    fn state(&self) -> Vec<Datum> {
        let sum = match self.single {
            true => Datum::Float4(self.sum as f32),
            false => Datum::Float8(self.sum),
        };
        vec![Datum::Int8(self.count), sum]
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(match (self.count, self.average) {
            (0, _) => Datum::Null,
            (count, true) => Datum::Float8(self.sum / count as f64),
            (_, false) if self.single => Datum::Float4(self.sum as f32),
            (_, false) => Datum::Float8(self.sum),
        })
    }
}

/// Intervals are added and divided by the same kernels as in expressions.
#[derive(Debug)]
struct IntervalSum {
    count: i64,
    sum: Datum,
    average: bool,
    plus: FuncId,
    over: FuncId,
}

impl IntervalSum {
    fn new(average: bool) -> SqlResult<IntervalSum> {
        let find = |signature: &str| {
            FuncId::by_signature(signature).ok_or_else(|| SqlError::unsupported("an aggregate of intervals"))
        };
        let (plus, over) = (find("+(interval, interval)")?, find("/(interval, float8)")?);
        Ok(IntervalSum { count: 0, sum: Datum::Null, average, plus, over })
    }

    fn call(&self, func: FuncId, types: &[SqlType], args: &[DatumRef<'_>]) -> SqlResult<Datum> {
        let env = Env::default();
        (func.function().kernel)(&Context { env: &env, args: types, result: SqlType::Interval }, args)
    }

    fn add(&mut self, value: DatumRef<'_>) -> SqlResult<()> {
        self.sum = match self.sum.is_null() {
            true => value.to_owned(),
            false => self.call(self.plus, &[SqlType::Interval; 2], &[self.sum.borrow(), value])?,
        };
        Ok(())
    }
}

impl State for IntervalSum {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        match args {
            [DatumRef::Null, ..] => Ok(()),
            [value @ DatumRef::Interval(_), ..] => {
                self.count += 1;
                self.add(*value)
            }
            _ => Err(malformed()),
        }
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        match state {
            [DatumRef::Int8(0), _] => Ok(()),
            [DatumRef::Int8(count), sum @ DatumRef::Interval(_)] => {
                self.count += count;
                self.add(*sum)
            }
            _ => Err(malformed()),
        }
    }

    fn state(&self) -> Vec<Datum> {
        vec![Datum::Int8(self.count), self.sum.clone()]
    }

    fn finish(&self) -> SqlResult<Datum> {
        match (self.count, self.average) {
            (0, _) => Ok(Datum::Null),
            (_, false) => Ok(self.sum.clone()),
            (count, true) => {
                let divisor = DatumRef::Float8(count as f64);
                self.call(self.over, &[SqlType::Interval, SqlType::Float8], &[self.sum.borrow(), divisor])
            }
        }
    }
}

/// `min` and `max`: the value with its comparable key.
#[derive(Debug)]
struct Extreme {
    greatest: bool,
    best: Option<(Vec<u8>, Datum)>,
    ty: SqlType,
}

impl State for Extreme {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        let Some(value) = args.first().filter(|v| !v.is_null()) else { return Ok(()) };
        if Comparison::of(self.ty) == Comparison::None {
            return Err(SqlError::unsupported(format_args!("min or max of {}", self.ty)));
        }
        let mut key = Vec::new();
        write_ascending(&mut key, *value);
        let better = match &self.best {
            None => true,
            Some((best, _)) if self.greatest => key > *best,
            Some((best, _)) => key < *best,
        };
        if better {
            self.best = Some((key, DatumRef::to_owned(*value)));
        }
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        self.update(state)
    }

    fn state(&self) -> Vec<Datum> {
        vec![self.best.as_ref().map_or(Datum::Null, |(_, value)| value.clone())]
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.best.as_ref().map_or(Datum::Null, |(_, value)| value.clone()))
    }

    fn size(&self) -> usize {
        self.best.as_ref().map_or(0, |(key, _)| 2 * key.capacity())
    }
}

/// bool_and, bool_or, bit_and, bit_or.
#[derive(Debug)]
struct Fold {
    aggregate: Aggregate,
    value: Datum,
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

    fn state(&self) -> Vec<Datum> {
        vec![self.value.clone()]
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.value.clone())
    }
}

/// `string_agg`: every value behind its delimiter; the first delimiter is cut off at the end.
#[derive(Debug)]
struct Joined {
    bytes: Option<Vec<u8>>,
    skip: usize,
    text: bool,
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

    fn state(&self) -> Vec<Datum> {
        let value = self.bytes.as_ref().and_then(|bytes| self.datum(bytes).ok()).unwrap_or(Datum::Null);
        vec![value, Datum::Int4(self.skip as i32)]
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
struct Collected {
    values: Option<Vec<Datum>>,
    bytes: usize,
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

    fn state(&self) -> Vec<Datum> {
        vec![self.values.clone().map_or(Datum::Null, Datum::Array)]
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
struct Single {
    count: i64,
    value: Datum,
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

    fn state(&self) -> Vec<Datum> {
        vec![Datum::Int8(self.count), self.value.clone()]
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.value.clone())
    }
}

/// Any row's value: carries columns that are the same in the whole group.
#[derive(Debug, Default)]
struct First {
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

    fn state(&self) -> Vec<Datum> {
        vec![Datum::Bool(self.value.is_some()), self.value.clone().unwrap_or(Datum::Null)]
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(self.value.clone().unwrap_or(Datum::Null))
    }
}
