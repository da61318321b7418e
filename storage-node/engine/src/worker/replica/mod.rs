//! A partition's replica in its role.

mod held;
mod joining;
mod follower;
mod sending;
mod progress;
mod departed;
mod kept;
mod primary;

pub(super) use follower::{Follower, Taken};
pub(super) use held::Held;
pub(super) use kept::Kept;
pub(super) use primary::Primary;
pub(super) use progress::{Following, Progress};

use crate::gate::Time;
use crate::store::account::Account;
use toroid_common::error::SqlError;
use toroid_common::id::{Epoch, Lsn, WorkerId};
use toroid_common::map::Assignment;

/// What this worker is to a partition.
#[derive(Debug)]
pub(super) enum Replica {
    Primary(Box<Primary>),
    Follower(Box<Follower>),
}

/// A replica's role, to be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary {
        /// Whether requests are taken.
        serves: bool,
        /// Since which epoch it has been the primary.
        since: Epoch,
    },
    Backup,
    Joining,
}

/// A replica as tests and metrics see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub role: Role,
    pub epoch: Epoch,
    /// The last entry that it holds.
    pub appended: Lsn,
    /// The last entry that it knows to be acknowledged; a follower has applied exactly these.
    pub acknowledged: Lsn,
}

impl Replica {
    /// Answers that wait in its gate.
    pub(super) fn gated(&self) -> usize {
        match self {
            Replica::Primary(primary) => primary.gate.len(),
            Replica::Follower(_) => 0,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Replica::Primary(_) => "primary",
            Replica::Follower(follower) if follower.joins => "joining replica",
            Replica::Follower(_) => "backup",
        }
    }

    pub(super) fn origin(&self) -> Epoch {
        match self {
            Replica::Primary(primary) => primary.origin,
            Replica::Follower(follower) => follower.origin,
        }
    }

    /// What can be seen of it; `None` of one that holds nothing.
    pub(super) fn view(&self) -> Option<View> {
        match self {
            Replica::Primary(primary) => Some(View {
                role: Role::Primary { serves: primary.serves(), since: primary.since },
                epoch: primary.epoch,
                appended: primary.root.lsn(),
                acknowledged: primary.acknowledged(),
            }),
            Replica::Follower(follower) => follower.held().map(|held| View {
                role: if follower.joins { Role::Joining } else { Role::Backup },
                epoch: follower.epoch,
                appended: held.appended(),
                acknowledged: held.root.lsn(),
            }),
        }
    }
}

/// Makes a follower the primary, after this one. `None` when it holds nothing to go on from.
pub(super) fn promote(
    follower: Follower,
    assignment: &Assignment,
    former: Option<WorkerId>,
    account: &mut Account,
    now: Time,
) -> Result<Option<Primary>, SqlError> {
    let Some(held) = follower.into_held(account) else { return Ok(None) };
    let (root, acknowledged, tail) = held.promote(account)?;
    Ok(Some(Primary::promoted(assignment, former, (root, acknowledged, tail), now)))
}

impl Replica {
    /// What it holds in so far as that can be given to a follower: all that is applied is acknowledged. `None` also of a primary that has
    /// applied more: its state is discarded.
    pub(super) fn into_held(self, account: &mut Account) -> Option<Held> {
        match self {
            Replica::Follower(follower) => follower.into_held(account),
            Replica::Primary(primary) => {
                let settled = primary.acknowledged() == primary.root.lsn();
                let (root, tail, sending) = primary.into_parts(account);
                sending.into_iter().for_each(|sending| sending.root.finish(account));
                if !settled {
                    root.finish(account);
                    return None;
                }
                Some(Held::from_primary(root, tail))
            }
        }
    }
}
