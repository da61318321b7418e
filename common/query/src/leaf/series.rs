//! `generate_series`: made batch by batch, however long it is.

use super::RowSupply;
use arrow::array::Int64Array;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use std::cmp::Ordering;
use std::sync::Arc;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::func::{Context, FuncId};
use toroid_common::key::write_ascending;
use toroid_common::limits::CHUNK_ROWS;
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnBuilder;

/// From `start` to `stop` by `step`; no rows when one of them is NULL.
#[derive(Clone, Debug)]
pub struct Series {
    name: String,
    ordinality: Option<String>,
    ty: SqlType,
    start: Datum,
    stop: Datum,
    step: Datum,
    step_type: SqlType,
    plus: FuncId,
    down: bool,
    env: Arc<Env>,
}

fn order(left: DatumRef<'_>, right: DatumRef<'_>) -> Ordering {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    write_ascending(&mut a, left);
    write_ascending(&mut b, right);
    a.cmp(&b)
}

impl Series {
    /// `args` are start, stop and perhaps step, of the types that PostgreSQL's overloads have; the column has the first one's type.
    pub fn new(
        name: String,
        ordinality: Option<String>,
        ty: SqlType,
        args: Vec<Datum>,
        env: &Arc<Env>,
    ) -> SqlResult<Series> {
        let mut args = args.into_iter();
        let (start, stop) = (args.next().unwrap_or(Datum::Null), args.next().unwrap_or(Datum::Null));
        let (step_type, one, zero, signature) = match ty {
            SqlType::Int4 => (ty, Datum::Int4(1), Datum::Int4(0), "+(int4, int4)"),
            SqlType::Int8 => (ty, Datum::Int8(1), Datum::Int8(0), "+(int8, int8)"),
            SqlType::Numeric => (ty, Datum::Numeric(1.into()), Datum::Numeric(0.into()), "+(numeric, numeric)"),
            SqlType::Timestamp | SqlType::Timestamptz => {
                let signature =
                    if ty == SqlType::Timestamp { "+(timestamp, interval)" } else { "+(timestamptz, interval)" };
                (SqlType::Interval, Datum::Null, Datum::Interval(Default::default()), signature)
            }
            other => return Err(SqlError::unsupported(format_args!("generate_series of {other}"))),
        };
        let step = args.next().unwrap_or(one);
        let plus = FuncId::by_signature(signature)
            .ok_or_else(|| SqlError::unsupported(format_args!("generate_series of {ty}")))?;
        let direction = if step.is_null() { Ordering::Greater } else { order(step.borrow(), zero.borrow()) };
        if direction.is_eq() {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero"));
        }
        let down = direction.is_lt();
        Ok(Series { name, ordinality, ty, start, stop, step, step_type, plus, down, env: Arc::clone(env) })
    }

    /// The value after `value`; a series ends where its type does.
    fn after(&self, value: &Datum) -> SqlResult<Option<Datum>> {
        let context = Context { env: &self.env, args: &[self.ty, self.step_type], result: self.ty };
        match (self.plus.function().kernel)(&context, &[value.borrow(), self.step.borrow()]) {
            Ok(next) => Ok(Some(next)),
            Err(error) if error.state() == SqlState::NUMERIC_VALUE_OUT_OF_RANGE => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn beyond(&self, value: &Datum) -> bool {
        let order = order(value.borrow(), self.stop.borrow());
        if self.down { order.is_lt() } else { order.is_gt() }
    }

    fn batch(&self, next: &mut Option<Datum>, count: &mut i64) -> SqlResult<Option<RecordBatch>> {
        let mut builder = ColumnBuilder::with_capacity(self.ty, CHUNK_ROWS);
        let mut rows = 0;
        while rows < CHUNK_ROWS as i64 {
            let Some(value) = next.take().filter(|value| !self.beyond(value)) else { break };
            builder.push(value.borrow())?;
            rows += 1;
            *next = self.after(&value)?;
        }
        if rows == 0 {
            return Ok(None);
        }
        let mut columns = vec![builder.finish()];
        if self.ordinality.is_some() {
            columns.push(Arc::new(Int64Array::from_iter_values(*count + 1..=*count + rows)));
        }
        *count += rows;
        RecordBatch::try_new(self.schema(), columns).map(Some).map_err(SqlError::internal)
    }
}

impl RowSupply for Series {
    fn schema(&self) -> SchemaRef {
        let ordinality = self.ordinality.iter().map(|name| Field::new(name, SqlType::Int8.arrow(), true));
        let fields = std::iter::once(Field::new(&self.name, self.ty.arrow(), true)).chain(ordinality);
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn label(&self) -> String {
        "generate_series".to_owned()
    }

    fn open(&self) -> Box<dyn Iterator<Item = SqlResult<RecordBatch>> + Send> {
        let empty = self.start.is_null() || self.stop.is_null() || self.step.is_null();
        let mut next = (!empty).then(|| self.start.clone());
        let mut count = 0;
        let series = self.clone();
        Box::new(std::iter::from_fn(move || series.batch(&mut next, &mut count).transpose()))
    }
}
