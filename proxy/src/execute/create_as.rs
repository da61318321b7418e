//! CREATE TABLE AS: the table, then its rows. Others may see it before it is full; where its rows cannot be had it is dropped again.

use super::Conductor;
use crate::bound::{CreateAs, Ddl, Insert};
use crate::cluster::client::CallError;
use crate::ddl;
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
        let cluster = self.client.cluster();
        let change = Ddl::CreateTable { if_not_exists: create.if_not_exists, table: create.table.clone() };
        let created = ddl::execute(cluster, self, session, &change).await?;
        self.cache.borrow_mut().clear();
        if !created || !create.with_data {
            return Ok(Answer::Tag(TAG));
        }
        let name = &create.table.name;
        let schema = name.schema.as_deref().unwrap_or(PUBLIC_SCHEMA);
        let view = cluster.view()?;
        let table = view.catalog.find(schema, &name.name).cloned();
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
        let inserted = self.insert(session, &insert, (&[], params)).await;
        if inserted.is_err() {
            let drop = Ddl::DropTable { if_exists: true, names: vec![name.clone()], cascade: false };
            ddl::execute(cluster, self, session, &drop).await?;
        }
        match inserted {
            // Planned again it would find its own table.
            Err(CallError::Replan(_)) => Err(super::parts::changed(&table.name).into()),
            other => other,
        }
    }
}
