//! EXPLAIN, PREPARE and EXECUTE.

use super::binder::{Binder, name_of, object_name};
use super::scope::{Clause, Level};
use super::write::over_row;
use crate::bound::{Session, Statement};
use sqlparser::ast::{self, DataType};
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::types::SqlType;

impl Binder<'_> {
    pub(super) fn explain(
        &mut self,
        analyze: bool,
        verbose: bool,
        options: &[ast::UtilityOption],
        inner: &ast::Statement,
    ) -> SqlResult<Statement> {
        let (mut analyze, mut verbose) = (analyze, verbose);
        for option in options {
            let name = name_of(&option.name);
            let given = option.arg.as_ref().map(|a| a.to_string().trim_matches('\'').to_ascii_lowercase());
            let on = !matches!(given.as_deref(), Some("false" | "off" | "0"));
            match name.as_str() {
                "analyze" => analyze = on,
                "verbose" => verbose = on,
                "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" => {}
                "format" if given.as_deref() == Some("text") => {}
                "format" => return Err(SqlError::unsupported("EXPLAIN in this format")),
                _ => {
                    let message = format!("unrecognized EXPLAIN option \"{name}\"");
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
                }
            }
        }
        let inner = Box::new(self.statement(inner)?);
        match *inner {
            // It would have to do what it explains.
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::CreateAs(_) if analyze => {
                Err(SqlError::unsupported("EXPLAIN ANALYZE of a statement that writes"))
            }
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::CreateAs(_) => Ok(Statement::Explain { analyze, verbose, inner }),
            Statement::Explain { .. }
            | Statement::CopyIn(_)
            | Statement::CopyOut { .. }
            | Statement::Ddl(_)
            | Statement::SetConfig { .. }
            | Statement::Acts(_)
            | Statement::Session(_) => Err(SqlError::unsupported("EXPLAIN of this statement")),
        }
    }

    pub(super) fn prepare(&mut self, name: &str, types: &[DataType], text: &str) -> SqlResult<Statement> {
        let types = types
            .iter()
            .map(|ty| super::typing::column_type(ty).map(|ty| ty.ty))
            .collect::<SqlResult<Vec<SqlType>>>()?;
        Ok(Statement::Session(Session::Prepare { name: name.to_owned(), types, text: text.to_owned() }))
    }

    pub(super) fn execute(&mut self, name: Option<&ast::ObjectName>, args: &[ast::Expr]) -> SqlResult<Statement> {
        let Some(name) = name else { return Err(SqlError::unsupported("EXECUTE IMMEDIATE")) };
        let (_, name, _) = object_name(name)?;
        let mut bound = Vec::with_capacity(args.len());
        self.levels.push(Level { clause: Clause::Default, ..Level::default() });
        let result = args.iter().try_for_each(|arg| {
            let value = self.expr(arg)?;
            bound.push(over_row(value.expr, &[])?);
            Ok(())
        });
        self.levels.pop();
        result.map(|()| Statement::Session(Session::Execute { name, args: bound }))
    }
}
