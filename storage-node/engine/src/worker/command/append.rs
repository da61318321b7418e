//! Append: entries from primaries of which we are a backup.

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
                return self.close(connection, reason, now, actions);
            }
        }
    }

    fn append_part(&mut self, connection: ConnectionId, from: WorkerId, part: &AppendPart<'_>) -> Result<(), String> {
        let partition = part.head.partition;
        if self.map.as_ref().and_then(|map| map.assignment(partition)).is_none_or(|a| a.primary != Some(from)) {
            return Err(format!("entries for partition {partition} from {from}, which is not its primary"));
        }
        let Some(Some(Replica::Backup(backup))) = self.replicas.get_mut(usize::from(partition.0)) else {
            return Err(format!("entries for partition {partition}, of which this worker is no backup"));
        };
        backup.append(part, &mut self.account).map_err(|reason| format!("partition {partition}: {reason}"))?;
        if part.count > 0 {
            let confirmed = AppendedPart { partition, epoch: backup.epoch, lsn: backup.appended() };
            self.confirmations.push((connection, confirmed));
        }
        Ok(())
    }
}
