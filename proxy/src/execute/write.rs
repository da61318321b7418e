//! UPDATE, DELETE and ON CONFLICT with subqueries: those run first, their rows become constants, and the rest is a point plan.

use super::Conductor;
use super::plan::{Plan, PointBody};
use crate::bound::{Bound, Statement};
use crate::cluster::client::{CallError, PlanHandle};
use crate::merge::held_bytes;
use crate::point;
use crate::statement::{Answer, Prepared, State};
use futures::StreamExt;
use std::sync::Arc;
use toroid_common::datum::Datum;
use toroid_common::error::SqlError;
use toroid_common::types::columnar::ColumnReader;
use toroid_query::memory::Share;

impl Conductor {
    pub(super) async fn write(
        &self,
        session: &State,
        statement: &Statement,
        prepared: &Prepared<Plan>,
        params: &[Datum],
    ) -> Result<Answer, CallError> {
        let bound = Bound {
            statement: statement.clone(),
            params: prepared.params.clone(),
            catalog: prepared.plan.catalog,
            by_name: false,
        };
        let memory = self.pool.share();
        let mut values = Vec::new();
        for subquery in point::subqueries(&bound) {
            values.push(self.first_column(session, &subquery.query, params, &memory).await?);
        }
        let bound = point::with_subqueries_as_constants(bound, values)?;
        let Some(point) = point::point(&bound) else {
            return match &bound.statement {
                Statement::Insert(insert) => self.insert(session, insert, (&bound.params, params)).await,
                _ => Err(SqlError::unsupported("an UPDATE or DELETE with such a condition").into()),
            };
        };
        let view = self.seen(session);
        let table = view.catalog.table(point.plan.table).ok_or(CallError::Replan(view.catalog.version))?.clone();
        let body = PointBody { handle: PlanHandle::new(point.plan), route: point.route, table };
        self.point(session, &body, params).await
    }

    /// All values of a query's first column.
    async fn first_column(
        &self,
        session: &State,
        query: &crate::bound::Query,
        params: &[Datum],
        memory: &Arc<Share>,
    ) -> Result<Vec<Datum>, CallError> {
        let mut batches = self.query_stream(session, query, params, memory).await?;
        let Some(column) = query.output.first() else {
            return Err(SqlError::internal("a subquery without columns").into());
        };
        let mut values = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let array = batch.columns().first().ok_or_else(|| SqlError::internal("a batch without columns"))?;
            memory.take(held_bytes(array))?;
            let reader = ColumnReader::new(array.as_ref(), column.ty.ty)?;
            values.extend((0..batch.num_rows()).map(|at| reader.get(at).to_owned()));
        }
        Ok(values)
    }
}
