//! Closed: what a lost connection leaves behind.

use super::super::Worker;
use super::super::event::{Action, Actions, ConnectionId};
use super::super::peers::Peer;
use super::super::replica::Replica;
use super::super::task::Task;
use crate::gate::Time;
use toroid_common::id::{Incarnation, PartitionId, TransactionId, WorkerId};

/// A proxy that lives connects again before so long; otherwise its open transactions are given up, since others may wait for their locks. Should it
/// come after all it is told that they are lost: its requests say how many came before them.
const ABSENT_MICROS: u64 = 1_500_000;

impl Worker {
    /// Forgets a connection. Answers that wait for it in gates are dropped when their turn comes: the proxy asks again elsewhere.
    pub(in super::super) fn closed(&mut self, connection: ConnectionId, now: Time, actions: &mut Actions) {
        match self.peers.remove(connection) {
            None => {}
            Some(Peer::Unknown) => self.early_hellos.retain(|(from, _)| *from != connection),
            Some(Peer::Proxy(proxy)) => {
                if !self.peers.has_proxy(proxy.incarnation) {
                    self.absent.insert(proxy.incarnation, now.after(ABSENT_MICROS));
                }
                for ticket in proxy.fragments.into_values() {
                    actions.push(Action::FragmentCancel { ticket });
                }
                self.forget_listener(connection);
            }
            Some(Peer::Primary(worker)) => self.primary_lost(worker, connection),
            Some(Peer::Follower { worker, .. })
                if self.links.get(&worker).is_some_and(|link| link.connection() == Some(connection)) =>
            {
                self.link_lost(worker, now, actions);
            }
            Some(Peer::Follower { .. }) => {}
        }
    }

    /// Gives the open transactions of proxies up that have not come again. What is prepared is asked for, as ever.
    pub(in super::super) fn review_absent(&mut self, now: Time, actions: &mut Actions) {
        let gone: Vec<Incarnation> = self.absent.extract_if(.., |_, at| *at <= now).map(|(proxy, _)| proxy).collect();
        if gone.is_empty() {
            return;
        }
        for index in 0..self.replicas.len() {
            let Some(Some(Replica::Primary(primary))) = self.replicas.get(index) else { continue };
            let open =
                primary.transactions.all().filter(|(id, open)| gone.contains(&id.proxy) && open.prepared.is_none());
            let open: Vec<TransactionId> = open.map(|(id, _)| id).collect();
            if open.is_empty() {
                continue;
            }
            let partition = PartitionId(index as u16);
            let is_of_them = |task: &Task| {
                task.address.partition == partition && task.transaction().is_some_and(|of| open.contains(&of))
            };
            let mut tasks = self.take_waiting(is_of_them);
            tasks.extend(self.parked.extract_if(.., |_, task| is_of_them(task)).map(|(_, task)| task));
            tasks.iter().for_each(|task| self.forget_task(task));
            let Worker { replicas, account, .. } = self;
            if let Some(Some(Replica::Primary(primary))) = replicas.get_mut(index) {
                for transaction in open {
                    primary.transactions.end(transaction, account);
                }
            }
            self.stirred.push(partition);
            // The root forgets their chunks.
            self.bring_up(partition, now, actions);
        }
    }

    /// Our replicas have lost their primary's connection: it will say again where it begins.
    fn primary_lost(&mut self, worker: WorkerId, connection: ConnectionId) {
        self.primaries.remove(&worker);
        self.confirmations.retain(|(to, _)| *to != connection);
        let Worker { replicas, account, .. } = self;
        for replica in replicas.iter_mut().flatten() {
            if let Replica::Follower(follower) = replica {
                follower.lost(connection, account);
            }
        }
    }

    /// A follower's worker cannot be reached. A backup that cannot is to be dropped at once; it will be tried again all the same.
    pub(super) fn link_lost(&mut self, worker: WorkerId, now: Time, actions: &mut Actions) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.down(now);
        }
        self.early_follows.retain(|(_, follower), _| *follower != worker);
        let Worker { replicas, account, .. } = self;
        let mut advanced = Vec::new();
        for (index, replica) in replicas.iter_mut().enumerate() {
            if let Some(Replica::Primary(primary)) = replica
                && primary.follower(worker).is_some()
            {
                let sending = primary.lost(worker, now);
                sending.into_iter().for_each(|sending| sending.root.finish(account));
                if primary.recount() {
                    advanced.push(PartitionId(index as u16));
                }
            }
        }
        // Nobody waits any more for a joining replica that was nearly there.
        advanced.into_iter().for_each(|partition| self.advanced(partition, now, actions));
        self.watch(now, actions);
    }
}
