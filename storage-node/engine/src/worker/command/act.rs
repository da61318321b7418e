//! Act: what a session does beside tables.

use super::super::Worker;
use super::super::event::{Actions, ConnectionId};
use super::super::replica::Primary;
use super::super::replica::Replica;
use super::super::task::{Address, Body, Task};
use super::claim::Stop;
use super::request::read_params;
use crate::gate::Time;
use crate::lock::Want;
use crate::store::account::Account;
use crate::store::advisory::Advisory;
use crate::store::change::Change;
use crate::store::notices::Notices;
use smallvec::SmallVec;
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Epoch, TransactionId};
use toroid_common::plan::{Act, AdvisoryKey, LockScope};

/// Bytes of a transaction's notifications in a partition, above which no more are added.
const MAX_GATHERED_BYTES: usize = 2 << 20;

/// What an act comes to.
pub(super) struct Acted<'a> {
    pub count: u64,
    pub changes: SmallVec<[Change<'a>; 1]>,
    /// The session whose locks are to be what the root says of them then.
    settles: Option<TransactionId>,
}

impl Acted<'_> {
    /// Makes the lock table follow, once the changes are applied.
    pub(super) fn settle(&self, primary: &mut Primary) {
        let Some(session) = self.settles else { return };
        let Primary { root, transactions, .. } = primary;
        match self.changes.as_slice() {
            [Change::Advise { key, shared, .. }] => {
                let want = Want::Advisory { key: *key, shared: *shared, session };
                match root.advisory().counts(session, *key).of(*shared) {
                    0 => transactions.locks.give_one(session, &want),
                    _ => drop(transactions.locks.take(session, &want)),
                }
            }
            [Change::Dismiss { .. }] => transactions.locks.release(session),
            _ => {}
        }
    }
}

impl Worker {
    /// Tells those who listen, wherever that has become possible.
    pub(in super::super) fn announce_all(&mut self, now: Time, actions: &mut Actions) {
        if self.listened.is_empty() || !self.lease.holds(now) {
            return;
        }
        let Worker { replicas, listened, .. } = self;
        let mut missed = Vec::new();
        listened.retain(|partition| match replicas.get_mut(usize::from(partition.0)) {
            Some(Some(Replica::Primary(primary))) => {
                primary.announce(actions);
                missed.extend(primary.listeners.take_missed());
                !primary.listeners.is_empty()
            }
            Some(_) | None => false,
        });
        missed.sort_unstable();
        missed.dedup();
        for connection in missed {
            self.close(connection, "notifications were lost before they could be told".to_owned(), now, actions);
        }
    }

    /// A connection is gone.
    pub(super) fn forget_listener(&mut self, connection: ConnectionId) {
        for partition in &self.listened {
            if let Some(Some(Replica::Primary(primary))) = self.replicas.get_mut(usize::from(partition.0)) {
                primary.listeners.forget(connection);
            }
        }
    }
}

/// Does it, as far as nothing is to be appended.
pub(super) fn act_on<'a>(
    primary: &mut Primary,
    task: &'a Task,
    act: Act,
    account: &Account,
) -> Result<Acted<'a>, Stop> {
    let Body::Point { params: bytes, .. } = &task.body else {
        return Err(SqlError::internal("an act brings no rows").into());
    };
    let mut params = Vec::new();
    read_params(bytes, &task.plan, &mut params)?;
    let session = || task.session.ok_or_else(|| SqlError::internal("an act of no session"));
    match act {
        Act::Lock { shared, scope, wait } => {
            let want = Want::Advisory { key: key_of(&params)?, shared, session: session()? };
            lock(primary, task, (&want, scope, wait), account)
        }
        Act::Unlock { shared } => {
            let (key, session) = (key_of(&params)?, session()?);
            let held = primary.root.advisory().counts(session, key).of(shared) > 0;
            let change = Change::Advise { session, key, shared, takes: false };
            let changes = held.then_some(change).into_iter().collect();
            Ok(Acted { count: u64::from(held), changes, settles: held.then_some(session) })
        }
        Act::UnlockAll => {
            let session = session()?;
            let changes = SmallVec::from_iter([Change::Dismiss { session }]);
            Ok(Acted { count: 1, changes, settles: Some(session) })
        }
        Act::Notify => Ok(notify(primary, task, &params, account)?),
        Act::Listen => Ok(listen(primary, task, &params)?),
        Act::Unlisten => {
            if let [_, DatumRef::Text(channel)] = params.as_slice() {
                primary.listeners.remove(channel, task.address.connection);
            }
            Ok(Acted { count: 1, changes: SmallVec::new(), settles: None })
        }
    }
}

fn key_of(params: &[DatumRef<'_>]) -> SqlResult<AdvisoryKey> {
    match params {
        [_, DatumRef::Bool(pair), DatumRef::Int8(key)] => Ok(AdvisoryKey { pair: *pair, key: *key }),
        _ => Err(SqlError::internal("an advisory lock without its key")),
    }
}

fn lock<'a>(
    primary: &mut Primary,
    task: &'a Task,
    (want, scope, wait): (&Want<&[u8]>, LockScope, bool),
    account: &Account,
) -> Result<Acted<'a>, Stop> {
    let transaction = task.transaction();
    if transaction.is_some() != (scope == LockScope::Transaction) {
        return Err(SqlError::internal("an advisory lock of another scope than its request").into());
    }
    let held = transaction.map_or(0, |transaction| primary.transactions.locks.held_by(transaction));
    let (locks, open) = primary.transactions.with(transaction);
    if let Some(open) = open {
        open.begin(held);
    }
    let nothing = Acted { count: 0, changes: SmallVec::new(), settles: None };
    if !locks.is_free(want, task.waits_as(), task.wait) {
        // Locks of who is about to know its outcome are given back as far as anybody was told.
        let waits = wait || locks.is_settling(want, task.waits_as());
        return if waits { Err(Stop::Wait(want.keep())) } else { Ok(nothing) };
    }
    account.room(Advisory::BYTES)?;
    let Want::Advisory { key, shared, session } = *want else { return Ok(nothing) };
    match transaction {
        Some(transaction) => {
            locks.take(transaction, want);
            Ok(Acted { count: 1, ..nothing })
        }
        None => {
            let changes = SmallVec::from_iter([Change::Advise { session, key, shared, takes: true }]);
            Ok(Acted { count: 1, changes, settles: Some(session) })
        }
    }
}

fn notify<'a>(primary: &mut Primary, task: &Task, params: &[DatumRef<'a>], account: &Account) -> SqlResult<Acted<'a>> {
    let [DatumRef::Int4(process), DatumRef::Text(channel), DatumRef::Text(payload)] = *params else {
        return Err(SqlError::internal("a notification without its channel"));
    };
    let transaction = task.transaction();
    let held = transaction.map_or(0, |transaction| primary.transactions.locks.held_by(transaction));
    let noisy = primary.is_noisy();
    let (_, open) = primary.transactions.with(transaction);
    let gathered = open.as_ref().map_or(0, |open| open.notified);
    if let Some(open) = open {
        open.begin(held);
    }
    // More than are kept would be lost before anybody heard them.
    if noisy || gathered > MAX_GATHERED_BYTES {
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many notifications in the NOTIFY queue"));
    }
    account.room(Notices::bytes_of(channel, payload))?;
    let changes = SmallVec::from_iter([Change::Notify { channel, payload, process: process.cast_unsigned() }]);
    Ok(Acted { count: 1, changes, settles: None })
}

fn listen<'a>(primary: &mut Primary, task: &Task, params: &[DatumRef<'_>]) -> SqlResult<Acted<'a>> {
    let [_, DatumRef::Text(channel), DatumRef::Int8(seen)] = *params else {
        return Err(SqlError::internal("LISTEN without its channel"));
    };
    let notices = primary.root.notices();
    let last = notices.last();
    let Address { connection, partition, .. } = task.address;
    let base = base_of(primary.origin);
    let (from, missed) = match u64::try_from(seen) {
        // Who has seen other numbers listened to a partition that was lost since, and nobody knows what it lacks.
        Ok(seen) if seen < base || seen - base > last => (last, true),
        Ok(_) if primary.listeners.has(channel, connection) => (last, false),
        Ok(seen) if seen - base < notices.gone_of(channel) => (last, true),
        // What is gone beyond that is of other channels.
        Ok(seen) => ((seen - base).max(notices.gone()), false),
        Err(_) => (last, false),
    };
    primary.listeners.add((partition, base, channel), connection, from)?;
    Ok(Acted { count: (base + last) * 2 + u64::from(missed), changes: SmallVec::new(), settles: None })
}

/// What is added to a partition's numbers where others see them: one that began again, empty, has none that it had before.
fn base_of(origin: Epoch) -> u64 {
    u64::from(origin.0.saturating_sub(1)) << 32
}
