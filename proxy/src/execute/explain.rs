//! EXPLAIN: point plans by access and partitions, others by their fragments and what merges here.

use super::Conductor;
use super::plan::{Plan, PointBody};
use super::point::text_rows;
use crate::bound::{Bound, Statement};
use crate::cluster::client::PlanHandle;
use crate::point::{self, Route};
use crate::statement::{Prepared, RowSource, State};
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::plan::{Access, Verb};
use toroid_common::routing;

impl Conductor {
    pub(super) fn explain(
        &self,
        session: &State,
        statement: &Statement,
        prepared: &Prepared<Plan>,
        params: &[Datum],
    ) -> SqlResult<RowSource> {
        let bound = Bound {
            statement: statement.clone(),
            params: prepared.params.clone(),
            catalog: prepared.plan.catalog,
            by_name: false,
        };
        let view = self.seen(session);
        if let Some(point) = point::point(&bound)
            && let Some(table) = view.catalog.table(point.plan.table)
        {
            let body = PointBody { handle: PlanHandle::new(point.plan), route: point.route, table: table.clone() };
            return Ok(text_rows(self.explain_point(session, &body, params)?));
        }
        let lines = match statement {
            Statement::Query(query) | Statement::CopyOut { query, .. } => self.explain_query(session, query, params)?,
            Statement::Insert(insert) => {
                let source = self.explain_query(session, &insert.source, params)?;
                under(format!("Insert into {}, every row in its partition", insert.table.name), source)
            }
            Statement::Update(update) => {
                vec![format!("Update of {} after its subqueries, in every partition", update.table.name)]
            }
            Statement::Delete(delete) => {
                vec![format!("Delete from {} after its subqueries, in every partition", delete.table.name)]
            }
            Statement::CreateAs(create) => under(
                format!("Create {} as", create.table.name.name),
                self.explain_query(session, &create.source, params)?,
            ),
            Statement::Explain { .. }
            | Statement::CopyIn(_)
            | Statement::Ddl(_)
            | Statement::SetConfig { .. }
            | Statement::Acts(_)
            | Statement::Session(_) => {
                return Err(SqlError::unsupported("EXPLAIN of a statement without a plan"));
            }
        };
        Ok(text_rows(lines))
    }

    fn explain_point(&self, session: &State, body: &PointBody, params: &[Datum]) -> SqlResult<Vec<String>> {
        let verb = match &body.handle.plan.verb {
            Verb::Select { .. } => "Point select",
            Verb::Insert { .. } => "Point insert",
            Verb::Update { .. } => "Point update",
            Verb::Delete { .. } => "Point delete",
            Verb::Act(_) => "Act",
        };
        let mut lines = vec![format!("{verb} on {}", body.table.name)];
        match &body.handle.plan.verb {
            Verb::Select { access, filter, .. }
            | Verb::Update { access, filter, .. }
            | Verb::Delete { access, filter, .. } => {
                lines.push(format!("  Rows: {}", access_text(access, &body.table)));
                if filter.is_some() {
                    lines.push("  Filter: on current rows".to_owned());
                }
            }
            Verb::Act(_) => {}
            Verb::Insert { conflict, .. } => {
                if let Some(conflict) = conflict {
                    let does = if conflict.update.is_some() { "update" } else { "nothing" };
                    lines.push(format!("  On conflict: {does}"));
                }
            }
        }
        lines.push(format!("  Partitions: {}", self.route_text(session, body, params)?));
        Ok(lines)
    }

    fn route_text(&self, session: &State, body: &PointBody, params: &[Datum]) -> SqlResult<String> {
        let all = self.partitions();
        Ok(match &body.route {
            Route::Key(key) => {
                let known = params.len() >= body.handle.plan.params.len();
                let partition = if known { self.key_partition(session, key, params)? } else { None };
                match partition {
                    Some(partition) => {
                        let worker = routing::route(&self.client.view().map, partition).map(|r| r.worker.to_string());
                        format!("1 of {all} ({partition} at worker {})", worker.unwrap_or_default())
                    }
                    None if known => format!("0 of {all}"),
                    None => format!("1 of {all}"),
                }
            }
            Route::Rows { rows, .. } => format!("at most {} of {all}, one per row", rows.len().min(all)),
            Route::All => format!("{all} of {all}"),
            Route::Reference if body.handle.plan.verb.writes() => format!("{all} of {all} (reference table)"),
            Route::Reference => format!("1 of {all} (reference table)"),
        })
    }
}

fn access_text(access: &Access, table: &Table) -> String {
    match access {
        Access::Scan => "scan".to_owned(),
        Access::Keys { .. } => "by keys".to_owned(),
        Access::Table { .. } => "none".to_owned(),
        Access::Index { index, exact, .. } => {
            let name = table.indexes.iter().find(|i| i.id == *index).map_or("?", |i| i.name.as_str());
            format!("by index {name}{}", if *exact { "" } else { " (leading columns)" })
        }
    }
}

fn under(first: String, rest: Vec<String>) -> Vec<String> {
    std::iter::once(first).chain(rest.into_iter().map(|line| format!("  {line}"))).collect()
}
