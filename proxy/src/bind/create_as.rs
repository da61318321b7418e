//! CREATE TABLE … AS and SELECT … INTO: a table whose columns are those of a query.

use super::binder::{Binder, error_at, name_of};
use super::create::storage_options;
use super::ddl::{ddl_name, duplicate_column};
use crate::bound::{CreateAs, ObjectName, Query, Statement};
use crate::parse::storage::UNSAID;
use sqlparser::ast::{self, CreateTableOptions, SetExpr};
use toroid_common::catalog::Column;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::id::ColumnId;

impl Binder<'_> {
    pub(super) fn create_table_as(&mut self, create: &ast::CreateTable, query: &ast::Query) -> SqlResult<Statement> {
        let named = |column: &ast::ColumnDef| column.data_type == UNSAID && column.options.is_empty();
        if !create.columns.iter().all(named) || !create.constraints.is_empty() {
            return Err(error_at(SqlState::SYNTAX_ERROR, "syntax error in the columns of CREATE TABLE AS", 0));
        }
        let mut source = self.query(query)?;
        if create.columns.len() > source.output.len() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "too many column names were specified"));
        }
        for (output, column) in source.output.iter_mut().zip(&create.columns) {
            output.name = name_of(&column.name);
        }
        let with_data = create.with_data.as_ref().is_none_or(|with| with.data);
        self.as_query(ddl_name(&create.name)?, source, &create.table_options, create.if_not_exists, with_data)
    }

    /// The query without INTO, if that is what it has.
    pub(super) fn select_into(&mut self, query: &ast::Query) -> SqlResult<Option<Statement>> {
        let SetExpr::Select(select) = &*query.body else { return Ok(None) };
        let Some(into) = &select.into else { return Ok(None) };
        if into.temporary {
            return Err(SqlError::unsupported("a temporary table"));
        }
        let [name] = into.targets.as_slice() else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error in the INTO clause"));
        };
        let name = ddl_name(&identifiers(name)?)?;
        let mut plain = query.clone();
        if let SetExpr::Select(select) = &mut *plain.body {
            select.into = None;
        }
        let source = self.query(&plain)?;
        self.as_query(name, source, &CreateTableOptions::None, false, true).map(Some)
    }

    fn as_query(
        &mut self,
        name: ObjectName,
        source: Query,
        options: &CreateTableOptions,
        if_not_exists: bool,
        with_data: bool,
    ) -> SqlResult<Statement> {
        let mut columns: Vec<Column> = Vec::with_capacity(source.output.len());
        for output in &source.output {
            if columns.iter().any(|column| column.name == output.name) {
                return Err(duplicate_column(&output.name, 0));
            }
            columns.push(Column {
                id: ColumnId(0),
                name: output.name.clone(),
                ty: output.ty,
                not_null: false,
                default: None,
                missing: None,
                hidden: false,
            });
        }
        let (choice, options) = storage_options(options)?;
        let table = self.laid_out(name, columns, Default::default(), choice, options)?;
        Ok(Statement::CreateAs(Box::new(CreateAs { if_not_exists, table, source, with_data })))
    }
}

/// A name that was read as an expression.
fn identifiers(name: &ast::Expr) -> SqlResult<ast::ObjectName> {
    match name {
        ast::Expr::Identifier(ident) => Ok(ast::ObjectName::from(vec![ident.clone()])),
        ast::Expr::CompoundIdentifier(idents) => Ok(ast::ObjectName::from(idents.clone())),
        _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error in the INTO clause")),
    }
}
