//! Schema changes, one at a time: begun, taken up by all primaries, settled or taken back.

use super::super::change;
use super::{Changing, Reply, Stage, State};
use toroid_common::catalog::TableState;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, Incarnation, PartitionId, RequestId, TransactionId};
use toroid_common::transaction::Fate;
use toroid_common::wire::{CatalogChange, ChangeError, ChangeId};

impl State {
    pub(super) fn change(&mut self, id: Option<ChangeId>, expected: CatalogVersion, wanted: CatalogChange) -> Reply {
        let publishes = matches!(wanted, CatalogChange::Publish { .. });
        match self.begin(id, expected, wanted) {
            Reply::Changed(result) if publishes => Reply::Published(result.map_err(ChangeError::Sql)),
            Reply::Changing(result) if publishes => Reply::Published(result),
            reply => reply,
        }
    }

    fn begin(&mut self, id: Option<ChangeId>, expected: CatalogVersion, wanted: CatalogChange) -> Reply {
        let have = self.catalog.version;
        if let Some(known) = id.and_then(|id| self.known(id)) {
            return known;
        }
        let id = id.map(|id| id.request);
        match self.provisional(&wanted) {
            Ok(true) => {}
            Ok(false) => return self.nothing_to_change(id),
            Err(error) => return Reply::Changing(Err(ChangeError::Sql(error))),
        }
        if self.map.is_none() {
            let error = SqlError::new(SqlState::CANNOT_CONNECT_NOW, "the cluster has not been formed");
            return Reply::Changing(Err(ChangeError::Sql(error)));
        }
        if let CatalogChange::Publish { owner, participants } = &wanted {
            // It is committed, whatever workers say, and whatever else is under way: that may wait for its participants.
            if self.ending.insert(*owner, Fate::Committed).is_none() && !participants.is_empty() {
                self.committed.insert(*owner, participants.iter().copied().collect());
            }
            if self.changing.is_some() {
                return self.nothing_to_change(id);
            }
        }
        let fixed = matches!(wanted, CatalogChange::TakeBack { .. } | CatalogChange::Publish { .. });
        if self.changing.is_some() || !change::still_holds(&self.catalog, expected, &wanted) {
            return Reply::Changing(Err(ChangeError::Conflict { have }));
        }
        let ended = match &wanted {
            CatalogChange::Publish { owner, .. } | CatalogChange::TakeBack { owner, number: 0 } => {
                self.ending.remove(owner)
            }
            // What takes back a part does not end it.
            _ => None,
        };
        match change::apply(&self.catalog, wanted) {
            Err(error) => Reply::Changing(Err(error)),
            Ok(next) => {
                let before = std::mem::replace(&mut self.catalog, next);
                let version = self.catalog.version;
                self.changing = Some(Changing { before, id, fault: None, fixed, stage: Stage::Build });
                if ended == Some(Fate::Committed) {
                    self.note_changed(id, &Ok(version));
                }
                Reply::Changing(Ok(version))
            }
        }
    }

    /// Whether a change of a transaction's has something to do; an error when the transaction is dead, or was taken back.
    fn provisional(&mut self, wanted: &CatalogChange) -> SqlResult<bool> {
        match wanted {
            CatalogChange::Provide { owner, .. } if !self.proxies.contains(&owner.proxy) => Err(taken_back()),
            CatalogChange::Publish { owner, .. } => {
                let may = match self.ending.get(owner) {
                    Some(fate) => *fate == Fate::Committed,
                    None => self.proxies.contains(&owner.proxy),
                };
                match may && self.catalog.owners().any(|known| known == *owner) {
                    true => Ok(true),
                    false => Err(taken_back()),
                }
            }
            CatalogChange::TakeBack { owner, number } => {
                let committed = self.ending.get(owner) == Some(&Fate::Committed);
                Ok(!committed && self.has_provided(*owner, *number))
            }
            CatalogChange::Forget { owner, participants } => {
                participants.iter().for_each(|participant| self.confirmed(*owner, *participant));
                Ok(false)
            }
            CatalogChange::Provide { .. }
            | CatalogChange::CreateTable(_)
            | CatalogChange::AlterTable(_)
            | CatalogChange::DropTables(_)
            | CatalogChange::DropIndexes(_)
            | CatalogChange::Truncate(_)
            | CatalogChange::StartMove { .. }
            | CatalogChange::FinishMove { .. }
            | CatalogChange::AbandonMove { .. } => Ok(true),
        }
    }

    fn has_provided(&self, owner: TransactionId, from: u32) -> bool {
        self.catalog.tables.values().any(|table| match table.state {
            TableState::Private { owner: of, number, gone } => {
                of == owner && (number >= from || gone.is_some_and(|gone| gone >= from))
            }
            TableState::Claimed { owner: of, number } => of == owner && number >= from,
            TableState::Open | TableState::Moving { .. } | TableState::Filling { .. } => false,
        })
    }

    fn nothing_to_change(&mut self, id: Option<RequestId>) -> Reply {
        let result = Ok(self.catalog.version);
        self.note_changed(id, &result);
        Reply::Changed(result)
    }

    fn note_changed(&mut self, id: Option<RequestId>, result: &Result<CatalogVersion, SqlError>) {
        // Whoever is dead does not ask again.
        if let Some(id) = id.filter(|id| self.proxies.contains(&id.proxy)) {
            self.changed.insert(id, result.clone());
        }
    }

    /// What became of a transaction whose anchor the metadata group is, for a participant that asks. One that is not committed is aborted first.
    pub(super) fn decide(&mut self, owner: TransactionId) -> Reply {
        if self.committed.contains_key(&owner) || self.ending.get(&owner) == Some(&Fate::Committed) {
            return Reply::Fate(Fate::Committed);
        }
        if self.has_provided(owner, 0) {
            self.ending.insert(owner, Fate::Aborted);
        }
        // What has provided nothing cannot be published any more, and who has confirmed that it is committed does not ask.
        Reply::Fate(Fate::Aborted)
    }

    /// A participant has applied its part of a transaction that is committed.
    pub(super) fn confirmed(&mut self, owner: TransactionId, participant: PartitionId) {
        if let Some(waiting) = self.committed.get_mut(&owner) {
            waiting.remove(&participant);
            if waiting.is_empty() {
                self.committed.remove(&owner);
            }
        }
    }

    /// What is to be done next for a transaction that has changed the catalog, and is decided or of a dead proxy.
    pub fn due(&self) -> Option<CatalogChange> {
        let of = |owner: TransactionId| match self.ending.get(&owner) {
            Some(Fate::Committed) => Some(CatalogChange::Publish { owner, participants: Vec::new() }),
            Some(Fate::Aborted) => Some(CatalogChange::TakeBack { owner, number: 0 }),
            None if self.proxies.contains(&owner.proxy) => None,
            None => Some(CatalogChange::TakeBack { owner, number: 0 }),
        };
        self.catalog.owners().find_map(of)
    }

    /// Transactions that are committed and whose participants may not know.
    pub fn committed(&self) -> impl Iterator<Item = TransactionId> {
        self.committed.keys().copied()
    }

    pub(super) fn catalog_taken(&mut self, version: CatalogVersion, fault: Option<SqlError>) -> Reply {
        let Some(changing) = self.changing.as_mut().filter(|_| version == self.catalog.version) else {
            return Reply::Overtaken;
        };
        let next = match changing.stage {
            Stage::Build => {
                changing.fault = fault.filter(|_| !changing.fixed);
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
        self.note_changed(id, &result);
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

/// What a transaction is told whose schema changes are not there any more.
fn taken_back() -> SqlError {
    SqlError::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access: the transaction's schema changes were taken back",
    )
}
