//! What a statement brings with it besides its parameters: times, time zone, seed, settings that change answers.

use serde::{Deserialize, Serialize};

/// The volatile inputs of a statement; they travel with it, so that every replica and node computes the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Env {
    /// `statement_timestamp()`: microseconds since 1970-01-01 UTC.
    pub statement_time: i64,
    /// `now()`: when the transaction began; the same unit.
    pub transaction_time: i64,
    /// The session's `TimeZone`, an IANA name or a fixed offset as `SET TIME ZONE` takes them.
    pub time_zone: String,
    /// `DateStyle`, only its field order matters for reading.
    pub date_order: DateOrder,
    /// `IntervalStyle` is postgres; `extra_float_digits` as set.
    pub extra_float_digits: i8,
    /// Where `random()` and `gen_random_uuid()` of this statement start from.
    pub seed: u64,
    pub user: String,
    pub database: String,
    /// `search_path` as set.
    pub search_path: Vec<String>,
}

/// The order in which a date's numbers are read when it is not clear from the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DateOrder {
    #[default]
    Mdy,
    Dmy,
    Ymd,
}

impl Default for Env {
    fn default() -> Env {
        Env {
            statement_time: 0,
            transaction_time: 0,
            time_zone: "UTC".to_owned(),
            date_order: DateOrder::Mdy,
            extra_float_digits: 1,
            seed: 0,
            user: "toroid".to_owned(),
            database: "toroid".to_owned(),
            search_path: vec!["public".to_owned()],
        }
    }
}
