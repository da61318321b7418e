//! Expressions: one arm per syntax, the work in the neighbouring files.

use super::binder::{Binder, Typed, at, located, unsupported_at};
use super::typing::registered;
use crate::bound::BoundExpr;
use sqlparser::ast::{self, Expr as Ast, Spanned, UnaryOperator, Value};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::{BoolTest, Expr};
use toroid_common::types::{ColumnType, SqlType};

impl Binder<'_> {
    /// Types one expression in the innermost level.
    pub(super) fn expr(&mut self, ast: &Ast) -> SqlResult<Typed> {
        self.nested(|binder| binder.any_expr(ast))
    }

    fn any_expr(&mut self, ast: &Ast) -> SqlResult<Typed> {
        match ast {
            Ast::Identifier(ident) => self.column(ident),
            Ast::CompoundIdentifier(idents) => self.qualified_column(idents),
            Ast::Nested(inner) => self.expr(inner),
            Ast::Value(value) => self.value(&value.value, at(value.span)),
            Ast::TypedString(typed) => self.typed_string(typed),
            Ast::Interval(interval) => self.interval(interval),
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right),
            Ast::UnaryOp { op, expr } => self.unary(*op, expr),
            Ast::Cast { kind, expr, data_type, format: None } => self.cast(kind, expr, data_type),
            Ast::IsNull(arg) => self.is_null(arg, false),
            Ast::IsNotNull(arg) => self.is_null(arg, true),
            Ast::IsTrue(arg) => self.bool_test(arg, BoolTest::True, "IS TRUE"),
            Ast::IsNotTrue(arg) => self.bool_test(arg, BoolTest::NotTrue, "IS NOT TRUE"),
            Ast::IsFalse(arg) => self.bool_test(arg, BoolTest::False, "IS FALSE"),
            Ast::IsNotFalse(arg) => self.bool_test(arg, BoolTest::NotFalse, "IS NOT FALSE"),
            Ast::IsUnknown(arg) => self.bool_test(arg, BoolTest::Unknown, "IS UNKNOWN"),
            Ast::IsNotUnknown(arg) => self.bool_test(arg, BoolTest::NotUnknown, "IS NOT UNKNOWN"),
            Ast::IsDistinctFrom(left, right) => self.distinct(left, right, false),
            Ast::IsNotDistinctFrom(left, right) => self.distinct(left, right, true),
            Ast::Between { expr, negated, low, high } => self.between(expr, *negated, low, high),
            Ast::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            Ast::InSubquery { expr, subquery, negated } => self.in_subquery(expr, subquery, *negated),
            Ast::Like { any: true, escape_char: Some(_), .. } | Ast::ILike { any: true, escape_char: Some(_), .. } => {
                Err(SqlError::unsupported("LIKE ANY with ESCAPE"))
            }
            Ast::Like { negated, any, expr, pattern, escape_char } => {
                let op = if *negated { "!~~" } else { "~~" };
                match super::operator::patterns(pattern, *any, escape_char.is_some()) {
                    Some((patterns, all)) => {
                        self.quantified(expr, &ast::BinaryOperator::Custom(op.to_owned()), patterns, all)
                    }
                    None => self.like(op, expr, pattern, escape_char.as_deref()),
                }
            }
            Ast::ILike { negated, any, expr, pattern, escape_char } => {
                let op = if *negated { "!~~*" } else { "~~*" };
                match super::operator::patterns(pattern, *any, escape_char.is_some()) {
                    Some((patterns, all)) => {
                        self.quantified(expr, &ast::BinaryOperator::Custom(op.to_owned()), patterns, all)
                    }
                    None => self.like(op, expr, pattern, escape_char.as_deref()),
                }
            }
            Ast::SimilarTo { negated, expr, pattern, escape_char } => {
                self.similar(*negated, expr, pattern, escape_char.as_deref())
            }
            Ast::AnyOp { left, compare_op, right, .. } => self.quantified(left, compare_op, right, false),
            Ast::AllOp { left, compare_op, right } => self.quantified(left, compare_op, right, true),
            Ast::Case { case_token, operand, conditions, else_result, .. } => {
                let place = at(case_token.0.span);
                self.case(operand.as_deref(), conditions, else_result.as_deref(), place)
            }
            Ast::Function(function) => self.call(function),
            Ast::Exists { subquery, negated } => self.exists(subquery, *negated),
            Ast::Subquery(query) => self.scalar_subquery(query),
            Ast::Array(array) => self.array(&array.elem, at(ast.span())),
            Ast::Collate { expr, collation } => self.collate(expr, collation),
            other => self.syntactic_function(other),
        }
    }

    /// Constants.
    pub(super) fn value(&mut self, value: &Value, place: u32) -> SqlResult<Typed> {
        let unknown = |text: &str| Ok(Typed::new(text_literal(text), place));
        match value {
            Value::Number(digits, _) => self.number(digits, place),
            Value::SingleQuotedString(text)
            | Value::EscapedStringLiteral(text)
            | Value::UnicodeStringLiteral(text)
            | Value::NationalStringLiteral(text) => unknown(text),
            Value::DollarQuotedString(text) => unknown(&text.value),
            Value::Boolean(truth) => {
                Ok(Typed::new(Expr::Const { value: Datum::Bool(*truth), ty: SqlType::Bool }, place))
            }
            Value::Null => Ok(Typed::new(Expr::Const { value: Datum::Null, ty: SqlType::Unknown }, place)),
            Value::Placeholder(name) => match name.strip_prefix('$') {
                Some(number) => self.param(number, place),
                None => {
                    Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{name}\"")).at(place))
                }
            },
            Value::SingleQuotedByteStringLiteral(_) | Value::HexStringLiteral(_) => {
                Err(unsupported_at("a bit string", place))
            }
            other => Err(unsupported_at(format!("the literal {other}"), place)),
        }
    }

    /// A number is the first of int4, int8 and numeric that holds it; a sign may be part of it.
    pub(super) fn number(&mut self, digits: &str, place: u32) -> SqlResult<Typed> {
        let constant = |value, ty| Ok(Typed::new(Expr::Const { value, ty }, place));
        if let Ok(value) = digits.parse::<i32>() {
            return constant(Datum::Int4(value), SqlType::Int4);
        }
        if let Ok(value) = digits.parse::<i64>() {
            return constant(Datum::Int8(value), SqlType::Int8);
        }
        let literal = Typed::new(text_literal(digits), place);
        Ok(Typed::new(self.implicit(literal, SqlType::Numeric)?, place))
    }

    fn typed_string(&mut self, typed: &ast::TypedString) -> SqlResult<Typed> {
        let place = at(typed.value.span);
        let to = located(super::typing::column_type(&typed.data_type), place)?;
        let literal = self.value(&typed.value.value, place)?;
        self.explicit(literal, to, place)
    }

    fn interval(&mut self, interval: &ast::Interval) -> SqlResult<Typed> {
        let literal = self.expr(&interval.value)?;
        let place = literal.at;
        let fields = match (&interval.leading_field, &interval.last_field) {
            (None, _) => None,
            (Some(first), None) => Some(first.to_string()),
            (Some(first), Some(last)) => Some(format!("{first} TO {last}")),
        };
        let name = match fields {
            None => "interval".to_owned(),
            Some(fields) => format!("interval {fields}"),
        };
        let parsed = crate::parse::lex::tokens(&name)
            .and_then(|tokens| crate::parse::parse_with(&name, &tokens, |p| p.parse_data_type()))?;
        let mut to = super::typing::column_type(&parsed)?;
        if let Some(precision) = interval.fractional_seconds_precision.or(interval.leading_precision) {
            let mask = if to.modifier == -1 { 0x7fff << 16 } else { to.modifier & (0x7fff << 16) };
            to.modifier = mask | precision.min(6) as i32;
        }
        self.explicit(literal, to, place)
    }

    fn unary(&mut self, op: UnaryOperator, arg: &Ast) -> SqlResult<Typed> {
        if let (UnaryOperator::Minus, Ast::Value(value)) = (op, super::operator::bare(arg))
            && let Value::Number(digits, _) = &value.value
        {
            return self.number(&format!("-{digits}"), at(value.span).saturating_sub(1));
        }
        if matches!(op, UnaryOperator::Minus | UnaryOperator::Plus)
            && let Some(power) = super::precedence::signed_power(op, arg)
        {
            return self.expr(&power);
        }
        if op == UnaryOperator::Not {
            let value = self.expr(arg)?;
            let place = value.at;
            return Ok(Typed::new(Expr::Not(Box::new(self.boolean(value, "NOT")?)), place));
        }
        let name = match op {
            UnaryOperator::PGAbs => "@".to_owned(),
            other => other.to_string(),
        };
        let value = self.expr(arg)?;
        let place = super::special::before(self.text, value.at, &name);
        self.apply_operator(&name, None, value, place)
    }

    fn cast(&mut self, kind: &ast::CastKind, arg: &Ast, data_type: &ast::DataType) -> SqlResult<Typed> {
        if let Some(kind) = registered(data_type) {
            let value = self.expr(arg)?;
            return self.registered(kind, value);
        }
        let mut to = located(super::typing::column_type(data_type), super::typing::place(data_type))?;
        let value = match (arg, to.ty.element()) {
            // ARRAY[…]::type[] gives its elements the type at once; the empty array has none otherwise.
            (Ast::Array(array), Some(element)) => {
                let element = ColumnType { ty: element, modifier: to.modifier };
                let made = self.array_of(&array.elem, element, at(arg.span()))?;
                to.modifier = -1;
                made
            }
            _ => self.expr(arg)?,
        };
        if let (Some(_), SqlType::Regtype) = (text_of(&value.expr), to.ty) {
            return self.regtype(value);
        }
        let refused = |binder: &Self| match kind {
            ast::CastKind::DoubleColon => binder.behind(arg, "::"),
            _ => value_position(binder.text, &value),
        };
        let place = refused(self);
        self.explicit(value, to, place)
    }

    fn is_null(&mut self, arg: &Ast, negated: bool) -> SqlResult<Typed> {
        if let Some(parts) = super::operator::row_items(arg) {
            let tests = parts.iter().map(|p| Ok(self.is_null(p, negated)?.expr)).collect::<SqlResult<Vec<_>>>()?;
            return Ok(Typed::new(Expr::And(tests), 0));
        }
        let value = self.expr(arg)?;
        let place = value.at;
        let value = match value.expr {
            // The test of a bare literal or parameter needs no type, but a value must have one.
            Expr::Const { ty: SqlType::Unknown, .. } => self.text_if_unknown(value)?,
            _ => value,
        };
        Ok(Typed::new(Expr::IsNull { arg: Box::new(value.expr), negated }, place))
    }

    fn bool_test(&mut self, arg: &Ast, test: BoolTest, construct: &str) -> SqlResult<Typed> {
        let value = self.expr(arg)?;
        let place = value.at;
        Ok(Typed::new(Expr::BoolTest { arg: Box::new(self.boolean(value, construct)?), test }, place))
    }

    fn collate(&mut self, arg: &Ast, collation: &ast::ObjectName) -> SqlResult<Typed> {
        let (_, name, place) = super::binder::object_name(collation)?;
        if !matches!(name.as_str(), "default" | "C" | "POSIX" | "ucs_basic") {
            return Err(unsupported_at(format!("collation \"{name}\""), place));
        }
        let value = self.expr(arg)?;
        self.text_if_unknown(value)
    }
}

pub(super) fn text_literal(text: &str) -> BoundExpr {
    Expr::Const { value: Datum::Text(text.to_owned()), ty: SqlType::Unknown }
}

/// The text of a literal that has no type yet.
pub(super) fn text_of(expr: &BoundExpr) -> Option<&str> {
    match expr {
        Expr::Const { value: Datum::Text(text), ty: SqlType::Unknown } => Some(text),
        _ => None,
    }
}

/// Where `CAST(` stands before a value.
fn value_position(text: &str, value: &Typed) -> u32 {
    let before: String = text.chars().take(value.at.saturating_sub(1) as usize).collect();
    match before.to_ascii_lowercase().rfind("cast") {
        Some(byte) => crate::parse::lex::position_of(text, byte),
        None => value.at,
    }
}
