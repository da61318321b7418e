//! ON CONFLICT: the unique indexes that it means, and DO UPDATE over the row that is there and EXCLUDED.

use super::binder::{Binder, error_at, name_of, object_name};
use super::scope::{Clause, Level, Relation, RelationKind, Scope};
use super::write::{Written, target_column};
use crate::bound::{ConflictUpdate, OnConflict, Rel};
use sqlparser::ast::{self, ConflictTarget, OnConflictAction, OnInsert};
use std::collections::BTreeSet;
use std::sync::Arc;
use toroid_common::catalog::{Index, IndexState, Table};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::IndexId;

impl Binder<'_> {
    pub(super) fn on_conflict(&mut self, clause: &OnInsert, written: &Written) -> SqlResult<OnConflict> {
        let OnInsert::OnConflict(clause) = clause else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"DUPLICATE\""));
        };
        let updates = matches!(clause.action, OnConflictAction::DoUpdate(_));
        // What no index serves is said after all that is wrong with the statement itself, as in PostgreSQL.
        let arbiters = match &clause.conflict_target {
            None if updates => {
                let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
                return Err(
                    SqlError::new(SqlState::SYNTAX_ERROR, message).with_hint("For example, ON CONFLICT (column_name).")
                );
            }
            None => Ok(written.table.indexes.iter().filter(|index| index.unique).map(|index| index.id).collect()),
            Some(ConflictTarget::Columns(columns)) => inferred(&written.table, columns)?,
            Some(ConflictTarget::OnConstraint(name)) => Ok(vec![constraint(&written.table, name)?]),
        };
        let update = match &clause.action {
            OnConflictAction::DoNothing => None,
            OnConflictAction::DoUpdate(update) => Some(self.conflict_update(update, written)?),
        };
        Ok(OnConflict { arbiters: arbiters?, update })
    }

    fn conflict_update(&mut self, update: &ast::DoUpdate, written: &Written) -> SqlResult<ConflictUpdate> {
        let (rel, named) = self.scan_columns(&written.table);
        let width = written.table.columns.len() as u16;
        let mut columns = written.columns.clone();
        if let Rel::Scan { columns: ids, .. } = rel {
            columns.extend(ids.into_iter().map(|(id, position)| (id, width + position)));
        }
        let mut scope = Scope::of(Relation {
            alias: "excluded".to_owned(),
            hidden_name: None,
            schema: None,
            columns: named,
            kind: RelationKind::Stored(Arc::clone(&written.table)),
        });
        scope.join(written.scope.clone())?;
        self.levels.push(Level { clause: Clause::Set, ..Level::new(scope.clone()) });
        let set = self.set_clause(&update.assignments, written, &columns);
        self.levels.pop();
        let filter = self.write_filter(update.selection.as_ref(), scope)?;
        Ok(ConflictUpdate { filter, set: set?, columns })
    }
}

/// The indexes whose columns are just these.
fn inferred(table: &Table, columns: &[ast::Ident]) -> SqlResult<SqlResult<Vec<IndexId>>> {
    let mut wanted = BTreeSet::new();
    for column in columns {
        let (name, place) = (name_of(column), super::binder::at(column.span));
        let missing = |_| error_at(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"), place);
        wanted.insert(target_column(table, &name, place).map_err(missing)?);
    }
    let fits = |index: &&Index| {
        let columns: BTreeSet<u16> = index.columns.iter().map(|column| column.column).collect();
        index.unique && index.state == IndexState::Ready && columns == wanted
    };
    let found: Vec<IndexId> = table.indexes.iter().filter(fits).map(|index| index.id).collect();
    if found.is_empty() {
        let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
        return Ok(Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message)));
    }
    Ok(Ok(found))
}

fn constraint(table: &Table, name: &ast::ObjectName) -> SqlResult<IndexId> {
    let (_, name, _) = object_name(name)?;
    if let Some(index) =
        table.indexes.iter().find(|index| index.constraint && index.name == name && index.state == IndexState::Ready)
    {
        return Ok(index.id);
    }
    if table.checks.iter().any(|check| check.name == name) {
        let message = "constraint in ON CONFLICT clause has no associated index";
        return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
    }
    let message = format!("constraint \"{name}\" for table \"{}\" does not exist", table.name);
    Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message))
}
