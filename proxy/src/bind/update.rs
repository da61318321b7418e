//! UPDATE and DELETE of one table.

use super::binder::{Binder, at, error_at, object_name, unsupported_at};
use super::insert::only_table;
use super::scope::{Clause, Level, Scope};
use super::walk;
use super::write::{Written, target_column};
use crate::bound::{BoundExpr, BoundLeaf, ColId, Delete, OutputColumn, Query, Statement, SubqueryKind, Update};
use sqlparser::ast::{self, AssignmentTarget, FromTable, Spanned};
use toroid_common::catalog::Table;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;

/// What a column is set to.
enum Value<'a> {
    Expr(&'a ast::Expr),
    /// A column of the only row of a query.
    Column(&'a Query, &'a OutputColumn),
}

impl Binder<'_> {
    pub(super) fn update(&mut self, update: &ast::Update) -> SqlResult<Statement> {
        if update.from.is_some() {
            return Err(SqlError::unsupported("UPDATE … FROM"));
        }
        if update.or.is_some() || update.limit.is_some() || !update.order_by.is_empty() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"UPDATE\""));
        }
        let (name, alias) = only_table(std::slice::from_ref(&update.table))?;
        let written = self.written(name, alias)?;
        // In PostgreSQL's order, since the first use of a parameter gives it its type.
        let filter = self.write_filter(update.selection.as_ref(), written.scope.clone())?;
        let returning = self.returning(update.returning.as_deref(), &written)?;
        self.levels.push(Level { clause: Clause::Set, ..Level::new(written.scope.clone()) });
        let set = self.set_clause(&update.assignments, &written, &[]);
        self.levels.pop();
        let set = set?;
        let Written { table, columns, .. } = written;
        Ok(Statement::Update(Update { table, filter, set, columns, returning }))
    }

    /// `columns` are those that the values may read, where EXCLUDED is among them.
    pub(super) fn set_clause(
        &mut self,
        list: &[ast::Assignment],
        written: &Written,
        columns: &[(ColId, u16)],
    ) -> SqlResult<Vec<(u16, BoundExpr)>> {
        let mut set: Vec<(u16, BoundExpr)> = Vec::with_capacity(list.len());
        for assignment in list {
            match (&assignment.target, &assignment.value) {
                (AssignmentTarget::ColumnName(name), value) => {
                    self.set_one(name, &Value::Expr(value), (written, columns), &mut set)?;
                }
                (AssignmentTarget::Tuple(names), ast::Expr::Subquery(query)) => {
                    let query = self.query(query)?;
                    as_many(names.len(), query.output.len(), self.opening(&assignment.value))?;
                    for (name, column) in names.iter().zip(&query.output) {
                        let value = Value::Column(&query, column);
                        self.set_one(name, &value, (written, columns), &mut set)?;
                    }
                }
                (AssignmentTarget::Tuple(names), value) => {
                    let values = row_values(value, names.len())?;
                    as_many(names.len(), values.len(), self.opening(&assignment.value))?;
                    for (name, value) in names.iter().zip(values) {
                        self.set_one(name, &Value::Expr(value), (written, columns), &mut set)?;
                    }
                }
            }
        }
        Ok(set)
    }

    /// Where the parenthesis before a value stands.
    fn opening(&self, value: &ast::Expr) -> u32 {
        super::special::before(self.text, at(value.span()), "(")
    }

    fn set_one(
        &mut self,
        name: &ast::ObjectName,
        value: &Value<'_>,
        (written, columns): (&Written, &[(ColId, u16)]),
        set: &mut Vec<(u16, BoundExpr)>,
    ) -> SqlResult<()> {
        let (qualifier, column, place) = object_name(name)?;
        if let Some(qualifier) = qualifier {
            let message = format!("column \"{qualifier}\" of relation \"{}\" does not exist", written.table.name);
            return Err(error_at(SqlState::UNDEFINED_COLUMN, message, place));
        }
        let table = &written.table;
        let position = target_column(table, &column, place)?;
        if set.iter().any(|(other, _)| *other == position) {
            let message = format!("multiple assignments to same column \"{column}\"");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        let Some(target) = table.columns.get(usize::from(position)) else {
            return Err(SqlError::internal("a column was lost"));
        };
        let mut expr = match value {
            Value::Expr(value) => self.assigned(value, target)?,
            Value::Column(query, column) => {
                let query = Query { rel: query.rel.clone(), output: vec![(*column).clone()] };
                self.assign_to(super::subquery::leaf(SubqueryKind::Scalar, query), target)?
            }
        };
        if table.distribution_columns().contains(&position) && !is_excluded(&expr, position, table, columns) {
            return Err(unsupported_at(format!("updating the distribution column \"{column}\""), place));
        }
        refuse_correlated(&mut expr)?;
        set.push((position, expr));
        Ok(())
    }

    pub(super) fn write_filter(&mut self, condition: Option<&ast::Expr>, scope: Scope) -> SqlResult<Option<BoundExpr>> {
        let Some(condition) = condition else { return Ok(None) };
        self.levels.push(Level { clause: Clause::Where, ..Level::new(scope) });
        let bound = self.expr(condition).and_then(|value| self.boolean(value, "WHERE"));
        self.levels.pop();
        let mut bound = bound?;
        refuse_correlated(&mut bound)?;
        Ok(Some(bound))
    }

    pub(super) fn delete(&mut self, delete: &ast::Delete) -> SqlResult<Statement> {
        if delete.using.is_some() {
            return Err(SqlError::unsupported("DELETE … USING"));
        }
        if delete.limit.is_some() || !delete.order_by.is_empty() || !delete.tables.is_empty() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"DELETE\""));
        }
        let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
        let (name, alias) = only_table(tables)?;
        let written = self.written(name, alias)?;
        let filter = self.write_filter(delete.selection.as_ref(), written.scope.clone())?;
        let returning = self.returning(delete.returning.as_deref(), &written)?;
        let Written { table, columns, .. } = written;
        Ok(Statement::Delete(Delete { table, filter, columns, returning }))
    }
}

fn as_many(columns: usize, values: usize, place: u32) -> SqlResult<()> {
    match columns == values {
        true => Ok(()),
        false => {
            let message = "number of columns does not match number of values";
            Err(error_at(SqlState::SYNTAX_ERROR, message, place))
        }
    }
}

/// The values of `(a, b) = (…)` or `ROW (…)`; a single one in parentheses is a row for PostgreSQL, too.
fn row_values(value: &ast::Expr, columns: usize) -> SqlResult<Vec<&ast::Expr>> {
    match value {
        ast::Expr::Tuple(values) => Ok(values.iter().collect()),
        ast::Expr::Nested(value) if columns == 1 => Ok(vec![value]),
        ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
            let ast::FunctionArguments::List(list) = &function.args else { return Ok(Vec::new()) };
            let value = |arg: &'_ ast::FunctionArg| match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(_)) => Ok(()),
                _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error in ROW")),
            };
            list.args.iter().try_for_each(value)?;
            Ok(list
                .args
                .iter()
                .filter_map(|arg| match arg {
                    ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(value)) => Some(value),
                    _ => None,
                })
                .collect())
        }
        _ => {
            let message = "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression";
            Err(error_at(SqlState::FEATURE_NOT_SUPPORTED, message, at(value.span())))
        }
    }
}

/// Whether a value is EXCLUDED's for the same column: rows meet by equal keys, so that it leaves the row where it is.
fn is_excluded(expr: &BoundExpr, position: u16, table: &Table, columns: &[(ColId, u16)]) -> bool {
    let Expr::Leaf(BoundLeaf::Column { id, .. }) = expr else { return false };
    columns.contains(&(*id, table.columns.len() as u16 + position))
}

/// Subqueries of a write are evaluated once, before it: they cannot read the row that is written.
pub(super) fn refuse_correlated(expr: &mut BoundExpr) -> SqlResult<()> {
    for child in walk::children(expr) {
        refuse_correlated(child)?;
    }
    match walk::subquery(expr) {
        None => Ok(()),
        Some(subquery) => walk::exprs(&mut subquery.query.rel, 1, &mut reads_no_row),
    }
}

fn reads_no_row(expr: &mut BoundExpr, depth: u16) -> SqlResult<()> {
    match expr {
        Expr::Leaf(BoundLeaf::Outer { depth: outer, .. }) if *outer >= depth => {
            return Err(SqlError::unsupported("a correlated subquery in a statement that writes"));
        }
        _ => {}
    }
    for child in walk::children(expr) {
        reads_no_row(child, depth)?;
    }
    match walk::subquery(expr) {
        None => Ok(()),
        Some(subquery) => walk::exprs(&mut subquery.query.rel, depth + 1, &mut reads_no_row),
    }
}
