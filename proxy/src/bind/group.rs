//! Grouping: expressions above an aggregation are rewritten to read its output, and columns that are not grouped are refused.

use super::binder::{Binder, Typed, error_at};
use super::scope::{Clause, RelationKind, Scope};
use super::walk;
use crate::bound::{BoundExpr, BoundLeaf, ColId, Rel};
use sqlparser::ast::{self, Expr as Ast, GroupByExpr};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::func;

/// GROUP BY as bound: the distinct expressions, and which of them each grouping set has.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) exprs: Vec<BoundExpr>,
    pub(super) sets: Option<Vec<Vec<usize>>>,
}

/// The state of rewriting one level.
pub(super) struct Regroup {
    groups: Vec<(ColId, BoundExpr)>,
    input: Vec<ColId>,
    sets: bool,
}

/// From the keys of each part of a grouping item to the grouping sets that the item means.
type Combine = fn(&[Vec<usize>]) -> Vec<Vec<usize>>;

impl Binder<'_> {
    /// GROUP BY; names mean input columns first, then output columns.
    pub(super) fn group_by(&mut self, by: &GroupByExpr, targets: &[(String, Typed)]) -> SqlResult<Option<Groups>> {
        let GroupByExpr::Expressions(list, modifiers) = by else {
            return Err(SqlError::unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(SqlError::unsupported("a modifier of GROUP BY"));
        }
        if list.is_empty() {
            return Ok(None);
        }
        let mut groups = Groups::default();
        let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
        let mut several = false;
        for item in list {
            let item_sets = self.group_item(item, targets, &mut groups.exprs)?;
            several |= !matches!(item_sets.as_slice(), [_]) || matches!(item, Ast::GroupingSets(_));
            sets = sets.iter().flat_map(|s| item_sets.iter().map(move |i| [s.as_slice(), i].concat())).collect();
        }
        groups.sets = several.then_some(sets);
        Ok(Some(groups))
    }

    /// One item's grouping sets; a plain expression has one.
    fn group_item(
        &mut self,
        item: &Ast,
        targets: &[(String, Typed)],
        exprs: &mut Vec<BoundExpr>,
    ) -> SqlResult<Vec<Vec<usize>>> {
        let parts: (&[Vec<Ast>], Combine) = match item {
            Ast::GroupingSets(sets) => (sets, |parts| parts.to_vec()),
            Ast::Rollup(sets) => (sets, |parts| {
                (0..=parts.len()).rev().map(|n| parts.iter().take(n).flatten().copied().collect()).collect()
            }),
            Ast::Cube(sets) => (sets, |parts| {
                let chosen = |mask: usize| {
                    let part = parts.iter().rev().enumerate().filter(move |(i, _)| mask >> i & 1 == 1);
                    part.collect::<Vec<_>>().into_iter().rev().flat_map(|(_, part)| part).copied().collect()
                };
                (0..1usize << parts.len()).rev().map(chosen).collect()
            }),
            Ast::Tuple(list) => {
                let set = list.iter().map(|e| self.group_expr(e, targets, exprs)).collect::<SqlResult<Vec<_>>>()?;
                return Ok(vec![set]);
            }
            single => return Ok(vec![vec![self.group_expr(single, targets, exprs)?]]),
        };
        if parts.0.len() > 12 {
            return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, "CUBE is limited to 12 elements"));
        }
        let mut bound = Vec::with_capacity(parts.0.len());
        for part in parts.0 {
            bound.push(part.iter().map(|e| self.group_expr(e, targets, exprs)).collect::<SqlResult<Vec<_>>>()?);
        }
        Ok((parts.1)(&bound))
    }

    fn group_expr(&mut self, ast: &Ast, targets: &[(String, Typed)], exprs: &mut Vec<BoundExpr>) -> SqlResult<usize> {
        let value = self.group_value(ast, targets)?;
        let (ty, place) = (value.ty(), value.at);
        super::binder::located(func::equal_of(ty), place)?;
        Ok(match exprs.iter().position(|e| *e == value.expr) {
            Some(index) => index,
            None => {
                exprs.push(value.expr);
                exprs.len() - 1
            }
        })
    }

    fn group_value(&mut self, ast: &Ast, targets: &[(String, Typed)]) -> SqlResult<Typed> {
        if let Ast::Identifier(ident) = ast {
            let (name, place) = (super::binder::name_of(ident), super::binder::at(ident.span));
            let local = self.level().scope.visible.iter().any(|c| c.name == name);
            if !local && let Some(target) = output_named(targets, &name, "GROUP BY", place)? {
                return self.no_aggregate(target.clone(), place);
            }
        }
        match super::select::ordinal(ast, targets.len(), "GROUP BY")? {
            Some((index, place)) => match targets.get(index) {
                Some((_, target)) => self.no_aggregate(target.clone(), place),
                None => Err(SqlError::internal("an ordinal beyond the list")),
            },
            None => {
                let value = self.expr(ast)?;
                self.text_if_unknown(value)
            }
        }
    }

    /// An output column with an aggregate in it cannot be grouped by.
    fn no_aggregate(&mut self, value: Typed, place: u32) -> SqlResult<Typed> {
        let level = self.level();
        let mut found = false;
        value.expr.each_leaf(&mut |leaf| {
            if let BoundLeaf::Column { id, .. } = leaf {
                found |= level.aggregates.iter().any(|(a, _)| a == id);
            }
        });
        match found {
            true => {
                let message = format!("aggregate functions are not allowed in {}", Clause::GroupBy.name());
                Err(error_at(SqlState::GROUPING_ERROR, message, place))
            }
            false => Ok(value),
        }
    }

    /// Puts the aggregation on top of `input`; what is rewritten afterwards reads its output.
    pub(super) fn start_regroup(&mut self, groups: &Groups) -> Regroup {
        let mut made = Vec::with_capacity(groups.exprs.len());
        for expr in &groups.exprs {
            made.push((self.fresh(), expr.clone()));
        }
        let scope: &Scope = &self.level().scope;
        let mut input: Vec<ColId> = scope.relations.iter().flat_map(|r| r.columns.iter().map(|c| c.id)).collect();
        input.extend(scope.visible.iter().map(|c| c.id));
        Regroup { groups: made, input, sets: groups.sets.is_some() }
    }

    pub(super) fn finish_regroup(&mut self, regroup: Regroup, input: Rel, sets: Option<Vec<Vec<usize>>>) -> Rel {
        let aggregates = std::mem::take(&mut self.level().aggregates);
        Rel::Aggregate { input: Box::new(input), groups: regroup.groups, sets, aggregates }
    }

    /// Rewrites an expression above the aggregation.
    pub(super) fn regroup(&mut self, regroup: &mut Regroup, expr: &mut BoundExpr, depth: u16) -> SqlResult<()> {
        if depth == 0
            && let Some((id, group)) = regroup.groups.iter().find(|(_, group)| group == expr)
        {
            let ty = group.ty();
            *expr = Expr::Leaf(BoundLeaf::Column { id: *id, ty });
            return Ok(());
        }
        let own = match expr {
            Expr::Leaf(BoundLeaf::Column { id, .. }) if depth == 0 => Some(*id),
            Expr::Leaf(BoundLeaf::Outer { id, depth: outer, .. }) if depth > 0 && *outer == depth => Some(*id),
            _ => None,
        };
        if let Some(id) = own.filter(|id| regroup.input.contains(id)) {
            let grouped = self.grouped_column(regroup, id, expr.ty(), depth)?;
            if let Expr::Leaf(BoundLeaf::Column { id, .. } | BoundLeaf::Outer { id, .. }) = expr {
                *id = grouped;
            }
            return Ok(());
        }
        for child in walk::children(expr) {
            self.regroup(regroup, child, depth)?;
        }
        if let Some(subquery) = walk::subquery(expr) {
            walk::exprs(&mut subquery.query.rel, depth + 1, &mut |inner, at| self.regroup(regroup, inner, at))?;
        }
        Ok(())
    }

    /// The group that a column is, or becomes because the primary key of its table is grouped.
    fn grouped_column(
        &mut self,
        regroup: &mut Regroup,
        id: ColId,
        ty: toroid_common::types::SqlType,
        depth: u16,
    ) -> SqlResult<ColId> {
        let leaf = Expr::Leaf(BoundLeaf::Column { id, ty });
        if let Some((group, _)) = regroup.groups.iter().find(|(_, expr)| *expr == leaf) {
            return Ok(*group);
        }
        if !regroup.sets && self.depends_on_groups(regroup, id) {
            let group = self.fresh();
            self.use_column(group);
            regroup.groups.push((group, leaf));
            return Ok(group);
        }
        let level = self.level();
        let place = level.references.iter().find(|(column, _)| *column == id).map_or(0, |(_, place)| *place);
        let shown = level.scope.owner(id).map(|r| {
            let column = r.columns.iter().find(|c| c.id == id).map_or("?", |c| c.name.as_str());
            if r.alias.is_empty() { column.to_owned() } else { format!("{}.{column}", r.alias) }
        });
        let shown = shown.unwrap_or_else(|| "?".to_owned());
        let message = match depth {
            0 => format!("column \"{shown}\" must appear in the GROUP BY clause or be used in an aggregate function"),
            _ => format!("subquery uses ungrouped column \"{shown}\" from outer query"),
        };
        Err(error_at(SqlState::GROUPING_ERROR, message, place))
    }

    fn depends_on_groups(&mut self, regroup: &Regroup, id: ColId) -> bool {
        let level = self.level();
        let Some(relation) = level.scope.owner(id) else { return false };
        let RelationKind::Stored(table) = &relation.kind else { return false };
        let Some(key) = table.primary_key() else { return false };
        key.columns.iter().all(|part| {
            let Some(column) = table.columns.get(usize::from(part.column)) else { return false };
            let same = relation.columns.iter().find(|c| c.origin == Some((table.id, column.id.0)));
            same.is_some_and(|same| {
                regroup
                    .groups
                    .iter()
                    .any(|(_, expr)| matches!(expr, Expr::Leaf(BoundLeaf::Column { id, .. }) if *id == same.id))
            })
        })
    }
}

/// The output column with a name; several that differ are ambiguous.
pub(super) fn output_named<'t>(
    targets: &'t [(String, Typed)],
    name: &str,
    clause: &str,
    place: u32,
) -> SqlResult<Option<&'t Typed>> {
    let mut fitting = targets.iter().filter(|(n, _)| n == name).map(|(_, t)| t);
    let Some(first) = fitting.next() else { return Ok(None) };
    match fitting.all(|other| other.expr == first.expr) {
        true => Ok(Some(first)),
        false => Err(error_at(SqlState::AMBIGUOUS_COLUMN, format!("{clause} \"{name}\" is ambiguous"), place)),
    }
}

/// Named windows of a SELECT.
pub(super) fn named_windows(list: &[ast::NamedWindowDefinition]) -> SqlResult<Vec<(String, ast::WindowSpec)>> {
    let mut out: Vec<(String, ast::WindowSpec)> = Vec::with_capacity(list.len());
    for ast::NamedWindowDefinition(name, definition) in list {
        let spec = match definition {
            ast::NamedWindowExpr::WindowSpec(spec) => spec.clone(),
            ast::NamedWindowExpr::NamedWindow(_) => return Err(SqlError::unsupported("a window named after another")),
        };
        out.push((super::binder::name_of(name), spec));
    }
    Ok(out)
}
