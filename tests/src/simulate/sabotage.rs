//! Guards that are turned off from outside, to show that the simulator sees what they prevent. The product's code has no such switches.

use super::workload::table;
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::id::{Lsn, PartitionId, PlanId};
use toroid_common::plan::{Access, Act, Verb};
use toroid_common::row::{read_owned, write_row};
use toroid_common::transaction::{Fate, Inquiry, InquiryBody};
use toroid_common::types::SqlType;
use toroid_common::wire::{
    Answer, AppendWriter, AppendedPart, EntriesHead, Message, Notification, Outcome, RawFrame, RequestBody,
    write_appended,
};
use toroid_engine::worker::{ConnectionId, Role, View, Worker};

/// One guard that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A node goes on under a lease that nobody granted.
    LeaseAtReply,
    /// Answers that missed their lease wait for the next one.
    LateAnswers,
    /// Entries count as the present primary's, and proposals as those of the present epoch, whatever epoch they name.
    Epoch,
    /// Somebody confirms entries in the follower's place as soon as they are sent.
    AllAcknowledge,
    /// A replica that has just begun to join is made a backup, and may be promoted.
    PromoteStranger,
    /// A new primary hears at once that its followers have its whole log, and serves.
    ServeBeforeAcknowledged,
    /// A request that is sent again gets a new identity.
    RequestIds,
    /// Scans of several workers read what each has at its own instant.
    Cuts,
    /// A worker's gates open as soon as it has captured.
    CaptureGates,
    /// Of the transactions that were prepared when a cut was captured, none belongs to it.
    PendingInCut,
    /// An anchor is told to forget when it has decided, and nobody else is told anything.
    Confirmations,
    /// A participant that has forgotten something of a transaction goes on as if it had not.
    StatementCounts,
    /// Workers never hear that a proxy is dead.
    FencedProxies,
    /// An anchor that knows nothing says that the transaction is aborted, and does not keep that.
    DurableAbort,
    /// Serializable scans lock nothing.
    ScanLocks,
    /// Who reads a row of a prepared transaction does not wait for its outcome.
    PreparedRows,
    /// A new primary does not take over the advisory locks of sessions.
    TakenGrips,
    /// A session that ends gives nothing back.
    SessionEnds,
    /// A primary that is asked again to tell of a channel is not told what came before.
    HeardBefore,
    /// Listeners are told of what is not acknowledged.
    ToldEarly,
    /// A cut goes on though a partition has moved since, as if neither the leader nor workers nor readers minded: what its new primary has counts as captured.
    MovedInCut,
    /// A change of the table that is asked for again gets a new identity.
    ChangeIds,
}

impl Sabotage {
    pub const ALL: [Sabotage; 22] = [
        Sabotage::LeaseAtReply,
        Sabotage::LateAnswers,
        Sabotage::Epoch,
        Sabotage::AllAcknowledge,
        Sabotage::PromoteStranger,
        Sabotage::ServeBeforeAcknowledged,
        Sabotage::RequestIds,
        Sabotage::Cuts,
        Sabotage::CaptureGates,
        Sabotage::PendingInCut,
        Sabotage::Confirmations,
        Sabotage::StatementCounts,
        Sabotage::FencedProxies,
        Sabotage::DurableAbort,
        Sabotage::ScanLocks,
        Sabotage::PreparedRows,
        Sabotage::TakenGrips,
        Sabotage::SessionEnds,
        Sabotage::HeardBefore,
        Sabotage::ToldEarly,
        Sabotage::MovedInCut,
        Sabotage::ChangeIds,
    ];
}

/// Passes entries of other epochs off as the present primary's.
#[derive(Debug, Default)]
pub struct Relabeller {
    /// By which connection the present primary's entries of a partition come.
    present: BTreeMap<PartitionId, ConnectionId>,
}

impl Relabeller {
    /// What a worker is to receive as well when it receives this frame.
    pub fn relabel(
        &mut self,
        worker: &Worker,
        connection: ConnectionId,
        frame: RawFrame<'_>,
    ) -> Vec<(ConnectionId, Vec<u8>)> {
        let Ok(Message::Append(append)) = Message::decode(frame) else { return Vec::new() };
        let mut relabelled = Vec::new();
        for part in append.parts().flatten() {
            let head = part.head;
            let Some(view) = worker.view(head.partition).filter(|view| view.role == Role::Backup) else { continue };
            if head.epoch == view.epoch {
                self.present.insert(head.partition, connection);
            } else if let Some(present) = self.present.get(&head.partition) {
                let head = EntriesHead { epoch: view.epoch, begins: false, acknowledged: Lsn(0), ..head };
                let entries: Vec<&[u8]> = part.entries().flatten().collect();
                let mut writer = AppendWriter::default();
                writer.part(head, entries.into_iter());
                let mut out = Vec::new();
                writer.finish(&mut out);
                relabelled.push((*present, out));
            }
        }
        relabelled
    }
}

/// What an anchor that knows nothing of a transaction tells who asks, without keeping it.
#[must_use]
pub fn made_up(worker: &Worker, frame: RawFrame<'_>) -> Option<Vec<u8>> {
    let Ok(Message::Inquiry(Inquiry { transaction, to, from, body: InquiryBody::Ask })) = Message::decode(frame) else {
        return None;
    };
    let (root, _) = worker.replica(to)?;
    if root.transactions().outcome(transaction).is_some() {
        return None;
    }
    let body = InquiryBody::Tell(Fate::Aborted);
    let mut out = Vec::new();
    Message::Inquiry(Inquiry { transaction, to: from, from: to, body }).write(&mut out);
    Some(out)
}

/// Answers reads while others wait: what is there counts, whatever is prepared.
#[derive(Debug, Default)]
pub struct Hasty {
    /// Plans that only read one row.
    reads: BTreeSet<(ConnectionId, PlanId)>,
}

impl Hasty {
    /// The answer to a read by itself of a partition where something is prepared; none where the worker would not wait.
    pub fn answer(&mut self, worker: &Worker, connection: ConnectionId, frame: RawFrame<'_>) -> Option<Vec<u8>> {
        let request = match Message::decode(frame).ok()? {
            Message::Plan(plan) => {
                if matches!(plan.plan().ok()?.verb, Verb::Select { lock: None, access: Access::Index { .. }, .. }) {
                    self.reads.insert((connection, plan.id));
                }
                return None;
            }
            Message::Request(request) => request,
            _ => return None,
        };
        let partition = request.partition;
        let serves = |view: &View| {
            matches!(view.role, Role::Primary { serves: true, .. })
                && view.epoch == request.epoch
                && view.acknowledged == view.appended
        };
        worker.view(partition).filter(serves)?;
        let (root, _) = worker.replica(partition)?;
        let (RequestBody::Point { params }, None) = (&request.body, request.within) else { return None };
        if !self.reads.contains(&(connection, request.plan)) || !root.transactions().has_prepared() {
            return None;
        }
        let key = match read_owned(params, &[SqlType::Int4]).ok()?[..] {
            [Datum::Int4(key)] => key,
            _ => return None,
        };
        let mut bytes = Vec::new();
        let value = table::find(root, key);
        value.into_iter().for_each(|value| write_row(&mut bytes, [DatumRef::Int8(value)].into_iter()));
        let outcome = Outcome::Rows { count: u32::from(value.is_some()), bytes: &bytes };
        let mut out = Vec::new();
        Message::Answer(Answer { sequence: request.sequence, outcome }).write(&mut out);
        Some(out)
    }
}

/// Tells listeners of notifications as soon as they are applied.
#[derive(Debug, Default)]
pub struct Chatty {
    plans: BTreeSet<(ConnectionId, PlanId)>,
    /// By partition and connection, which channels, and up to which number it was told.
    listening: BTreeMap<(PartitionId, ConnectionId), (BTreeSet<String>, u64)>,
}

impl Chatty {
    /// Learns from a frame who listens.
    pub fn overhear(&mut self, worker: &Worker, connection: ConnectionId, frame: RawFrame<'_>) {
        match Message::decode(frame) {
            Ok(Message::Plan(plan)) => {
                if plan.plan().is_ok_and(|it| it.verb == Verb::Act(Act::Listen)) {
                    self.plans.insert((connection, plan.id));
                }
            }
            Ok(Message::Request(request)) if self.plans.contains(&(connection, request.plan)) => {
                let RequestBody::Point { params } = request.body else { return };
                let channel =
                    read_owned(params, Act::Listen.params()).ok().and_then(|mut params| params.drain(..).nth(1));
                let last = worker.replica(request.partition).map_or(0, |(root, _)| root.notices().last());
                if let Some(Datum::Text(channel)) = channel {
                    let known = self.listening.entry((request.partition, connection)).or_default();
                    known.0.insert(channel);
                    known.1 = known.1.max(last);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// What is told too early, and to whom.
    pub fn tell(&mut self, worker: &Worker) -> Vec<(ConnectionId, Vec<u8>)> {
        let mut told = Vec::new();
        for ((partition, connection), (channels, last)) in &mut self.listening {
            let primary = worker.view(*partition).is_some_and(|view| matches!(view.role, Role::Primary { .. }));
            let Some((root, _)) = worker.replica(*partition).filter(|_| primary) else { continue };
            for notice in root.notices().after(*last).filter(|notice| channels.contains(&*notice.channel)) {
                let mut out = Vec::new();
                let (number, process) = (notice.number, notice.process);
                let (channel, payload) = (&*notice.channel, &*notice.payload);
                let partition = *partition;
                Message::Notification(Notification { partition, number, process, channel, payload }).write(&mut out);
                told.push((*connection, out));
            }
            *last = root.notices().last();
        }
        told
    }
}

/// The confirmation that somebody gives in the follower's place when these bytes are sent to it; none when nobody does.
#[must_use]
pub fn forged(sabotage: Option<Sabotage>, bytes: &[u8]) -> Option<Vec<u8>> {
    let forges = |head: &EntriesHead| match sabotage {
        Some(Sabotage::AllAcknowledge) => true,
        Some(Sabotage::ServeBeforeAcknowledged) => head.begins,
        Some(_) | None => false,
    };
    sabotage?;
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Ok(Some((frame, used))) = RawFrame::split(rest) {
        rest = rest.get(used..).unwrap_or_default();
        let Ok(Message::Append(append)) = Message::decode(frame) else { continue };
        for part in append.parts().flatten().filter(|part| forges(&part.head)) {
            let EntriesHead { partition, epoch, first, .. } = part.head;
            let lsn = Lsn(first.0 + u64::from(part.count) - 1);
            parts.push(AppendedPart { partition, epoch, lsn });
        }
    }
    let mut out = Vec::new();
    write_appended(&mut out, parts.iter().copied());
    (!parts.is_empty()).then_some(out)
}
