//! Schema changes, one at a time: begun, taken up by all primaries, settled or taken back.

use super::super::change;
use super::{Changing, Reply, Stage, State};
use toroid_common::error::{SqlError, SqlState};
use toroid_common::id::{CatalogVersion, Incarnation, RequestId};
use toroid_common::wire::{CatalogChange, ChangeError, ChangeId};

impl State {
    pub(super) fn change(&mut self, id: Option<ChangeId>, expected: CatalogVersion, wanted: CatalogChange) -> Reply {
        let have = self.catalog.version;
        if let Some(known) = id.and_then(|id| self.known(id)) {
            return known;
        }
        let id = id.map(|id| id.request);
        if self.map.is_none() {
            let error = SqlError::new(SqlState::CANNOT_CONNECT_NOW, "the cluster has not been formed");
            return Reply::Changing(Err(ChangeError::Sql(error)));
        }
        if self.changing.is_some() || expected != have {
            return Reply::Changing(Err(ChangeError::Conflict { have }));
        }
        match change::apply(&self.catalog, wanted) {
            Err(error) => Reply::Changing(Err(ChangeError::Sql(error))),
            Ok(next) => {
                let before = std::mem::replace(&mut self.catalog, next);
                self.changing = Some(Changing { before, id, fault: None, stage: Stage::Build });
                Reply::Changing(Ok(self.catalog.version))
            }
        }
    }

    pub(super) fn catalog_taken(&mut self, version: CatalogVersion, fault: Option<SqlError>) -> Reply {
        let Some(changing) = self.changing.as_mut().filter(|_| version == self.catalog.version) else {
            return Reply::Overtaken;
        };
        let next = match changing.stage {
            Stage::Build => {
                changing.fault = fault;
                match changing.fault {
                    Some(_) => Some(change::take_back(&changing.before, &self.catalog)),
                    None => change::finish_indexes(&self.catalog),
                }
            }
            Stage::Settle => None,
        };
        if let Some(next) = next {
            changing.stage = Stage::Settle;
            self.catalog = next;
            return Reply::Done;
        }
        let (id, fault) = self.changing.take().map_or((None, None), |changing| (changing.id, changing.fault));
        let result = fault.map_or(Ok(self.catalog.version), Err);
        // Whoever is dead does not ask again.
        if let Some(id) = id.filter(|id| self.proxies.contains(&id.proxy)) {
            self.changed.insert(id, result.clone());
        }
        Reply::Changed(result)
    }

    /// What became of a change that was asked for before.
    fn known(&mut self, ChangeId { request, low }: ChangeId) -> Option<Reply> {
        if !self.proxies.contains(&request.proxy) {
            let message = "this proxy was taken for dead; the schema change may have been made before";
            return Some(Reply::Changed(Err(SqlError::new(SqlState::STATEMENT_COMPLETION_UNKNOWN, message))));
        }
        self.forget_changes(request.proxy, low);
        if let Some(result) = self.changed.get(&request) {
            return Some(Reply::Changed(result.clone()));
        }
        let begun = self.changing.as_ref().is_some_and(|changing| changing.id == Some(request));
        begun.then_some(Reply::Changing(Ok(self.catalog.version)))
    }

    /// Forgets how changes of this proxy ended that it asked for below `low`.
    pub(super) fn forget_changes(&mut self, proxy: Incarnation, low: u64) {
        let range = RequestId { proxy, sequence: 0 }..RequestId { proxy, sequence: low };
        self.changed.extract_if(range, |_, _| true).for_each(drop);
    }
}
