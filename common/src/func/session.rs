//! Functions that act on the session and on others: advisory locks and notifications (PostgreSQL manual, "Advisory Lock Functions").
//!
//! Whoever executes a statement carries them out; an evaluator that meets one cannot.

use super::{Context, Entry};
use crate::datum::{Datum, DatumRef};
use crate::error::{SqlError, SqlResult};

fn advisory(_: &Context<'_>, _: &[DatumRef<'_>]) -> SqlResult<Datum> {
    Err(SqlError::unsupported("an advisory lock in a query that reads rows"))
}

fn notify(_: &Context<'_>, _: &[DatumRef<'_>]) -> SqlResult<Datum> {
    Err(SqlError::unsupported("a notification in a query that reads rows"))
}

fn listening(cx: &Context<'_>, _: &[DatumRef<'_>]) -> SqlResult<Datum> {
    Ok(Datum::Array(cx.env.listening.iter().cloned().map(Datum::Text).collect()))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::new("pg_advisory_lock(int8) -> void", advisory).volatile(),
    Entry::new("pg_advisory_lock(int4, int4) -> void", advisory).volatile(),
    Entry::new("pg_advisory_lock_shared(int8) -> void", advisory).volatile(),
    Entry::new("pg_advisory_lock_shared(int4, int4) -> void", advisory).volatile(),
    Entry::new("pg_advisory_xact_lock(int8) -> void", advisory).volatile(),
    Entry::new("pg_advisory_xact_lock(int4, int4) -> void", advisory).volatile(),
    Entry::new("pg_advisory_xact_lock_shared(int8) -> void", advisory).volatile(),
    Entry::new("pg_advisory_xact_lock_shared(int4, int4) -> void", advisory).volatile(),
    Entry::new("pg_try_advisory_lock(int8) -> bool", advisory).volatile(),
    Entry::new("pg_try_advisory_lock(int4, int4) -> bool", advisory).volatile(),
    Entry::new("pg_try_advisory_lock_shared(int8) -> bool", advisory).volatile(),
    Entry::new("pg_try_advisory_lock_shared(int4, int4) -> bool", advisory).volatile(),
    Entry::new("pg_try_advisory_xact_lock(int8) -> bool", advisory).volatile(),
    Entry::new("pg_try_advisory_xact_lock(int4, int4) -> bool", advisory).volatile(),
    Entry::new("pg_try_advisory_xact_lock_shared(int8) -> bool", advisory).volatile(),
    Entry::new("pg_try_advisory_xact_lock_shared(int4, int4) -> bool", advisory).volatile(),
    Entry::new("pg_advisory_unlock(int8) -> bool", advisory).volatile(),
    Entry::new("pg_advisory_unlock(int4, int4) -> bool", advisory).volatile(),
    Entry::new("pg_advisory_unlock_shared(int8) -> bool", advisory).volatile(),
    Entry::new("pg_advisory_unlock_shared(int4, int4) -> bool", advisory).volatile(),
    Entry::new("pg_advisory_unlock_all() -> void", advisory).volatile(),
    Entry::new("pg_notify(text, text) -> void", notify).volatile().nullable(),
    // What pg_listening_channels() gives row by row.
    Entry::new("toroid_listening() -> text[]", listening).stable(),
    // Partitions keep the last ones, whoever has heard them: the queue is never full.
    Entry::new("pg_notification_queue_usage() -> float8", |_, _| Ok(Datum::Float8(0.0))).volatile(),
];
