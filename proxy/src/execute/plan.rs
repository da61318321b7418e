//! Plans as the conductor keeps them in prepared statements.

use crate::bound::{BoundExpr, BoundLeaf, Statement, SubqueryKind};
use crate::cluster::client::PlanHandle;
use crate::merge::reads;
use crate::point::Route;
use std::collections::BTreeMap;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::id::{CatalogVersion, TableId};

/// A statement, ready to be executed any number of times.
pub struct Plan {
    /// The statement's own text, to plan it again.
    pub text: Arc<str>,
    /// The catalog it was bound against, and the tables in it with their versions.
    pub catalog: CatalogVersion,
    pub tables: Vec<(TableId, CatalogVersion)>,
    /// See [`crate::bound::Bound::by_name`].
    pub by_name: bool,
    /// It is a query that locks rows, which no key names.
    pub locks: bool,
    pub body: Body,
}

pub enum Body {
    Empty,
    /// Workers execute it by themselves.
    Point(PointBody),
    /// Everything else, as bound.
    Statement(Statement),
}

pub struct PointBody {
    pub handle: Arc<PlanHandle>,
    pub route: Route,
    /// For INSERT: to place rows and to know their types.
    pub table: Arc<toroid_common::catalog::Table>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("text", &self.text).field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

impl Plan {
    /// Whether it may be executed against this catalog. A plan that reads no stored table may have bound names that do not exist any more only if it
    /// is no plan at all, so versions of the tables are all that counts.
    pub fn holds(&self, catalog: &Catalog) -> bool {
        self.catalog == catalog.version
            || !self.by_name
                && self.tables.iter().all(|(id, version)| catalog.table(*id).is_some_and(|t| t.version == *version))
    }
}

/// The stored tables that a statement reads or writes, each once.
pub fn tables(statement: &Statement) -> Vec<(TableId, CatalogVersion)> {
    let mut found = BTreeMap::new();
    collect(statement, &mut found);
    found.into_iter().collect()
}

fn collect(statement: &Statement, found: &mut BTreeMap<TableId, CatalogVersion>) {
    match statement {
        Statement::Query(query) | Statement::CopyOut { query, .. } | Statement::SetConfig { query, .. } => {
            found.extend(reads(query).tables);
        }
        Statement::CreateAs(create) => found.extend(reads(&create.source).tables),
        Statement::Insert(insert) => {
            found.insert(insert.table.id, insert.table.version);
            found.extend(reads(&insert.source).tables);
            let update = insert.conflict.iter().filter_map(|conflict| conflict.update.as_ref());
            update
                .flat_map(|update| update.filter.iter().chain(update.set.iter().map(|(_, e)| e)))
                .chain(insert.returning.iter().map(|r| &r.expr))
                .for_each(|e| subqueries(e, found));
        }
        Statement::Update(update) => {
            found.insert(update.table.id, update.table.version);
            let set = update.set.iter().map(|(_, e)| e);
            let returning = update.returning.iter().map(|r| &r.expr);
            update.filter.iter().chain(set).chain(returning).for_each(|e| subqueries(e, found));
        }
        Statement::Delete(delete) => {
            found.insert(delete.table.id, delete.table.version);
            let returning = delete.returning.iter().map(|r| &r.expr);
            delete.filter.iter().chain(returning).for_each(|e| subqueries(e, found));
        }
        Statement::Explain { inner, .. } => collect(inner, found),
        Statement::CopyIn(copy) => {
            found.insert(copy.table.id, copy.table.version);
        }
        Statement::Ddl(_) | Statement::Acts(_) | Statement::Session(_) => {}
    }
}

fn subqueries(expr: &BoundExpr, found: &mut BTreeMap<TableId, CatalogVersion>) {
    expr.each_leaf(&mut |leaf| {
        if let BoundLeaf::Subquery(subquery) = leaf {
            found.extend(reads(&subquery.query).tables);
            if let SubqueryKind::Quantified { arg, .. } = &subquery.kind {
                subqueries(arg, found);
            }
        }
    });
}
