//! Root piece: a part of the state that one of our joining replicas starts from.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::peers::Peer;
use super::super::replica::{Replica, Taken};
use crate::gate::Time;
use toroid_common::wire::{Message, RootPiece};

impl Worker {
    pub(in super::super) fn root_piece(
        &mut self,
        connection: ConnectionId,
        piece: &RootPiece<'_>,
        now: Time,
        actions: &mut Actions,
    ) {
        if !matches!(self.peers.get(connection), Some(Peer::Primary(_))) {
            return self.close(connection, "a root from a peer that is no primary".to_owned(), now, actions);
        }
        let RootPiece { partition, epoch, number, .. } = *piece;
        let Some(Some(Replica::Follower(follower))) = self.replicas.get_mut(usize::from(partition.0)) else { return };
        if follower.epoch != epoch {
            // Sent before the sender heard of a new map.
            return;
        }
        let whole = match follower.take_root(connection, piece, &mut self.account) {
            Ok(Taken::More) => false,
            Ok(Taken::Whole) => true,
            Ok(Taken::Ignored) => return,
            Ok(Taken::Refused(error)) => {
                // Not by closing: other replicas follow over the same connection.
                return self.report(format!("partition {partition}: {error}; it cannot join"), actions);
            }
            Err(reason) => {
                let reason = format!("partition {partition}: {reason}");
                self.report(reason.clone(), actions);
                return self.close(connection, reason, now, actions);
            }
        };
        let message = Message::RootTaken { partition, epoch, number };
        actions.send(connection, |out| message.write(out));
        if whole {
            self.counters.roots_taken += 1;
            self.tell(format!("partition {partition}: has the state in epoch {epoch}, catches up"), actions);
            self.tell_ends(actions);
        }
    }
}
