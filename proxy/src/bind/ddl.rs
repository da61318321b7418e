//! DROP, TRUNCATE, CREATE INDEX, ALTER TABLE, and refusals of what does not exist here.

use super::binder::{Binder, Typed, error_at, name_of, object_name, unsupported_at};
use super::check::Condition;
use super::constraint::{Constraint, check_terms};
use super::create::column_option_names;
use super::scope::Clause;
use super::select::direction;
use super::typing::column_type;
use super::write::{bound_constant, over_row, target_column};
use crate::bound::{AlterAction, BoundLeaf, Ddl, ObjectName, Statement};
use sqlparser::ast::{self, AlterColumnOperation, AlterTableOperation, ObjectType, TableConstraint};
use std::sync::Arc;
use toroid_common::catalog::{Column, DefaultValue, Distribution, Index, IndexColumn, IndexState, Table};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::{CastContext, Expr};
use toroid_common::id::IndexId;
use toroid_common::limits::MAX_KEY_COLUMNS;
use toroid_common::types::SqlType;

pub(super) fn ddl_name(name: &ast::ObjectName) -> SqlResult<ObjectName> {
    let (schema, name, _) = object_name(name)?;
    Ok(ObjectName { schema, name })
}

fn names(list: &[ast::ObjectName]) -> SqlResult<Vec<ObjectName>> {
    list.iter().map(ddl_name).collect()
}

impl Binder<'_> {
    pub(super) fn drop(
        &mut self,
        kind: ObjectType,
        if_exists: bool,
        list: &[ast::ObjectName],
        cascade: bool,
        concurrently: bool,
    ) -> SqlResult<Statement> {
        if concurrently && (cascade || list.len() > 1) {
            let what = if list.len() > 1 { "dropping multiple objects" } else { "CASCADE" };
            let text = format!("DROP INDEX CONCURRENTLY does not support {what}");
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, text));
        }
        match kind {
            ObjectType::Table => Ok(Statement::Ddl(Ddl::DropTable { if_exists, names: names(list)?, cascade })),
            ObjectType::Index => Ok(Statement::Ddl(Ddl::DropIndex { if_exists, concurrently, names: names(list)? })),
            other => Err(SqlError::unsupported(format!("DROP {other}"))),
        }
    }

    pub(super) fn truncate(&mut self, truncate: &ast::Truncate) -> SqlResult<Statement> {
        let list = truncate.table_names.iter().map(|t| ddl_name(&t.name)).collect::<SqlResult<Vec<_>>>()?;
        Ok(Statement::Ddl(Ddl::Truncate { names: list }))
    }

    pub(super) fn create_index(&mut self, create: &ast::CreateIndex) -> SqlResult<Statement> {
        let (schema, name, _) = object_name(&create.table_name)?;
        let table = self.written_table(schema.as_deref(), &name, 0)?;
        if create.predicate.is_some() {
            return Err(SqlError::unsupported("a partial index"));
        }
        if !create.include.is_empty() {
            return Err(SqlError::unsupported("INCLUDE in an index"));
        }
        if create.nulls_distinct == Some(false) {
            return Err(SqlError::unsupported("NULLS NOT DISTINCT"));
        }
        match &create.using {
            None | Some(ast::IndexType::BTree) => {}
            Some(other) => return Err(SqlError::unsupported(format!("index access method {other}"))),
        }
        let columns = index_columns(&create.columns, &table)?;
        if create.unique {
            must_include_distribution("unique index", &columns, &table)?;
        }
        let name = match &create.name {
            Some(name) => object_name(name)?.1,
            None => self.index_name(&table, &columns),
        };
        let index = Index {
            id: IndexId(0),
            name,
            columns,
            unique: create.unique,
            primary: false,
            constraint: false,
            state: IndexState::Building,
        };
        let (if_not_exists, concurrently) = (create.if_not_exists, create.concurrently);
        Ok(Statement::Ddl(Ddl::CreateIndex { if_not_exists, table, index, concurrently }))
    }

    /// `table_a_b_idx`, with a number where that is taken.
    fn index_name(&self, table: &Table, columns: &[IndexColumn]) -> String {
        let parts: Vec<&str> =
            columns.iter().filter_map(|c| table.columns.get(usize::from(c.column))).map(|c| c.name.as_str()).collect();
        self.free_name(&table.schema, &format!("{}_{}_idx", table.name, parts.join("_")))
    }

    /// The name, or the name with the first number that makes it new.
    pub(super) fn free_name(&self, schema: &str, wanted: &str) -> String {
        let taken = |name: &str| {
            self.cx.catalog.find(schema, name).is_some() || self.cx.catalog.find_index(schema, name).is_some()
        };
        let numbered = (1..).map(|n| format!("{wanted}{n}"));
        std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
    }

    pub(super) fn alter_table(&mut self, alter: &ast::AlterTable) -> SqlResult<Statement> {
        let name = ddl_name(&alter.name)?;
        let mut table = self.stored_table(name.schema.as_deref(), &name.name);
        // What it is when its columns have their new types.
        let mut retyped = table.clone();
        let mut actions = Vec::with_capacity(alter.operations.len());
        let mut operations: Vec<&AlterTableOperation> = alter.operations.iter().collect();
        operations.sort_by_key(|operation| pass(operation));
        for operation in operations {
            let seen = if pass(operation) == TYPES { &table } else { &retyped };
            let bound = self.alter_action(operation, seen.as_deref())?;
            for action in &bound {
                match action {
                    AlterAction::SetType { column, ty, .. } => change(&mut retyped, column, |column| column.ty = *ty),
                    AlterAction::DropDefault { column } => change(&mut table, column, |column| column.default = None),
                    _ => {}
                }
            }
            actions.extend(bound);
        }
        Ok(Statement::Ddl(Ddl::AlterTable { if_exists: alter.if_exists, name, actions }))
    }

    fn alter_action(&mut self, operation: &AlterTableOperation, table: Option<&Table>) -> SqlResult<Vec<AlterAction>> {
        let one = |action| Ok(vec![action]);
        match operation {
            AlterTableOperation::AddColumn { if_not_exists, column_def, .. } => {
                if let Some(name) = column_option_names(column_def).find(|n| *n != "NOT NULL" && *n != "DEFAULT") {
                    return Err(SqlError::unsupported(format!("ADD COLUMN with {name}")));
                }
                let column = self.new_column(column_def, &mut Vec::new())?;
                one(AlterAction::AddColumn { if_not_exists: *if_not_exists, column })
            }
            AlterTableOperation::DropColumn { column_names, if_exists, .. } => Ok(column_names
                .iter()
                .map(|name| AlterAction::DropColumn { if_exists: *if_exists, name: name_of(name) })
                .collect()),
            AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                one(AlterAction::RenameColumn { from: name_of(old_column_name), to: name_of(new_column_name) })
            }
            AlterTableOperation::RenameTable { table_name } => match table_name {
                ast::RenameTableNameKind::To(name) | ast::RenameTableNameKind::As(name) => {
                    one(AlterAction::RenameTable { to: object_name(name)?.1 })
                }
            },
            AlterTableOperation::AddConstraint { not_valid: true, .. } => {
                Err(SqlError::unsupported("a constraint that is NOT VALID"))
            }
            AlterTableOperation::AddConstraint { constraint, not_valid: false } => match constraint {
                TableConstraint::PrimaryKey(key) => {
                    let Constraint { name, columns } = Constraint::primary(key)?;
                    one(AlterAction::AddPrimaryKey { name, columns: columns.into_iter().map(|(c, _)| c).collect() })
                }
                TableConstraint::Check(check) => {
                    check_terms(check)?;
                    let Some(table) = table else { return one(AlterAction::Unseen) };
                    let condition = Condition { name: check.name.as_ref(), expr: &check.expr };
                    // A name that is taken is found when the table is altered.
                    let others = if condition.name.is_some() { &[] } else { table.checks.as_slice() };
                    one(AlterAction::AddCheck(self.check(&condition, &table.name, &table.columns, others)?))
                }
                TableConstraint::Unique(key) => {
                    let Constraint { name, columns } = Constraint::unique(key)?;
                    one(match table {
                        Some(_) => {
                            AlterAction::AddUnique { name, columns: columns.into_iter().map(|(c, _)| c).collect() }
                        }
                        None => AlterAction::Unseen,
                    })
                }
                other => Err(SqlError::unsupported(format!("ADD {}", constraint_kind(other)))),
            },
            AlterTableOperation::DropConstraint { if_exists, name, .. } => {
                one(AlterAction::DropConstraint { if_exists: *if_exists, name: name_of(name) })
            }
            AlterTableOperation::AlterColumn { column_name, op } => self.alter_column(&name_of(column_name), op, table),
            AlterTableOperation::SetOptionsParens { options }
            | AlterTableOperation::SetTblProperties { table_properties: options } => {
                one(AlterAction::Options(options.iter().map(|o| o.to_string()).collect()))
            }
            // There is one user and one way to keep rows: nothing changes.
            AlterTableOperation::OwnerTo { .. } | AlterTableOperation::SetLogged | AlterTableOperation::SetUnlogged => {
                Ok(Vec::new())
            }
            other => Err(SqlError::unsupported(format!("ALTER TABLE … {other}"))),
        }
    }

    fn alter_column(
        &mut self,
        column: &str,
        op: &AlterColumnOperation,
        table: Option<&Table>,
    ) -> SqlResult<Vec<AlterAction>> {
        let column = column.to_owned();
        Ok(vec![match op {
            AlterColumnOperation::SetNotNull => AlterAction::SetNotNull { column },
            AlterColumnOperation::DropNotNull => AlterAction::DropNotNull { column },
            AlterColumnOperation::DropDefault => AlterAction::DropDefault { column },
            AlterColumnOperation::SetDefault { value } => {
                let Some(table) = table else { return Ok(vec![AlterAction::Unseen]) };
                let position = target_column(table, &column, 0)?;
                let Some(target) = table.columns.get(usize::from(position)) else { return Ok(Vec::new()) };
                AlterAction::SetDefault { default: self.default_value(value, &column, target.ty)?, column }
            }
            AlterColumnOperation::SetDataType { data_type, using, .. } => {
                let Some(table) = table else { return Ok(vec![AlterAction::Unseen]) };
                self.set_type(column, data_type, using.as_ref(), table)?
            }
            AlterColumnOperation::AddGenerated { .. } => return Err(SqlError::unsupported("a GENERATED column")),
        }])
    }
}

impl Binder<'_> {
    /// ALTER COLUMN … TYPE: the column's values, or what USING makes of a row, cast as for assignment; the default likewise.
    fn set_type(
        &mut self,
        column: String,
        data_type: &ast::DataType,
        using: Option<&ast::Expr>,
        table: &Table,
    ) -> SqlResult<AlterAction> {
        let ty = column_type(data_type)?;
        let position = target_column(table, &column, 0)?;
        let old = table.columns.get(usize::from(position)).ok_or_else(|| SqlError::internal("a column is gone"))?;
        if table.indexes.iter().any(|index| index.columns.iter().any(|part| part.column == position)) {
            indexable(ty.ty)?;
        }
        let ids = self.over_columns(&table.name, &table.columns, Clause::Check);
        let value = match (using, ids.get(usize::from(position))) {
            (Some(using), _) => self.expr(using),
            (None, Some((id, _))) => {
                let leaf = Expr::Leaf(BoundLeaf::Column { id: *id, ty: old.ty.ty });
                Ok(Typed { modifier: old.ty.modifier, ..Typed::new(leaf, 0) })
            }
            (None, None) => Err(SqlError::internal("a column without an id")),
        };
        let value = value.and_then(|value| self.convert(value, ty, CastContext::Assignment));
        self.levels.pop();
        let mismatch = |what: String, hint: String| {
            let text = format!("{what} cannot be cast automatically to type {}", ty.ty);
            let error = SqlError::new(SqlState::DATATYPE_MISMATCH, text);
            if hint.is_empty() { error } else { error.with_hint(hint) }
        };
        let value = value?.ok_or_else(|| match using {
            Some(_) => mismatch(
                format!("result of USING clause for column \"{column}\""),
                "You might need to add an explicit cast.".to_owned(),
            ),
            None => mismatch(
                format!("column \"{column}\""),
                format!("You might need to specify \"USING {column}::{}\".", ty.ty),
            ),
        })?;
        let values = over_row(value, &ids).map_err(|_| {
            SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cannot use subquery in transform expression")
        })?;
        let default = match &old.default {
            None => None,
            Some(default) => {
                let before = Typed::new(bound_constant(default.expr.clone())?, 0);
                let after = self.convert(before, ty, CastContext::Assignment)?;
                let after = after.ok_or_else(|| mismatch(format!("default for column \"{column}\""), String::new()))?;
                Some(DefaultValue { expr: over_row(after, &[])?, text: default.text.clone() })
            }
        };
        Ok(AlterAction::SetType { column, ty, values, default })
    }
}

fn change(table: &mut Option<Arc<Table>>, name: &str, action: impl FnOnce(&mut Column)) {
    if let Some(table) = table
        && let Some(column) = Arc::make_mut(table).columns.iter_mut().find(|c| c.name == name)
    {
        action(column);
    }
}

/// In which order the actions of a statement are taken: what goes, then other types, then all else, which is about columns of the new types.
fn pass(operation: &AlterTableOperation) -> u8 {
    match operation {
        AlterTableOperation::DropColumn { .. }
        | AlterTableOperation::DropConstraint { .. }
        | AlterTableOperation::AlterColumn { op: AlterColumnOperation::DropDefault, .. } => 0,
        AlterTableOperation::AlterColumn { op: AlterColumnOperation::SetDataType { .. }, .. } => TYPES,
        _ => TYPES + 1,
    }
}

/// The pass of ALTER COLUMN … TYPE.
const TYPES: u8 = 1;

/// What a constraint is called in an error.
pub(super) fn constraint_kind(constraint: &TableConstraint) -> &'static str {
    match constraint {
        TableConstraint::Unique(_) => "UNIQUE",
        TableConstraint::PrimaryKey(_) => "PRIMARY KEY",
        TableConstraint::ForeignKey(_) => "FOREIGN KEY",
        TableConstraint::Check(_) => "CHECK",
        TableConstraint::Exclude(_) => "EXCLUDE",
        TableConstraint::PrimaryKeyUsingIndex(_) | TableConstraint::UniqueUsingIndex(_) => "CONSTRAINT … USING INDEX",
        TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_) => "INDEX",
    }
}

/// The column that a part of an index names, if it is a plain one.
pub(super) fn plain_index_column(part: &ast::IndexColumn) -> SqlResult<(String, u32)> {
    match &part.column.expr {
        ast::Expr::Identifier(ident) => Ok((name_of(ident), super::binder::at(ident.span))),
        _ => Err(SqlError::unsupported("an index on an expression")),
    }
}

fn index_columns(parts: &[ast::IndexColumn], table: &Table) -> SqlResult<Vec<IndexColumn>> {
    fits_key(parts.len())?;
    let mut columns = Vec::with_capacity(parts.len());
    for part in parts {
        let (name, _) = plain_index_column(part)?;
        let Some((position, column)) = table.column(&name) else {
            let message = format!("column \"{name}\" does not exist");
            return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message));
        };
        indexable(column.ty.ty)?;
        let (descending, nulls_first) = direction(&part.column.options)?;
        columns.push(IndexColumn { column: position as u16, descending, nulls_first });
    }
    Ok(columns)
}

/// How many columns a key may have.
pub(crate) fn fits_key(columns: usize) -> SqlResult<()> {
    if columns > MAX_KEY_COLUMNS {
        let message = format!("cannot use more than {MAX_KEY_COLUMNS} columns in an index");
        return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message));
    }
    Ok(())
}

/// Types that have an order.
pub(crate) fn indexable(ty: SqlType) -> SqlResult<()> {
    match ty {
        SqlType::Json => {
            let message = format!("data type {ty} has no default operator class for access method \"btree\"");
            Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message)
                .with_hint("You must specify an operator class for the index or define a default operator class for the data type."))
        }
        // Keys are compared as bytes, and those of jsonb do not follow its order.
        _ if ty.element().unwrap_or(ty) == SqlType::Jsonb => {
            Err(SqlError::unsupported("an index or distribution by jsonb"))
        }
        _ if ty.element() == Some(SqlType::Json) => Err(SqlError::unsupported("an index or distribution by json[]")),
        _ => Ok(()),
    }
}

/// Uniqueness is checked inside a partition, so that equal keys must meet in one.
pub(super) fn must_include_distribution(what: &str, columns: &[IndexColumn], table: &Table) -> SqlResult<()> {
    includes_distribution(what, columns, &table.distribution, &|position| {
        table.columns.get(usize::from(position)).map_or(String::new(), |c| c.name.clone())
    })
}

pub(super) fn includes_distribution(
    what: &str,
    columns: &[IndexColumn],
    distribution: &Distribution,
    name: &dyn Fn(u16) -> String,
) -> SqlResult<()> {
    let key: &[u16] = match distribution {
        Distribution::Hash(key) => key,
        Distribution::Replicated => &[],
    };
    if key.iter().all(|part| columns.iter().any(|c| c.column == *part)) {
        return Ok(());
    }
    let shown: Vec<String> = key.iter().map(|part| name(*part)).collect();
    let shown = match shown.as_slice() {
        [hidden] if hidden == toroid_common::catalog::ROW_IDENTITY => "row identity".to_owned(),
        _ => shown.join(", "),
    };
    Err(SqlError::unsupported(format!("a {what} that does not include the distribution key ({shown})")))
}

/// The refusal of a statement that is no table's.
pub(super) fn refused(statement: &ast::Statement) -> SqlError {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let named = match words.as_slice() {
        [verb @ ("CREATE" | "ALTER" | "DROP" | "COMMENT"), object] => format!("{verb} {object}"),
        [verb, ..] => (*verb).to_owned(),
        [] => "this statement".to_owned(),
    };
    unsupported_at(named, 0)
}

/// A duplicate column in a list of definitions or of a key.
pub(super) fn duplicate_column(name: &str, place: u32) -> SqlError {
    error_at(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"), place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_no_key() {
        let state = |ty| indexable(ty).err().map(|error| error.state());
        assert_eq!(state(SqlType::Json), Some(SqlState::UNDEFINED_OBJECT));
        assert_eq!(state(SqlType::Jsonb), Some(SqlState::FEATURE_NOT_SUPPORTED));
        assert_eq!(SqlType::Jsonb.array().and_then(state), Some(SqlState::FEATURE_NOT_SUPPORTED));
        assert_eq!(state(SqlType::Text), None);
    }
}
