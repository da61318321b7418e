//! What proxies and partitions must agree on about transactions: isolation levels, and the steps of commitment.

use crate::id::{PartitionId, TransactionId};
use serde::{Deserialize, Serialize};

/// How a transaction is isolated ("Transaction Isolation" in PostgreSQL's manual). READ UNCOMMITTED is READ COMMITTED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Each statement reads the present state; one of several partitions a cut of its own.
    #[default]
    ReadCommitted,
    /// All statements read one cut. A row that was changed after it cannot be written: 40001.
    RepeatableRead,
    /// What is read stays locked until the end, so that nobody changes it. Read-only transactions read one cut instead.
    Serializable,
}

impl Level {
    pub fn to_byte(self) -> u8 {
        match self {
            Level::ReadCommitted => 0,
            Level::RepeatableRead => 1,
            Level::Serializable => 2,
        }
    }

    pub fn from_byte(byte: u8) -> Option<Level> {
        [Level::ReadCommitted, Level::RepeatableRead, Level::Serializable]
            .into_iter()
            .find(|level| level.to_byte() == byte)
    }
}

/// What a coordinator asks of a participant. `requests` counts the transaction's requests that the partition has answered, as
/// [`crate::wire::Within::earlier`] does: one that knows of another number has forgotten some in a failover, and answers 40001. No step comes while
/// a request of the transaction is unanswered in its partition, but [`Step::RollBack`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// ROLLBACK TO SAVEPOINT: forget what was done after the first `keep` requests; these count on, what comes next is number `requests`.
    RollBackTo { requests: u32, keep: u32 },
    /// Forget the transaction, prepared or not. Where it is not known it is over already.
    RollBack,
    /// Nobody else is prepared: apply what was written here, and forget it. An error says that it is aborted and forgotten.
    Commit { requests: u32 },
    /// Make sure that it can be committed, whatever happens, until the outcome is known; the anchor will know. What was only read or locked stays so, too.
    /// The answer's count is 0 where there is nothing of either: such a participant gets a RollBack. After an error comes a RollBack as well. Where the
    /// transaction has changed the schema the anchor is [`PartitionId::METADATA`].
    Prepare { requests: u32, anchor: PartitionId },
    /// To all participants of a transaction that has written nothing anywhere: say that all is locked that it read. A RollBack follows.
    Confirm { requests: u32 },
    /// To the anchor, once all others are prepared: commit here, and remember for these participants that the transaction is committed. An error
    /// says that it is aborted.
    Decide { requests: u32, participants: Vec<PartitionId> },
    /// To a prepared participant: the outcome. Answered when it is applied.
    Finish { commit: bool },
    /// To the anchor of an aborted transaction: nobody will ask it any more. What is committed is forgotten by [`crate::wire::Forget`].
    Forget,
}

/// Whether a transaction happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    Committed,
    Aborted,
}

/// Worker → worker, on behalf of partitions: what participants and anchors ask each other when the coordinator is silent. Answers pass reply gates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquiry {
    pub transaction: TransactionId,
    /// Whose primary is to receive it.
    pub to: PartitionId,
    pub from: PartitionId,
    pub body: InquiryBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InquiryBody {
    /// Participant → anchor: what became of it? An anchor that does not know makes it aborted first.
    Ask,
    /// Anchor → participant: this. It is said again until it is confirmed.
    Tell(Fate),
    /// Participant → anchor: applied.
    Confirm,
}
