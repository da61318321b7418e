//! A statement that may have to wait, for locks or for its rows, with all that it needs when it goes on.

use super::event::ConnectionId;
use crate::gate::Time;
use crate::lock::WaitId;
use crate::store::table::Position;
use crate::store::write_set::Overlay;
use bytes::Bytes;
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::expr::Expr;
use toroid_common::id::{Epoch, PartitionId, RequestId, TableId, TransactionId};
use toroid_common::plan::{Access, LockWait, PointPlan, Verb};
use toroid_common::wire::Within;

/// A request's identity and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub connection: ConnectionId,
    pub request: RequestId,
    pub low: u64,
    pub partition: PartitionId,
    pub epoch: Epoch,
}

#[derive(Debug)]
pub(super) struct Task {
    pub address: Address,
    pub plan: Arc<PointPlan>,
    pub within: Option<Within>,
    /// The session that asks, as far as that is known.
    pub session: Option<TransactionId>,
    pub body: Body,
    pub env: Arc<Env>,
    /// So long it waits for one thing; 0: as long as it takes.
    pub lock_timeout_ms: u32,
    /// Its place among those that wait, once it has waited.
    pub wait: Option<WaitId>,
    /// Since when it has waited for what it waits for now.
    pub since: Time,
}

#[derive(Debug)]
pub(super) enum Body {
    Point {
        params: Bytes,
        /// Of a plan without a key: the rows that met its condition.
        found: Option<Vec<Found>>,
    },
    Insert {
        rows: u32,
        bytes: Bytes,
    },
}

/// A row that was found. A transaction's own rows stand elsewhere when others have inserted in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    At(Position),
    Own(u32),
}

impl Task {
    pub(super) fn transaction(&self) -> Option<TransactionId> {
        let proxy = self.address.request.proxy;
        self.within.map(|within| TransactionId { proxy, number: within.number })
    }

    /// As whom it waits: what a session holds is no transaction's.
    pub(super) fn waits_as(&self) -> Option<TransactionId> {
        self.transaction().or(self.session)
    }

    fn filter(&self) -> Option<&Expr> {
        match &self.plan.verb {
            Verb::Select { filter, .. } | Verb::Update { filter, .. } | Verb::Delete { filter, .. } => filter.as_ref(),
            Verb::Insert { .. } | Verb::Act(_) => None,
        }
    }

    /// To be computed from the start: other rows may meet its condition now.
    pub(super) fn anew(mut self) -> Task {
        if let Body::Point { found, .. } = &mut self.body {
            *found = None;
        }
        self
    }

    /// Whether no row meets its condition, whatever there is: it only locks what it reads.
    pub(super) fn finds_nothing(&self) -> bool {
        matches!(self.filter(), Some(Expr::Const { value: Datum::Bool(false), .. }))
    }

    /// Whether it gives way to others in a circle: a part of LOCK TABLE, whose other parts can be let go of.
    pub(super) fn yields(&self) -> bool {
        let Verb::Select { access: Access::Table { .. }, lock: Some(lock), .. } = &self.plan.verb else { return false };
        lock.wait == LockWait::Skip
    }

    /// Whether it does nothing but insert rows.
    pub(super) fn inserts_only(&self) -> bool {
        matches!(&self.plan.verb, Verb::Insert { conflict: None, .. })
    }

    /// Who asked, under which sequence.
    pub(super) fn asker(&self) -> (ConnectionId, u64) {
        (self.address.connection, self.address.request.sequence)
    }

    /// Where the rows that were found stand now.
    pub(super) fn placed(&self, overlay: Option<&Overlay>) -> Option<Vec<Position>> {
        let Body::Point { found: Some(found), .. } = &self.body else { return None };
        let table = self.plan.table;
        let place = |found: &Found| match found {
            Found::At(position) => Some(*position).filter(|at| overlay.is_none_or(|o| o.number(table, *at).is_none())),
            Found::Own(number) => overlay.and_then(|overlay| overlay.position(table, *number)),
        };
        Some(found.iter().filter_map(place).collect())
    }
}

/// Rows that were found on this overlay, named so that they are found on a later one.
pub(super) fn name_found(found: &[Position], table: TableId, overlay: Option<&Overlay>) -> Vec<Found> {
    let name = |position: &Position| match overlay.and_then(|overlay| overlay.number(table, *position)) {
        Some(number) => Found::Own(number),
        None => Found::At(*position),
    };
    found.iter().map(name).collect()
}
