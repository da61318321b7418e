//! Every function and operator against answers of PostgreSQL 15: `functions/*.txt` holds an expression a line and below it, after `=`, its value and
//! type or its error, as PostgreSQL gave them with `TimeZone` Europe/Berlin.

use std::path::Path;
use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::eval::{NO_ROW, eval};
use toroid_common::expr::{CastContext, Expr};
use toroid_common::func::{Resolved, common_type, resolve_function, resolve_operator};
use toroid_common::types::SqlType;
use toroid_common::types::input::type_by_name;
use toroid_common::types::output::to_text;
use toroid_common::zone::Zone;

/// As much of SQL's expressions as the vectors need.
struct Parser<'a> {
    rest: &'a str,
    env: &'a Env,
}

fn precedence(op: &str) -> u8 {
    match op {
        "=" | "<" | ">" | "<=" | ">=" | "<>" | "!=" => 1,
        "+" | "-" => 3,
        "*" | "/" | "%" => 4,
        "^" => 5,
        _ => 2,
    }
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn operator(&mut self) -> Option<&'a str> {
        Some(self.take(|c| "+-*/<>=~!@#%^&|?".contains(c))).filter(|op| !op.is_empty())
    }

    fn expression(&mut self, lowest: u8) -> SqlResult<Expr> {
        let mut left = self.prefixed()?;
        loop {
            let before = self.rest;
            let Some(op) = self.operator() else { return Ok(left) };
            if precedence(op) < lowest {
                self.rest = before;
                return Ok(left);
            }
            let right = self.expression(precedence(op) + 1)?;
            let resolved = resolve_operator(op, Some(left.ty()), right.ty())?;
            left = self.call(resolved, vec![left, right])?;
        }
    }

    fn prefixed(&mut self) -> SqlResult<Expr> {
        if let Some(op) = self.operator() {
            let arg = self.expression(if matches!(op, "+" | "-") { 6 } else { 3 })?;
            let resolved = resolve_operator(op, None, arg.ty())?;
            return self.call(resolved, vec![arg]);
        }
        let mut expr = self.primary()?;
        while self.eat("::") {
            let name = self.take(|c| c.is_alphanumeric() || "_[]".contains(c));
            let ty = type_by_name(name).unwrap_or_else(|| panic!("no type {name}"));
            expr = self.cast(expr, ty, CastContext::Explicit)?;
        }
        Ok(expr)
    }

    fn primary(&mut self) -> SqlResult<Expr> {
        if self.eat("(") {
            let inner = self.expression(0)?;
            assert!(self.eat(")"));
            return Ok(inner);
        }
        if self.eat("'") {
            let mut value = String::new();
            loop {
                let (part, rest) = self.rest.split_once('\'').expect("an open literal");
                value.push_str(part);
                self.rest = rest;
                match rest.strip_prefix('\'') {
                    Some(rest) => self.rest = rest,
                    None => return Ok(Expr::Const { value: Datum::Text(value), ty: SqlType::Unknown }),
                }
                value.push('\'');
            }
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = self.take(|c| c.is_ascii_digit() || c == '.' || c == 'e');
            let ty = match digits {
                _ if digits.contains(['.', 'e']) => SqlType::Numeric,
                _ if digits.parse::<i32>().is_ok() => SqlType::Int4,
                _ if digits.parse::<i64>().is_ok() => SqlType::Int8,
                _ => SqlType::Numeric,
            };
            let literal = Expr::Const { value: Datum::Text(digits.to_owned()), ty: SqlType::Unknown };
            return self.cast(literal, ty, CastContext::Implicit);
        }
        self.named()
    }

    fn named(&mut self) -> SqlResult<Expr> {
        let word = self.take(|c| c.is_alphanumeric() || c == '_' || c == '.');
        let name = word.strip_prefix("pg_catalog.").unwrap_or(word);
        match name {
            "null" => return Ok(Expr::Const { value: Datum::Null, ty: SqlType::Unknown }),
            "true" | "false" => return Ok(Expr::Const { value: Datum::Bool(name == "true"), ty: SqlType::Bool }),
            "array" => {
                assert!(self.eat("["));
                let elements = self.list("]")?;
                let ty = common_type("ARRAY", &elements.iter().map(Expr::ty).collect::<Vec<_>>())?;
                let cast = elements.into_iter().map(|e| self.cast(e, ty, CastContext::Implicit));
                return Ok(Expr::Array {
                    elements: cast.collect::<SqlResult<_>>()?,
                    ty: ty.array().expect("an array type"),
                });
            }
            _ => {}
        }
        assert!(self.eat("("), "{name} is no function call");
        let args = self.list(")")?;
        let resolved = resolve_function(name, &args.iter().map(Expr::ty).collect::<Vec<_>>())?;
        self.call(resolved, args)
    }

    fn list(&mut self, end: &str) -> SqlResult<Vec<Expr>> {
        let mut list = Vec::new();
        while !self.eat(end) {
            list.push(self.expression(0)?);
            self.eat(",");
        }
        Ok(list)
    }

    fn call(&self, resolved: Resolved, args: Vec<Expr>) -> SqlResult<Expr> {
        let args = args.into_iter().zip(resolved.args).map(|(arg, ty)| self.cast(arg, ty, CastContext::Implicit));
        Ok(Expr::Call { func: resolved.func, args: args.collect::<SqlResult<_>>()?, ty: resolved.result })
    }

    fn cast(&self, arg: Expr, ty: SqlType, context: CastContext) -> SqlResult<Expr> {
        let (from, cast) = (arg.ty(), |arg| Expr::Cast { arg: Box::new(arg), ty, modifier: -1, context });
        match from {
            _ if from == ty => Ok(arg),
            // Literals take their type when the statement is bound.
            SqlType::Unknown => Ok(Expr::Const { value: eval(&cast(arg), &NO_ROW, &NO_ROW, self.env)?, ty }),
            _ => Ok(cast(arg)),
        }
    }
}

fn answer(source: &str, env: &Env) -> SqlResult<String> {
    let mut parser = Parser { rest: source, env };
    let mut expr = parser.expression(0)?;
    assert_eq!(parser.rest.trim(), "", "left of {source}");
    if expr.ty() == SqlType::Unknown {
        expr = parser.cast(expr, SqlType::Text, CastContext::Implicit)?;
    }
    let ty = expr.ty();
    Ok(match eval(&expr, &NO_ROW, &NO_ROW, env)? {
        Datum::Null => format!("NULL | {ty}"),
        Datum::Bool(value) => format!("{value} | {ty}"),
        value => format!("{} | {ty}", to_text(ty, -1, value.borrow(), env).replace('\n', "\\n")),
    })
}

#[test]
fn functions_answer_as_postgresql_does() {
    let env = Env { time_zone: Zone::parse("Europe/Berlin").unwrap(), ..Env::default() };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions");
    let mut wrong = Vec::new();
    let mut asked = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let vectors = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let lines: Vec<&str> = vectors.lines().collect();
        for pair in lines.chunks_exact(2) {
            let (source, expected) = (pair[0], pair[1].strip_prefix("= ").unwrap());
            let found = answer(source, &env)
                .unwrap_or_else(|error: SqlError| format!("ERROR {}: {}", error.state(), error.message()));
            asked += 1;
            if found != expected {
                wrong.push(format!("{source}\n   found    {found}\n   expected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 600);
}
