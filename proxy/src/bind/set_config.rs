//! SELECT set_config(…): a query whose rows change settings. Only as columns of a result of their own, where nothing else could see the order of changes.

use super::binder::{Binder, name_of, object_name};
use super::naming::column_name;
use crate::bound::Statement;
use sqlparser::ast::{self, Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem, SetExpr};
use toroid_common::error::SqlResult;

impl Binder<'_> {
    /// The statement, if all columns of the query are calls of `set_config`.
    pub(super) fn set_config(&mut self, query: &ast::Query) -> SqlResult<Option<Statement>> {
        let SetExpr::Select(select) = &*query.body else { return Ok(None) };
        let Some(calls) = select.projection.iter().map(call).collect::<Option<Vec<_>>>() else { return Ok(None) };
        if calls.is_empty() || select.distinct.is_some() {
            return Ok(None);
        }
        let mut query = query.clone();
        if let SetExpr::Select(select) = &mut *query.body {
            select.projection = calls.iter().flat_map(|(_, args)| items(args)).collect();
        }
        let query = self.query(&query)?;
        let names = calls.into_iter().map(|(name, _)| name).collect();
        Ok(Some(Statement::SetConfig { query, names }))
    }
}

/// The column's name and the three arguments.
fn call(item: &SelectItem) -> Option<(String, Vec<&Ast>)> {
    let (expr, name) = match item {
        SelectItem::UnnamedExpr(expr) => (expr, column_name(expr)),
        SelectItem::ExprWithAlias { expr, alias } => (expr, name_of(alias)),
        _ => return None,
    };
    let Ast::Function(function) = expr else { return None };
    let (schema, called, _) = object_name(&function.name).ok()?;
    if called != "set_config" || schema.is_some_and(|schema| schema != "pg_catalog") {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |arg: &'_ FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)));
    if list.args.len() != 3 || !list.args.iter().all(plain) || !list.clauses.is_empty() || function.over.is_some() {
        return None;
    }
    let args = list.args.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    Some((name, args.collect()))
}

/// Name, value and whether for the transaction only, as columns.
fn items(args: &[&Ast]) -> Vec<SelectItem> {
    let types = [ast::DataType::Text, ast::DataType::Text, ast::DataType::Boolean];
    let cast = |(arg, data_type): (&&Ast, ast::DataType)| {
        SelectItem::UnnamedExpr(Ast::Cast {
            kind: ast::CastKind::DoubleColon,
            expr: Box::new((*arg).clone()),
            data_type,
            format: None,
        })
    };
    args.iter().zip(types).map(cast).collect()
}
