//! Subqueries in expressions: scalar, EXISTS, IN, ANY and ALL, ARRAY(…).

use super::binder::{Binder, Typed, error_at, unsupported_at};
use super::operator::bare;
use crate::bound::{BoundLeaf, Query, Subquery, SubqueryKind};
use sqlparser::ast::{self, Expr as Ast};
use toroid_common::error::{SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::func;

impl Binder<'_> {
    pub(super) fn scalar_subquery(&mut self, query: &ast::Query) -> SqlResult<Typed> {
        let query = self.one_column(query)?;
        let modifier = query.output.first().map_or(-1, |c| c.ty.modifier);
        Ok(Typed { modifier, ..leaf(SubqueryKind::Scalar, query) })
    }

    pub(super) fn exists(&mut self, query: &ast::Query, negated: bool) -> SqlResult<Typed> {
        let query = self.query(query)?;
        Ok(leaf(SubqueryKind::Exists { negated }, query))
    }

    pub(super) fn array_subquery(&mut self, query: &ast::Query, place: u32) -> SqlResult<Typed> {
        let query = self.one_column(query)?;
        let element = query.output.first().map(|c| c.ty.ty);
        if element.is_none_or(|ty| ty.array().is_none()) {
            return Err(unsupported_at("an array of this subquery's type", place));
        }
        Ok(leaf(SubqueryKind::Array, query))
    }

    pub(super) fn in_subquery(&mut self, arg: &Ast, query: &ast::Query, negated: bool) -> SqlResult<Typed> {
        self.quantified_subquery(arg, if negated { "<>" } else { "=" }, query, negated)
    }

    pub(super) fn quantified_subquery(
        &mut self,
        arg: &Ast,
        op: &str,
        query: &ast::Query,
        all: bool,
    ) -> SqlResult<Typed> {
        if let Ast::Tuple(_) = bare(arg) {
            return Err(unsupported_at("a row compared with a subquery", 0));
        }
        let value = self.expr(arg)?;
        let mut query = self.query(query)?;
        let place = [op, "IN", "in"].iter().map(|word| self.behind(arg, word)).find(|p| *p > 0).unwrap_or(0);
        let Some(column) = query.output.first().filter(|_| query.output.len() == 1) else {
            let message = "subquery has too many columns";
            return Err(error_at(SqlState::SYNTAX_ERROR, message, place));
        };
        let resolved = super::binder::located(func::resolve_operator(op, Some(value.ty()), column.ty.ty), place)?;
        let (start, types) = (value.at, resolved.args.clone());
        let left = types.first().copied().unwrap_or(value.ty());
        let right = types.get(1).copied().unwrap_or(column.ty.ty);
        let arg = Box::new(self.implicit(value, left)?);
        self.cast_output(&mut query, 0, right, "IN")?;
        let kind = SubqueryKind::Quantified { arg, op: resolved.func, all };
        Ok(Typed { at: start, ..leaf(kind, query) })
    }

    fn one_column(&mut self, query: &ast::Query) -> SqlResult<Query> {
        let bound = self.query(query)?;
        match bound.output.len() {
            1 => Ok(bound),
            _ => {
                let span = ast::Spanned::span(query);
                let place = super::special::before(self.text, super::binder::at(span), "(");
                Err(error_at(SqlState::SYNTAX_ERROR, "subquery must return only one column", place))
            }
        }
    }
}

pub(super) fn leaf(kind: SubqueryKind, query: Query) -> Typed {
    Typed::new(Expr::Leaf(BoundLeaf::Subquery(Box::new(Subquery { kind, query }))), 0)
}
