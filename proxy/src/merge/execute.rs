//! Running a planned query: subqueries first, then the plan, whose rows come as they are merged.

use super::remote::Client;
use super::{FragmentClient, Planned, Setting, Stage, physical, place::Plan, plan_in, session};
use crate::lower::{Initial, InitialKind, Runner};
use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execute_stream;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use std::collections::HashMap;
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::types::SqlType;
use toroid_query::column::{open, renamed};
use toroid_query::error::sql_error;
use toroid_query::memory::Share;

/// Batches of a result, in order.
pub type ResultStream = BoxStream<'static, SqlResult<RecordBatch>>;

impl Planned {
    /// Starts the query; dropping the stream cancels it everywhere.
    pub fn execute(self, client: Arc<dyn FragmentClient>) -> ResultStream {
        let schema = Arc::clone(&self.schema);
        // A plan runs once: nobody has set it before.
        let _ = self.setting.client.set(Arc::clone(&client));
        match self.stage {
            Stage::Ready(plan) => run(plan, client, &self.setting.memory, schema),
            Stage::Waiting { query, mut params, initial } => {
                let setting = self.setting;
                let start = async move {
                    for subquery in &initial {
                        let value = result_of(subquery, &params, &setting, &client).await?;
                        params.push(value);
                    }
                    let plan = physical(&query, &params, &setting)?;
                    Ok(run(plan, client, &setting.memory, schema))
                };
                stream::once(start)
                    .flat_map(|started| started.unwrap_or_else(|error| stream::once(async { Err(error) }).boxed()))
                    .boxed()
            }
        }
    }
}

fn run(plan: Plan, client: Arc<dyn FragmentClient>, memory: &Arc<Share>, schema: SchemaRef) -> ResultStream {
    let config = session::session_config().with_extension(Arc::new(Client(client)));
    let none = HashMap::new;
    let context = TaskContext::new(
        None,
        String::new(),
        config,
        HashMap::new(),
        none(),
        HashMap::new(),
        HashMap::new(),
        memory.runtime(),
    );
    match execute_stream(plan, Arc::new(context)) {
        Ok(batches) => batches.map(move |batch| renamed(&batch.map_err(sql_error)?, Arc::clone(&schema))).boxed(),
        Err(error) => stream::once(async { Err(sql_error(error)) }).boxed(),
    }
}

/// Runs correlated subqueries in the middle of a query.
pub(super) struct Applied {
    params: Vec<Datum>,
    setting: Setting,
}

impl Applied {
    pub(super) fn new(params: &[Datum], setting: &Setting) -> Applied {
        Applied { params: params.to_vec(), setting: setting.clone() }
    }
}

impl Runner for Applied {
    fn run(&self, subquery: Initial) -> BoxFuture<'static, SqlResult<Datum>> {
        let (params, setting) = (self.params.clone(), self.setting.clone());
        Box::pin(async move {
            let client = setting.client.get().cloned();
            let client = client.ok_or_else(|| SqlError::internal("a subquery ran before its query"))?;
            result_of(&subquery, &params, &setting, &client).await
        })
    }
}

/// What the values of a column take one by one, about.
pub fn held_bytes(column: &dyn Array) -> usize {
    column.len() * size_of::<Datum>() + column.get_buffer_memory_size()
}

/// Runs a subquery to its end.
async fn result_of(
    subquery: &Initial,
    params: &[Datum],
    setting: &Setting,
    client: &Arc<dyn FragmentClient>,
) -> SqlResult<Datum> {
    let ty = subquery.query.output.first().map_or(SqlType::Unknown, |c| c.ty.ty);
    let planned = plan_in(&subquery.query, params, setting.clone())?;
    let mut batches = Box::pin(planned.execute(Arc::clone(client)));
    let mut values = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        match subquery.kind {
            InitialKind::Exists { negated } => {
                if batch.num_rows() > 0 {
                    return Ok(Datum::Bool(!negated));
                }
            }
            InitialKind::Scalar | InitialKind::Array => {
                // Held until the statement ends: the result becomes part of its plan.
                setting.memory.take(held_bytes(batch.column(0)))?;
                let column = open(batch.column(0), ty).map_err(sql_error)?;
                values.extend((0..batch.num_rows()).map(|row| column.get(row).to_owned()));
            }
        }
        if subquery.kind == InitialKind::Scalar && values.len() > 1 {
            let message = "more than one row returned by a subquery used as an expression";
            return Err(SqlError::new(SqlState::CARDINALITY_VIOLATION, message));
        }
    }
    Ok(match subquery.kind {
        InitialKind::Exists { negated } => Datum::Bool(negated),
        InitialKind::Scalar => values.pop().unwrap_or(Datum::Null),
        InitialKind::Array => Datum::Array(values),
    })
}
