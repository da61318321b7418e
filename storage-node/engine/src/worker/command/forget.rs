//! Forget: all participants of committed transactions have confirmed, so that nobody will ask their anchor any more.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::replica::Replica;
use super::write::touch_followers;
use crate::gate::Time;
use crate::store::change::Change;
use smallvec::SmallVec;
use toroid_common::id::TransactionId;
use toroid_common::wire::Forget;

impl Worker {
    /// Forgets these outcomes, in one entry. Where that cannot be now the anchor finds out by itself.
    pub(in super::super) fn forget(
        &mut self,
        connection: ConnectionId,
        forget: &Forget,
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(proxy) = self.peers.proxy_mut(connection).map(|proxy| proxy.incarnation) else {
            return self.close(connection, "outcomes from a peer that is no proxy".to_owned(), now, actions);
        };
        let Worker { replicas, account, links, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(forget.partition.0)) else { return };
        if !primary.serves() || primary.is_choked() {
            return;
        }
        let known = primary.root.transactions();
        let changes: SmallVec<[Change<'_>; 4]> = forget
            .numbers
            .iter()
            .map(|number| TransactionId { proxy, number: *number })
            .filter(|transaction| known.is_committed(*transaction))
            .map(|transaction| Change::Forget { transaction })
            .collect();
        if !changes.is_empty() {
            primary.append(None, &changes, account);
            touch_followers(primary, forget.partition, links);
        }
    }
}
