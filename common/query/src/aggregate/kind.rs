//! Which state serves an aggregate call, and as what values it travels.

use super::fold::{Collected, Extreme, First, Fold, Joined, Single};
use super::state::State;
use super::statistics::{FloatMoments, NumericMoments};
use super::sum::{Count, FloatSum, IntegerSum, IntervalSum, NumericSum};
use super::{AggregateKind, Definition};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::func::aggregate::Aggregate;
use toroid_common::types::SqlType;

/// The types of a partial state's values.
pub fn state_types(definition: &Definition) -> Vec<SqlType> {
    let arg = definition.args.first().copied().unwrap_or(SqlType::Bool);
    let AggregateKind::Pg(aggregate) = definition.kind else { return vec![SqlType::Bool, arg] };
    match aggregate {
        Aggregate::CountStar | Aggregate::Count => vec![SqlType::Int8],
        Aggregate::Sum | Aggregate::Avg => vec![SqlType::Int8, sum_type(arg)],
        Aggregate::Min | Aggregate::Max | Aggregate::BoolAnd | Aggregate::BoolOr => vec![definition.result],
        Aggregate::BitAnd | Aggregate::BitOr => vec![definition.result],
        Aggregate::StringAgg => vec![definition.result, SqlType::Int4],
        Aggregate::ArrayAgg => vec![definition.result],
        Aggregate::StddevSamp | Aggregate::StddevPop | Aggregate::VarSamp | Aggregate::VarPop => match arg {
            SqlType::Float4 | SqlType::Float8 => vec![SqlType::Float8; 3],
            _ => vec![SqlType::Int8, SqlType::Numeric, SqlType::Numeric],
        },
        Aggregate::SingleValue => vec![SqlType::Int8, arg],
        Aggregate::AnyValue => vec![SqlType::Bool, arg],
    }
}

/// The type in which values of `ty` are added up.
fn sum_type(ty: SqlType) -> SqlType {
    match ty {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Numeric => SqlType::Numeric,
        other => other,
    }
}

/// A state for a group that has seen nothing.
pub fn new_state(definition: &Definition) -> SqlResult<Box<dyn State>> {
    let arg = definition.args.first().copied().unwrap_or(SqlType::Bool);
    let AggregateKind::Pg(aggregate) = definition.kind else { return Ok(Box::new(First::default())) };
    let average = aggregate == Aggregate::Avg;
    Ok(match aggregate {
        Aggregate::CountStar => Box::new(Count { count: 0, star: true }),
        Aggregate::Count => Box::new(Count { count: 0, star: false }),
        Aggregate::Sum | Aggregate::Avg => match arg {
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => {
                Box::new(IntegerSum { count: 0, sum: 0, average, result: definition.result })
            }
            SqlType::Numeric => Box::new(NumericSum::new(average)),
            SqlType::Float4 => Box::new(FloatSum { count: 0, sum: 0.0, single: true, average }),
            SqlType::Float8 => Box::new(FloatSum { count: 0, sum: 0.0, single: false, average }),
            SqlType::Interval => Box::new(IntervalSum::new(average)?),
            other => return Err(SqlError::unsupported(format_args!("sum or avg of {other}"))),
        },
        Aggregate::Min => Box::new(Extreme { greatest: false, best: Datum::Null, ty: arg }),
        Aggregate::Max => Box::new(Extreme { greatest: true, best: Datum::Null, ty: arg }),
        Aggregate::BoolAnd | Aggregate::BoolOr | Aggregate::BitAnd | Aggregate::BitOr => {
            Box::new(Fold { aggregate, value: Datum::Null })
        }
        Aggregate::StringAgg => Box::new(Joined { bytes: None, skip: 0, text: definition.result != SqlType::Bytea }),
        Aggregate::ArrayAgg => Box::new(Collected { values: None, bytes: 0 }),
        Aggregate::StddevSamp | Aggregate::StddevPop | Aggregate::VarSamp | Aggregate::VarPop => match arg {
            SqlType::Float4 | SqlType::Float8 => Box::new(FloatMoments::new(aggregate)),
            _ => Box::new(NumericMoments::new(aggregate)),
        },
        Aggregate::SingleValue => Box::new(Single { count: 0, value: Datum::Null }),
        Aggregate::AnyValue => Box::new(First::default()),
    })
}
