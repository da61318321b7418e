//! SELECT: the clauses are bound in PostgreSQL's order and stacked in the order in which they are evaluated.

use super::binder::{Binder, Typed, at, error_at, located, name_of, object_name};
use super::from::project;
use super::group::{Groups, output_named};
use super::naming::column_name;
use super::scope::{Clause, Level, NamedColumn, Series};
use super::walk;
use crate::bound::{BoundExpr, BoundLeaf, ColId, JoinKind, OutputColumn, Query, Rel, SetFunction, SortKey};
use sqlparser::ast::{self, Expr as Ast, SelectItem, SelectItemQualifiedWildcardKind, Value};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::func;
use toroid_common::id::TableId;
use toroid_common::types::SqlType;

/// A column of the SELECT list.
struct Target {
    name: String,
    value: Typed,
    origin: Option<(TableId, u16)>,
}

/// A sort key: an output column by number, or an expression over the input.
enum Sorted {
    Target(usize),
    Expr(Typed),
}

impl Binder<'_> {
    /// A SELECT with the ORDER BY and the locking clauses of its query; where `open`, literals of the list may stay without a type.
    pub(super) fn select(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        locks: &[ast::LockClause],
        open: bool,
    ) -> SqlResult<Query> {
        refuse_foreign_clauses(select)?;
        let source = self.from(&select.from)?;
        let mut level = Level::new(source.scope);
        level.named_windows = super::group::named_windows(&select.named_window)?;
        self.levels.push(level);
        let bound = self.select_in_level(select, order, open, source.rel);
        let bound = bound.and_then(|query| self.locked(query, locks));
        self.levels.pop();
        bound
    }

    fn select_in_level(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        open: bool,
        source: Rel,
    ) -> SqlResult<Query> {
        let mut rel = source;
        if let Some(condition) = &select.selection {
            self.level().clause = Clause::Where;
            let value = self.expr(condition)?;
            let predicate = self.boolean(value, "WHERE")?;
            rel = Rel::Filter { input: Box::new(rel), predicate };
        }
        self.level().references.clear();
        self.level().clause = Clause::Select;
        let mut targets = self.targets(&select.projection, open)?;
        self.level().clause = Clause::Having;
        let mut having = match &select.having {
            None => None,
            Some(condition) => {
                let value = self.expr(condition)?;
                Some(self.boolean(value, "HAVING")?)
            }
        };
        self.level().clause = Clause::OrderBy;
        let mut sort = self.sort_targets(order, &targets)?;
        let (distinct, mut distinct_on) = self.distinct_clause(select.distinct.as_ref(), &targets)?;
        self.level().clause = Clause::GroupBy;
        let references = std::mem::take(&mut self.level().references);
        let named: Vec<(String, Typed)> = targets.iter().map(|t| (t.name.clone(), t.value.clone())).collect();
        let groups = self.group_by(&select.group_by, &named)?;
        self.level().references = references;
        let grouped = self.grouped_series(groups.as_ref());
        rel = with_series(rel, grouped)?;
        if groups.is_some() || having.is_some() || !self.level().aggregates.is_empty() {
            let groups = groups.unwrap_or_default();
            let above = Above { targets: &mut targets, having: &mut having, sort: &mut sort, on: &mut distinct_on };
            rel = self.aggregate(rel, groups, above)?;
        }
        if let Some(predicate) = having {
            rel = Rel::Filter { input: Box::new(rel), predicate };
        }
        let windows = std::mem::take(&mut self.level().windows);
        if !windows.is_empty() {
            rel = Rel::Window { input: Box::new(rel), columns: windows };
        }
        let series = std::mem::take(&mut self.level().series);
        rel = with_series(rel, series)?;
        let (rel, output) = self.output(rel, targets);
        self.order(rel, output, sort, distinct, distinct_on)
    }

    /// The set-returning functions by which rows are grouped: they make them before that.
    fn grouped_series(&mut self, groups: Option<&Groups>) -> Vec<Series> {
        let Some(groups) = groups else { return Vec::new() };
        let series = std::mem::take(&mut self.level().series);
        let (grouped, others) = series.into_iter().partition(|one| {
            let mut found = false;
            groups.exprs.iter().for_each(|expr| {
                expr.each_leaf(&mut |leaf| found |= matches!(leaf, BoundLeaf::Column { id, .. } if *id == one.id));
            });
            found
        });
        self.level().series = others;
        grouped
    }

    fn aggregate(&mut self, input: Rel, groups: Groups, above: Above<'_>) -> SqlResult<Rel> {
        let mut regroup = self.start_regroup(&groups);
        let windows = std::mem::take(&mut self.level().windows);
        let mut windows = windows;
        let mut series = std::mem::take(&mut self.level().series);
        for target in above.targets.iter_mut() {
            self.regroup(&mut regroup, &mut target.value.expr, 0)?;
        }
        for (_, call) in &mut windows {
            let keys = call.order.iter_mut().map(|k| &mut k.expr);
            for expr in call.args.iter_mut().chain(&mut call.partition).chain(keys) {
                self.regroup(&mut regroup, expr, 0)?;
            }
        }
        for one in &mut series {
            for arg in &mut one.args {
                self.regroup(&mut regroup, arg, 0)?;
            }
        }
        for (key, _, _) in above.sort.iter_mut() {
            if let Sorted::Expr(value) = key {
                self.regroup(&mut regroup, &mut value.expr, 0)?;
            }
        }
        for expr in above.having.iter_mut().chain(above.on.iter_mut().flatten()) {
            self.regroup(&mut regroup, expr, 0)?;
        }
        self.level().windows = windows;
        self.level().series = series;
        Ok(self.finish_regroup(regroup, input, groups.sets))
    }

    /// The SELECT list with its stars written out.
    fn targets(&mut self, items: &[SelectItem], open: bool) -> SqlResult<Vec<Target>> {
        let mut targets = Vec::with_capacity(items.len());
        for item in items {
            let (expr, name) = match item {
                SelectItem::UnnamedExpr(expr) => (expr, column_name(expr)),
                SelectItem::ExprWithAlias { expr, alias } => (expr, name_of(alias)),
                SelectItem::Wildcard(options) => {
                    plain_star(options)?;
                    let place = at(options.wildcard_token.0.span);
                    if self.level().scope.relations.is_empty() {
                        let message = "SELECT * with no tables specified is not valid";
                        return Err(error_at(SqlState::SYNTAX_ERROR, message, place));
                    }
                    let columns = self.level().scope.visible.clone();
                    targets.extend(columns.iter().map(|c| self.star(c, place)));
                    continue;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    plain_star(options)?;
                    self.qualified_star(name, &mut targets)?;
                    continue;
                }
                other => return Err(SqlError::unsupported(format!("the SELECT item {other}"))),
            };
            let mut value = self.expr(expr)?;
            if !open {
                value = self.text_if_unknown(value)?;
            }
            let origin = self.origin_of(&value.expr);
            targets.push(Target { name, value, origin });
        }
        Ok(targets)
    }

    fn star(&mut self, column: &NamedColumn, place: u32) -> Target {
        self.use_column(column.id);
        self.level().references.push((column.id, place));
        let expr = Expr::Leaf(BoundLeaf::Column { id: column.id, ty: column.ty.ty });
        let value = Typed { expr, modifier: column.ty.modifier, at: place };
        Target { name: column.name.clone(), value, origin: column.origin }
    }

    fn qualified_star(&mut self, name: &ast::ObjectName, targets: &mut Vec<Target>) -> SqlResult<()> {
        let (schema, table, place) = object_name(name)?;
        let found = self.find_relation(schema.as_deref(), &table);
        let columns = match found {
            Some((0, relation)) => relation.columns.clone(),
            Some(_) => return Err(super::binder::unsupported_at("a star of an outer query's table", place)),
            None => {
                let message = format!("missing FROM-clause entry for table \"{table}\"");
                return Err(error_at(SqlState::UNDEFINED_TABLE, message, place));
            }
        };
        targets.extend(columns.iter().map(|c| self.star(c, place)));
        Ok(())
    }

    /// The table column that a plain column reference is.
    fn origin_of(&mut self, expr: &BoundExpr) -> Option<(TableId, u16)> {
        let Expr::Leaf(BoundLeaf::Column { id, .. }) = expr else { return None };
        let scope = &self.level().scope;
        let mut columns = scope.relations.iter().flat_map(|r| &r.columns);
        columns.find(|c| c.id == *id)?.origin
    }

    /// ORDER BY: an output column's name or number, or an expression.
    fn sort_targets(&mut self, order: &[ast::OrderByExpr], targets: &[Target]) -> SqlResult<Vec<(Sorted, bool, bool)>> {
        let mut sort = Vec::with_capacity(order.len());
        for key in order {
            let sorted = self.sort_target(&key.expr, targets, "ORDER BY")?;
            let (ty, place) = match &sorted {
                Sorted::Target(index) => targets.get(*index).map_or((SqlType::Text, 0), |t| (t.value.ty(), t.value.at)),
                Sorted::Expr(value) => (value.ty(), value.at),
            };
            located(func::less_of(ty), place)?;
            let (descending, nulls_first) = direction(&key.options)?;
            sort.push((sorted, descending, nulls_first));
        }
        Ok(sort)
    }

    fn sort_target(&mut self, ast: &Ast, targets: &[Target], clause: &str) -> SqlResult<Sorted> {
        if let Ast::Identifier(ident) = ast {
            let name = name_of(ident);
            let named: Vec<(String, Typed)> = targets.iter().map(|t| (t.name.clone(), t.value.clone())).collect();
            if output_named(&named, &name, clause, at(ident.span))?.is_some() {
                let index = targets.iter().position(|t| t.name == name).unwrap_or_default();
                return Ok(Sorted::Target(index));
            }
        }
        if let Some((index, _)) = ordinal(ast, targets.len(), clause)? {
            return Ok(Sorted::Target(index));
        }
        let value = self.expr(ast)?;
        let value = self.text_if_unknown(value)?;
        Ok(match targets.iter().position(|t| t.value.expr == value.expr) {
            Some(index) => Sorted::Target(index),
            None => Sorted::Expr(value),
        })
    }

    /// Whether DISTINCT, and the expressions of DISTINCT ON.
    fn distinct_clause(
        &mut self,
        distinct: Option<&ast::Distinct>,
        targets: &[Target],
    ) -> SqlResult<(bool, Option<Vec<BoundExpr>>)> {
        match distinct {
            None | Some(ast::Distinct::All) => Ok((false, None)),
            Some(ast::Distinct::Distinct) => {
                for target in targets {
                    located(func::equal_of(target.value.ty()), target.value.at)?;
                }
                Ok((true, None))
            }
            Some(ast::Distinct::On(list)) => {
                self.level().clause = Clause::DistinctOn;
                let mut on = Vec::with_capacity(list.len());
                for ast in list {
                    on.push(match self.sort_target(ast, targets, "DISTINCT ON")? {
                        Sorted::Expr(value) => value.expr,
                        Sorted::Target(index) => match targets.get(index) {
                            Some(target) => target.value.expr.clone(),
                            None => return Err(SqlError::internal("an ordinal beyond the list")),
                        },
                    });
                }
                Ok((false, Some(on)))
            }
        }
    }

    /// Computes the targets that are not plain columns.
    fn output(&mut self, input: Rel, targets: Vec<Target>) -> (Rel, Vec<(OutputColumn, BoundExpr)>) {
        let mut computed = Vec::new();
        let mut output = Vec::with_capacity(targets.len());
        for target in targets {
            let ty = target.value.column_type();
            let id = match &target.value.expr {
                Expr::Leaf(BoundLeaf::Column { id, .. }) => *id,
                other => {
                    let id = self.fresh();
                    computed.push((id, other.clone()));
                    id
                }
            };
            self.use_column(id);
            output.push((OutputColumn { name: target.name, id, ty, origin: target.origin }, target.value.expr));
        }
        (project(input, computed), output)
    }

    /// DISTINCT and ORDER BY on top of the computed targets.
    fn order(
        &mut self,
        input: Rel,
        output: Vec<(OutputColumn, BoundExpr)>,
        sort: Vec<(Sorted, bool, bool)>,
        distinct: bool,
        on: Option<Vec<BoundExpr>>,
    ) -> SqlResult<Query> {
        let mut rel = input;
        let leaf = |column: &OutputColumn| Expr::Leaf(BoundLeaf::Column { id: column.id, ty: column.ty.ty });
        let mut keys = Vec::with_capacity(sort.len());
        for (sorted, descending, nulls_first) in sort {
            let expr = match sorted {
                Sorted::Target(index) => match output.get(index) {
                    Some((column, _)) => leaf(column),
                    None => return Err(SqlError::internal("a sort key beyond the list")),
                },
                Sorted::Expr(value) if distinct => {
                    let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
                    return Err(error_at(SqlState::INVALID_COLUMN_REFERENCE, message, value.at));
                }
                Sorted::Expr(value) => value.expr,
            };
            keys.push(SortKey { expr, descending, nulls_first });
        }
        if distinct {
            let mut columns: Vec<(ColId, SqlType)> = Vec::with_capacity(output.len());
            for (column, _) in &output {
                if !columns.iter().any(|(id, _)| *id == column.id) {
                    columns.push((column.id, column.ty.ty));
                }
            }
            rel = Rel::Distinct { input: Box::new(rel), columns };
        }
        if let Some(on) = on {
            let on: Vec<BoundExpr> = on
                .into_iter()
                .map(|expr| output.iter().find(|(_, e)| *e == expr).map_or(expr, |(column, _)| leaf(column)))
                .collect();
            if keys.iter().take(on.len()).any(|key| !on.contains(&key.expr)) {
                let message = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions";
                return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
            }
            rel = Rel::DistinctOn { input: Box::new(rel), on, keys: keys.clone() };
        }
        if !keys.is_empty() {
            rel = Rel::Sort { input: Box::new(rel), keys };
        }
        Ok(Query { rel, output: output.into_iter().map(|(column, _)| column).collect() })
    }
}

/// What stands above an aggregation and is to read its output.
struct Above<'t> {
    targets: &'t mut Vec<Target>,
    having: &'t mut Option<BoundExpr>,
    sort: &'t mut Vec<(Sorted, bool, bool)>,
    on: &'t mut Option<Vec<BoundExpr>>,
}

/// A set-returning function of the SELECT list becomes a join with what it makes of each row.
fn with_series(rel: Rel, mut series: Vec<Series>) -> SqlResult<Rel> {
    if !series.is_empty() && series.iter().all(|one| one.function == SetFunction::Unnest) {
        let arrays = series.into_iter().flat_map(|one| one.args.into_iter().map(move |array| (one.id, array)));
        return Ok(Rel::Unnest { input: Box::new(rel), arrays: arrays.collect(), keeps: false });
    }
    let Some(mut one) = series.pop() else { return Ok(rel) };
    if !series.is_empty() {
        return Err(SqlError::unsupported("more than one set-returning function in a SELECT list"));
    }
    let mut lateral = false;
    for arg in &mut one.args {
        outwards(arg, 0, &mut lateral);
    }
    let made = Rel::Series { function: one.function, args: one.args, column: (one.id, one.ty), ordinality: None };
    if rel == Rel::Unit {
        return Ok(made);
    }
    let (left, right) = (Box::new(rel), Box::new(made));
    Ok(Rel::Join { kind: JoinKind::Cross, left, right, on: None, lateral })
}

/// References to the row beside a lateral join go one query out.
fn outwards(expr: &mut BoundExpr, depth: u16, lateral: &mut bool) {
    match expr {
        Expr::Leaf(BoundLeaf::Column { id, ty }) if depth == 0 => {
            *lateral = true;
            *expr = Expr::Leaf(BoundLeaf::Outer { id: *id, depth: 1, ty: *ty });
            return;
        }
        Expr::Leaf(BoundLeaf::Outer { depth: outer, .. }) if *outer > depth => *outer += 1,
        _ => {}
    }
    for child in walk::children(expr) {
        outwards(child, depth, lateral);
    }
}

/// A sort key from a bound value.
pub(super) fn sort_key(value: Typed, options: &ast::OrderByOptions) -> SqlResult<SortKey> {
    located(func::less_of(value.ty()), value.at)?;
    let (descending, nulls_first) = direction(options)?;
    Ok(SortKey { expr: value.expr, descending, nulls_first })
}

/// Whether descending, and whether NULLs come first: PostgreSQL takes them for the largest values.
pub(super) fn direction(options: &ast::OrderByOptions) -> SqlResult<(bool, bool)> {
    let descending = match &options.sort {
        None | Some(ast::OrderBySort::Asc) => false,
        Some(ast::OrderBySort::Desc) => true,
        Some(ast::OrderBySort::Using(op)) => match op.to_string().as_str() {
            "<" => false,
            ">" => true,
            other => return Err(SqlError::unsupported(format!("ORDER BY USING {other}"))),
        },
    };
    Ok((descending, options.nulls_first.unwrap_or(descending)))
}

/// A bare integer in ORDER BY or GROUP BY: the number of an output column, from 0, and where it stood.
pub(super) fn ordinal(ast: &Ast, targets: usize, clause: &str) -> SqlResult<Option<(usize, u32)>> {
    let Ast::Value(value) = ast else { return Ok(None) };
    let place = at(value.span);
    match &value.value {
        Value::Number(digits, _) => match digits.parse::<usize>() {
            Ok(number) if (1..=targets).contains(&number) => Ok(Some((number - 1, place))),
            Ok(number) => {
                let message = format!("{clause} position {number} is not in select list");
                Err(error_at(SqlState::INVALID_COLUMN_REFERENCE, message, place))
            }
            Err(_) => Err(error_at(SqlState::SYNTAX_ERROR, format!("non-integer constant in {clause}"), place)),
        },
        Value::Placeholder(_) => Ok(None),
        _ => Err(error_at(SqlState::SYNTAX_ERROR, format!("non-integer constant in {clause}"), place)),
    }
}

fn plain_star(options: &ast::WildcardAdditionalOptions) -> SqlResult<()> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none();
    match (&options.opt_alias, plain) {
        (None, true) => Ok(()),
        (Some(alias), _) => {
            let message = format!("syntax error at or near \"{}\"", alias.value);
            Err(error_at(SqlState::SYNTAX_ERROR, message, at(alias.span)))
        }
        (None, false) => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"*\"")),
    }
}

/// Clauses that sqlparser reads and PostgreSQL does not have, or that are not there yet.
fn refuse_foreign_clauses(select: &ast::Select) -> SqlResult<()> {
    if select.into.is_some() {
        return Err(SqlError::unsupported("SELECT INTO"));
    }
    let foreign = select.top.is_some()
        || select.prewhere.is_some()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty();
    match foreign {
        true => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error in a clause that PostgreSQL does not have")),
        false => Ok(()),
    }
}
