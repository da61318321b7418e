//! What must hold at every moment, judged from outside: entries on the wire, answers that leave, maps that are made.

use super::context::{Context, name};
use super::network::{End, WireId};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::error::SqlState;
use toroid_common::hash::hash_bytes;
use toroid_common::id::{Epoch, Incarnation, Lsn, NodeId, PartitionId, RequestId, WorkerId};
use toroid_common::map::{Assignment, ClusterMap};
use toroid_common::wire::{
    AppendPart, Fragment, FragmentOutcome, Message, Outcome, RawFrame, Request, RequestBody, Transact,
};
use toroid_storage_node::metadata::state::Command;

/// What has been seen so far.
#[derive(Debug, Default)]
pub struct Observed {
    /// An entry's bytes by where it stands and in which epoch it was made.
    entries: BTreeMap<(PartitionId, Lsn, Epoch), u64>,
    /// Whose answers go over a connection.
    proxies: BTreeMap<WireId, Incarnation>,
    /// Where each request goes.
    pub requests: BTreeMap<RequestId, PartitionId>,
    /// Where each fragment goes.
    fragments: BTreeMap<RequestId, Vec<PartitionId>>,
    /// Lives of nodes whose processes have ended, with all that they held.
    ended: BTreeSet<Incarnation>,
    /// The map before the present one.
    map: Option<ClusterMap>,
    /// Partitions that have just been lost.
    pub lost: Vec<PartitionId>,
    /// Partitions that have just begun again, empty.
    pub emptied: Vec<PartitionId>,
    /// Lives of proxies that have just been taken for dead.
    pub fenced: Vec<Incarnation>,
    /// Per partition, every assignment that was made, by epoch.
    assignments: BTreeMap<PartitionId, BTreeMap<Epoch, Assignment>>,
    /// Per partition, the latest epoch whose primary has answered.
    answered: BTreeMap<PartitionId, Epoch>,
    /// Answers are not judged: some clock runs beyond its bound.
    pub lawless: bool,
    pub answers: u64,
    pub batches: u64,
    pub losses: u64,
    pub promotions: u64,
    pub new_epochs: u64,
    pub withdrawals: u64,
}

impl Observed {
    #[must_use]
    pub fn new(lawless: bool) -> Observed {
        Observed { lawless, ..Observed::default() }
    }
}

/// A worker as traces name it.
#[must_use]
pub fn who(end: End) -> String {
    format!("{}.{}", name(end.host), end.part)
}

/// A proxy sends a request.
pub fn asked(proxy: Option<Incarnation>, request: &Request<'_>, context: &mut Context) {
    let Some(proxy) = proxy else { return };
    context.observed.requests.insert(RequestId { proxy, sequence: request.sequence }, request.partition);
    context.observed.withdrawals += u64::from(matches!(request.body, RequestBody::Withdraw));
    context.note(|| {
        format!(
            "incarnation {proxy} {} partition {} in epoch {}: {} (low {}) {:?}",
            if matches!(request.body, RequestBody::Withdraw) { "withdraws from" } else { "asks" },
            request.partition,
            request.epoch,
            request.sequence,
            request.low,
            request.within
        )
    });
}

/// A proxy sends a step of a transaction.
pub fn asked_step(proxy: Option<Incarnation>, transact: &Transact, context: &mut Context) {
    let Some(proxy) = proxy else { return };
    context.observed.requests.insert(RequestId { proxy, sequence: transact.sequence }, transact.partition);
    context.note(|| format!("incarnation {proxy} asks {transact:?}"));
}

/// A proxy sends a fragment. One of a cut says nothing of who is the primary now: all that it reads is acknowledged, and will not change.
pub fn asked_fragment(proxy: Option<Incarnation>, fragment: &Fragment<'_>, context: &mut Context) {
    let Some(proxy) = proxy else { return };
    let Fragment { sequence, cut, partitions, within, .. } = fragment;
    context.note(|| format!("incarnation {proxy} asks for fragment {sequence} of {partitions:?}, {cut:?}, {within:?}"));
    let judged = partitions.iter().map(|(partition, _)| *partition).filter(|_| cut.is_none());
    context.observed.fragments.insert(RequestId { proxy, sequence: *sequence }, judged.collect());
}

/// A process has ended, and with it all that this life of its node held.
pub fn ended(life: Option<Incarnation>, context: &mut Context) {
    context.observed.ended.extend(life);
}

/// A proxy introduces itself over a connection.
pub fn introduced(wire: WireId, proxy: Incarnation, context: &mut Context) {
    context.observed.proxies.insert(wire, proxy);
}

/// A worker's bytes leave.
pub fn sent(end: End, wire: WireId, proxy: bool, bytes: &[u8], context: &mut Context) {
    let mut rest = bytes;
    while let Ok(Some((frame, used))) = RawFrame::split(rest) {
        rest = rest.get(used..).unwrap_or_default();
        match Message::decode(frame) {
            Ok(Message::Append(append)) if !proxy => {
                for part in append.parts().flatten() {
                    entries(end, &part, context);
                }
            }
            Ok(Message::Appended(appended)) => {
                if context.trace.wanted() {
                    let parts: Vec<_> = appended.parts().collect();
                    context.note(|| format!("{} confirms {parts:?}", who(end)));
                }
            }
            Ok(Message::Answer(answer)) if proxy => {
                context.note(|| format!("{} answers {}: {:?}", who(end), answer.sequence, answer.outcome));
                if !matches!(answer.outcome, Outcome::Refused(_)) {
                    context.observed.answers += 1;
                }
                if tells_of_rows(&answer.outcome) {
                    let request = request_of(wire, answer.sequence, context);
                    let partition = request.and_then(|request| context.observed.requests.get(&request).copied());
                    partition.into_iter().for_each(|partition| answers(end, partition, context));
                }
            }
            Ok(Message::FragmentBatch(batch)) => fragment_answers(end, wire, batch.sequence, context),
            Ok(Message::FragmentEnd(last)) => {
                context.note(|| format!("{} ends fragment {}: {:?}", who(end), last.sequence, last.outcome));
                if matches!(last.outcome, FragmentOutcome::Done { .. }) {
                    fragment_answers(end, wire, last.sequence, context);
                }
            }
            Ok(Message::Follow(follow)) => context.note(|| format!("{} follows {:?}", who(end), follow.parts)),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Whether an answer says anything of what is there; that a request was called off, or waited in vain, may be said by whoever had it.
fn tells_of_rows(outcome: &Outcome<'_>) -> bool {
    const CALLED_OFF: [SqlState; 4] = [
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::DEADLOCK_DETECTED,
        SqlState::SERIALIZATION_FAILURE,
    ];
    match outcome {
        Outcome::Refused(_) => false,
        Outcome::Error(error) => !CALLED_OFF.contains(&error.state()),
        Outcome::Rows { .. } | Outcome::Done { .. } => true,
    }
}

/// Entries of equal position and epoch are equal, whoever sends them.
fn entries(end: End, part: &AppendPart<'_>, context: &mut Context) {
    let head = part.head;
    context.note(|| format!("{} sends {} entries: {head:?}", who(end), part.count));
    let mut lsn = head.first;
    for entry in part.entries().flatten() {
        let hash = hash_bytes(entry);
        let known = *context.observed.entries.entry((head.partition, lsn, head.created)).or_insert(hash);
        if known != hash {
            let (partition, created) = (head.partition, head.created);
            context.violated(|| {
                format!(
                    "partition {partition} has two entries {lsn} made in epoch {created}: {} sends another",
                    who(end)
                )
            });
        }
        lsn = lsn.next();
    }
}

/// Which request an answer over this connection belongs to.
fn request_of(wire: WireId, sequence: u64, context: &Context) -> Option<RequestId> {
    Some(RequestId { proxy: *context.observed.proxies.get(&wire)?, sequence })
}

/// What a fragment sends is an answer for each of its partitions.
fn fragment_answers(end: End, wire: WireId, sequence: u64, context: &mut Context) {
    context.observed.batches += 1;
    let fragment = request_of(wire, sequence, context);
    let partitions = fragment.and_then(|fragment| context.observed.fragments.get(&fragment).cloned());
    partitions.into_iter().flatten().for_each(|partition| answers(end, partition, context));
}

/// After a later primary has answered, an earlier one must not.
fn answers(end: End, partition: PartitionId, context: &mut Context) {
    let observed = &mut context.observed;
    let super::network::Host::Node(index) = end.host else { return };
    let worker = WorkerId { node: toroid_common::id::NodeId(u32::from(index) + 1), index: end.part };
    let Some(assignments) = observed.assignments.get(&partition) else { return };
    let latest = assignments.iter().rev().find(|(_, assignment)| assignment.primary == Some(worker));
    let Some((epoch, _)) = latest else {
        return context
            .violated(|| format!("{} answers for partition {partition}, of which it was never primary", who(end)));
    };
    let (epoch, lawless) = (*epoch, observed.lawless);
    let answered = observed.answered.entry(partition).or_default();
    let before = *answered;
    *answered = before.max(epoch);
    if epoch < before && !lawless {
        context.violated(|| {
            format!(
                "{} answers for partition {partition} as primary of epoch {epoch} after that of epoch {before} has",
                who(end)
            )
        });
    }
}

/// The metadata group made a map, by this command as far as that is known.
pub fn mapped(map: &ClusterMap, command: Option<&Command>, context: &mut Context) {
    let former = context.observed.map.replace(map.clone());
    for (index, assignment) in map.partitions.iter().enumerate() {
        let partition = PartitionId(index as u16);
        if let Some(former) = &former {
            lost(partition, former, assignment, context);
        }
        let known = context.observed.assignments.entry(partition).or_default();
        let last = known.last_key_value().map(|(epoch, assignment)| (*epoch, assignment.clone()));
        known.insert(assignment.epoch, assignment.clone());
        let Some((epoch, before)) = last else { continue };
        if let Some(what) = succession(&before, assignment) {
            context.violated(|| format!("partition {partition} after epoch {epoch}: {what}"));
        }
        if before.origin != assignment.origin {
            if !matches!(command, Some(Command::Recover { .. })) {
                context.violated(|| format!("partition {partition} begins again by {command:?}"));
            }
            context.observed.emptied.push(partition);
        }
        if epoch != assignment.epoch {
            context.observed.new_epochs += 1;
            context.observed.promotions += u64::from(before.primary != assignment.primary);
            context.note(|| {
                format!(
                    "partition {partition} enters epoch {} with primary {:?}, backups {:?}",
                    assignment.epoch,
                    assignment.primary.map(|worker| worker.to_string()),
                    assignment.backups.iter().map(ToString::to_string).collect::<Vec<_>>()
                )
            });
        }
    }
}

/// A partition is given up only when all processes that held every acknowledged entry of it have ended.
fn lost(partition: PartitionId, former: &ClusterMap, now: &Assignment, context: &mut Context) {
    let Some(before) = former.assignment(partition) else { return };
    let Some(primary) = before.primary.filter(|_| now.primary.is_none()) else { return };
    context.observed.losses += 1;
    context.observed.lost.push(partition);
    for holder in [primary].iter().chain(&before.backups) {
        let life = former.node(holder.node).map(|node| node.incarnation);
        if life.is_some_and(|life| !context.observed.ended.contains(&life)) {
            context.violated(|| format!("partition {partition} is given up, and {holder} holds it: {before:?}"));
        }
    }
    context.note(|| format!("partition {partition} is lost"));
}

/// A node stops as it should: nobody may need it any more.
pub fn let_go(node: NodeId, context: &mut Context) {
    let Some(map) = &context.observed.map else { return };
    let needed = |assignment: &Assignment| assignment.primary.is_some_and(|primary| primary.node == node);
    if let Some(partition) = map.partitions.iter().position(needed) {
        context
            .violated(|| format!("node {node} stops as if nobody needed it, and is primary of partition {partition}"));
    }
}

/// What is wrong with an assignment that follows another.
fn succession(before: &Assignment, after: &Assignment) -> Option<String> {
    if after.epoch < before.epoch {
        return Some(format!("epoch {} comes", after.epoch));
    }
    let same_replicas = before.primary == after.primary && before.backups == after.backups;
    if after.epoch == before.epoch {
        return (!same_replicas).then(|| "the replicas change within the epoch".to_owned());
    }
    if after.origin != before.origin {
        return (after.origin != after.epoch).then(|| "it begins anew within an epoch".to_owned());
    }
    let primary = after.primary?;
    if before.primary != Some(primary) && !before.backups.contains(&primary) {
        return Some(format!("the new primary {primary} was no backup"));
    }
    let strangers = after.backups.iter().find(|backup| !before.holds(**backup));
    strangers.map(|backup| format!("the new backup {backup} held nothing"))
}
