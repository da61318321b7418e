//! Write sets: what an open transaction has changed in a partition and not applied, and the state that it sees.
//!
//! A statement is computed on the root, or on an [`Overlay`] where the transaction has changed the table before; its changes are checked there, named for
//! the write set ([`Overlay::name`]) and appended ([`WriteSet::push`]). In the end the write set becomes an entry: [`WriteSet::commit`] or
//! [`WriteSet::prepare`], and in between, when it is large, [`WriteSet::chunk`].
//!
//! Rows that the root has are named by position: the transaction has locked them, and positions of live rows stay. Rows that the transaction inserted are
//! named by number, because others insert meanwhile.

mod inserted;
mod overlay;
mod touches;

pub use overlay::Overlay;
pub use touches::{Side, Touch, touches_of};

use crate::store::account::Account;
use crate::store::change::{Change, ChangeList, changes_in};
use crate::store::root::Root;
use crate::store::table::TableRows;
use inserted::Inserted;
use smallvec::SmallVec;
use std::sync::Arc;
use toroid_common::catalog::{Catalog, Table};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, PartitionId, TableId, TransactionId};

/// A length of a write set, to which it can be cut back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// A table that is changed.
#[derive(Clone, Copy, Debug)]
struct Written {
    table: TableId,
    /// As it was when that began.
    version: CatalogVersion,
    /// Nothing but inserted into.
    only_inserts: bool,
}

/// The changes of one open transaction in one partition, in order.
#[derive(Debug, Default)]
pub struct WriteSet {
    /// What all replicas hold in chunks; shared with the root.
    replicated: ChangeList,
    /// Whether any chunk was made, even if all of it was rolled back.
    chunked: bool,
    /// What comes behind it.
    rest: Vec<u8>,
    tables: SmallVec<[Written; 2]>,
    /// Keys of what was inserted, where only that was done.
    inserted: Option<Box<Inserted>>,
    /// How often it was cut: what was made of it before may differ.
    cuts: u32,
}

impl WriteSet {
    /// Bytes of the encoded changes.
    pub fn bytes(&self) -> u64 {
        self.replicated.bytes() + self.rest.len() as u64
    }

    /// Bytes that only the primary has.
    pub fn unreplicated(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Whether rows of this table are changed: if not, what a statement sees of it is the root's.
    pub fn changes_table(&self, table: TableId) -> bool {
        self.tables.iter().any(|written| written.table == table)
    }

    fn only_inserts_into(&self, table: TableId) -> bool {
        self.tables.iter().all(|written| written.table != table || written.only_inserts)
    }

    /// The tables whose rows are changed.
    pub fn tables(&self) -> impl Iterator<Item = TableId> {
        self.tables.iter().map(|written| written.table)
    }

    /// 40001 when the table is not what it was when the write set began to change it.
    pub fn expect_version(&self, table: TableId, root: &Root) -> SqlResult<()> {
        self.expect_table(table, root.table(table).map(TableRows::definition))
    }

    /// 40001 when a catalog alters or drops a table that the write set changes. Nothing may be prepared that a catalog waits for which is to be
    /// followed next ([`Root::waits_for_prepared`]): it might wait for ever.
    pub fn expect_catalog(&self, catalog: &Catalog) -> SqlResult<()> {
        self.tables().try_for_each(|table| self.expect_table(table, catalog.table(table)))
    }

    fn expect_table(&self, table: TableId, now: Option<&Arc<Table>>) -> SqlResult<()> {
        let Some(written) = self.tables.iter().find(|written| written.table == table) else { return Ok(()) };
        match now.map(|table| table.version) {
            Some(version) if version == written.version => Ok(()),
            Some(_) | None => Err(SqlError::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to a concurrent change of a table's definition",
            )),
        }
    }

    /// All changes in order.
    pub fn changes(&self) -> impl Iterator<Item = SqlResult<Change<'_>>> {
        self.changes_from(Mark(0))
    }

    /// The changes behind a mark.
    pub fn changes_from(&self, mark: Mark) -> impl Iterator<Item = SqlResult<Change<'_>>> {
        let before = self.replicated.bytes();
        let rest = self.rest.get(mark.0.saturating_sub(before) as usize..).unwrap_or_default();
        self.replicated.changes_from(mark.0).chain(changes_in(rest))
    }

    /// What it was at a mark, for a look back. Its memory is counted with this one's: it must not outlive the step.
    pub fn until(&self, mark: Mark) -> SqlResult<WriteSet> {
        let mut replicated = self.replicated.clone();
        replicated.cut(mark.0);
        let length = mark.0.saturating_sub(self.replicated.bytes()) as usize;
        let rest = self.rest.get(..length.min(self.rest.len())).unwrap_or_default().to_vec();
        let mut before = WriteSet { replicated, rest, tables: self.tables.clone(), ..WriteSet::default() };
        before.forget_tables()?;
        Ok(before)
    }

    /// Where it ends now.
    pub fn mark(&self) -> Mark {
        Mark(self.bytes())
    }

    /// Appends changes of rows that were checked: rows of its own named by number ([`Overlay::name`]). 53200 when there is no room, and then nothing is
    /// appended.
    pub fn push(&mut self, changes: &[Change<'_>], root: &Root, account: &mut Account) -> SqlResult<()> {
        let length = self.rest.len();
        let grown = self.write(changes);
        let room = account.room(grown);
        account.take(grown);
        match &room {
            Ok(()) => self.note_tables(changes, root),
            Err(_) => self.rest.truncate(length),
        }
        room
    }

    /// The same where it must be done, room or not.
    fn push_anyway(&mut self, changes: &[Change<'_>], root: &Root, account: &mut Account) {
        account.take(self.write(changes));
        self.note_tables(changes, root);
    }

    /// How many bytes it takes more.
    fn write(&mut self, changes: &[Change<'_>]) -> usize {
        let before = self.rest.capacity();
        self.rest.reserve(changes.iter().map(Change::encoded_bytes).sum());
        for change in changes {
            change.write(&mut self.rest);
        }
        self.rest.capacity() - before
    }

    fn note_tables(&mut self, changes: &[Change<'_>], root: &Root) {
        for change in changes {
            let Some(table) = change.table_of_rows() else { continue };
            let inserts = matches!(change, Change::Insert { .. });
            match self.tables.iter_mut().find(|written| written.table == table) {
                Some(written) => written.only_inserts &= inserts,
                None => {
                    let version = root.table(table).map(|table| table.definition().version).unwrap_or_default();
                    self.tables.push(Written { table, version, only_inserts: inserts });
                }
            }
        }
    }

    /// Forgets all behind the mark.
    pub fn cut(&mut self, mark: Mark, account: &mut Account) -> SqlResult<()> {
        if mark.0 >= self.bytes() {
            return Ok(());
        }
        self.cuts += 1;
        let before = self.replicated.bytes();
        self.rest.truncate(mark.0.saturating_sub(before) as usize);
        self.replicated.cut(mark.0).into_iter().for_each(|piece| account.finish_bytes(piece));
        self.forget_tables()
    }

    /// Forgets tables that are not changed any more.
    fn forget_tables(&mut self) -> SqlResult<()> {
        let mut left: SmallVec<[TableId; 2]> = SmallVec::new();
        for change in self.changes() {
            if let Some(table) = change?.table_of_rows()
                && !left.contains(&table)
            {
                left.push(table);
            }
        }
        self.tables.retain(|written| left.contains(&written.table));
        Ok(())
    }

    /// The entry that replicates what only the primary has. Once it is appended: [`WriteSet::chunked`].
    pub fn chunk(&self, transaction: TransactionId) -> Change<'_> {
        Change::Chunk { transaction, keep: self.replicated.bytes(), changes: &self.rest }
    }

    /// The chunk is part of the root, which shares it from now on.
    pub fn chunked(&mut self, transaction: TransactionId, root: &Root, account: &mut Account) {
        let Some(list) = root.transactions().chunks(transaction) else { return };
        assert_eq!(list.bytes(), self.bytes(), "the chunks of transaction {transaction} are all that it changed");
        let shares = std::mem::replace(&mut self.replicated, list.clone());
        account.finish_list(shares);
        account.free(self.rest.capacity());
        (self.rest, self.chunked) = (Vec::new(), true);
    }

    /// Whether it can be applied to this state, as far as locks do not see to it: 40001 when a table was altered in the meantime, 53200 when there is no
    /// room. The most bytes that applying it takes.
    pub fn check(&self, root: &Root, account: &Account) -> SqlResult<u64> {
        for table in self.tables() {
            self.expect_version(table, root)?;
        }
        let bytes = root.cost_of(self.changes())?;
        if bytes > 0 {
            account.room(bytes)?;
        }
        Ok(bytes as u64)
    }

    /// The entry's changes that apply it in one step, after [`WriteSet::check`].
    pub fn commit(&self, transaction: TransactionId) -> SqlResult<SmallVec<[Change<'_>; 4]>> {
        if self.chunked {
            return Ok(SmallVec::from_iter([self.chunk(transaction), Change::Commit { transaction }]));
        }
        self.changes().collect()
    }

    /// The change that prepares it, after [`WriteSet::check`], which said what to reserve.
    pub fn prepare(&self, transaction: TransactionId, anchor: PartitionId, reserve: u64) -> Change<'_> {
        Change::Prepare { transaction, anchor, reserve, keep: self.replicated.bytes(), changes: &self.rest }
    }

    /// Gives its memory back, whatever became of it. Where chunks were made and it was neither committed nor prepared, the root is to have an entry
    /// with [`Change::Abort`].
    pub fn finish(self, account: &mut Account) {
        account.free(self.rest.capacity());
        account.finish_list(self.replicated);
        self.inserted.into_iter().for_each(|inserted| inserted.finish(account));
    }

    /// Whether the root has chunks of it.
    pub fn is_chunked(&self) -> bool {
        self.chunked
    }

    pub(super) fn cuts(&self) -> u32 {
        self.cuts
    }
}
