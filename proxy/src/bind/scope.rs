//! Names in view: the relations of FROM, the columns they offer, and the stack of query levels in which names are looked up.

use super::binder::{Binder, Typed, at, error_at, name_of};
use crate::bound::{AggregateCall, BoundExpr, ColId, SetFunction, WindowCall};
use sqlparser::ast;
use std::sync::Arc;
use toroid_common::catalog::Table;
use toroid_common::datum::Datum;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::id::TableId;
use toroid_common::types::{ColumnType, SqlType};

/// A column under a name.
#[derive(Clone, Debug)]
pub(super) struct NamedColumn {
    pub(super) name: String,
    pub(super) id: ColId,
    pub(super) ty: ColumnType,
    pub(super) origin: Option<(TableId, u16)>,
}

/// A relation of FROM under its alias.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub(super) alias: String,
    /// Its own name if an alias hides it.
    pub(super) hidden_name: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) columns: Vec<NamedColumn>,
    pub(super) kind: RelationKind,
}

/// What a relation's rows come from.
#[derive(Clone, Debug)]
pub(super) enum RelationKind {
    Stored(Arc<Table>),
    /// A virtual table by its oid.
    Virtual(u32),
    Subquery,
    CommonTable,
    Function,
    /// Rows that are at hand.
    Rows,
}

/// What FROM brings into view.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) relations: Vec<Relation>,
    /// What `*` and bare names mean, in order; JOIN USING merges columns here.
    pub(super) visible: Vec<NamedColumn>,
}

impl Scope {
    pub(super) fn of(relation: Relation) -> Scope {
        Scope { visible: relation.columns.clone(), relations: vec![relation] }
    }

    /// Both scopes side by side; two relations of one name are an error.
    pub(super) fn join(&mut self, other: Scope) -> SqlResult<()> {
        for relation in &other.relations {
            if self.relations.iter().any(|r| r.alias == relation.alias && !relation.alias.is_empty()) {
                let message = format!("table name \"{}\" specified more than once", relation.alias);
                return Err(SqlError::new(SqlState::DUPLICATE_ALIAS, message));
            }
        }
        self.relations.extend(other.relations);
        self.visible.extend(other.visible);
        Ok(())
    }

    /// The relation that has this column.
    pub(super) fn owner(&self, id: ColId) -> Option<&Relation> {
        self.relations.iter().find(|r| r.columns.iter().any(|c| c.id == id))
    }
}

/// The clause that is being bound: it decides whether aggregates and window functions may stand there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Clause {
    #[default]
    Select,
    From,
    JoinOn,
    Where,
    GroupBy,
    Having,
    OrderBy,
    DistinctOn,
    Limit,
    Values,
    Set,
    Returning,
    Default,
    Check,
}

impl Clause {
    /// As PostgreSQL's errors call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Clause::Select => "SELECT",
            Clause::From => "functions in FROM",
            Clause::JoinOn => "JOIN conditions",
            Clause::Where => "WHERE",
            Clause::GroupBy => "GROUP BY",
            Clause::Having => "HAVING",
            Clause::OrderBy => "ORDER BY",
            Clause::DistinctOn => "DISTINCT ON",
            Clause::Limit => "LIMIT",
            Clause::Values => "VALUES",
            Clause::Set => "UPDATE",
            Clause::Returning => "RETURNING",
            Clause::Default => "DEFAULT expressions",
            Clause::Check => "check constraints",
        }
    }

    pub(super) fn takes_aggregates(self) -> bool {
        matches!(self, Clause::Select | Clause::Having | Clause::OrderBy | Clause::DistinctOn)
    }

    pub(super) fn takes_windows(self) -> bool {
        matches!(self, Clause::Select | Clause::OrderBy | Clause::DistinctOn)
    }
}

/// A set-returning function in the SELECT list.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) id: ColId,
    pub(super) function: SetFunction,
    pub(super) args: Vec<BoundExpr>,
    pub(super) ty: SqlType,
}

/// One query level while its expressions are bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    pub(super) scope: Scope,
    pub(super) clause: Clause,
    pub(super) in_aggregate: bool,
    pub(super) in_window: bool,
    pub(super) aggregates: Vec<(ColId, AggregateCall)>,
    pub(super) windows: Vec<(ColId, WindowCall)>,
    pub(super) named_windows: Vec<(String, ast::WindowSpec)>,
    pub(super) series: Vec<Series>,
    /// References to this level's columns outside aggregates, and where they stood.
    pub(super) references: Vec<(ColId, u32)>,
}

impl Level {
    pub(super) fn new(scope: Scope) -> Level {
        Level { scope, ..Level::default() }
    }
}

/// Functions without parentheses that sqlparser takes for columns.
fn is_keyword_function(name: &str) -> bool {
    matches!(name, "current_schema" | "current_catalog" | "current_role" | "current_user" | "session_user" | "user")
}

/// A column that a name was found to mean.
pub(super) struct Place {
    pub(super) id: ColId,
    pub(super) ty: ColumnType,
    pub(super) depth: u16,
}

impl Binder<'_> {
    /// A bare column name.
    pub(super) fn column(&mut self, ident: &ast::Ident) -> SqlResult<Typed> {
        let (name, place) = (name_of(ident), at(ident.span));
        let found = self.find_column(&name, place)?;
        match found {
            Some(found) => Ok(self.refer(&found, place)),
            None if ident.quote_style.is_none() && is_keyword_function(&name) => self.keyword_column(&name, place),
            None if self.find_relation(None, &name).is_some() => {
                Err(super::binder::unsupported_at("a whole-row reference", place))
            }
            None => Err(error_at(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"), place)),
        }
    }

    /// The column that a bare name means, from the innermost level outwards.
    pub(super) fn find_column(&self, name: &str, place: u32) -> SqlResult<Option<Place>> {
        for (depth, level) in self.levels.iter().rev().enumerate() {
            let mut fitting = level.scope.visible.iter().filter(|c| c.name == name);
            let Some(first) = fitting.next() else { continue };
            if fitting.next().is_some() {
                let message = format!("column reference \"{name}\" is ambiguous");
                return Err(error_at(SqlState::AMBIGUOUS_COLUMN, message, place));
            }
            return Ok(Some(Place { id: first.id, ty: first.ty, depth: depth as u16 }));
        }
        Ok(None)
    }

    /// `table.column` or `schema.table.column`.
    pub(super) fn qualified_column(&mut self, idents: &[ast::Ident]) -> SqlResult<Typed> {
        let place = idents.first().map_or(0, |i| at(i.span));
        let names: Vec<String> = idents.iter().map(name_of).collect();
        let (schema, table, column) = match names.as_slice() {
            [table, column] => (None, table, column),
            [schema, table, column] | [_, schema, table, column] => (Some(schema.as_str()), table, column),
            _ => {
                return Err(error_at(SqlState::SYNTAX_ERROR, "improper qualified name (too many dotted names)", place));
            }
        };
        let Some((depth, relation)) = self.find_relation(schema, table) else {
            return Err(self.missing_relation(table, place));
        };
        let mut fitting = relation.columns.iter().filter(|c| c.name == *column);
        let Some(found) = fitting.next() else {
            if let (RelationKind::Virtual(oid), "tableoid") = (&relation.kind, column.as_str()) {
                let oid = *oid;
                return self.table_oid(idents, oid, place);
            }
            let message = format!("column {table}.{column} does not exist");
            return Err(error_at(SqlState::UNDEFINED_COLUMN, message, place));
        };
        if fitting.next().is_some() {
            let message = format!("column reference \"{column}\" is ambiguous");
            return Err(error_at(SqlState::AMBIGUOUS_COLUMN, message, place));
        }
        let found = Place { id: found.id, ty: found.ty, depth };
        Ok(self.refer(&found, place))
    }

    /// `tableoid` of a virtual table, where an outer join has not put NULLs in the row's place.
    fn table_oid(&mut self, idents: &[ast::Ident], oid: u32, place: u32) -> SqlResult<Typed> {
        let mut key = idents.to_vec();
        key.pop();
        key.push(ast::Ident::new("oid"));
        let arg = Box::new(self.qualified_column(&key)?.expr);
        let value = Expr::Const { value: Datum::Oid(oid), ty: SqlType::Oid };
        let whens = vec![(Expr::IsNull { arg, negated: true }, value)];
        Ok(Typed::new(Expr::Case { whens, otherwise: None, ty: SqlType::Oid }, place))
    }

    pub(super) fn find_relation(&self, schema: Option<&str>, table: &str) -> Option<(u16, &Relation)> {
        self.levels.iter().rev().enumerate().find_map(|(depth, level)| {
            let fits = |r: &&Relation| r.alias == table && (schema.is_none() || r.schema.as_deref() == schema);
            level.scope.relations.iter().find(fits).map(|r| (depth as u16, r))
        })
    }

    fn missing_relation(&self, table: &str, place: u32) -> SqlError {
        let hidden = self.levels.iter().rev().flat_map(|l| &l.scope.relations);
        match hidden.clone().find(|r| r.hidden_name.as_deref() == Some(table)) {
            Some(relation) => {
                let message = format!("invalid reference to FROM-clause entry for table \"{table}\"");
                let hint = format!("Perhaps you meant to reference the table alias \"{}\".", relation.alias);
                error_at(SqlState::UNDEFINED_TABLE, message, place).with_hint(hint)
            }
            None => {
                let message = format!("missing FROM-clause entry for table \"{table}\"");
                error_at(SqlState::UNDEFINED_TABLE, message, place)
            }
        }
    }

    fn refer(&mut self, found: &Place, place: u32) -> Typed {
        let modifier = found.ty.modifier;
        let index = self.levels.len().checked_sub(usize::from(found.depth) + 1);
        if let Some(level) = index.and_then(|i| self.levels.get_mut(i))
            && !level.in_aggregate
        {
            level.references.push((found.id, place));
        }
        Typed { expr: self.leaf(found), modifier, at: place }
    }
}
