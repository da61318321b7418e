//! What sessions hold and have sent, in a checkpoint.

use super::record::{damaged, put_slice, take, take_slice, take_u32, take_u64};
use crate::store::account::Account;
use crate::store::advisory::{Advisory, Counts};
use crate::store::notices::{Notice, Notices};
use crate::store::root::Root;
use toroid_common::error::SqlResult;
use toroid_common::id::{Incarnation, Lsn, TransactionId};
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

/// Writes the number of the last notification, and those that are kept from a number on; the first that has no room.
pub(super) fn write_notices(notices: &Notices, from: u64, end: usize, out: &mut Vec<u8>) -> Option<u64> {
    out.extend_from_slice(&notices.last().to_le_bytes());
    for (at, notice) in notices.after(from.saturating_sub(1)).enumerate() {
        if at > 0 && out.len() >= end {
            return Some(notice.number);
        }
        out.extend_from_slice(&notice.number.to_le_bytes());
        out.extend_from_slice(&notice.lsn.0.to_le_bytes());
        out.extend_from_slice(&notice.process.to_le_bytes());
        put_slice(out, notice.channel.as_bytes());
        put_slice(out, notice.payload.as_bytes());
    }
    None
}

pub(super) fn read_notices(mut body: &[u8], root: &mut Root, account: &mut Account) -> SqlResult<()> {
    let last = take_u64(&mut body)?;
    if body.is_empty() {
        root.restore_notices().restore_last(last);
    }
    while !body.is_empty() {
        let (number, lsn) = (take_u64(&mut body)?, Lsn(take_u64(&mut body)?));
        let process = take_u32(&mut body)?;
        let channel = text(take_slice(&mut body)?)?.into();
        let notice = Notice { number, lsn, process, channel, payload: text(take_slice(&mut body)?)?.into() };
        account.room(Notices::bytes_of(&notice.channel, &notice.payload))?;
        if number > last || !root.restore_notices().restore(notice, account) {
            return Err(damaged("a notification that cannot be"));
        }
    }
    Ok(())
}

/// Writes what is known of notifications that are not kept, from a hash of channels on; the first that has no room.
pub(super) fn write_evicted(notices: &Notices, from: u16, end: usize, out: &mut Vec<u8>) -> Option<u16> {
    for (at, (slot, number)) in notices.evicted_from(from).enumerate() {
        if at > 0 && out.len() >= end {
            return Some(slot);
        }
        out.extend_from_slice(&slot.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    }
    None
}

pub(super) fn read_evicted(mut body: &[u8], root: &mut Root, account: &mut Account) -> SqlResult<()> {
    while !body.is_empty() {
        let evicted = (u16::from_le_bytes(take(&mut body)?), take_u64(&mut body)?);
        if !root.restore_notices().restore_evicted(evicted, account) {
            return Err(damaged("a notification that cannot be gone"));
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> SqlResult<&str> {
    std::str::from_utf8(bytes).map_err(|_| damaged("a notification that is no text"))
}
