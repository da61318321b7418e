//! Schema changes: one at a time, answered when the primaries of all partitions have them in their acknowledged logs.

use super::{Actions, Asker, ClientId, Leader, send};
use crate::metadata::state::{Command, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use toroid_common::error::SqlError;
use toroid_common::id::{CatalogVersion, MapVersion, PartitionId, WorkerId};
use toroid_common::transaction::{Inquiry, InquiryBody};
use toroid_common::wire::{CatalogChange, ChangeError, ChangeId, NoticeBody};

/// Most changes that wait for the one that is being taken up.
const MAX_WAITING: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: VecDeque<Waiting>,
    /// Whose change is being begun or taken up.
    client: Option<(ClientId, u32)>,
    reports: BTreeMap<WorkerId, Report>,
    /// What is known of the present version.
    confirmed: BTreeSet<PartitionId>,
    of: CatalogVersion,
    fault: Option<SqlError>,
}

#[derive(Debug)]
struct Waiting {
    client: ClientId,
    number: u32,
    wanted: Wanted,
}

/// A change as it was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: Option<ChangeId>,
    pub(super) expected: CatalogVersion,
    pub(super) change: CatalogChange,
}

#[derive(Debug)]
struct Report {
    version: CatalogVersion,
    map: MapVersion,
    result: Result<(), SqlError>,
}

impl Changes {
    /// Beyond the bound it is refused.
    pub(super) fn queue(&mut self, client: ClientId, number: u32, wanted: Wanted, out: &mut Actions) {
        if self.waiting.len() >= MAX_WAITING {
            let reason = "too many schema changes wait for the one that is being taken up".to_owned();
            return send(client, number, NoticeBody::Failed { reason }, out);
        }
        self.waiting.push_back(Waiting { client, number, wanted });
    }

    pub(super) fn reported(
        &mut self,
        worker: WorkerId,
        version: CatalogVersion,
        map: MapVersion,
        result: Result<(), SqlError>,
    ) {
        self.reports.insert(worker, Report { version, map, result });
    }

    pub(super) fn begun(&mut self, result: Result<CatalogVersion, ChangeError>, out: &mut Actions) {
        if let Err(error) = result {
            self.ended(Err(error), out);
        }
    }

    pub(super) fn ended(&mut self, result: Result<CatalogVersion, ChangeError>, out: &mut Actions) {
        if let Some((client, number)) = self.client.take() {
            send(client, number, NoticeBody::Changed(result), out);
        }
    }

    /// Nobody knows whether the change at the head was begun, and nobody is told that it was not.
    pub(super) fn lost(&mut self) {
        self.client = None;
    }

    /// Whether all partitions that have a living replica have confirmed the present version.
    fn weigh(&mut self, state: &State) -> bool {
        let version = state.catalog().version;
        if self.of != version {
            self.of = version;
            self.confirmed.clear();
            self.fault = None;
        }
        let Some(map) = state.map() else { return false };
        let mut complete = true;
        for (index, assignment) in map.partitions.iter().enumerate() {
            let partition = PartitionId(index as u16);
            let report = assignment.primary.and_then(|primary| self.reports.get(&primary));
            // A report of an earlier life or an earlier map of that worker doesn't speak for this partition.
            match report.filter(|r| r.version == version && r.map >= state.primary_since(partition)) {
                Some(report) => {
                    self.confirmed.insert(partition);
                    if let Err(error) = &report.result {
                        self.fault.get_or_insert_with(|| error.clone());
                    }
                }
                None => complete &= self.confirmed.contains(&partition) || state.is_lost(assignment),
            }
        }
        complete
    }
}

impl Leader {
    /// Goes on with a change that all have taken up.
    pub(super) fn weigh_change(&mut self, state: &State, out: &mut Actions) {
        let asked = self.under_way(|asker| matches!(asker, Asker::CatalogTaken));
        if !state.is_changing() || asked || !self.changes.weigh(state) {
            return;
        }
        let command = Command::CatalogTaken { version: state.catalog().version, fault: self.changes.fault.clone() };
        self.propose(Asker::CatalogTaken, command, out);
    }

    /// Begins the next change that waits, when none is being taken up.
    pub(super) fn next_change(&mut self, state: &State, out: &mut Actions) {
        let begins = self.under_way(|asker| matches!(asker, Asker::Change));
        if state.is_changing() || self.changes.client.is_some() || begins {
            return;
        }
        if let Some(change) = state.due() {
            let expected = state.catalog().version;
            return self.propose(Asker::Change, Command::Change { id: None, expected, change }, out);
        }
        let Some(Waiting { client, number, wanted }) = self.changes.waiting.pop_front() else { return };
        self.changes.client = Some((client, number));
        let Wanted { id, expected, change } = wanted;
        self.propose(Asker::Change, Command::Change { id, expected, change }, out);
    }

    /// A node asks or says something for a participant of a transaction that changed the catalog.
    pub(super) fn inquired(&mut self, client: ClientId, inquiry: Inquiry, out: &mut Actions) {
        let Inquiry { transaction, from: participant, .. } = inquiry;
        match inquiry.body {
            InquiryBody::Ask => {
                let again = |asker: &Asker| matches!(asker, Asker::Participant(to, known, of) if (*to, *known, *of) == (client, transaction, participant));
                if !self.under_way(again) {
                    let asker = Asker::Participant(client, transaction, participant);
                    self.propose(asker, Command::Decide { transaction }, out);
                }
            }
            InquiryBody::Confirm => {
                let asker = Asker::Participant(client, transaction, participant);
                self.propose(asker, Command::Confirmed { transaction, participant }, out);
            }
            InquiryBody::Tell(_) => {}
        }
    }
}
