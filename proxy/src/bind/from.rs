//! FROM: tables, virtual tables, CTEs, subqueries, functions and joins become relations with names.

use super::binder::{Binder, Typed, error_at, located, name_of, object_name, unsupported_at};
use super::context::VirtualTable;
use super::scope::{Clause, Level, NamedColumn, Relation, RelationKind, Scope};
use crate::bound::{BoundExpr, ColId, JoinKind, Query, Rel, SetFunction, counted};
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, JoinConstraint, JoinOperator, TableFactor, TableWithJoins};
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::types::{ColumnType, SqlType};

/// A part of FROM that is bound.
pub(super) struct Source {
    pub(super) rel: Rel,
    pub(super) scope: Scope,
}

/// A relation's rows, and its columns in order.
struct Rows {
    rel: Rel,
    columns: Vec<NamedColumn>,
    schema: Option<String>,
    kind: RelationKind,
}

impl Binder<'_> {
    /// FROM with its commas; nothing at all is one row without columns.
    pub(super) fn from(&mut self, items: &[TableWithJoins]) -> SqlResult<Source> {
        let mut all: Option<Source> = None;
        for item in items {
            all = Some(self.joined(item, all)?);
        }
        Ok(all.unwrap_or_else(|| Source { rel: Rel::Unit, scope: Scope::default() }))
    }

    /// One item of FROM beside those before it.
    fn joined(&mut self, item: &TableWithJoins, before: Option<Source>) -> SqlResult<Source> {
        let sides = before.as_ref().map(|s| s.scope.clone()).unwrap_or_default();
        let (mut left, lateral) = self.factor_beside(&item.relation, &sides)?;
        for join in &item.joins {
            let mut near = sides.clone();
            near.join(left.scope.clone())?;
            let (right, lateral) = self.factor_beside(&join.relation, &near)?;
            left = self.join(left, right, &join.join_operator, lateral)?;
        }
        let Some(before) = before else { return Ok(left) };
        self.cross(before, left, lateral)
    }

    fn cross(&mut self, left: Source, right: Source, lateral: bool) -> SqlResult<Source> {
        let mut scope = left.scope;
        scope.join(right.scope)?;
        let (left, right) = (Box::new(left.rel), Box::new(right.rel));
        Ok(Source { rel: Rel::Join { kind: JoinKind::Cross, left, right, on: None, lateral }, scope })
    }

    /// A factor, and whether it refers to what stands left of it in FROM.
    fn factor_beside(&mut self, factor: &TableFactor, left: &Scope) -> SqlResult<(Source, bool)> {
        let may_refer = match factor {
            TableFactor::Derived { lateral, .. } => *lateral,
            TableFactor::Table { args, .. } => args.is_some(),
            TableFactor::Function { .. } | TableFactor::UNNEST { .. } => true,
            _ => false,
        };
        let saved = self.params.clone();
        let first = self.factor(factor);
        let missing = |e: &SqlError| matches!(e.state(), SqlState::UNDEFINED_COLUMN | SqlState::UNDEFINED_TABLE);
        match first {
            Err(error) if may_refer && missing(&error) => {
                self.params = saved;
                self.levels.push(Level::new(left.clone()));
                let again = self.factor(factor);
                self.levels.pop();
                Ok((again?, true))
            }
            other => Ok((other?, false)),
        }
    }

    fn factor(&mut self, factor: &TableFactor) -> SqlResult<Source> {
        match factor {
            TableFactor::Table { name, alias, args: None, with_ordinality: false, sample: None, .. } => {
                let rows = self.table(name)?;
                let (_, own, place) = object_name(name)?;
                named(rows, &own, alias.as_ref(), place)
            }
            TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
                self.function(name, &args.args, *with_ordinality, alias.as_ref())
            }
            TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                self.function(name, args, *with_ordinality, alias.as_ref())
            }
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
                self.unnest(array_exprs, *with_ordinality, alias.as_ref())
            }
            TableFactor::Derived { subquery, alias, sample: None, .. } => {
                let query = self.query(subquery)?;
                let Some(alias) = alias else {
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, "subquery in FROM must have an alias")
                        .with_hint("For example, FROM (SELECT ...) [AS] foo."));
                };
                named(self.derived(query), "", Some(alias), 0)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins, None),
            TableFactor::NestedJoin { alias: Some(_), .. } => Err(SqlError::unsupported("an alias of a join")),
            other => Err(SqlError::unsupported(format!("FROM {other}"))),
        }
    }

    /// A table by name: CTE, virtual table, stored table.
    fn table(&mut self, name: &ast::ObjectName) -> SqlResult<Rows> {
        let (schema, table, place) = object_name(name)?;
        if schema.is_none()
            && let Some(index) = self.tables.iter().rposition(|t| t.name == table)
        {
            return self.common_table(index);
        }
        if let Some(found) = self.virtual_table(schema.as_deref(), &table) {
            return Ok(self.scan_virtual(&found));
        }
        match self.stored_table(schema.as_deref(), &table) {
            Some(found) => Ok(self.scan(found)),
            None => Err(undefined_table(schema.as_deref(), &table, place)),
        }
    }

    pub(super) fn virtual_table(&self, schema: Option<&str>, name: &str) -> Option<VirtualTable> {
        if schema.is_some() {
            return self.cx.virtuals.find(schema, name);
        }
        let own = self.cx.virtuals.find(None, name);
        own.or_else(|| self.cx.env.search_path.iter().find_map(|s| self.cx.virtuals.find(Some(s), name)))
    }

    pub(super) fn stored_table(&self, schema: Option<&str>, name: &str) -> Option<Arc<Table>> {
        match schema {
            Some(schema) => self.cx.catalog.find(schema, name).cloned(),
            None => self.cx.env.search_path.iter().find_map(|s| self.cx.catalog.find(s, name)).cloned(),
        }
    }

    fn scan(&mut self, table: Arc<Table>) -> Rows {
        let (rel, columns) = self.scan_columns(&table);
        Rows { rel, columns, schema: Some(table.schema.clone()), kind: RelationKind::Stored(table) }
    }

    /// Fresh ids for all columns of a table, and the names of those that a user sees.
    pub(super) fn scan_columns(&mut self, table: &Arc<Table>) -> (Rel, Vec<NamedColumn>) {
        let mut ids: Vec<(ColId, u16)> = Vec::with_capacity(table.columns.len());
        let mut columns = Vec::with_capacity(table.columns.len());
        for (position, column) in table.columns.iter().enumerate() {
            let id = self.fresh();
            ids.push((id, position as u16));
            if !column.hidden {
                let origin = Some((table.id, column.id.0));
                columns.push(NamedColumn { name: column.name.clone(), id, ty: column.ty, origin });
            }
        }
        (Rel::Scan { table: Arc::clone(table), columns: ids }, columns)
    }

    fn scan_virtual(&mut self, table: &VirtualTable) -> Rows {
        let mut ids = Vec::with_capacity(table.columns.len());
        let mut columns = Vec::with_capacity(table.columns.len());
        for (position, (name, ty)) in table.columns.iter().enumerate() {
            let id = self.fresh();
            ids.push((id, position as u16, *ty));
            columns.push(NamedColumn { name: (*name).to_owned(), id, ty: ColumnType::from(*ty), origin: None });
        }
        let rel = Rel::Virtual { schema: table.schema, name: table.name, columns: ids };
        Rows { rel, columns, schema: Some(table.schema.to_owned()), kind: RelationKind::Virtual(table.oid) }
    }

    /// A query's output under new ids.
    fn derived(&mut self, query: Query) -> Rows {
        let mut ids = Vec::with_capacity(query.output.len());
        let mut columns = Vec::with_capacity(query.output.len());
        for column in &query.output {
            let id = self.fresh();
            ids.push(id);
            columns.push(NamedColumn { name: column.name.clone(), id, ty: column.ty, origin: column.origin });
        }
        let rel = Rel::Derived { query: Box::new(query), columns: ids };
        Rows { rel, columns, schema: None, kind: RelationKind::Subquery }
    }

    /// A reference to a CTE binds it anew, in the view that it had where it was defined.
    fn common_table(&mut self, index: usize) -> SqlResult<Rows> {
        let Some(cte) = self.tables.get(index).cloned() else { return Err(SqlError::internal("a CTE was lost")) };
        let levels = self.levels.split_off(cte.levels.min(self.levels.len()));
        let tables = self.tables.split_off(cte.tables.min(self.tables.len()));
        let bound = self.nested(|binder| binder.query(&cte.query));
        self.levels.truncate(cte.levels);
        self.tables.truncate(cte.tables);
        self.levels.extend(levels);
        self.tables.extend(tables);
        let mut rows = Rows { kind: RelationKind::CommonTable, ..self.derived(bound?) };
        if cte.columns.len() > rows.columns.len() {
            let message = format!(
                "WITH query \"{}\" has {} columns available but {} columns specified",
                cte.name,
                rows.columns.len(),
                cte.columns.len()
            );
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        }
        for (column, name) in rows.columns.iter_mut().zip(&cte.columns) {
            column.name.clone_from(name);
        }
        Ok(rows)
    }

    /// A function in FROM: set-returning, or one row with its value.
    fn function(
        &mut self,
        name: &ast::ObjectName,
        args: &[FunctionArg],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
    ) -> SqlResult<Source> {
        let (schema, own, place) = object_name(name)?;
        if schema.as_deref().is_some_and(|s| s != "pg_catalog") {
            return Err(unsupported_at(format!("the function {name}"), place));
        }
        let mut values = Vec::with_capacity(args.len());
        self.in_function(|binder| {
            for arg in args {
                let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else {
                    return Err(unsupported_at("an argument by name", place));
                };
                values.push(binder.expr(expr)?);
            }
            Ok(())
        })?;
        match set_function(&own) {
            Some(SetFunction::Unnest) if own == "unnest" && values.len() > 1 => {
                self.unnest_several(values, ordinality, alias)
            }
            Some(function) => self.series(function, &own, values, ordinality, alias, place),
            None if ordinality => Err(unsupported_at("WITH ORDINALITY of this function", place)),
            None => {
                let value = self.apply_function(&own, values, place)?;
                let (id, ty) = (self.fresh(), value.column_type());
                let rel = Rel::Project { input: Box::new(Rel::Unit), columns: vec![(id, value.expr)] };
                let column = NamedColumn { name: function_column(&own, alias), id, ty, origin: None };
                named(
                    Rows { rel, columns: vec![column], schema: None, kind: RelationKind::Function },
                    &own,
                    alias,
                    place,
                )
            }
        }
    }

    /// Binds in FROM, where neither aggregates nor window functions may stand.
    fn in_function<T>(&mut self, f: impl FnOnce(&mut Self) -> SqlResult<T>) -> SqlResult<T> {
        // The query whose FROM it is has no level yet: this one stands for it, so that what lies outside is one out.
        self.levels.push(Level { clause: Clause::From, ..Level::default() });
        let result = f(self);
        self.levels.pop();
        result
    }

    fn unnest(&mut self, arrays: &[ast::Expr], ordinality: bool, alias: Option<&ast::TableAlias>) -> SqlResult<Source> {
        let bound = |binder: &mut Self| arrays.iter().map(|array| binder.expr(array)).collect::<SqlResult<Vec<_>>>();
        let values = self.in_function(bound)?;
        match <[Typed; 1]>::try_from(values) {
            Err(values) => self.unnest_several(values, ordinality, alias),
            Ok([value]) => {
                let place = value.at;
                self.series(SetFunction::Unnest, "unnest", vec![value], ordinality, alias, place)
            }
        }
    }

    /// Arrays side by side.
    fn unnest_several(
        &mut self,
        arrays: Vec<Typed>,
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
    ) -> SqlResult<Source> {
        let mut made = Vec::with_capacity(arrays.len() + 1);
        let mut columns = Vec::with_capacity(arrays.len() + 1);
        let mut place = 0;
        for value in arrays {
            place = value.at;
            let (args, ty) = self.series_arguments(SetFunction::Unnest, "unnest", vec![value], place)?;
            let id = self.fresh();
            made.extend(args.into_iter().map(|array| (id, array)));
            columns.push(NamedColumn { name: "unnest".to_owned(), id, ty: ty.into(), origin: None });
        }
        let counter = ordinality.then(|| self.fresh());
        made.extend(counted(&made, counter)?);
        if let Some(id) = counter {
            columns.push(NamedColumn { name: "ordinality".to_owned(), id, ty: SqlType::Int8.into(), origin: None });
        }
        let rel = Rel::Unnest { input: Box::new(Rel::Unit), arrays: made, keeps: false };
        named(Rows { rel, columns, schema: None, kind: RelationKind::Function }, "unnest", alias, place)
    }

    fn series(
        &mut self,
        function: SetFunction,
        name: &str,
        values: Vec<Typed>,
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        place: u32,
    ) -> SqlResult<Source> {
        let (args, ty) = self.series_arguments(function, name, values, place)?;
        let id = self.fresh();
        let mut columns = vec![NamedColumn { name: function_column(name, alias), id, ty: ty.into(), origin: None }];
        let counted = ordinality.then(|| self.fresh());
        if let Some(id) = counted {
            columns.push(NamedColumn { name: "ordinality".to_owned(), id, ty: SqlType::Int8.into(), origin: None });
        }
        let rel = Rel::Series { function, args, column: (id, ty), ordinality: counted };
        named(Rows { rel, columns, schema: None, kind: RelationKind::Function }, name, alias, place)
    }

    /// The arguments of a set-returning function cast to the overload's types, and the type of its column.
    pub(super) fn series_arguments(
        &mut self,
        function: SetFunction,
        name: &str,
        values: Vec<Typed>,
        place: u32,
    ) -> SqlResult<(Vec<BoundExpr>, SqlType)> {
        if name == "generate_subscripts" {
            // The numbers up to the last subscript.
            let upper = self.apply_function("array_upper", values, place)?;
            let numbers = self.apply_function("toroid_series", vec![upper], place)?;
            return Ok((vec![numbers.expr], SqlType::Int4));
        }
        if name == "pg_listening_channels" && values.is_empty() {
            let channels = self.apply_function("toroid_listening", values, place)?;
            return Ok((vec![channels.expr], SqlType::Text));
        }
        let types: Vec<SqlType> = values.iter().map(Typed::ty).collect();
        let (targets, ty) = located(series_types(function, name, &types), place)?;
        let mut args = Vec::with_capacity(values.len());
        for (value, ty) in values.into_iter().zip(targets) {
            args.push(self.implicit(value, ty)?);
        }
        Ok((args, ty))
    }

    fn join(&mut self, left: Source, right: Source, operator: &JoinOperator, lateral: bool) -> SqlResult<Source> {
        let (kind, constraint) = match operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) => (JoinKind::Inner, c),
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
            JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (JoinKind::Right, c),
            JoinOperator::FullOuter(c) => (JoinKind::Full, c),
            JoinOperator::CrossJoin(_) => return self.cross(left, right, lateral),
            other => return Err(SqlError::unsupported(format!("the join {other:?}"))),
        };
        match constraint {
            JoinConstraint::On(condition) => {
                let mut scope = left.scope;
                scope.join(right.scope)?;
                self.levels.push(Level { clause: Clause::JoinOn, ..Level::new(scope) });
                let bound = self.expr(condition).and_then(|value| self.boolean(value, "JOIN/ON"));
                let scope = self.levels.pop().map(|l| l.scope).unwrap_or_default();
                let (left, right) = (Box::new(left.rel), Box::new(right.rel));
                Ok(Source { rel: Rel::Join { kind, left, right, on: Some(bound?), lateral }, scope })
            }
            JoinConstraint::Using(names) => {
                let mut columns = Vec::with_capacity(names.len());
                for name in names {
                    let (_, column, _) = object_name(name)?;
                    columns.push((column, 0));
                }
                self.merge(left, right, kind, &columns, lateral)
            }
            JoinConstraint::Natural => {
                let shared = |c: &&NamedColumn| right.scope.visible.iter().any(|r| r.name == c.name);
                let columns: Vec<(String, u32)> =
                    left.scope.visible.iter().filter(shared).map(|c| (c.name.clone(), 0)).collect();
                self.merge(left, right, kind, &columns, lateral)
            }
            JoinConstraint::None => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")),
        }
    }

    /// JOIN USING: the named columns of both sides become one.
    fn merge(
        &mut self,
        left: Source,
        right: Source,
        kind: JoinKind,
        names: &[(String, u32)],
        lateral: bool,
    ) -> SqlResult<Source> {
        let mut tests = Vec::with_capacity(names.len());
        let mut merged = Vec::with_capacity(names.len());
        let mut computed = Vec::new();
        for (name, place) in names {
            let l = one_named(&left.scope, name, "left", *place)?;
            let r = one_named(&right.scope, name, "right", *place)?;
            let (a, b) = (self.plain(&l), self.plain(&r));
            let test = self.apply_operator("=", Some(a.clone()), b.clone(), *place)?;
            tests.push(test.expr);
            merged.push(match kind {
                JoinKind::Right => r,
                JoinKind::Full => {
                    let id = self.fresh();
                    self.use_column(id);
                    let (args, ty) = self.unify("JOIN/USING", vec![a, b])?;
                    computed.push((id, Expr::Coalesce { args, ty }));
                    NamedColumn { name: name.clone(), id, ty: ColumnType::from(ty), origin: None }
                }
                JoinKind::Inner | JoinKind::Left | JoinKind::Cross => l,
            });
        }
        let kept = |scope: &Scope| -> Vec<NamedColumn> {
            scope.visible.iter().filter(|c| !names.iter().any(|(n, _)| *n == c.name)).cloned().collect()
        };
        let mut visible = merged;
        visible.extend(kept(&left.scope));
        visible.extend(kept(&right.scope));
        let mut scope = left.scope;
        scope.join(right.scope)?;
        scope.visible = visible;
        let on = match tests.len() {
            0 => None,
            1 => tests.pop(),
            _ => Some(Expr::And(tests)),
        };
        let kind = if on.is_none() && kind == JoinKind::Inner { JoinKind::Cross } else { kind };
        let (left, right) = (Box::new(left.rel), Box::new(right.rel));
        let rel = Rel::Join { kind, left, right, on, lateral };
        Ok(Source { rel: project(rel, computed), scope })
    }

    fn plain(&mut self, column: &NamedColumn) -> Typed {
        self.use_column(column.id);
        let leaf = crate::bound::BoundLeaf::Column { id: column.id, ty: column.ty.ty };
        Typed { expr: Expr::Leaf(leaf), modifier: column.ty.modifier, at: 0 }
    }
}

/// Adds computed columns, if there are any.
pub(super) fn project(input: Rel, columns: Vec<(ColId, BoundExpr)>) -> Rel {
    match columns.is_empty() {
        true => input,
        false => Rel::Project { input: Box::new(input), columns },
    }
}

pub(super) fn undefined_table(schema: Option<&str>, table: &str, place: u32) -> SqlError {
    let name = schema.map_or(table.to_owned(), |s| format!("{s}.{table}"));
    error_at(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"), place)
}

fn one_named(scope: &Scope, name: &str, side: &str, place: u32) -> SqlResult<NamedColumn> {
    let mut fitting = scope.visible.iter().filter(|c| c.name == name);
    match (fitting.next(), fitting.next()) {
        (Some(column), None) => Ok(column.clone()),
        (None, _) => {
            let message = format!("column \"{name}\" specified in USING clause does not exist in {side} table");
            Err(error_at(SqlState::UNDEFINED_COLUMN, message, place))
        }
        (Some(_), Some(_)) => {
            let message = format!("common column name \"{name}\" appears more than once in {side} table");
            Err(error_at(SqlState::AMBIGUOUS_COLUMN, message, place))
        }
    }
}

/// A relation under its alias, with its columns renamed as the alias says.
fn named(rows: Rows, own: &str, alias: Option<&ast::TableAlias>, place: u32) -> SqlResult<Source> {
    let Rows { rel, mut columns, schema, kind } = rows;
    let shown = alias.map_or(own.to_owned(), |a| name_of(&a.name));
    if let Some(alias) = alias {
        if alias.columns.len() > columns.len() {
            let message = format!(
                "table \"{shown}\" has {} columns available but {} columns specified",
                columns.len(),
                alias.columns.len()
            );
            return Err(error_at(SqlState::INVALID_COLUMN_REFERENCE, message, place));
        }
        for (column, renamed) in columns.iter_mut().zip(&alias.columns) {
            column.name = name_of(&renamed.name);
        }
    }
    let aliased = alias.is_some() && shown != own && !own.is_empty();
    let relation = Relation {
        alias: shown,
        hidden_name: aliased.then(|| own.to_owned()),
        schema: if alias.is_some() { None } else { schema },
        columns,
        kind,
    };
    Ok(Source { rel, scope: Scope::of(relation) })
}

/// A function's single column is called as its table alias, else as the function.
fn function_column(name: &str, alias: Option<&ast::TableAlias>) -> String {
    alias.map_or(name.to_owned(), |a| name_of(&a.name))
}

/// Functions that return sets.
pub(super) fn set_function(name: &str) -> Option<SetFunction> {
    match name {
        "generate_series" => Some(SetFunction::GenerateSeries),
        "unnest" | "generate_subscripts" | "pg_listening_channels" => Some(SetFunction::Unnest),
        "regexp_split_to_table" => Some(SetFunction::RegexpSplitToTable),
        _ => None,
    }
}

fn series_types(function: SetFunction, name: &str, args: &[SqlType]) -> SqlResult<(Vec<SqlType>, SqlType)> {
    let list: Vec<String> = args.iter().map(SqlType::to_string).collect();
    let call = format!("function {name}({})", list.join(", "));
    let hint = "You might need to add explicit type casts.";
    let undefined = || {
        SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("{call} does not exist"))
            .with_hint(format!("No function matches the given name and argument types. {hint}"))
    };
    let ambiguous = || {
        SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("{call} is not unique"))
            .with_hint(format!("Could not choose a best candidate function. {hint}"))
    };
    match (function, args) {
        (SetFunction::Unnest, [SqlType::Unknown]) => Err(ambiguous()),
        (SetFunction::Unnest, [array]) => Ok((vec![*array], array.element().ok_or_else(undefined)?)),
        (SetFunction::RegexpSplitToTable, [_, _] | [_, _, _]) => Ok((vec![SqlType::Text; args.len()], SqlType::Text)),
        (SetFunction::GenerateSeries, [SqlType::Unknown, SqlType::Unknown]) => Err(ambiguous()),
        (SetFunction::GenerateSeries, [a, b]) => number_series(&[*a, *b]).ok_or_else(undefined),
        (SetFunction::GenerateSeries, [a, b, step]) => match (a, b, step) {
            (SqlType::Unknown, SqlType::Unknown, SqlType::Unknown | SqlType::Interval) => Err(ambiguous()),
            (_, _, SqlType::Interval | SqlType::Unknown) => match time_series(*a, *b) {
                Some(ty) => Ok((vec![ty, ty, SqlType::Interval], ty)),
                None => number_series(args).ok_or_else(undefined),
            },
            _ => number_series(args).ok_or_else(undefined),
        },
        _ => Err(undefined()),
    }
}

fn time_series(a: SqlType, b: SqlType) -> Option<SqlType> {
    let either = |ty: SqlType| a == ty || b == ty;
    let timed = |ty| matches!(ty, SqlType::Date | SqlType::Timestamp | SqlType::Timestamptz | SqlType::Unknown);
    match timed(a) && timed(b) && !(a == SqlType::Unknown && b == SqlType::Unknown) {
        false => None,
        true if either(SqlType::Timestamp) && !either(SqlType::Timestamptz) => Some(SqlType::Timestamp),
        true => Some(SqlType::Timestamptz),
    }
}

fn number_series(args: &[SqlType]) -> Option<(Vec<SqlType>, SqlType)> {
    let mut ty = SqlType::Int4;
    for arg in args {
        ty = match (arg, ty) {
            (SqlType::Int2 | SqlType::Int4 | SqlType::Unknown, ty) => ty,
            (SqlType::Int8, SqlType::Int4 | SqlType::Int8) => SqlType::Int8,
            (SqlType::Int8 | SqlType::Numeric, _) => SqlType::Numeric,
            _ => return None,
        };
    }
    Some((vec![ty; args.len()], ty))
}
