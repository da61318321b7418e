//! Transact: the steps of a transaction.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use crate::gate::Time;
use toroid_common::error::SqlError;
use toroid_common::wire::{Answer, Message, Outcome, Transact};

impl Worker {
    pub(in super::super) fn transact(
        &mut self,
        connection: ConnectionId,
        transact: &Transact,
        now: Time,
        actions: &mut Actions,
    ) {
        if self.peers.proxy_mut(connection).is_none() {
            return self.close(connection, "a transaction of a peer that is no proxy".to_owned(), now, actions);
        }
        let outcome = Outcome::Error(SqlError::unsupported("a transaction at a storage node"));
        let answer = Message::Answer(Answer { sequence: transact.sequence, outcome });
        actions.send(connection, |out| answer.write(out));
    }
}
