//! The name that an output column has when the statement gives it none.

use super::binder::name_of;
use sqlparser::ast::{self, Expr as Ast, SelectItem, SetExpr, TrimWhereField};

/// A column's name as PostgreSQL chooses it.
pub(super) fn column_name(ast: &Ast) -> String {
    name(ast).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// The name and whether it is strong: a cast's type name gives way to a strong name inside.
fn name(ast: &Ast) -> Option<(String, bool)> {
    let strong = |name: &str| Some((name.to_owned(), true));
    match ast {
        Ast::Identifier(ident) => Some((name_of(ident), true)),
        Ast::CompoundIdentifier(idents) => idents.last().map(|i| (name_of(i), true)),
        Ast::Nested(inner) | Ast::Collate { expr: inner, .. } => name(inner),
        Ast::CompoundFieldAccess { root, .. } => name(root),
        Ast::Function(function) => Some((name_of(function.name.0.last()?.as_ident()?), true)),
        Ast::Cast { expr, data_type, .. } => match name(expr) {
            Some((inner, true)) => Some((inner, true)),
            _ => Some((type_name(data_type), false)),
        },
        Ast::TypedString(typed) => Some((type_name(&typed.data_type), false)),
        Ast::Interval(_) => Some(("interval".to_owned(), false)),
        Ast::Case { else_result, .. } => match else_result.as_deref().and_then(name) {
            Some((inner, true)) => Some((inner, true)),
            _ => Some(("case".to_owned(), false)),
        },
        Ast::Exists { negated: false, .. } => strong("exists"),
        Ast::Subquery(query) => query_name(query),
        Ast::Array(_) => strong("array"),
        Ast::Extract { .. } => strong("extract"),
        Ast::Position { .. } => strong("position"),
        Ast::Substring { shorthand: true, .. } => strong("substr"),
        Ast::Substring { shorthand: false, .. } => strong("substring"),
        Ast::Overlay { .. } => strong("overlay"),
        Ast::Ceil { .. } => strong("ceil"),
        Ast::Floor { .. } => strong("floor"),
        Ast::BinaryOp { op: ast::BinaryOperator::Overlaps, .. } => strong("overlaps"),
        Ast::AtTimeZone { .. } => strong("timezone"),
        Ast::Tuple(_) => strong("row"),
        Ast::Trim { trim_where, .. } => strong(match trim_where {
            None | Some(TrimWhereField::Both) => "btrim",
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
        }),
        _ => None,
    }
}

/// A scalar subquery is called as its column.
fn query_name(query: &ast::Query) -> Option<(String, bool)> {
    match &*query.body {
        SetExpr::Select(select) => match select.projection.first()? {
            SelectItem::ExprWithAlias { alias, .. } => Some((name_of(alias), true)),
            SelectItem::UnnamedExpr(expr) => Some((name(expr)?.0, true)),
            _ => None,
        },
        SetExpr::Query(inner) => query_name(inner),
        SetExpr::Values(_) => Some(("column1".to_owned(), true)),
        _ => None,
    }
}

/// `typname`, not the type's long name.
fn type_name(ast: &ast::DataType) -> String {
    let Ok(ty) = super::typing::column_type(ast) else { return "?column?".to_owned() };
    type_short_name(ty.ty.element().unwrap_or(ty.ty)).to_owned()
}

fn type_short_name(ty: toroid_common::types::SqlType) -> &'static str {
    use toroid_common::types::SqlType as T;
    match ty {
        T::Bool => "bool",
        T::Int2 => "int2",
        T::Int4 => "int4",
        T::Int8 => "int8",
        T::Float4 => "float4",
        T::Float8 => "float8",
        T::Numeric => "numeric",
        T::Text => "text",
        T::Varchar => "varchar",
        T::Bpchar => "bpchar",
        T::Bytea => "bytea",
        T::Date => "date",
        T::Time => "time",
        T::Timestamp => "timestamp",
        T::Timestamptz => "timestamptz",
        T::Interval => "interval",
        T::Uuid => "uuid",
        T::Json => "json",
        T::Jsonb => "jsonb",
        T::Oid => "oid",
        T::Name => "name",
        T::Char => "char",
        T::Regclass => "regclass",
        T::Regtype => "regtype",
        T::Unknown => "unknown",
        T::Void => "void",
        T::Array(_) => "array",
    }
}
