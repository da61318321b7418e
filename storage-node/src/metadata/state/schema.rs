//! Schema changes, one at a time: begun, taken up by all primaries, settled or taken back.

use super::super::change;
use super::{Changing, Reply, Stage, State};
use toroid_common::error::{SqlError, SqlState};
use toroid_common::id::CatalogVersion;
use toroid_common::wire::{CatalogChange, ChangeError};

impl State {
    pub(super) fn change(&mut self, expected: CatalogVersion, wanted: CatalogChange) -> Reply {
        let have = self.catalog.version;
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
                self.changing = Some(Changing { before, fault: None, stage: Stage::Build });
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
        let fault = self.changing.take().and_then(|changing| changing.fault);
        Reply::Changed(fault.map_or(Ok(self.catalog.version), Err))
    }
}
