//! Act: what a session does beside tables.

use super::super::replica::Primary;
use super::super::task::{Body, Task};
use super::claim::Stop;
use super::request::read_params;
use crate::lock::Want;
use crate::store::account::Account;
use crate::store::advisory::Advisory;
use crate::store::change::Change;
use smallvec::SmallVec;
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::TransactionId;
use toroid_common::plan::{Act, AdvisoryKey, LockScope};

/// What an act comes to.
pub(super) struct Acted<'a> {
    pub count: u32,
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
            _ => transactions.locks.release(session),
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
    let session = task.session.ok_or_else(|| SqlError::internal("an act of no session"))?;
    match act {
        Act::Lock { shared, scope, wait } => {
            let want = Want::Advisory { key: key_of(&params)?, shared, session };
            lock(primary, task, (&want, scope, wait), account)
        }
        Act::Unlock { shared } => {
            let key = key_of(&params)?;
            let held = primary.root.advisory().counts(session, key).of(shared) > 0;
            let change = Change::Advise { session, key, shared, takes: false };
            let changes = held.then_some(change).into_iter().collect();
            Ok(Acted { count: u32::from(held), changes, settles: held.then_some(session) })
        }
        Act::UnlockAll => {
            let changes = SmallVec::from_iter([Change::Dismiss { session }]);
            Ok(Acted { count: 1, changes, settles: Some(session) })
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
        return if wait { Err(Stop::Wait(want.keep())) } else { Ok(nothing) };
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
