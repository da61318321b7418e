//! Type categories, preferred types and implicit conversions: what overload resolution weighs (PostgreSQL manual, chapter 10).

use crate::types::SqlType;
use crate::types::cast::{CastContext, cast_kind};

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
    cast_kind(from, to) == Some(CastContext::Implicit)
}
