//! Transactions in a checkpoint: write sets that are not applied, piece by piece, and outcomes.

use super::record::{Kind, damaged, put_slice, take, take_slice, take_u32, take_u64, write_record};
use crate::store::account::Account;
use crate::store::change::{ChangeList, Participants};
use crate::store::root::{Known, Root, Transactions};
use toroid_common::error::SqlResult;
use toroid_common::id::{Incarnation, PartitionId, TransactionId};
use toroid_common::transaction::Fate;

/// No worker has so much memory to keep free.
const MAX_RESERVE: u64 = 1 << 48;
const PREPARED: u8 = 1;
const IN_CHUNKS: u8 = 0;
const COMMITTED: u8 = 1;
const ABORTED: u8 = 0;

/// What comes next of the write sets: first the prepared ones, then those in chunks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    chunked: bool,
    /// The first from this one on.
    transaction: TransactionId,
    /// None before its head.
    piece: Option<usize>,
}

/// Writes the next record of write sets, if there is any left, and says where the one after it is.
pub(super) fn write_set(known: &Transactions, place: Place, out: &mut Vec<u8>) -> Option<Place> {
    let found = match place.chunked {
        false => known.prepared_from(place.transaction).next().map(|(transaction, prepared)| {
            (transaction, prepared.changes(), Some((prepared.anchor, prepared.reserve())))
        }),
        true => known.chunks_from(place.transaction).next().map(|(transaction, list)| (transaction, list, None)),
    };
    let Some((transaction, list, prepared)) = found else {
        // Nothing is written: the chunks come, or all is written.
        return match place.chunked {
            false => write_set(known, Place { chunked: true, ..Place::default() }, out),
            true => None,
        };
    };
    match place.piece {
        None => write_record(out, Kind::WriteSet, |out| {
            put_transaction(out, transaction);
            out.extend_from_slice(&(list.pieces().len() as u32).to_le_bytes());
            match prepared {
                Some((anchor, reserve)) => {
                    out.push(PREPARED);
                    out.extend_from_slice(&anchor.0.to_le_bytes());
                    out.extend_from_slice(&reserve.to_le_bytes());
                }
                None => out.push(IN_CHUNKS),
            }
        }),
        Some(piece) => write_record(out, Kind::Changes, |out| {
            out.extend_from_slice(list.pieces().nth(piece).unwrap_or_default());
        }),
    }
    let next = place.piece.map_or(0, |piece| piece + 1);
    Some(match next < list.pieces().len() {
        true => Place { transaction, piece: Some(next), ..place },
        false => Place { transaction: after(transaction), piece: None, ..place },
    })
}

/// Writes outcomes from a transaction on; the first that has no room.
pub(super) fn outcomes(
    known: &Transactions,
    from: TransactionId,
    end: usize,
    out: &mut Vec<u8>,
) -> Option<TransactionId> {
    for (at, (transaction, known)) in known.outcomes_from(from).enumerate() {
        if at > 0 && out.len() >= end {
            return Some(transaction);
        }
        put_transaction(out, transaction);
        out.push(if known.fate == Fate::Committed { COMMITTED } else { ABORTED });
        let waiting: Vec<u8> = known.waiting.iter().flat_map(|partition| partition.0.to_le_bytes()).collect();
        put_slice(out, &waiting);
    }
    None
}

fn after(transaction: TransactionId) -> TransactionId {
    match transaction.number.checked_add(1) {
        Some(number) => TransactionId { number, ..transaction },
        None => TransactionId { proxy: Incarnation(transaction.proxy.0.saturating_add(1)), number: 0 },
    }
}

fn put_transaction(out: &mut Vec<u8>, transaction: TransactionId) {
    out.extend_from_slice(&transaction.proxy.0.to_le_bytes());
    out.extend_from_slice(&transaction.number.to_le_bytes());
}

fn take_transaction(body: &mut &[u8]) -> SqlResult<TransactionId> {
    let proxy = Incarnation(take_u64(body)?);
    Ok(TransactionId { proxy, number: take_u64(body)? })
}

/// A write set whose pieces are coming.
#[derive(Debug)]
pub(super) struct Coming {
    transaction: TransactionId,
    missing: u32,
    /// Anchor and bytes to keep free.
    prepared: Option<(PartitionId, u64)>,
    changes: ChangeList,
}

impl Coming {
    pub(super) fn begin(mut body: &[u8]) -> SqlResult<Coming> {
        let transaction = take_transaction(&mut body)?;
        let missing = take_u32(&mut body)?;
        let prepared = match take(&mut body)? {
            [IN_CHUNKS] => None,
            [PREPARED] => Some((PartitionId(u16::from_le_bytes(take(&mut body)?)), take_u64(&mut body)?)),
            _ => return Err(damaged("a write set of unknown kind")),
        };
        if !body.is_empty() || prepared.is_some_and(|(_, reserve)| reserve > MAX_RESERVE) {
            return Err(damaged("a write set that cannot be"));
        }
        Ok(Coming { transaction, missing, prepared, changes: ChangeList::default() })
    }

    pub(super) fn take(&mut self, body: &[u8], account: &mut Account) -> SqlResult<()> {
        account.room(body.len())?;
        account.take(self.changes.push(body.to_vec()));
        self.missing = self.missing.saturating_sub(1);
        Ok(())
    }

    /// Puts the write set into the root once it is complete; itself if it is not.
    pub(super) fn settle(self, root: &mut Root, account: &mut Account) -> SqlResult<Option<Coming>> {
        if self.missing > 0 {
            return Ok(Some(self));
        }
        let known = root.restore_transactions();
        let is_new = known.prepared(self.transaction).is_none() && known.chunks(self.transaction).is_none();
        if !is_new || self.changes.summary().is_err() {
            self.abandon(account);
            return Err(damaged("a write set that cannot be read, or comes twice"));
        }
        match self.prepared {
            Some((anchor, reserve)) => {
                let reserve = account.reserve(reserve as usize);
                known.restore_prepared((self.transaction, anchor), reserve, self.changes);
            }
            None => known.restore_chunks(self.transaction, self.changes),
        }
        Ok(None)
    }

    pub(super) fn abandon(self, account: &mut Account) {
        account.finish_list(self.changes);
    }
}

pub(super) fn read_outcomes(mut body: &[u8], root: &mut Root) -> SqlResult<()> {
    while !body.is_empty() {
        let transaction = take_transaction(&mut body)?;
        let fate = match take(&mut body)? {
            [COMMITTED] => Fate::Committed,
            [ABORTED] => Fate::Aborted,
            _ => return Err(damaged("an outcome of unknown kind")),
        };
        let (waiting, rest) = take_slice(&mut body)?.as_chunks::<2>();
        let waiting: Participants = waiting.iter().map(|bytes| PartitionId(u16::from_le_bytes(*bytes))).collect();
        if !rest.is_empty() || !root.restore_transactions().restore_outcome(transaction, Known { fate, waiting }) {
            return Err(damaged("an outcome that cannot be"));
        }
    }
    Ok(())
}
