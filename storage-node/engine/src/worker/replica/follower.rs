//! A backup's or a joining replica's role: it tells its primary where its log ends, and takes from there what the primary sends.

use super::super::event::ConnectionId;
use super::held::Held;
use super::joining::Taking;
use crate::store::account::Account;
use crate::store::root::Root;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::id::{Epoch, Lsn, PartitionId};
use toroid_common::wire::{AppendPart, FollowPart, RootPiece};

#[derive(Debug)]
pub(in super::super) struct Follower {
    pub epoch: Epoch,
    pub origin: Epoch,
    /// Not a backup, which would be primary next.
    pub joins: bool,
    content: Content,
    /// Over which connection the primary was told, in this epoch, where the log ends.
    asked: Option<ConnectionId>,
    /// Over which connection the primary has begun, in this epoch, to send what comes after.
    begun: Option<ConnectionId>,
}

#[derive(Debug)]
enum Content {
    Nothing,
    /// A root that has not arrived whole.
    Taking(Box<Taking>),
    /// There is no room for the root. Its primary hears nothing more, and gives up.
    Refused,
    Held(Box<Held>),
}

/// What became of a part of a root.
pub(in super::super) enum Taken {
    /// The next one may come.
    More,
    /// It was the last.
    Whole,
    /// There is no room for it, for this reason.
    Refused(SqlError),
    /// There was no room for an earlier one.
    Ignored,
}

impl Follower {
    /// Bytes that have come of the root that is arriving.
    pub(in super::super) fn arrived(&self) -> Option<u64> {
        match &self.content {
            Content::Taking(taking) => Some(taking.arrived()),
            Content::Nothing | Content::Held(_) | Content::Refused => None,
        }
    }

    /// A follower that holds nothing.
    pub(in super::super) fn empty(epoch: Epoch, origin: Epoch, joins: bool) -> Follower {
        Follower { epoch, origin, joins, content: Content::Nothing, asked: None, begun: None }
    }

    /// A backup that starts with its partition.
    pub(in super::super) fn first(epoch: Epoch, root: Root) -> Follower {
        Follower::holding(epoch, epoch, false, Held::after(root, None))
    }

    /// A follower that goes on from what it had in another role.
    pub(in super::super) fn holding(epoch: Epoch, origin: Epoch, joins: bool, held: Held) -> Follower {
        Follower { content: Content::Held(Box::new(held)), ..Follower::empty(epoch, origin, joins) }
    }

    pub(in super::super) fn held(&self) -> Option<&Held> {
        match &self.content {
            Content::Held(held) => Some(held),
            Content::Nothing | Content::Taking(_) | Content::Refused => None,
        }
    }

    pub(in super::super) fn root_mut(&mut self) -> Option<&mut Root> {
        match &mut self.content {
            Content::Held(held) => Some(&mut held.root),
            Content::Nothing | Content::Taking(_) | Content::Refused => None,
        }
    }

    pub(super) fn into_held(self, account: &mut Account) -> Option<Held> {
        match self.content {
            Content::Held(held) => Some(*held),
            Content::Taking(taking) => {
                taking.abandon(account);
                None
            }
            Content::Nothing | Content::Refused => None,
        }
    }

    /// Goes on as a follower under a new assignment.
    pub(in super::super) fn enter(&mut self, epoch: Epoch, joins: bool, account: &mut Account) {
        assert!(epoch >= self.epoch, "epochs ascend: {epoch} after {}", self.epoch);
        if epoch > self.epoch {
            self.epoch = epoch;
            self.asked = None;
            self.stop(account);
        }
        self.joins = joins;
    }

    /// Where its log ends, if the primary at this connection has not been told yet; counts as told.
    pub(in super::super) fn ask(&mut self, partition: PartitionId, connection: ConnectionId) -> Option<FollowPart> {
        if self.asked == Some(connection) {
            return None;
        }
        self.asked = Some(connection);
        self.begun = None;
        Some(FollowPart { partition, epoch: self.epoch, log: self.held().map(Held::log_end) })
    }

    /// The connection is gone: what was under way on it is lost.
    pub(in super::super) fn lost(&mut self, connection: ConnectionId, account: &mut Account) {
        if self.asked == Some(connection) {
            self.asked = None;
            self.stop(account);
        }
    }

    /// Takes nothing more until the primary begins again.
    fn stop(&mut self, account: &mut Account) {
        self.begun = None;
        match std::mem::replace(&mut self.content, Content::Nothing) {
            Content::Taking(taking) => taking.abandon(account),
            Content::Nothing | Content::Refused => {}
            held @ Content::Held(_) => self.content = held,
        }
    }

    /// Takes entries of its epoch; how far the log goes then, if that is to be confirmed. An error says why the sender cannot be the primary.
    pub(in super::super) fn append(
        &mut self,
        connection: ConnectionId,
        part: &AppendPart<'_>,
        account: &mut Account,
    ) -> Result<Option<Lsn>, String> {
        let Content::Held(held) = &mut self.content else { return Ok(None) };
        // What does not belong to this epoch and connection was sent before the primary heard of them.
        if part.head.epoch != self.epoch || self.asked != Some(connection) {
            return Ok(None);
        }
        if part.head.begins {
            held.cut(part.head.first)?;
            self.begun = Some(connection);
        } else if self.begun != Some(connection) {
            return Ok(None);
        }
        held.append(part, account)?;
        Ok((part.count > 0 || part.head.begins).then(|| held.appended()))
    }

    /// Takes a part of a root. An error says why the sender cannot be the primary.
    pub(in super::super) fn take_root(
        &mut self,
        connection: ConnectionId,
        piece: &RootPiece<'_>,
        account: &mut Account,
    ) -> Result<Taken, String> {
        if self.asked != Some(connection) || !self.joins {
            return Err("a root for a replica that did not ask for one".to_owned());
        }
        if matches!(self.content, Content::Refused) {
            return Ok(Taken::Ignored);
        }
        if piece.number == 0 {
            self.stop(account);
            if let Content::Held(held) = std::mem::replace(&mut self.content, Content::Taking(Box::default())) {
                held.root.finish(account);
            }
        }
        let Content::Taking(taking) = &mut self.content else { return Err("a root that does not begin".to_owned()) };
        match taking.take(piece, account) {
            Ok(None) => Ok(Taken::More),
            Ok(Some((root, created))) => {
                self.content = Content::Held(Box::new(Held::after(root, created)));
                // The primary is told where the log ends now.
                self.asked = None;
                Ok(Taken::Whole)
            }
            Err(error) => {
                self.stop(account);
                if error.state() != SqlState::OUT_OF_MEMORY {
                    return Err(error.to_string());
                }
                self.content = Content::Refused;
                Ok(Taken::Refused(error))
            }
        }
    }
}
