//! One connection of a worker's loop with its buffers.

use super::buffer::{Filled, Incoming, Outgoing};
use super::rung::Rung;
use crate::stream::Stream;
use mio::{Interest, Registry, Token};
use std::io;
use toroid_common::id::WorkerId;
use toroid_common::secret::Exchange;
use toroid_engine::worker::ConnectionId;

/// Bytes that may wait for a reader before nothing more is taken from it.
pub(super) const SLOW_READER_BYTES: usize = 8 << 20;
/// Bytes that may wait for a reader before it is given up.
const LOST_READER_BYTES: usize = 1 << 30;

/// A connection and what is on its way over it.
pub(super) struct Connection {
    pub id: ConnectionId,
    pub stream: Stream,
    pub incoming: Incoming,
    outgoing: Outgoing,
    /// Being opened to this worker: the worker's state machine has not heard of it yet.
    pub opening: Option<WorkerId>,
    /// Where there is a cluster key: until the peer has proved that it has it, no frame is taken.
    pub exchange: Option<Exchange>,
    /// The system has opened it.
    pub stands: bool,
    /// The peer has said who it is, or taken us: longer frames may come now.
    pub introduced: bool,
    /// The loop hears when the socket takes bytes: only while some wait for that. A Unix socket would tell at each read of its peer.
    heeds_writable: bool,
    /// The socket may have more to read.
    pub readable: bool,
    /// The peer writes no more: reading goes on to the very end, because no further event will tell of it.
    pub ended: bool,
    /// Stands in the loop's list of connections to be flushed.
    pub queued: bool,
    /// To be closed once everything is written.
    pub closing: bool,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, stream: Stream, opening: Option<WorkerId>) -> Connection {
        Connection {
            id,
            stream,
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            heeds_writable: opening.is_some(),
            stands: opening.is_none(),
            opening,
            exchange: None,
            introduced: false,
            readable: false,
            ended: false,
            queued: false,
            closing: false,
        }
    }

    /// Registers the socket, so that the loop hears of it.
    pub(super) fn register(&mut self, registry: &Registry, rung: &Rung) -> io::Result<()> {
        let (token, interest) = (self.token(), self.interest());
        if let Stream::Near(end) = &self.stream {
            let slot = Some(self.id.slot as usize);
            end.set_bell(rung.bell(slot));
            // It stands already, which an event would tell of a socket.
            rung.ring(slot);
        }
        registry.register(&mut self.stream, token, interest)
    }

    fn token(&self) -> Token {
        Token(self.id.slot as usize)
    }

    fn interest(&self) -> Interest {
        if self.heeds_writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    /// Whether its requests are to be taken: not while it doesn't read its answers.
    pub(super) fn is_open(&self) -> bool {
        !self.closing && self.stands && self.outgoing.len() < SLOW_READER_BYTES
    }

    pub(super) fn read(&mut self) -> io::Result<Filled> {
        let filled = match &mut self.stream {
            Stream::Near(end) => self.incoming.receive(end),
            stream => self.incoming.fill(stream),
        };
        match filled? {
            Filled::Drained if self.ended => Ok(Filled::More),
            filled => Ok(filled),
        }
    }

    /// Adds to what is to be written. An error when the other side has not read for too long.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outgoing.push(bytes);
        if self.outgoing.len() > LOST_READER_BYTES {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read what it asked for"));
        }
        Ok(())
    }

    pub(super) fn has_output(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Writes what can be written; true when nothing is left. Otherwise there will be an event.
    pub(super) fn flush(&mut self, registry: &Registry) -> io::Result<bool> {
        let done = match &mut self.stream {
            Stream::Near(end) => return self.outgoing.send(end),
            stream => self.outgoing.flush(stream)?,
        };
        if done == self.heeds_writable {
            self.heeds_writable = !done;
            let (token, interest) = (self.token(), self.interest());
            registry.reregister(&mut self.stream, token, interest)?;
        }
        Ok(done)
    }
}
