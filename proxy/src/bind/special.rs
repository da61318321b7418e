//! Constructs with a syntax of their own: CASE, COALESCE and its kin, EXTRACT, SUBSTRING, TRIM, POSITION, AT TIME ZONE, ARRAY.

use super::binder::{Binder, Typed, error_at, located, unsupported_at};
use super::expr::text_literal;
use super::operator::same_type;
use crate::bound::BoundExpr;
use sqlparser::ast::{self, Expr as Ast, TrimWhereField};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::func;
use toroid_common::types::{ColumnType, SqlType};

impl Binder<'_> {
    /// Functions that are written unlike functions.
    pub(super) fn syntactic_function(&mut self, ast: &Ast) -> SqlResult<Typed> {
        match ast {
            Ast::AtTimeZone { timestamp, time_zone } => {
                let args = vec![self.expr(time_zone)?, self.expr(timestamp)?];
                let start = args.get(1).map_or(0, |t| t.at);
                let called = self.apply_function("timezone", args, self.behind(timestamp, "AT"))?;
                Ok(Typed { at: start, ..called })
            }
            Ast::Extract { field, expr, .. } => {
                let field = text_literal(field.to_string().trim_matches(['\'', '"']).to_ascii_lowercase().as_str());
                let value = self.expr(expr)?;
                let place = before(self.text, value.at, "extract");
                self.apply_function("extract", vec![Typed::new(field, 0), value], place)
            }
            Ast::Ceil { expr, field } | Ast::Floor { expr, field } => {
                let plain = matches!(field, ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime));
                if !plain {
                    return Err(SqlError::unsupported("CEIL and FLOOR to a unit"));
                }
                let name = if matches!(ast, Ast::Ceil { .. }) { "ceil" } else { "floor" };
                let value = self.expr(expr)?;
                let place = before(self.text, value.at, name);
                self.apply_function(name, vec![value], place)
            }
            Ast::Position { expr, r#in } => {
                let (what, whole) = (self.expr(expr)?, self.expr(r#in)?);
                let place = before(self.text, what.at, "position");
                self.apply_function("position", vec![whole, what], place)
            }
            Ast::Substring { expr, substring_from, substring_for, shorthand, .. } => {
                // Only with a position they are the same.
                let name = if *shorthand && substring_from.is_none() { "substr" } else { "substring" };
                self.substring(name, expr, substring_from.as_deref(), substring_for.as_deref())
            }
            Ast::Trim { trim_where, trim_what, expr, trim_characters } => {
                self.trim(*trim_where, trim_what.as_deref(), expr, trim_characters.as_deref())
            }
            Ast::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args = vec![self.expr(expr)?, self.expr(overlay_what)?, self.expr(overlay_from)?];
                if let Some(count) = overlay_for {
                    args.push(self.expr(count)?);
                }
                let place = before(self.text, args.first().map_or(0, |a| a.at), "overlay");
                self.apply_function("overlay", args, place)
            }
            Ast::CompoundFieldAccess { root, access_chain } => self.subscript(root, access_chain),
            Ast::Tuple(_) => Err(SqlError::unsupported("a row as a value")),
            Ast::GroupingSets(_) | Ast::Cube(_) | Ast::Rollup(_) => Err(SqlError::unsupported("GROUPING SETS here")),
            Ast::JsonAccess { .. } => Err(SqlError::unsupported("a JSON path")),
            Ast::IsNormalized { .. } => Err(SqlError::unsupported("IS NORMALIZED")),
            Ast::IsJson { .. } => Err(SqlError::unsupported("IS JSON")),
            other => Err(SqlError::unsupported(format!("the expression {other}"))),
        }
    }

    fn substring(&mut self, name: &str, arg: &Ast, from: Option<&Ast>, count: Option<&Ast>) -> SqlResult<Typed> {
        let value = self.expr(arg)?;
        let place = before(self.text, value.at, "substr");
        let mut args = vec![value];
        match (from, count) {
            (Some(from), _) => args.push(self.expr(from)?),
            (None, Some(_)) => args.push(self.number("1", 0)?),
            (None, None) => {}
        }
        if let Some(count) = count {
            args.push(self.expr(count)?);
        }
        self.apply_function(name, args, place)
    }

    fn trim(
        &mut self,
        side: Option<TrimWhereField>,
        what: Option<&Ast>,
        arg: &Ast,
        characters: Option<&[Ast]>,
    ) -> SqlResult<Typed> {
        let name = match side {
            None | Some(TrimWhereField::Both) => "btrim",
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
        };
        let mut args = vec![self.expr(arg)?];
        for extra in what.into_iter().chain(characters.unwrap_or_default()) {
            args.push(self.expr(extra)?);
        }
        let place = before(self.text, args.iter().map(|a| a.at).min().unwrap_or(0), "trim");
        self.apply_function(name, args, place)
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&Ast>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&Ast>,
        place: u32,
    ) -> SqlResult<Typed> {
        let mut tests = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        for when in conditions {
            let test = match operand {
                None => {
                    let test = self.expr(&when.condition)?;
                    self.boolean(test, "CASE/WHEN")?
                }
                Some(operand) => {
                    let value = self.expr(operand)?;
                    let value = self.text_if_unknown(value)?;
                    let compared = self.expr(&when.condition)?;
                    self.apply_operator("=", Some(value), compared, 0)?.expr
                }
            };
            tests.push(test);
            results.push(self.expr(&when.result)?);
        }
        let last = otherwise.map(|e| self.expr(e)).transpose()?;
        let has_else = last.is_some();
        // PostgreSQL weighs ELSE first.
        let mut weighed: Vec<Typed> = last.into_iter().collect();
        weighed.extend(results);
        let (values, ty) = self.unify("CASE", weighed)?;
        let mut values = values.into_iter();
        let otherwise = if has_else { values.next().map(Box::new) } else { None };
        Ok(Typed::new(Expr::Case { whens: tests.into_iter().zip(values).collect(), otherwise, ty }, place))
    }

    /// Casts all to the type in which they meet.
    pub(super) fn unify(&mut self, context: &str, values: Vec<Typed>) -> SqlResult<(Vec<BoundExpr>, SqlType)> {
        let ty = self.meeting(context, &values)?;
        let cast = values.into_iter().map(|v| self.implicit(v, ty)).collect::<SqlResult<Vec<_>>>()?;
        Ok((cast, ty))
    }

    pub(super) fn meeting(&mut self, context: &str, values: &[Typed]) -> SqlResult<SqlType> {
        let types: Vec<SqlType> = values.iter().map(Typed::ty).collect();
        func::common_type(context, &types).map_err(|error| {
            let culprit =
                (1..=types.len()).find(|n| func::common_type(context, types.get(..*n).unwrap_or_default()).is_err());
            match culprit.and_then(|n| values.get(n - 1)) {
                Some(value) if value.at > 0 => error.or_at(value.at),
                _ => error,
            }
        })
    }

    /// COALESCE, GREATEST, LEAST and NULLIF.
    pub(super) fn conditional(&mut self, name: &str, args: &[Ast], place: u32) -> SqlResult<Option<Typed>> {
        let made = match name {
            "coalesce" => {
                let values = self.all(args)?;
                let (args, ty) = self.unify("COALESCE", values)?;
                Expr::Coalesce { args, ty }
            }
            "greatest" | "least" => {
                let values = self.all(args)?;
                let ty = self.meeting(&name.to_ascii_uppercase(), &values)?;
                let (less, target) = located(same_type("<", ty), place)?;
                let args = values.into_iter().map(|v| self.implicit(v, target)).collect::<SqlResult<Vec<_>>>()?;
                let extreme = Expr::Extreme { greatest: name == "greatest", less, args, ty: target };
                return Ok(Some(self.back_to(extreme, ty, place)?));
            }
            "nullif" => {
                let [left, right] = args else {
                    return Err(error_at(SqlState::SYNTAX_ERROR, "syntax error at or near \")\"", place));
                };
                let (left, right) = (self.expr(left)?, self.expr(right)?);
                let resolved = located(func::resolve_operator("=", Some(left.ty()), right.ty()), place)?;
                let [left, right] = self.operands(left, right, &resolved.args)?;
                let ty = { left.ty() };
                Expr::NullIf { equal: resolved.func, left: Box::new(left), right: Box::new(right), ty }
            }
            _ => return Ok(None),
        };
        if args.is_empty() {
            return Err(error_at(SqlState::SYNTAX_ERROR, "syntax error at or near \")\"", place));
        }
        Ok(Some(Typed::new(made, place)))
    }

    /// varchar is compared as text, and yet its greatest value is a varchar.
    fn back_to(&mut self, expr: BoundExpr, ty: SqlType, place: u32) -> SqlResult<Typed> {
        if expr.ty() == ty {
            return Ok(Typed::new(expr, place));
        }
        let expr = self.implicit(Typed::new(expr, place), ty)?;
        Ok(Typed::new(expr, place))
    }

    pub(super) fn all(&mut self, args: &[Ast]) -> SqlResult<Vec<Typed>> {
        args.iter().map(|arg| self.expr(arg)).collect()
    }

    /// ARRAY[…].
    pub(super) fn array(&mut self, elements: &[Ast], place: u32) -> SqlResult<Typed> {
        if elements.is_empty() {
            return Err(error_at(SqlState::INDETERMINATE_DATATYPE, "cannot determine type of empty array", place)
                .with_hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
        }
        let values = self.all(elements)?;
        if values.iter().any(|v| v.ty().element().is_some()) {
            return Err(unsupported_at("an array of more than one dimension", place));
        }
        let (elements, element) = self.unify("ARRAY", values)?;
        let ty = element.array().ok_or_else(|| unsupported_at(format!("an array of {element}"), place))?;
        Ok(Typed::new(Expr::Array { elements, ty }, place))
    }

    /// ARRAY[…]::type[].
    pub(super) fn array_of(&mut self, elements: &[Ast], element: ColumnType, place: u32) -> SqlResult<Typed> {
        let mut cast = Vec::with_capacity(elements.len());
        for value in self.all(elements)? {
            let start = value.at;
            cast.push(self.explicit(value, element, start)?.expr);
        }
        let ty = element.ty.array().ok_or_else(|| unsupported_at(format!("an array of {}", element.ty), place))?;
        Ok(Typed::new(Expr::Array { elements: cast, ty }, place))
    }

    fn subscript(&mut self, root: &Ast, chain: &[ast::AccessExpr]) -> SqlResult<Typed> {
        let refused = || SqlError::unsupported("a slice or field of a value");
        let [fields @ .., ast::AccessExpr::Subscript(ast::Subscript::Index { index })] = chain else {
            return Err(refused());
        };
        // `table.column[1]` is read as fields of `table`.
        let value = match (root, fields) {
            (_, []) => self.expr(root)?,
            (Ast::Identifier(table), fields) => {
                let mut path = vec![table.clone()];
                for field in fields {
                    let ast::AccessExpr::Dot(Ast::Identifier(name)) = field else { return Err(refused()) };
                    path.push(name.clone());
                }
                self.qualified_column(&path)?
            }
            _ => return Err(refused()),
        };
        let index = self.expr(index)?;
        let start = value.at;
        if value.ty().element().is_none() {
            let message = format!("cannot subscript type {} because it does not support subscripting", value.ty());
            return Err(error_at(SqlState::DATATYPE_MISMATCH, message, start));
        }
        self.apply_function("array_element", vec![value, index], start)
    }
}

/// Where a keyword stands last before a position.
pub(super) fn before(text: &str, position: u32, keyword: &str) -> u32 {
    let head: String = text.chars().take(position.saturating_sub(1) as usize).collect();
    match head.to_ascii_lowercase().rfind(keyword) {
        Some(byte) => crate::parse::lex::position_of(text, byte),
        None => position,
    }
}
