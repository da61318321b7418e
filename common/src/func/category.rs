//! Type categories, preferred types and implicit conversions: what overload resolution weighs (PostgreSQL manual, chapter 10).

use crate::types::SqlType;

/// PostgreSQL's `typcategory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    Boolean,
    Numeric,
    String,
    DateTime,
    Timespan,
    Array,
    UserDefined,
    /// The type `"char"`.
    Internal,
    Unknown,
    Pseudo,
}

/// The category of a type.
pub fn category(ty: SqlType) -> Category {
    match ty {
        SqlType::Bool => Category::Boolean,
        SqlType::Int2
        | SqlType::Int4
        | SqlType::Int8
        | SqlType::Float4
        | SqlType::Float8
        | SqlType::Numeric
        | SqlType::Oid
        | SqlType::Regclass
        | SqlType::Regtype => Category::Numeric,
        SqlType::Text | SqlType::Varchar | SqlType::Bpchar | SqlType::Name => Category::String,
        SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz => Category::DateTime,
        SqlType::Interval => Category::Timespan,
        SqlType::Bytea | SqlType::Uuid | SqlType::Json | SqlType::Jsonb => Category::UserDefined,
        SqlType::Char => Category::Internal,
        SqlType::Unknown => Category::Unknown,
        SqlType::Void => Category::Pseudo,
        SqlType::Array(_) => Category::Array,
    }
}

/// PostgreSQL's `typispreferred`.
pub fn is_preferred(ty: SqlType) -> bool {
    matches!(
        ty,
        SqlType::Bool | SqlType::Float8 | SqlType::Oid | SqlType::Text | SqlType::Timestamptz | SqlType::Interval
    )
}

/// Whether a value of type `from` turns into `to` without being asked; an unknown literal turns into anything.
pub fn converts(from: SqlType, to: SqlType) -> bool {
    use SqlType as T;
    if from == to || from == T::Unknown {
        return true;
    }
    match from {
        T::Int2 => {
            matches!(to, T::Int4 | T::Int8 | T::Float4 | T::Float8 | T::Numeric | T::Oid | T::Regclass | T::Regtype)
        }
        T::Int4 => matches!(to, T::Int8 | T::Float4 | T::Float8 | T::Numeric | T::Oid | T::Regclass | T::Regtype),
        T::Int8 => matches!(to, T::Float4 | T::Float8 | T::Numeric | T::Oid | T::Regclass | T::Regtype),
        T::Numeric => matches!(to, T::Float4 | T::Float8),
        T::Float4 => to == T::Float8,
        T::Oid => matches!(to, T::Regclass | T::Regtype),
        T::Regclass | T::Regtype => to == T::Oid,
        T::Text => matches!(to, T::Varchar | T::Bpchar | T::Name | T::Regclass),
        T::Varchar => matches!(to, T::Text | T::Bpchar | T::Name | T::Regclass),
        T::Bpchar => matches!(to, T::Text | T::Varchar | T::Name),
        T::Name | T::Char => to == T::Text,
        T::Date => matches!(to, T::Timestamp | T::Timestamptz),
        T::Timestamp => to == T::Timestamptz,
        T::Time => to == T::Interval,
        T::Array(element) => to.element().is_some_and(|target| converts(element.ty(), target)),
        T::Bool
        | T::Float8
        | T::Bytea
        | T::Timestamptz
        | T::Interval
        | T::Uuid
        | T::Json
        | T::Jsonb
        | T::Unknown
        | T::Void => false,
    }
}
