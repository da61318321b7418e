//! What sessions hold, in a checkpoint.

use super::record::{damaged, take, take_u32, take_u64};
use crate::store::account::Account;
use crate::store::advisory::{Advisory, Counts};
use crate::store::root::Root;
use toroid_common::error::SqlResult;
use toroid_common::id::{Incarnation, TransactionId};
use toroid_common::plan::AdvisoryKey;

/// A session and a key that it holds.
pub(super) type Place = (TransactionId, AdvisoryKey);

/// Before all others.
pub(super) const FIRST: Place =
    (TransactionId { proxy: Incarnation(0), number: 0 }, AdvisoryKey { pair: false, key: i64::MIN });

/// Writes advisory locks from a place on; the first that has no room.
pub(super) fn write_advisory(held: &Advisory, from: Place, end: usize, out: &mut Vec<u8>) -> Option<Place> {
    for (at, (session, key, counts)) in held.from(from).enumerate() {
        if at > 0 && out.len() >= end {
            return Some((session, key));
        }
        out.extend_from_slice(&session.proxy.0.to_le_bytes());
        out.extend_from_slice(&session.number.to_le_bytes());
        out.push(u8::from(key.pair));
        out.extend_from_slice(&key.key.to_le_bytes());
        out.extend_from_slice(&counts.shared.to_le_bytes());
        out.extend_from_slice(&counts.exclusive.to_le_bytes());
    }
    None
}

pub(super) fn read_advisory(mut body: &[u8], root: &mut Root, account: &mut Account) -> SqlResult<()> {
    while !body.is_empty() {
        let proxy = Incarnation(take_u64(&mut body)?);
        let session = TransactionId { proxy, number: take_u64(&mut body)? };
        let pair = match take(&mut body)? {
            [0] => false,
            [1] => true,
            _ => return Err(damaged("an advisory lock of unknown kind")),
        };
        let key = AdvisoryKey { pair, key: take_u64(&mut body)?.cast_signed() };
        let counts = Counts { shared: take_u32(&mut body)?, exclusive: take_u32(&mut body)? };
        account.room(Advisory::BYTES)?;
        if !root.restore_advisory().restore((session, key), counts, account) {
            return Err(damaged("an advisory lock that cannot be"));
        }
    }
    Ok(())
}
