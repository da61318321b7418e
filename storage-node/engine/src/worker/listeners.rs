//! Who listens to the channels of one partition, over which connection, and what each was told last.

use super::event::{Actions, ConnectionId};
use crate::store::notices::Notices;
use std::collections::BTreeMap;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Lsn, PartitionId};
use toroid_common::wire::{Message, Notification};

/// Most channels of one partition that connections listen to, counted by connection.
const MAX_LISTENERS: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// By channel, the connections with the number of the last notification that each was told, or need not be.
    channels: BTreeMap<String, Vec<(ConnectionId, u64)>>,
    count: usize,
    partition: PartitionId,
    /// Added to numbers where others see them.
    base: u64,
    /// All who listen were told up to here.
    announced: u64,
    /// Connections that missed something, and do not listen any more: they are to be closed, so that they ask again and hear of it.
    missed: Vec<ConnectionId>,
}

impl Listeners {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a connection listens already: whatever it has not been told it will be.
    pub(super) fn has(&self, channel: &str, connection: ConnectionId) -> bool {
        let listening = self.channels.get(channel);
        listening.is_some_and(|listening| listening.iter().any(|(known, _)| *known == connection))
    }

    /// A connection begins to listen, and need not be told of what came up to here.
    pub(super) fn add(
        &mut self,
        (partition, base, channel): (PartitionId, u64, &str),
        connection: ConnectionId,
        seen: u64,
    ) -> SqlResult<()> {
        if self.has(channel, connection) {
            return Ok(());
        }
        if self.count >= MAX_LISTENERS {
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many listeners"));
        }
        (self.partition, self.base) = (partition, base);
        if self.count == 0 {
            self.announced = seen;
        }
        self.announced = self.announced.min(seen);
        self.channels.entry(channel.to_owned()).or_default().push((connection, seen));
        self.count += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, channel: &str, connection: ConnectionId) {
        let Some(listening) = self.channels.get_mut(channel) else { return };
        let before = listening.len();
        listening.retain(|(known, _)| *known != connection);
        self.count -= before - listening.len();
        if listening.is_empty() {
            self.channels.remove(channel);
        }
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if self.is_empty() {
            return;
        }
        let count = &mut self.count;
        self.channels.retain(|_, listening| {
            let before = listening.len();
            listening.retain(|(known, _)| *known != connection);
            *count -= before - listening.len();
            !listening.is_empty()
        });
    }

    /// The connections that missed something since the last call.
    pub(super) fn take_missed(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.missed)
    }

    /// Whether not all that nobody was told of is kept.
    pub(super) fn misses(&self, notices: &Notices) -> bool {
        self.announced < notices.gone()
    }

    /// Goes on behind what is not kept.
    fn skip_to(&mut self, notices: &Notices) {
        let Listeners { channels, count, announced, missed, .. } = self;
        channels.retain(|channel, listening| {
            let gone = notices.gone_of(channel);
            let before = listening.len();
            let misses = |(_, told): &mut (ConnectionId, u64)| gone > (*told).max(*announced);
            missed.extend(listening.extract_if(.., misses).map(|(connection, _)| connection));
            *count -= before - listening.len();
            !listening.is_empty()
        });
        *announced = notices.gone();
    }

    /// Tells everybody of what is acknowledged and news to them. The caller has checked the lease at this moment.
    pub(super) fn announce(&mut self, notices: &Notices, acknowledged: Lsn, actions: &mut Actions) {
        if self.is_empty() || self.announced >= notices.last() {
            return;
        }
        if self.misses(notices) {
            self.skip_to(notices);
        }
        for notice in notices.after(self.announced).take_while(|notice| notice.lsn <= acknowledged) {
            self.announced = notice.number;
            let Some(listening) = self.channels.get_mut(&*notice.channel) else { continue };
            for (connection, told) in listening.iter_mut().filter(|(_, told)| *told < notice.number) {
                *told = notice.number;
                let message = Message::Notification(Notification {
                    partition: self.partition,
                    number: self.base + notice.number,
                    process: notice.process,
                    channel: &notice.channel,
                    payload: &notice.payload,
                });
                actions.send(*connection, |out| message.write(out));
            }
        }
    }
}
