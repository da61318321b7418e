//! Follow: followers tell where their logs end, and primaries find from where on they need entries, or that they need a root.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::peers::Peer;
use super::super::replica::{Following, Replica};
use crate::gate::Time;
use crate::log::common_prefix;
use std::collections::BTreeMap;
use toroid_common::id::{PartitionId, WorkerId};
use toroid_common::wire::{Follow, FollowPart, Message};

impl Worker {
    /// Tells each primary that is connected where the logs of our replicas end, if it has not been told in this epoch, on this connection.
    pub(super) fn tell_ends(&mut self, actions: &mut Actions) {
        let Worker { map, replicas, primaries, .. } = self;
        let Some(map) = map else { return };
        let mut told: BTreeMap<ConnectionId, Vec<FollowPart>> = BTreeMap::new();
        for (index, replica) in replicas.iter_mut().enumerate() {
            let Some(Replica::Follower(follower)) = replica else { continue };
            let partition = PartitionId(index as u16);
            let primary = map.assignment(partition).and_then(|assignment| assignment.primary);
            if let Some(connection) = primary.and_then(|primary| primaries.get(&primary))
                && let Some(part) = follower.ask(partition, *connection)
            {
                told.entry(*connection).or_default().push(part);
            }
        }
        for (connection, parts) in told {
            let message = Message::Follow(Follow { parts });
            actions.send(connection, |out| message.write(out));
        }
    }

    /// A follower's worker tells us.
    pub(in super::super) fn follow(
        &mut self,
        connection: ConnectionId,
        follow: Follow,
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(Peer::Follower { worker, .. }) = self.peers.get(connection) else {
            return self.close(connection, "a log's end from a peer that is no follower".to_owned(), now, actions);
        };
        let worker = *worker;
        if !self.links.get(&worker).is_some_and(|link| link.is_up_on(connection)) {
            return self.close(connection, "a log's end before a welcome".to_owned(), now, actions);
        }
        for part in follow.parts {
            if let Err(reason) = self.follow_part(worker, part, now, actions) {
                return self.close(connection, reason, now, actions);
            }
        }
    }

    /// What was told too early is looked at again under a new map.
    pub(super) fn follow_early(&mut self, now: Time, actions: &mut Actions) {
        for ((_, worker), part) in std::mem::take(&mut self.early_follows) {
            let connection = self.links.get(&worker).and_then(|link| link.connection());
            if let Some(connection) = connection
                && let Err(reason) = self.follow_part(worker, part, now, actions)
            {
                self.close(connection, reason, now, actions);
            }
        }
    }

    fn follow_part(
        &mut self,
        worker: WorkerId,
        part: FollowPart,
        now: Time,
        actions: &mut Actions,
    ) -> Result<(), String> {
        let partition = part.partition;
        let Some(known) = self.map.as_ref().and_then(|map| map.assignment(partition)).map(|a| a.epoch) else {
            return Err(format!("partition {partition} is not in the map"));
        };
        if part.epoch < known {
            // It says so again when it has heard of the present epoch.
            return Ok(());
        }
        let Worker { replicas, account, counters, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else {
            self.early_follows.insert((partition, worker), part);
            return Ok(());
        };
        let epoch = primary.epoch;
        let Some(progress) = primary.follower(worker).filter(|_| epoch == part.epoch) else {
            self.early_follows.insert((partition, worker), part);
            return Ok(());
        };
        let (following, started) = (progress.following, progress.started);
        if let Some(sending) = progress.unhear() {
            sending.root.finish(account);
        }
        let tail = primary.tail();
        let common = part.log.as_ref().and_then(|log| common_prefix(&tail.log_end(), log));
        match (common.filter(|common| *common >= tail.base()), following) {
            (Some(common), _) => {
                primary.begin(worker, common).map_err(|reason| format!("partition {partition}: {reason}"))?;
                if matches!(following, Following::Joining { .. }) && !started {
                    counters.joined_by_tail += 1;
                    self.tell(format!("partition {partition}: {worker} joins with the log after {common}"), actions);
                }
                self.advanced(partition, now, actions);
            }
            (None, Following::Joining { .. }) => {
                counters.roots_sent += 1;
                primary.send_root(worker);
                self.tell(format!("partition {partition}: sends its state to {worker}, which joins"), actions);
            }
            (None, Following::Backup) => {
                primary.give_up(worker);
                let holds = part.log.map_or("nothing".to_owned(), |log| format!("a log that ends at {}", log.last));
                let what = format!("partition {partition}: backup {worker} holds {holds} and cannot follow the log");
                self.report(what, actions);
                self.watch(now, actions);
            }
        }
        if let Some(link) = self.links.get_mut(&worker) {
            link.touch(partition);
        }
        Ok(())
    }
}
