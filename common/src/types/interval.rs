//! PostgreSQL's interval: months, days and microseconds kept apart.

mod arithmetic;
mod text;

pub use text::write_interval;

use serde::{Deserialize, Serialize};

/// The three parts of an interval (PostgreSQL manual, "Date/Time Types").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

impl Interval {
    /// Little-endian months, days, microseconds: how columns and rows hold it.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..4].copy_from_slice(&self.months.to_le_bytes());
        out[4..8].copy_from_slice(&self.days.to_le_bytes());
        out[8..].copy_from_slice(&self.micros.to_le_bytes());
        out
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Interval {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        Interval {
            months: i32::from_le_bytes([a, b, c, d]),
            days: i32::from_le_bytes([e, f, g, h]),
            micros: i64::from_le_bytes(rest),
        }
    }

    /// The value by which intervals compare: a month is 30 days, a day 24 hours. Microseconds.
    pub fn comparable(self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * 86_400_000_000 + i128::from(self.micros)
    }
}
