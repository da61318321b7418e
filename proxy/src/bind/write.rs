//! What INSERT, UPDATE, DELETE and COPY share: the table to be written, target columns, defaults, RETURNING.

use super::binder::{Binder, Typed, error_at, object_name};
use super::from::undefined_table;
use super::scope::{Clause, Level, NamedColumn, Relation, RelationKind, Scope};
use super::update::refuse_correlated;
use crate::bound::{BoundExpr, BoundLeaf, ColId, Returning};
use sqlparser::ast::{self, SelectItem};
use std::sync::Arc;
use toroid_common::catalog::{Column, Table};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::{Expr, Slot};
use toroid_common::types::SqlType;

/// A table under the name that the statement gives it, with ids for its columns.
pub(super) struct Written {
    pub(super) table: Arc<Table>,
    pub(super) scope: Scope,
    /// Every column of the table, hidden ones too.
    pub(super) columns: Vec<(ColId, u16)>,
}

impl Binder<'_> {
    pub(super) fn written_table(&self, schema: Option<&str>, name: &str, place: u32) -> SqlResult<Arc<Table>> {
        if let Some(found) = self.virtual_table(schema, name) {
            let message = format!("permission denied: \"{}\" is a system catalog", found.name);
            return Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, message));
        }
        self.stored_table(schema, name).ok_or_else(|| undefined_table(schema, name, place))
    }

    pub(super) fn written(&mut self, name: &ast::ObjectName, alias: Option<&ast::Ident>) -> SqlResult<Written> {
        let (schema, own, place) = object_name(name)?;
        let table = self.written_table(schema.as_deref(), &own, place)?;
        let (rel, columns) = self.scan_columns(&table);
        let ids = match rel {
            crate::bound::Rel::Scan { columns, .. } => columns,
            _ => Vec::new(),
        };
        let relation = Relation {
            alias: alias.map_or(own.clone(), super::binder::name_of),
            hidden_name: alias.map(|_| own),
            schema: Some(table.schema.clone()).filter(|_| alias.is_none()),
            columns,
            kind: RelationKind::Stored(Arc::clone(&table)),
        };
        Ok(Written { table, scope: Scope::of(relation), columns: ids })
    }

    /// The columns that a list names, or all that a user sees.
    pub(super) fn target_columns(&self, table: &Table, list: &[(String, u32)]) -> SqlResult<Vec<u16>> {
        if list.is_empty() {
            return Ok(table.visible().map(|(position, _)| position as u16).collect());
        }
        let mut targets: Vec<u16> = Vec::with_capacity(list.len());
        for (name, place) in list {
            let position = target_column(table, name, *place)?;
            if targets.contains(&position) {
                let message = format!("column \"{name}\" specified more than once");
                return Err(error_at(SqlState::DUPLICATE_COLUMN, message, *place));
            }
            targets.push(position);
        }
        Ok(targets)
    }

    /// Casts a value for a column.
    pub(super) fn assign_to(&mut self, value: Typed, column: &Column) -> SqlResult<BoundExpr> {
        self.assign(value, &column.name, column.ty)
    }

    pub(super) fn returning(&mut self, items: Option<&[SelectItem]>, written: &Written) -> SqlResult<Vec<Returning>> {
        let Some(items) = items else { return Ok(Vec::new()) };
        let mut out = Vec::with_capacity(items.len());
        self.levels.push(Level { clause: Clause::Returning, ..Level::new(written.scope.clone()) });
        let bound = items.iter().try_for_each(|item| self.returned(item, written, &mut out));
        self.levels.pop();
        bound.map(|()| out)
    }

    fn returned(&mut self, item: &SelectItem, written: &Written, out: &mut Vec<Returning>) -> SqlResult<()> {
        let all = |out: &mut Vec<Returning>| {
            for column in &written.scope.visible {
                let leaf = Expr::Leaf(BoundLeaf::Column { id: column.id, ty: column.ty.ty });
                let (name, ty, origin) = (column.name.clone(), column.ty, column.origin);
                out.push(Returning { name, expr: leaf, ty, origin });
            }
            Ok(())
        };
        let (ast, name) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, super::naming::column_name(expr)),
            SelectItem::ExprWithAlias { expr, alias } => (expr, super::binder::name_of(alias)),
            SelectItem::Wildcard(_) => return all(out),
            SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let (_, table, place) = object_name(name)?;
                if self.find_relation(None, &table).is_none() {
                    let message = format!("missing FROM-clause entry for table \"{table}\"");
                    return Err(error_at(SqlState::UNDEFINED_TABLE, message, place));
                }
                return all(out);
            }
            other => return Err(SqlError::unsupported(format!("the RETURNING item {other}"))),
        };
        let value = self.expr(ast)?;
        let value = self.text_if_unknown(value)?;
        let column = match &value.expr {
            Expr::Leaf(BoundLeaf::Column { id, .. }) => {
                written.scope.visible.iter().find(|c: &&NamedColumn| c.id == *id)
            }
            _ => None,
        };
        let (ty, origin) = (value.column_type(), column.and_then(|c| c.origin));
        let mut expr = value.expr;
        refuse_correlated(&mut expr)?;
        out.push(Returning { name, expr, ty, origin });
        Ok(())
    }
}

/// The same expression over the table's row; subqueries have no place there.
pub(crate) fn over_row(expr: BoundExpr, columns: &[(ColId, u16)]) -> SqlResult<Expr> {
    expr.map_leaves(&mut |leaf| match leaf {
        BoundLeaf::Column { id, ty } => match columns.iter().find(|(column, _)| *column == id) {
            Some((_, index)) => Ok(Expr::Leaf(Slot { index: *index, ty })),
            None => Err(SqlError::internal("a column of no row")),
        },
        BoundLeaf::Outer { .. } | BoundLeaf::Subquery(_) => Err(SqlError::unsupported("a subquery here")),
    })
}

/// A constant expression as one of a bound tree.
pub(super) fn bound_constant(expr: Expr) -> SqlResult<BoundExpr> {
    expr.map_leaves(&mut |_: Slot| Err(SqlError::internal("a default with a column")))
}

/// The position of a column that is to be written.
pub(super) fn target_column(table: &Table, name: &str, place: u32) -> SqlResult<u16> {
    table.column(name).map(|(position, _)| position as u16).ok_or_else(|| {
        let message = format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
        error_at(SqlState::UNDEFINED_COLUMN, message, place)
    })
}

/// What a column gets when a statement gives it nothing.
pub(super) fn default_of(column: &Column) -> Expr {
    match &column.default {
        Some(default) => default.expr.clone(),
        None => Expr::Const { value: Datum::Null, ty: column.ty.ty },
    }
}

pub(super) fn defaults(table: &Table) -> Vec<Expr> {
    table.columns.iter().map(default_of).collect()
}

/// The word DEFAULT in place of a value.
pub(super) fn is_default(ast: &ast::Expr) -> bool {
    matches!(ast, ast::Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// Names of a column list with their positions.
pub(super) fn column_list(names: &[ast::ObjectName]) -> SqlResult<Vec<(String, u32)>> {
    names.iter().map(|name| object_name(name).map(|(_, column, place)| (column, place))).collect()
}

/// The type that a hidden row identity has.
pub(super) const ROW_IDENTITY_TYPE: SqlType = SqlType::Int8;
