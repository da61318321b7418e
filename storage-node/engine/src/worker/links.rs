//! Connections to the workers of our followers, and what is gathered for them until the turn ends.

use super::Worker;
use super::event::{Action, Actions, ConnectionId};
use super::replica::Replica;
use crate::gate::Time;
use std::collections::BTreeSet;
use toroid_common::id::{Incarnation, PartitionId, WorkerId};
use toroid_common::transaction::Inquiry;
use toroid_common::wire::{AppendedPart, Message, RootPiece, write_appended};

/// How long a worker waits before it connects again.
const RETRY_MICROS: u64 = 50_000;
/// How long news of what is acknowledged may wait for entries to travel with. Nobody waits for it: backups only hold entries so much longer.
const NEWS_MICROS: u64 = 20_000;
/// Bytes of entries after which a frame to a follower is closed and the next begins.
const APPEND_FRAME_BYTES: usize = 4 << 20;
/// Inquiries that wait for one link.
const MAX_INQUIRIES: usize = 4_096;

/// The way to another worker, for all partitions that it follows and of which we are the primary.
#[derive(Debug)]
pub(super) struct Link {
    pub state: LinkState,
    /// The life of the worker that is meant.
    pub incarnation: Incarnation,
    /// It was closed or refused, and has not stood since.
    pub lost: bool,
    /// Partitions that may have something to send; the same one may stand here twice.
    pending: Vec<PartitionId>,
    /// Inquiries that came up before it stood.
    inquiries: Vec<Inquiry>,
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
    pub(super) fn new(incarnation: Incarnation) -> Link {
        Link {
            state: LinkState::Down { retry: Time(0) },
            incarnation,
            lost: false,
            pending: Vec::new(),
            inquiries: Vec::new(),
        }
    }

    /// A partition has something for this follower.
    pub(super) fn touch(&mut self, partition: PartitionId) {
        if matches!(self.state, LinkState::Up(_)) && self.pending.last() != Some(&partition) {
            self.pending.push(partition);
        }
    }

    pub(super) fn down(&mut self, now: Time) {
        self.state = LinkState::Down { retry: now.after(RETRY_MICROS) };
        self.lost = true;
        self.pending.clear();
        self.inquiries.clear();
    }

    /// Sends an inquiry, now or once the link stands. It is made again when it is lost.
    pub(super) fn send(&mut self, inquiry: Inquiry, actions: &mut Actions) {
        match self.state {
            LinkState::Up(connection) => actions.send(connection, |out| Message::Inquiry(inquiry).write(out)),
            LinkState::Down { .. } | LinkState::Connecting | LinkState::Greeting(_) => {
                if self.inquiries.len() < MAX_INQUIRIES {
                    self.inquiries.push(inquiry);
                }
            }
        }
    }

    /// The other worker takes us.
    pub(super) fn up(&mut self, connection: ConnectionId, actions: &mut Actions) {
        self.state = LinkState::Up(connection);
        self.lost = false;
        for inquiry in std::mem::take(&mut self.inquiries) {
            self.send(inquiry, actions);
        }
    }

    pub(super) fn connection(&self) -> Option<ConnectionId> {
        match self.state {
            LinkState::Greeting(connection) | LinkState::Up(connection) => Some(connection),
            LinkState::Down { .. } | LinkState::Connecting => None,
        }
    }

    pub(super) fn is_up_on(&self, connection: ConnectionId) -> bool {
        self.state == LinkState::Up(connection)
    }
}

/// A primary's entries that arrived in this turn, to be confirmed when it ends.
pub(super) type Confirmations = Vec<(ConnectionId, AppendedPart)>;

impl Worker {
    /// Sends each follower's worker what came up for it since the last turn, entries in one frame, and confirms what came from primaries.
    pub(super) fn flush(&mut self, actions: &mut Actions) {
        let Worker { links, replicas, counters, append, piece, behind, .. } = self;
        *behind = false;
        for (worker, link) in links {
            let LinkState::Up(connection) = link.state else { continue };
            link.pending.retain(|partition| {
                let Some(Some(Replica::Primary(primary))) = replicas.get_mut(usize::from(partition.0)) else {
                    return false;
                };
                let mut more = false;
                if let Some((head, entries)) = primary.unsent(*worker, *partition) {
                    counters.append_entries += entries.len() as u64;
                    more = entries.len() > 0;
                    append.part(head, entries);
                }
                if append.len() > APPEND_FRAME_BYTES {
                    counters.append_frames += 1;
                    actions.send(connection, |out| append.finish(out));
                }
                let (epoch, held) = (primary.epoch, primary.held_by_present());
                if let Some(sending) = primary.follower(*worker).and_then(|progress| progress.sending.as_mut()) {
                    piece.clear();
                    while let Some((number, last)) = sending.piece(held, piece) {
                        counters.root_bytes += piece.len() as u64;
                        let message = RootPiece { partition: *partition, epoch, number, last, bytes: piece };
                        actions.send(connection, |out| Message::RootPiece(message).write(out));
                        piece.clear();
                    }
                    piece.shrink_to(1 << 20);
                }
                // A long log goes out over several turns.
                more &= !primary.has_all(*worker);
                *behind |= more;
                more
            });
            if !append.is_empty() {
                counters.append_frames += 1;
                actions.send(connection, |out| append.finish(out));
            }
        }
        confirm(&mut self.confirmations, actions);
    }

    /// More of a partition is acknowledged: its followers hear of it with the next entries, or a little later without.
    pub(super) fn acknowledged_more(&mut self, partition: PartitionId, now: Time) {
        if self.news.last() != Some(&partition) {
            self.news.push(partition);
        }
        self.news_at.get_or_insert(now.after(NEWS_MICROS));
    }

    /// Timers: news that waited long enough, connections that are to be tried again, followers that are to be looked after.
    pub(super) fn tick(&mut self, now: Time, actions: &mut Actions) {
        if self.news_at.is_some_and(|at| at <= now) {
            self.news_at = None;
            self.news.sort_unstable();
            self.news.dedup();
            for partition in std::mem::take(&mut self.news) {
                self.touch_followers(partition);
            }
        }
        if self.voids_at().is_some_and(|at| at <= now) {
            self.void(now, actions);
        }
        self.cuts.expire(now, &mut self.account);
        self.connect_links(now, actions);
        if self.watch_at.is_some_and(|at| at <= now) {
            self.watch(now, actions);
        }
        self.review_waits(now, actions);
        self.review_transactions(now, actions);
        self.review_absent(now, actions);
    }

    fn connect_links(&mut self, now: Time, actions: &mut Actions) {
        let Worker { map, links, .. } = self;
        for (worker, link) in links {
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
        let retry = |link: &Link| match link.state {
            LinkState::Down { retry } => Some(retry),
            LinkState::Connecting | LinkState::Greeting(_) | LinkState::Up(_) => None,
        };
        let mut first: Option<Time> = None;
        let mut heed = |at: Option<Time>| {
            if let Some(at) = at {
                first = Some(first.map_or(at, |first| first.min(at)));
            }
        };
        self.links.values().for_each(|link| heed(retry(link)));
        self.absent.values().for_each(|at| heed(Some(*at)));
        heed(self.timers.first().map(|(at, ..)| *at));
        heed(self.deadlines.first().map(|(at, _)| *at));
        heed(self.reports_at);
        heed(self.news_at);
        heed(self.watch_at);
        heed(self.voids_at());
        heed(self.cuts.expires());
        first
    }

    /// Notes for all followers of a partition that there is something for them.
    pub(super) fn touch_followers(&mut self, partition: PartitionId) {
        let Some(Some(Replica::Primary(primary))) = self.replicas.get(usize::from(partition.0)) else { return };
        for progress in &primary.followers {
            if let Some(link) = self.links.get_mut(&progress.worker) {
                link.touch(partition);
            }
        }
    }

    /// Whose worker we must be connected to: followers of what we are primary of, who will follow when we are, and whom we ask about transactions.
    fn wanted_links(&self) -> BTreeSet<WorkerId> {
        let me = self.identity.worker;
        let Some(map) = &self.map else { return BTreeSet::new() };
        let partitions = map.partitions.iter();
        let ours = partitions.filter(|a| a.primary == Some(me) || a.successor.is_some_and(|next| next.to == me));
        let all = ours.flat_map(|a| a.primary.iter().chain(&a.backups).chain(&a.joining));
        all.chain(self.inquires.keys()).copied().filter(|worker| *worker != me).collect()
    }

    /// Ends the links that the map no longer wants, or to a worker's former life, and begins those that it wants.
    pub(super) fn set_links(&mut self, now: Time, actions: &mut Actions) {
        let Some(map) = self.map.clone() else { return };
        self.inquires.retain(|_, until| *until > now);
        let wanted = self.wanted_links();
        let life = |worker: WorkerId| map.node(worker.node).map(|node| node.incarnation);
        let of_no_use = |(worker, link): (&WorkerId, &Link)| {
            (!wanted.contains(worker) || life(*worker) != Some(link.incarnation)).then_some(*worker)
        };
        let gone: Vec<WorkerId> = self.links.iter().filter_map(of_no_use).collect();
        for worker in gone {
            if let Some(connection) = self.links.remove(&worker).and_then(|link| link.connection()) {
                self.close(connection, format!("worker {worker} follows nothing here any more"), now, actions);
            }
        }
        for worker in wanted {
            if let Some(incarnation) = life(worker) {
                self.links.entry(worker).or_insert_with(|| Link::new(incarnation));
            }
        }
    }
}

fn confirm(confirmations: &mut Confirmations, actions: &mut Actions) {
    confirmations.sort_by_key(|(connection, _)| *connection);
    for parts in confirmations.chunk_by(|(a, _), (b, _)| a == b) {
        if let Some((connection, _)) = parts.first() {
            actions.send(*connection, |out| write_appended(out, parts.iter().map(|(_, part)| *part)));
        }
    }
    confirmations.clear();
}
