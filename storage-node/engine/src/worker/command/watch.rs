//! Watching over followers: who does not answer is to be dropped, who has caught up is to be admitted, a planned successor is to take over.

use super::super::Worker;
use super::super::event::{Action, Actions};
use super::super::replica::{Following, Primary, Replica};
use crate::gate::Time;
use smallvec::SmallVec;
use toroid_common::id::{PartitionId, WorkerId};
use toroid_common::wire::{Proposal, Reconfigure};

/// How often followers are looked after.
const PERIOD_MICROS: u64 = 50_000;
/// Who looks so late was not there itself, and cannot say that others were silent.
const LATE_MICROS: u64 = 3 * PERIOD_MICROS;
/// On a busy machine we come late, and so do others: so many times our own delay they may be silent for longer.
const DELAYS: u64 = 8;

/// Bytes of acknowledged entries that a worker keeps for followers that were lost, of all its partitions.
const MAX_LOGS_BYTES: usize = 64 << 20;

/// A primary that keeps entries for followers that were lost.
fn missed(replica: &mut Replica) -> Option<(usize, &mut Primary)> {
    match replica {
        Replica::Primary(primary) if primary.is_missed() => Some((primary.kept_bytes(), primary)),
        Replica::Primary(_) | Replica::Follower(_) => None,
    }
}

impl Worker {
    /// Looks after all followers, and comes back while there are any.
    pub(in super::super) fn watch(&mut self, now: Time, actions: &mut Actions) {
        let late = self.watched_at.is_none_or(|at| now > at.after(LATE_MICROS));
        let delay = self.watch_at.filter(|_| !late).map_or(0, |due| now.0.saturating_sub(due.0));
        self.delay = delay.max(self.delay - self.delay / 8);
        self.watched_at = Some(now);
        self.watch_at = None;
        self.review_kept(now);
        if !self.kept.is_empty() {
            self.watch_at = Some(now.after(PERIOD_MICROS));
        }
        for index in 0..self.replicas.len() {
            let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(index) else { continue };
            primary.forget_departed(Some(now));
            if primary.followers.is_empty() && primary.successor.is_none() && !primary.is_missed() {
                continue;
            }
            self.watch_at = Some(now.after(PERIOD_MICROS));
            let partition = PartitionId(index as u16);
            primary.listen(late, DELAYS * self.delay, now);
            if let Some(worker) = primary.lagging() {
                let sending = primary.follower(worker).and_then(|progress| progress.unhear());
                primary.send_root(worker);
                sending.into_iter().for_each(|sending| sending.root.finish(&mut self.account));
                if let Some(link) = self.links.get_mut(&worker) {
                    link.touch(partition);
                }
                self.tell(format!("partition {partition}: {worker} lags behind, its state is sent anew"), actions);
            }
            self.ask(partition, now, actions);
        }
        self.bound_logs();
    }

    /// Gives back what is kept of partitions that are not to be here, when it is of no use any more, or when the memory is needed.
    pub(super) fn review_kept(&mut self, now: Time) {
        let Worker { kept, map, account, .. } = self;
        if let Some(map) = map.as_ref().filter(|_| !kept.is_empty()) {
            kept.review(map, account, now);
        }
    }

    /// Keeps less of the logs for followers that were lost, when all of them together take too much: the longest go first.
    fn bound_logs(&mut self) {
        let most = MAX_LOGS_BYTES.min(self.account.limit() / 8);
        let mut kept: Vec<(usize, &mut Primary)> = self.replicas.iter_mut().flatten().filter_map(missed).collect();
        let mut total: usize = kept.iter().map(|(bytes, _)| bytes).sum();
        kept.sort_by_key(|(bytes, _)| *bytes);
        while total > most
            && let Some((bytes, primary)) = kept.pop()
        {
            primary.forget_departed(None);
            total -= bytes;
        }
    }

    /// Asks the metadata group for the configuration that this partition should have, unless it was asked a moment ago.
    pub(super) fn ask(&mut self, partition: PartitionId, now: Time, actions: &mut Actions) {
        let Worker { replicas, links, counters, .. } = self;
        let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
        let (epoch, acknowledged) = (primary.epoch, primary.acknowledged());
        let propose = |change| Action::Propose(Proposal { partition, epoch, change });
        for progress in &mut primary.followers {
            let stands = links.get(&progress.worker).is_some_and(|link| !link.lost);
            progress.missing = progress.is_backup() && (!stands || progress.unable || progress.is_silent(now));
        }
        let joined = primary.followers.iter().map(|progress| primary.missing_alone(progress.heard_at));
        let missing: SmallVec<[Option<WorkerId>; 4]> = joined.collect();
        for (progress, missing) in primary.followers.iter_mut().zip(missing) {
            let worker = progress.worker;
            let link = links.get(&worker).filter(|link| !link.lost);
            let silent = progress.unable || progress.is_silent(now);
            // What a backup has applied is acknowledged: were it promoted, it could not give anything back.
            let caught_up = progress.heard && progress.appended >= acknowledged && progress.heard_at <= acknowledged;
            let (change, count) = match (&mut progress.following, link.filter(|_| !silent)) {
                (Following::Backup, Some(_)) => continue,
                (Following::Backup, None) => (Reconfigure::DropBackup { worker }, &mut counters.drops_proposed),
                (Following::Joining { .. }, None) => {
                    (Reconfigure::DropJoining { worker }, &mut counters.drops_proposed)
                }
                (Following::Joining { counted: true, proposed }, Some(link)) if caught_up => {
                    // From now on it may be a backup at any time: it stays counted until the epoch ends.
                    *proposed = true;
                    (Reconfigure::Admit { worker, incarnation: link.incarnation }, &mut counters.admissions_proposed)
                }
                (Following::Joining { counted: true, proposed }, Some(link)) if progress.heard && missing.is_some() => {
                    let Some(silent) = missing else { continue };
                    *proposed = true;
                    let incarnation = link.incarnation;
                    (Reconfigure::Replace { silent, by: worker, incarnation }, &mut counters.admissions_proposed)
                }
                (Following::Joining { .. }, Some(_)) => continue,
            };
            if progress.may_propose(now) {
                *count += 1;
                actions.push(propose(change));
            }
        }
        if let Some(since) = primary.may_hand_over(now) {
            counters.hand_overs_proposed += 1;
            actions.push(propose(Reconfigure::HandOver { since }));
        }
    }
}
