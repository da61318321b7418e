//! One connection to one worker: what sessions have to send in one turn leaves together, and answers go to who waits for them.

use super::Reply;
use super::ears::Ears;
use crate::cluster::connection::{self, invalid};
use crate::cluster::near::{self, Near};
use crate::cluster::stream;
use bytes::{Buf, Bytes};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
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
    /// A stream of memory, to which is written at once.
    near: RefCell<Option<Rc<Near>>>,
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
            Some(near) => {
                self.enter(&mut &near, &mut &near, introduction).await?;
                let open = Open::new(self, near);
                let mut input = Vec::new();
                poll_fn(|cx| open.exchange(cx, &mut input, worker, takers)).await
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
        match &*self.near.borrow() {
            // What there is no room for goes once there is some: the task is woken then, and hears of errors, too.
            Some(near) => drop(near.send(&mut self.out.borrow_mut())),
            None => self.flush.notify_one(),
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
struct Open<'a> {
    link: &'a Link,
    near: Rc<Near>,
}

impl<'a> Open<'a> {
    fn new(link: &'a Link, near: Near) -> Open<'a> {
        let near = Rc::new(near);
        link.near.replace(Some(near.clone()));
        link.flush();
        Open { link, near }
    }

    /// Hands on what has come, and sends what there was no room for, until the stream ends.
    fn exchange(
        &self,
        cx: &Context<'_>,
        input: &mut Vec<u8>,
        worker: WorkerId,
        takers: Takers<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.link.out.borrow().is_empty() {
            self.link.flush();
        }
        while ready!(self.near.poll_receive(cx, input))? > 0 {
            let used = deliver(input, worker, takers)?;
            if used == input.len() {
                input.clear();
            } else {
                input.drain(..used);
            }
        }
        Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.link.near.take();
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

async fn receive(mut read: impl AsyncRead + Unpin, worker: WorkerId, takers: Takers<'_>) -> io::Result<()> {
    let mut input = connection::read_buffer();
    loop {
        connection::reserve(&mut input);
        if read.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let used = deliver(&input, worker, takers)?;
        input.advance(used);
    }
}

/// Hands on the whole frames that have come; so many bytes they are.
fn deliver(input: &[u8], worker: WorkerId, (calls, ears): Takers<'_>) -> io::Result<usize> {
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
    Ok(used)
}
