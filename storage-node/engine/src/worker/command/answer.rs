//! Answers on their way out: at once where nothing keeps them, through the partition's gate otherwise.

use super::super::event::{Actions, ConnectionId};
use super::super::peers::Peers;
use super::super::replica::{Primary, Replica};
use super::super::{Counters, Worker};
use crate::gate::{Gate, Lease, Time};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Lsn, PartitionId};
use toroid_common::wire::{Answer, Message, OpenAnswer, Outcome, RawFrame, Refusal};

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

/// Lets out what a partition's gate need not hold any longer.
fn drain(primary: &mut Primary, peers: &Peers, lease: Lease, now: Time, actions: &mut Actions) {
    let acknowledged = primary.acknowledged();
    if !lease.holds(now) {
        return;
    }
    while primary
        .gate
        .release(acknowledged, |connection, bytes| {
            if peers.contains(connection) {
                actions.send(connection, |out| out.extend_from_slice(bytes));
            }
        })
        .is_some()
    {}
}

impl Worker {
    /// Lets answers of a partition out, after more is acknowledged or the lease renewed.
    pub(super) fn drain_gate(&mut self, partition: PartitionId, now: Time, actions: &mut Actions) {
        let Worker { replicas, peers, lease, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        drain(primary, peers, *lease, now, actions);
        self.report_catalog(now, actions);
    }

    /// The partition's primary is another one: what waits here, in the gate or for rows, is not answered but sent back.
    pub(super) fn refuse_waiting(
        &mut self,
        partition: PartitionId,
        gate: &mut Gate<ConnectionId>,
        actions: &mut Actions,
    ) {
        let mut waiting = Vec::new();
        gate.lift();
        while let Some(waits) = gate.release(Lsn(u64::MAX), |connection, bytes| (connection, sequence_of(bytes))) {
            waiting.push(waits);
        }
        let parked = self.parked.extract_if(.., |_, parked| parked.partition() == partition);
        waiting.extend(parked.map(|(_, parked)| parked.asker()));
        let refusal = self.stale_map();
        for (connection, sequence) in waiting {
            if self.peers.contains(connection) {
                self.refuse(connection, sequence, refusal, actions);
            }
        }
    }

    /// Tells the proxy that its request was not executed, and why.
    pub(super) fn refuse(&mut self, connection: ConnectionId, sequence: u64, refusal: Refusal, actions: &mut Actions) {
        self.counters.refusals += 1;
        let answer = Message::Answer(Answer { sequence, outcome: Outcome::Refused(refusal) });
        actions.send(connection, |out| answer.write(out));
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
