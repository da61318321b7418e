//! Connections to the workers of our backups, and what is gathered for them until the turn ends.

use super::event::{Action, Actions, ConnectionId};
use super::replica::Replica;
use super::{Counters, Worker};
use crate::gate::Time;
use toroid_common::id::{Epoch, Lsn, PartitionId, WorkerId};
use toroid_common::wire::{AppendWriter, AppendedPart, EntriesHead, write_appended};

/// How long a worker waits before it connects again.
const RETRY_MICROS: u64 = 50_000;
/// How long news of what is acknowledged may wait for entries to travel with. Nobody waits for it: backups only hold entries so much longer.
const NEWS_MICROS: u64 = 20_000;
/// Bytes of entries after which a frame to a backup is closed and the next begins.
const APPEND_FRAME_BYTES: usize = 4 << 20;

/// The way to another worker, for all partitions of which it is a backup and we are the primary.
#[derive(Debug)]
pub(super) struct Link {
    pub state: LinkState,
    /// Partitions that may have something to send; the same one may stand here twice.
    pending: Vec<PartitionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// Connect at this time.
    Down {
        retry: Time,
    },
    Connecting,
    /// Our hello is not answered yet.
    Greeting(ConnectionId),
    Up(ConnectionId),
}

impl Link {
    pub(super) fn new() -> Link {
        Link { state: LinkState::Down { retry: Time(0) }, pending: Vec::new() }
    }

    /// A partition has something for this backup.
    pub(super) fn touch(&mut self, partition: PartitionId) {
        if self.pending.last() != Some(&partition) {
            self.pending.push(partition);
        }
    }

    pub(super) fn down(&mut self, now: Time) {
        self.state = LinkState::Down { retry: now.after(RETRY_MICROS) };
        self.pending.clear();
    }
}

/// A primary's entries that arrived in this turn, to be confirmed when it ends.
pub(super) type Confirmations = Vec<(ConnectionId, AppendedPart)>;

impl Worker {
    /// Sends each backup's worker what was appended for it since the last turn, in one frame, and confirms what came from primaries.
    pub(super) fn flush(&mut self, actions: &mut Actions) {
        let Worker { links, replicas, counters, append, .. } = self;
        for (worker, link) in links {
            let LinkState::Up(connection) = link.state else { continue };
            for partition in link.pending.drain(..) {
                gather(*worker, partition, replicas, append, counters);
                if append.len() > APPEND_FRAME_BYTES {
                    actions.send(connection, |out| append.finish(out));
                }
            }
            if !append.is_empty() {
                counters.append_frames += 1;
                actions.send(connection, |out| append.finish(out));
            }
        }
        self.confirmations.sort_by_key(|(connection, _)| *connection);
        for parts in self.confirmations.chunk_by(|(a, _), (b, _)| a == b) {
            if let Some((connection, _)) = parts.first() {
                actions.send(*connection, |out| write_appended(out, parts.iter().map(|(_, part)| *part)));
            }
        }
        self.confirmations.clear();
    }

    /// More of a partition is acknowledged: its backups hear of it with the next entries, or a little later without.
    pub(super) fn acknowledged_more(&mut self, partition: PartitionId, now: Time) {
        if self.news.last() != Some(&partition) {
            self.news.push(partition);
        }
        self.news_at.get_or_insert(now.after(NEWS_MICROS));
    }

    /// Timers: news that waited long enough, and connections that are to be tried again.
    pub(super) fn tick(&mut self, now: Time, actions: &mut Actions) {
        if self.news_at.is_some_and(|at| at <= now) {
            self.news_at = None;
            self.news.sort_unstable();
            self.news.dedup();
            for partition in std::mem::take(&mut self.news) {
                self.touch_backups(partition);
            }
        }
        let map = self.map.clone();
        for (worker, link) in &mut self.links {
            let LinkState::Down { retry } = link.state else { continue };
            if retry > now {
                continue;
            }
            match map.as_ref().and_then(|map| map.address(*worker)) {
                Some(address) => {
                    link.state = LinkState::Connecting;
                    actions.push(Action::Connect { worker: *worker, address });
                }
                None => link.down(now),
            }
        }
    }

    /// When [`super::Event::Tick`] is due.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Time> {
        let retries = self.links.values().filter_map(|link| match link.state {
            LinkState::Down { retry } => Some(retry),
            LinkState::Connecting | LinkState::Greeting(_) | LinkState::Up(_) => None,
        });
        retries.chain(self.news_at).min()
    }

    /// Notes for all backups of a partition that there is something for them.
    pub(super) fn touch_backups(&mut self, partition: PartitionId) {
        let Some(Some(Replica::Primary(primary))) = self.replicas.get(usize::from(partition.0)) else { return };
        for progress in &primary.backups {
            if let Some(link) = self.links.get_mut(&progress.worker) {
                link.touch(partition);
            }
        }
    }
}

/// Adds what this backup lacks of a partition to the frame.
fn gather(
    worker: WorkerId,
    partition: PartitionId,
    replicas: &mut [Option<Replica>],
    append: &mut AppendWriter,
    counters: &mut Counters,
) {
    let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else { return };
    let epoch: Epoch = primary.epoch;
    let Some((first, acknowledged, entries)): Option<(Lsn, Lsn, _)> = primary.unsent(worker) else { return };
    counters.append_entries += entries.len() as u64;
    append.part(EntriesHead { partition, epoch, created: epoch, begins: false, first, acknowledged }, entries);
}
