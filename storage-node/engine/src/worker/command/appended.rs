//! Appended: a follower confirms entries; what all replicas hold is acknowledged, and answers that waited for it leave.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::peers::Peer;
use super::super::replica::Replica;
use crate::gate::Time;
use toroid_common::id::PartitionId;
use toroid_common::wire::Appended;

impl Worker {
    pub(in super::super) fn appended(
        &mut self,
        connection: ConnectionId,
        appended: &Appended<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(Peer::Follower { worker, .. }) = self.peers.get(connection) else {
            return self.close(connection, "confirmations from a peer that is no follower".to_owned(), now, actions);
        };
        let worker = *worker;
        let mut advanced = false;
        for part in appended.parts() {
            let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(part.partition.0)) else {
                continue;
            };
            if primary.epoch != part.epoch {
                continue;
            }
            match primary.appended_at(worker, part.lsn) {
                Ok(more) => {
                    let changing = primary.is_changing();
                    if more {
                        advanced = true;
                        self.acknowledged_more(part.partition, now);
                        self.drain_gate(part.partition, now, actions);
                    }
                    if changing {
                        self.ask(part.partition, now, actions);
                    }
                }
                Err(reason) => {
                    let reason = format!("partition {}: {reason}", part.partition);
                    self.report(reason.clone(), actions);
                    return self.close(connection, reason, now, actions);
                }
            }
        }
        if advanced {
            self.report_captured(now, actions);
            self.flush_fragments(now, actions);
        }
    }

    /// More of a partition may be acknowledged, or it serves now.
    pub(super) fn advanced(&mut self, partition: PartitionId, now: Time, actions: &mut Actions) {
        self.acknowledged_more(partition, now);
        self.drain_gate(partition, now, actions);
        self.report_captured(now, actions);
        self.flush_fragments(now, actions);
    }
}
