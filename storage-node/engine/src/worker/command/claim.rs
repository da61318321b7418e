//! What a statement needs of the partition's locks: before it reads, for the rows that it changes, and for their keys.

use super::statement::Statement;
use crate::lock::{Key, LockTable, WaitId, Want};
use crate::store::account::Account;
use crate::store::change::{Change, Keep};
use crate::store::root::Root;
use crate::store::table::{Position, TableRows};
use crate::store::write_set::{Overlay, Side, Touch, WriteSet, touches_of};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::datum::DatumRef;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{IndexId, TableId, TransactionId};
use toroid_common::plan::{Access, Conflict, LockWait, RowLock, Strength, TableLock};
use toroid_common::row::RowReader;
use toroid_common::transaction::Level;
use toroid_common::wire::Within;

/// Why a statement is not finished.
#[derive(Debug)]
pub(super) enum Stop {
    /// Its rows must be looked for outside the thread.
    Find,
    /// Somebody stands in the way of this.
    Wait(Want<Key>),
    Error(SqlError),
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Stop {
        Stop::Error(error)
    }
}

/// How others are kept from what a statement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It reads what nobody changes any more.
    Cut,
    /// What may have been committed already must have been applied.
    Settled,
    /// What is read stays as it is until the transaction ends.
    Locked,
}

impl Reading {
    pub(super) fn of(within: Option<&Within>) -> Reading {
        match within.map(|within| (within.cut, within.level)) {
            Some((Some(_), _)) => Reading::Cut,
            Some((None, Level::Serializable)) => Reading::Locked,
            Some((None, Level::ReadCommitted | Level::RepeatableRead)) | None => Reading::Settled,
        }
    }
}

/// The locks as one statement sees them.
pub(super) struct Claim<'a> {
    pub locks: &'a mut LockTable,
    pub transaction: Option<TransactionId>,
    pub wait: Option<WaitId>,
    /// How many bytes of locks there may be.
    pub room: usize,
}

impl Claim<'_> {
    /// Takes a lock if it is to be had; a statement that commits by itself only sees that it is.
    fn take(&mut self, want: &Want<&[u8]>) -> SqlResult<bool> {
        let free = self.locks.is_free(want, self.transaction, self.wait);
        if let Some(transaction) = self.transaction.filter(|_| free)
            && self.locks.take(transaction, want)
            && self.locks.bytes() > self.room
        {
            return Err(SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory"));
        }
        Ok(free)
    }

    fn need(&mut self, want: &Want<&[u8]>) -> Result<(), Stop> {
        match self.take(want)? {
            true => Ok(()),
            false => Err(Stop::Wait(want.keep())),
        }
    }

    /// Before rows are read by this access.
    pub(super) fn read(
        &mut self,
        statement: &Statement<'_>,
        rows: &TableRows,
        access: &Access,
        reading: Reading,
    ) -> Result<(), Stop> {
        let table = rows.definition().id;
        self.enter(table, TableLock::AccessShare)?;
        match (access, reading) {
            // Keys that come with the request are looked at one by one.
            (_, Reading::Cut) | (Access::Keys { .. } | Access::Table { .. }, _) => Ok(()),
            (Access::Scan, Reading::Settled) => self.need(&Want::SettledTable { table }),
            (Access::Scan, Reading::Locked) => self.need(&Want::Read { table }),
            (Access::Index { index, key, .. }, reading) => {
                let Some(prefix) = statement.key(rows, *index, key)? else { return Ok(()) };
                let (index, prefix) = (*index, prefix.as_slice());
                self.need(&match reading {
                    Reading::Locked => Want::Range { index, prefix },
                    Reading::Settled | Reading::Cut => Want::SettledRange { index, prefix },
                })
            }
        }
    }

    /// Before anything is done in a table for which it must not be locked by others in certain modes.
    fn enter(&mut self, table: TableId, mode: TableLock) -> Result<(), Stop> {
        let want: Want<&[u8]> = Want::Table { table, mode };
        match !self.locks.has_tables() || self.locks.is_free(&want, self.transaction, self.wait) {
            true => Ok(()),
            false => Err(Stop::Wait(want.keep())),
        }
    }

    /// Locks a table.
    pub(super) fn lock_table(&mut self, rows: &TableRows, mode: TableLock, wait: LockWait) -> Result<(), Stop> {
        let want: Want<&[u8]> = Want::Table { table: rows.definition().id, mode };
        match (self.take(&want)?, wait) {
            (true, _) => Ok(()),
            (false, LockWait::Wait | LockWait::Skip) => Err(Stop::Wait(want.keep())),
            (false, LockWait::Fail) if self.locks.is_settling(&want, self.transaction) => Err(Stop::Wait(want.keep())),
            (false, LockWait::Fail) => {
                let message = format!("could not obtain lock on relation \"{}\"", rows.definition().name);
                Err(SqlError::new(SqlState::LOCK_NOT_AVAILABLE, message).into())
            }
        }
    }

    /// Before it is decided which rows of an INSERT conflict with others: whose keys those are must be settled.
    pub(super) fn arbitrate(
        &mut self,
        rows: &TableRows,
        conflict: &Conflict,
        (count, bytes): (u32, &[u8]),
        reading: Reading,
    ) -> Result<(), Stop> {
        if self.transaction.is_none() && self.locks.is_empty() {
            return Ok(());
        }
        let mut reader = RowReader::new(bytes);
        let mut row = Vec::with_capacity(rows.types().len());
        for _ in 0..count {
            row.clear();
            reader.read(rows.types(), &mut row)?;
            for index in conflict.arbiters.iter().filter_map(|id| rows.index(*id)) {
                let value = |column: u16| row.get(usize::from(column)).copied().unwrap_or(DatumRef::Null);
                if let Some(key) = index.key(index.columns().iter().map(|column| value(column.column))) {
                    let want: Want<&[u8]> = Want::Bring { index: index.id(), key: &key };
                    // Who does nothing about a row that is there lets others do as they like.
                    let stays = conflict.update.is_none() && reading != Reading::Locked;
                    let stays = stays && rows.get(index, &key).is_some();
                    if !stays || !self.locks.is_free(&want, self.transaction, self.wait) {
                        self.need(&want)?;
                    }
                    if reading == Reading::Locked {
                        self.need(&Want::Range { index: index.id(), prefix: &key })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Before rows are returned that stay locked: those that are to be had or, if it does not matter, the others not.
    pub(super) fn lock_rows(
        &mut self,
        rows: &TableRows,
        lock: RowLock,
        wanted: Vec<Position>,
        is_own: impl Fn(Position) -> bool,
    ) -> Result<Vec<Position>, Stop> {
        let mut had = Vec::with_capacity(wanted.len());
        for position in wanted {
            if is_own(position) || self.lock_row(rows, lock, position)? {
                had.push(position);
            }
        }
        Ok(had)
    }

    /// Before a row is returned that stays locked; false when it is passed over.
    pub(super) fn lock_row(&mut self, rows: &TableRows, lock: RowLock, position: Position) -> Result<bool, Stop> {
        let want = Want::Row { table: rows.definition().id, position, strength: lock.strength };
        if self.take(&want)? {
            return Ok(true);
        }
        match lock.wait {
            LockWait::Wait => Err(Stop::Wait(want.keep())),
            // Their locks are given back as far as anybody was told.
            LockWait::Skip | LockWait::Fail if self.locks.is_settling(&want, self.transaction) => {
                Err(Stop::Wait(want.keep()))
            }
            LockWait::Skip => Ok(false),
            LockWait::Fail => {
                let message = format!("could not obtain lock on row in relation \"{}\"", rows.definition().name);
                Err(SqlError::new(SqlState::LOCK_NOT_AVAILABLE, message).into())
            }
        }
    }

    /// Before it is looked who has a key that comes with a request.
    pub(super) fn read_key(&mut self, index: IndexId, key: &[u8], reading: Reading) -> Result<(), Stop> {
        match reading {
            Reading::Cut => Ok(()),
            Reading::Settled => self.need(&Want::SettledRange { index, prefix: key }),
            Reading::Locked => self.need(&Want::Range { index, prefix: key }),
        }
    }

    /// Before changes are made: the table first, then the rows, in their order, then the keys that go and come.
    pub(super) fn change(
        &mut self,
        changes: &[Change<'_>],
        (table, base): (TableId, &Root),
        overlay: Option<&Overlay>,
    ) -> Result<(), Stop> {
        if self.transaction.is_none() && self.locks.is_empty() {
            return Ok(());
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.enter(table, TableLock::RowExclusive)?;
        self.need(&Want::Write { table })?;
        let mut keys = Keys::default();
        for change in changes {
            let mut row = None;
            touches(change, base, overlay, |touch| match touch {
                Touch::Row { table, position, exclusive } => {
                    let strength = if exclusive { Strength::Update } else { Strength::NoKeyUpdate };
                    row = Some(Want::Row { table, position, strength });
                }
                Touch::Key { index, key, unique, side, .. } => keys.push(index, key, unique && side == Side::New),
            })?;
            if let Some(want) = row {
                self.need(&want)?;
            }
        }
        for (index, key, comes) in keys.iter() {
            if comes {
                self.need(&Want::Bring { index, key })?;
            }
            self.need(&Want::Touch { index, key })?;
        }
        Ok(())
    }
}

/// What a change on this state touches.
fn touches(change: &Change<'_>, base: &Root, overlay: Option<&Overlay>, visit: impl FnMut(Touch<'_>)) -> SqlResult<()> {
    match overlay {
        Some(overlay) => overlay.touches(&overlay.name(change.clone()), visit),
        None => base.touches(change, visit),
    }
}

/// The rows of the root that changes touch.
pub(super) fn rows_of(changes: &[Change<'_>], base: &Root, overlay: Option<&Overlay>) -> SqlResult<Vec<Position>> {
    let mut found = Vec::new();
    for change in changes {
        touches(change, base, overlay, |touch| {
            if let Touch::Row { position, .. } = touch {
                found.push(position);
            }
        })?;
    }
    Ok(found)
}

/// Keys that are touched, in one buffer.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    all: Vec<(IndexId, usize, bool)>,
}

impl Keys {
    fn push(&mut self, index: IndexId, key: &[u8], comes: bool) {
        self.bytes.extend_from_slice(key);
        self.all.push((index, self.bytes.len(), comes));
    }

    fn iter(&self) -> impl Iterator<Item = (IndexId, &[u8], bool)> {
        let mut start = 0;
        self.all.iter().map(move |(index, end, comes)| {
            let key = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            (*index, key, *comes)
        })
    }
}

/// More rows or ranges of one table than these are kept as the whole table, by who does not hold their locks himself.
const MOST_KEPT: usize = 4_096;

/// What a transaction has locked beside the rows that it changes: its write set's last part, for whoever is primary after this one.
pub(super) fn keeps<'a>(
    locks: &'a LockTable,
    transaction: TransactionId,
    writes: &WriteSet,
    root: &Root,
) -> SqlResult<Vec<Change<'a>>> {
    use TableLock::{
        AccessExclusive, AccessShare, Exclusive, RowExclusive, RowShare, Share, ShareRowExclusive, ShareUpdateExclusive,
    };
    let mut changed: Vec<(TableId, Position)> = Vec::new();
    for change in writes.changes() {
        if let Change::Update { table, position, .. } | Change::Delete { table, position } = change? {
            changed.push((table, position));
        }
    }
    changed.sort_unstable();
    let of_index = |index| root.tables().find(|table| table.index(index).is_some()).map(|table| table.definition().id);
    let mut found: BTreeMap<Option<TableId>, Vec<Keep<'a>>> = BTreeMap::new();
    let mut whole: BTreeSet<TableId> = BTreeSet::new();
    for want in locks.kept_by(transaction) {
        let (table, keep) = match want {
            Want::Row { table, position, .. } if changed.binary_search(&(table, position)).is_ok() => continue,
            Want::Row { table, position, strength } => (Some(table), Keep::Row { table, position, strength }),
            Want::Range { index, prefix } => (of_index(index), Keep::Range { index, prefix }),
            Want::Advisory { key, shared, session } => (None, Keep::Advisory { key, shared, session }),
            // What keeps those who write away is kept; the rest only concerns who locks a table, and the outcome is near.
            Want::Read { table }
            | Want::Table { table, mode: Share | ShareRowExclusive | Exclusive | AccessExclusive } => {
                whole.insert(table);
                continue;
            }
            Want::Table { mode: AccessShare | RowShare | RowExclusive | ShareUpdateExclusive, .. }
            | Want::Bring { .. }
            | Want::Touch { .. }
            | Want::Write { .. }
            | Want::SettledRange { .. }
            | Want::SettledTable { .. } => continue,
        };
        let of_table = found.entry(table).or_default();
        of_table.push(keep);
        if let Some(table) = table.filter(|_| of_table.len() > MOST_KEPT) {
            of_table.clear();
            whole.insert(table);
        }
    }
    let single = found.into_iter().filter(|(table, _)| table.is_none_or(|table| !whole.contains(&table)));
    let single = single.flat_map(|(_, keeps)| keeps);
    let kept = whole.iter().map(|table| Keep::Table { table: *table }).chain(single);
    Ok(kept.map(Change::Keep).collect())
}

/// Takes every lock that a write set needs: of a transaction that is prepared, at a new primary, where nobody holds any.
pub(super) fn lock_prepared(
    locks: &mut LockTable,
    transaction: TransactionId,
    root: &Root,
    account: &mut Account,
) -> SqlResult<()> {
    let Some(prepared) = root.transactions().prepared(transaction) else { return Ok(()) };
    touches_of(prepared.changes(), root, account, |touch| {
        let want = match touch {
            Touch::Row { table, position, exclusive } => {
                let strength = if exclusive { Strength::Update } else { Strength::NoKeyUpdate };
                Want::Row { table, position, strength }
            }
            Touch::Key { index, key, .. } => Want::Touch { index, key },
        };
        debug_assert!(locks.is_free(&want, Some(transaction), None), "prepared transactions lock different things");
        locks.take(transaction, &want);
    })?;
    for table in prepared.tables() {
        locks.take(transaction, &Want::Write { table: *table });
    }
    for change in prepared.changes().changes() {
        let Change::Keep(keep) = change? else { continue };
        locks.take(
            transaction,
            &match keep {
                Keep::Row { table, position, strength } => Want::Row { table, position, strength },
                Keep::Range { index, prefix } => Want::Range { index, prefix },
                Keep::Table { table } => Want::Read { table },
                Keep::Advisory { key, shared, session } => Want::Advisory { key, shared, session },
            },
        );
    }
    locks.prepare(transaction);
    Ok(())
}
