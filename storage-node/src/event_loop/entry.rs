//! How a connection comes in: where there is a cluster key both sides prove it first, and only then does the worker hear of the connection.

use super::EventLoop;
use crate::prove;
use toroid_common::secret::Exchange;
use toroid_engine::gate::Time;
use toroid_engine::worker::Event;

/// How long a peer may take to say who it is, or whom it takes; opening the connection counts.
pub(super) const INTRODUCTION_MICROS: u64 = 5_000_000;

impl EventLoop {
    /// Ends new connections on which nobody has introduced himself in time.
    pub(super) fn turn_strangers_away(&mut self, now: Time) {
        while let Some((_, id)) = self.strangers.pop_front_if(|(until, _)| *until <= now) {
            if self.connections.find(id).is_some_and(|connection| !connection.introduced) {
                let reason = "the peer has not introduced itself in time";
                self.complain(id.slot as usize, reason);
                self.lost(id.slot as usize, reason, now);
            }
        }
    }

    /// Says why a connection is ended from this side.
    pub(super) fn complain(&mut self, slot: usize, reason: &str) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if self.said.is_new(connection.stream.host(), reason) {
            tracing::warn!(worker = %self.id, peer = connection.stream.peer(), reason, "closing a connection");
        }
    }

    /// A socket is open.
    pub(super) fn enter(&mut self, slot: usize, now: Time) {
        let Some(key) = self.key.clone() else { return self.announce(slot, now) };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let begun = prove::nonce().and_then(|nonce| {
            let mut out = Vec::new();
            connection.exchange = Some(match connection.opening {
                Some(_) => Exchange::connect(&key, nonce, &mut out),
                None => Exchange::listen(&key, nonce),
            });
            connection.push(&out)
        });
        match begun {
            Ok(()) => self.queue_flush(slot),
            Err(error) => self.lost(slot, &error.to_string(), now),
        }
    }

    /// The worker hears of a connection.
    fn announce(&mut self, slot: usize, now: Time) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let event = match connection.opening.take() {
            Some(worker) => Event::Connected { connection: connection.id, worker },
            None => Event::Accepted(connection.id),
        };
        self.worker.step(event, now, &mut self.actions);
    }

    /// Whether frames may be taken from a connection; goes on with its proof, as far as that has arrived.
    pub(super) fn has_entered(&mut self, slot: usize, now: Time) -> Result<bool, String> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(false) };
        let Some(exchange) = &mut connection.exchange else { return Ok(connection.stands) };
        let mut out = Vec::new();
        let advanced = exchange.advance(connection.incoming.unread(), &mut out);
        let used = advanced.map_err(|denied| denied.to_string())?;
        let done = exchange.is_done();
        connection.incoming.consume(used);
        connection.push(&out).map_err(|error| error.to_string())?;
        self.queue_flush(slot);
        if done {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.exchange = None;
            }
            self.announce(slot, now);
        }
        Ok(done)
    }
}
