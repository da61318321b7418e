//! The state of binding one statement: fresh column ids, parameters and their types, the stack of query levels, CTEs in view.

use super::context::Context;
use super::scope::{Level, Place};
use crate::bound::{BoundExpr, BoundLeaf, ColId};
use sqlparser::ast::{self, Spanned};
use std::cell::Cell;
use std::rc::Rc;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::expr::Expr;
use toroid_common::limits::{MAX_EXPRESSION_DEPTH, MAX_PARAMETERS};
use toroid_common::types::{ColumnType, SqlType};

/// An expression with what the tree does not hold: its modifier, and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) expr: BoundExpr,
    pub(super) modifier: i32,
    /// PostgreSQL's position; 0 is unknown.
    pub(super) at: u32,
}

impl Typed {
    pub(super) fn new(expr: BoundExpr, at: u32) -> Typed {
        Typed { expr, modifier: -1, at }
    }

    pub(super) fn ty(&self) -> SqlType {
        self.expr.ty()
    }

    pub(super) fn column_type(&self) -> ColumnType {
        ColumnType { ty: self.ty(), modifier: self.modifier }
    }
}

/// A parameter: its type as far as it is known, and how many references wait for it.
#[derive(Clone, Copy)]
pub(super) struct Param {
    pub(super) ty: SqlType,
    pub(super) pending: u32,
}

/// A CTE in view: bound anew at each reference, as it stood at its definition.
#[derive(Clone)]
pub(super) struct CommonTable {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) query: Rc<ast::Query>,
    /// How many levels and CTEs were in view where it is defined.
    pub(super) levels: usize,
    pub(super) tables: usize,
}

pub(super) struct Binder<'a> {
    pub(super) cx: Context<'a>,
    pub(super) text: &'a str,
    next: u32,
    /// By column id: whether anything refers to it.
    used: Vec<bool>,
    pub(super) params: Vec<Param>,
    pub(super) levels: Vec<Level>,
    pub(super) tables: Vec<CommonTable>,
    depth: usize,
    /// An oid was looked up by its relation's name.
    pub(super) by_name: Cell<bool>,
}

impl<'a> Binder<'a> {
    pub(super) fn new(cx: Context<'a>, text: &'a str) -> Binder<'a> {
        let params = cx.params.iter().map(|ty| Param { ty: *ty, pending: 0 }).collect();
        Binder {
            cx,
            text,
            next: 0,
            used: Vec::new(),
            params,
            levels: Vec::new(),
            tables: Vec::new(),
            depth: 0,
            by_name: Cell::default(),
        }
    }

    pub(super) fn fresh(&mut self) -> ColId {
        let id = ColId(self.next);
        self.next += 1;
        self.used.push(false);
        id
    }

    pub(super) fn use_column(&mut self, id: ColId) {
        if let Some(used) = self.used.get_mut(id.0 as usize) {
            *used = true;
        }
    }

    pub(super) fn is_used(&self, id: ColId) -> bool {
        self.used.get(id.0 as usize).copied().unwrap_or(true)
    }

    /// Runs `f` one level of nesting deeper.
    pub(super) fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> SqlResult<T>) -> SqlResult<T> {
        if self.depth >= MAX_EXPRESSION_DEPTH {
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded"));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    /// A reference to `$number`.
    pub(super) fn param(&mut self, number: &str, at: u32) -> SqlResult<Typed> {
        let undefined =
            || SqlError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter ${number}")).at(at);
        let index =
            number.parse::<usize>().ok().filter(|n| (1..=MAX_PARAMETERS).contains(n)).ok_or_else(undefined)? - 1;
        if self.params.len() <= index {
            self.params.resize(index + 1, Param { ty: SqlType::Unknown, pending: 0 });
        }
        let Some(param) = self.params.get_mut(index) else { return Err(undefined()) };
        if param.ty == SqlType::Unknown {
            param.pending += 1;
        }
        Ok(Typed::new(Expr::Param { index: index as u16, ty: param.ty }, at))
    }

    /// Settles an unknown parameter's type; another reference may have settled it before.
    pub(super) fn settle_param(&mut self, index: u16, ty: SqlType) -> SqlType {
        match self.params.get_mut(usize::from(index)) {
            Some(param) => {
                param.pending = param.pending.saturating_sub(1);
                if param.ty == SqlType::Unknown {
                    param.ty = ty;
                }
                param.ty
            }
            None => ty,
        }
    }

    /// The parameters' types, all of which must be known by now.
    pub(super) fn settled_params(&self) -> SqlResult<Vec<SqlType>> {
        let mut types = Vec::with_capacity(self.params.len());
        for (index, param) in self.params.iter().enumerate() {
            let message = || format!("could not determine data type of parameter ${}", index + 1);
            if param.ty == SqlType::Unknown {
                return Err(SqlError::new(SqlState::INDETERMINATE_DATATYPE, message()));
            }
            if param.pending > 0 {
                return Err(SqlError::new(SqlState::AMBIGUOUS_PARAMETER, message()));
            }
            types.push(param.ty);
        }
        Ok(types)
    }

    /// The innermost level. There is always one while expressions are bound.
    pub(super) fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    /// A leaf for a column found at some level.
    pub(super) fn leaf(&mut self, place: &Place) -> BoundExpr {
        self.use_column(place.id);
        Expr::Leaf(match place.depth {
            0 => BoundLeaf::Column { id: place.id, ty: place.ty.ty },
            depth => BoundLeaf::Outer { id: place.id, depth, ty: place.ty.ty },
        })
    }

    /// Where `what` stands first at or behind the end of `ast`: how positions of operators are found.
    pub(super) fn behind(&self, ast: &ast::Expr, what: &str) -> u32 {
        let end = ast.span().end;
        let from = usize::try_from(end.line).unwrap_or(1).saturating_sub(1);
        match self.text.get(from..).and_then(|rest| rest.find(what)) {
            Some(found) if end.line > 0 => crate::parse::lex::position_of(self.text, from + found),
            _ => 0,
        }
    }
}

/// Where an identifier or value stood.
pub(super) fn at(span: sqlparser::tokenizer::Span) -> u32 {
    crate::parse::lex::position(span).unwrap_or(0)
}

/// An identifier, folded.
pub(super) fn name_of(ident: &ast::Ident) -> String {
    crate::parse::cursor::fold(&ident.value, ident.quote_style)
}

/// Adds a position unless there is one or it is unknown.
pub(super) fn located<T>(result: SqlResult<T>, at: u32) -> SqlResult<T> {
    result.map_err(|error| if at > 0 { error.or_at(at) } else { error })
}

/// An error with a position if that is known.
pub(super) fn error_at(state: SqlState, message: impl Into<String>, at: u32) -> SqlError {
    let error = SqlError::new(state, message);
    if at > 0 { error.at(at) } else { error }
}

/// `0A000` with a position if that is known.
pub(super) fn unsupported_at(feature: impl std::fmt::Display, at: u32) -> SqlError {
    let error = SqlError::unsupported(feature);
    if at > 0 { error.at(at) } else { error }
}

/// A qualified name's parts: schema, if there is one, and name, with the position of the first part.
pub(super) fn object_name(name: &ast::ObjectName) -> SqlResult<(Option<String>, String, u32)> {
    let idents: Vec<&ast::Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let place = idents.first().map_or(0, |ident| at(ident.span));
    match idents.as_slice() {
        [one] => Ok((None, name_of(one), place)),
        [schema, one] => Ok((Some(name_of(schema)), name_of(one), place)),
        [_, schema, one] => Ok((Some(name_of(schema)), name_of(one), place)),
        _ => Err(error_at(
            SqlState::SYNTAX_ERROR,
            format!("improper qualified name (too many dotted names): {name}"),
            place,
        )),
    }
}
