//! What a statement brings with it besides its parameters: times, time zone, seed, settings that change answers.

use crate::error::{SqlError, SqlResult};
use crate::zone::Zone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
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
    /// The channels that the session listens to; they stay behind when the environment is sent.
    #[serde(skip)]
    pub listening: Vec<String>,
    /// How many random values were drawn; starts anew wherever the environment is sent, so whoever cuts a statement into parts gives each its seed.
    #[serde(skip)]
    pub draws: Draws,
    /// Names and definitions of what the catalog holds; stays behind when the environment is sent, since only the proxy looks them up.
    #[serde(skip)]
    pub relations: Relations,
}

/// What regclass and the functions of pg_catalog look up.
pub trait Lookup: Send + Sync {
    /// A table or index as regclass prints it: quoted where it must be, with its schema unless that is searched anyway.
    fn shown(&self, oid: u32, search_path: &[String]) -> Option<String>;
    /// The table or index with this name, in a schema or along the search path.
    fn relation_oid(&self, schema: Option<&str>, name: &str, search_path: &[String]) -> Option<u32>;
    /// Whether it is a table that a user made.
    fn is_user_table(&self, oid: u32) -> bool;
    /// Whether its schema is searched; none for an unknown oid.
    fn is_visible(&self, oid: u32, search_path: &[String]) -> Option<bool>;
    /// `pg_get_indexdef`: position 0 is the whole statement, n the name of the n-th column. The table's schema is left out where it is in `hidden`.
    fn index_definition(&self, oid: u32, position: i32, hidden: &[String]) -> Option<String>;
    /// What a setting is where a session has not changed it.
    fn default_setting(&self, name: &str) -> Option<String>;
    /// `pg_get_constraintdef`.
    fn constraint_definition(&self, oid: u32) -> Option<String>;
}

/// The catalog as functions see it, where there is one.
#[derive(Clone, Default)]
pub struct Relations(Option<Arc<dyn Lookup>>);

impl Relations {
    pub fn new(lookup: Arc<dyn Lookup>) -> Relations {
        Relations(Some(lookup))
    }

    /// 0A000 where there is no catalog: next to the data.
    pub fn lookup(&self) -> SqlResult<&dyn Lookup> {
        self.0.as_deref().ok_or_else(|| SqlError::unsupported("a look into the catalog for each row of a stored table"))
    }

    /// What a setting is where a session has not changed it.
    pub fn default_setting(&self, name: &str) -> Option<String> {
        self.0.as_deref()?.default_setting(name)
    }

    /// How regclass prints an oid.
    pub fn shown(&self, oid: u32, search_path: &[String]) -> Option<String> {
        self.0.as_deref()?.shown(oid, search_path)
    }
}

impl fmt::Debug for Relations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Relations" } else { "no Relations" })
    }
}

impl PartialEq for Relations {
    /// Environments are the same whoever looks at them.
    fn eq(&self, _: &Relations) -> bool {
        true
    }
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
            listening: Vec::new(),
            draws: Draws::default(),
            relations: Relations::default(),
        }
    }
}
