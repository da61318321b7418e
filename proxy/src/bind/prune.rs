//! Takes the columns that no expression reads out of the scans.

use super::binder::Binder;
use super::walk;
use crate::bound::{Query, Rel};

impl Binder<'_> {
    pub(super) fn prune(&self, query: &mut Query) {
        walk::relations(query, &mut |rel| self.prune_scan(rel));
    }

    pub(super) fn prune_scan(&self, rel: &mut Rel) {
        match rel {
            Rel::Scan { columns, .. } => columns.retain(|(id, _)| self.is_used(*id)),
            Rel::Virtual { columns, .. } => columns.retain(|(id, _, _)| self.is_used(*id)),
            _ => {}
        }
    }
}
