//! Text → statements: sqlparser's AST where it knows PostgreSQL's syntax, our own small parsers where it does not.
//!
//! Every location in the AST is rewritten on the way in: `line` is a byte offset + 1 and `column` PostgreSQL's error position (characters from 1), both
//! in the whole text that the client sent, so that whoever holds a piece of AST can say where it stood.

pub mod lex;
pub mod cursor;
pub mod copy;
pub mod transaction;
pub mod utility;
pub mod storage;
pub mod forms;
pub mod lock;
pub mod normalize;

use crate::bound::Session;
use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::Range;
use std::sync::Arc;
use toroid_common::error::{SqlError, SqlResult, SqlState};
use toroid_common::limits::MAX_EXPRESSION_DEPTH;

pub use normalize::{Normalized, normalize};

/// One statement of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub command: Command,
    /// All that the client sent: positions count from its start.
    pub text: Arc<str>,
    /// The statement's bytes in `text`, without the semicolon.
    pub range: Range<usize>,
}

impl Parsed {
    /// The statement's own text.
    pub fn source(&self) -> &str {
        self.text.get(self.range.clone()).unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Sql(Box<ast::Statement>),
    Copy(Box<copy::CopyCommand>),
    Session(Session),
    /// PREPARE: `text` is the statement behind AS.
    Prepare {
        name: String,
        types: Vec<ast::DataType>,
        text: String,
    },
    /// Accepted, and there is nothing to do.
    Nothing {
        tag: &'static str,
    },
}

/// The statements of a text in order; empty ones are left out. A syntax error anywhere is the answer, before anything runs.
pub fn statements(text: &str) -> SqlResult<Vec<Parsed>> {
    let tokens = lex::tokens(text)?;
    let shared: Arc<str> = Arc::from(text);
    let mut found = Vec::new();
    for piece in tokens.split_inclusive(|t| t.token == Token::SemiColon) {
        let mut meaning = piece.iter().filter(|t| !lex::is_blank(t) && t.token != Token::SemiColon);
        let Some(first) = meaning.next() else { continue };
        let last = meaning.next_back().unwrap_or(first);
        let range = lex::start(first)..lex::end(last);
        let command = command(text, piece, range.end)?;
        found.push(Parsed { command, text: Arc::clone(&shared), range });
    }
    Ok(found)
}

/// A single statement; more than one is an error, none is `None`.
pub fn statement(text: &str) -> SqlResult<Option<Parsed>> {
    let mut all = statements(text)?;
    match all.len() {
        0 | 1 => Ok(all.pop()),
        _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")),
    }
}

/// What is said of the first parameter of a statement that has none to take.
pub fn no_parameter(text: &str, range: &Range<usize>) -> Option<SqlError> {
    let tokens = lex::tokens(text).ok()?;
    tokens.iter().filter(|token| range.contains(&lex::start(token))).find_map(|token| match &token.token {
        Token::Placeholder(name) => {
            let error = SqlError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {name}"));
            Some(error.at(lex::position(token.span).unwrap_or(1)))
        }
        _ => None,
    })
}

fn command(text: &str, tokens: &[TokenWithSpan], end: usize) -> SqlResult<Command> {
    let mut cursor = cursor::Cursor::new(text, tokens);
    if let Some(command) = utility::parse(&mut cursor, end)? {
        return Ok(command);
    }
    if is_empty_select(tokens) {
        return empty_select().map(|s| Command::Sql(Box::new(s)));
    }
    let tokens = lock::plain(forms::plain(storage::with_types(storage::with_values(tokens))));
    parse_with(text, &tokens, |p| p.parse_statement()).map(|s| Command::Sql(Box::new(s)))
}

/// `SELECT` and nothing else: a row without columns.
fn is_empty_select(tokens: &[TokenWithSpan]) -> bool {
    let mut meaning = tokens.iter().filter(|t| !lex::is_blank(t) && t.token != Token::SemiColon);
    let select = |t: &TokenWithSpan| matches!(&t.token, Token::Word(word) if word.keyword == Keyword::SELECT);
    meaning.next().is_some_and(select) && meaning.next().is_none()
}

/// What sqlparser has no form for: made from a list with one item.
fn empty_select() -> SqlResult<ast::Statement> {
    let text = "SELECT 1";
    let mut statement = parse_with(text, &lex::tokens(text)?, |p| p.parse_statement())?;
    if let ast::Statement::Query(query) = &mut statement
        && let ast::SetExpr::Select(select) = &mut *query.body
    {
        select.projection.clear();
    }
    Ok(statement)
}

/// Runs one of sqlparser's productions over tokens of `text`, all of which it must take.
pub fn parse_with<T>(
    text: &str,
    tokens: &[TokenWithSpan],
    production: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
) -> SqlResult<T> {
    let dialect = PostgreSqlDialect {};
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(MAX_EXPRESSION_DEPTH).with_tokens_with_locations(tokens.to_vec());
    let parsed = production(&mut parser).map_err(|error| syntax_error(text, tokens, &parser, &error))?;
    match parser.next_token() {
        TokenWithSpan { token: Token::EOF | Token::SemiColon, .. } => Ok(parsed),
        extra => Err(lex::error_at(text, Some(&extra))),
    }
}

fn syntax_error(text: &str, tokens: &[TokenWithSpan], parser: &Parser<'_>, error: &ParserError) -> SqlError {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded");
        }
    };
    match located(message) {
        Some(byte) => lex::error_at(text, tokens.iter().find(|t| lex::start(t) == byte)),
        None if message.contains("found: EOF") => lex::error_at(text, None),
        None => {
            let next = parser.peek_token();
            lex::error_at(text, (next.token != Token::EOF).then_some(&next))
        }
    }
}

/// The byte offset that stands as `Line` at the end of sqlparser's messages.
fn located(message: &str) -> Option<usize> {
    let (_, place) = message.rsplit_once(" at Line: ")?;
    let (line, _) = place.split_once(',')?;
    line.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests;
