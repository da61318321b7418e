//! AST → bound statement: all meaning is settled here.
//!
//! 1. [`bind`] picks the verb: a query (`query`, `select`, `group`, `from`), a write (`insert`, `update`), `copy`, DDL (`create`, `ddl`), `session`;
//! 2. names are looked up in a stack of `scope` levels; expressions are typed in `expr` and its neighbours `operator`, `call`, `special`,
//!    `subquery`, `cast`;
//! 3. `prune` takes the columns that nobody reads out of the scans.

pub mod context;
pub(crate) mod walk;
pub mod print;

mod act;
mod binder;
mod call;
mod cast;
mod copy;
mod check;
mod conflict;
mod constraint;
mod create;
mod create_as;
mod ddl;
mod expr;
mod frame;
mod from;
mod group;
mod insert;
mod named;
mod json_aggregate;
mod lock;
mod naming;
mod operator;
mod precedence;
mod prune;
mod query;
mod registered;
mod scope;
mod select;
mod session;
mod set_config;
mod special;
mod subquery;
mod typing;
mod update;
pub(crate) mod write;

pub use context::{Context, NoVirtualSchemas, VirtualSchemas, VirtualTable};
pub(crate) use ddl::{fits_key, indexable};

use crate::bound::{Bound, BoundExpr, ConflictUpdate, Ddl, Session, Statement};
use crate::parse::{Command, Parsed};
use binder::Binder;
use sqlparser::ast::{self, SetExpr};
use toroid_common::error::SqlResult;

/// Binds one statement. Literals whose reading depends on the session (time zone, order of date fields, search path) are read now: a cached plan
/// holds for sessions with the same of these.
pub fn bind(context: &Context<'_>, parsed: &Parsed) -> SqlResult<Bound> {
    let mut binder = Binder::new(*context, &parsed.text);
    let mut statement = match &parsed.command {
        Command::Sql(statement) => binder.statement(statement)?,
        Command::Copy(copy) => binder.copy(copy)?,
        Command::Session(Session::Notify { channel, payload }) => act::notify(channel, payload.as_deref()),
        Command::Session(session) => Statement::Session(session.clone()),
        Command::Prepare { name, types, text } => binder.prepare(name, types, text)?,
        Command::Nothing { tag } => Statement::Ddl(Ddl::Nothing { tag }),
    };
    binder.prune_statement(&mut statement);
    let params = binder.settled_params()?;
    let by_name = binder.by_name.get() || matches!(statement, Statement::Ddl(_));
    Ok(Bound { statement, params, catalog: context.catalog.version, by_name })
}

impl Binder<'_> {
    fn statement(&mut self, statement: &ast::Statement) -> SqlResult<Statement> {
        match statement {
            ast::Statement::Query(query) => match &*query.body {
                SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner) => {
                    self.write_with(query.with.as_ref(), inner)
                }
                _ => {
                    if let Some(statement) = self.set_config(query)? {
                        return Ok(statement);
                    }
                    match self.select_into(query)? {
                        Some(statement) => Ok(statement),
                        None => act::statement_of(self.query(query)?),
                    }
                }
            },
            ast::Statement::Insert(insert) => self.insert(insert),
            ast::Statement::Update(update) => self.update(update),
            ast::Statement::Delete(delete) => self.delete(delete),
            ast::Statement::CreateTable(create) => self.create_table(create),
            ast::Statement::CreateIndex(create) => self.create_index(create),
            ast::Statement::AlterTable(alter) => self.alter_table(alter),
            ast::Statement::Truncate(truncate) => self.truncate(truncate),
            ast::Statement::Drop { object_type, if_exists, names, cascade, purge, .. } => {
                self.drop(*object_type, *if_exists, names, *cascade, *purge)
            }
            ast::Statement::Explain { analyze, verbose, statement, options, .. } => {
                self.explain(*analyze, *verbose, options.as_deref().unwrap_or_default(), statement)
            }
            ast::Statement::Execute { name, parameters, .. } => self.execute(name.as_ref(), parameters),
            other => Err(ddl::refused(other)),
        }
    }

    fn prune_statement(&self, statement: &mut Statement) {
        match statement {
            Statement::Query(query) | Statement::CopyOut { query, .. } | Statement::SetConfig { query, .. } => {
                self.prune(query);
            }
            Statement::CreateAs(create) => self.prune(&mut create.source),
            Statement::Insert(insert) => {
                self.prune(&mut insert.source);
                let update = insert.conflict.as_mut().and_then(|conflict| conflict.update.as_mut());
                if let Some(ConflictUpdate { set, filter, .. }) = update {
                    self.prune_exprs(set.iter_mut().map(|(_, e)| e).chain(filter));
                }
                self.prune_exprs(insert.returning.iter_mut().map(|r| &mut r.expr));
            }
            Statement::Update(update) => {
                self.prune_exprs(update.set.iter_mut().map(|(_, e)| e).chain(&mut update.filter));
                self.prune_exprs(update.returning.iter_mut().map(|r| &mut r.expr));
            }
            Statement::Delete(delete) => {
                self.prune_exprs(delete.filter.iter_mut().chain(delete.returning.iter_mut().map(|r| &mut r.expr)));
            }
            Statement::Explain { inner, .. } => self.prune_statement(inner),
            Statement::CopyIn(_) | Statement::Ddl(_) | Statement::Acts(_) | Statement::Session(_) => {}
        }
    }

    fn prune_exprs<'e>(&self, exprs: impl Iterator<Item = &'e mut BoundExpr>) {
        exprs.for_each(|expr| walk::relations_in(expr, &mut |rel| self.prune_scan(rel)));
    }
}
