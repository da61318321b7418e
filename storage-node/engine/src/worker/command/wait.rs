//! Statements that wait for locks: parked in their order, woken, given up after a while, cancelled, or sacrificed when they wait in a circle.

use super::super::Worker;
use super::super::event::{Action, Actions, ConnectionId};
use super::super::replica::{Primary, Replica};
use super::super::task::{Address, Task};
use crate::gate::Time;
use crate::lock::{Key, LockTable, WaitId, Want, circle};
use std::collections::BTreeSet;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::id::{PartitionId, RequestId, TransactionId};
use toroid_common::plan::AdvisoryKey;
use toroid_common::wire::{LockWaits, Message, Within};

/// Waits that last so long are reported, and again so often, or less often where many wait.
const LASTING_MICROS: u64 = 30_000;
const REPORT_MICROS: u64 = 25_000;
const REPORT_MICROS_EACH: u64 = 250;
/// The oid of the one database, as pg_database shows it.
const DATABASE: u32 = 16_384;

/// Whom a waiter waits for, be it behind others.
type Before = fn(&LockTable, WaitId) -> BTreeSet<TransactionId>;

fn primaries<'w>(replicas: &'w [Option<Replica>]) -> impl Iterator<Item = (PartitionId, &'w Primary)> + use<'w> {
    replicas.iter().enumerate().filter_map(|(index, replica)| match replica {
        Some(Replica::Primary(primary)) => Some((PartitionId(index as u16), &**primary)),
        Some(Replica::Follower(_)) | None => None,
    })
}

impl Worker {
    /// Parks a statement until nobody stands in the way of this any more.
    pub(super) fn wait_for(&mut self, mut task: Task, want: &Want<Key>, now: Time, actions: &mut Actions) {
        let wait = *task.wait.get_or_insert_with(|| {
            self.next_wait += 1;
            WaitId(self.next_wait)
        });
        self.forget_deadline(&task);
        task.since = now;
        let partition = task.address.partition;
        let (transaction, session) = (task.transaction(), task.session);
        let waits_as = task.waits_as();
        let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) else { return };
        // A transaction is found by itself, and by its session where that is somebody whom others wait for.
        let both = (waits_as, session.filter(|session| Some(*session) != waits_as));
        primary.transactions.locks.park(wait, both, &want.borrow());
        if let Some(open) = transaction.and_then(|transaction| primary.transactions.get_mut(transaction)) {
            open.pending = Some(task.address.request.sequence);
        }
        self.stirred.push(partition);
        self.deadlines.extend(deadline(&task));
        self.waiting.insert(wait, task);
        let Some(waits_as) = waits_as else { return };
        self.reports_at.get_or_insert(now.after(LASTING_MICROS));
        // It may stand in several circles; those that are opened are none any more.
        while let Some(way) = self.circle_of(waits_as, session, LockTable::suspects) {
            if self.let_overtake(&way) {
                continue;
            }
            let Some(way) = self.circle_of(waits_as, session, LockTable::blockers) else {
                return self.review_all(partition);
            };
            let error = deadlock(self.describe(&way));
            let victim = self.yielding(&way).unwrap_or(wait);
            if let Some(task) = self.waiting.remove(&victim) {
                self.fail_task(&task, error, now, actions);
            }
            if victim == wait {
                return;
            }
        }
    }

    /// Who gives way of a circle by itself.
    fn yielding(&self, way: &[TransactionId]) -> Option<WaitId> {
        let is_of_it = |task: &Task| task.waits_as().into_iter().chain(task.session).any(|waits| way.contains(&waits));
        let yields = |(wait, task): (&WaitId, &Task)| (task.yields() && is_of_it(task)).then_some(*wait);
        self.waiting.iter().find_map(yields)
    }

    /// A statement waits no longer.
    pub(super) fn stop_waiting(&mut self, task: &Task) {
        let Some(wait) = task.wait else { return };
        self.forget_deadline(task);
        self.waiting.remove(&wait);
        let partition = task.address.partition;
        if let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) {
            primary.transactions.locks.leave(wait);
            self.stirred.push(partition);
        }
    }

    fn forget_deadline(&mut self, task: &Task) {
        if let Some(deadline) = deadline(task) {
            self.deadlines.remove(&deadline);
        }
    }

    /// A statement is answered.
    pub(super) fn forget_task(&mut self, task: &Task) {
        self.stop_waiting(task);
        let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(task.address.partition.0)) else {
            return;
        };
        let (_, open) = primary.transactions.with(task.transaction());
        if let Some(open) = open
            && open.pending == Some(task.address.request.sequence)
        {
            open.pending = None;
        }
    }

    /// Lets those go on in whose way nobody stands any more, in order.
    pub(in super::super) fn wake(&mut self, now: Time, actions: &mut Actions) {
        while let Some(partition) = self.stirred.pop() {
            while let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0))
                && let Some(wait) = primary.transactions.locks.next_ready()
            {
                match self.waiting.remove(&wait) {
                    Some(task) => self.attempt(task.anew(), now, actions),
                    None => debug_assert!(false, "a statement waits that is not there"),
                }
            }
        }
    }

    /// The transactions that wait for each other, if this one is among them.
    fn circle(&self, transaction: TransactionId, before: Before) -> Option<Vec<TransactionId>> {
        let tables = || primaries(&self.replicas).map(|(_, primary)| &primary.transactions.locks);
        if !tables().any(|locks| locks.stands_in_way(transaction)) {
            return None;
        }
        circle(transaction, |transaction, found| {
            for locks in tables() {
                locks.waits_of(transaction).for_each(|wait| found.extend(before(locks, wait)));
            }
        })
    }

    fn circle_of(
        &self,
        waits_as: TransactionId,
        session: Option<TransactionId>,
        before: Before,
    ) -> Option<Vec<TransactionId>> {
        self.circle(waits_as, before).or_else(|| self.circle_of_sessions(session, before))
    }

    /// The same where sessions hold advisory locks: what a session holds and what its transaction holds waits for the same.
    fn circle_of_sessions(&self, session: Option<TransactionId>, before: Before) -> Option<Vec<TransactionId>> {
        let tables = || primaries(&self.replicas).map(|(_, primary)| &primary.transactions.locks);
        if !tables().any(LockTable::has_advisory) {
            return None;
        }
        circle(session?, |session, found| {
            for locks in tables() {
                let blockers = locks.waits_of(session).flat_map(|wait| before(locks, wait));
                found.extend(blockers.map(|blocker| match self.process(blocker) {
                    0 => blocker,
                    process => TransactionId::of_session(blocker.proxy, process),
                }));
            }
        })
    }

    fn review_all(&mut self, partition: PartitionId) {
        if let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) {
            primary.transactions.locks.review_all();
            self.stirred.push(partition);
        }
    }

    fn let_overtake(&mut self, way: &[TransactionId]) -> bool {
        let mut opened = false;
        for (index, replica) in self.replicas.iter_mut().enumerate() {
            if let Some(Replica::Primary(primary)) = replica
                && primary.transactions.locks.let_overtake(way)
            {
                self.stirred.push(PartitionId(index as u16));
                opened = true;
            }
        }
        opened
    }

    fn process(&self, transaction: TransactionId) -> u32 {
        if let Some(process) = transaction.session() {
            return process;
        }
        let known = primaries(&self.replicas).filter_map(|(_, primary)| primary.transactions.get(transaction));
        known.map(|open| open.process).max().unwrap_or(0)
    }

    /// The DETAIL of a deadlock report.
    fn describe(&self, way: &[TransactionId]) -> String {
        let next = way.iter().cycle().skip(1);
        let line = |(waits, holds): (&TransactionId, &TransactionId)| {
            let (process, by) = (self.process(*waits), self.process(*holds));
            let what = self.awaited(*waits).unwrap_or_else(|| format!("ShareLock on transaction {holds}"));
            format!("Process {process} waits for {what}; blocked by process {by}.")
        };
        way.iter().zip(next).map(line).collect::<Vec<_>>().join("\n")
    }

    /// The advisory lock that somebody waits for, as PostgreSQL calls it.
    fn awaited(&self, waits: TransactionId) -> Option<String> {
        let wants = primaries(&self.replicas).find_map(|(_, primary)| {
            let locks = &primary.transactions.locks;
            locks.waits_of(waits).next().and_then(|wait| locks.want_of(wait))
        });
        let Some(Want::Advisory { key: AdvisoryKey { pair, key }, shared, .. }) = wants else { return None };
        let (mode, kind) = (if *shared { "ShareLock" } else { "ExclusiveLock" }, if *pair { 2 } else { 1 });
        let (high, low) = ((key >> 32) as u32, *key as u32);
        Some(format!("{mode} on advisory lock [{DATABASE},{high},{low},{kind}]"))
    }

    /// The metadata service has found a circle, in which this transaction is to give way.
    pub(in super::super) fn deadlock(
        &mut self,
        transaction: TransactionId,
        wait: u64,
        detail: String,
        now: Time,
        actions: &mut Actions,
    ) {
        let waits = self.waiting.get(&WaitId(wait)).is_some_and(|task| task.waits_as() == Some(transaction));
        if waits && let Some(task) = self.waiting.remove(&WaitId(wait)) {
            self.fail_task(&task, deadlock(detail), now, actions);
        }
    }

    /// A proxy gives a request up.
    pub(in super::super) fn cancel(
        &mut self,
        connection: ConnectionId,
        sequence: u64,
        now: Time,
        actions: &mut Actions,
    ) {
        let Some(proxy) = self.peers.proxy_mut(connection) else {
            return self.close(connection, "a cancellation from a peer that is no proxy".to_owned(), now, actions);
        };
        let request = RequestId { proxy: proxy.incarnation, sequence };
        let is_it = |message: &Message<'_>| matches!(message, Message::Request(it) if it.sequence == sequence);
        if self.awaits_release(connection, is_it) {
            return self.await_release(connection, &Message::Cancel { sequence }, now, actions);
        }
        let waiting = self.take_waiting(|task| task.address.request == request);
        let finding = self.parked.extract_if(.., |_, task| task.address.request == request).map(|(_, task)| task);
        let tasks: Vec<Task> = waiting.into_iter().chain(finding).collect();
        for task in tasks {
            self.fail_task(&task, cancelled(), now, actions);
        }
    }

    pub(super) fn take_waiting(&mut self, which: impl Fn(&Task) -> bool) -> Vec<Task> {
        self.waiting.extract_if(.., |_, task| which(task)).map(|(_, task)| task).collect()
    }

    /// A request of a transaction that waits here came again, over another connection perhaps: there it will be answered.
    pub(super) fn comes_again(&mut self, address: &Address, within: Within) -> bool {
        let Some(Some(Replica::Primary(primary))) = self.replicas.get(usize::from(address.partition.0)) else {
            return false;
        };
        let transaction = TransactionId { proxy: address.request.proxy, number: within.number };
        let pending = primary.transactions.get(transaction).and_then(|open| open.pending);
        if pending != Some(address.request.sequence) {
            return false;
        }
        let tasks = self.waiting.values_mut().chain(self.parked.values_mut());
        // A copy that was sent earlier may come later.
        let newer = |task: &&mut Task| task.address.request == address.request && task.address.epoch <= address.epoch;
        tasks.filter(newer).for_each(|task| {
            (task.address.connection, task.address.epoch) = (address.connection, address.epoch);
        });
        true
    }

    /// The same of a session that waits for an advisory lock by itself. Two copies of its request would stand in the way of others, and of each other behind
    /// these: a circle that is none.
    pub(super) fn session_comes_again(&mut self, address: &Address, session: TransactionId) -> bool {
        let Some(Some(Replica::Primary(primary))) = self.replicas.get(usize::from(address.partition.0)) else {
            return false;
        };
        let Worker { waiting, .. } = self;
        let is_it = |wait: &WaitId| waiting.get(wait).is_some_and(|task| task.address.request == address.request);
        let Some(wait) = primary.transactions.locks.waits_of(session).find(is_it) else { return false };
        if let Some(task) = waiting.get_mut(&wait).filter(|task| task.address.epoch <= address.epoch) {
            (task.address.connection, task.address.epoch) = (address.connection, address.epoch);
        }
        true
    }

    /// Gives up who has waited for too long.
    pub(in super::super) fn review_waits(&mut self, now: Time, actions: &mut Actions) {
        while let Some((at, wait)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            if self.waiting.get(&wait).is_some_and(|task| deadline(task) == Some((at, wait)))
                && let Some(task) = self.waiting.remove(&wait)
            {
                let message = "canceling statement due to lock timeout";
                self.fail_task(&task, SqlError::new(SqlState::LOCK_NOT_AVAILABLE, message), now, actions);
            }
        }
        if self.reports_at.is_some_and(|at| at <= now) {
            self.report_waits(now, actions);
        }
    }

    /// Tells the metadata service which transactions have waited for some time, while there are any.
    fn report_waits(&mut self, now: Time, actions: &mut Actions) {
        let mut waits = Vec::new();
        for (wait, task) in &self.waiting {
            let Some(transaction) = task.waits_as() else { continue };
            let Some(Some(Replica::Primary(primary))) = self.replicas.get(usize::from(task.address.partition.0)) else {
                continue;
            };
            if task.since.after(LASTING_MICROS) <= now {
                let blockers = primary.transactions.locks.nearest_blockers(*wait);
                let holders = blockers.into_iter().map(|holder| (holder, self.process(holder))).collect();
                let process = self.process(transaction).max(task.within.map_or(0, |within| within.process));
                let yields = task.yields();
                waits.push(LockWaits { transaction, process, wait: wait.0, yields, holders });
            }
        }
        let any = self.waiting.values().any(|task| task.waits_as().is_some());
        let pause = REPORT_MICROS.max(REPORT_MICROS_EACH * self.waiting.len() as u64);
        self.reports_at = any.then(|| now.after(pause));
        if !waits.is_empty() || self.reported_waits {
            self.reported_waits = !waits.is_empty();
            actions.push(Action::Waits(waits));
        }
        if self.reported_waits {
            self.reports_at.get_or_insert(now.after(REPORT_MICROS));
        }
    }
}

/// When a statement has waited for too long.
fn deadline(task: &Task) -> Option<(Time, WaitId)> {
    let wait = task.wait.filter(|_| task.lock_timeout_ms > 0)?;
    Some((task.since.after(u64::from(task.lock_timeout_ms) * 1_000), wait))
}

fn deadlock(detail: String) -> SqlError {
    SqlError::new(SqlState::DEADLOCK_DETECTED, "deadlock detected").with_detail(detail)
}

pub(super) fn cancelled() -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")
}
