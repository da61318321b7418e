//! CREATE TABLE AS: the table, then its rows, in one transaction.

use super::Conductor;
use crate::bound::{CreateAs, Ddl, Insert};
use crate::cluster::client::CallError;
use crate::statement::{Answer, State};
use std::sync::Arc;
use toroid_common::catalog::PUBLIC_SCHEMA;
use toroid_common::datum::Datum;
use toroid_common::error::SqlError;
use toroid_common::expr::Expr;

const TAG: &str = "CREATE TABLE AS";

impl Conductor {
    pub(super) async fn create_as(
        &self,
        session: &State,
        create: &CreateAs,
        params: &[Datum],
    ) -> Result<Answer, CallError> {
        let change = Ddl::CreateTable { if_not_exists: create.if_not_exists, table: create.table.clone() };
        let created = self.change_schema(session, &change).await?;
        if !created || !create.with_data {
            return Ok(Answer::Tag(TAG));
        }
        let name = &create.table.name;
        let schema = name.schema.as_deref().unwrap_or(PUBLIC_SCHEMA);
        let table = self.seen(session).catalog.find(schema, &name.name).cloned();
        let table = table.ok_or_else(|| SqlError::internal("a new table is not there"))?;
        let null = |column: &toroid_common::catalog::Column| Expr::Const { value: Datum::Null, ty: column.ty.ty };
        let insert = Insert {
            targets: table.visible().map(|(position, _)| position as u16).collect(),
            defaults: table.columns.iter().map(null).collect(),
            table: Arc::clone(&table),
            source: create.source.clone(),
            conflict: None,
            columns: Vec::new(),
            returning: Vec::new(),
        };
        match self.insert(session, &insert, (&[], params)).await {
            // Planned again it would find its own table.
            Err(CallError::Replan(_)) => Err(super::parts::changed(&table.name).into()),
            other => other,
        }
    }
}
