//! Counts, sums and averages.

use super::state::{State, malformed, whole};
use std::cmp::Ordering;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::func::{Context, FuncId};
use toroid_common::types::SqlType;
use toroid_common::types::numeric::{Numeric, NumericRef};

#[derive(Debug)]
pub(super) struct Count {
    pub(super) count: i64,
    pub(super) star: bool,
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

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![Datum::Int8(self.count)])
    }

    fn finish(&self) -> SqlResult<Datum> {
        Ok(Datum::Int8(self.count))
    }
}

/// Sum or average of integers, exact in 128 bits.
#[derive(Debug)]
pub(super) struct IntegerSum {
    pub(super) count: i64,
    pub(super) sum: i128,
    pub(super) average: bool,
    pub(super) result: SqlType,
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

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![Datum::Int8(self.count), Datum::Numeric(whole(self.sum))])
    }

    fn finish(&self) -> SqlResult<Datum> {
        integer_result(self.count, self.sum, self.average, self.result)
    }
}

#[derive(Debug)]
pub(super) struct NumericSum {
    count: i64,
    sum: Numeric,
    /// What was added since and fits a machine word, at the largest scale of it.
    small: i128,
    scale: u16,
    average: bool,
}

impl NumericSum {
    pub(super) fn new(average: bool) -> NumericSum {
        NumericSum { count: 0, sum: Numeric::zero(), small: 0, scale: 0, average }
    }

    fn add(&mut self, value: NumericRef<'_>) -> SqlResult<()> {
        let added = value.small().and_then(|(mantissa, scale)| self.added(mantissa, scale));
        match added {
            Some((small, scale)) => (self.small, self.scale) = (small, scale),
            None => self.sum = self.total()?.add(&value.to_owned())?,
        }
        if added.is_none() {
            (self.small, self.scale) = (0, 0);
        }
        Ok(())
    }

    fn added(&self, mantissa: i128, scale: u16) -> Option<(i128, u16)> {
        let raised = |value: i128, by: u16| value.checked_mul(10_i128.checked_pow(u32::from(by))?);
        let (small, mantissa) = match self.scale.cmp(&scale) {
            Ordering::Equal => (self.small, mantissa),
            Ordering::Less => (raised(self.small, scale - self.scale)?, mantissa),
            Ordering::Greater => (self.small, raised(mantissa, self.scale - scale)?),
        };
        Some((small.checked_add(mantissa)?, self.scale.max(scale)))
    }

    fn total(&self) -> SqlResult<Numeric> {
        self.sum.add(&Numeric::from_parts(self.small, self.scale))
    }
}

impl State for NumericSum {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        match args {
            [DatumRef::Null, ..] => Ok(()),
            [DatumRef::Numeric(value), ..] => {
                self.count += 1;
                self.add(*value)
            }
            _ => Err(malformed()),
        }
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        let [DatumRef::Int8(count), DatumRef::Numeric(sum)] = state else { return Err(malformed()) };
        self.count += count;
        self.add(*sum)
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![Datum::Int8(self.count), Datum::Numeric(self.total()?)])
    }

    fn finish(&self) -> SqlResult<Datum> {
        match (self.count, self.average) {
            (0, _) => Ok(Datum::Null),
            (count, true) => Ok(Datum::Numeric(self.total()?.div(&whole(i128::from(count)))?)),
            (_, false) => Ok(Datum::Numeric(self.total()?)),
        }
    }

    fn size(&self) -> usize {
        self.sum.encode().len()
    }
}

/// `sum` in the argument's precision as PostgreSQL adds it, `avg` in double.
#[derive(Debug)]
pub(super) struct FloatSum {
    pub(super) count: i64,
    pub(super) sum: f64,
    pub(super) single: bool,
    pub(super) average: bool,
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

    fn state(&self) -> SqlResult<Vec<Datum>> {
        let sum = match self.single {
            true => Datum::Float4(self.sum as f32),
            false => Datum::Float8(self.sum),
        };
        Ok(vec![Datum::Int8(self.count), sum])
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
pub(super) struct IntervalSum {
    count: i64,
    sum: Datum,
    average: bool,
    plus: FuncId,
    over: FuncId,
}

impl IntervalSum {
    pub(super) fn new(average: bool) -> SqlResult<IntervalSum> {
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

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![Datum::Int8(self.count), self.sum.clone()])
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
