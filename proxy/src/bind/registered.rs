//! Casts to regtype, regnamespace, regrole and regproc: names of what the catalog numbers, settled as statements are bound.

use super::binder::{Binder, Typed, error_at, located, unsupported_at};
use super::expr::text_of;
use super::typing::Registered;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::types::input::split_name;
use toroid_common::types::{ColumnType, SqlType};

/// The schemas that there are, as pg_namespace lists them.
const NAMESPACES: &[(u32, &str)] =
    &[(11, "pg_catalog"), (2200, "public"), (13_000, "information_schema"), (13_001, "toroid")];

impl Binder<'_> {
    pub(super) fn registered(&mut self, kind: Registered, value: Typed) -> SqlResult<Typed> {
        match kind {
            Registered::Namespace => self.namespace_name(value),
            Registered::Role => self.role_name(value),
            Registered::Function => self.function_name(value),
        }
    }

    /// `oid::regnamespace` shows a schema's name: there are few, and their oids are fixed. A literal is compared with oids, so it becomes one.
    fn namespace_name(&mut self, value: Typed) -> SqlResult<Typed> {
        let place = value.at;
        if let Some(text) = text_of(&value.expr) {
            let (name, number) = (split_name(text).concat(), text.parse::<u32>().ok());
            let known = NAMESPACES.iter().find(|(oid, n)| *n == name || number == Some(*oid)).map(|(oid, _)| *oid);
            let oid = known.or(number).ok_or_else(|| {
                let message = format!("schema \"{name}\" does not exist");
                error_at(SqlState::INVALID_SCHEMA_NAME, message, place)
            })?;
            return Ok(Typed::new(Expr::Const { value: Datum::Oid(oid), ty: SqlType::Oid }, place));
        }
        self.name_of_oid(value, NAMESPACES)
    }

    /// A number as the name that it has, or as itself.
    fn name_of_oid(&mut self, value: Typed, names: &[(u32, &str)]) -> SqlResult<Typed> {
        let place = value.at;
        let oid = self.explicit(value, ColumnType::from(SqlType::Oid), place)?;
        let mut whens = Vec::with_capacity(names.len());
        for (number, name) in names {
            let constant = Typed::new(Expr::Const { value: Datum::Oid(*number), ty: SqlType::Oid }, place);
            let test = self.apply_operator("=", Some(oid.clone()), constant, place)?.expr;
            whens.push((test, Expr::Const { value: Datum::Text((*name).to_owned()), ty: SqlType::Text }));
        }
        let number = self.explicit(oid, ColumnType::from(SqlType::Text), place)?.expr;
        Ok(Typed::new(Expr::Case { whens, otherwise: Some(Box::new(number)), ty: SqlType::Text }, place))
    }

    /// `oid::regrole` shows a role's name.
    fn role_name(&mut self, value: Typed) -> SqlResult<Typed> {
        let place = value.at;
        match text_of(&value.expr) {
            Some(_) => Err(unsupported_at("a literal of type regrole", place)),
            None => self.apply_function("pg_get_userbyid", vec![value], place),
        }
    }

    /// `'name'::regproc` is an oid to compare with those in pg_type; `oid::regproc` shows the name.
    fn function_name(&mut self, value: Typed) -> SqlResult<Typed> {
        let place = value.at;
        let mut functions = self.cx.virtuals.functions();
        let Some(text) = text_of(&value.expr) else {
            functions.push((0, "-"));
            return self.name_of_oid(value, &functions);
        };
        let name = split_name(text).pop().unwrap_or_default();
        let (oid, _) = functions.into_iter().find(|(_, known)| *known == name).ok_or_else(|| {
            error_at(SqlState::UNDEFINED_FUNCTION, format!("function \"{text}\" does not exist"), place)
        })?;
        Ok(Typed::new(Expr::Const { value: Datum::Oid(oid), ty: SqlType::Oid }, place))
    }

    /// `'name'::regtype` is a type's name, not the reading of a number.
    pub(super) fn regtype(&mut self, value: Typed) -> SqlResult<Typed> {
        let text = text_of(&value.expr).unwrap_or_default().to_owned();
        let oid = match text.parse::<u32>() {
            Ok(oid) => oid,
            Err(_) => {
                let tokens = crate::parse::lex::tokens(&text)?;
                let parsed = crate::parse::parse_with(&text, &tokens, |p| p.parse_data_type())?;
                located(super::typing::column_type(&parsed), value.at)?.ty.oid()
            }
        };
        Ok(Typed::new(Expr::Const { value: Datum::Oid(oid), ty: SqlType::Regtype }, value.at))
    }
}
