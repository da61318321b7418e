//! One connection to one worker: what sessions have to send in one turn leaves together, and answers go to who waits for them.

use super::Reply;
use super::ears::Ears;
use crate::cluster::connection::{self, invalid};
use crate::cluster::{near, stream};
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

/// When what sessions have to send leaves.
#[derive(Clone, Copy)]
enum Pace {
    /// Sending costs next to nothing.
    AtOnce,
    /// It costs a system call.
    Gathered,
}

/// Who takes what comes.
type Takers<'a> = (&'a RefCell<Calls<SqlResult<Reply>>>, &'a Ears);

/// One connection to one worker. It lives until it breaks; the next request opens another.
pub(super) struct Link {
    pub(super) out: RefCell<Vec<u8>>,
    pub(super) flush: Notify,
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
            Some(halves) => self.exchange(worker, halves, Pace::AtOnce, introduction, takers).await,
            None => {
                let halves = connection::within_patience(stream::connect(address)).await?;
                self.exchange(worker, halves, Pace::Gathered, introduction, takers).await
            }
        }
    }

    async fn exchange(
        &self,
        worker: WorkerId,
        (mut read, mut write): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
        pace: Pace,
        (key, cluster, role): (Option<&Key>, ClusterId, Role),
        takers: Takers<'_>,
    ) -> io::Result<()> {
        let introducing = connection::introduce(&mut read, &mut write, key, Some(cluster), role);
        let welcome = connection::within_patience(introducing).await?;
        if welcome.incarnation != self.incarnation {
            return Err(io::Error::other("the worker lives another life than the cluster map says"));
        }
        tokio::select! {
            result = self.send(write, pace) => result,
            result = receive(read, worker, takers) => result,
        }
    }

    /// Everything that sessions put into the buffer in one turn of the event loop leaves at once.
    async fn send(&self, mut write: impl AsyncWrite + Unpin, pace: Pace) -> io::Result<()> {
        let mut sending = Vec::new();
        loop {
            std::mem::swap(&mut sending, &mut *self.out.borrow_mut());
            if sending.is_empty() {
                self.flush.notified().await;
                match pace {
                    Pace::AtOnce => {}
                    // One look at the sockets before the system call: what other clients have sent meanwhile goes with it.
                    Pace::Gathered => tokio::task::yield_now().await,
                }
                continue;
            }
            write.write_all(&sending).await?;
            sending.clear();
        }
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
