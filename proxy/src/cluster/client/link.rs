//! One connection to one worker: what sessions have to send in one turn leaves together, and answers go to who waits for them.

use super::Reply;
use super::ears::Ears;
use crate::cluster::connection::{self, invalid};
use crate::cluster::near::{self, NearWriteHalf};
use crate::cluster::stream;
use bytes::{Buf, Bytes};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use toroid_common::calls::{Calls, Event};
use toroid_common::error::SqlResult;
use toroid_common::id::{ClusterId, Incarnation, PlanId, WorkerId};
use toroid_common::near::Place;
use toroid_common::routing::Trouble;
use toroid_common::secret::Key;
use toroid_common::wire::{Message, Outcome, RawFrame, Role};

/// Who takes what comes.
type Takers<'a> = (&'a RefCell<Calls<SqlResult<Reply>>>, &'a Ears);

/// One connection to one worker. It lives until it breaks; the next request opens another.
pub(super) struct Link {
    /// What is to be sent; after [`Link::flush`].
    pub(super) out: RefCell<Vec<u8>>,
    flush: Notify,
    /// A stream of memory, to which is written at once; its task has it while there is no room in it.
    near: RefCell<Option<NearWriteHalf>>,
    pub(super) plans: RefCell<BTreeSet<PlanId>>,
    pub(super) broken: Cell<bool>,
    /// The life of the node that it leads to.
    pub(super) incarnation: Incarnation,
    /// No other connection of the process has it.
    pub(super) number: u64,
}

impl Link {
    pub(super) fn new(incarnation: Incarnation) -> Link {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Link {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            out: RefCell::default(),
            flush: Notify::new(),
            near: RefCell::default(),
            plans: RefCell::default(),
            broken: Cell::new(false),
            incarnation,
        }
    }

    /// Exchanges messages until the connection ends.
    pub(super) async fn run(
        &self,
        (worker, address): (WorkerId, SocketAddr),
        key: Option<Key>,
        cluster: ClusterId,
        role: Role,
        place: &Place,
        takers: Takers<'_>,
    ) -> io::Result<()> {
        let introduction = (key.as_ref(), cluster, role);
        match near::connect(place, address) {
            Some((mut read, mut write)) => {
                self.enter(&mut read, &mut write, introduction).await?;
                let _open = Open::new(self, write);
                ended(self.send_rest(), receive(read, worker, takers)).await
            }
            None => {
                let (mut read, mut write) = connection::within_patience(stream::connect(address)).await?;
                self.enter(&mut read, &mut write, introduction).await?;
                ended(self.send(write), receive(read, worker, takers)).await
            }
        }
    }

    async fn enter(
        &self,
        read: &mut (impl AsyncRead + Unpin),
        write: &mut (impl AsyncWrite + Unpin),
        (key, cluster, role): (Option<&Key>, ClusterId, Role),
    ) -> io::Result<()> {
        let introducing = connection::introduce(read, write, key, Some(cluster), role);
        let welcome = connection::within_patience(introducing).await?;
        if welcome.incarnation != self.incarnation {
            return Err(io::Error::other("the worker lives another life than the cluster map says"));
        }
        Ok(())
    }

    /// What stands in the buffer is to leave: at once where that costs nothing, or with all that sessions put there in this turn of the event loop.
    pub(super) fn flush(&self) {
        if let Some(near) = &*self.near.borrow() {
            let mut out = self.out.borrow_mut();
            // An error is found by the task, too.
            let written = near.write(&out).unwrap_or_default();
            out.drain(..written);
            if out.is_empty() {
                return;
            }
        }
        self.flush.notify_one();
    }

    /// Sends what a stream of memory had no room for.
    async fn send_rest(&self) -> io::Result<()> {
        loop {
            self.flush.notified().await;
            let Some(mut near) = self.near.take() else { return Err(io::ErrorKind::NotConnected.into()) };
            let rest = self.out.take();
            near.write_all(&rest).await?;
            self.near.replace(Some(near));
            // What came meanwhile.
            self.flush();
        }
    }

    async fn send(&self, mut write: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut sending = Vec::new();
        loop {
            std::mem::swap(&mut sending, &mut *self.out.borrow_mut());
            if sending.is_empty() {
                self.flush.notified().await;
                // One look at the sockets before the system call: what other clients have sent meanwhile goes with it.
                tokio::task::yield_now().await;
                continue;
            }
            write.write_all(&sending).await?;
            sending.clear();
        }
    }
}

/// The stream of memory is its link's, while this lives.
struct Open<'a>(&'a Link);

impl<'a> Open<'a> {
    fn new(link: &'a Link, near: NearWriteHalf) -> Open<'a> {
        link.near.replace(Some(near));
        link.flush();
        Open(link)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.near.take();
    }
}

/// A connection lasts until either direction ends.
async fn ended(
    send: impl Future<Output = io::Result<()>>,
    receive: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    tokio::select! {
        biased;
        result = receive => result,
        result = send => result,
    }
}

async fn receive(mut read: impl AsyncRead + Unpin, worker: WorkerId, (calls, ears): Takers<'_>) -> io::Result<()> {
    let mut input = connection::read_buffer();
    loop {
        connection::reserve(&mut input);
        if read.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut used = 0;
        while let Some((frame, length)) = RawFrame::split(input.get(used..).unwrap_or_default()).map_err(invalid)? {
            used += length;
            let answer = match Message::decode(frame).map_err(invalid)? {
                Message::Answer(answer) => answer,
                Message::Notification(notification) => {
                    ears.hear(&notification);
                    continue;
                }
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer")),
            };
            let event = match answer.outcome {
                Outcome::Rows { count, bytes } => {
                    Event::Answer(Ok(Reply::Rows { count, bytes: Bytes::copy_from_slice(bytes) }))
                }
                Outcome::Done { count } => Event::Answer(Ok(Reply::Done { count })),
                Outcome::Error(error) => Event::Answer(Err(error)),
                Outcome::Refused(refusal) => Event::Trouble(Trouble::Refused(refusal)),
            };
            calls.borrow_mut().deliver(answer.sequence, worker, event);
        }
        input.advance(used);
    }
}
