//! What schema changes need of rows: looks at them, and moves of all rows of a table into another.

use super::Conductor;
use super::copy_in::Sink;
use super::rows::place;
use super::transaction::Scope;
use crate::bound::{ColId, OutputColumn, Query, Rel};
use crate::ddl::{Origin, Rows};
use crate::statement::{CopyBatch, CopySink, State};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use toroid_common::catalog::{Check, Table};
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::{NO_ROW, Row, eval};
use toroid_common::expr::{BoolTest, Expr, Slot};
use toroid_common::id::PartitionId;
use toroid_common::limits::BULK_FRAME_BYTES;
use toroid_common::row::write_row;
use toroid_common::types::SqlType;
use toroid_common::types::columnar::ColumnReader;

/// A row of a table that another one replaces.
struct OldRow<'a> {
    readers: &'a BTreeMap<u16, ColumnReader<'a>>,
    at: usize,
}

impl Row for OldRow<'_> {
    fn get(&self, index: u16) -> DatumRef<'_> {
        self.readers.get(&index).map_or(DatumRef::Null, |reader| reader.get(self.at))
    }
}

impl Rows for Conductor {
    async fn any(&self, session: &State, table: &Table) -> SqlResult<bool> {
        let rel = Rel::Limit { input: Box::new(scan(table, &[])), limit: Some(one()), offset: None };
        self.has_rows(session, rel).await
    }

    async fn any_null(&self, session: &State, table: &Table, column: u16) -> SqlResult<bool> {
        let ty = table.columns.get(usize::from(column)).map_or(SqlType::Unknown, |c| c.ty.ty);
        let leaf = Expr::Leaf(crate::bound::BoundLeaf::Column { id: ColId(0), ty });
        let predicate = Expr::IsNull { arg: Box::new(leaf), negated: false };
        let filter = Rel::Filter { input: Box::new(scan(table, &[column])), predicate };
        self.has_rows(session, Rel::Limit { input: Box::new(filter), limit: Some(one()), offset: None }).await
    }

    async fn any_violating(&self, session: &State, table: &Table, check: &Check) -> SqlResult<bool> {
        let columns: Vec<u16> = (0..table.columns.len() as u16).collect();
        let condition = check.expr.clone().map_leaves(&mut |slot: Slot| {
            let id = ColId(u32::from(slot.index));
            Ok::<_, SqlError>(Expr::Leaf(crate::bound::BoundLeaf::Column { id, ty: slot.ty }))
        })?;
        let predicate = Expr::BoolTest { arg: Box::new(condition), test: BoolTest::False };
        let filter = Rel::Filter { input: Box::new(scan(table, &columns)), predicate };
        self.has_rows(session, Rel::Limit { input: Box::new(filter), limit: Some(one()), offset: None }).await
    }

    async fn move_all(&self, session: &State, from: &Table, to: &Table, columns: &[Origin]) -> SqlResult<()> {
        let mut read: Vec<u16> = columns.iter().flat_map(Origin::columns).collect();
        read.sort_unstable();
        read.dedup();
        let query = Query { rel: scan(from, &read), output: output(from, &read) };
        let mut source = self.query_stream_plain(session, &query, &[], &self.pool.share()).await?;
        let env = session.env().clone();
        let mut sink = Sink::new(self, &Arc::new(to.clone()), Vec::new(), env.clone(), Scope::alone(session));
        let mut batches: BTreeMap<Option<PartitionId>, CopyBatch> = BTreeMap::new();
        let mut row: Vec<Datum> = Vec::new();
        while let Some(batch) = source.next().await {
            let batch = batch?;
            let readers = batch.columns().iter().zip(&read).map(|(array, column)| {
                let ty = from.columns.get(usize::from(*column)).map_or(SqlType::Unknown, |column| column.ty.ty);
                Ok((*column, ColumnReader::new(array.as_ref(), ty)?))
            });
            let readers = readers.collect::<SqlResult<BTreeMap<u16, ColumnReader<'_>>>>()?;
            for at in 0..batch.num_rows() {
                row.clear();
                let old = OldRow { readers: &readers, at };
                for origin in columns {
                    row.push(match origin {
                        Origin::Column(column) => old.get(*column).to_owned(),
                        Origin::Value(value) => value.clone(),
                        Origin::Expr(expr) => eval(expr, &old, &NO_ROW, &env)?,
                    });
                }
                let partition = place(to, &row, self.partitions() as u16)?;
                let batch = batches.entry(partition).or_insert_with(|| CopyBatch { partition, ..CopyBatch::default() });
                write_row(&mut batch.rows, row.iter().map(Datum::borrow));
                batch.count += 1;
                if batch.rows.len() >= BULK_FRAME_BYTES {
                    let full = std::mem::replace(batch, CopyBatch { partition, ..CopyBatch::default() });
                    sink.send(full).await?;
                }
            }
        }
        for batch in batches.into_values().filter(|b| b.count > 0) {
            sink.send(batch).await?;
        }
        sink.finish().await
    }
}

impl Conductor {
    async fn has_rows(&self, session: &State, rel: Rel) -> SqlResult<bool> {
        let mut batches =
            self.query_stream_plain(session, &Query { rel, output: Vec::new() }, &[], &self.pool.share()).await?;
        while let Some(batch) = batches.next().await {
            if batch?.num_rows() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn one<L>() -> Expr<L> {
    Expr::Const { value: Datum::Int8(1), ty: SqlType::Int8 }
}

/// A scan whose columns are numbered in the order of `columns`.
fn scan(table: &Table, columns: &[u16]) -> Rel {
    let columns = columns.iter().zip(0..).map(|(column, id)| (ColId(id), *column)).collect();
    Rel::Scan { table: Arc::new(table.clone()), columns }
}

fn output(table: &Table, columns: &[u16]) -> Vec<OutputColumn> {
    let columns = columns.iter().filter_map(|c| table.columns.get(usize::from(*c))).zip(0..);
    columns.map(|(c, id)| OutputColumn { name: c.name.clone(), id: ColId(id), ty: c.ty, origin: None }).collect()
}
