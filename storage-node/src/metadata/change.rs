//! What a schema change makes of the catalog. Pure.

use std::sync::Arc;
use toroid_common::catalog::{Catalog, IndexState, Table, TableState};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{CatalogVersion, IndexId, TableId, TransactionId};
use toroid_common::wire::{CatalogChange, ChangeError};

/// A catalog that is being changed into its next version.
struct Draft {
    catalog: Catalog,
}

/// The next catalog after `change`.
pub(super) fn apply(catalog: &Catalog, change: CatalogChange) -> Result<Catalog, ChangeError> {
    if is_blocked(catalog, &change) {
        return Err(ChangeError::Blocked { have: catalog.version });
    }
    changed(catalog, change).map_err(ChangeError::Sql)
}

fn changed(catalog: &Catalog, change: CatalogChange) -> SqlResult<Catalog> {
    let mut draft = Draft::after(catalog);
    match change {
        CatalogChange::CreateTable(table) => {
            draft.create(table, TableState::Open)?;
        }
        CatalogChange::AlterTable(table) => draft.alter(table)?,
        CatalogChange::DropTables(tables) => tables.into_iter().try_for_each(|id| draft.drop_table(id))?,
        CatalogChange::DropIndexes(indexes) => draft.drop_indexes(&indexes)?,
        CatalogChange::Truncate(tables) => {
            for id in tables {
                draft.edit(id, |table| table.generation = table.generation.wrapping_add(1))?;
            }
        }
        CatalogChange::StartMove { from, to } => draft.start_move(from, to)?,
        CatalogChange::FinishMove { from } => draft.finish_move(from)?,
        CatalogChange::AbandonMove { from } => {
            let to = draft.destination(from)?;
            draft.drop_table(to)?;
            draft.edit(from, |table| table.state = TableState::Open)?;
        }
        CatalogChange::Provide { owner, number, replaces, creates } => {
            replaces.into_iter().try_for_each(|id| draft.claim(id, owner, number))?;
            for table in creates {
                draft.create(table, TableState::Private { owner, number, gone: None })?;
            }
        }
        CatalogChange::TakeBack { owner, number } => draft.give_back(owner, number),
        CatalogChange::Publish { owner, .. } => draft.publish(owner)?,
        CatalogChange::Forget { .. } => {}
    }
    Ok(draft.catalog)
}

/// Whether a change must wait for the end of a transaction that has changed one of its tables, or has made one of the same name.
fn is_blocked(catalog: &Catalog, change: &CatalogChange) -> bool {
    let busy = |owner: Option<TransactionId>, id: &TableId| match catalog.table(*id).map(|table| table.state) {
        Some(state @ (TableState::Private { .. } | TableState::Claimed { .. })) => state.owner() != owner,
        Some(TableState::Moving { .. }) => owner.is_some(),
        Some(TableState::Open | TableState::Filling { .. }) | None => false,
    };
    // What is changed in a table while its rows move would be lost; it may be dropped.
    let settled = |id: &TableId| {
        let moves = matches!(catalog.table(*id).map(|table| table.state), Some(TableState::Moving { .. }));
        !moves && !busy(None, id)
    };
    let named = |owner: Option<TransactionId>, new: &Table| {
        let others = catalog.tables.values().filter(|table| {
            let is_seen = matches!(table.state, TableState::Private { gone: None, .. });
            is_seen && table.state.owner() != owner && table.schema == new.schema
        });
        let mut names = others.flat_map(|table| names(table));
        names.any(|name| self::names(new).any(|new| new == name))
    };
    match change {
        CatalogChange::CreateTable(table) => named(None, table),
        CatalogChange::AlterTable(table) => !settled(&table.id) || named(None, table),
        CatalogChange::DropTables(tables) => tables.iter().any(|id| busy(None, id)),
        CatalogChange::Truncate(tables) => !tables.iter().all(settled),
        CatalogChange::DropIndexes(indexes) => {
            let has = |table: &&Arc<Table>| table.indexes.iter().any(|index| indexes.contains(&index.id));
            catalog.tables.values().filter(has).any(|table| !settled(&table.id))
        }
        CatalogChange::StartMove { from, to } => busy(None, from) || named(None, to),
        CatalogChange::Provide { owner, replaces, creates, .. } => {
            replaces.iter().any(|id| busy(Some(*owner), id)) || creates.iter().any(|table| named(Some(*owner), table))
        }
        CatalogChange::FinishMove { .. }
        | CatalogChange::AbandonMove { .. }
        | CatalogChange::TakeBack { .. }
        | CatalogChange::Publish { .. }
        | CatalogChange::Forget { .. } => false,
    }
}

/// Whether a change that was resolved against an earlier catalog means the same in this one: its tables are as they were, and no name that it gives has been
/// taken since. A table's version tells when it was changed last.
pub(super) fn still_holds(catalog: &Catalog, resolved: CatalogVersion, change: &CatalogChange) -> bool {
    let is_same = |id: &TableId| catalog.table(*id).is_some_and(|table| table.version <= resolved);
    let is_free = |new: &Table| {
        let changed =
            |table: &&Arc<Table>| table.version > resolved && table.id != new.id && table.schema == new.schema;
        let mut taken = catalog.tables.values().filter(changed).flat_map(|table| names(table));
        taken.all(|name| names(new).all(|new| new != name))
    };
    match change {
        CatalogChange::CreateTable(table) => is_free(table),
        CatalogChange::AlterTable(table) => is_same(&table.id) && is_free(table),
        CatalogChange::DropTables(tables) | CatalogChange::Truncate(tables) => tables.iter().all(is_same),
        CatalogChange::DropIndexes(indexes) => {
            let same = catalog.tables.values().filter(|table| table.version <= resolved);
            let there: Vec<IndexId> = same.flat_map(|table| table.indexes.iter().map(|index| index.id)).collect();
            indexes.iter().all(|index| there.contains(index))
        }
        CatalogChange::StartMove { from, to } => is_same(from) && is_free(to),
        CatalogChange::Provide { replaces, creates, .. } => replaces.iter().all(is_same) && creates.iter().all(is_free),
        // A table that is being moved is changed by nobody else.
        CatalogChange::FinishMove { .. }
        | CatalogChange::AbandonMove { .. }
        | CatalogChange::TakeBack { .. }
        | CatalogChange::Publish { .. }
        | CatalogChange::Forget { .. } => true,
    }
}

/// The names that a table takes in its schema.
fn names(table: &Table) -> impl Iterator<Item = &str> {
    std::iter::once(table.name.as_str()).chain(table.indexes.iter().map(|index| index.name.as_str()))
}

/// The next catalog with the new indexes ready; `None` when none is being built.
pub(super) fn finish_indexes(catalog: &Catalog) -> Option<Catalog> {
    let building = |table: &&Arc<Table>| table.indexes.iter().any(|index| index.state == IndexState::Building);
    let tables: Vec<TableId> = catalog.tables.values().filter(building).map(|table| table.id).collect();
    if tables.is_empty() {
        return None;
    }
    let mut draft = Draft::after(catalog);
    for id in tables {
        let ready = |table: &mut Table| table.indexes.iter_mut().for_each(|index| index.state = IndexState::Ready);
        draft.edit(id, ready).ok()?;
    }
    Some(draft.catalog)
}

/// The catalog after `now` that is again as it was `before`; what has changed in between counts as changed once more.
pub(super) fn take_back(before: &Catalog, now: &Catalog) -> Catalog {
    let mut draft = Draft::after(now);
    let version = draft.catalog.version;
    draft.catalog.tables = before
        .tables
        .iter()
        .map(|(id, table)| match now.tables.get(id) {
            Some(same) if same == table => (*id, Arc::clone(table)),
            Some(_) | None => (*id, Arc::new(Table { version, ..Table::clone(table) })),
        })
        .collect();
    draft.catalog
}

impl Draft {
    fn after(catalog: &Catalog) -> Draft {
        Draft { catalog: Catalog { version: CatalogVersion(catalog.version.0 + 1), ..catalog.clone() } }
    }

    fn give_id(&mut self) -> SqlResult<u32> {
        let id = self.catalog.next_object;
        self.catalog.next_object = id.checked_add(1).ok_or_else(|| {
            SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "no identities are left for tables and indexes")
        })?;
        Ok(id)
    }

    fn put(&mut self, mut table: Table) {
        table.version = self.catalog.version;
        self.catalog.tables.insert(table.id, Arc::new(table));
    }

    fn get(&self, id: TableId) -> SqlResult<Table> {
        let table = self.catalog.table(id).ok_or_else(|| SqlError::internal(format!("table {id} is not there")))?;
        Ok(Table::clone(table))
    }

    fn edit(&mut self, id: TableId, edit: impl FnOnce(&mut Table)) -> SqlResult<()> {
        let mut table = self.get(id)?;
        edit(&mut table);
        self.put(table);
        Ok(())
    }

    fn create(&mut self, mut table: Table, state: TableState) -> SqlResult<TableId> {
        let is_in = |catalog: &Catalog| catalog.find(&table.schema, &table.name).is_some();
        let taken = match state {
            TableState::Open => is_in(&self.catalog),
            // What it replaces under its own name is claimed before.
            TableState::Private { owner, .. } => is_in(&self.catalog.seen_by(owner)),
            TableState::Moving { .. } | TableState::Filling { .. } | TableState::Claimed { .. } => false,
        };
        if taken {
            let message = format!("relation \"{}\" already exists", table.name);
            return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
        }
        table.id = TableId(self.give_id()?);
        for index in &mut table.indexes {
            index.id = IndexId(self.give_id()?);
            index.state = IndexState::Ready;
        }
        for check in &mut table.checks {
            check.id = self.give_id()?;
        }
        table.state = state;
        let id = table.id;
        self.put(table);
        Ok(id)
    }

    fn alter(&mut self, mut table: Table) -> SqlResult<()> {
        let before = self.get(table.id)?;
        for index in &mut table.indexes {
            if index.id == IndexId(0) {
                index.id = IndexId(self.give_id()?);
                index.state = IndexState::Building;
            }
        }
        for check in table.checks.iter_mut().filter(|check| check.id == 0) {
            check.id = self.give_id()?;
        }
        table.state = before.state;
        table.generation = before.generation;
        self.put(table);
        Ok(())
    }

    fn drop_table(&mut self, id: TableId) -> SqlResult<()> {
        self.catalog.tables.remove(&id).map(drop).ok_or_else(|| SqlError::internal(format!("table {id} is not there")))
    }

    fn drop_indexes(&mut self, indexes: &[IndexId]) -> SqlResult<()> {
        let dropped = |table: &Table| table.indexes.iter().filter(|index| indexes.contains(&index.id)).count();
        let tables: Vec<TableId> =
            self.catalog.tables.values().filter(|table| dropped(table) > 0).map(|table| table.id).collect();
        let found: usize = self.catalog.tables.values().map(|table| dropped(table)).sum();
        if found < indexes.len() {
            return Err(SqlError::internal("an index that is to be dropped is not there"));
        }
        tables
            .into_iter()
            .try_for_each(|id| self.edit(id, |table| table.indexes.retain(|index| !indexes.contains(&index.id))))
    }

    fn start_move(&mut self, from: TableId, to: Table) -> SqlResult<()> {
        let source = self.get(from)?;
        if source.state != TableState::Open {
            let message = format!("relation \"{}\" is being moved", source.name);
            return Err(SqlError::new(SqlState::OBJECT_IN_USE, message));
        }
        let to = self.create(to, TableState::Filling { from })?;
        self.edit(from, |table| table.state = TableState::Moving { to })
    }

    fn destination(&self, from: TableId) -> SqlResult<TableId> {
        match self.get(from)?.state {
            TableState::Moving { to } => Ok(to),
            TableState::Open | TableState::Filling { .. } | TableState::Private { .. } | TableState::Claimed { .. } => {
                Err(SqlError::internal(format!("table {from} is not being moved")))
            }
        }
    }

    fn finish_move(&mut self, from: TableId) -> SqlResult<()> {
        let to = self.destination(from)?;
        let source = self.get(from)?;
        self.drop_table(from)?;
        self.edit(to, |table| {
            table.state = TableState::Open;
            table.name = source.name;
            table.schema = source.schema;
        })
    }

    /// Another state of a table whose plans and rows stay what they are.
    fn restate(&mut self, id: TableId, state: TableState) -> SqlResult<()> {
        let table = Table { state, ..self.get(id)? };
        self.catalog.tables.insert(id, Arc::new(table));
        Ok(())
    }

    fn claim(&mut self, id: TableId, owner: TransactionId, number: u32) -> SqlResult<()> {
        match self.get(id)?.state {
            TableState::Open => self.restate(id, TableState::Claimed { owner, number }),
            TableState::Private { owner: of, number: made, gone: None } if of == owner => {
                self.restate(id, TableState::Private { owner, number: made, gone: Some(number) })
            }
            TableState::Moving { .. }
            | TableState::Filling { .. }
            | TableState::Private { .. }
            | TableState::Claimed { .. } => Err(SqlError::internal(format!("table {id} is not there to be replaced"))),
        }
    }

    fn states(&self) -> Vec<(TableId, TableState)> {
        self.catalog.tables.values().map(|table| (table.id, table.state)).collect()
    }

    fn give_back(&mut self, owner: TransactionId, from: u32) {
        for (id, state) in self.states().into_iter().filter(|(_, state)| state.owner() == Some(owner)) {
            let state = match state {
                TableState::Private { number, .. } if number >= from => {
                    self.catalog.tables.remove(&id);
                    continue;
                }
                TableState::Private { number, gone: Some(gone), .. } if gone >= from => {
                    TableState::Private { owner, number, gone: None }
                }
                TableState::Claimed { number, .. } if number >= from => TableState::Open,
                TableState::Private { .. }
                | TableState::Claimed { .. }
                | TableState::Open
                | TableState::Moving { .. }
                | TableState::Filling { .. } => continue,
            };
            // It was found a moment ago.
            let _ = self.restate(id, state);
        }
    }

    fn publish(&mut self, owner: TransactionId) -> SqlResult<()> {
        for (id, state) in self.states().into_iter().filter(|(_, state)| state.owner() == Some(owner)) {
            match state {
                TableState::Private { gone: None, .. } => self.edit(id, |table| table.state = TableState::Open)?,
                TableState::Private { .. } | TableState::Claimed { .. } => self.drop_table(id)?,
                TableState::Open | TableState::Moving { .. } | TableState::Filling { .. } => {}
            }
        }
        Ok(())
    }
}
