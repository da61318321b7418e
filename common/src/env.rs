//! What a statement brings with it besides its parameters: times, time zone, seed, settings that change answers.

use crate::zone::Zone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The volatile inputs of a statement; they travel with it, so that every replica and node computes the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Env {
    /// `statement_timestamp()`: microseconds since 1970-01-01 UTC.
    pub statement_time: i64,
    /// `now()`: when the transaction began; the same unit.
    pub transaction_time: i64,
    /// The session's `TimeZone`, an IANA name or a fixed offset as `SET TIME ZONE` takes them.
    pub time_zone: Zone,
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
    /// Other settings by name, for `current_setting`; only what differs from the defaults need be here.
    pub settings: BTreeMap<String, String>,
    /// `pg_backend_pid()`.
    pub backend: i32,
    /// `clock_timestamp()`; 0 where no clock was read, then it is the statement's time.
    pub clock: i64,
    /// How many random values were drawn; starts anew wherever the environment is sent, so whoever cuts a statement into parts gives each its seed.
    #[serde(skip)]
    pub draws: Draws,
}

/// Counts the random values that a statement drew.
#[derive(Debug, Default)]
pub struct Draws(AtomicU64);

impl Clone for Draws {
    fn clone(&self) -> Draws {
        Draws(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl PartialEq for Draws {
    /// Environments are the same whatever was drawn from them.
    fn eq(&self, _: &Draws) -> bool {
        true
    }
}

impl Env {
    /// The next value of the statement's random sequence (splitmix64 over seed and count).
    pub fn draw(&self) -> u64 {
        let count = self.draws.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut z = self.seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `clock_timestamp()`.
    pub fn clock_time(&self) -> i64 {
        if self.clock == 0 { self.statement_time } else { self.clock }
    }
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
            time_zone: Zone::default(),
            date_order: DateOrder::Mdy,
            extra_float_digits: 1,
            seed: 0,
            user: "toroid".to_owned(),
            database: "toroid".to_owned(),
            search_path: vec!["public".to_owned()],
            settings: BTreeMap::new(),
            backend: 0,
            clock: 0,
            draws: Draws::default(),
        }
    }
}
