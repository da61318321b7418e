//! Inquiries: what participants and anchors ask and tell each other when a coordinator is silent.

use super::super::Worker;
use super::super::event::{Action, Actions, ConnectionId};
use super::super::links::Link;
use super::super::replica::{Primary, Replica};
use super::super::transaction::Undecided;
use super::answer::ROUTED;
use super::step::SILENCE_MICROS;
use super::transact::UNCONFIRMED_MICROS;
use super::write::touch_followers;
use crate::gate::Time;
use crate::store::change::{Change, Participants};
use toroid_common::id::{PartitionId, TransactionId};
use toroid_common::transaction::{Fate, Inquiry, InquiryBody};
use toroid_common::wire::Message;

/// What was asked or told is so again after this time.
const REPEAT_MICROS: u64 = 500_000;
/// A connection to a worker is kept for so long after somebody there was asked or told something.
const KEPT_MICROS: u64 = 10_000_000;

impl Worker {
    /// A worker asks or tells something on behalf of a partition.
    pub(in super::super) fn inquiry(
        &mut self,
        connection: ConnectionId,
        inquiry: Inquiry,
        now: Time,
        actions: &mut Actions,
    ) {
        if !self.is_worker(connection) {
            return self.close(connection, "an inquiry from a peer that is no worker".to_owned(), now, actions);
        }
        self.inquired(inquiry, now, actions);
    }

    /// Answers an inquiry, if the partition that is meant is served here. Otherwise it will be made again.
    pub(in super::super) fn inquired(&mut self, inquiry: Inquiry, now: Time, actions: &mut Actions) {
        let Inquiry { transaction, to, from, body } = inquiry;
        let Worker { replicas, account, links, timers, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(to.0)) else { return };
        if !primary.serves() {
            return;
        }
        let before = primary.root.lsn();
        let reply = match body {
            // It will be asked again.
            InquiryBody::Ask if primary.transactions.is_awaited(transaction, now) => None,
            InquiryBody::Ask => {
                let (fate, change) = outcome_for(primary, transaction, from);
                if let Some(change) = change {
                    // Whatever is still open of it here cannot be decided any more.
                    primary.transactions.end(transaction, account);
                    primary.append(None, &[change], account);
                    timers.insert((now.after(UNCONFIRMED_MICROS), to, transaction));
                }
                Some(InquiryBody::Tell(fate))
            }
            InquiryBody::Tell(fate) => {
                if primary.root.transactions().prepared(transaction).is_some() {
                    let change = match fate {
                        Fate::Committed => Change::Commit { transaction },
                        Fate::Aborted => Change::Abort { transaction },
                    };
                    primary.append(None, &[change], account);
                    let last = primary.transactions.last_heard(transaction);
                    primary.transactions.end(transaction, account);
                    primary.transactions.note_end(transaction, last, true);
                }
                Some(InquiryBody::Confirm)
            }
            InquiryBody::Confirm => {
                let known = primary.root.transactions().outcome(transaction);
                if known.is_some_and(|known| known.waiting.contains(&from)) {
                    primary.append(None, &[Change::Confirmed { transaction, participant: from }], account);
                }
                None
            }
        };
        if primary.root.lsn() > before {
            touch_followers(primary, to, links);
        }
        if let Some(body) = reply {
            hold(primary, Inquiry { transaction, to: from, from: to, body });
        }
        self.stirred.push(to);
        self.bring_up(to, now, actions);
        self.drain_gate(to, now, actions);
    }

    /// Sends an inquiry to whoever is the primary now; it is lost where there is no way yet.
    pub(super) fn route(&mut self, inquiry: Inquiry, now: Time, actions: &mut Actions) {
        if inquiry.to == PartitionId::METADATA {
            return actions.push(Action::Inquire(inquiry));
        }
        let Some(map) = self.map.clone() else { return };
        let Some(worker) = map.assignment(inquiry.to).and_then(|assignment| assignment.primary) else { return };
        if worker == self.identity.worker {
            return self.loopback.push_back(inquiry);
        }
        let Some(node) = map.node(worker.node) else { return };
        self.inquires.insert(worker, now.after(KEPT_MICROS));
        self.links.entry(worker).or_insert_with(|| Link::new(node.incarnation)).send(inquiry, actions);
    }

    /// What partitions here ask and tell each other.
    pub(in super::super) fn loop_back(&mut self, now: Time, actions: &mut Actions) {
        while let Some(inquiry) = self.loopback.pop_front() {
            self.inquired(inquiry, now, actions);
        }
    }

    /// Asks for outcomes that have not come, and tells those that were not confirmed.
    pub(in super::super) fn review_transactions(&mut self, now: Time, actions: &mut Actions) {
        while let Some((at, partition, transaction)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) else {
                continue;
            };
            let again = now.after(REPEAT_MICROS);
            let serves = primary.serves();
            if let Some(undecided) = primary.transactions.get_mut(transaction).and_then(|open| open.prepared.as_mut()) {
                let due = undecided.asks <= now;
                if due {
                    undecided.asks = again;
                }
                let Undecided { anchor, asks } = *undecided;
                self.timers.insert((asks, partition, transaction));
                if due && serves {
                    let ask = Inquiry { transaction, to: anchor, from: partition, body: InquiryBody::Ask };
                    self.route(ask, now, actions);
                }
                continue;
            }
            let Some(known) = primary.root.transactions().outcome(transaction).cloned() else { continue };
            if known.waiting.is_empty() {
                continue;
            }
            if serves {
                for to in known.waiting {
                    let body = InquiryBody::Tell(known.fate);
                    hold(primary, Inquiry { transaction, to, from: partition, body });
                }
                self.drain_gate(partition, now, actions);
            }
            self.timers.insert((again, partition, transaction));
        }
    }

    /// A new primary knows what it must ask and tell.
    pub(super) fn arm(&mut self, partition: PartitionId, now: Time) {
        let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) else { return };
        let prepared =
            primary.root.transactions().all_prepared().map(|(id, _)| (now.after(SILENCE_MICROS), partition, id));
        self.timers.extend(prepared);
        let outcomes = primary.root.transactions().all_outcomes();
        self.timers.extend(outcomes.map(|(id, _)| (now.after(UNCONFIRMED_MICROS), partition, id)));
    }
}

/// Lets an inquiry out once what it tells cannot be taken back.
fn hold(primary: &mut Primary, inquiry: Inquiry) {
    let lsn = primary.root.lsn();
    primary.gate.hold(lsn, ROUTED, |out| Message::Inquiry(inquiry).write(out));
}

/// What became of a transaction, for a participant that asks its anchor, and what must be appended before that is said.
fn outcome_for(
    primary: &Primary,
    transaction: TransactionId,
    participant: PartitionId,
) -> (Fate, Option<Change<'static>>) {
    let aborted =
        || Change::Outcome { transaction, fate: Fate::Aborted, participants: Participants::from_slice(&[participant]) };
    match primary.root.transactions().outcome(transaction) {
        Some(known) if known.fate == Fate::Committed => (Fate::Committed, None),
        Some(known) if known.waiting.contains(&participant) => (Fate::Aborted, None),
        Some(_) | None => (Fate::Aborted, Some(aborted())),
    }
}
