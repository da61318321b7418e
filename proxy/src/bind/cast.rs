//! Conversions: which exist, in which context, and how unknown literals and parameters take their type.

use super::binder::{Binder, Typed, error_at, located};
use crate::bound::BoundExpr;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval;
use toroid_common::expr::{CastContext, Expr, Slot};
use toroid_common::func::category::{Category, category, converts};
use toroid_common::types::input::{parse_text, split_name};
use toroid_common::types::{ColumnType, SqlType};

/// The weakest context in which a value of one type turns into another; `None` if it never does.
pub(super) fn castable(from: SqlType, to: SqlType) -> Option<CastContext> {
    use SqlType as T;
    if let (Some(from), Some(to)) = (from.element(), to.element()) {
        return castable(from, to);
    }
    if converts(from, to) {
        return Some(CastContext::Implicit);
    }
    let assignment = matches!(
        (from, to),
        (T::Int8, T::Int4 | T::Int2)
            | (T::Int4, T::Int2)
            | (T::Numeric | T::Float4 | T::Float8, T::Int2 | T::Int4 | T::Int8 | T::Numeric)
            | (T::Float8, T::Float4)
            | (T::Timestamptz, T::Timestamp | T::Date | T::Time)
            | (T::Timestamp, T::Date | T::Time)
            | (T::Interval, T::Time)
            | (T::Json, T::Jsonb)
            | (T::Jsonb, T::Json)
            | (T::Oid | T::Regclass | T::Regtype, T::Int4 | T::Int8)
            | (T::Text | T::Varchar | T::Bpchar, T::Char)
    );
    if assignment || (category(to) == Category::String && from != T::Void) {
        return Some(CastContext::Assignment);
    }
    let explicit = matches!(
        (from, to),
        (T::Bool, T::Int4)
            | (T::Int4, T::Bool | T::Char)
            | (T::Char, T::Int4)
            | (T::Jsonb, T::Bool | T::Int2 | T::Int4 | T::Int8 | T::Numeric | T::Float4 | T::Float8)
    );
    // Text is read as any type would read its literal.
    let read = category(from) == Category::String && to != T::Void;
    (explicit || read).then_some(CastContext::Explicit)
}

fn allows(context: CastContext, weakest: CastContext) -> bool {
    match context {
        CastContext::Implicit => weakest == CastContext::Implicit,
        CastContext::Assignment => weakest != CastContext::Explicit,
        CastContext::Explicit => true,
    }
}

impl Binder<'_> {
    /// Casts implicitly to a type that overload resolution or a construct asks for.
    pub(super) fn implicit(&mut self, value: Typed, to: SqlType) -> SqlResult<BoundExpr> {
        self.convert(value, ColumnType::from(to), CastContext::Implicit)?
            .ok_or_else(|| SqlError::internal(format!("no implicit cast to {to}, though one was promised")))
    }

    /// Casts in a context; `None` if there is no such cast in it.
    pub(super) fn convert(
        &mut self,
        value: Typed,
        to: ColumnType,
        context: CastContext,
    ) -> SqlResult<Option<BoundExpr>> {
        let from = value.ty();
        let expr = match value.expr {
            Expr::Const { value: Datum::Text(text), ty: SqlType::Unknown } if to.ty == SqlType::Interval => {
                // The fields that the type names say what a bare number counts.
                let read = parse_text(to.ty, to.modifier, &text, self.cx.env);
                Expr::Const { value: located(read, value.at)?, ty: to.ty }
            }
            Expr::Const { value: literal, ty: SqlType::Unknown } => self.literal(literal, to.ty, value.at)?,
            Expr::Param { index, ty: SqlType::Unknown } => {
                let settled = self.settle_param(index, to.ty);
                Expr::Param { index, ty: settled }
            }
            other => other,
        };
        let known = expr.ty();
        if known == to.ty && to.modifier == -1 {
            return Ok(Some(expr));
        }
        if known == to.ty && value.modifier == to.modifier && from != SqlType::Unknown {
            return Ok(Some(expr));
        }
        match castable(known, to.ty) {
            Some(weakest) if allows(context, weakest) => {
                let cast = Expr::Cast { arg: Box::new(expr), ty: to.ty, modifier: to.modifier, context };
                Ok(Some(self.fold_literal(cast)?))
            }
            _ => Ok(None),
        }
    }

    /// `CAST(value AS to)` and `value::to`; `place` is where the cast is written.
    pub(super) fn explicit(&mut self, value: Typed, to: ColumnType, place: u32) -> SqlResult<Typed> {
        let (from, at) = (value.ty(), value.at);
        match self.convert(value, to, CastContext::Explicit)? {
            Some(expr) => Ok(Typed { expr, modifier: to.modifier, at }),
            None => {
                let message = format!("cannot cast type {from} to {}", to.ty);
                Err(error_at(SqlState::CANNOT_COERCE, message, place))
            }
        }
    }

    /// Casts for assignment to a column.
    pub(super) fn assign(&mut self, value: Typed, column: &str, to: ColumnType) -> SqlResult<BoundExpr> {
        let (from, at) = (value.ty(), value.at);
        self.convert(value, to, CastContext::Assignment)?.ok_or_else(|| {
            let message = format!("column \"{column}\" is of type {} but expression is of type {from}", to.ty);
            error_at(SqlState::DATATYPE_MISMATCH, message, at)
                .with_hint("You will need to rewrite or cast the expression.")
        })
    }

    /// A condition: `argument of WHERE must be type boolean, not type integer`.
    pub(super) fn boolean(&mut self, value: Typed, construct: &str) -> SqlResult<BoundExpr> {
        let (from, at) = (value.ty(), value.at);
        self.convert(value, ColumnType::from(SqlType::Bool), CastContext::Implicit)?.ok_or_else(|| {
            let message = format!("argument of {construct} must be type boolean, not type {from}");
            error_at(SqlState::DATATYPE_MISMATCH, message, at)
        })
    }

    /// What has no type by now is text.
    pub(super) fn text_if_unknown(&mut self, value: Typed) -> SqlResult<Typed> {
        if value.ty() != SqlType::Unknown {
            return Ok(value);
        }
        let at = value.at;
        Ok(Typed::new(self.implicit(value, SqlType::Text)?, at))
    }

    /// An unknown literal read as a type.
    fn literal(&mut self, literal: Datum, to: SqlType, at: u32) -> SqlResult<BoundExpr> {
        if matches!(to, SqlType::Unknown) || literal.is_null() {
            return Ok(Expr::Const { value: literal, ty: to });
        }
        if matches!(to, SqlType::Text | SqlType::Varchar | SqlType::Bpchar) {
            let literal = match (literal, to) {
                (Datum::Text(text), SqlType::Bpchar) => Datum::Text(text.trim_end_matches(' ').to_owned()),
                (other, _) => other,
            };
            return Ok(Expr::Const { value: literal, ty: to });
        }
        if let (Datum::Text(text), SqlType::Regclass) = (&literal, to) {
            let oid = located(self.relation_oid(text), at)?;
            return Ok(Expr::Const { value: Datum::Oid(oid), ty: to });
        }
        let relative = is_relative(&literal, to);
        let arg = Box::new(Expr::Const { value: literal, ty: SqlType::Unknown });
        let cast: Expr<Slot> = Expr::Cast { arg, ty: to, modifier: -1, context: CastContext::Implicit };
        let value = located(eval::eval(&cast, &eval::NO_ROW, &eval::NO_ROW, self.cx.env), at)?;
        match (relative, cast) {
            (true, Expr::Cast { arg, ty, modifier, context }) => {
                let arg = Box::new(arg.map_leaves(&mut |_: Slot| Err(SqlError::internal("a literal with a column")))?);
                Ok(Expr::Cast { arg, ty, modifier, context })
            }
            _ => Ok(Expr::Const { value, ty: to }),
        }
    }

    /// Applies a cast to a constant at once, so that `'abc'::varchar(2)` is a constant too. One that fails is left: it may never be reached.
    fn fold_literal(&mut self, cast: BoundExpr) -> SqlResult<BoundExpr> {
        let constant = matches!(&cast, Expr::Cast { arg, .. } if matches!(**arg, Expr::Const { .. }));
        if !constant || eval::volatility(&cast) != toroid_common::func::Volatility::Immutable {
            return Ok(cast);
        }
        let ty = cast.ty();
        let unbound: Expr<Slot> =
            cast.clone().map_leaves(&mut |_| Err(SqlError::internal("a literal with a column")))?;
        match eval::eval(&unbound, &eval::NO_ROW, &eval::NO_ROW, self.cx.env) {
            Ok(value) => Ok(Expr::Const { value, ty }),
            Err(_) => Ok(cast),
        }
    }

    /// The oid of the relation that a regclass literal names.
    pub(super) fn relation_oid(&self, text: &str) -> SqlResult<u32> {
        if let Ok(oid) = text.trim().parse::<u32>() {
            return Ok(oid);
        }
        self.by_name.set(true);
        let parts = split_name(text);
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name.as_str()),
            [schema, name] | [_, schema, name] => (Some(schema.as_str()), name.as_str()),
            _ => return Err(SqlError::new(SqlState::INVALID_NAME, "invalid name syntax")),
        };
        if let Some(table) = self.virtual_table(schema, name) {
            return Ok(table.oid);
        }
        if let Some(table) = self.stored_table(schema, name) {
            return Ok(table.id.0);
        }
        let schemas: Vec<&str> = match schema {
            Some(schema) => vec![schema],
            None => self.cx.env.search_path.iter().map(String::as_str).collect(),
        };
        if let Some((_, index)) = schemas.iter().find_map(|s| self.cx.catalog.find_index(s, name)) {
            return Ok(index.id.0);
        }
        Err(SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{}\" does not exist", parts.join("."))))
    }
}

/// Date and time literals such as `now` and `tomorrow`, which a cached plan must not fix.
fn is_relative(literal: &Datum, to: SqlType) -> bool {
    let dated = matches!(to, SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz);
    let Datum::Text(text) = literal else { return false };
    let lower = text.to_ascii_lowercase();
    dated && ["now", "today", "tomorrow", "yesterday"].iter().any(|word| lower.contains(word))
}
