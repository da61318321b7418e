//! A root that arrives piece by piece.

use crate::store::account::Account;
use crate::store::checkpoint::Reader;
use crate::store::root::Root;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::Epoch;
use toroid_common::wire::RootPiece;

#[derive(Debug, Default)]
pub(in super::super) struct Taking {
    reader: Reader,
    /// The number of the next piece.
    next: u32,
    /// Bytes of all pieces that have come.
    arrived: u64,
}

impl Taking {
    /// Takes the next piece; after the last one the root, and the epoch that made its last entry.
    pub(super) fn take(
        &mut self,
        piece: &RootPiece<'_>,
        account: &mut Account,
    ) -> SqlResult<Option<(Root, Option<Epoch>)>> {
        if piece.number != self.next {
            let message = format!("piece {} of a root came instead of {}", piece.number, self.next);
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        self.next += 1;
        // What a row takes besides its bytes is known only when it stands; so much room at least must be there.
        account.room(piece.bytes.len() * 2)?;
        self.reader.take(piece.bytes, account)?;
        self.arrived += piece.bytes.len() as u64;
        match piece.last {
            true => std::mem::take(&mut self.reader).finish(account).map(Some),
            false => Ok(None),
        }
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Gives the memory back.
    pub(super) fn abandon(self, account: &mut Account) {
        self.reader.abandon(account);
    }
}
