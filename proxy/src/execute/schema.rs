//! Schema changes, and the schema as a session sees it: with what its transaction has changed.

use super::Conductor;
use super::plan::Plan;
use crate::bound::Ddl;
use crate::cluster::View;
use crate::ddl::{self, Patience};
use crate::relations;
use crate::statement::{Open, Prepared, State};
use std::rc::Rc;
use std::sync::Arc;
use toroid_common::catalog::TableState;
use toroid_common::coordinator::Mark;
use toroid_common::error::SqlResult;
use toroid_common::id::TransactionId;

/// What a transaction sees that has changed the schema, and of which view that was made.
pub(super) struct Seen {
    owner: TransactionId,
    of: Arc<View>,
    view: Arc<View>,
}

impl Conductor {
    /// Map and catalog as the session sees them.
    pub(super) fn seen(&self, session: &State) -> Arc<View> {
        let view = self.client.view();
        let Some(owner) = changer(session) else { return view };
        let mut last = self.seen.borrow_mut();
        if let Some(seen) = last.as_ref().filter(|seen| seen.owner == owner && Arc::ptr_eq(&seen.of, &view)) {
            return seen.view.clone();
        }
        let seen = seen_by(&view, owner);
        *last = Some(Seen { owner, of: view, view: seen.clone() });
        seen
    }

    /// Makes a schema change: in the session's transaction, if it is in one. False when there was nothing to change.
    pub(super) async fn change_schema(&self, session: &State, change: &Ddl) -> SqlResult<bool> {
        let cluster = self.client.cluster();
        let Some(open) = session.open() else {
            let changed = ddl::execute(cluster, self, session, change).await;
            self.cache.borrow_mut().clear();
            return changed;
        };
        let changed = ddl::execute_within(cluster, self, session, &open, change).await;
        if open.changes_schema() {
            session.know(relations::seen_by(cluster.clone(), open.id()));
        }
        changed
    }

    /// Takes the session out of its transaction, and back to the schema that all see.
    pub(super) fn leave_schema(&self, session: &State) -> Option<Rc<Open>> {
        if changer(session).is_some() {
            session.know(self.relations.clone());
            self.seen.borrow_mut().take();
        }
        session.set_open(None)
    }

    /// Takes back what the transaction has changed in the schema since the mark.
    pub(super) async fn take_back(&self, open: &Open, mark: &Mark) {
        if open.changes_schema() {
            self.client.take_back(open.id(), mark.changes()).await;
        }
    }

    /// Waits while tables that a statement writes are being replaced by others.
    pub(super) async fn until_free(&self, session: &State, prepared: &Prepared<Plan>) -> SqlResult<()> {
        let own = session.open().map(|open| open.id());
        let mut patience = Patience::of(session);
        loop {
            let view = self.client.view();
            let claimed = prepared.plan.tables.iter().any(|(table, _)| {
                let state = view.catalog.table(*table).map(|table| table.state);
                matches!(state, Some(TableState::Claimed { owner, .. }) if Some(owner) != own)
            });
            if !claimed {
                return Ok(());
            }
            patience.pause(session).await?;
        }
    }
}

/// The session's transaction, if it has changed the schema.
pub(super) fn changer(session: &State) -> Option<TransactionId> {
    session.open().filter(|open| open.changes_schema()).map(|open| open.id())
}

/// What a transaction sees that has changed the schema.
pub(super) fn seen_by(view: &View, owner: TransactionId) -> Arc<View> {
    Arc::new(View { catalog: Arc::new(view.catalog.seen_by(owner)), ..view.clone() })
}
