//! The connections of whoever asks the metadata group, as the task that decides sees them.

use super::leader::ClientId;
use std::collections::BTreeMap;
use tokio::sync::mpsc::Sender;
use toroid_common::wire::{Control, Message, Notice, NoticeBody};

/// Frames that wait to be written to one client: whoever does not read for so long is cut off.
pub(super) const MAX_WAITING_FRAMES: usize = 4_096;
/// Requests that wait to be decided: beyond, sockets are not read.
pub const MAX_WAITING_INPUTS: usize = 4_096;

/// What connections tell the task that decides.
#[derive(Debug)]
pub enum Input {
    Opened(ClientId, Sender<Vec<u8>>),
    Control(ClientId, Box<Control>),
    Closed(ClientId),
}

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    open: BTreeMap<ClientId, Sender<Vec<u8>>>,
}

impl Clients {
    pub(super) fn opened(&mut self, client: ClientId, sender: Sender<Vec<u8>>) {
        self.open.insert(client, sender);
    }

    pub(super) fn closed(&mut self, client: ClientId) {
        self.open.remove(&client);
    }

    pub(super) fn send(&mut self, client: ClientId, notice: Notice) {
        let Some(sender) = self.open.get(&client) else { return };
        let mut bytes = Vec::new();
        Message::Notice(notice).write(&mut bytes);
        if sender.try_send(bytes).is_err() {
            // It has gone, or does not read: with its sender its connection ends, which will be told as closed.
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
