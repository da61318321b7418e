//! Calls with arguments by name, for the functions whose arguments have names: `make_interval(days => 3)`.

use super::binder::{error_at, name_of, unsupported_at};
use sqlparser::ast::{self, Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments};
use toroid_common::error::{SqlResult, SqlState};

/// The names of a function's arguments, and whether each may be left out and is 0 then.
fn argument_names(function: &str) -> Option<(&'static [&'static str], bool)> {
    Some(match function {
        "make_interval" => (&["years", "months", "weeks", "days", "hours", "mins", "secs"], true),
        "make_date" => (&["year", "month", "day"], false),
        "make_time" => (&["hour", "min", "sec"], false),
        "make_timestamp" => (&["year", "month", "mday", "hour", "min", "sec"], false),
        "make_timestamptz" => (&["year", "month", "mday", "hour", "min", "sec", "timezone"], false),
        _ => return None,
    })
}

/// The same call with all arguments by position; `None` if none has a name.
pub(super) fn positional(function: &ast::Function, name: &str, place: u32) -> SqlResult<Option<ast::Function>> {
    let FunctionArguments::List(list) = &function.args else { return Ok(None) };
    if list.args.iter().all(|arg| matches!(arg, FunctionArg::Unnamed(_))) {
        return Ok(None);
    }
    let Some((names, optional)) = argument_names(name) else {
        return Err(unsupported_at("an argument by name", place));
    };
    let undefined =
        || error_at(SqlState::UNDEFINED_FUNCTION, format!("function {name} has no arguments by these names"), place);
    let mut given: Vec<Option<FunctionArg>> = vec![None; names.len()];
    let mut named = false;
    for (position, arg) in list.args.iter().enumerate() {
        let (slot, value) = match arg {
            FunctionArg::Unnamed(value) if !named => (Some(position), value),
            FunctionArg::Unnamed(_) => {
                let message = "positional argument cannot follow named argument";
                return Err(error_at(SqlState::SYNTAX_ERROR, message, place));
            }
            FunctionArg::Named { name, arg, .. } => (names.iter().position(|n| *n == name_of(name)), arg),
            FunctionArg::ExprNamed { name: Ast::Identifier(ident), arg, .. } => {
                (names.iter().position(|n| *n == name_of(ident)), arg)
            }
            FunctionArg::ExprNamed { .. } => (None, &FunctionArgExpr::Wildcard),
        };
        named |= !matches!(arg, FunctionArg::Unnamed(_));
        let slot = slot.and_then(|slot| given.get_mut(slot)).filter(|slot| slot.is_none()).ok_or_else(undefined)?;
        *slot = Some(FunctionArg::Unnamed(value.clone()));
    }
    if !optional && given.iter().any(Option::is_none) {
        return Err(undefined());
    }
    let zero = || {
        let number = ast::Value::Number("0".to_owned(), false);
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Value(number.with_empty_span())))
    };
    let mut made = function.clone();
    if let FunctionArguments::List(list) = &mut made.args {
        list.args = given.into_iter().map(|arg| arg.unwrap_or_else(zero)).collect();
    }
    Ok(Some(made))
}
