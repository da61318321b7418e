//! PostgreSQL's aggregates as DataFusion's: their types, their partial states, and who accumulates them.

mod state;
mod sum;
mod statistics;
mod fold;
mod kind;
mod accumulator;
mod groups;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};
use toroid_common::func::aggregate::Aggregate;
use toroid_common::types::SqlType;

use accumulator::RowAccumulator;

/// Which aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregateKind {
    Pg(Aggregate),
    /// Any row's value: for columns that are the same in the whole group.
    First,
}

/// A key of ORDER BY inside an aggregate's parentheses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OrderKey {
    pub ty: SqlType,
    pub descending: bool,
    pub nulls_first: bool,
}

/// An aggregate call: how it travels in fragments. DataFusion's arguments are `args`, then the keys of `order`; `count(*)` takes a constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Definition {
    pub kind: AggregateKind,
    pub args: Vec<SqlType>,
    pub result: SqlType,
    pub distinct: bool,
    pub order: Vec<OrderKey>,
}

impl Definition {
    /// Rows are kept until the end: for DISTINCT and ORDER BY.
    fn keeps_rows(&self) -> bool {
        self.distinct || !self.order.is_empty()
    }

    /// The types of a partial state's columns.
    fn state_types(&self) -> Vec<SqlType> {
        match self.keeps_rows() {
            true => vec![SqlType::Bytea],
            false => kind::state_types(self),
        }
    }
}

/// The function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PgAggregate {
    definition: Definition,
}

/// An aggregate from its description.
pub fn aggregate(definition: Definition) -> AggregateUDF {
    AggregateUDF::new_from_impl(PgAggregate { definition })
}

/// The description of an aggregate, if it is one of ours.
pub fn definition_of(udaf: &AggregateUDF) -> Option<&Definition> {
    let inner: &dyn std::any::Any = udaf.inner().as_ref();
    inner.downcast_ref::<PgAggregate>().map(|aggregate| &aggregate.definition)
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::variadic_any(Volatility::Immutable));

impl AggregateUDFImpl for PgAggregate {
    fn name(&self) -> &str {
        let AggregateKind::Pg(aggregate) = self.definition.kind else { return "first" };
        match aggregate {
            Aggregate::CountStar | Aggregate::Count => "count",
            Aggregate::Sum => "sum",
            Aggregate::Avg => "avg",
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::BoolAnd => "bool_and",
            Aggregate::BoolOr => "bool_or",
            Aggregate::StringAgg => "string_agg",
            Aggregate::ArrayAgg => "array_agg",
            Aggregate::StddevSamp => "stddev_samp",
            Aggregate::StddevPop => "stddev_pop",
            Aggregate::VarSamp => "var_samp",
            Aggregate::VarPop => "var_pop",
            Aggregate::BitAnd => "bit_and",
            Aggregate::BitOr => "bit_or",
            Aggregate::SingleValue => "single_value",
            Aggregate::AnyValue => "any_value",
        }
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.definition.result.arrow())
    }

    fn is_nullable(&self) -> bool {
        true
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(RowAccumulator::new(&self.definition)?))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let fields = self.definition.state_types().into_iter().enumerate();
        Ok(fields
            .map(|(i, ty)| Arc::new(Field::new(format_state_name(args.name, &i.to_string()), ty.arrow(), true)))
            .collect())
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        groups::supports(&self.definition)
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        groups::create(&self.definition)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.definition.kind {
            AggregateKind::Pg(Aggregate::Count | Aggregate::CountStar) => Ok(ScalarValue::Int64(Some(0))),
            AggregateKind::Pg(_) | AggregateKind::First => ScalarValue::try_from(data_type),
        }
    }
}
