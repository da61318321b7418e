//! CHECK constraints: conditions over a table's row.

use super::binder::{Binder, error_at, name_of};
use super::scope::{Clause, Level, NamedColumn, Relation, RelationKind, Scope};
use super::write::over_row;
use crate::bound::ColId;
use sqlparser::ast::{self, Expr as Ast, Spanned};
use toroid_common::catalog::{Check, Column};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval::volatility;
use toroid_common::func::Volatility;

/// A condition as it was written, perhaps with a name.
pub(super) struct Condition<'a> {
    pub(super) name: Option<&'a ast::Ident>,
    pub(super) expr: &'a Ast,
}

impl Binder<'_> {
    /// The constraint over rows of these columns; `others` have taken names of the table's constraints.
    pub(super) fn check(
        &mut self,
        condition: &Condition<'_>,
        table: &str,
        columns: &[Column],
        others: &[Check],
    ) -> SqlResult<Check> {
        let ids = self.over_columns(table, columns, Clause::Check);
        let value = self.expr(condition.expr).and_then(|value| self.boolean(value, "CHECK"));
        self.levels.pop();
        let expr = over_row(value?, &ids).map_err(|_| {
            let place = condition.expr.span().start.column as u32;
            error_at(SqlState::FEATURE_NOT_SUPPORTED, "cannot use subquery in check constraint", place)
        })?;
        if volatility(&expr) != Volatility::Immutable {
            return Err(SqlError::unsupported("a CHECK constraint that depends on time, settings or chance"));
        }
        let mut used: Vec<u16> = Vec::new();
        expr.each_leaf(&mut |slot| {
            if !used.contains(&slot.index) {
                used.push(slot.index);
            }
        });
        let own = match used.as_slice() {
            [one] => columns.get(usize::from(*one)).map(|column| column.name.as_str()),
            _ => None,
        };
        let name = match condition.name {
            Some(name) => name_of(name),
            None => free_name(table, own, others),
        };
        if others.iter().any(|check| check.name == name) {
            let message = format!("check constraint \"{name}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message));
        }
        Ok(Check { id: 0, name, expr, text: format!("({})", written(condition.expr)) })
    }

    /// Begins a level in which these columns of a table are seen, and gives them ids.
    pub(super) fn over_columns(&mut self, table: &str, columns: &[Column], clause: Clause) -> Vec<(ColId, u16)> {
        let ids: Vec<(ColId, u16)> = (0..columns.len() as u16).map(|position| (self.fresh(), position)).collect();
        let named = columns.iter().zip(&ids).filter(|(column, _)| !column.hidden);
        let named = named.map(|(column, (id, _))| NamedColumn {
            name: column.name.clone(),
            id: *id,
            ty: column.ty,
            origin: None,
        });
        let relation = Relation {
            alias: table.to_owned(),
            hidden_name: None,
            schema: None,
            columns: named.collect(),
            kind: RelationKind::Rows,
        };
        self.levels.push(Level { clause, ..Level::new(Scope::of(relation)) });
        ids
    }
}

/// `table_column_check`, or `table_check` for a condition on several columns, with a number where that is taken.
fn free_name(table: &str, column: Option<&str>, others: &[Check]) -> String {
    let wanted = match column {
        Some(column) => format!("{table}_{column}_check"),
        None => format!("{table}_check"),
    };
    let numbered = (1..).map(|number| format!("{wanted}{number}"));
    let free = |name: &String| others.iter().all(|check| check.name != *name);
    std::iter::once(wanted.clone()).chain(numbered).find(free).unwrap_or(wanted)
}

/// The condition with the parentheses that PostgreSQL prints around operators.
fn written(expr: &Ast) -> String {
    match expr {
        Ast::Nested(inner) => written(inner),
        Ast::BinaryOp { left, op, right } => format!("({} {op} {})", written(left), written(right)),
        Ast::UnaryOp { op: ast::UnaryOperator::Not, expr } => format!("(NOT {})", written(expr)),
        Ast::IsNull(inner) => format!("({} IS NULL)", written(inner)),
        Ast::IsNotNull(inner) => format!("({} IS NOT NULL)", written(inner)),
        Ast::Between { expr, negated: false, low, high } => {
            let (value, low, high) = (written(expr), written(low), written(high));
            format!("(({value} >= {low}) AND ({value} <= {high}))")
        }
        other => other.to_string(),
    }
}
