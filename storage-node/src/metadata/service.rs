//! The metadata service's sockets: requests in, replies and pushes out, in the order of its state machine.

use super::leader::ClientId;
use super::solo::{Outbox, Solo};
use crate::clock::Clock;
use crate::frames::{self, FrameReader};
use crate::prove;
use std::collections::BTreeMap;
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use toroid_common::id::{ClusterId, Incarnation};
use toroid_common::secret::Key;
use toroid_common::wire::{Control, Hello, MAX_CONTROL_BYTES, Message, PROTOCOL_VERSION, Refused, Role, Welcome};

/// What connections tell the state machine's task.
enum Input {
    Opened(ClientId, UnboundedSender<Vec<u8>>),
    Control(ClientId, Control),
    Closed(ClientId),
}

/// Serves until the listener's runtime ends.
pub async fn serve(listener: TcpListener, key: Option<Key>, cluster: ClusterId, clock: Clock, group: Solo) {
    let (inputs, queue) = unbounded_channel();
    tokio::spawn(decide(group, clock, queue));
    let mut next: ClientId = 0;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                next += 1;
                let (client, inputs, key) = (next, inputs.clone(), key.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, client, key.as_ref(), cluster, &inputs).await {
                        tracing::debug!(%peer, %error, "a metadata client left");
                    }
                    let _ = inputs.send(Input::Closed(client));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the metadata service could not accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

/// The one task that owns the state.
async fn decide(mut group: Solo, clock: Clock, mut queue: UnboundedReceiver<Input>) {
    let mut clients: BTreeMap<ClientId, UnboundedSender<Vec<u8>>> = BTreeMap::new();
    let mut outbox = Outbox::new();
    loop {
        let input = tokio::select! {
            input = queue.recv() => match input {
                Some(input) => Some(input),
                None => return,
            },
            () = tokio::time::sleep(clock.until(group.wakes_at())) => None,
        };
        match input {
            Some(Input::Opened(client, sender)) => {
                clients.insert(client, sender);
            }
            Some(Input::Control(client, control)) => group.control(client, control, clock.now(), &mut outbox),
            Some(Input::Closed(client)) => {
                clients.remove(&client);
                group.closed(client);
            }
            None => group.tick(clock.now(), &mut outbox),
        }
        for (client, notice) in outbox.drain(..) {
            let mut bytes = Vec::new();
            Message::Notice(notice).write(&mut bytes);
            if let Some(sender) = clients.get(&client) {
                // Who has gone will be reported as closed.
                let _ = sender.send(bytes);
            }
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    client: ClientId,
    key: Option<&Key>,
    cluster: ClusterId,
    inputs: &UnboundedSender<Input>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    prove::to_connector(&mut stream, key).await?;
    let (read, mut write) = stream.into_split();
    let mut reader = FrameReader::new(read, MAX_CONTROL_BYTES);
    let answer = reader
        .next(|message| match message {
            Message::Hello(hello) => Ok(greet(&hello, cluster)),
            _ => Err(frames::unexpected()),
        })
        .await?;
    let mut bytes = Vec::new();
    match answer {
        Ok(welcome) => Message::Welcome(welcome).write(&mut bytes),
        Err(reason) => {
            Message::Refused(Refused { reason: reason.clone() }).write(&mut bytes);
            write.write_all(&bytes).await?;
            return Err(io::Error::other(reason));
        }
    }
    let (sender, outgoing) = unbounded_channel();
    // The greeting goes first, whatever is pushed.
    let _ = sender.send(bytes);
    let _ = inputs.send(Input::Opened(client, sender));
    let writing = tokio::spawn(write_all(write, outgoing));
    let result = loop {
        let control = reader.next(|message| match message {
            Message::Control(control) => Ok(control),
            _ => Err(frames::unexpected()),
        });
        match control.await {
            Ok(control) => {
                let _ = inputs.send(Input::Control(client, control));
            }
            Err(error) => break Err(error),
        }
    };
    writing.abort();
    result
}

async fn write_all(mut write: OwnedWriteHalf, mut outgoing: UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = outgoing.recv().await {
        if let Err(error) = write.write_all(&bytes).await {
            tracing::debug!(%error, "a metadata client cannot be written to");
            return;
        }
    }
}

fn greet(hello: &Hello, cluster: ClusterId) -> Result<Welcome, String> {
    if hello.version != PROTOCOL_VERSION {
        return Err(format!("protocol version {} is not {PROTOCOL_VERSION}", hello.version));
    }
    if hello.cluster.is_some_and(|named| named != cluster) {
        return Err("the cluster is another one".to_owned());
    }
    match hello.role {
        Role::Client | Role::Node { .. } => Ok(Welcome { cluster, worker: None, incarnation: Incarnation(1) }),
        Role::Proxy { .. } | Role::Worker { .. } => Err("this is the metadata service, not a worker".to_owned()),
    }
}
