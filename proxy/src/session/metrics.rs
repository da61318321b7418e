//! What a proxy thread counts: statements by kind and outcome, how long they took, sessions.

use crate::statement::Kind;
use metrics::{Counter, Gauge, Histogram};
use std::cell::Cell;
use std::time::Duration;

const KINDS: [Kind; 9] = [
    Kind::Empty,
    Kind::Select,
    Kind::Insert,
    Kind::Update,
    Kind::Delete,
    Kind::Copy,
    Kind::Ddl,
    Kind::Session,
    Kind::Explain,
];

struct OfKind {
    kind: Kind,
    ok: Counter,
    error: Counter,
    seconds: Histogram,
}

/// Handles are looked up once per thread: counting is an addition.
pub struct Metrics {
    kinds: Vec<OfKind>,
    fatal: Counter,
    sessions: Gauge,
    seed: Cell<u64>,
}

impl Metrics {
    pub fn new(seed: u64) -> Metrics {
        let kinds = KINDS.map(|kind| {
            // A text that failed before it was known what it is.
            let label = if kind == Kind::Empty { "unknown" } else { kind.label() };
            OfKind {
                kind,
                ok: metrics::counter!("toroid_statements_total", "kind" => label, "outcome" => "ok"),
                error: metrics::counter!("toroid_statements_total", "kind" => label, "outcome" => "error"),
                seconds: metrics::histogram!("toroid_statement_seconds", "kind" => label),
            }
        });
        Metrics {
            kinds: Vec::from(kinds),
            fatal: metrics::counter!("toroid_sessions_failed_total"),
            sessions: metrics::gauge!("toroid_sessions"),
            seed: Cell::new(seed),
        }
    }

    pub(crate) fn statement(&self, kind: Kind, ok: bool, took: Duration) {
        if let Some(of_kind) = self.kinds.iter().find(|of_kind| of_kind.kind == kind) {
            if ok { &of_kind.ok } else { &of_kind.error }.increment(1);
            of_kind.seconds.record(took);
        }
    }

    /// A session ended by an error.
    pub(crate) fn fatal(&self) {
        self.fatal.increment(1);
    }

    pub(crate) fn session_began(&self) {
        self.sessions.increment(1.0);
    }

    pub(crate) fn session_ended(&self) {
        self.sessions.decrement(1.0);
    }

    /// A seed for the next statement: a sequence that starts at random (Weyl).
    pub(crate) fn seed(&self) -> u64 {
        let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(seed);
        seed
    }
}
