//! Changes of the table, as the product's schema changes go: resolved against a catalog, asked for under one identity until they are answered, and resolved
//! again where the catalog has moved on.

use super::super::clock::{Instant, SECOND};
use super::super::context::{Context, name};
use super::super::history::History;
use super::super::history::changes::Told;
use super::super::network::Host;
use super::super::sabotage::Sabotage;
use super::super::workload::alteration::{Alteration, Resolved, resolve};
use super::Proxy;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, RequestId};
use toroid_common::wire::{ChangeError, ChangeId, ControlBody};

/// So often a change is resolved again.
const MOST_TRIES: u8 = 8;
/// Without a newer catalog for so long it is given up.
const PATIENCE: Instant = 10 * SECOND;

#[derive(Debug)]
pub(super) struct Changing {
    pub(super) session: u16,
    what: Alteration,
    tries: u8,
    state: State,
}

#[derive(Debug)]
enum State {
    Asked {
        /// Its number in the history.
        record: usize,
        id: ChangeId,
        /// By which the answer will be known, on this line.
        number: u32,
        body: Box<ControlBody>,
    },
    AwaitCatalog {
        version: CatalogVersion,
        until: Instant,
    },
}

impl Changing {
    pub(super) fn new(session: u16, what: Alteration) -> Changing {
        let state = State::AwaitCatalog { version: CatalogVersion(0), until: Instant::MAX };
        Changing { session, what, tries: 0, state }
    }

    pub(super) fn waits_for(&self) -> String {
        format!("{:?} of session {} ({:?})", self.what, self.session, self.state)
    }
}

impl Proxy {
    /// Asks for what can be resolved by now.
    pub(super) fn changes_go_on(&mut self, history: &mut History, idle: &mut Vec<u16>, context: &mut Context) {
        let mut changes = std::mem::take(&mut self.changes);
        for place in 0..changes.len() {
            let lowest = changes.iter().filter_map(|other| match &other.state {
                State::Asked { id, .. } => Some(id.request.sequence),
                State::AwaitCatalog { .. } => None,
            });
            let low = lowest.min();
            let changing = &mut changes[place];
            let State::AwaitCatalog { version, until } = changing.state else { continue };
            let have = self.catalog.as_ref().map_or(CatalogVersion(0), |catalog| catalog.version);
            if have < version && context.now() < until {
                continue;
            }
            if changing.tries == MOST_TRIES || have < version || !self.ask_for_change(changing, low, history, context) {
                changing.tries = u8::MAX;
                idle.push(changing.session);
            }
        }
        changes.retain(|changing| changing.tries < u8::MAX);
        changes.append(&mut self.changes);
        self.changes = changes;
    }

    /// False where there is nothing to ask for, or nobody to ask.
    fn ask_for_change(
        &mut self,
        changing: &mut Changing,
        low: Option<u64>,
        history: &mut History,
        context: &mut Context,
    ) -> bool {
        let (Some(wire), Some(proxy)) = (self.metadata.filter(|_| self.stands), self.incarnation) else { return false };
        let (Some(catalog), Some(table)) = (self.catalog.clone(), self.table().cloned()) else { return false };
        self.last_change += 1;
        let sequence = self.last_change;
        let named = format!("x{proxy}_{sequence}");
        let Some(Resolved { change, makes, drops }) = resolve(&table, changing.what, named) else { return false };
        let record = history.change(makes, drops);
        let id = ChangeId { request: RequestId { proxy, sequence }, low: low.unwrap_or(sequence) };
        let body = ControlBody::Change { id: Some(id), expected: catalog.version, change };
        context.note(|| format!("{} asks for {:?}: {:?}", name(Host::Proxy(self.index)), changing.what, id.request));
        let number = self.ask(wire, body.clone(), context);
        changing.tries += 1;
        changing.state = State::Asked { record, id, number, body: Box::new(body) };
        true
    }

    /// A new line to the metadata service stands: what is not answered is asked for again.
    pub(super) fn ask_for_changes_again(&mut self, context: &mut Context) {
        let Some(wire) = self.metadata.filter(|_| self.stands) else { return };
        let mut changes = std::mem::take(&mut self.changes);
        for changing in &mut changes {
            if let State::Asked { number, body, .. } = &mut changing.state {
                if context.sabotages(Sabotage::ChangeIds)
                    && let ControlBody::Change { id: Some(id), .. } = body.as_mut()
                {
                    self.last_change += 1;
                    id.request.sequence = self.last_change;
                }
                *number = self.ask(wire, ControlBody::clone(body), context);
            }
        }
        self.changes = changes;
    }

    /// An answer to a change; none where nobody knows what became of it.
    pub(super) fn change_answered(
        &mut self,
        number: u32,
        result: Option<Result<CatalogVersion, ChangeError>>,
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) {
        context.note(|| format!("{} changed the catalog: {result:?}", name(Host::Proxy(self.index))));
        let of = |changing: &Changing| matches!(&changing.state, State::Asked { number: it, .. } if *it == number);
        let Some(place) = self.changes.iter().position(of) else { return };
        let State::Asked { record, .. } = self.changes[place].state else { return };
        let (told, again) = match result {
            Some(Ok(_)) => (Told::Done, None),
            Some(Err(ChangeError::Conflict { have } | ChangeError::Blocked { have })) => (Told::Never, Some(have)),
            Some(Err(ChangeError::Sql(error))) if error.state() == SqlState::STATEMENT_COMPLETION_UNKNOWN => {
                (Told::Unknown, None)
            }
            Some(Err(ChangeError::Sql(_))) => (Told::Never, None),
            None => (Told::Unknown, None),
        };
        history.changed(record, told);
        match again {
            Some(version) => {
                let until = context.now() + PATIENCE;
                self.changes[place].state = State::AwaitCatalog { version, until };
                self.wake_at(until, context);
            }
            None => idle.push(self.changes.swap_remove(place).session),
        }
    }
}
