//! CREATE TABLE: columns, constraints, distribution.

use super::binder::{Binder, at, error_at, located, name_of, object_name, unsupported_at};
use super::check::Condition;
use super::constraint::{Constraint, check_terms, primary_terms, unique_terms};
use super::ddl::{constraint_kind, ddl_name, duplicate_column, fits_key, includes_distribution, indexable};
use super::scope::{Clause, Level};
use super::write::{ROW_IDENTITY_TYPE, over_row};
use crate::bound::{Ddl, NewTable, Statement};
use sqlparser::ast::{self, ColumnOption, CreateTableOptions, SqlOption, TableConstraint};
use toroid_common::catalog::{
    Column, DefaultValue, Distribution, Index, IndexColumn, IndexState, PUBLIC_SCHEMA, ROW_IDENTITY,
};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::{ColumnId, IndexId};
use toroid_common::limits::{MAX_COLUMNS, MAX_KEY_COLUMNS};
use toroid_common::types::{ColumnType, SqlType};

/// Keys that a table's definition asks for.
#[derive(Default)]
pub(super) struct Keys {
    primary: Option<Constraint>,
    unique: Vec<Constraint>,
}

impl Binder<'_> {
    pub(super) fn create_table(&mut self, create: &ast::CreateTable) -> SqlResult<Statement> {
        refuse_kinds(create)?;
        if let Some(query) = &create.query {
            return self.create_table_as(create, query);
        }
        let name = ddl_name(&create.name)?;
        let mut columns: Vec<Column> = Vec::with_capacity(create.columns.len() + 1);
        let mut keys = Keys::default();
        let mut conditions = Vec::new();
        for definition in &create.columns {
            let mut constraints = Vec::new();
            let column = self.new_column(definition, &mut constraints)?;
            if columns.iter().any(|c| c.name == column.name) {
                return Err(duplicate_column(&column.name, 0));
            }
            columns.push(column);
            for (primary, constraint) in constraints {
                keys.add(primary, constraint, &name.name)?;
            }
            conditions.extend(column_checks(definition));
        }
        for constraint in &create.constraints {
            match constraint {
                TableConstraint::PrimaryKey(key) => {
                    keys.add(true, Constraint::primary(key)?, &name.name)?;
                }
                TableConstraint::Unique(key) => {
                    keys.add(false, Constraint::unique(key)?, &name.name)?;
                }
                TableConstraint::Check(check) => {
                    check_terms(check)?;
                    conditions.push(Condition { name: check.name.as_ref(), expr: &check.expr });
                }
                other => return Err(SqlError::unsupported(format!("a {} constraint", constraint_kind(other)))),
            }
        }
        if columns.len() > MAX_COLUMNS {
            let message = format!("tables can have at most {MAX_COLUMNS} columns");
            return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message));
        }
        let (choice, options) = storage_options(&create.table_options)?;
        let mut table = self.laid_out(name, columns, keys, choice, options)?;
        for condition in &conditions {
            let check = self.check(condition, &table.name.name, &table.columns, &table.checks)?;
            table.checks.push(check);
        }
        table.checks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Statement::Ddl(Ddl::CreateTable { if_not_exists: create.if_not_exists, table }))
    }

    /// Settles distribution and indexes.
    pub(super) fn laid_out(
        &self,
        name: crate::bound::ObjectName,
        mut columns: Vec<Column>,
        keys: Keys,
        choice: Option<Choice>,
        options: Vec<String>,
    ) -> SqlResult<NewTable> {
        let place = |columns: &[Column], wanted: &str| columns.iter().position(|c| c.name == wanted);
        if keys.primary.is_none() && choice.is_none() {
            columns.insert(0, row_identity());
        }
        for (position, column) in columns.iter_mut().enumerate() {
            column.id = ColumnId(position as u16 + 1);
        }
        let schema = name.schema.clone().unwrap_or_else(|| PUBLIC_SCHEMA.to_owned());
        let mut indexes: Vec<Index> = Vec::new();
        if let Some(primary) = &keys.primary {
            let index = self.constraint_index(primary, true, &name.name, &schema, &columns, &indexes)?;
            for part in &index.columns {
                if let Some(column) = columns.get_mut(usize::from(part.column)) {
                    column.not_null = true;
                }
            }
            indexes.push(index);
        }
        for unique in &keys.unique {
            indexes.push(self.constraint_index(unique, false, &name.name, &schema, &columns, &indexes)?);
        }
        let distribution = match choice {
            Some(Choice::Replicated) => Distribution::Replicated,
            Some(Choice::By(list)) => Distribution::Hash(
                list.iter()
                    .map(|wanted| match place(&columns, wanted) {
                        Some(position) => Ok(position as u16),
                        None => {
                            let message = format!("column \"{wanted}\" named in distribute_by does not exist");
                            Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message))
                        }
                    })
                    .collect::<SqlResult<Vec<_>>>()?,
            ),
            None => match indexes.first().filter(|i| i.primary) {
                Some(key) => Distribution::Hash(key.columns.iter().map(|c| c.column).collect()),
                None => Distribution::Hash(vec![0]),
            },
        };
        let shown = |position: u16| columns.get(usize::from(position)).map_or(String::new(), |c| c.name.clone());
        for index in &indexes {
            let what = if index.primary { "primary key" } else { "unique constraint" };
            includes_distribution(what, &index.columns, &distribution, &shown)?;
        }
        if let Distribution::Hash(key) = &distribution {
            for column in key.iter().filter_map(|k| columns.get(usize::from(*k))) {
                indexable(column.ty.ty)?;
            }
        }
        Ok(NewTable { name, columns, indexes, checks: Vec::new(), distribution, options })
    }

    fn constraint_index(
        &self,
        constraint: &Constraint,
        primary: bool,
        table: &str,
        schema: &str,
        columns: &[Column],
        others: &[Index],
    ) -> SqlResult<Index> {
        fits_key(constraint.columns.len())?;
        let mut parts: Vec<IndexColumn> = Vec::with_capacity(constraint.columns.len());
        for (name, place) in &constraint.columns {
            let found = columns.iter().enumerate().find(|(_, c)| !c.hidden && c.name == *name);
            let Some((position, column)) = found else {
                let message = format!("column \"{name}\" named in key does not exist");
                return Err(error_at(SqlState::UNDEFINED_COLUMN, message, *place));
            };
            if parts.iter().any(|p| usize::from(p.column) == position) {
                let kind = if primary { "primary key" } else { "unique" };
                let message = format!("column \"{name}\" appears twice in {kind} constraint");
                return Err(error_at(SqlState::DUPLICATE_COLUMN, message, *place));
            }
            indexable(column.ty.ty)?;
            parts.push(IndexColumn { column: position as u16, descending: false, nulls_first: false });
        }
        let name = match &constraint.name {
            Some(name) => name.clone(),
            None if primary => self.free_name(schema, &format!("{table}_pkey")),
            None => {
                let listed: Vec<&str> = constraint.columns.iter().map(|(n, _)| n.as_str()).collect();
                let wanted = format!("{table}_{}_key", listed.join("_"));
                let same = others.iter().filter(|i| i.name.starts_with(&wanted)).count();
                self.free_name(schema, &if same == 0 { wanted } else { format!("{wanted}{same}") })
            }
        };
        let id = IndexId(0);
        Ok(Index { id, name, columns: parts, unique: true, primary, constraint: true, state: IndexState::Ready })
    }

    /// A column's definition; its PRIMARY KEY and UNIQUE go to `constraints` with whether they are primary.
    pub(super) fn new_column(
        &mut self,
        definition: &ast::ColumnDef,
        constraints: &mut Vec<(bool, Constraint)>,
    ) -> SqlResult<Column> {
        let (name, place) = (name_of(&definition.name), at(definition.name.span));
        if name == ROW_IDENTITY {
            return Err(SqlError::unsupported(format!("a column named {ROW_IDENTITY}")));
        }
        let ty =
            located(super::typing::column_type(&definition.data_type), super::typing::place(&definition.data_type))?;
        storable(&name, ty.ty)?;
        let mut column =
            Column { id: ColumnId(0), name, ty, not_null: false, default: None, missing: None, hidden: false };
        let mut nullable = false;
        for option in &definition.options {
            let constraint_name = option.name.as_ref().map(name_of);
            let own = |name| Constraint { name, columns: vec![(column.name.clone(), place)] };
            match &option.option {
                ColumnOption::Null => nullable = true,
                ColumnOption::NotNull => column.not_null = true,
                ColumnOption::Default(value) => {
                    if column.default.is_some() {
                        let message = format!("multiple default values specified for column \"{}\"", column.name);
                        return Err(error_at(SqlState::SYNTAX_ERROR, message, place));
                    }
                    column.default = Some(self.default_value(value, &column.name, ty)?);
                }
                ColumnOption::PrimaryKey(key) => {
                    primary_terms(key)?;
                    constraints.push((true, own(constraint_name)));
                }
                ColumnOption::Unique(key) => {
                    unique_terms(key)?;
                    constraints.push((false, own(constraint_name)));
                }
                ColumnOption::Collation(collation) => collation_known(collation)?,
                // Bound when all columns are known.
                ColumnOption::Check(check) => check_terms(check)?,
                other => return Err(SqlError::unsupported(format!("a {} column", option_kind(other)))),
            }
        }
        if nullable && (column.not_null || constraints.iter().any(|(primary, _)| *primary)) {
            let message = format!("conflicting NULL/NOT NULL declarations for column \"{}\"", column.name);
            return Err(error_at(SqlState::SYNTAX_ERROR, message, place));
        }
        Ok(column)
    }

    /// DEFAULT: an expression without columns, cast for assignment.
    pub(super) fn default_value(&mut self, ast: &ast::Expr, column: &str, ty: ColumnType) -> SqlResult<DefaultValue> {
        self.levels.push(Level { clause: Clause::Default, ..Level::default() });
        let value = self.expr(ast);
        self.levels.pop();
        let value = value.map_err(|error| match error.state() {
            SqlState::UNDEFINED_COLUMN | SqlState::UNDEFINED_TABLE => {
                SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cannot use column reference in DEFAULT expression")
                    .at(error.position().unwrap_or(1))
            }
            _ => error,
        })?;
        let (from, place, modifier) = (value.ty(), value.at, value.modifier);
        let text = default_text(ast, &value, ty);
        let value = super::binder::Typed { expr: value.expr, modifier, at: place };
        let cast = self.convert(value, ty, toroid_common::expr::CastContext::Assignment)?.ok_or_else(|| {
            let message = format!("column \"{column}\" is of type {} but default expression is of type {from}", ty.ty);
            SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("You will need to rewrite or cast the expression.")
        })?;
        let expr = over_row(cast, &[])
            .map_err(|_| SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cannot use subquery in DEFAULT expression"))?;
        Ok(DefaultValue { expr, text })
    }
}

/// The conditions of a column's definition.
fn column_checks(definition: &ast::ColumnDef) -> impl Iterator<Item = Condition<'_>> {
    definition.options.iter().filter_map(|option| match &option.option {
        ColumnOption::Check(check) => {
            Some(Condition { name: option.name.as_ref().or(check.name.as_ref()), expr: &check.expr })
        }
        _ => None,
    })
}

impl Keys {
    fn add(&mut self, primary: bool, constraint: Constraint, table: &str) -> SqlResult<()> {
        if !primary {
            self.unique.push(constraint);
            return Ok(());
        }
        match self.primary.replace(constraint) {
            None => Ok(()),
            Some(_) => {
                let message = format!("multiple primary keys for table \"{table}\" are not allowed");
                Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message))
            }
        }
    }
}

fn row_identity() -> Column {
    Column {
        id: ColumnId(0),
        name: ROW_IDENTITY.to_owned(),
        ty: ROW_IDENTITY_TYPE.into(),
        not_null: true,
        default: None,
        missing: None,
        hidden: true,
    }
}

/// As `pg_get_expr` would print it.
fn default_text(ast: &ast::Expr, value: &super::binder::Typed, ty: ColumnType) -> String {
    let literal = super::expr::text_of(&value.expr);
    match literal {
        Some(text) => format!("'{}'::{}", text.replace('\'', "''"), ty.ty),
        None => ast.to_string(),
    }
}

/// Types that a table can hold.
fn storable(column: &str, ty: SqlType) -> SqlResult<()> {
    match ty {
        SqlType::Unknown | SqlType::Void => {
            let message = format!("column \"{column}\" has pseudo-type {ty}");
            Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message))
        }
        SqlType::Array(_) | SqlType::Oid | SqlType::Name | SqlType::Char | SqlType::Regclass | SqlType::Regtype => {
            Err(SqlError::unsupported(format!("a column of type {ty}")))
        }
        _ => Ok(()),
    }
}

fn collation_known(collation: &ast::ObjectName) -> SqlResult<()> {
    let (_, name, place) = object_name(collation)?;
    match name.as_str() {
        "default" | "C" | "POSIX" | "ucs_basic" => Ok(()),
        _ => Err(unsupported_at(format!("collation \"{name}\""), place)),
    }
}

/// Which constraints and the like a column's definition has.
pub(super) fn column_option_names(definition: &ast::ColumnDef) -> impl Iterator<Item = &'static str> {
    definition.options.iter().filter(|o| !matches!(o.option, ColumnOption::Null)).map(|o| option_kind(&o.option))
}

fn option_kind(option: &ColumnOption) -> &'static str {
    match option {
        ColumnOption::NotNull => "NOT NULL",
        ColumnOption::Default(_) => "DEFAULT",
        ColumnOption::PrimaryKey(_) => "PRIMARY KEY",
        ColumnOption::Unique(_) => "UNIQUE",
        ColumnOption::ForeignKey(_) => "REFERENCES",
        ColumnOption::Check(_) => "CHECK",
        ColumnOption::Generated { .. } | ColumnOption::Identity(_) => "GENERATED",
        ColumnOption::Collation(_) => "COLLATE",
        _ => "specially defined",
    }
}

/// WITH (distribute_by = …) or WITH (replicated).
pub(super) enum Choice {
    By(Vec<String>),
    Replicated,
}

pub(super) fn storage_options(options: &CreateTableOptions) -> SqlResult<(Option<Choice>, Vec<String>)> {
    let list = match options {
        CreateTableOptions::None => return Ok((None, Vec::new())),
        CreateTableOptions::With(list)
        | CreateTableOptions::Options(list)
        | CreateTableOptions::Plain(list)
        | CreateTableOptions::TableProperties(list) => list,
    };
    let (mut choice, mut kept) = (None, Vec::new());
    for option in list {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(SqlError::unsupported(format!("the table option {option}")));
        };
        let (name, text) = (name_of(key), option_text(value));
        match name.as_str() {
            "distribute_by" => {
                let columns = text
                    .split(',')
                    .flat_map(toroid_common::types::input::split_name)
                    .filter(|c| !c.is_empty())
                    .collect();
                choice = Some(Choice::By(columns));
            }
            "replicated" => match text.as_str() {
                "true" | "on" | "1" => choice = Some(Choice::Replicated),
                "false" | "off" | "0" => {}
                _ => {
                    let message = format!("invalid value for boolean option \"replicated\": {text}");
                    return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
                }
            },
            "oids" if text == "true" => {
                let message = "tables declared WITH OIDS are not supported";
                return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
            "oids" => {}
            _ if is_storage_parameter(&name) => kept.push(format!("{name}={text}")),
            _ => {
                let message = format!("unrecognized parameter \"{name}\"");
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        }
    }
    if matches!(&choice, Some(Choice::By(list)) if list.is_empty() || list.len() > MAX_KEY_COLUMNS) {
        let message = format!("distribute_by takes 1 to {MAX_KEY_COLUMNS} columns");
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok((choice, kept))
}

fn is_storage_parameter(name: &str) -> bool {
    matches!(
        name,
        "fillfactor" | "parallel_workers" | "user_catalog_table" | "vacuum_truncate" | "vacuum_index_cleanup"
    ) || name.starts_with("autovacuum_")
        || name.starts_with("toast")
        || name.starts_with("log_autovacuum")
}

fn option_text(value: &ast::Expr) -> String {
    match value {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string().to_ascii_lowercase(),
        },
        ast::Expr::Identifier(ident) => name_of(ident),
        other => other.to_string(),
    }
}

fn refuse_kinds(create: &ast::CreateTable) -> SqlResult<()> {
    let refused = if create.temporary || create.global.is_some() {
        Some("a temporary table")
    } else if create.like.is_some() {
        Some("CREATE TABLE … LIKE")
    } else if create.inherits.is_some() {
        Some("INHERITS")
    } else if create.partition_by.is_some() || create.partition_of.is_some() {
        Some("a partitioned table")
    } else if create.external || create.or_replace || create.clone.is_some() {
        Some("this form of CREATE TABLE")
    } else if create.on_commit.is_some() {
        Some("ON COMMIT")
    } else {
        None
    };
    refused.map_or(Ok(()), |what| Err(SqlError::unsupported(what)))
}
