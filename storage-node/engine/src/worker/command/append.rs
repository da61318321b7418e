//! Append: entries from primaries that our replicas follow.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::peers::Peer;
use super::super::replica::Replica;
use crate::gate::Time;
use toroid_common::id::WorkerId;
use toroid_common::wire::{Append, AppendPart, AppendedPart};

impl Worker {
    pub(in super::super) fn append(
        &mut self,
        connection: ConnectionId,
        append: Append<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(Peer::Primary(from)) = self.peers.get(connection) else {
            return self.close(connection, "entries from a peer that is no primary".to_owned(), now, actions);
        };
        let from = *from;
        for part in append.parts() {
            let held =
                part.map_err(|error| error.to_string()).and_then(|part| self.append_part(connection, from, &part));
            if let Err(reason) = held {
                self.report(reason.clone(), actions);
                return self.close(connection, reason, now, actions);
            }
        }
    }

    fn append_part(&mut self, connection: ConnectionId, from: WorkerId, part: &AppendPart<'_>) -> Result<(), String> {
        let partition = part.head.partition;
        let Some(Some(Replica::Follower(follower))) = self.replicas.get_mut(usize::from(partition.0)) else {
            // Sent before the sender heard of a new map.
            return Ok(());
        };
        let assignment = self.map.as_ref().and_then(|map| map.assignment(partition));
        let primary = assignment.filter(|assignment| assignment.epoch == part.head.epoch).map(|a| a.primary);
        if primary.is_some_and(|primary| primary != Some(from)) {
            return Err(format!("entries for partition {partition} from {from}, which is not its primary"));
        }
        let appended = follower.append(connection, part, &mut self.account);
        if let Some(lsn) = appended.map_err(|reason| format!("partition {partition}: {reason}"))? {
            self.confirmations.push((connection, AppendedPart { partition, epoch: part.head.epoch, lsn }));
        }
        Ok(())
    }
}
