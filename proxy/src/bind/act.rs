//! SELECT of functions that act on the session or on others: advisory locks and notifications.

use super::write::over_row;
use crate::bound::{ActCall, Acts, BoundExpr, Query, Rel, SessionCall, Statement};
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::expr::{Expr, Slot};
use toroid_common::func::FuncId;
use toroid_common::plan::{Act, LockScope};
use toroid_common::types::SqlType;

/// What calling a function does beside giving a value.
fn session_call(func: FuncId) -> Option<SessionCall> {
    let lock = |shared, scope, wait| Some(SessionCall::Advisory(Act::Lock { shared, scope, wait }));
    let (session, transaction) = (LockScope::Session, LockScope::Transaction);
    match func.function().name {
        "pg_advisory_lock" => lock(false, session, true),
        "pg_advisory_lock_shared" => lock(true, session, true),
        "pg_advisory_xact_lock" => lock(false, transaction, true),
        "pg_advisory_xact_lock_shared" => lock(true, transaction, true),
        "pg_try_advisory_lock" => lock(false, session, false),
        "pg_try_advisory_lock_shared" => lock(true, session, false),
        "pg_try_advisory_xact_lock" => lock(false, transaction, false),
        "pg_try_advisory_xact_lock_shared" => lock(true, transaction, false),
        "pg_advisory_unlock" => Some(SessionCall::Advisory(Act::Unlock { shared: false })),
        "pg_advisory_unlock_shared" => Some(SessionCall::Advisory(Act::Unlock { shared: true })),
        "pg_advisory_unlock_all" => Some(SessionCall::Advisory(Act::UnlockAll)),
        "pg_notify" => Some(SessionCall::Notify),
        _ => None,
    }
}

/// NOTIFY: a call without a row.
pub(super) fn notify(channel: &str, payload: Option<&str>) -> Statement {
    let text = |value: &str| Expr::Const { value: Datum::Text(value.to_owned()), ty: SqlType::Text };
    let args = vec![text(channel), text(payload.unwrap_or_default())];
    let calls = vec![ActCall { call: SessionCall::Notify, args, strict: false }];
    Statement::Acts(Acts { calls, columns: Vec::new(), output: Vec::new(), tag: Some("NOTIFY") })
}

/// A query as a statement: one that acts is a list of expressions and nothing else. In others these functions cannot be evaluated, and say so.
pub(super) fn statement_of(query: Query) -> SqlResult<Statement> {
    let Rel::Project { input, columns } = &query.rel else { return Ok(Statement::Query(query)) };
    if **input != Rel::Unit {
        return Ok(Statement::Query(query));
    }
    if !columns.iter().any(|(_, expr)| acts(expr)) {
        return Ok(Statement::Query(query));
    }
    let mut calls = Vec::new();
    let mut values = Vec::with_capacity(query.output.len());
    for column in &query.output {
        let Some((_, expr)) = columns.iter().find(|(id, _)| *id == column.id) else {
            return Err(SqlError::internal("a column of no row"));
        };
        values.push(lift(over_row(expr.clone(), &[])?, &mut calls)?);
    }
    Ok(Statement::Acts(Acts { calls, columns: values, output: query.output, tag: None }))
}

fn acts(expr: &BoundExpr) -> bool {
    matches!(expr, Expr::Call { func, .. } if session_call(*func).is_some()) || expr.children().into_iter().any(acts)
}

/// The expression with the results of its calls, which come before it, in their places.
fn lift(expr: Expr, calls: &mut Vec<ActCall>) -> SqlResult<Expr> {
    // Only the first part of these is always evaluated.
    let lazy = match &expr {
        Expr::And(_) | Expr::Or(_) | Expr::Coalesce { .. } | Expr::Case { .. } | Expr::InList { .. } => true,
        Expr::Const { .. }
        | Expr::Param { .. }
        | Expr::Leaf(_)
        | Expr::Call { .. }
        | Expr::Cast { .. }
        | Expr::Not(_)
        | Expr::IsNull { .. }
        | Expr::BoolTest { .. }
        | Expr::Distinct { .. }
        | Expr::NullIf { .. }
        | Expr::Extreme { .. }
        | Expr::Array { .. }
        | Expr::Quantified { .. } => false,
    };
    let mut failed = Ok(());
    let mut first = true;
    let expr = expr.map_children(&mut |child| {
        let before = calls.len();
        let lifted = lift(child.clone(), calls);
        let late = lazy && !std::mem::take(&mut first) && calls.len() > before;
        match lifted {
            Ok(_) if late => {
                failed = Err(SqlError::unsupported("an advisory lock or a notification in a conditional expression"));
                child
            }
            Ok(lifted) => lifted,
            Err(error) => {
                failed = Err(error);
                child
            }
        }
    });
    failed?;
    match expr {
        Expr::Call { func, args, ty } => match session_call(func) {
            Some(call) => {
                let index = u16::try_from(calls.len()).map_err(SqlError::internal)?;
                calls.push(ActCall { call, args, strict: func.function().strict });
                Ok(Expr::Leaf(Slot { index, ty }))
            }
            None => Ok(Expr::Call { func, args, ty }),
        },
        expr => Ok(expr),
    }
}
