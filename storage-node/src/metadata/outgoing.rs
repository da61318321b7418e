//! What waits to be written to one client of the metadata group: bounded, and of maps and catalogs only the newest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use toroid_common::wire::{Message, Notice, NoticeBody};

/// Frames that wait for one client, and bytes that all but the newest map and catalog take: who does not read for so long is cut off.
const MAX_FRAMES: usize = 4_096;
const MAX_BYTES: usize = 64 << 20;

/// Where frames for one client are put; without it the client's connection ends.
#[derive(Clone, Debug)]
pub struct Sink {
    frames: Sender<Waiting>,
    shared: Arc<Shared>,
}

/// Where they come out.
#[derive(Debug)]
pub struct Outgoing {
    frames: Receiver<Waiting>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Waiting {
    Frame(Vec<u8>),
    /// The map or catalog that is the newest by then.
    Newest(Pushed),
}

/// What is of no use once there is a newer one.
#[derive(Clone, Copy, Debug)]
enum Pushed {
    Map,
    Catalog,
}

#[derive(Debug, Default)]
struct Shared {
    map: Mutex<Option<Vec<u8>>>,
    catalog: Mutex<Option<Vec<u8>>>,
    bytes: AtomicUsize,
}

impl Shared {
    fn place(&self, pushed: Pushed) -> &Mutex<Option<Vec<u8>>> {
        match pushed {
            Pushed::Map => &self.map,
            Pushed::Catalog => &self.catalog,
        }
    }

    /// Puts the newest there is into its place, or takes it from there.
    fn exchange(&self, pushed: Pushed, newest: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut place = self.place(pushed).lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, newest)
    }
}

/// Both ends for one client, with what goes first.
pub fn outgoing(greeting: Vec<u8>) -> (Sink, Outgoing) {
    let (frames, out) = channel(MAX_FRAMES);
    let shared = Arc::new(Shared { bytes: AtomicUsize::new(greeting.len()), ..Shared::default() });
    // There is room in a new channel.
    let _ = frames.try_send(Waiting::Frame(greeting));
    (Sink { frames, shared: shared.clone() }, Outgoing { frames: out, shared })
}

impl Sink {
    /// False when the client has gone, or does not read.
    #[must_use]
    pub fn put(&self, notice: Notice) -> bool {
        let pushed = match (notice.number, &notice.body) {
            (0, NoticeBody::Map(_)) => Some(Pushed::Map),
            (0, NoticeBody::Catalog(_)) => Some(Pushed::Catalog),
            _ => None,
        };
        let mut frame = Vec::new();
        Message::Notice(notice).write(&mut frame);
        let Some(pushed) = pushed else {
            let waiting = self.shared.bytes.fetch_add(frame.len(), Ordering::Relaxed);
            return (waiting == 0 || waiting + frame.len() <= MAX_BYTES)
                && self.frames.try_send(Waiting::Frame(frame)).is_ok();
        };
        // The older one leaves its place in the line to it.
        self.shared.exchange(pushed, Some(frame)).is_some() || self.frames.try_send(Waiting::Newest(pushed)).is_ok()
    }
}

impl Outgoing {
    /// The next frame; none when nobody can put any more.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.frames.recv().await? {
                Waiting::Frame(frame) => {
                    self.shared.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
                    return Some(frame);
                }
                Waiting::Newest(pushed) => {
                    if let Some(frame) = self.shared.exchange(pushed, None) {
                        return Some(frame);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toroid_common::catalog::Catalog;
    use toroid_common::id::{CatalogVersion, ClusterId, MapVersion};
    use toroid_common::map::ClusterMap;
    use toroid_common::wire::RawFrame;

    fn notice(body: NoticeBody) -> Notice {
        Notice { number: 0, body }
    }

    fn map(version: u64) -> Notice {
        let (nodes, partitions, version) = (Vec::new(), Vec::new(), MapVersion(version));
        let cluster = ClusterId(1);
        notice(NoticeBody::Map(ClusterMap { cluster, version, copies: 1, min_copies: 1, nodes, partitions }))
    }

    async fn next(out: &mut Outgoing) -> NoticeBody {
        let frame = out.next().await.unwrap();
        match Message::decode(RawFrame::split(&frame).unwrap().unwrap().0).unwrap() {
            Message::Notice(notice) => notice.body,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_slow_watcher_keeps_the_newest_map_and_catalog_only() {
        let (sink, mut out) = outgoing(Vec::new());
        assert_eq!(out.next().await, Some(Vec::new()), "the greeting");
        for version in 1..=100_000 {
            assert!(sink.put(map(version)));
            let catalog = Catalog { version: CatalogVersion(version), ..Catalog::empty() };
            assert!(sink.put(notice(NoticeBody::Catalog(catalog))));
        }
        assert!(sink.put(notice(NoticeBody::Ready)));
        assert!(matches!(next(&mut out).await, NoticeBody::Map(map) if map.version == MapVersion(100_000)));
        assert!(sink.put(map(100_001)));
        assert!(matches!(next(&mut out).await, NoticeBody::Catalog(c) if c.version == CatalogVersion(100_000)));
        assert_eq!(next(&mut out).await, NoticeBody::Ready);
        assert!(matches!(next(&mut out).await, NoticeBody::Map(map) if map.version == MapVersion(100_001)));
        drop(sink);
        assert_eq!(out.next().await, None);
    }

    #[test]
    fn who_reads_nothing_is_cut_off_by_bytes_as_well_as_by_frames() {
        let long = || notice(NoticeBody::Failed { reason: "x".repeat(1 << 20) });
        let (sink, _out) = outgoing(Vec::new());
        assert_eq!((0..1_000).take_while(|_| sink.put(long())).count(), 63);
        let (sink, _out) = outgoing(Vec::new());
        assert_eq!((0..10_000).take_while(|_| sink.put(notice(NoticeBody::Ready))).count(), MAX_FRAMES - 1);
    }
}
