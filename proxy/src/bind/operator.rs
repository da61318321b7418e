//! Operators: arithmetic and comparison by overload, AND and OR, BETWEEN, IN, LIKE, ANY and ALL, row comparison.

use super::binder::{Binder, Typed, located, unsupported_at};
use crate::bound::BoundExpr;
use sqlparser::ast::{BinaryOperator, Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments};
use toroid_common::error::{SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::func::{self, FuncId};
use toroid_common::types::SqlType;

/// An operator's symbol, without the schema that `OPERATOR(pg_catalog.~)` may give.
pub(super) fn symbol(op: &BinaryOperator) -> String {
    match op {
        BinaryOperator::PGCustomBinaryOperator(parts) => parts.last().cloned().unwrap_or_default(),
        other => other.to_string(),
    }
}

impl Binder<'_> {
    pub(super) fn binary(&mut self, left: &Ast, op: &BinaryOperator, right: &Ast) -> SqlResult<Typed> {
        match op {
            BinaryOperator::And => return self.connective(left, right, true),
            BinaryOperator::Or => return self.connective(left, right, false),
            BinaryOperator::Overlaps => return self.overlaps(left, right),
            _ => {}
        }
        self.refuse_chain(left, op)?;
        if let Some(rebound) = super::precedence::rebound(left, op, right) {
            return self.expr(&rebound);
        }
        if let (Some(lefts), Some(rights)) = (row_items(left), row_items(right)) {
            return self.rows(&lefts, &symbol(op), &rights, left);
        }
        let name = symbol(op);
        let bound_left = self.expr(left)?;
        let bound_right = self.expr(right)?;
        let result = self.apply_operator(&name, Some(bound_left), bound_right, 0);
        result.map_err(|error| match error.position() {
            Some(_) => error,
            None => match self.behind(left, &name) {
                0 => error,
                found => error.or_at(found),
            },
        })
    }

    /// A chain of ANDs or ORs becomes one node, however long it is.
    fn connective(&mut self, left: &Ast, right: &Ast, and: bool) -> SqlResult<Typed> {
        let wanted = if and { BinaryOperator::And } else { BinaryOperator::Or };
        let mut parts = vec![right];
        let mut rest = left;
        while let Ast::BinaryOp { left, op, right } = rest {
            if *op != wanted {
                break;
            }
            parts.push(right);
            rest = left;
        }
        parts.push(rest);
        let mut terms = Vec::with_capacity(parts.len());
        let mut place = 0;
        for part in parts.into_iter().rev() {
            let value = self.expr(part)?;
            if terms.is_empty() {
                place = value.at;
            }
            terms.push(self.boolean(value, if and { "AND" } else { "OR" })?);
        }
        Ok(Typed::new(if and { Expr::And(terms) } else { Expr::Or(terms) }, place))
    }

    /// Applies an operator by its symbol to bound operands.
    pub(super) fn apply_operator(
        &mut self,
        op: &str,
        left: Option<Typed>,
        right: Typed,
        place: u32,
    ) -> SqlResult<Typed> {
        let resolved = located(func::resolve_operator(op, left.as_ref().map(Typed::ty), right.ty()), place)?;
        let start = left.as_ref().map_or(right.at, |l| l.at);
        let mut args = Vec::with_capacity(2);
        for (value, ty) in left.into_iter().chain([right]).zip(&resolved.args) {
            args.push(self.implicit(value, *ty)?);
        }
        Ok(Typed::new(Expr::Call { func: resolved.func, args, ty: resolved.result }, start))
    }

    pub(super) fn distinct(&mut self, left: &Ast, right: &Ast, negated: bool) -> SqlResult<Typed> {
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        let start = left.at;
        let resolved = func::resolve_operator("=", Some(left.ty()), right.ty())?;
        let [left, right] = self.operands(left, right, &resolved.args)?;
        Ok(Typed::new(
            Expr::Distinct { equal: resolved.func, left: Box::new(left), right: Box::new(right), negated },
            start,
        ))
    }

    pub(super) fn operands(&mut self, left: Typed, right: Typed, types: &[SqlType]) -> SqlResult<[BoundExpr; 2]> {
        let ty = |i: usize| types.get(i).copied().unwrap_or(SqlType::Text);
        Ok([self.implicit(left, ty(0))?, self.implicit(right, ty(1))?])
    }

    pub(super) fn between(&mut self, arg: &Ast, negated: bool, low: &Ast, high: &Ast) -> SqlResult<Typed> {
        let value = self.expr(arg)?;
        let (start, above) = (value.at, self.expr(low)?);
        let first = self.apply_operator(if negated { "<" } else { ">=" }, Some(value), above, 0)?;
        let (value, below) = (self.expr(arg)?, self.expr(high)?);
        let second = self.apply_operator(if negated { ">" } else { "<=" }, Some(value), below, 0)?;
        let both = vec![first.expr, second.expr];
        Ok(Typed::new(if negated { Expr::Or(both) } else { Expr::And(both) }, start))
    }

    pub(super) fn in_list(&mut self, arg: &Ast, list: &[Ast], negated: bool) -> SqlResult<Typed> {
        if let Some(parts) = row_items(arg) {
            return self.rows_in(&parts, list, negated, arg);
        }
        let value = self.expr(arg)?;
        let start = value.at;
        let elements = list.iter().map(|e| self.expr(e)).collect::<SqlResult<Vec<_>>>()?;
        let types: Vec<SqlType> = std::iter::once(value.ty()).chain(elements.iter().map(Typed::ty)).collect();
        let common = func::common_type("IN", &types).ok().and_then(|ty| same_type("=", ty).ok());
        let Some((equal, ty)) = common else {
            return self.in_mixed(arg, value, elements, negated);
        };
        let arg = Box::new(self.implicit(value, ty)?);
        let list = elements.into_iter().map(|e| self.implicit(e, ty)).collect::<SqlResult<Vec<_>>>()?;
        Ok(Typed::new(Expr::InList { equal, arg, list, negated }, start))
    }

    /// Elements that share no type are compared one by one.
    fn in_mixed(&mut self, ast: &Ast, first: Typed, elements: Vec<Typed>, negated: bool) -> SqlResult<Typed> {
        let start = first.at;
        let place = self.behind(ast, "IN").max(self.behind(ast, "in"));
        let mut tests = Vec::with_capacity(elements.len());
        for element in elements {
            let value = self.expr(ast)?;
            tests.push(self.apply_operator(if negated { "<>" } else { "=" }, Some(value), element, place)?.expr);
        }
        Ok(Typed::new(if negated { Expr::And(tests) } else { Expr::Or(tests) }, start))
    }

    pub(super) fn like(&mut self, op: &str, arg: &Ast, pattern: &Ast, escape: Option<&Ast>) -> SqlResult<Typed> {
        let (value, mut pattern) = (self.expr(arg)?, self.expr(pattern)?);
        if let Some(escape) = escape {
            let escape = self.expr(escape)?;
            pattern = self.apply_function("like_escape", vec![pattern, escape], 0)?;
        }
        let place = self.behind(arg, "LIKE").max(self.behind(arg, "like"));
        self.apply_operator(op, Some(value), pattern, place)
    }

    pub(super) fn similar(
        &mut self,
        negated: bool,
        arg: &Ast,
        pattern: &Ast,
        escape: Option<&Ast>,
    ) -> SqlResult<Typed> {
        let (value, pattern) = (self.expr(arg)?, self.expr(pattern)?);
        let mut args = vec![pattern];
        if let Some(escape) = escape {
            args.push(self.expr(escape)?);
        }
        let pattern = self.apply_function("similar_to_escape", args, 0)?;
        self.apply_operator(if negated { "!~" } else { "~" }, Some(value), pattern, 0)
    }

    /// `left op ANY|ALL (array or query)`.
    pub(super) fn quantified(&mut self, left: &Ast, op: &BinaryOperator, right: &Ast, all: bool) -> SqlResult<Typed> {
        let name = symbol(op);
        if let Ast::Subquery(query) = bare(right) {
            return self.quantified_subquery(left, &name, query, all);
        }
        let value = self.expr(left)?;
        let array = self.expr(right)?;
        let start = value.at;
        let place = self.behind(left, &name);
        let element = match (array.ty(), array.ty().element()) {
            (SqlType::Unknown, _) => SqlType::Unknown,
            (_, Some(element)) => element,
            (_, None) => {
                let message = "op ANY/ALL (array) requires array on right side";
                return Err(super::binder::error_at(SqlState::WRONG_OBJECT_TYPE, message, place));
            }
        };
        let resolved = located(func::resolve_operator(&name, Some(value.ty()), element), place)?;
        if resolved.result != SqlType::Bool {
            let message = "op ANY/ALL (array) requires operator to yield boolean";
            return Err(super::binder::error_at(SqlState::WRONG_OBJECT_TYPE, message, place));
        }
        let types: Vec<SqlType> = resolved.args.clone();
        let (first, second) = (types.first().copied(), types.get(1).and_then(|ty| ty.array()));
        let left = Box::new(self.implicit(value, first.unwrap_or(SqlType::Text))?);
        let wanted = second.ok_or_else(|| unsupported_at("an array of this type", place))?;
        let array = Box::new(self.implicit(array, wanted)?);
        Ok(Typed::new(Expr::Quantified { op: resolved.func, left, array, all }, start))
    }

    /// `(a, b) op (c, d)`.
    fn rows(&mut self, lefts: &[Ast], op: &str, rights: &[Ast], left: &Ast) -> SqlResult<Typed> {
        let place = self.behind(left, op);
        if lefts.len() != rights.len() {
            let message = "unequal number of entries in row expressions";
            return Err(super::binder::error_at(SqlState::SYNTAX_ERROR, message, place));
        }
        let pairs: Vec<(&Ast, &Ast)> = lefts.iter().zip(rights).collect();
        let expr = match op {
            "=" => Expr::And(self.pairwise("=", &pairs)?),
            "<>" | "!=" => Expr::Or(self.pairwise("<>", &pairs)?),
            "<" | ">" | "<=" | ">=" => self.lexicographic(op, &pairs)?,
            _ => return Err(unsupported_at(format!("operator {op} on rows"), place)),
        };
        Ok(Typed::new(expr, 0))
    }

    /// `(start, end) OVERLAPS (start, end)`; an end may be given by its distance.
    fn overlaps(&mut self, left: &Ast, right: &Ast) -> SqlResult<Typed> {
        let place = self.behind(left, "OVERLAPS").max(self.behind(left, "overlaps"));
        let mut args = Vec::with_capacity(4);
        for (side, word) in [(left, "left"), (right, "right")] {
            let items = row_items(side).unwrap_or_default();
            let [start, end] = items.as_slice() else {
                let message = format!("wrong number of parameters on {word} side of OVERLAPS expression");
                return Err(super::binder::error_at(SqlState::SYNTAX_ERROR, message, place));
            };
            let (start, mut end) = (self.expr(start)?, self.expr(end)?);
            if end.ty() == SqlType::Interval {
                end = self.apply_operator("+", Some(start.clone()), end, place)?;
            }
            args.extend([start, end]);
        }
        self.apply_function("overlaps", args, place)
    }

    fn pairwise(&mut self, op: &str, pairs: &[(&Ast, &Ast)]) -> SqlResult<Vec<BoundExpr>> {
        pairs
            .iter()
            .map(|(left, right)| {
                let (left, right) = (self.expr(left)?, self.expr(right)?);
                Ok(self.apply_operator(op, Some(left), right, 0)?.expr)
            })
            .collect()
    }

    fn lexicographic(&mut self, op: &str, pairs: &[(&Ast, &Ast)]) -> SqlResult<BoundExpr> {
        let strict = op.trim_end_matches('=');
        let mut ways = Vec::with_capacity(pairs.len());
        for last in 0..pairs.len() {
            let (equals, rest) = pairs.split_at(last);
            let mut way = self.pairwise("=", equals)?;
            let final_op = if last + 1 == pairs.len() { op } else { strict };
            way.extend(self.pairwise(final_op, rest.get(..1).unwrap_or_default())?);
            ways.push(Expr::And(way));
        }
        Ok(Expr::Or(ways))
    }

    fn rows_in(&mut self, parts: &[Ast], list: &[Ast], negated: bool, arg: &Ast) -> SqlResult<Typed> {
        let mut tests = Vec::with_capacity(list.len());
        for element in list {
            let Some(rights) = row_items(element) else {
                return Err(unsupported_at("a row compared with a single value", 0));
            };
            tests.push(self.rows(parts, if negated { "<>" } else { "=" }, &rights, arg)?.expr);
        }
        Ok(Typed::new(if negated { Expr::And(tests) } else { Expr::Or(tests) }, 0))
    }
}

/// The comparison of two values of one type, and the type to which both are to be cast for it.
pub(super) fn same_type(op: &str, ty: SqlType) -> SqlResult<(FuncId, SqlType)> {
    let resolved = func::resolve_operator(op, Some(ty), ty)?;
    let target = resolved.args.first().copied().unwrap_or(ty);
    Ok((resolved.func, target))
}

/// The items of `(a, b)` and of `ROW(a, b)`.
pub(super) fn row_items(ast: &Ast) -> Option<Vec<Ast>> {
    match bare(ast) {
        Ast::Tuple(items) => Some(items.clone()),
        Ast::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let item = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(item)) => Some(item.clone()),
                _ => None,
            };
            list.args.iter().map(item).collect()
        }
        _ => None,
    }
}

/// The patterns of LIKE ANY and LIKE ALL, and whether all are to match; sqlparser reads ALL as a function.
pub(super) fn patterns(pattern: &Ast, any: bool, escaped: bool) -> Option<(&Ast, bool)> {
    if any {
        return Some((pattern, false));
    }
    let Ast::Function(function) = pattern else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(patterns))]
            if !escaped && function.name.to_string().eq_ignore_ascii_case("all") =>
        {
            Some((patterns, true))
        }
        _ => None,
    }
}

/// Without parentheses around it.
pub(super) fn bare(mut ast: &Ast) -> &Ast {
    while let Ast::Nested(inner) = ast {
        ast = inner;
    }
    ast
}
