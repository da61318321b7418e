//! The connections of a loop by slot: slots are given again, with another generation.

use super::connection::Connection;
use toroid_engine::worker::ConnectionId;

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    used: usize,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// An identity for a new connection; [`Slots::put`] or [`Slots::release`] follows.
    pub(super) fn reserve(&mut self) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let generation = self.slots.get_mut(slot as usize).map_or(0, |entry| {
            entry.generation = entry.generation.wrapping_add(1);
            entry.generation
        });
        ConnectionId { slot, generation }
    }

    pub(super) fn put(&mut self, connection: Connection) {
        if let Some(slot) = self.slots.get_mut(connection.id.slot as usize) {
            slot.connection = Some(connection);
            self.used += 1;
        }
    }

    pub(super) fn release(&mut self, id: ConnectionId) {
        self.free.push(id.slot);
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Connection> {
        self.slots.get_mut(slot)?.connection.as_mut()
    }

    /// The connection with this identity, if it is still there.
    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.get_mut(id.slot as usize).filter(|connection| connection.id == id)
    }

    pub(super) fn take(&mut self, slot: usize) -> Option<Connection> {
        let connection = self.slots.get_mut(slot)?.connection.take()?;
        self.free.push(connection.id.slot);
        self.used -= 1;
        Some(connection)
    }
}
