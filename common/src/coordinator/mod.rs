//! One transaction at its proxy: who takes part, what each request must say of it, and the steps that end it. Pure, so that the simulator runs this.
//!
//! The life of a transaction: [`Transaction`] counts its requests per partition and knows how to undo a part of them (savepoints); its end is either
//! [`Transaction::roll_back`] or a [`Commitment`], to which each step's answer is given and which says what is to be sent next. A step whose
//! connection is lost is sent again under the same identity, as [`crate::routing::Attempts`] says; only how it ended in the end comes here.

mod parts;
mod open;
mod commitment;

pub use commitment::{Commitment, StepEnd};
pub use open::{Ended, Mark, Reads, Transaction};
pub use parts::Partitions;

use crate::error::{SqlError, SqlState};
use crate::id::PartitionId;
use crate::transaction::Step;

/// Steps to be sent, each to its partition.
pub type Sends = Vec<(PartitionId, Step)>;

/// What the client hears of a transaction of which a participant knows nothing any more, or cannot say what it knows: none of it happened.
pub fn lost() -> SqlError {
    SqlError::new(SqlState::SERIALIZATION_FAILURE, "the transaction's state was lost in a failover")
        .with_hint("The transaction might succeed if retried.")
}

#[cfg(test)]
mod tests;
