//! The rows of SELECT set_config(…), for the session to act on.

use super::Conductor;
use crate::bound::Query;
use crate::cluster::client::CallError;
use crate::merge::held_bytes;
use crate::statement::{SetConfig, State};
use futures::StreamExt;
use toroid_common::datum::{Datum, DatumRef};
use toroid_common::error::SqlResult;
use toroid_common::types::columnar::ColumnReader;

impl Conductor {
    pub(super) async fn set_config(
        &self,
        session: &State,
        query: &Query,
        params: &[Datum],
    ) -> Result<Vec<Vec<SetConfig>>, CallError> {
        let memory = self.pool.share();
        let mut batches = self.query_stream(session, query, params, &memory).await?;
        let mut rows = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            memory.take(batch.columns().iter().map(|column| held_bytes(column)).sum())?;
            let columns = batch.columns().iter().zip(&query.output);
            let readers = columns.map(|(array, column)| ColumnReader::new(array.as_ref(), column.ty.ty));
            let readers = readers.collect::<SqlResult<Vec<_>>>()?;
            rows.extend((0..batch.num_rows()).map(|row| readers.chunks(3).map(|call| of_call(call, row)).collect()));
        }
        Ok(rows)
    }
}

fn of_call(call: &[ColumnReader<'_>], row: usize) -> SetConfig {
    let value = |column: usize| call.get(column).map_or(DatumRef::Null, |reader| reader.get(row));
    let text = |column| match value(column) {
        DatumRef::Text(text) => Some(text.to_owned()),
        _ => None,
    };
    SetConfig { name: text(0), value: text(1), local: matches!(value(2), DatumRef::Bool(true)) }
}
