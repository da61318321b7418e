//! The state that a transaction sees: a root with its write set laid over, table by table.

use super::{Mark, WriteSet};
use crate::store::account::Account;
use crate::store::change::Change;
use crate::store::root::{OwnRows, Root};
use crate::store::table::{Position, TableRows};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::TableId;
use toroid_common::limits::CHUNK_ROWS;

/// Chunks of which an overlay remembers that it changed them.
const MAX_TOUCHED: usize = 32;

/// Changed rows that are laid over anew for each statement rather than kept.
const MAX_MADE_AGAIN: usize = 64;
/// What the number and the position of a row take, about.
const OWN_ROW_BYTES: usize = 32;

/// A root on which some tables have the rows of a write set. Kept between statements it is brought up to date by what was added.
#[derive(Debug)]
pub struct Overlay {
    root: Root,
    laid: SmallVec<[Laid; 1]>,
}

/// A table over which the write set was laid.
#[derive(Debug)]
struct Laid {
    table: TableId,
    /// The table without the write set. While it is held here, nobody changes it in place: another one in the root is a sign of changes.
    base: Arc<TableRows>,
    own: OwnRows,
    /// The numbers of its own rows by position.
    numbers: BTreeMap<Position, u32>,
    /// The chunks that differ from the base; none when they are too many to be remembered.
    touched: Option<SmallVec<[usize; 4]>>,
    /// How far the write set is laid over.
    mark: Mark,
    cuts: u32,
    /// How many changed rows were laid over.
    changes: usize,
    /// Memory that the numbers of its own rows take.
    charged: usize,
}

impl Overlay {
    /// The root itself; tables are laid over when they are needed.
    pub fn new(root: &Root) -> Overlay {
        Overlay { root: root.clone(), laid: SmallVec::new() }
    }

    /// The state that the transaction sees in all tables that were laid over. Its LSN is that of the root below.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Makes this table what the transaction sees on top of `root`, which may be another one than last time. 40001 when the table was altered since the
    /// transaction changed it.
    pub fn lay(&mut self, root: &Root, write_set: &WriteSet, table: TableId, account: &mut Account) -> SqlResult<()> {
        self.settle_on(root, write_set, account);
        if !write_set.changes_table(table) {
            return Ok(());
        }
        write_set.expect_version(table, root)?;
        let at = match self.laid.iter().position(|laid| laid.table == table) {
            Some(at) => at,
            None => {
                let base = root.shared_table(table).ok_or_else(|| no_table(table))?;
                // A cut has tables later that it had not when this was begun.
                if !self.root.has_table(table, &base) {
                    self.root.take_table(table, root, account);
                }
                let (own, numbers) = (OwnRows::default(), BTreeMap::new());
                let touched = Some(SmallVec::new());
                let cuts = write_set.cuts();
                self.laid.push(Laid {
                    table,
                    base,
                    own,
                    numbers,
                    touched,
                    mark: Mark(0),
                    cuts,
                    changes: 0,
                    charged: 0,
                });
                self.laid.len() - 1
            }
        };
        let Overlay { root, laid } = self;
        let Some(laid) = laid.get_mut(at) else { return Ok(()) };
        for change in write_set.changes_from(laid.mark) {
            let change = change?;
            if change.table_of_rows() == Some(table) {
                laid.apply(root, &change, account);
                laid.changes += if let Change::Insert { count, .. } = change { count as usize } else { 1 };
            }
        }
        laid.mark = write_set.mark();
        let numbered = laid.own.rows(table).len() * OWN_ROW_BYTES;
        account.take(numbered - laid.charged);
        laid.charged = numbered;
        Ok(())
    }

    /// [`Overlay::lay`] for every table that the write set changes.
    pub fn lay_all(&mut self, root: &Root, write_set: &WriteSet, account: &mut Account) -> SqlResult<()> {
        self.settle_on(root, write_set, account);
        write_set.tables().try_for_each(|table| self.lay(root, write_set, table, account))
    }

    /// Goes over to this root. What was laid over stays where the table below is still the same.
    fn settle_on(&mut self, root: &Root, write_set: &WriteSet, account: &mut Account) {
        let mut gone: SmallVec<[Laid; 1]> = SmallVec::new();
        let mut at = 0;
        while let Some(laid) = self.laid.get(at) {
            let same = root.has_table(laid.table, &laid.base);
            if same && laid.cuts == write_set.cuts() && write_set.changes_table(laid.table) {
                at += 1;
            } else {
                gone.push(self.laid.swap_remove(at));
            }
        }
        if gone.is_empty() && self.root.lsn() == root.lsn() {
            return;
        }
        let mut fresh = root.clone();
        for laid in &self.laid {
            fresh.take_table(laid.table, &self.root, account);
        }
        finish(std::mem::replace(&mut self.root, fresh), gone, account);
    }

    /// Whether making it again would cost more than what others pay while it is kept: they copy what it shares before they change it. A small one is
    /// better finished at the end of the statement.
    pub fn is_worth_keeping(&self) -> bool {
        self.laid.iter().map(|laid| laid.changes).sum::<usize>() > MAX_MADE_AGAIN
    }

    /// The same change for the write set: rows that the transaction inserted are named by number.
    pub fn name<'a>(&self, change: Change<'a>) -> Change<'a> {
        let number = |table, position| self.laid(table).and_then(|laid| laid.numbers.get(&position)).copied();
        match change {
            Change::Update { table, position, columns, values } => match number(table, position) {
                Some(own) => Change::UpdateOwn { table, own, columns, values },
                None => Change::Update { table, position, columns, values },
            },
            Change::Delete { table, position } => match number(table, position) {
                Some(own) => Change::DeleteOwn { table, own },
                None => Change::Delete { table, position },
            },
            other => other,
        }
    }

    /// The same change for this state: rows that the transaction inserted are named by where they stand here.
    pub fn place<'a>(&self, change: Change<'a>) -> SqlResult<Change<'a>> {
        let gone = || SqlError::internal("a write set names a row that it did not insert");
        let position = |table, own| self.position(table, own).ok_or_else(gone);
        Ok(match change {
            Change::UpdateOwn { table, own, columns, values } => {
                Change::Update { table, position: position(table, own)?, columns, values }
            }
            Change::DeleteOwn { table, own } => Change::Delete { table, position: position(table, own)? },
            other => other,
        })
    }

    /// Whether the row was inserted by the transaction, and as which one.
    pub fn number(&self, table: TableId, position: Position) -> Option<u32> {
        self.laid(table)?.numbers.get(&position).copied()
    }

    /// Where a row of its own stands here.
    pub fn position(&self, table: TableId, own: u32) -> Option<Position> {
        self.laid(table)?.own.position(table, own)
    }

    fn laid(&self, table: TableId) -> Option<&Laid> {
        self.laid.iter().find(|laid| laid.table == table)
    }

    /// Gives the memory back that only this overlay holds.
    pub fn finish(self, account: &mut Account) {
        finish(self.root, self.laid, account);
    }
}

/// Gives back a root over which these tables were laid.
fn finish(root: Root, laid: SmallVec<[Laid; 1]>, account: &mut Account) {
    let tables: SmallVec<[Option<Arc<TableRows>>; 1]> = laid.iter().map(|laid| root.shared_table(laid.table)).collect();
    root.finish(account);
    for (laid, table) in laid.into_iter().zip(tables) {
        match (table, laid.touched) {
            (Some(table), Some(touched)) => account.finish_overlaid(table, &touched),
            (Some(table), None) => account.finish_table(table),
            (None, _) => {}
        }
        account.finish_table(laid.base);
        account.free(laid.charged);
    }
}

impl Laid {
    fn apply(&mut self, root: &mut Root, change: &Change<'_>, account: &mut Account) {
        if let Change::DeleteOwn { table, own } = change
            && let Some(position) = self.own.position(*table, *own)
        {
            self.numbers.remove(&position);
        }
        if let Change::Update { position, .. } | Change::Delete { position, .. } = change {
            self.touch(*position);
        }
        let before = self.own.rows(self.table).len();
        root.apply_rows(change, root.lsn().next(), Some(&mut self.own), account);
        for number in before..self.own.rows(self.table).len() {
            if let Some(position) = self.own.position(self.table, number as u32) {
                self.numbers.insert(position, number as u32);
                self.touch(position);
            }
        }
    }

    fn touch(&mut self, position: Position) {
        let Some(touched) = &mut self.touched else { return };
        let chunk = position.0 as usize / CHUNK_ROWS;
        if touched.last() == Some(&chunk) || touched.contains(&chunk) {
            return;
        }
        match touched.len() < MAX_TOUCHED {
            true => touched.push(chunk),
            false => self.touched = None,
        }
    }
}

fn no_table(table: TableId) -> SqlError {
    SqlError::internal(format!("table {table} is not in this partition"))
}
