//! Relations: one operator of the bound query after the other.

use super::expression::{has_subquery, truth};
use super::{Lowering, Result, built};
use crate::bound::{BoundExpr, BoundLeaf, ColId, JoinKind, OutputColumn, Query, Rel, SetFunction, SortKey};
use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{Column, DFSchema, JoinType, TableReference, UnnestOptions};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{EmptyRelation, Expr as Df, LogicalPlan, LogicalPlanBuilder, TableSource};
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::eval::{NO_ROW, eval};
use toroid_common::types::columnar::ColumnBuilder;
use toroid_common::types::{ColumnType, SqlType};
use toroid_query::leaf::{Batches, RowSupply, ScanColumn, ScannedTable, Series, StoredTable, SuppliedTable};

impl Lowering<'_> {
    /// A query: its relation, then its output columns in order, named by their place.
    pub(super) fn query(&mut self, query: &Query) -> Result<LogicalPlan> {
        let plan = self.rel(&query.rel)?;
        let output = query.output.iter().enumerate();
        let output = output
            .map(|(i, column)| Ok(self.column_expr(column.id)?.alias(format!("o{i}"))))
            .collect::<Result<Vec<_>>>()?;
        match output.is_empty() {
            true => Ok(plan),
            false => built(LogicalPlanBuilder::from(plan).project(output).and_then(LogicalPlanBuilder::build)),
        }
    }

    pub(super) fn rel(&mut self, rel: &Rel) -> Result<LogicalPlan> {
        match rel {
            Rel::Unit => Ok(unit()),
            Rel::Scan { table, columns } => self.scan(table, columns),
            Rel::Virtual { schema, name, columns } => self.virtual_table(schema, name, columns),
            Rel::Values { columns, rows } => self.values(columns, rows),
            Rel::Series { function, args, column, ordinality } => self.series(*function, args, *column, *ordinality),
            Rel::Unnest { input, arrays, keeps } => self.unnest(input, arrays, *keeps),
            Rel::Filter { input, predicate } if self.runner.is_some() && has_subquery(predicate) => {
                self.applied_filter(input, predicate)
            }
            Rel::Filter { input, predicate } => {
                let plan = self.rel(input)?;
                let predicate = self.condition(predicate)?;
                built(LogicalPlanBuilder::from(plan).filter(predicate).and_then(LogicalPlanBuilder::build))
            }
            Rel::Project { input, columns } => {
                let plan = self.rel(input)?;
                let added = columns.iter().map(|(id, e)| Ok((*id, self.expr(e)?))).collect::<Result<Vec<_>>>()?;
                self.project(plan, added)
            }
            Rel::Aggregate { input, groups, sets, aggregates } => {
                self.aggregate(input, groups, sets.as_deref(), aggregates)
            }
            Rel::Window { input, columns } => self.windows(input, columns),
            Rel::Join { kind, left, right, on, .. } => self.join(*kind, left, right, on.as_ref()),
            Rel::SetOp { op, all, left, right, columns } => self.set_operation(*op, *all, left, right, columns),
            Rel::Distinct { input, columns } => {
                let plan = self.rel(input)?;
                self.distinct(plan, columns)
            }
            Rel::DistinctOn { input, on, keys } => self.distinct_on(input, on, keys),
            Rel::Sort { input, keys } => {
                let plan = self.rel(input)?;
                let (plan, keys) = self.computed_keys(plan, keys)?;
                let keys = self.sort_keys(&keys)?;
                built(LogicalPlanBuilder::from(plan).sort(keys).and_then(LogicalPlanBuilder::build))
            }
            Rel::Limit { input, limit, offset } => {
                let plan = self.rel(input)?;
                let fetch = self.row_count(limit.as_ref(), "LIMIT", SqlState::INVALID_ROW_COUNT_IN_LIMIT)?;
                let skip = self.row_count(offset.as_ref(), "OFFSET", SqlState::INVALID_ROW_COUNT_IN_OFFSET)?;
                if fetch == Some(0) {
                    // A sort that keeps no row is a panic in DataFusion, and PostgreSQL does not run the input either.
                    let schema = Arc::clone(plan.schema());
                    return Ok(LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema }));
                }
                built(
                    LogicalPlanBuilder::from(plan).limit(skip.unwrap_or(0), fetch).and_then(LogicalPlanBuilder::build),
                )
            }
            Rel::Lock { tables, .. } => {
                let clause = tables.first().map_or("FOR UPDATE", |locked| locked.lock.strength.clause());
                Err(SqlError::unsupported(clause))
            }
            Rel::Derived { query, columns } => self.derived(query, columns),
        }
    }

    /// The input's columns and computed ones beside them.
    pub(super) fn project(&mut self, plan: LogicalPlan, added: Vec<(ColId, Df)>) -> Result<LogicalPlan> {
        let kept: Vec<Df> = plan.schema().columns().into_iter().map(Df::Column).collect();
        let added = added.into_iter().map(|(id, expr)| expr.alias(self.define(id))).collect::<Vec<_>>();
        let columns = kept.into_iter().chain(added);
        built(LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build))
    }

    fn unnest(&mut self, input: &Rel, arrays: &[(ColId, BoundExpr)], keeps: bool) -> Result<LogicalPlan> {
        let plan = self.rel(input)?;
        let added = arrays.iter().map(|(id, e)| Ok((*id, self.expr(e)?))).collect::<Result<Vec<_>>>()?;
        let plan = self.project(plan, added)?;
        let columns = arrays.iter().map(|(id, _)| self.column(*id)).collect::<Result<Vec<_>>>()?;
        let options = UnnestOptions::new().with_preserve_nulls(keeps);
        let unnested = LogicalPlanBuilder::from(plan).unnest_columns_with_options(columns, options);
        built(unnested.and_then(LogicalPlanBuilder::build))
    }

    fn scan(&mut self, table: &Arc<Table>, columns: &[(ColId, u16)]) -> Result<LogicalPlan> {
        let name = self.name("t");
        let mut scanned = Vec::with_capacity(columns.len());
        for (id, position) in columns {
            let column = table
                .columns
                .get(usize::from(*position))
                .ok_or_else(|| SqlError::internal(format_args!("table {} has no column {position}", table.name)))?;
            let column_name = Self::column_name(*id);
            self.columns.insert(*id, Column::new(Some(TableReference::bare(name.as_str())), &column_name));
            scanned.push(ScanColumn {
                name: column_name,
                position: *position,
                ty: column.ty.ty,
                nullable: !column.not_null,
            });
        }
        let stored = StoredTable {
            table: table.id,
            version: table.version,
            name: table.name.clone(),
            distribution: table.distribution.clone(),
            columns: scanned,
        };
        scan_of(&name, provider_as_source(Arc::new(ScannedTable { stored, workers: self.workers })))
    }

    fn virtual_table(&mut self, schema: &str, name: &str, columns: &[(ColId, u16, SqlType)]) -> Result<LogicalPlan> {
        let batch = self.virtuals.rows(schema, name)?;
        let missing = || SqlError::internal(format_args!("{schema}.{name} lacks a column"));
        let arrays = columns
            .iter()
            .map(|(_, position, _)| batch.columns().get(usize::from(*position)).cloned().ok_or_else(missing))
            .collect::<Result<Vec<_>>>()?;
        let columns: Vec<(ColId, SqlType)> = columns.iter().map(|(id, _, ty)| (*id, *ty)).collect();
        self.supplied(format!("{schema}.{name}"), &columns, arrays, batch.num_rows())
    }

    /// Rows that are known now, as a leaf.
    fn supplied(
        &mut self,
        label: String,
        columns: &[(ColId, SqlType)],
        arrays: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<LogicalPlan> {
        let name = self.name("v");
        let field = |(id, ty): &(ColId, SqlType)| Field::new(Self::column_name(*id), ty.arrow(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options);
        let batches = vec![batch.map_err(SqlError::internal)?];
        for (id, _) in columns {
            let column = Column::new(Some(TableReference::bare(name.as_str())), Self::column_name(*id));
            self.columns.insert(*id, column);
        }
        supply_of(&name, Arc::new(Batches { label, schema, batches }))
    }

    fn supplied_rows(
        &mut self,
        label: &str,
        columns: &[(ColId, SqlType)],
        rows: Vec<Vec<Datum>>,
    ) -> Result<LogicalPlan> {
        let mut builders: Vec<ColumnBuilder> =
            columns.iter().map(|(_, ty)| ColumnBuilder::with_capacity(*ty, rows.len())).collect();
        for row in &rows {
            for (builder, value) in builders.iter_mut().zip(row) {
                builder.push(value.borrow())?;
            }
        }
        let arrays = builders.into_iter().map(ColumnBuilder::finish).collect();
        self.supplied(label.to_owned(), columns, arrays, rows.len())
    }

    fn values(&mut self, columns: &[(ColId, ColumnType)], rows: &[Vec<BoundExpr>]) -> Result<LogicalPlan> {
        let constant = |e: &BoundExpr| e.clone().map_leaves(&mut |_| Err(())).ok();
        let plain: Option<Vec<Vec<_>>> = rows.iter().map(|row| row.iter().map(constant).collect()).collect();
        if let Some(plain) = plain {
            let value = |e| eval(e, &NO_ROW, &self.params, &self.env);
            let rows = plain.iter().map(|row| row.iter().map(value).collect()).collect::<SqlResult<Vec<_>>>()?;
            let columns: Vec<(ColId, SqlType)> = columns.iter().map(|(id, ty)| (*id, ty.ty)).collect();
            return self.supplied_rows("VALUES", &columns, rows);
        }
        // Rows that read columns around them are made one by one.
        let mut plans = Vec::with_capacity(rows.len());
        for row in rows {
            let mut exprs = Vec::with_capacity(row.len());
            for (expr, (id, _)) in row.iter().zip(columns) {
                exprs.push(self.expr(expr)?.alias(Self::column_name(*id)));
            }
            plans.push(built(LogicalPlanBuilder::from(unit()).project(exprs).and_then(LogicalPlanBuilder::build))?);
        }
        for (id, _) in columns {
            self.define(*id);
        }
        let mut plans = plans.into_iter();
        let first = plans.next().ok_or_else(|| SqlError::internal("VALUES without rows"))?;
        plans.try_fold(first, |all, next| {
            built(LogicalPlanBuilder::from(all).union(next).and_then(LogicalPlanBuilder::build))
        })
    }

    fn series(
        &mut self,
        function: SetFunction,
        args: &[BoundExpr],
        column: (ColId, SqlType),
        ordinality: Option<ColId>,
    ) -> Result<LogicalPlan> {
        let lateral = "a function in FROM whose arguments read other tables";
        let values = args.iter().map(|e| self.value(e, lateral)).collect::<Result<Vec<_>>>()?;
        let elements = match (function, values.as_slice()) {
            (SetFunction::GenerateSeries, _) => {
                let name = self.name("s");
                let mut define = |id: ColId| {
                    let column = Column::new(Some(TableReference::bare(name.as_str())), Self::column_name(id));
                    self.columns.insert(id, column);
                    Self::column_name(id)
                };
                let (value, place) = (define(column.0), ordinality.map(define));
                let series = Series::new(value, place, column.1, values, &self.env)?;
                return supply_of(&name, Arc::new(series));
            }
            (SetFunction::Unnest, [Datum::Array(elements)]) => elements.clone(),
            (SetFunction::Unnest, _) => Vec::new(),
            (SetFunction::RegexpSplitToTable, _) => self.split(args)?,
        };
        let mut columns = vec![column];
        columns.extend(ordinality.map(|id| (id, SqlType::Int8)));
        let rows = elements.into_iter().zip(1_i64..).map(|(value, place)| vec![value, Datum::Int8(place)]);
        let label = if function == SetFunction::Unnest { "unnest" } else { "regexp_split_to_table" };
        self.supplied_rows(label, &columns, rows.collect())
    }

    fn split(&self, args: &[BoundExpr]) -> Result<Vec<Datum>> {
        let types = vec!["text"; args.len()].join(", ");
        let signature = format!("regexp_split_to_array({types})");
        let func = toroid_common::func::FuncId::by_signature(&signature)
            .ok_or_else(|| SqlError::unsupported("regexp_split_to_table"))?;
        let ty = SqlType::Text.array().unwrap_or(SqlType::Text);
        let call = BoundExpr::Call { func, args: args.to_vec(), ty };
        match self.value(&call, "regexp_split_to_table over columns")? {
            Datum::Array(elements) => Ok(elements),
            _ => Ok(Vec::new()),
        }
    }

    fn join(&mut self, kind: JoinKind, left: &Rel, right: &Rel, on: Option<&BoundExpr>) -> Result<LogicalPlan> {
        let (left, right) = (self.rel(left)?, self.rel(right)?);
        let builder = LogicalPlanBuilder::from(left);
        let join_type = match (kind, on) {
            (JoinKind::Cross, _) | (JoinKind::Inner, None) => {
                return built(builder.cross_join(right).and_then(LogicalPlanBuilder::build));
            }
            (JoinKind::Inner, Some(_)) => JoinType::Inner,
            (JoinKind::Left, _) => JoinType::Left,
            (JoinKind::Right, _) => JoinType::Right,
            (JoinKind::Full, _) => JoinType::Full,
        };
        let on = on.map_or_else(|| Ok(truth(Some(true))), |on| self.condition(on))?;
        built(builder.join_on(right, join_type, [on]).and_then(LogicalPlanBuilder::build))
    }

    /// Keys that are subqueries become columns first.
    fn computed_keys(&mut self, mut plan: LogicalPlan, keys: &[SortKey]) -> Result<(LogicalPlan, Vec<SortKey>)> {
        let mut keys = keys.to_vec();
        for key in keys.iter_mut().filter(|key| has_subquery(&key.expr)) {
            let (id, ty, value) = (self.fresh(), key.expr.ty(), self.expr(&key.expr)?);
            plan = self.project(plan, vec![(id, value)])?;
            key.expr = BoundExpr::Leaf(BoundLeaf::Column { id, ty });
        }
        Ok((plan, keys))
    }

    pub(super) fn sort_keys(&mut self, keys: &[SortKey]) -> Result<Vec<Sort>> {
        keys.iter()
            .map(|key| {
                let expr = self.expr(&key.expr)?;
                let expr = self.sortable(expr, key.expr.ty())?;
                Ok(Sort { expr, asc: !key.descending, nulls_first: key.nulls_first })
            })
            .collect()
    }

    pub(super) fn row_count(&self, expr: Option<&BoundExpr>, what: &str, state: SqlState) -> Result<Option<usize>> {
        let Some(expr) = expr else { return Ok(None) };
        match self.value(expr, &format!("{what} with a column"))? {
            Datum::Int8(count) => {
                let negative = || SqlError::new(state, format!("{what} must not be negative"));
                usize::try_from(count).map(Some).map_err(|_| negative())
            }
            _ => Ok(None),
        }
    }

    fn derived(&mut self, query: &Query, columns: &[ColId]) -> Result<LogicalPlan> {
        let plan = self.rel(&query.rel)?;
        let inner = |column: &OutputColumn| self.column_expr(column.id);
        let exprs = query.output.iter().map(inner).collect::<Result<Vec<_>>>()?;
        let exprs: Vec<Df> = exprs.into_iter().zip(columns).map(|(expr, id)| expr.alias(self.define(*id))).collect();
        match exprs.is_empty() {
            true => Ok(plan),
            false => built(LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build)),
        }
    }
}

/// One row without columns.
pub(super) fn unit() -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, schema: Arc::new(DFSchema::empty()) })
}

fn scan_of(name: &str, source: Arc<dyn TableSource>) -> Result<LogicalPlan> {
    built(LogicalPlanBuilder::scan(TableReference::bare(name), source, None).and_then(LogicalPlanBuilder::build))
}

fn supply_of(name: &str, supply: Arc<dyn RowSupply>) -> Result<LogicalPlan> {
    scan_of(name, provider_as_source(Arc::new(SuppliedTable(supply))))
}
