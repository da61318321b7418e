//! Guards that are turned off from outside, to show that the simulator sees what they prevent. The product's code has no such switches.

use toroid_common::wire::{AppendedPart, EntriesHead, Message, RawFrame, write_appended};

/// One guard that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A node goes on under a lease that nobody granted.
    LeaseAtReply,
    /// The metadata group takes proposals whatever epoch they name.
    Epoch,
    /// Somebody confirms entries in the follower's place as soon as they are sent.
    AllAcknowledge,
    /// A replica that has just begun to join is made a backup, and may be promoted.
    PromoteStranger,
    /// A new primary hears at once that its followers have its whole log, and serves.
    ServeBeforeAcknowledged,
    /// A request that is sent again gets a new identity.
    RequestIds,
}

impl Sabotage {
    pub const ALL: [Sabotage; 6] = [
        Sabotage::LeaseAtReply,
        Sabotage::Epoch,
        Sabotage::AllAcknowledge,
        Sabotage::PromoteStranger,
        Sabotage::ServeBeforeAcknowledged,
        Sabotage::RequestIds,
    ];
}

/// The confirmation that somebody gives in the follower's place when these bytes are sent to it; none when nobody does.
#[must_use]
pub fn forged(sabotage: Option<Sabotage>, bytes: &[u8]) -> Option<Vec<u8>> {
    let forges = |head: &EntriesHead| match sabotage {
        Some(Sabotage::AllAcknowledge) => true,
        Some(Sabotage::ServeBeforeAcknowledged) => head.begins,
        Some(Sabotage::LeaseAtReply | Sabotage::Epoch | Sabotage::PromoteStranger | Sabotage::RequestIds) | None => {
            false
        }
    };
    sabotage?;
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Ok(Some((frame, used))) = RawFrame::split(rest) {
        rest = rest.get(used..).unwrap_or_default();
        let Ok(Message::Append(append)) = Message::decode(frame) else { continue };
        for part in append.parts().flatten().filter(|part| forges(&part.head)) {
            let EntriesHead { partition, epoch, first, .. } = part.head;
            let lsn = toroid_common::id::Lsn(first.0 + u64::from(part.count) - 1);
            parts.push(AppendedPart { partition, epoch, lsn });
        }
    }
    let mut out = Vec::new();
    write_appended(&mut out, parts.iter().copied());
    (!parts.is_empty()).then_some(out)
}
