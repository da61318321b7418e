//! Plans as the conductor keeps them in prepared statements.

use crate::bound::{Rel, Statement};
use crate::cluster::client::PlanHandle;
use crate::point::Route;
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
    let mut found = Vec::new();
    visit_statement(statement, &mut |table| {
        let entry = (table.id, table.version);
        if !found.contains(&entry) {
            found.push(entry);
        }
    });
    found
}

type Visit<'v> = &'v mut dyn FnMut(&toroid_common::catalog::Table);

fn visit_statement(statement: &Statement, visit: Visit<'_>) {
    match statement {
        Statement::Query(query) | Statement::CopyOut { query, .. } => visit_rel(&query.rel, visit),
        Statement::Insert(insert) => {
            visit(&insert.table);
            visit_rel(&insert.source.rel, visit);
        }
        Statement::Update(update) => {
            visit(&update.table);
            update.filter.iter().for_each(|e| visit_expr(e, visit));
            update.set.iter().for_each(|(_, e)| visit_expr(e, visit));
        }
        Statement::Delete(delete) => {
            visit(&delete.table);
            delete.filter.iter().for_each(|e| visit_expr(e, visit));
        }
        Statement::Explain { inner, .. } => visit_statement(inner, visit),
        Statement::CopyIn(copy) => visit(&copy.table),
        Statement::Ddl(_) | Statement::Session(_) => {}
    }
}

/// Every stored table below an operator, subqueries included.
pub fn visit_rel(rel: &Rel, visit: Visit<'_>) {
    match rel {
        Rel::Unit | Rel::Virtual { .. } => {}
        Rel::Scan { table, .. } => visit(table),
        Rel::Values { rows, .. } => rows.iter().flatten().for_each(|e| visit_expr(e, visit)),
        Rel::Series { args, .. } => args.iter().for_each(|e| visit_expr(e, visit)),
        Rel::Filter { input, predicate } => {
            visit_rel(input, visit);
            visit_expr(predicate, visit);
        }
        Rel::Project { input, columns } => {
            visit_rel(input, visit);
            columns.iter().for_each(|(_, e)| visit_expr(e, visit));
        }
        Rel::Aggregate { input, groups, aggregates, sets: _ } => {
            visit_rel(input, visit);
            groups.iter().for_each(|(_, e)| visit_expr(e, visit));
            for (_, call) in aggregates {
                call.args.iter().chain(&call.filter).for_each(|e| visit_expr(e, visit));
                call.order.iter().for_each(|key| visit_expr(&key.expr, visit));
            }
        }
        Rel::Window { input, columns } => {
            visit_rel(input, visit);
            for (_, call) in columns {
                call.args.iter().chain(&call.partition).for_each(|e| visit_expr(e, visit));
                call.order.iter().for_each(|key| visit_expr(&key.expr, visit));
            }
        }
        Rel::Join { left, right, on, .. } => {
            visit_rel(left, visit);
            visit_rel(right, visit);
            on.iter().for_each(|e| visit_expr(e, visit));
        }
        Rel::SetOp { left, right, .. } => {
            visit_rel(&left.rel, visit);
            visit_rel(&right.rel, visit);
        }
        Rel::Distinct { input, .. } => visit_rel(input, visit),
        Rel::DistinctOn { input, on, keys } => {
            visit_rel(input, visit);
            on.iter().for_each(|e| visit_expr(e, visit));
            keys.iter().for_each(|key| visit_expr(&key.expr, visit));
        }
        Rel::Sort { input, keys } => {
            visit_rel(input, visit);
            keys.iter().for_each(|key| visit_expr(&key.expr, visit));
        }
        Rel::Limit { input, limit, offset } => {
            visit_rel(input, visit);
            limit.iter().chain(offset).for_each(|e| visit_expr(e, visit));
        }
        Rel::Derived { query, .. } => visit_rel(&query.rel, visit),
    }
}

fn visit_expr(expr: &crate::bound::BoundExpr, visit: Visit<'_>) {
    expr.each_leaf(&mut |leaf| {
        if let crate::bound::BoundLeaf::Subquery(subquery) = leaf {
            visit_rel(&subquery.query.rel, visit);
            if let crate::bound::SubqueryKind::Quantified { arg, .. } = &subquery.kind {
                visit_expr(arg, visit);
            }
        }
    });
}
