//! Answers on their way out: at once where nothing keeps them, through the partition's gate otherwise.

use super::super::event::{Action, Actions, ConnectionId};
use super::super::peers::Peers;
use super::super::replica::{Primary, Replica, Reply};
use super::super::{Counters, Worker};
use super::catalog::PendingCatalog;
use crate::gate::{Lease, Time};
use std::collections::VecDeque;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::PartitionId;
use toroid_common::wire::{Answer, Message, OpenAnswer, Outcome, Refusal};

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
    gate.hold(root.lsn(), Reply::Proxy(connection), |out| write(out, root))
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

/// What letting answers out of gates needs besides the partition.
struct Outlet<'w> {
    peers: &'w Peers,
    lease: Lease,
    catalogs: &'w mut VecDeque<PendingCatalog>,
}

/// Lets out what a partition's gate need not hold any longer.
fn drain(primary: &mut Primary, outlet: &mut Outlet<'_>, now: Time, actions: &mut Actions) {
    let acknowledged = primary.acknowledged();
    if !outlet.lease.holds(now) {
        return;
    }
    while primary
        .gate
        .release(acknowledged, |reply, bytes| match reply {
            Reply::Proxy(connection) if outlet.peers.contains(connection) => {
                actions.send(connection, |out| out.extend_from_slice(bytes));
            }
            Reply::Proxy(_) => {}
            Reply::Catalog(version) => {
                if let Some(pending) = outlet.catalogs.iter_mut().find(|pending| pending.version == version) {
                    pending.waiting -= 1;
                }
            }
        })
        .is_some()
    {}
}

impl Worker {
    /// Lets answers of a partition out, after more is acknowledged or the lease renewed.
    pub(super) fn drain_gate(&mut self, partition: PartitionId, now: Time, actions: &mut Actions) {
        let Worker { replicas, peers, lease, catalogs, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        let mut outlet = Outlet { peers, lease: *lease, catalogs };
        drain(primary, &mut outlet, now, actions);
        self.report_catalogs(actions);
    }

    /// Tells the proxy that its request was not executed, and why.
    pub(super) fn refuse(&mut self, connection: ConnectionId, sequence: u64, refusal: Refusal, actions: &mut Actions) {
        self.counters.refusals += 1;
        let answer = Message::Answer(Answer { sequence, outcome: Outcome::Refused(refusal) });
        actions.send(connection, |out| answer.write(out));
    }

    /// Tells the metadata service of catalogs that all partitions have, in order.
    pub(super) fn report_catalogs(&mut self, actions: &mut Actions) {
        while let Some(pending) = self.catalogs.pop_front_if(|pending| pending.is_settled()) {
            let result = pending.fault.map_or(Ok(()), Err);
            let map = self.map.as_ref().map(|map| map.version).unwrap_or_default();
            actions.push(Action::CatalogApplied { version: pending.version, map, result });
        }
    }
}
