//! Guards that are turned off from outside, to show that the simulator sees what they prevent. The product's code has no such switches.

/// One guard that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A node goes on under a lease that nobody granted.
    LeaseAtReply,
    /// Entries of another epoch are relabelled to the receiver's.
    Epoch,
    /// Somebody confirms in the backup's place before it holds the entries.
    AllAcknowledge,
    /// A worker that was no backup becomes primary.
    PromoteStranger,
    /// The new primary hears confirmations that its backups never gave, and serves at once.
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
