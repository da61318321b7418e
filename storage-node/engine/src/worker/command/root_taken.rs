//! Root taken: a joining replica has room for more of the root that it is sent.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::peers::Peer;
use super::super::replica::Replica;
use crate::gate::Time;
use toroid_common::id::{Epoch, PartitionId};

impl Worker {
    pub(in super::super) fn root_taken(
        &mut self,
        connection: ConnectionId,
        (partition, epoch, number): (PartitionId, Epoch, u32),
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(Peer::Follower { worker, .. }) = self.peers.get(connection) else {
            return self.close(connection, "a root was taken by a peer that is no follower".to_owned(), now, actions);
        };
        let worker = *worker;
        let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) else { return };
        if primary.epoch != epoch {
            return;
        }
        let Some(sending) = primary.follower(worker).and_then(|progress| progress.sending.as_mut()) else { return };
        sending.took(number);
        if let Some(link) = self.links.get_mut(&worker) {
            link.touch(partition);
        }
    }
}
