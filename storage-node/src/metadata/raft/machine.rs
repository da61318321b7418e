//! The state as Raft sees it: applies what is committed, tells the group's task, takes and gives snapshots.

use super::disk::{Disk, Stored};
use super::types::{Entry, LogId, MemberId, Peer, Proposed, SnapshotMeta, StorageError, StoredMembership, Types};
use crate::metadata::state::State;
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError};
use std::io::{self, Cursor};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// What has been committed, in order. Never more than Raft has in flight, which its log bounds.
#[derive(Debug)]
pub(super) enum Committed {
    Command(Box<Proposed>),
    /// A snapshot has taken the place of everything before.
    State(Box<State>),
}

/// The replicated state with its place in the log.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Snapshots,
    committed: UnboundedSender<Committed>,
}

/// The last snapshot, on disk and in memory.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    disk: Disk,
    last: Arc<Mutex<Option<Stored>>>,
    /// One is written at a time.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl Snapshots {
    /// Writes it down, on another thread: leases and heartbeats do not wait for the disk. One that is older than the last is passed over.
    async fn put(&self, stored: Stored) -> Result<(), StorageError> {
        let _alone = self.writing.lock().await;
        if self.last().as_ref().is_some_and(|last| last.meta.last_log_id > stored.meta.last_log_id) {
            return Ok(());
        }
        let signature = stored.meta.signature();
        let disk = self.disk.clone();
        let write = move || disk.write_snapshot(&stored).map(|()| stored);
        let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|ended| Err(io::Error::other(ended)));
        let stored = written.map_err(|error| StorageIOError::write_snapshot(Some(signature), &error))?;
        *self.last() = Some(stored);
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, Option<Stored>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Result<Option<Snapshot<Types>>, StorageError> {
        self.last().as_ref().map(carried).transpose()
    }
}

fn carried(stored: &Stored) -> Result<Snapshot<Types>, StorageError> {
    let read = |error: postcard::Error| StorageIOError::read_snapshot(Some(stored.meta.signature()), &error);
    let bytes = postcard::to_stdvec(&stored.state).map_err(read)?;
    Ok(Snapshot { meta: stored.meta.clone(), snapshot: Box::new(Cursor::new(bytes)) })
}

impl Machine {
    /// As the directory's snapshot has it.
    pub(super) fn open(dir: &Path, committed: UnboundedSender<Committed>) -> io::Result<Machine> {
        let disk = Disk::open(dir)?;
        let stored = disk.read_snapshot()?;
        let (state, applied, membership) = match &stored {
            Some(Stored { meta, state }) => (state.clone(), meta.last_log_id, meta.last_membership.clone()),
            None => (State::default(), None, StoredMembership::default()),
        };
        // The task may have ended when the node does.
        let _ = committed.send(Committed::State(Box::new(state.clone())));
        let snapshots = Snapshots { disk, last: Arc::new(Mutex::new(stored)), writing: Arc::default() };
        Ok(Machine { state, applied, membership, snapshots, committed })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposed) => {
                    self.state.apply(proposed.command.clone());
                    let _ = self.committed.send(Committed::Command(Box::new(proposed)));
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            replies.push(());
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let index = self.applied.map_or(0, |applied| applied.index);
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{index}"),
        };
        Builder { stored: Stored { meta, state: self.state.clone() }, snapshots: self.snapshots.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::SnapshotMeta<MemberId, Peer>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let read = |error: postcard::Error| StorageIOError::read_snapshot(Some(meta.signature()), &error);
        let state: State = postcard::from_bytes(snapshot.get_ref()).map_err(read)?;
        self.snapshots.put(Stored { meta: meta.clone(), state: state.clone() }).await?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.state = state.clone();
        let _ = self.committed.send(Committed::State(Box::new(state)));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        self.snapshots.get()
    }
}

/// Writes down the state as it was when this was made.
#[derive(Debug)]
pub(super) struct Builder {
    stored: Stored,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        self.snapshots.put(self.stored.clone()).await?;
        carried(&self.stored)
    }
}
