//! The control port: who may come in, requests to the task that decides, calls of other members to Raft; and the tasks that decide without Raft.

use super::clients::{Clients, Input};
use super::gauges;
use super::leader::ClientId;
use super::outgoing::{Outgoing, outgoing};
use super::raft::Voice;
use super::solo::{Outbox, Solo};
use crate::clock::Clock;
use crate::complaint::Said;
use crate::frames::{self, FrameReader, Reading, Writing};
use crate::neighbours::{Entrance, Stream};
use crate::prove;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tokio::task::JoinSet;
use toroid_common::id::{ClusterId, Incarnation};
use toroid_common::secret::Key;
use toroid_common::wire::{
    Hello, MAX_CONTROL_BYTES, MAX_GREETING_BYTES, Message, Notice, NoticeBody, PROTOCOL_VERSION, Refused, Role, Welcome,
};

/// After an accept that failed: the process may be out of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What the control port leads to.
#[derive(Clone)]
pub struct Door {
    pub key: Option<Key>,
    /// The cluster that this node is in, once it is in one.
    pub cluster: watch::Receiver<Option<ClusterId>>,
    /// This node's part in the metadata group, if it takes part.
    pub voice: watch::Receiver<Option<Voice>>,
    pub inputs: Sender<Input>,
}

/// Serves until this is dropped, and all connections with it; `here` is the port's own address.
pub async fn serve(listener: TcpListener, mut neighbours: Entrance, here: SocketAddr, door: Door) {
    let mut next: ClientId = 0;
    let said = Arc::new(Mutex::new(Said::default()));
    let mut conversations = JoinSet::new();
    loop {
        let came = tokio::select! {
            came = listener.accept() => came.map(|(stream, peer)| (Stream::Far(stream), peer)),
            stream = neighbours.next() => Ok((stream, here)),
            // What has ended is taken out.
            Some(_) = conversations.join_next() => continue,
        };
        match came {
            Ok((stream, peer)) => {
                next += 1;
                let (client, door, said) = (next, door.clone(), said.clone());
                conversations.spawn(async move {
                    let Err(error) = door.converse(stream, client).await else { return };
                    if has_left(&error) {
                        tracing::debug!(%peer, %error, "a peer of the control port left");
                    } else if lock(&said).is_new(Some(peer.ip()), &error.to_string()) {
                        tracing::warn!(%peer, %error, "a peer was turned away at the control port");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control port could not accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it was the peer that ended a connection, or something between.
fn has_left(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => true,
        // Also what the system says of a machine that has gone without a word.
        io::ErrorKind::TimedOut => error.raw_os_error().is_some(),
        _ => false,
    }
}

impl Door {
    async fn converse(&self, mut stream: Stream, client: ClientId) -> io::Result<()> {
        stream.set_up()?;
        prove::to_connector(&mut stream, self.key.as_ref()).await?;
        let (read, mut write) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read, MAX_GREETING_BYTES);
        let hello = reader.next(|message| match message {
            Message::Hello(hello) => Ok(hello),
            _ => Err(frames::unexpected()),
        });
        let hello = prove::within_patience(hello).await?;
        reader.allow(MAX_CONTROL_BYTES);
        let mut bytes = Vec::new();
        match self.greet(&hello) {
            Ok(welcome) => Message::Welcome(welcome).write(&mut bytes),
            Err(reason) => {
                Message::Refused(Refused { reason: reason.clone() }).write(&mut bytes);
                write.write_all(&bytes).await?;
                // Before that nothing is wrong with who asks.
                let before = self.cluster.borrow().is_none();
                let kind = if before { io::ErrorKind::NotConnected } else { io::ErrorKind::Other };
                return Err(io::Error::new(kind, reason));
            }
        }
        match hello.role {
            Role::Member { member, control } => self.serve_member((member, control), reader, write, bytes).await,
            Role::Client | Role::Node { .. } | Role::Proxy { .. } | Role::Worker { .. } => {
                let result = self.serve_client(client, reader, write, bytes).await;
                let _ = self.inputs.send(Input::Closed(client)).await;
                result
            }
        }
    }

    fn greet(&self, hello: &Hello) -> Result<Welcome, String> {
        if hello.version != PROTOCOL_VERSION {
            return Err(format!("protocol version {} is not {PROTOCOL_VERSION}", hello.version));
        }
        let cluster = (*self.cluster.borrow()).ok_or("this node is in no cluster yet")?;
        if hello.cluster.is_some_and(|named| named != cluster) {
            return Err("the cluster is another one".to_owned());
        }
        let welcome = Welcome { cluster, worker: None, incarnation: Incarnation(1) };
        match hello.role {
            Role::Client | Role::Node { .. } => Ok(welcome),
            Role::Member { .. } if hello.cluster.is_none() => Err("a member names its cluster".to_owned()),
            Role::Member { .. } if self.voice.borrow().is_none() => {
                Err("this node takes no part in the metadata group".to_owned())
            }
            Role::Member { .. } => Ok(welcome),
            Role::Proxy { .. } | Role::Worker { .. } => Err("this is the metadata service, not a worker".to_owned()),
        }
    }

    async fn serve_client(
        &self,
        client: ClientId,
        mut reader: Reading,
        write: Writing,
        greeting: Vec<u8>,
    ) -> io::Result<()> {
        // The greeting goes first, whatever is pushed.
        let (sink, outgoing) = outgoing(greeting);
        let _ = self.inputs.send(Input::Opened(client, sink)).await;
        let reading = async {
            loop {
                let control = reader.next(|message| match message {
                    Message::Control(control) => Ok(control),
                    _ => Err(frames::unexpected()),
                });
                // Where nobody decides any more, the node is ending.
                let _ = self.inputs.send(Input::Control(client, Box::new(control.await?))).await;
            }
        };
        tokio::select! {
            result = reading => result,
            result = write_all(write, outgoing) => result,
        }
    }

    async fn serve_member(
        &self,
        caller: (u32, SocketAddr),
        mut reader: Reading,
        mut write: Writing,
        greeting: Vec<u8>,
    ) -> io::Result<()> {
        let voice = self.voice.borrow().clone().ok_or_else(frames::unexpected)?;
        write.write_all(&greeting).await?;
        loop {
            let call = reader.next(|message| match message {
                Message::Raft(call) => Ok(call.to_vec()),
                _ => Err(frames::unexpected()),
            });
            let answer = voice.answer(caller, &call.await?).await?;
            let mut bytes = Vec::new();
            Message::Raft(&answer).write(&mut bytes);
            write.write_all(&bytes).await?;
        }
    }
}

async fn write_all(mut write: Writing, mut outgoing: Outgoing) -> io::Result<()> {
    while let Some(bytes) = outgoing.next().await {
        write.write_all(&bytes).await?;
    }
    Ok(())
}

/// The one task that decides where the metadata is not replicated.
pub async fn decide(mut group: Solo, clock: Clock, mut inputs: Receiver<Input>) {
    let mut clients = Clients::default();
    let mut outbox = Outbox::new();
    loop {
        let input = tokio::select! {
            input = inputs.recv() => match input {
                Some(input) => Some(input),
                None => return,
            },
            () = tokio::time::sleep(clock.until(group.wakes_at())) => None,
        };
        match input {
            Some(Input::Opened(client, sink)) => clients.opened(client, sink),
            Some(Input::Control(client, control)) => group.control(client, *control, clock.now(), &mut outbox),
            Some(Input::Closed(client)) => {
                clients.closed(client);
                group.closed(client, clock.now(), &mut outbox);
            }
            None => {
                group.tick(clock.now(), &mut outbox);
                gauges::leading(group.leader().gauges(group.state()));
            }
        }
        // Whoever may read a cut now hears of it after the workers that open their gates: statements wait there.
        let reads = |(_, notice): &mut (ClientId, Notice)| matches!(notice.body, NoticeBody::Cut { .. });
        let readers: Outbox = outbox.extract_if(.., reads).collect();
        outbox.drain(..).for_each(|(client, notice)| clients.send(client, notice));
        if !readers.is_empty() {
            tokio::task::yield_now().await;
            readers.into_iter().for_each(|(client, notice)| clients.send(client, notice));
        }
    }
}

/// Sends everybody to the leader that this node itself has found.
pub async fn redirect(inputs: &mut Receiver<Input>, known: watch::Receiver<Option<SocketAddr>>) {
    let mut clients = Clients::default();
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Opened(client, sink) => clients.opened(client, sink),
            Input::Control(client, control) => {
                clients.tell(client, control.number, NoticeBody::NotLeader { leader: *known.borrow() });
            }
            Input::Closed(client) => clients.closed(client),
        }
    }
}
