//! ALTER TABLE: all actions of a statement come to one change of the table, or to a move of its rows.

use super::index::check_unique;
use super::names::{self, already_exists, choose, display, notice, skipping, taken};
use super::rekey::{Rekey, unkeyed};
use super::{Rows, Step, change_catalog};
use crate::bind::{fits_key, indexable};
use crate::bound::{AlterAction, Ddl, ObjectName};
use crate::cluster::Cluster;
use crate::statement::State;
use toroid_common::catalog::{
    Catalog, Check, Column, DefaultValue, Distribution, Index, IndexColumn, IndexState, Table,
};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval::{NO_ROW, eval, volatility};
use toroid_common::expr::{Expr, Slot};
use toroid_common::func::Volatility;
use toroid_common::id::{ColumnId, IndexId};
use toroid_common::limits::MAX_COLUMNS;
use toroid_common::types::ColumnType;
use toroid_common::wire::CatalogChange;

pub(super) async fn table(
    rows: &impl Rows,
    session: &State,
    catalog: &Catalog,
    if_exists: bool,
    name: &ObjectName,
    actions: &[AlterAction],
) -> SqlResult<Step> {
    let missing = || format!("relation \"{}\" does not exist", display(name));
    let undefined = || SqlError::new(SqlState::UNDEFINED_TABLE, missing());
    let Some(found) = names::table(catalog, name)? else {
        if if_exists {
            skipping(session, missing());
            return Ok(Step::Nothing);
        }
        return Err(undefined());
    };
    let mut table = (**found).clone();
    let mut not_null = Vec::new();
    let mut checked = Vec::new();
    let mut rekey = None;
    let mut retyped = Vec::new();
    for action in actions {
        match action {
            AlterAction::AddColumn { if_not_exists, column } => {
                add_column(rows, session, &mut table, *if_not_exists, column).await?;
            }
            AlterAction::DropColumn { if_exists, name } => drop_column(session, &mut table, *if_exists, name)?,
            AlterAction::RenameColumn { from, to } => rename_column(&mut table, from, to)?,
            AlterAction::RenameTable { to } => rename_table(catalog, &mut table, to)?,
            // Made since, or in a schema that the session does not look into.
            AlterAction::Unseen => return Err(undefined()),
            AlterAction::AddPrimaryKey { name, columns } => {
                rekey = add_primary_key(catalog, &mut table, name.as_deref(), columns)?;
                not_null.extend(columns.iter().cloned());
            }
            AlterAction::AddUnique { name, columns } => add_unique(catalog, &mut table, name.as_deref(), columns)?,
            AlterAction::SetNotNull { column } => {
                let place = place_of(&table, column)?;
                column_mut(&mut table, place)?.not_null = true;
                not_null.push(column.clone());
            }
            AlterAction::DropNotNull { column } => drop_not_null(&mut table, column)?,
            AlterAction::SetDefault { column, default } => set_default(&mut table, column, default)?,
            AlterAction::SetType { column, ty, values, default } => {
                fits(found, values)?;
                let id = set_type(&mut table, column, *ty, default.as_ref())?;
                if retyped.iter().any(|(other, _)| *other == id) {
                    return Err(retyped_twice(column));
                }
                retyped.push((id, values.clone()));
            }
            AlterAction::DropDefault { column } => drop_default(&mut table, column)?,
            AlterAction::AddCheck(check) => add_check(found, &mut table, check, &mut checked)?,
            AlterAction::DropConstraint { if_exists, name } => drop_constraint(session, &mut table, *if_exists, name)?,
            AlterAction::Options(options) => table.options.clone_from(options),
        }
    }
    let is_unique = |action: &AlterAction| matches!(action, AlterAction::AddUnique { .. });
    if actions.len() > 1 && (rekey.is_some() || actions.iter().any(is_unique)) {
        let what = if rekey.is_some() { "PRIMARY KEY" } else { "UNIQUE" };
        return Err(SqlError::unsupported(format!("ADD {what} together with other actions in one ALTER TABLE")));
    }
    Ok(match rekey {
        Some(rekey) => Step::Rekey(rekey),
        None => step(found, table, retyped, (not_null, checked)),
    })
}

fn set_default(table: &mut Table, column: &str, default: &DefaultValue) -> SqlResult<()> {
    let place = place_of(table, column)?;
    let column = column_mut(table, place)?;
    if default.expr.ty() != column.ty.ty {
        return Err(changed(&table.name));
    }
    column.default = Some(default.clone());
    Ok(())
}

fn drop_default(table: &mut Table, column: &str) -> SqlResult<()> {
    let place = place_of(table, column)?;
    column_mut(table, place)?.default = None;
    Ok(())
}

fn retyped_twice(column: &str) -> SqlError {
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot alter type of column \"{column}\" twice"))
}

/// What turns one table into the other.
fn step(
    found: &Table,
    table: Table,
    retyped: Vec<(ColumnId, Expr)>,
    (not_null, checks): (Vec<String>, Vec<String>),
) -> Step {
    if !retyped.is_empty() {
        return Step::Retype { table, values: retyped };
    }
    if table == *found {
        return Step::Nothing;
    }
    let change = CatalogChange::AlterTable(table);
    match not_null.is_empty() && checks.is_empty() {
        true => Step::Change(change),
        false => Step::Verified { change, not_null, checks },
    }
}

fn place_of(table: &Table, name: &str) -> SqlResult<usize> {
    table.column(name).map(|(place, _)| place).ok_or_else(|| {
        let text = format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
        SqlError::new(SqlState::UNDEFINED_COLUMN, text)
    })
}

fn column_mut(table: &mut Table, place: usize) -> SqlResult<&mut Column> {
    table.columns.get_mut(place).ok_or_else(|| SqlError::internal("a column is not where it was"))
}

async fn add_column(
    rows: &impl Rows,
    session: &State,
    table: &mut Table,
    if_not_exists: bool,
    new: &Column,
) -> SqlResult<()> {
    if table.column(&new.name).is_some() {
        let text = format!("column \"{}\" of relation \"{}\" already exists", new.name, table.name);
        if if_not_exists {
            notice(session, SqlState::DUPLICATE_COLUMN, format!("{text}, skipping"));
            return Ok(());
        }
        return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, text));
    }
    if table.columns.len() >= MAX_COLUMNS {
        let text = format!("tables can have at most {MAX_COLUMNS} columns");
        return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, text));
    }
    let mut column = new.clone();
    column.id = ColumnId(table.next_column);
    table.next_column += 1;
    let missing = match &column.default {
        None => Datum::Null,
        Some(default) if volatility(&default.expr) == Volatility::Volatile => {
            if rows.any(session, table).await? {
                return Err(SqlError::unsupported("adding a column with a volatile default to a table with rows"));
            }
            Datum::Null
        }
        Some(default) => eval(&default.expr, &NO_ROW, &NO_ROW, &session.env())?,
    };
    if column.not_null && missing.is_null() && rows.any(session, table).await? {
        return Err(contains_nulls(&table.name, &column.name));
    }
    column.missing = (!missing.is_null()).then_some(missing);
    table.columns.push(column);
    Ok(())
}

fn contains_nulls(table: &str, column: &str) -> SqlError {
    let text = format!("column \"{column}\" of relation \"{table}\" contains null values");
    SqlError::new(SqlState::NOT_NULL_VIOLATION, text).with_table(table).with_column(column)
}

fn drop_column(session: &State, table: &mut Table, if_exists: bool, name: &str) -> SqlResult<()> {
    let place = match place_of(table, name) {
        Ok(place) => place as u16,
        Err(error) if if_exists => {
            skipping(session, error.message().to_owned());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if table.distribution_columns().contains(&place) {
        return Err(SqlError::unsupported(format!("dropping the distribution column \"{name}\"")));
    }
    table.indexes.retain(|index| index.columns.iter().all(|c| c.column != place));
    table.checks.retain(|check| {
        let mut uses = false;
        check.expr.each_leaf(&mut |slot| uses |= slot.index == place);
        !uses
    });
    table.columns.remove(usize::from(place));
    let shift = |column: &mut u16| {
        if *column > place {
            *column -= 1;
        }
    };
    table.indexes.iter_mut().flat_map(|i| &mut i.columns).for_each(|c| shift(&mut c.column));
    moved_checks(table, &|column| Some(if column > place { column - 1 } else { column }))?;
    if let Distribution::Hash(columns) = &mut table.distribution {
        columns.iter_mut().for_each(shift);
    }
    Ok(())
}

fn rename_column(table: &mut Table, from: &str, to: &str) -> SqlResult<()> {
    let missing = format!("column \"{from}\" does not exist");
    let place = place_of(table, from).map_err(|_| SqlError::new(SqlState::UNDEFINED_COLUMN, missing))?;
    if table.column(to).is_some() {
        let text = format!("column \"{to}\" of relation \"{}\" already exists", table.name);
        return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, text));
    }
    column_mut(table, place)?.name = to.to_owned();
    Ok(())
}

fn rename_table(catalog: &Catalog, table: &mut Table, to: &str) -> SqlResult<()> {
    if taken(catalog, &table.schema, to) {
        return Err(already_exists(to));
    }
    table.name = to.to_owned();
    Ok(())
}

fn drop_not_null(table: &mut Table, name: &str) -> SqlResult<()> {
    let place = place_of(table, name)?;
    if table.primary_key().is_some_and(|key| key.columns.iter().any(|c| usize::from(c.column) == place)) {
        let text = format!("column \"{name}\" is in a primary key");
        return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, text));
    }
    column_mut(table, place)?.not_null = false;
    Ok(())
}

/// Adds the key to a table that is distributed by some of its columns; otherwise the rows must move, and the plan for that is the result.
fn add_primary_key(
    catalog: &Catalog,
    table: &mut Table,
    name: Option<&str>,
    columns: &[String],
) -> SqlResult<Option<Rekey>> {
    if table.primary_key().is_some() {
        let text = format!("multiple primary keys for table \"{}\" are not allowed", table.name);
        return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, text));
    }
    let index = key_index(catalog, table, true, name, columns)?;
    for column in &index.columns {
        column_mut(table, usize::from(column.column))?.not_null = true;
    }
    if unkeyed(table) {
        return Rekey::new(table, index).map(Some);
    }
    check_unique(table, &index)?;
    table.indexes.push(index);
    Ok(None)
}

fn add_unique(catalog: &Catalog, table: &mut Table, name: Option<&str>, columns: &[String]) -> SqlResult<()> {
    let index = key_index(catalog, table, false, name, columns)?;
    check_unique(table, &index)?;
    table.indexes.push(index);
    Ok(())
}

/// The index of a PRIMARY KEY or UNIQUE constraint.
fn key_index(
    catalog: &Catalog,
    table: &Table,
    primary: bool,
    name: Option<&str>,
    columns: &[String],
) -> SqlResult<Index> {
    fits_key(columns.len())?;
    let key = columns.iter().map(|c| key_column(table, c)).collect::<SqlResult<Vec<_>>>()?;
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let (what, parts, suffix) = if primary { ("primary key", &[][..], "pkey") } else { ("unique", &names[..], "key") };
    if let Some(name) = names.iter().enumerate().find_map(|(at, name)| names.iter().take(at).find(|n| *n == name)) {
        let text = format!("column \"{name}\" appears twice in {what} constraint");
        return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, text));
    }
    let is_taken = |name: &str| taken(catalog, &table.schema, name);
    let name = match name {
        Some(name) if is_taken(name) => return Err(already_exists(name)),
        Some(name) if is_constraint(table, name) => return Err(constraint_exists(table, name)),
        Some(name) => name.to_owned(),
        None => choose(&table.name, parts, suffix, |name| is_taken(name) || is_constraint(table, name)),
    };
    let state = IndexState::Building;
    Ok(Index { id: IndexId(0), name, columns: key, unique: true, primary, constraint: true, state })
}

/// Whether the table has a constraint, or an index, of this name.
fn is_constraint(table: &Table, name: &str) -> bool {
    table.checks.iter().any(|check| check.name == name) || table.indexes.iter().any(|index| index.name == name)
}

fn constraint_exists(table: &Table, name: &str) -> SqlError {
    let text = format!("constraint \"{name}\" for relation \"{}\" already exists", table.name);
    SqlError::new(SqlState::DUPLICATE_OBJECT, text)
}

fn key_column(table: &Table, name: &str) -> SqlResult<IndexColumn> {
    let text = || format!("column \"{name}\" named in key does not exist");
    let (place, column) = table.column(name).ok_or_else(|| SqlError::new(SqlState::UNDEFINED_COLUMN, text()))?;
    indexable(column.ty.ty)?;
    Ok(IndexColumn { column: place as u16, descending: false, nulls_first: false })
}

/// The condition was bound against a version of the table whose columns may have stood elsewhere.
fn add_check(found: &Table, table: &mut Table, check: &Check, added: &mut Vec<String>) -> SqlResult<()> {
    if !found.columns.iter().map(|c| c.id).eq(table.columns.iter().map(|c| c.id)) {
        return Err(SqlError::unsupported("ADD CHECK together with other actions in one ALTER TABLE"));
    }
    if is_constraint(table, &check.name) {
        return Err(constraint_exists(table, &check.name));
    }
    fits(table, &check.expr)?;
    table.checks.push(check.clone());
    table.checks.sort_by(|a, b| a.name.cmp(&b.name));
    added.push(check.name.clone());
    Ok(())
}

/// An expression was bound against the table as it was then.
fn fits(table: &Table, expr: &Expr) -> SqlResult<()> {
    let mut fits = true;
    expr.each_leaf(&mut |slot| {
        fits &= table.columns.get(usize::from(slot.index)).is_some_and(|column| column.ty.ty == slot.ty);
    });
    if fits { Ok(()) } else { Err(changed(&table.name)) }
}

fn changed(table: &str) -> SqlError {
    SqlError::new(SqlState::SERIALIZATION_FAILURE, format!("the columns of table \"{table}\" changed"))
}

fn set_type(table: &mut Table, name: &str, ty: ColumnType, default: Option<&DefaultValue>) -> SqlResult<ColumnId> {
    let place = place_of(table, name)?;
    let mut used = false;
    for check in &table.checks {
        check.expr.each_leaf(&mut |slot| used |= usize::from(slot.index) == place && slot.ty != ty.ty);
    }
    if used {
        return Err(SqlError::unsupported("another type for a column that a CHECK constraint reads"));
    }
    let column = column_mut(table, place)?;
    column.ty = ty;
    column.default = default.cloned();
    column.missing = None;
    Ok(column.id)
}

fn drop_constraint(session: &State, table: &mut Table, if_exists: bool, name: &str) -> SqlResult<()> {
    if table.checks.iter().any(|check| check.name == name) {
        table.checks.retain(|check| check.name != name);
        return Ok(());
    }
    match table.indexes.iter().find(|index| index.constraint && index.name == name) {
        Some(index) if index.primary => return Err(SqlError::unsupported("dropping a primary key")),
        Some(_) => table.indexes.retain(|index| index.name != name),
        None => {
            let text = format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name);
            if !if_exists {
                return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, text));
            }
            skipping(session, text);
        }
    }
    Ok(())
}

/// The conditions over columns that stand elsewhere now.
pub(super) fn moved_checks(table: &mut Table, place: &dyn Fn(u16) -> Option<u16>) -> SqlResult<()> {
    for check in &mut table.checks {
        check.expr = check.expr.clone().map_leaves(&mut |slot: Slot| match place(slot.index) {
            Some(index) => Ok(Expr::Leaf(Slot { index, ..slot })),
            None => Err(SqlError::internal("a constraint over a column that is no more")),
        })?;
    }
    Ok(())
}

/// After the change refuses such rows: looks for old ones, and takes the change back when there are any.
pub(super) async fn verify(
    cluster: &Cluster,
    rows: &impl Rows,
    session: &State,
    ddl: &Ddl,
    not_null: &[String],
    checks: &[String],
) -> SqlResult<()> {
    let Ddl::AlterTable { name, .. } = ddl else { return Ok(()) };
    let view = cluster.view()?;
    let Some(table) = names::table(&view.catalog, name)? else { return Ok(()) };
    match judge(rows, session, table, not_null, checks).await {
        Ok(()) => Ok(()),
        Err(error) => take_back(cluster, name, not_null, checks).await.and(Err(error)),
    }
}

/// An error when old rows have NULL in one of these columns, or violate one of these constraints.
async fn judge(
    rows: &impl Rows,
    session: &State,
    table: &Table,
    not_null: &[String],
    checks: &[String],
) -> SqlResult<()> {
    for column in not_null {
        if rows.any_null(session, table, place_of(table, column)? as u16).await? {
            return Err(contains_nulls(&table.name, column));
        }
    }
    for check in table.checks.iter().filter(|check| checks.contains(&check.name)) {
        if rows.any_violating(session, table, check).await? {
            let (check, table) = (&check.name, &table.name);
            let text = format!("check constraint \"{check}\" of relation \"{table}\" is violated by some row");
            return Err(SqlError::new(SqlState::CHECK_VIOLATION, text).with_table(table).with_constraint(check));
        }
    }
    Ok(())
}

/// NULLs are allowed again in these columns, and a primary key over them goes; the constraints go.
async fn take_back(cluster: &Cluster, name: &ObjectName, columns: &[String], checks: &[String]) -> SqlResult<()> {
    loop {
        let view = cluster.view()?;
        let Some(table) = names::table(&view.catalog, name)? else { return Ok(()) };
        let mut back = (**table).clone();
        back.checks.retain(|check| !checks.contains(&check.name));
        for column in columns {
            let place = place_of(table, column)?;
            column_mut(&mut back, place)?.not_null = false;
            back.indexes.retain(|i| !i.primary || i.columns.iter().all(|c| usize::from(c.column) != place));
        }
        if change_catalog(cluster, &view.catalog, CatalogChange::AlterTable(back)).await? {
            return Ok(());
        }
    }
}
