//! Answered: a proxy has its answers to requests above its low mark, which stays because one of them waits.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::replica::Replica;
use super::write::touch_followers;
use crate::gate::Time;
use crate::store::change::Change;
use toroid_common::wire::Answered;

impl Worker {
    /// Forgets these answers. Where that cannot be now it will be told again, with others.
    pub(in super::super) fn answered(
        &mut self,
        connection: ConnectionId,
        answered: Answered,
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(proxy) = self.peers.proxy_mut(connection).map(|proxy| proxy.incarnation) else {
            return self.close(connection, "marks from a peer that is no proxy".to_owned(), now, actions);
        };
        let Answered { partition, below, but } = answered;
        // Reads would wait for it until there are copies enough.
        if self.is_short(partition) {
            return;
        }
        let Worker { replicas, account, links, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        primary.transactions.answered(proxy, below, &but);
        if primary.serves() && !primary.is_choked() && primary.root.answers.may_forget(proxy, below, &but) {
            primary.append(None, &[Change::Answered { proxy, below, but }], account);
            touch_followers(primary, partition, links);
        }
    }
}
