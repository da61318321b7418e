//! Which notifications of a channel are not kept any more, in bounded memory: one channel's do not tell of another's but where their hashes meet.

use crate::store::account::{Account, Reserve};
use std::sync::Arc;
use toroid_common::hash::hash_bytes;

const SLOTS: usize = 1 << 12;

/// By hash of channels, the highest number that is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Evicted(Option<Table>);

#[derive(Clone, Debug)]
struct Table {
    slots: imbl::Vector<u64>,
    charge: Arc<Reserve>,
}

fn slot_of(channel: &str) -> usize {
    hash_bytes(channel.as_bytes()) as usize % SLOTS
}

impl Evicted {
    const BYTES: usize = SLOTS * size_of::<u64>();

    /// The number of the last one of this channel that is not kept, or a higher one.
    pub(super) fn last_of(&self, channel: &str) -> u64 {
        let slot = self.0.as_ref().and_then(|table| table.slots.get(slot_of(channel)));
        slot.copied().unwrap_or_default()
    }

    pub(super) fn note(&mut self, channel: &str, number: u64, account: &mut Account) {
        self.set(slot_of(channel), number, account);
    }

    fn set(&mut self, slot: usize, number: u64, account: &mut Account) -> bool {
        let table = self.0.get_or_insert_with(|| Table {
            slots: std::iter::repeat_n(0, SLOTS).collect(),
            charge: account.reserve(Evicted::BYTES),
        });
        let Some(known) = table.slots.get_mut(slot) else { return false };
        *known = number;
        true
    }

    /// Slots in use from one on, each with its number.
    pub(super) fn from(&self, slot: u16) -> impl Iterator<Item = (u16, u64)> {
        let slots = self.0.iter().flat_map(|table| table.slots.iter()).copied();
        (0..).zip(slots).skip(usize::from(slot)).filter(|(_, number)| *number > 0)
    }

    /// Puts a slot back; false when there is none.
    #[must_use]
    pub(super) fn restore(&mut self, (slot, number): (u16, u64), account: &mut Account) -> bool {
        self.set(usize::from(slot), number, account)
    }

    pub(super) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |table| table.charge.bytes())
    }

    pub(super) fn finish(self, account: &mut Account) {
        if let Some(table) = self.0 {
            account.give_back(table.charge);
        }
    }
}
