//! Variance and standard deviation: exact sums for numeric and integers, Youngs and Cramer's recurrence for floats, as PostgreSQL has them.

use super::state::{State, malformed, whole};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::func::aggregate::Aggregate;
use toroid_common::types::numeric::{Numeric, NumericRef};

fn is_sample(aggregate: Aggregate) -> bool {
    matches!(aggregate, Aggregate::StddevSamp | Aggregate::VarSamp)
}

fn is_deviation(aggregate: Aggregate) -> bool {
    matches!(aggregate, Aggregate::StddevSamp | Aggregate::StddevPop)
}

/// Count, sum and sum of squares.
#[derive(Debug)]
pub(super) struct NumericMoments {
    aggregate: Aggregate,
    count: i64,
    sum: Numeric,
    squares: Numeric,
}

impl NumericMoments {
    pub(super) fn new(aggregate: Aggregate) -> NumericMoments {
        NumericMoments { aggregate, count: 0, sum: Numeric::zero(), squares: Numeric::zero() }
    }
}

impl State for NumericMoments {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        let value = match args {
            [DatumRef::Null, ..] => return Ok(()),
            [DatumRef::Int2(v), ..] => whole(i128::from(*v)),
            [DatumRef::Int4(v), ..] => whole(i128::from(*v)),
            [DatumRef::Int8(v), ..] => whole(i128::from(*v)),
            [DatumRef::Numeric(v), ..] => NumericRef::to_owned(*v),
            _ => return Err(malformed()),
        };
        self.count += 1;
        self.sum = self.sum.add(&value)?;
        self.squares = self.squares.add(&value.mul(&value)?)?;
        Ok(())
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        let [DatumRef::Int8(count), DatumRef::Numeric(sum), DatumRef::Numeric(squares)] = state else {
            return Err(malformed());
        };
        self.count += count;
        self.sum = self.sum.add(&NumericRef::to_owned(*sum))?;
        self.squares = self.squares.add(&NumericRef::to_owned(*squares))?;
        Ok(())
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![Datum::Int8(self.count), Datum::Numeric(self.sum.clone()), Datum::Numeric(self.squares.clone())])
    }

    fn finish(&self) -> SqlResult<Datum> {
        if self.count == 0 || (is_sample(self.aggregate) && self.count == 1) {
            return Ok(Datum::Null);
        }
        if !self.sum.borrow().is_finite() || !self.squares.borrow().is_finite() {
            return Ok(Datum::Numeric(Numeric::nan()));
        }
        let count = i128::from(self.count);
        let spread = whole(count).mul(&self.squares)?.sub(&self.sum.mul(&self.sum)?)?;
        if spread.compare(&Numeric::zero()).is_le() {
            return Ok(Datum::Numeric(Numeric::zero()));
        }
        let divisor = whole(count * (count - i128::from(is_sample(self.aggregate))));
        let variance = spread.div(&divisor)?;
        match is_deviation(self.aggregate) {
            false => Ok(Datum::Numeric(variance)),
            true => {
                let scale = i32::from(variance.borrow().scale());
                Ok(Datum::Numeric(variance.sqrt()?.round(scale)?))
            }
        }
    }

    fn size(&self) -> usize {
        self.sum.encode().len() + self.squares.encode().len()
    }
}

/// Count, sum and sum of squared differences from the mean.
#[derive(Debug)]
pub(super) struct FloatMoments {
    aggregate: Aggregate,
    count: f64,
    sum: f64,
    spread: f64,
}

impl FloatMoments {
    pub(super) fn new(aggregate: Aggregate) -> FloatMoments {
        FloatMoments { aggregate, count: 0.0, sum: 0.0, spread: 0.0 }
    }

    fn add(&mut self, value: f64) -> SqlResult<()> {
        let infinite = self.sum.is_infinite() || value.is_infinite();
        self.count += 1.0;
        self.sum += value;
        if self.count > 1.0 {
            let delta = value * self.count - self.sum;
            self.spread += delta * delta / (self.count * (self.count - 1.0));
            if self.sum.is_infinite() || self.spread.is_infinite() {
                if !infinite {
                    return Err(overflow());
                }
                self.spread = f64::NAN;
            }
        } else if !value.is_finite() {
            self.spread = f64::NAN;
        }
        Ok(())
    }
}

fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}

impl State for FloatMoments {
    fn update(&mut self, args: &[DatumRef<'_>]) -> SqlResult<()> {
        match args {
            [DatumRef::Null, ..] => Ok(()),
            [DatumRef::Float4(v), ..] => self.add(f64::from(*v)),
            [DatumRef::Float8(v), ..] => self.add(*v),
            _ => Err(malformed()),
        }
    }

    fn merge(&mut self, state: &[DatumRef<'_>]) -> SqlResult<()> {
        let [DatumRef::Float8(count), DatumRef::Float8(sum), DatumRef::Float8(spread)] = state else {
            return Err(malformed());
        };
        if *count == 0.0 {
            return Ok(());
        }
        if self.count == 0.0 {
            (self.count, self.sum, self.spread) = (*count, *sum, *spread);
            return Ok(());
        }
        let total = self.count + count;
        let delta = self.sum / self.count - sum / count;
        let infinite = self.sum.is_infinite() || sum.is_infinite();
        let merged = self.spread + spread + self.count * count * delta * delta / total;
        if merged.is_infinite() && !infinite {
            return Err(overflow());
        }
        (self.count, self.sum, self.spread) = (total, self.sum + sum, merged);
        Ok(())
    }

    fn state(&self) -> SqlResult<Vec<Datum>> {
        Ok(vec![Datum::Float8(self.count), Datum::Float8(self.sum), Datum::Float8(self.spread)])
    }

    fn finish(&self) -> SqlResult<Datum> {
        let sample = is_sample(self.aggregate);
        if self.count == 0.0 || (sample && self.count <= 1.0) {
            return Ok(Datum::Null);
        }
        let variance = self.spread / (self.count - f64::from(u8::from(sample)));
        Ok(Datum::Float8(if is_deviation(self.aggregate) { variance.sqrt() } else { variance }))
    }
}
