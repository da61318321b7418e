//! Applying the changes of an entry.

use super::{OwnRows, Root};
use crate::store::account::Account;
use crate::store::change::{Change, ChangeList};
use crate::store::cost::Cost;
use crate::store::index::KeyBytes;
use crate::store::position::Position;
use crate::store::table::TableRows;
use std::sync::Arc;
use toroid_common::catalog::{Catalog, Table};
use toroid_common::id::{Lsn, TableId, TransactionId};
use toroid_common::row::RowReader;
use toroid_common::types::SqlType;

impl Root {
    /// Applies the checked changes of the entry `lsn`, here or at a backup of the primary that checked them. Cannot fail: it panics when the
    /// changes do not fit this state, because going on would make replicas differ.
    ///
    /// A write set that was checked against an earlier state can be applied for certain while locks keep these guarantees: the rows that it names
    /// by position are changed by nobody else (so they live, and stand where they stood); no other row comes by a unique key that a row of it has
    /// or had at any time; and its tables are altered by no catalog ([`Root::waits_for_prepared`]). Its own rows get their positions here.
    pub fn apply(&mut self, changes: &[Change<'_>], lsn: Lsn, account: &mut Account) {
        assert!(lsn > self.lsn, "entry {lsn} was applied after {}", self.lsn);
        let mut own = changes.iter().any(Change::names_own).then(OwnRows::default);
        for change in changes {
            match change {
                Change::Insert { .. }
                | Change::Update { .. }
                | Change::Delete { .. }
                | Change::UpdateOwn { .. }
                | Change::DeleteOwn { .. }
                | Change::Keep(_)
                | Change::Notify { .. }
                | Change::Truncate { .. } => self.apply_rows(change, lsn, own.as_mut(), account),
                Change::Catalog(catalog) => {
                    assert!(
                        !self.waits_for_prepared(catalog),
                        "a catalog came that alters tables of prepared write sets"
                    );
                    self.follow(Arc::clone(catalog), account);
                }
                Change::Forbidden(error) => self.forbidden = Some(error.clone()),
                Change::Fence(fence) => {
                    self.answers.fence(fence);
                    if !self.advisory.is_empty() {
                        let answers = &self.answers;
                        Arc::make_mut(&mut self.advisory).fenced(|proxy| answers.is_fenced(proxy), account);
                    }
                    Arc::make_mut(&mut self.transactions).fenced(&self.answers);
                }
                Change::Answered { proxy, below, but } => self.answers.forget_but(*proxy, *below, but),
                Change::Chunk { transaction, keep, changes } => {
                    Arc::make_mut(&mut self.transactions).chunk(*transaction, *keep, changes.to_vec(), account);
                }
                Change::Prepare { transaction, anchor, reserve, keep, changes } => {
                    Arc::make_mut(&mut self.transactions).prepare(
                        (*transaction, *anchor),
                        *reserve,
                        (*keep, changes),
                        account,
                    );
                }
                Change::Commit { transaction } => self.commit(*transaction, lsn, account),
                Change::Abort { transaction } => {
                    if let Some(changes) = Arc::make_mut(&mut self.transactions).take(*transaction, account) {
                        account.finish_list(changes);
                    }
                }
                Change::Outcome { transaction, fate, participants } => {
                    Arc::make_mut(&mut self.transactions).note_outcome(
                        *transaction,
                        *fate,
                        participants,
                        &self.answers,
                    );
                }
                Change::Confirmed { transaction, participant } => {
                    Arc::make_mut(&mut self.transactions).confirmed(*transaction, *participant, &self.answers);
                }
                Change::Forget { transaction } => Arc::make_mut(&mut self.transactions).forget(*transaction),
                Change::Advise { session, key, shared, takes: true } => {
                    Arc::make_mut(&mut self.advisory).take(*session, *key, *shared, account);
                }
                Change::Advise { session, key, shared, takes: false } => {
                    Arc::make_mut(&mut self.advisory).give(*session, *key, *shared, account);
                }
                Change::Dismiss { session } => Arc::make_mut(&mut self.advisory).dismiss(*session, account),
            }
        }
        self.lsn = lsn;
    }

    /// Applies a write set that is remembered here.
    fn commit(&mut self, transaction: TransactionId, lsn: Lsn, account: &mut Account) {
        let Some(list) = Arc::make_mut(&mut self.transactions).take(transaction, account) else {
            panic!("an entry commits transaction {transaction}, whose write set is not there")
        };
        self.apply_list(&list, lsn, account);
        account.finish_list(list);
    }

    pub(in crate::store) fn apply_list(&mut self, list: &ChangeList, lsn: Lsn, account: &mut Account) {
        let mut own = list.changes().any(|change| change.is_ok_and(|change| change.names_own())).then(OwnRows::default);
        for change in list.changes() {
            let Ok(change) = change else { panic!("a write set was applied that cannot be read") };
            self.apply_rows(&change, lsn, own.as_mut(), account);
        }
    }

    /// Applies one change of rows. Where `own` is wanted, it learns where inserted rows stand.
    pub(in crate::store) fn apply_rows(
        &mut self,
        change: &Change<'_>,
        lsn: Lsn,
        mut own: Option<&mut OwnRows>,
        account: &mut Account,
    ) {
        match change {
            Change::Insert { table, count, rows } => {
                self.change(*table, account, |rows_of, cost| {
                    insert(rows_of, *count, rows, lsn, cost, |position| {
                        if let Some(own) = own.as_mut() {
                            own.add(*table, position);
                        }
                    });
                });
            }
            Change::Update { table, position, columns, values } => {
                self.change(*table, account, |rows_of, cost| update(rows_of, *position, columns, values, lsn, cost));
            }
            Change::Delete { table, position } => {
                self.change(*table, account, |rows_of, cost| {
                    rows_of.delete(*position, &mut KeyBytes::new(), cost);
                });
            }
            Change::UpdateOwn { table, own: number, columns, values } => {
                let position = own_row(own.and_then(|own| own.position(*table, *number)));
                self.change(*table, account, |rows_of, cost| update(rows_of, position, columns, values, lsn, cost));
            }
            Change::DeleteOwn { table, own: number } => {
                let position = own_row(own.and_then(|own| own.remove(*table, *number)));
                self.change(*table, account, |rows_of, cost| rows_of.delete(position, &mut KeyBytes::new(), cost));
            }
            Change::Keep(_) => {}
            Change::Notify { channel, payload, process } => {
                Arc::make_mut(&mut self.notices).push((channel, payload), *process, lsn, account);
            }
            Change::Truncate { table } => {
                if let Some(definition) = self.table(*table).map(|table| Arc::clone(table.definition())) {
                    self.replace(definition, account);
                    self.note_building(account);
                }
            }
            Change::Catalog(_)
            | Change::Forbidden(_)
            | Change::Fence(_)
            | Change::Answered { .. }
            | Change::Chunk { .. }
            | Change::Prepare { .. }
            | Change::Commit { .. }
            | Change::Abort { .. }
            | Change::Outcome { .. }
            | Change::Confirmed { .. }
            | Change::Forget { .. }
            | Change::Advise { .. }
            | Change::Dismiss { .. } => panic!("a write set was applied that changes more than rows"),
        }
    }

    pub(super) fn change(
        &mut self,
        id: TableId,
        account: &mut Account,
        change: impl FnOnce(&mut TableRows, &mut Cost),
    ) {
        let Some(table) = Arc::make_mut(&mut self.tables).get_mut(&id) else {
            panic!("an entry was applied to table {id}, which is not there")
        };
        let table = Arc::make_mut(table);
        let mut cost = Cost::default();
        change(table, &mut cost);
        table.settle(cost);
        account.settle(cost);
    }

    /// Makes the tables what a catalog says.
    pub(super) fn follow(&mut self, catalog: Arc<Catalog>, account: &mut Account) {
        self.forbidden = None;
        let before = std::mem::replace(&mut self.catalog, Arc::clone(&catalog));
        for id in before.tables.keys().filter(|id| !catalog.tables.contains_key(id)) {
            if let Some(table) = Arc::make_mut(&mut self.tables).remove(id) {
                account.finish_table(table);
            }
        }
        for (id, definition) in &catalog.tables {
            match before.tables.get(id) {
                Some(old) if old == definition => {}
                Some(old) if old.generation == definition.generation => {
                    let definition = Arc::clone(definition);
                    let mut finished = Vec::new();
                    self.change(*id, account, |table, cost| finished = table.alter(definition, cost));
                    finished.into_iter().for_each(|index| account.finish_node(index.into_tree().into_root()));
                }
                _ => self.replace(Arc::clone(definition), account),
            }
        }
        self.note_building(account);
    }

    /// Adds an empty table that the catalog of this root does not have, for who looks back at it from later.
    pub fn admit(&mut self, definition: Arc<Table>, account: &mut Account) {
        self.replace(definition, account);
    }

    /// Puts an empty table in the place of what was there.
    fn replace(&mut self, definition: Arc<Table>, account: &mut Account) {
        let table = TableRows::new(definition);
        let mut cost = Cost::default();
        cost.resized(0, table.bytes());
        account.settle(cost);
        if let Some(old) = Arc::make_mut(&mut self.tables).insert(table.definition().id, Arc::new(table)) {
            account.finish_table(old);
        }
    }
}

fn own_row(position: Option<Position>) -> Position {
    let Some(position) = position else { panic!("a write set was applied that changes a row which it did not insert") };
    position
}

fn update(table: &mut TableRows, position: Position, columns: &[u16], values: &[u8], lsn: Lsn, cost: &mut Cost) {
    let Ok(row) = table.read_values(columns.iter().copied(), values) else {
        panic!("an entry was applied whose values cannot be read")
    };
    table.update(position, columns, &row, lsn, &mut KeyBytes::new(), cost);
}

fn insert(table: &mut TableRows, count: u32, rows: &[u8], lsn: Lsn, cost: &mut Cost, mut each: impl FnMut(Position)) {
    let types: Arc<[SqlType]> = table.shared_types();
    let mut reader = RowReader::new(rows);
    let mut row = Vec::with_capacity(types.len());
    let mut key = KeyBytes::new();
    for _ in 0..count {
        row.clear();
        let read = reader.read(&types, &mut row);
        assert!(read.is_ok(), "an entry was applied whose rows cannot be read");
        each(table.insert(&row, lsn, &mut key, cost));
    }
    assert!(reader.is_empty(), "an entry was applied that has bytes behind its rows");
}
