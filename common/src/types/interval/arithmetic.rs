//! Interval arithmetic: sums, products with floats, and moving between months, days and hours.

use super::Interval;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::calendar::{MICROS_PER_DAY, MICROS_PER_SECOND, out_of_range};

const DAYS_PER_MONTH: i32 = 30;

#[cold]
fn interval_out_of_range() -> SqlError {
    out_of_range("interval")
}

/// Rounds away what floats add in the seventh digit (PostgreSQL: `TSROUND`).
fn settle(value: f64) -> f64 {
    (value * 1_000_000.0).round_ties_even() / 1_000_000.0
}

fn whole(value: f64) -> SqlResult<i32> {
    let limit = f64::from(i32::MAX);
    if value.is_nan() || value > limit || value < f64::from(i32::MIN) {
        return Err(interval_out_of_range());
    }
    Ok(value as i32)
}

impl Interval {
    pub fn plus(self, other: Interval) -> SqlResult<Interval> {
        let sum = || {
            Some(Interval {
                months: self.months.checked_add(other.months)?,
                days: self.days.checked_add(other.days)?,
                micros: self.micros.checked_add(other.micros)?,
            })
        };
        sum().ok_or_else(interval_out_of_range)
    }

    pub fn minus(self, other: Interval) -> SqlResult<Interval> {
        self.plus(other.negated()?)
    }

    pub fn negated(self) -> SqlResult<Interval> {
        let negated = || {
            Some(Interval {
                months: self.months.checked_neg()?,
                days: self.days.checked_neg()?,
                micros: self.micros.checked_neg()?,
            })
        };
        negated().ok_or_else(interval_out_of_range)
    }

    /// Times a factor; fractions of months become days, fractions of days time.
    pub fn times(self, factor: f64) -> SqlResult<Interval> {
        self.scale(|part| part * factor)
    }

    /// Divided by a number that is not zero.
    pub fn divided_by(self, divisor: f64) -> SqlResult<Interval> {
        if divisor == 0.0 {
            return Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        self.scale(|part| part / divisor)
    }

    fn scale(self, apply: impl Fn(f64) -> f64) -> SqlResult<Interval> {
        const SECONDS_PER_DAY: f64 = 86_400.0;
        let (month_part, day_part) = (apply(f64::from(self.months)), apply(f64::from(self.days)));
        let months = whole(month_part)?;
        let mut days = whole(day_part)?;
        let spilled_days = settle((month_part - f64::from(months)) * f64::from(DAYS_PER_MONTH));
        let spilled_whole = spilled_days.trunc();
        let mut seconds = settle((day_part - f64::from(days) + spilled_days - spilled_whole) * SECONDS_PER_DAY);
        if seconds.abs() >= SECONDS_PER_DAY {
            let carried = (seconds / SECONDS_PER_DAY).trunc();
            days = days.checked_add(carried as i32).ok_or_else(interval_out_of_range)?;
            seconds -= carried * SECONDS_PER_DAY;
        }
        let days = days.checked_add(spilled_whole as i32).ok_or_else(interval_out_of_range)?;
        let micros = (apply(self.micros as f64) + seconds * MICROS_PER_SECOND as f64).round_ties_even();
        if micros.is_nan() || !(-(2_f64.powi(63))..2_f64.powi(63)).contains(&micros) {
            return Err(interval_out_of_range());
        }
        Ok(Interval { months, days, micros: micros as i64 })
    }

    /// 24 hours to a day.
    pub fn justify_hours(self) -> SqlResult<Interval> {
        let days = self.days.checked_add((self.micros / MICROS_PER_DAY) as i32).ok_or_else(interval_out_of_range)?;
        let mut out = Interval { months: self.months, days, micros: self.micros % MICROS_PER_DAY };
        if out.days > 0 && out.micros < 0 {
            out.micros += MICROS_PER_DAY;
            out.days -= 1;
        } else if out.days < 0 && out.micros > 0 {
            out.micros -= MICROS_PER_DAY;
            out.days += 1;
        }
        Ok(out)
    }

    /// 30 days to a month.
    pub fn justify_days(self) -> SqlResult<Interval> {
        let months = self.months.checked_add(self.days / DAYS_PER_MONTH).ok_or_else(interval_out_of_range)?;
        let mut out = Interval { months, days: self.days % DAYS_PER_MONTH, micros: self.micros };
        if out.months > 0 && out.days < 0 {
            out.days += DAYS_PER_MONTH;
            out.months -= 1;
        } else if out.months < 0 && out.days > 0 {
            out.days -= DAYS_PER_MONTH;
            out.months += 1;
        }
        Ok(out)
    }

    /// Both, and one sign for all parts.
    pub fn justify(self) -> SqlResult<Interval> {
        let total = i64::from(self.days) + self.micros / MICROS_PER_DAY;
        let micros = self.micros % MICROS_PER_DAY;
        let months = i64::from(self.months) + total / i64::from(DAYS_PER_MONTH);
        let mut days = total % i64::from(DAYS_PER_MONTH);
        let mut months = months;
        let mut micros = micros;
        if months > 0 && (days < 0 || (days == 0 && micros < 0)) {
            days += i64::from(DAYS_PER_MONTH);
            months -= 1;
        } else if months < 0 && (days > 0 || (days == 0 && micros > 0)) {
            days -= i64::from(DAYS_PER_MONTH);
            months += 1;
        }
        if days > 0 && micros < 0 {
            micros += MICROS_PER_DAY;
            days -= 1;
        } else if days < 0 && micros > 0 {
            micros -= MICROS_PER_DAY;
            days += 1;
        }
        let months = i32::try_from(months).map_err(|_| interval_out_of_range())?;
        Ok(Interval { months, days: days as i32, micros })
    }
}
