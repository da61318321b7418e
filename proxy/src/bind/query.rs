//! Queries: WITH, the body, ORDER BY of what is no SELECT, LIMIT; set operations and VALUES; casts of whole output columns.

use super::binder::{Binder, CommonTable, Typed, at, error_at, located, name_of, unsupported_at};
use super::lock::{refuse_locks, refuse_locks_of_side};
use super::scope::{Clause, Level, NamedColumn, Relation, RelationKind, Scope};
use super::select::{direction, ordinal};
use crate::bound::{BoundExpr, BoundLeaf, ColId, OutputColumn, Query, Rel, SetOp, SortKey, Statement};
use sqlparser::ast::{self, LimitClause, OrderByKind, SetExpr, SetOperator, SetQuantifier, Spanned};
use std::rc::Rc;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::{CastContext, Expr};
use toroid_common::func;
use toroid_common::types::{ColumnType, SqlType};

impl Binder<'_> {
    /// A query whose output columns all have a type.
    pub(super) fn query(&mut self, ast: &ast::Query) -> SqlResult<Query> {
        self.nested(|binder| binder.query_body(ast, false))
    }

    /// A query whose literals take their type from the outside: one side of a set operation, the source of an INSERT.
    pub(super) fn open_query(&mut self, ast: &ast::Query) -> SqlResult<Query> {
        self.nested(|binder| binder.query_body(ast, true))
    }

    fn query_body(&mut self, ast: &ast::Query, open: bool) -> SqlResult<Query> {
        let tables = self.tables.len();
        if let Some(with) = &ast.with {
            self.with(with)?;
        }
        let order = order_keys(ast.order_by.as_ref())?;
        let bound = self.body(&ast.body, (order, &ast.locks), open).and_then(|query| self.limited(query, ast));
        self.tables.truncate(tables);
        bound
    }

    /// A statement that writes behind WITH.
    pub(super) fn write_with(&mut self, with: Option<&ast::With>, statement: &ast::Statement) -> SqlResult<Statement> {
        let tables = self.tables.len();
        if let Some(with) = with {
            self.with(with)?;
        }
        let bound = self.statement(statement);
        self.tables.truncate(tables);
        bound
    }

    /// Registers CTEs; each is bound once here, so that faults of one that nobody reads are found.
    fn with(&mut self, with: &ast::With) -> SqlResult<()> {
        if with.recursive {
            return Err(SqlError::unsupported("WITH RECURSIVE"));
        }
        let first = self.tables.len();
        for cte in &with.cte_tables {
            let name = name_of(&cte.alias.name);
            let place = at(cte.alias.name.span);
            if self.tables.iter().skip(first).any(|t| t.name == name) {
                let message = format!("WITH query name \"{name}\" specified more than once");
                return Err(error_at(SqlState::DUPLICATE_ALIAS, message, place));
            }
            if matches!(
                *cte.query.body,
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
            ) {
                return Err(unsupported_at("a statement that writes in WITH", place));
            }
            self.query(&cte.query)?;
            let columns = cte.alias.columns.iter().map(|c| name_of(&c.name)).collect();
            let (levels, tables) = (self.levels.len(), self.tables.len());
            self.tables.push(CommonTable { name, columns, query: Rc::new((*cte.query).clone()), levels, tables });
        }
        Ok(())
    }

    /// The body with what is said behind it: ORDER BY and locking clauses.
    fn body(
        &mut self,
        body: &SetExpr,
        (order, locks): (&[ast::OrderByExpr], &[ast::LockClause]),
        open: bool,
    ) -> SqlResult<Query> {
        refuse_locks(body, locks)?;
        match body {
            SetExpr::Select(select) => self.select(select, order, locks, open),
            SetExpr::Query(inner) => {
                let query = if open { self.open_query(inner)? } else { self.query(inner)? };
                self.sorted(query, order, false)
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let query = self.set_operation(left, *op, *set_quantifier, right)?;
                self.sorted(query, order, true)
            }
            SetExpr::Values(values) => {
                let query = self.values(values, open)?;
                self.sorted(query, order, false)
            }
            SetExpr::Table(table) => self.table_command(table, order, open),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(SqlError::unsupported("a statement that writes inside a query"))
            }
        }
    }

    /// `TABLE t` is `SELECT * FROM t`.
    fn table_command(&mut self, table: &ast::Table, order: &[ast::OrderByExpr], open: bool) -> SqlResult<Query> {
        let name = match (&table.schema_name, &table.table_name) {
            (Some(schema), Some(table)) => format!("\"{schema}\".\"{table}\""),
            (None, Some(table)) => format!("\"{table}\""),
            (_, None) => return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")),
        };
        let text = format!("SELECT * FROM {name}");
        let tokens = crate::parse::lex::tokens(&text)?;
        let query = crate::parse::parse_with(&text, &tokens, |p| p.parse_query())?;
        let bound = if open { self.open_query(&query)? } else { self.query(&query)? };
        self.sorted(bound, order, false)
    }

    /// ORDER BY over output columns.
    fn sorted(&mut self, query: Query, order: &[ast::OrderByExpr], names_only: bool) -> SqlResult<Query> {
        if order.is_empty() {
            return Ok(query);
        }
        let named = |c: &OutputColumn| NamedColumn { name: c.name.clone(), id: c.id, ty: c.ty, origin: c.origin };
        let columns: Vec<NamedColumn> = query.output.iter().map(named).collect();
        let relation =
            Relation { alias: String::new(), hidden_name: None, schema: None, columns, kind: RelationKind::Rows };
        self.levels.push(Level { clause: Clause::OrderBy, ..Level::new(Scope::of(relation)) });
        let keys = self.output_keys(&query, order, names_only);
        self.levels.pop();
        Ok(Query { rel: Rel::Sort { input: Box::new(query.rel), keys: keys? }, output: query.output })
    }

    fn output_keys(&mut self, query: &Query, order: &[ast::OrderByExpr], names_only: bool) -> SqlResult<Vec<SortKey>> {
        let mut keys = Vec::with_capacity(order.len());
        for key in order {
            let value = match ordinal(&key.expr, query.output.len(), "ORDER BY")? {
                Some((index, place)) => match query.output.get(index) {
                    Some(c) => Typed::new(Expr::Leaf(BoundLeaf::Column { id: c.id, ty: c.ty.ty }), place),
                    None => return Err(SqlError::internal("an ordinal beyond the list")),
                },
                None => {
                    if names_only && !matches!(key.expr, ast::Expr::Identifier(_)) {
                        let message = "invalid UNION/INTERSECT/EXCEPT ORDER BY clause";
                        let place = at(key.expr.span());
                        return Err(error_at(SqlState::FEATURE_NOT_SUPPORTED, message, place)
                            .with_detail("Only result column names can be used, not expressions or functions.")
                            .with_hint(
                                "Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                            ));
                    }
                    self.expr(&key.expr)?
                }
            };
            located(func::less_of(value.ty()), value.at)?;
            let (descending, nulls_first) = direction(&key.options)?;
            keys.push(SortKey { expr: value.expr, descending, nulls_first });
        }
        Ok(keys)
    }

    fn limited(&mut self, query: Query, ast: &ast::Query) -> SqlResult<Query> {
        let (mut limit, mut offset) = (None, None);
        match &ast.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit: l, offset: o, limit_by }) => {
                if !limit_by.is_empty() {
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"BY\""));
                }
                limit = l.as_ref().map(|l| self.count(l, "LIMIT", &query)).transpose()?;
                offset = o.as_ref().map(|o| self.count(&o.value, "OFFSET", &query)).transpose()?;
            }
            Some(LimitClause::OffsetCommaLimit { .. }) => {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "LIMIT #,# syntax is not supported")
                    .with_hint("Use separate LIMIT and OFFSET clauses."));
            }
        }
        if let Some(fetch) = &ast.fetch {
            if fetch.with_ties || fetch.percent {
                return Err(SqlError::unsupported("FETCH with TIES or PERCENT"));
            }
            limit = Some(match &fetch.quantity {
                Some(quantity) => self.count(quantity, "LIMIT", &query)?,
                None => Expr::Const { value: toroid_common::datum::Datum::Int8(1), ty: SqlType::Int8 },
            });
        }
        if limit.is_none() && offset.is_none() {
            return Ok(query);
        }
        Ok(Query { rel: Rel::Limit { input: Box::new(query.rel), limit, offset }, output: query.output })
    }

    /// The argument of LIMIT or OFFSET: an int8 without columns.
    fn count(&mut self, ast: &ast::Expr, construct: &str, query: &Query) -> SqlResult<BoundExpr> {
        if let ast::Expr::Identifier(ident) = ast
            && query.output.iter().any(|c| c.name == name_of(ident))
        {
            let message = format!("argument of {construct} must not contain variables");
            return Err(error_at(SqlState::INVALID_COLUMN_REFERENCE, message, at(ident.span)));
        }
        self.levels.push(Level { clause: Clause::Limit, ..Level::default() });
        let value = self.expr(ast);
        self.levels.pop();
        let value = value?;
        let (from, place) = (value.ty(), value.at);
        self.convert(value, ColumnType::from(SqlType::Int8), CastContext::Implicit)?.ok_or_else(|| {
            let message = format!("argument of {construct} must be type bigint, not type {from}");
            error_at(SqlState::DATATYPE_MISMATCH, message, place)
        })
    }

    fn set_operation(
        &mut self,
        left: &SetExpr,
        op: SetOperator,
        quantifier: SetQuantifier,
        right: &SetExpr,
    ) -> SqlResult<Query> {
        let (op, word) = match op {
            SetOperator::Union => (SetOp::Union, "UNION"),
            SetOperator::Intersect => (SetOp::Intersect, "INTERSECT"),
            SetOperator::Except => (SetOp::Except, "EXCEPT"),
            SetOperator::Minus => {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"MINUS\""));
            }
        };
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::None | SetQuantifier::Distinct => false,
            _ => return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"BY\"")),
        };
        refuse_locks_of_side(left)?;
        refuse_locks_of_side(right)?;
        let mut sides = [
            self.nested(|binder| binder.body(left, (&[], &[]), true))?,
            self.nested(|binder| binder.body(right, (&[], &[]), true))?,
        ];
        let [first, second] = &sides;
        if first.output.len() != second.output.len() {
            let message = format!("each {word} query must have the same number of columns");
            return Err(error_at(SqlState::SYNTAX_ERROR, message, first_target(right)));
        }
        let mut output = Vec::with_capacity(first.output.len());
        for index in 0..first.output.len() {
            let [Some(a), Some(b)] = [sides[0].output.get(index).cloned(), sides[1].output.get(index).cloned()] else {
                return Err(SqlError::internal("a column was lost"));
            };
            let ty = located(func::common_type(word, &[a.ty.ty, b.ty.ty]), first_target(right))?;
            if !all {
                func::equal_of(ty)?;
            }
            for side in &mut sides {
                self.cast_output(side, index, ty, word)?;
            }
            let modifier = if a.ty == b.ty { a.ty.modifier } else { -1 };
            let id = self.fresh();
            self.use_column(id);
            output.push(OutputColumn { name: a.name, id, ty: ColumnType { ty, modifier }, origin: None });
        }
        let columns = output.iter().map(|c| (c.id, c.ty.ty)).collect();
        let [left, right] = sides;
        let rel = Rel::SetOp { op, all, left: Box::new(left), right: Box::new(right), columns };
        Ok(Query { rel, output })
    }

    /// VALUES as a query: column1, column2, …
    pub(super) fn values(&mut self, values: &ast::Values, open: bool) -> SqlResult<Query> {
        let mut rows: Vec<Vec<Typed>> = Vec::with_capacity(values.rows.len());
        self.levels.push(Level { clause: Clause::Values, ..Level::default() });
        let bound = values.rows.iter().try_for_each(|row| {
            rows.push(self.all(&row.content)?);
            Ok(())
        });
        self.levels.pop();
        bound?;
        let width = rows.first().map_or(0, Vec::len);
        if let Some(odd) = rows.iter().find(|row| row.len() != width) {
            let place = odd.first().map_or(0, |v| v.at);
            return Err(error_at(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length", place));
        }
        let mut columns = Vec::with_capacity(width);
        let mut cast: Vec<Vec<BoundExpr>> = rows.iter().map(|_| Vec::with_capacity(width)).collect();
        let mut output = Vec::with_capacity(width);
        for index in 0..width {
            let column: Vec<Typed> = rows.iter().filter_map(|row| row.get(index).cloned()).collect();
            let unknown = open && column.iter().all(|v| v.ty() == SqlType::Unknown);
            let modifier = column.first().map_or(-1, |v| v.modifier);
            let modifier = if column.iter().all(|v| v.modifier == modifier) { modifier } else { -1 };
            let (exprs, ty) = match unknown {
                true => (column.into_iter().map(|v| v.expr).collect(), SqlType::Unknown),
                false => self.unify("VALUES", column)?,
            };
            for (row, expr) in cast.iter_mut().zip(exprs) {
                row.push(expr);
            }
            let id = self.fresh();
            self.use_column(id);
            columns.push((id, ColumnType { ty, modifier }));
            let name = format!("column{}", index + 1);
            output.push(OutputColumn { name, id, ty: ColumnType { ty, modifier }, origin: None });
        }
        Ok(Query { rel: Rel::Values { columns, rows: cast }, output })
    }

    /// Casts an output column implicitly.
    pub(super) fn cast_output(&mut self, query: &mut Query, index: usize, to: SqlType, context: &str) -> SqlResult<()> {
        self.convert_output(query, index, ColumnType::from(to), &mut |binder, value| {
            let from = value.ty();
            binder.convert(value, ColumnType::from(to), CastContext::Implicit)?.ok_or_else(|| {
                let message = format!("{context} could not convert type {from} to {to}");
                SqlError::new(SqlState::CANNOT_COERCE, message)
            })
        })
    }

    /// Converts an output column: literals that wait for a type where they stand, all else in a projection on top.
    pub(super) fn convert_output(
        &mut self,
        query: &mut Query,
        index: usize,
        to: ColumnType,
        convert: &mut dyn FnMut(&mut Self, Typed) -> SqlResult<BoundExpr>,
    ) -> SqlResult<()> {
        let Some(column) = query.output.get_mut(index) else { return Ok(()) };
        if column.ty.ty == SqlType::Unknown {
            self.settle(&mut query.rel, column.id, to, convert)?;
            column.ty = to;
            return Ok(());
        }
        if column.ty.ty == to.ty && (to.modifier == -1 || column.ty.modifier == to.modifier) {
            return Ok(());
        }
        let leaf = Expr::Leaf(BoundLeaf::Column { id: column.id, ty: column.ty.ty });
        let value = Typed { expr: leaf, modifier: column.ty.modifier, at: 0 };
        let expr = convert(self, value)?;
        let id = self.fresh();
        self.use_column(id);
        column.id = id;
        column.ty = to;
        column.origin = None;
        let input = Box::new(std::mem::replace(&mut query.rel, Rel::Unit));
        query.rel = Rel::Project { input, columns: vec![(id, expr)] };
        Ok(())
    }

    /// Gives the untyped literals of a column their type, wherever below they are made.
    fn settle(
        &mut self,
        rel: &mut Rel,
        id: ColId,
        to: ColumnType,
        convert: &mut dyn FnMut(&mut Self, Typed) -> SqlResult<BoundExpr>,
    ) -> SqlResult<()> {
        match rel {
            Rel::Project { input, columns } => match columns.iter_mut().find(|(made, _)| *made == id) {
                Some((_, expr)) => {
                    let value = std::mem::replace(expr, Expr::And(Vec::new()));
                    *expr = convert(self, Typed::new(value, 0))?;
                    Ok(())
                }
                None => self.settle(input, id, to, convert),
            },
            Rel::Values { columns, rows } => {
                let Some(index) = columns.iter().position(|(made, _)| *made == id) else { return Ok(()) };
                if let Some((_, ty)) = columns.get_mut(index) {
                    *ty = to;
                }
                for expr in rows.iter_mut().filter_map(|row| row.get_mut(index)) {
                    let value = std::mem::replace(expr, Expr::And(Vec::new()));
                    *expr = convert(self, Typed::new(value, 0))?;
                }
                Ok(())
            }
            Rel::Distinct { input, columns } => {
                for (_, ty) in columns.iter_mut().filter(|(made, _)| *made == id) {
                    *ty = to.ty;
                }
                self.settle(input, id, to, convert)
            }
            Rel::Filter { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. }
            | Rel::Lock { input, .. } => self.settle(input, id, to, convert),
            Rel::DistinctOn { input, .. } | Rel::Window { input, .. } => self.settle(input, id, to, convert),
            _ => Ok(()),
        }
    }
}

/// Where the first item of a query's list stands.
fn first_target(body: &SetExpr) -> u32 {
    match body {
        SetExpr::Select(select) => select.projection.first().map_or(0, |item| at(item.span())),
        other => at(other.span()),
    }
}

fn order_keys(order: Option<&ast::OrderBy>) -> SqlResult<&[ast::OrderByExpr]> {
    match order.map(|o| &o.kind) {
        None => Ok(&[]),
        Some(OrderByKind::Expressions(keys)) => Ok(keys),
        Some(OrderByKind::All(_)) => Err(SqlError::unsupported("ORDER BY ALL")),
    }
}
