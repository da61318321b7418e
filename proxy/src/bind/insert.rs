//! INSERT: target columns, VALUES or a query cast for assignment, defaults.

use super::binder::{Binder, error_at, unsupported_at};
use super::scope::{Clause, Level};
use super::write::{bound_constant, column_list, default_of, defaults, is_default};
use crate::bound::{BoundExpr, Insert, OutputColumn, Query, Rel, Statement};
use sqlparser::ast::{self, SetExpr, Spanned, TableObject};
use toroid_common::catalog::{Column, Table};
use toroid_common::error::{SqlError, SqlResult, SqlState};

impl Binder<'_> {
    pub(super) fn insert(&mut self, insert: &ast::Insert) -> SqlResult<Statement> {
        if insert.or.is_some() || insert.overwrite || insert.replace_into || !insert.assignments.is_empty() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"INSERT\""));
        }
        let TableObject::TableName(name) = &insert.table else {
            return Err(SqlError::unsupported("INSERT into what is no table"));
        };
        if !insert.into {
            let (_, shown, place) = super::binder::object_name(name)?;
            return Err(error_at(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{shown}\""), place));
        }
        if let Some(alias) = insert.table_alias.as_ref().filter(|alias| !alias.explicit) {
            let message = format!("syntax error at or near \"{}\"", alias.alias.value);
            return Err(error_at(SqlState::SYNTAX_ERROR, message, super::binder::at(alias.alias.span)));
        }
        let written = self.written(name, insert.table_alias.as_ref().map(|a| &a.alias))?;
        let listed = column_list(&insert.columns)?;
        let mut targets = self.target_columns(&written.table, &listed)?;
        let table = std::sync::Arc::clone(&written.table);
        let source = match insert.source.as_deref() {
            None => {
                targets.clear();
                Query { rel: Rel::Values { columns: Vec::new(), rows: vec![Vec::new()] }, output: Vec::new() }
            }
            Some(query) => match (&*query.body, is_bare(query)) {
                (SetExpr::Values(values), true) => self.insert_values(values, &table, &mut targets, &listed)?,
                _ => self.insert_query(query, &table, &mut targets, &listed)?,
            },
        };
        let conflict = insert.on.as_ref().map(|on| self.on_conflict(on, &written).map(Box::new)).transpose()?;
        let returning = self.returning(insert.returning.as_deref(), &written)?;
        let (defaults, columns) = (defaults(&table), written.columns);
        Ok(Statement::Insert(Insert { table, source, targets, defaults, conflict, columns, returning }))
    }

    fn insert_values(
        &mut self,
        values: &ast::Values,
        table: &Table,
        targets: &mut Vec<u16>,
        listed: &[(String, u32)],
    ) -> SqlResult<Query> {
        let width = values.rows.first().map_or(0, |row| row.content.len());
        if let Some(odd) = values.rows.iter().find(|row| row.content.len() != width) {
            let place = odd.content.first().map_or(0, |e| super::binder::at(e.span()));
            return Err(error_at(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length", place));
        }
        let extra = values.rows.first().and_then(|row| row.content.get(targets.len()));
        fitting(width, targets, listed, extra.map_or(0, |e| super::binder::at(e.span())))?;
        self.levels.push(Level { clause: Clause::Values, ..Level::default() });
        let rows: SqlResult<Vec<Vec<BoundExpr>>> =
            values.rows.iter().map(|row| self.insert_row(&row.content, table, targets)).collect();
        self.levels.pop();
        let (mut columns, mut output) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for column in targets.iter().filter_map(|t| table.columns.get(usize::from(*t))) {
            let id = self.fresh();
            self.use_column(id);
            columns.push((id, column.ty));
            output.push(OutputColumn { name: column.name.clone(), id, ty: column.ty, origin: None });
        }
        Ok(Query { rel: Rel::Values { columns, rows: rows? }, output })
    }

    fn insert_row(&mut self, row: &[ast::Expr], table: &Table, targets: &[u16]) -> SqlResult<Vec<BoundExpr>> {
        let columns = targets.iter().filter_map(|t| table.columns.get(usize::from(*t)));
        row.iter().zip(columns).map(|(ast, column)| self.assigned(ast, column)).collect()
    }

    /// A value for a column: DEFAULT, or an expression cast for assignment.
    pub(super) fn assigned(&mut self, ast: &ast::Expr, column: &Column) -> SqlResult<BoundExpr> {
        if is_default(ast) {
            return bound_constant(default_of(column));
        }
        let value = self.expr(ast)?;
        self.assign_to(value, column)
    }

    fn insert_query(
        &mut self,
        ast: &ast::Query,
        table: &Table,
        targets: &mut Vec<u16>,
        listed: &[(String, u32)],
    ) -> SqlResult<Query> {
        let mut query = self.open_query(ast)?;
        fitting(query.output.len(), targets, listed, 0)?;
        for (index, target) in targets.iter().enumerate() {
            let Some(column) = table.columns.get(usize::from(*target)) else { continue };
            self.convert_output(&mut query, index, column.ty, &mut |binder, value| binder.assign_to(value, column))?;
        }
        Ok(query)
    }
}

/// Without WITH, ORDER BY and LIMIT.
fn is_bare(query: &ast::Query) -> bool {
    query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none()
}

/// Checks that there are as many expressions as targets; without a column list the last columns may be left out.
fn fitting(width: usize, targets: &mut Vec<u16>, listed: &[(String, u32)], extra: u32) -> SqlResult<()> {
    if width > targets.len() {
        let message = "INSERT has more expressions than target columns";
        return Err(error_at(SqlState::SYNTAX_ERROR, message, extra));
    }
    if width < targets.len() && !listed.is_empty() {
        let place = listed.get(width).map_or(0, |(_, place)| *place);
        return Err(error_at(SqlState::SYNTAX_ERROR, "INSERT has more target columns than expressions", place));
    }
    targets.truncate(width);
    Ok(())
}

/// The table of an UPDATE or DELETE, which is all that FROM may name.
pub(super) fn only_table(tables: &[ast::TableWithJoins]) -> SqlResult<(&ast::ObjectName, Option<&ast::Ident>)> {
    let [ast::TableWithJoins { relation: ast::TableFactor::Table { name, alias, args: None, .. }, joins }] = tables
    else {
        return Err(unsupported_at("writing to what is no table", 0));
    };
    if !joins.is_empty() {
        return Err(unsupported_at("writing to a join", 0));
    }
    Ok((name, alias.as_ref().map(|a| &a.name)))
}
