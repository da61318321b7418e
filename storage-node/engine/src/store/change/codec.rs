//! The encoding of changes in log entries: hand-made, little-endian, decoded without copying rows.

use super::{Change, ColumnList, Keep, Participants};
use crate::store::fence::Fence;
use crate::store::table::Position;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::decode::decode;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{Incarnation, IndexId, PartitionId, TableId, TransactionId};
use toroid_common::limits::{MAX_COLUMNS, MAX_PARTITIONS};
use toroid_common::plan::{AdvisoryKey, Strength};
use toroid_common::transaction::Fate;

const INSERT: u8 = 1;
const UPDATE: u8 = 2;
const DELETE: u8 = 3;
const TRUNCATE: u8 = 4;
const CATALOG: u8 = 5;
const FENCE: u8 = 6;
const FORBIDDEN: u8 = 7;
const UPDATE_OWN: u8 = 8;
const DELETE_OWN: u8 = 9;
const CHUNK: u8 = 10;
const PREPARE: u8 = 11;
const COMMIT: u8 = 12;
const ABORT: u8 = 13;
const OUTCOME: u8 = 14;
const CONFIRMED: u8 = 15;
const FORGET: u8 = 16;
const ANSWERED: u8 = 17;
const KEEP_ROW: u8 = 18;
const KEEP_RANGE: u8 = 19;
const KEEP_TABLE: u8 = 20;
const ADVISE: u8 = 21;
const DISMISS: u8 = 22;
const KEEP_ADVISORY: u8 = 23;
const NOTIFY: u8 = 24;

impl<'a> Change<'a> {
    /// Appends the change to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Change::Insert { table, count, rows } => {
                out.push(INSERT);
                put_u32(out, table.0);
                put_u32(out, *count);
                put_bytes(out, rows);
            }
            Change::Update { table, position, columns, values } => {
                put_row(out, UPDATE, *table, position.0);
                put_columns(out, columns);
                put_bytes(out, values);
            }
            Change::Delete { table, position } => put_row(out, DELETE, *table, position.0),
            Change::UpdateOwn { table, own, columns, values } => {
                put_row(out, UPDATE_OWN, *table, *own);
                put_columns(out, columns);
                put_bytes(out, values);
            }
            Change::DeleteOwn { table, own } => put_row(out, DELETE_OWN, *table, *own),
            Change::Keep(keep) => put_keep(out, keep),
            Change::Truncate { table } => {
                out.push(TRUNCATE);
                put_u32(out, table.0);
            }
            Change::Catalog(catalog) => {
                out.push(CATALOG);
                put_bytes(out, &catalog_bytes(catalog));
            }
            Change::Forbidden(error) => {
                out.push(FORBIDDEN);
                put_bytes(out, &error_bytes(error));
            }
            Change::Fence(fence) => put_fence(out, fence),
            Change::Answered { proxy, below, but } => {
                out.push(ANSWERED);
                out.extend_from_slice(&proxy.0.to_le_bytes());
                out.extend_from_slice(&below.to_le_bytes());
                put_u32(out, but.len() as u32);
                but.iter().for_each(|sequence| out.extend_from_slice(&sequence.to_le_bytes()));
            }
            Change::Chunk { .. }
            | Change::Prepare { .. }
            | Change::Commit { .. }
            | Change::Abort { .. }
            | Change::Outcome { .. }
            | Change::Confirmed { .. }
            | Change::Forget { .. } => self.write_step(out),
            Change::Advise { .. } | Change::Dismiss { .. } | Change::Notify { .. } => self.write_act(out),
        }
    }

    /// Appends what a session does.
    fn write_act(&self, out: &mut Vec<u8>) {
        if let Change::Advise { session, key, shared, takes } = self {
            put_transaction(out, ADVISE, *session);
            put_advisory(out, *key, *shared, *takes);
        } else if let Change::Dismiss { session } = self {
            put_transaction(out, DISMISS, *session);
        } else if let Change::Notify { channel, payload, process } = self {
            out.push(NOTIFY);
            put_u32(out, *process);
            put_bytes(out, channel.as_bytes());
            put_bytes(out, payload.as_bytes());
        }
    }

    /// Appends a step of commitment.
    fn write_step(&self, out: &mut Vec<u8>) {
        match self {
            Change::Chunk { transaction, keep, changes } => {
                put_transaction(out, CHUNK, *transaction);
                out.extend_from_slice(&keep.to_le_bytes());
                put_bytes(out, changes);
            }
            Change::Prepare { transaction, anchor, reserve, keep, changes } => {
                put_transaction(out, PREPARE, *transaction);
                out.extend_from_slice(&anchor.0.to_le_bytes());
                out.extend_from_slice(&reserve.to_le_bytes());
                out.extend_from_slice(&keep.to_le_bytes());
                put_bytes(out, changes);
            }
            Change::Commit { transaction } => put_transaction(out, COMMIT, *transaction),
            Change::Abort { transaction } => put_transaction(out, ABORT, *transaction),
            Change::Outcome { transaction, fate, participants } => {
                put_transaction(out, OUTCOME, *transaction);
                out.push(u8::from(*fate == Fate::Committed));
                put_u32(out, participants.len() as u32);
                participants.iter().for_each(|partition| out.extend_from_slice(&partition.0.to_le_bytes()));
            }
            Change::Confirmed { transaction, participant } => {
                put_transaction(out, CONFIRMED, *transaction);
                out.extend_from_slice(&participant.0.to_le_bytes());
            }
            Change::Forget { transaction } => put_transaction(out, FORGET, *transaction),
            Change::Insert { .. }
            | Change::Update { .. }
            | Change::Delete { .. }
            | Change::UpdateOwn { .. }
            | Change::DeleteOwn { .. }
            | Change::Keep(_)
            | Change::Truncate { .. }
            | Change::Catalog(_)
            | Change::Forbidden(_)
            | Change::Fence(_)
            | Change::Answered { .. }
            | Change::Advise { .. }
            | Change::Dismiss { .. }
            | Change::Notify { .. } => {}
        }
    }

    /// Takes one change from the front of `input`, which is left at the rest.
    pub fn read(input: &mut &'a [u8]) -> SqlResult<Change<'a>> {
        let [kind] = take_array(input)?;
        Ok(match kind {
            INSERT => {
                Change::Insert { table: TableId(take_u32(input)?), count: take_u32(input)?, rows: take_bytes(input)? }
            }
            UPDATE => Change::Update {
                table: TableId(take_u32(input)?),
                position: Position(take_u32(input)?),
                columns: take_columns(input)?,
                values: take_bytes(input)?,
            },
            DELETE => Change::Delete { table: TableId(take_u32(input)?), position: Position(take_u32(input)?) },
            UPDATE_OWN => Change::UpdateOwn {
                table: TableId(take_u32(input)?),
                own: take_u32(input)?,
                columns: take_columns(input)?,
                values: take_bytes(input)?,
            },
            DELETE_OWN => Change::DeleteOwn { table: TableId(take_u32(input)?), own: take_u32(input)? },
            KEEP_ROW => Change::Keep(Keep::Row {
                table: TableId(take_u32(input)?),
                position: Position(take_u32(input)?),
                strength: take_strength(input)?,
            }),
            KEEP_RANGE => Change::Keep(Keep::Range { index: IndexId(take_u32(input)?), prefix: take_bytes(input)? }),
            KEEP_TABLE => Change::Keep(Keep::Table { table: TableId(take_u32(input)?) }),
            TRUNCATE => Change::Truncate { table: TableId(take_u32(input)?) },
            CATALOG => Change::Catalog(Arc::new(take_catalog(take_bytes(input)?)?)),
            FENCE => Change::Fence(take_fence(input)?),
            FORBIDDEN => Change::Forbidden(take_error(take_bytes(input)?)?),
            ANSWERED => Change::Answered {
                proxy: Incarnation(take_u64(input)?),
                below: take_u64(input)?,
                but: take_sequences(input)?,
            },
            CHUNK..=FORGET => Change::read_step(kind, input)?,
            ADVISE => {
                let session = take_transaction(input)?;
                let (key, shared, takes) = take_advisory(input)?;
                Change::Advise { session, key, shared, takes }
            }
            KEEP_ADVISORY => {
                let session = take_transaction(input)?;
                let (key, shared, _) = take_advisory(input)?;
                Change::Keep(Keep::Advisory { key, shared, session })
            }
            DISMISS => Change::Dismiss { session: take_transaction(input)? },
            NOTIFY => {
                Change::Notify { process: take_u32(input)?, channel: take_text(input)?, payload: take_text(input)? }
            }
            _ => return Err(malformed()),
        })
    }

    /// Takes the rest of a step of commitment.
    fn read_step(kind: u8, input: &mut &'a [u8]) -> SqlResult<Change<'a>> {
        let transaction = take_transaction(input)?;
        Ok(match kind {
            CHUNK => Change::Chunk { transaction, keep: take_u64(input)?, changes: take_bytes(input)? },
            PREPARE => Change::Prepare {
                transaction,
                anchor: take_partition(input)?,
                reserve: take_u64(input)?,
                keep: take_u64(input)?,
                changes: take_bytes(input)?,
            },
            COMMIT => Change::Commit { transaction },
            ABORT => Change::Abort { transaction },
            OUTCOME => {
                Change::Outcome { transaction, fate: take_fate(input)?, participants: take_participants(input)? }
            }
            CONFIRMED => Change::Confirmed { transaction, participant: take_partition(input)? },
            FORGET => Change::Forget { transaction },
            _ => return Err(malformed()),
        })
    }

    /// All changes of an entry, to the end of `input`.
    pub fn read_all(mut input: &'a [u8]) -> SqlResult<Vec<Change<'a>>> {
        let mut changes = Vec::with_capacity(1);
        while !input.is_empty() {
            changes.push(Change::read(&mut input)?);
        }
        Ok(changes)
    }
}

fn malformed() -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, "malformed change in a log entry")
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_keep(out: &mut Vec<u8>, keep: &Keep<'_>) {
    match keep {
        Keep::Row { table, position, strength } => {
            put_row(out, KEEP_ROW, *table, position.0);
            out.push(strength_byte(*strength));
        }
        Keep::Range { index, prefix } => {
            out.push(KEEP_RANGE);
            put_u32(out, index.0);
            put_bytes(out, prefix);
        }
        Keep::Table { table } => {
            out.push(KEEP_TABLE);
            put_u32(out, table.0);
        }
        Keep::Advisory { key, shared, session } => {
            put_transaction(out, KEEP_ADVISORY, *session);
            put_advisory(out, *key, *shared, true);
        }
    }
}

fn put_row(out: &mut Vec<u8>, kind: u8, table: TableId, row: u32) {
    out.push(kind);
    put_u32(out, table.0);
    put_u32(out, row);
}

fn put_columns(out: &mut Vec<u8>, columns: &[u16]) {
    out.extend_from_slice(&(columns.len() as u16).to_le_bytes());
    columns.iter().for_each(|column| out.extend_from_slice(&column.to_le_bytes()));
}

fn put_transaction(out: &mut Vec<u8>, kind: u8, transaction: TransactionId) {
    out.push(kind);
    out.extend_from_slice(&transaction.proxy.0.to_le_bytes());
    out.extend_from_slice(&transaction.number.to_le_bytes());
}

/// A key with the mode, and whether it is taken or given back.
fn put_advisory(out: &mut Vec<u8>, key: AdvisoryKey, shared: bool, takes: bool) {
    out.push(u8::from(key.pair) | u8::from(shared) << 1 | u8::from(takes) << 2);
    out.extend_from_slice(&key.key.to_le_bytes());
}

fn take_advisory(input: &mut &[u8]) -> SqlResult<(AdvisoryKey, bool, bool)> {
    let [flags @ 0..8] = take_array(input)? else { return Err(malformed()) };
    let key = AdvisoryKey { pair: flags & 1 != 0, key: take_u64(input)?.cast_signed() };
    Ok((key, flags & 2 != 0, flags & 4 != 0))
}

fn put_fence(out: &mut Vec<u8>, fence: &Fence) {
    out.push(FENCE);
    out.extend_from_slice(&fence.below.0.to_le_bytes());
    put_u32(out, fence.alive.len() as u32);
    fence.alive.iter().for_each(|proxy| out.extend_from_slice(&proxy.0.to_le_bytes()));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn take_array<const N: usize>(input: &mut &[u8]) -> SqlResult<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or_else(malformed)?;
    *input = rest;
    Ok(*head)
}

fn take_u32(input: &mut &[u8]) -> SqlResult<u32> {
    take_array(input).map(u32::from_le_bytes)
}

fn take_u64(input: &mut &[u8]) -> SqlResult<u64> {
    take_array(input).map(u64::from_le_bytes)
}

fn take_transaction(input: &mut &[u8]) -> SqlResult<TransactionId> {
    let proxy = Incarnation(take_u64(input)?);
    Ok(TransactionId { proxy, number: take_u64(input)? })
}

fn take_partition(input: &mut &[u8]) -> SqlResult<PartitionId> {
    take_array(input).map(|bytes| PartitionId(u16::from_le_bytes(bytes)))
}

fn take_participants(input: &mut &[u8]) -> SqlResult<Participants> {
    let count = take_u32(input)?;
    if count > u32::from(MAX_PARTITIONS) {
        return Err(malformed());
    }
    (0..count).map(|_| take_partition(input)).collect()
}

fn take_fate(input: &mut &[u8]) -> SqlResult<Fate> {
    match take_array(input)? {
        [0] => Ok(Fate::Aborted),
        [1] => Ok(Fate::Committed),
        _ => Err(malformed()),
    }
}

const STRENGTHS: [Strength; 4] = [Strength::KeyShare, Strength::Share, Strength::NoKeyUpdate, Strength::Update];

fn strength_byte(strength: Strength) -> u8 {
    match strength {
        Strength::KeyShare => 0,
        Strength::Share => 1,
        Strength::NoKeyUpdate => 2,
        Strength::Update => 3,
    }
}

fn take_strength(input: &mut &[u8]) -> SqlResult<Strength> {
    let [byte] = take_array(input)?;
    STRENGTHS.get(usize::from(byte)).copied().ok_or_else(malformed)
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> SqlResult<&'a [u8]> {
    let len = take_u32(input)? as usize;
    let (head, rest) = input.split_at_checked(len).ok_or_else(malformed)?;
    *input = rest;
    Ok(head)
}

fn take_text<'a>(input: &mut &'a [u8]) -> SqlResult<&'a str> {
    std::str::from_utf8(take_bytes(input)?).map_err(|_| malformed())
}

fn take_columns(input: &mut &[u8]) -> SqlResult<ColumnList> {
    let count = usize::from(u16::from_le_bytes(take_array(input)?));
    if count > MAX_COLUMNS {
        return Err(malformed());
    }
    (0..count).map(|_| take_array(input).map(u16::from_le_bytes)).collect()
}

fn take_sequences(input: &mut &[u8]) -> SqlResult<Vec<u64>> {
    let count = take_u32(input)?;
    (0..count).map(|_| take_u64(input)).collect()
}

fn take_fence(input: &mut &[u8]) -> SqlResult<Fence> {
    let below = Incarnation(u64::from_le_bytes(take_array(input)?));
    let count = take_u32(input)?;
    let alive = (0..count).map(|_| take_array(input).map(|bytes| Incarnation(u64::from_le_bytes(bytes))));
    Ok(Fence { below, alive: alive.collect::<SqlResult<_>>()? })
}

// Writing to memory fails only for types that postcard cannot represent, and neither catalogs nor errors have any.

fn catalog_bytes(catalog: &Catalog) -> Vec<u8> {
    postcard::to_stdvec(catalog).unwrap_or_default()
}

fn error_bytes(error: &SqlError) -> Vec<u8> {
    postcard::to_stdvec(error).unwrap_or_default()
}

fn take_error(bytes: &[u8]) -> SqlResult<SqlError> {
    decode(bytes).map_err(|_| malformed())
}

fn take_catalog(bytes: &[u8]) -> SqlResult<Catalog> {
    decode(bytes).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Change<'static>> {
        let transaction = TransactionId { proxy: Incarnation(3), number: 5 };
        let participants = Participants::from_slice(&[PartitionId(2), PartitionId(300)]);
        vec![
            Change::Insert { table: TableId(7), count: 2, rows: b"abcdef" },
            Change::Update {
                table: TableId(7),
                position: Position(9),
                columns: ColumnList::from_slice(&[0, 3]),
                values: b"xyz",
            },
            Change::Delete { table: TableId(8), position: Position(u32::MAX) },
            Change::Truncate { table: TableId(1) },
            Change::Catalog(Arc::new(Catalog::empty())),
            Change::Forbidden(SqlError::internal("reason")),
            Change::Fence(Fence { below: Incarnation(9), alive: [3, 4].map(Incarnation).into() }),
            Change::UpdateOwn { table: TableId(7), own: 1, columns: ColumnList::from_slice(&[2]), values: b"z" },
            Change::DeleteOwn { table: TableId(7), own: 2 },
            Change::Chunk { transaction, keep: 6, changes: b"abc" },
            Change::Prepare { transaction, anchor: PartitionId(2), reserve: 7, keep: 8, changes: b"d" },
            Change::Commit { transaction },
            Change::Abort { transaction },
            Change::Outcome { transaction, fate: Fate::Committed, participants },
            Change::Outcome { transaction, fate: Fate::Aborted, participants: Participants::new() },
            Change::Confirmed { transaction, participant: PartitionId(300) },
            Change::Forget { transaction },
            Change::Answered { proxy: Incarnation(3), below: 9, but: vec![4, 7] },
            Change::Keep(Keep::Row { table: TableId(7), position: Position(2), strength: Strength::Share }),
            Change::Keep(Keep::Range { index: IndexId(8), prefix: b"key" }),
            Change::Keep(Keep::Table { table: TableId(9) }),
            Change::Advise {
                session: transaction,
                key: AdvisoryKey { pair: true, key: -2 },
                shared: false,
                takes: true,
            },
            Change::Dismiss { session: transaction },
            Change::Keep(Keep::Advisory {
                key: AdvisoryKey { pair: false, key: 1 },
                shared: true,
                session: transaction,
            }),
            Change::Notify { channel: "c", payload: "text", process: 7 },
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut bytes = Vec::new();
        samples().iter().for_each(|change| change.write(&mut bytes));
        assert_eq!(Change::read_all(&bytes).unwrap(), samples());
    }

    #[test]
    fn the_bytes_of_an_update_stay_as_they_are() {
        let mut bytes = Vec::new();
        samples()[1].write(&mut bytes);
        assert_eq!(bytes, [2, 7, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 3, 0, 3, 0, 0, 0, b'x', b'y', b'z']);
    }

    #[test]
    fn the_bytes_of_what_transactions_write_stay_as_they_are() {
        const T: [u8; 16] = [3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        let golden: [&[&[u8]]; 18] = [
            &[&[8, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 2, 0, 1, 0, 0, 0, b'z']],
            &[&[9, 7, 0, 0, 0, 2, 0, 0, 0]],
            &[&[10], &T, &[6, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c']],
            &[&[11], &T, &[2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'd']],
            &[&[12], &T],
            &[&[13], &T],
            &[&[14], &T, &[1, 2, 0, 0, 0, 2, 0, 44, 1]],
            &[&[14], &T, &[0, 0, 0, 0, 0]],
            &[&[15], &T, &[44, 1]],
            &[&[16], &T],
            &[&[
                17, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0,
                0, 0, 0,
            ]],
            &[&[18, 7, 0, 0, 0, 2, 0, 0, 0, 1]],
            &[&[19, 8, 0, 0, 0, 3, 0, 0, 0, b'k', b'e', b'y']],
            &[&[20, 9, 0, 0, 0]],
            &[&[21], &T, &[5, 254, 255, 255, 255, 255, 255, 255, 255]],
            &[&[22], &T],
            &[&[23], &T, &[6, 1, 0, 0, 0, 0, 0, 0, 0]],
            &[&[24, 7, 0, 0, 0, 1, 0, 0, 0, b'c', 4, 0, 0, 0, b't', b'e', b'x', b't']],
        ];
        for (change, golden) in samples()[7..].iter().zip(golden) {
            let mut bytes = Vec::new();
            change.write(&mut bytes);
            assert_eq!(bytes, golden.concat(), "{change:?}");
        }
    }

    #[test]
    fn truncated_and_foreign_bytes_are_errors() {
        for change in samples() {
            let mut bytes = Vec::new();
            change.write(&mut bytes);
            for len in 1..bytes.len() {
                let error = Change::read_all(&bytes[..len]).unwrap_err();
                assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
            }
        }
        assert!(Change::read_all(&[0]).is_err());
        assert!(Change::read_all(&[99, 1, 2, 3]).is_err());
    }
}
