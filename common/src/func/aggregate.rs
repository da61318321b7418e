//! Aggregate functions: which exist and what types they take and give; `query` implements them over Arrow.

use super::category::{Category, category, converts};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::types::SqlType;
use serde::{Deserialize, Serialize};

/// An aggregate function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Aggregate {
    CountStar,
    Count,
    Sum,
    Avg,
    Min,
    Max,
    BoolAnd,
    BoolOr,
    StringAgg,
    ArrayAgg,
    StddevSamp,
    StddevPop,
    VarSamp,
    VarPop,
    BitAnd,
    BitOr,
    /// The value of the only row; a second row is 21000. Scalar subqueries become it.
    SingleValue,
    /// The value of any row, where all have the same.
    AnyValue,
}

/// An aggregate call that found its overload: the types to cast the arguments to, and the result's.
pub type ResolvedAggregate = (Aggregate, Vec<SqlType>, SqlType);

impl Aggregate {
    /// By PostgreSQL's name; `count(*)` is not among them.
    pub fn by_name(name: &str) -> Option<Aggregate> {
        Some(match name {
            "count" => Aggregate::Count,
            "sum" => Aggregate::Sum,
            "avg" => Aggregate::Avg,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "bool_and" | "every" => Aggregate::BoolAnd,
            "bool_or" => Aggregate::BoolOr,
            "string_agg" => Aggregate::StringAgg,
            "array_agg" => Aggregate::ArrayAgg,
            "stddev" | "stddev_samp" => Aggregate::StddevSamp,
            "stddev_pop" => Aggregate::StddevPop,
            "variance" | "var_samp" => Aggregate::VarSamp,
            "var_pop" => Aggregate::VarPop,
            "bit_and" => Aggregate::BitAnd,
            "bit_or" => Aggregate::BitOr,
            _ => return None,
        })
    }

    /// By name, with the argument types as written; `None` when no aggregate has that name.
    pub fn resolve(name: &str, args: &[SqlType]) -> SqlResult<Option<ResolvedAggregate>> {
        let Some(aggregate) = Aggregate::by_name(name) else { return Ok(None) };
        let call = || {
            let list: Vec<String> = args.iter().map(SqlType::to_string).collect();
            format!("function {name}({})", list.join(", "))
        };
        if let (Aggregate::Count, []) = (aggregate, args) {
            let message = "count(*) must be used to call a parameterless aggregate function";
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        if let ([SqlType::Array(_)], Aggregate::ArrayAgg) = (args, aggregate) {
            return Err(SqlError::unsupported("array_agg of arrays"));
        }
        match aggregate.overload(args) {
            Overload::One(types, result) => Ok(Some((aggregate, types, result))),
            Overload::None => Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("{} does not exist", call()))
                .with_hint(
                    "No function matches the given name and argument types. You might need to add explicit type casts.",
                )),
            Overload::Many => Err(SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("{} is not unique", call()))
                .with_hint("Could not choose a best candidate function. You might need to add explicit type casts.")),
        }
    }

    fn overload(self, args: &[SqlType]) -> Overload {
        use SqlType as T;
        let one = |ty: T, result: T| Overload::One(vec![ty], result);
        match (self, args) {
            (Aggregate::Count, [T::Unknown]) => one(T::Text, T::Int8),
            (Aggregate::Count, [ty]) => one(*ty, T::Int8),
            (Aggregate::Sum | Aggregate::Avg | Aggregate::BitAnd | Aggregate::BitOr, [T::Unknown]) => Overload::Many,
            (Aggregate::Sum, [ty]) => match ty {
                T::Int2 | T::Int4 => one(*ty, T::Int8),
                T::Int8 | T::Numeric => one(*ty, T::Numeric),
                T::Float4 | T::Float8 | T::Interval => one(*ty, *ty),
                T::Time => one(T::Interval, T::Interval),
                _ => Overload::None,
            },
            (Aggregate::Avg, [ty]) => match ty {
                T::Int2 | T::Int4 | T::Int8 | T::Numeric => one(*ty, T::Numeric),
                T::Float4 | T::Float8 => one(*ty, T::Float8),
                T::Time | T::Interval => one(T::Interval, T::Interval),
                _ => Overload::None,
            },
            (Aggregate::StddevSamp | Aggregate::StddevPop | Aggregate::VarSamp | Aggregate::VarPop, [ty]) => match ty {
                T::Int2 | T::Int4 | T::Int8 | T::Numeric => one(*ty, T::Numeric),
                T::Float4 | T::Float8 => one(*ty, T::Float8),
                T::Unknown => one(T::Float8, T::Float8),
                _ => Overload::None,
            },
            (Aggregate::BitAnd | Aggregate::BitOr, [ty @ (T::Int2 | T::Int4 | T::Int8)]) => one(*ty, *ty),
            (Aggregate::BoolAnd | Aggregate::BoolOr, [T::Bool | T::Unknown]) => one(T::Bool, T::Bool),
            (Aggregate::Min | Aggregate::Max, [ty]) => extreme(*ty),
            (Aggregate::StringAgg, [T::Bytea, T::Bytea | T::Unknown] | [T::Unknown, T::Bytea]) => {
                Overload::One(vec![T::Bytea, T::Bytea], T::Bytea)
            }
            (Aggregate::StringAgg, [a, b]) if converts(*a, T::Text) && converts(*b, T::Text) => {
                Overload::One(vec![T::Text, T::Text], T::Text)
            }
            (Aggregate::ArrayAgg, [T::Unknown]) => T::Text.array().map_or(Overload::None, |array| one(T::Text, array)),
            (Aggregate::ArrayAgg, [ty]) => ty.array().map_or(Overload::None, |array| one(*ty, array)),
            (Aggregate::SingleValue | Aggregate::AnyValue, [ty]) => one(*ty, *ty),
            _ => Overload::None,
        }
    }
}

enum Overload {
    None,
    One(Vec<SqlType>, SqlType),
    Many,
}

/// min and max: of every ordered type but boolean, uuid, bytea and jsonb, as in PostgreSQL 15.
fn extreme(ty: SqlType) -> Overload {
    use SqlType as T;
    let target = match ty {
        T::Unknown | T::Varchar | T::Name | T::Char => T::Text,
        T::Regclass | T::Regtype => T::Oid,
        T::Bool | T::Uuid | T::Bytea | T::Json | T::Jsonb | T::Void => return Overload::None,
        other => other,
    };
    match category(target) {
        Category::Array if target.element().is_some_and(|e| matches!(e, T::Json)) => Overload::None,
        _ => Overload::One(vec![target], target),
    }
}
