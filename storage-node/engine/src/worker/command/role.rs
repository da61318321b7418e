//! What a replica becomes when the map gives this worker another part in a partition.

use super::super::Worker;
use super::super::event::Actions;
use super::super::replica::{Follower, Held, Primary, Replica, promote};
use super::super::transaction::Undecided;
use super::claim::lock_prepared;
use super::step::SILENCE_MICROS;
use crate::gate::Time;
use crate::lock::Want;
use crate::store::account::Account;
use crate::store::root::Root;
use std::fmt;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::error::SqlResult;
use toroid_common::id::{PartitionId, WorkerId};
use toroid_common::map::Assignment;

/// What an assignment makes of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Primary,
    Backup,
    Joining,
    None,
}

impl Part {
    fn of(worker: WorkerId, assignment: &Assignment) -> Part {
        if assignment.primary == Some(worker) {
            Part::Primary
        } else if assignment.backups.contains(&worker) {
            Part::Backup
        } else if assignment.joining.contains(&worker) {
            Part::Joining
        } else {
            Part::None
        }
    }
}

impl Worker {
    /// Takes the part in a partition that the map gives to this worker. `former` was its primary in the last map.
    pub(super) fn assign(
        &mut self,
        partition: PartitionId,
        (former_primary, assignment): (Option<WorkerId>, &Assignment),
        now: Time,
        actions: &mut Actions,
    ) {
        let part = Part::of(self.identity.worker, assignment);
        let mut former = self.replicas.get_mut(usize::from(partition.0)).and_then(Option::take);
        if let Some(replica) = former.take_if(|replica| replica.origin() != assignment.origin) {
            self.discard(partition, replica, actions);
        }
        let before = former.as_ref().map(Replica::name);
        let next = match (former, part) {
            (Some(Replica::Primary(primary)), Part::Primary) => {
                Some(self.stay_primary(primary, partition, assignment, now, actions))
            }
            (Some(replica @ Replica::Primary(_)), Part::Backup | Part::Joining) => {
                let held = self.step_down(replica, partition, actions);
                Some(follow(held, assignment, part == Part::Joining))
            }
            (Some(Replica::Follower(follower)), Part::Primary) => {
                self.promoted(*follower, partition, (former_primary, assignment), now, actions)
            }
            (Some(Replica::Follower(mut follower)), Part::Backup | Part::Joining) => {
                follower.enter(assignment.epoch, part == Part::Joining, &mut self.account);
                Some(Replica::Follower(follower))
            }
            (Some(former), Part::None) => {
                if let Some(held) = self.step_down(former, partition, actions) {
                    self.kept.keep(partition, held, assignment.origin, &mut self.account, now);
                    self.review_kept(now);
                }
                None
            }
            (None, part) => self.begun(partition, part, assignment, now),
        };
        let after = next.as_ref().map(Replica::name);
        let stateless = match &next {
            Some(Replica::Primary(_)) => false,
            Some(Replica::Follower(follower)) => part == Part::Backup && follower.held().is_none(),
            None => part == Part::Primary,
        };
        let primary = matches!(next, Some(Replica::Primary(_)));
        if let Some(slot) = self.replicas.get_mut(usize::from(partition.0)) {
            *slot = next;
        }
        if stateless {
            let epoch = assignment.epoch;
            let what = format!("partition {partition}: is to be {part:?} in epoch {epoch}, and its state is not here");
            self.report(what, actions);
        }
        if (before != after || primary) && assignment.epoch != assignment.origin {
            let (before, after) = (before.unwrap_or("nothing"), after.unwrap_or("nothing"));
            self.counters.role_changes += u64::from(before != after);
            let change = if before == after { "stays" } else { "becomes" };
            self.tell(format!("partition {partition}: {before} {change} {after}: {}", Shown(assignment)), actions);
        }
        if primary {
            if before != after {
                self.arm(partition, now);
            }
            self.advanced(partition, now, actions);
        }
    }

    /// A replica of a partition that begins, or one that has nothing yet.
    fn begun(&mut self, partition: PartitionId, part: Part, assignment: &Assignment, now: Time) -> Option<Replica> {
        let Assignment { epoch, origin, .. } = *assignment;
        // Every replica begins with the same state; the present catalog reaches it as an entry.
        let mut root = || Root::new(Arc::new(Catalog::empty()), &mut self.account);
        match part {
            Part::Primary if epoch == origin => {
                Some(Replica::Primary(Box::new(Primary::first(assignment, root(), now))))
            }
            Part::Backup if epoch == origin => Some(Replica::Follower(Box::new(Follower::first(epoch, root())))),
            Part::Backup | Part::Joining => {
                let held = self.kept.take(partition);
                held.iter().for_each(|held| held.root.go_on_building(&mut self.account));
                Some(follow(held, assignment, part == Part::Joining))
            }
            Part::Primary | Part::None => None,
        }
    }

    fn stay_primary(
        &mut self,
        mut primary: Box<Primary>,
        partition: PartitionId,
        assignment: &Assignment,
        now: Time,
        actions: &mut Actions,
    ) -> Replica {
        let waits = primary.successor.is_some();
        for sending in primary.enter(assignment, now) {
            sending.root.finish(&mut self.account);
        }
        if waits && primary.successor.is_none() {
            self.tell(format!("partition {partition}: takes requests again, the hand-over is off"), actions);
        }
        Replica::Primary(primary)
    }

    /// Another worker is the primary now, or nothing of the partition is to be here any more: what remains to go on from.
    fn step_down(&mut self, replica: Replica, partition: PartitionId, actions: &mut Actions) -> Option<Held> {
        let mut replica = replica;
        if let Replica::Primary(primary) = &mut replica {
            self.counters.depositions += 1;
            self.refuse_waiting(partition, &mut primary.gate, actions);
        }
        replica.into_held(&mut self.account)
    }

    fn promoted(
        &mut self,
        follower: Follower,
        partition: PartitionId,
        (former, assignment): (Option<WorkerId>, &Assignment),
        now: Time,
        actions: &mut Actions,
    ) -> Option<Replica> {
        match promote(follower, assignment, former, &mut self.account, now) {
            Ok(Some(mut primary)) => {
                if let Err(error) = take_locks(&mut primary, &mut self.account, now) {
                    // Without the locks nothing can be done here, but what it holds may be all that there is.
                    primary.never_serve();
                    self.report(format!("partition {partition}: its write sets cannot be read: {error}"), actions);
                }
                self.counters.promotions += 1;
                Some(Replica::Primary(Box::new(primary)))
            }
            Ok(None) => None,
            Err(error) => {
                self.report(format!("partition {partition}: its log cannot be applied: {error}"), actions);
                None
            }
        }
    }

    /// Forgets a replica whose partition began anew.
    fn discard(&mut self, partition: PartitionId, replica: Replica, actions: &mut Actions) {
        if let Some(held) = self.step_down(replica, partition, actions) {
            held.root.finish(&mut self.account);
        }
    }
}

/// Takes the locks of prepared transactions again, and those of sessions.
fn take_locks(primary: &mut Primary, account: &mut Account, now: Time) -> SqlResult<()> {
    let Primary { root, transactions, .. } = primary;
    for (transaction, prepared) in root.transactions().all_prepared() {
        transactions.restore(transaction, Undecided { anchor: prepared.anchor, asks: now.after(SILENCE_MICROS) });
        lock_prepared(&mut transactions.locks, transaction, root, account)?;
    }
    for (session, key, counts) in root.advisory().all() {
        for shared in [false, true].into_iter().filter(|shared| counts.of(*shared) > 0) {
            transactions.locks.take(session, &Want::Advisory { key, shared, session });
        }
    }
    transactions.charge(account);
    Ok(())
}

/// A follower that goes on from this, or has nothing.
fn follow(held: Option<Held>, assignment: &Assignment, joins: bool) -> Replica {
    let Assignment { epoch, origin, .. } = *assignment;
    Replica::Follower(Box::new(match held {
        Some(held) => Follower::holding(epoch, origin, joins, held),
        None => Follower::empty(epoch, origin, joins),
    }))
}

/// An assignment in a log line.
struct Shown<'a>(&'a Assignment);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Assignment { epoch, primary, backups, joining, successor, .. } = self.0;
        write!(f, "epoch {epoch}, primary ")?;
        match primary {
            Some(primary) => write!(f, "{primary}")?,
            None => write!(f, "lost")?,
        }
        for (what, workers) in [("backup", backups), ("joining", joining)] {
            workers.iter().try_for_each(|worker| write!(f, ", {what} {worker}"))?;
        }
        successor.map_or(Ok(()), |successor| write!(f, ", to be handed over to {}", successor.to))
    }
}
