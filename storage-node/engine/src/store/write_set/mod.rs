//! Write sets: what an open transaction has changed in a partition and not applied, and the state that it sees.
//!
//! A statement is computed on the root, or on an [`Overlay`] where the transaction has changed the table before; its changes are checked there, named for
//! the write set ([`Overlay::name`]) and appended ([`WriteSet::push`]). In the end the write set becomes an entry: [`WriteSet::commit`] or
//! [`WriteSet::prepare`], and in between, when it is large, [`WriteSet::chunk`].
//!
//! Rows that the root has are named by position: the transaction has locked them, and positions of live rows stay. Rows that the transaction inserted are
//! named by number, because others insert meanwhile.

mod overlay;
mod touches;

pub use overlay::Overlay;
pub use touches::{Side, Touch, touches_of};

use crate::store::account::Account;
use crate::store::change::{Change, ChangeList, changes_in};
use crate::store::root::Root;
use smallvec::SmallVec;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, PartitionId, TableId, TransactionId};

/// A length of a write set, to which it can be cut back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// The changes of one open transaction in one partition, in order.
#[derive(Debug, Default)]
pub struct WriteSet {
    /// What all replicas hold in chunks; shared with the root.
    replicated: ChangeList,
    /// Whether any chunk was made, even if all of it was rolled back.
    chunked: bool,
    /// What comes behind it.
    rest: Vec<u8>,
    /// The tables that are changed, as they were when that began.
    tables: SmallVec<[(TableId, CatalogVersion); 2]>,
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
        self.tables.iter().any(|(id, _)| *id == table)
    }

    /// The tables whose rows are changed.
    pub fn tables(&self) -> impl Iterator<Item = TableId> {
        self.tables.iter().map(|(id, _)| *id)
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

    /// Where it ends now.
    pub fn mark(&self) -> Mark {
        Mark(self.bytes())
    }

    /// Appends changes of rows that were checked: rows of its own named by number ([`Overlay::name`]). 53200 when there is no room, and then nothing is
    /// appended.
    pub fn push(&mut self, changes: &[Change<'_>], root: &Root, account: &mut Account) -> SqlResult<()> {
        let (length, before) = (self.rest.len(), self.rest.capacity());
        self.rest.reserve(changes.iter().map(Change::encoded_bytes).sum());
        for change in changes {
            change.write(&mut self.rest);
        }
        let grown = self.rest.capacity() - before;
        if let Err(error) = account.room(grown) {
            self.rest.truncate(length);
            account.take(grown);
            return Err(error);
        }
        account.take(grown);
        for table in changes.iter().filter_map(Change::table_of_rows) {
            if !self.changes_table(table) {
                let version = root.table(table).map(|table| table.definition().version);
                self.tables.push((table, version.unwrap_or_default()));
            }
        }
        Ok(())
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
        let mut left: SmallVec<[TableId; 2]> = SmallVec::new();
        for change in self.changes() {
            if let Some(table) = change?.table_of_rows()
                && !left.contains(&table)
            {
                left.push(table);
            }
        }
        self.tables.retain(|(id, _)| left.contains(id));
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
        for (table, version) in &self.tables {
            if root.table(*table).map(|table| table.definition().version) != Some(*version) {
                return Err(SqlError::new(
                    SqlState::SERIALIZATION_FAILURE,
                    "could not serialize access due to a concurrent change of a table's definition",
                ));
            }
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
    }

    /// Whether the root has chunks of it.
    pub fn is_chunked(&self) -> bool {
        self.chunked
    }

    pub(super) fn cuts(&self) -> u32 {
        self.cuts
    }
}
