//! Answers on their way out: at once where nothing keeps them, through the partition's gate otherwise.

use super::super::event::{Actions, ConnectionId};
use super::super::peers::Peers;
use super::super::replica::{Primary, Replica};
use super::super::{Counters, Worker};
use crate::gate::{Gate, Lease, Time};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Lsn, PartitionId};
use toroid_common::transaction::Inquiry;
use toroid_common::wire::{Answer, Message, OpenAnswer, Outcome, RawFrame, Refusal};

/// In a gate: an inquiry, which finds its way when it is let out.
pub(super) const ROUTED: ConnectionId = ConnectionId { slot: u32::MAX, generation: 0 };

/// Sends an answer that saw the partition's present state, or holds it.
pub(super) fn answer<T>(
    primary: &mut Primary,
    connection: ConnectionId,
    may_leave: bool,
    counters: &mut Counters,
    actions: &mut Actions,
    write: impl FnOnce(&mut Vec<u8>, &crate::store::root::Root) -> T,
) -> T {
    if may_leave && primary.is_open() {
        primary.announce(actions);
        let root = &primary.root;
        return actions.send(connection, |out| write(out, root));
    }
    counters.gated += 1;
    let Primary { root, gate, .. } = primary;
    gate.hold(root.lsn(), connection, |out| write(out, root))
}

/// Writes an answer of rows that `produce` appends and counts, or the error that it ends with. True when it was rows.
pub(super) fn write_rows(
    out: &mut Vec<u8>,
    sequence: u64,
    produce: impl FnOnce(&mut Vec<u8>) -> SqlResult<u32>,
) -> bool {
    let open = OpenAnswer::begin(out, sequence);
    let error = match produce(out) {
        Ok(count) => match open.finish(out, count) {
            true => return true,
            false => result_too_large(),
        },
        Err(error) => {
            open.abandon(out);
            error
        }
    };
    Message::Answer(Answer { sequence, outcome: Outcome::Error(error) }).write(out);
    false
}

/// The rows of one answer do not fit a frame.
pub(super) fn result_too_large() -> SqlError {
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "result of one partition is too large")
}

/// The rows that a statement changes in one partition do not fit an entry.
pub(super) fn writes_too_much() -> SqlError {
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "statement writes too much in one partition")
}

/// Lets out what a partition's gate need not hold any longer. Inquiries are still to be sent.
fn drain(primary: &mut Primary, peers: &Peers, lease: Lease, now: Time, actions: &mut Actions) -> Vec<Inquiry> {
    let acknowledged = primary.acknowledged();
    let mut inquiries = Vec::new();
    if !lease.holds(now) {
        return inquiries;
    }
    // Who notifies hears it before the answer.
    primary.announce(actions);
    while primary
        .gate
        .release(acknowledged, |connection, bytes| {
            if peers.contains(connection) {
                actions.send(connection, |out| out.extend_from_slice(bytes));
            } else if connection == ROUTED {
                inquiries.extend(inquiry_of(bytes));
            }
        })
        .is_some()
    {}
    inquiries
}

impl Worker {
    /// Lets answers of a partition out, after more is acknowledged or the lease renewed.
    pub(super) fn drain_gate(&mut self, partition: PartitionId, now: Time, actions: &mut Actions) {
        let Worker { replicas, peers, lease, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        for inquiry in drain(primary, peers, *lease, now, actions) {
            self.route(inquiry, now, actions);
        }
        self.report_catalog(now, actions);
    }

    /// The partition's primary is another one: what waits here is not answered but sent back. What waits in the gate was executed, and the other primary
    /// may have it; what waits for locks or rows was not.
    pub(super) fn refuse_waiting(
        &mut self,
        partition: PartitionId,
        gate: &mut Gate<ConnectionId>,
        actions: &mut Actions,
    ) {
        let mut executed = Vec::new();
        gate.lift();
        while let Some(waits) = gate.release(Lsn(u64::MAX), |connection, bytes| match connection {
            ROUTED => None,
            connection => Some((connection, sequence_of(bytes))),
        }) {
            executed.extend(waits);
        }
        let parked = self.parked.extract_if(.., |_, task| task.address.partition == partition).map(|(_, task)| task);
        let waits = self.waiting.extract_if(.., |_, task| task.address.partition == partition).map(|(_, task)| task);
        let waiting: Vec<_> = parked.chain(waits).map(|task| task.asker()).collect();
        let (have, stale) = (self.map_version(), self.stale_map());
        let executed = executed.into_iter().map(|asker| (asker, Refusal::Deposed { have }));
        let waiting = waiting.into_iter().map(|asker| (asker, stale));
        for ((connection, sequence), refusal) in executed.chain(waiting) {
            if self.peers.contains(connection) {
                self.refuse(connection, sequence, refusal, actions);
            }
        }
    }

    /// Tells the proxy why its request has no answer.
    pub(super) fn refuse(&mut self, connection: ConnectionId, sequence: u64, refusal: Refusal, actions: &mut Actions) {
        self.counters.refusals += 1;
        let answer = Message::Answer(Answer { sequence, outcome: Outcome::Refused(refusal) });
        actions.send(connection, |out| answer.write(out));
    }
}

fn inquiry_of(bytes: &[u8]) -> Option<Inquiry> {
    match RawFrame::split(bytes).map(|split| split.map(|(frame, _)| Message::decode(frame))) {
        Ok(Some(Ok(Message::Inquiry(inquiry)))) => Some(inquiry),
        Ok(_) | Err(_) => unreachable!("an inquiry in a gate is something else"),
    }
}

/// To which request an answer belongs.
fn sequence_of(answer: &[u8]) -> u64 {
    match RawFrame::split(answer).map(|split| split.map(|(frame, _)| Message::decode(frame))) {
        Ok(Some(Ok(Message::Answer(answer)))) => answer.sequence,
        // Gates hold whole answers and nothing else.
        Ok(_) | Err(_) => unreachable!("a gate holds what is no answer"),
    }
}
