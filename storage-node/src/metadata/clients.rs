//! The connections of whoever asks the metadata group, as the task that decides sees them.

use super::leader::ClientId;
use super::outgoing::Sink;
use std::collections::BTreeMap;
use toroid_common::wire::{Control, Notice, NoticeBody};

/// Requests that wait to be decided: beyond, sockets are not read.
pub const MAX_WAITING_INPUTS: usize = 4_096;

/// What connections tell the task that decides.
#[derive(Debug)]
pub enum Input {
    Opened(ClientId, Sink),
    Control(ClientId, Box<Control>),
    Closed(ClientId),
}

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    open: BTreeMap<ClientId, Sink>,
}

impl Clients {
    pub(super) fn opened(&mut self, client: ClientId, sink: Sink) {
        self.open.insert(client, sink);
    }

    pub(super) fn closed(&mut self, client: ClientId) {
        self.open.remove(&client);
    }

    pub(super) fn send(&mut self, client: ClientId, notice: Notice) {
        if self.open.get(&client).is_some_and(|sink| !sink.put(notice)) {
            // It has gone, or does not read: with its sink its connection ends, which will be told as closed.
            self.open.remove(&client);
        }
    }

    pub(super) fn tell(&mut self, client: ClientId, number: u32, body: NoticeBody) {
        self.send(client, Notice { number, body });
    }

    pub(super) fn tell_all(&mut self, body: &NoticeBody) {
        let clients: Vec<ClientId> = self.open.keys().copied().collect();
        clients.into_iter().for_each(|client| self.tell(client, 0, body.clone()));
    }
}
