//! COPY with the option syntaxes of all releases.

use super::cursor::{Cursor, Name};
use super::{Command, parse_with};
use sqlparser::ast;
use sqlparser::tokenizer::Token;
use toroid_common::error::{SqlError, SqlResult};

/// COPY as written; the binder checks options against each other.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyCommand {
    pub source: CopySource,
    /// FROM, not TO.
    pub from: bool,
    pub options: Vec<CopyOption>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CopySource {
    Table { name: Name, columns: Option<Vec<(String, u32)>> },
    Query(Box<ast::Query>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct CopyOption {
    pub name: String,
    pub value: CopyValue,
    pub at: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CopyValue {
    None,
    Text(String),
    Columns(Vec<(String, u32)>),
    /// `*`.
    All,
}

/// Parses what follows COPY.
pub fn parse(cursor: &mut Cursor<'_>) -> SqlResult<Command> {
    let mut options = Vec::new();
    let at = cursor.position();
    if cursor.take("binary") {
        options.push(CopyOption { name: "format".to_owned(), value: CopyValue::Text("binary".to_owned()), at });
    }
    let source = source(cursor)?;
    let from = direction(cursor, &source)?;
    target(cursor, from)?;
    let delimiters = cursor.position();
    if cursor.take_all(&["using", "delimiters"]) {
        options.push(text_option(cursor, "delimiter", delimiters)?);
    }
    cursor.take("with");
    if cursor.take_token(&Token::LParen) {
        modern_options(cursor, &mut options)?;
    } else {
        while !cursor.at_end() && !cursor.clone().take("where") {
            let option = old_option(cursor)?;
            options.push(option);
        }
    }
    if from && cursor.take("where") {
        return Err(SqlError::unsupported("COPY FROM with WHERE"));
    }
    cursor.expect_end()?;
    Ok(Command::Copy(Box::new(CopyCommand { source, from, options })))
}

fn source(cursor: &mut Cursor<'_>) -> SqlResult<CopySource> {
    if cursor.take_token(&Token::LParen) {
        let text = cursor.text();
        let inside = cursor.until_closed()?;
        let mut first = Cursor::new(text, inside);
        if ["insert", "update", "delete"].iter().any(|verb| first.take(verb)) {
            return Err(SqlError::unsupported("COPY of a statement that writes"));
        }
        return Ok(CopySource::Query(parse_with(text, inside, |p| p.parse_query())?));
    }
    let name = cursor.name()?;
    let columns = match cursor.peek().map(|t| &t.token) {
        Some(Token::LParen) => Some(cursor.identifiers()?),
        _ => None,
    };
    Ok(CopySource::Table { name, columns })
}

fn direction(cursor: &mut Cursor<'_>, source: &CopySource) -> SqlResult<bool> {
    if cursor.take("to") {
        return Ok(false);
    }
    match source {
        CopySource::Table { .. } if cursor.take("from") => Ok(true),
        _ => Err(cursor.unexpected()),
    }
}

fn target(cursor: &mut Cursor<'_>, from: bool) -> SqlResult<()> {
    if cursor.take("stdin") || cursor.take("stdout") {
        return Ok(());
    }
    if cursor.take("program") {
        return Err(SqlError::unsupported("COPY with a program"));
    }
    match cursor.string() {
        Some(_) if from => Err(SqlError::unsupported("COPY from a file on the server")
            .with_hint("psql's \\copy reads a file on the client's side.")),
        Some(_) => Err(SqlError::unsupported("COPY to a file on the server")
            .with_hint("psql's \\copy writes a file on the client's side.")),
        None => Err(cursor.unexpected()),
    }
}

fn modern_options(cursor: &mut Cursor<'_>, options: &mut Vec<CopyOption>) -> SqlResult<()> {
    loop {
        let at = cursor.position();
        let name = cursor.identifier()?;
        let value = modern_value(cursor)?;
        options.push(CopyOption { name, value, at });
        if !cursor.take_token(&Token::Comma) {
            break;
        }
    }
    cursor.expect_token(&Token::RParen)
}

fn modern_value(cursor: &mut Cursor<'_>) -> SqlResult<CopyValue> {
    if let Some(text) = cursor.string() {
        return Ok(CopyValue::Text(text));
    }
    match cursor.peek().map(|t| &t.token) {
        Some(Token::Comma | Token::RParen) => Ok(CopyValue::None),
        Some(Token::Mul) => {
            cursor.advance();
            Ok(CopyValue::All)
        }
        Some(Token::LParen) => Ok(CopyValue::Columns(cursor.identifiers()?)),
        Some(Token::Number(number, _)) => {
            let number = number.clone();
            cursor.advance();
            Ok(CopyValue::Text(number))
        }
        _ => Ok(CopyValue::Text(cursor.identifier()?)),
    }
}

/// One option as releases before 9.0 wrote them.
fn old_option(cursor: &mut Cursor<'_>) -> SqlResult<CopyOption> {
    let at = cursor.position();
    let made = |name: &str, value| Ok(CopyOption { name: name.to_owned(), value, at });
    let word = |text: &str| CopyValue::Text(text.to_owned());
    if cursor.take("binary") {
        return made("format", word("binary"));
    }
    if cursor.take("csv") {
        return made("format", word("csv"));
    }
    if cursor.take("freeze") {
        return made("freeze", CopyValue::None);
    }
    if cursor.take("header") {
        return made("header", CopyValue::None);
    }
    if cursor.take("delimiter") || cursor.take("delimiters") {
        return text_option(cursor, "delimiter", at);
    }
    for name in ["null", "quote", "escape", "encoding"] {
        if cursor.take(name) {
            return text_option(cursor, name, at);
        }
    }
    if cursor.take_all(&["force", "quote"]) {
        let value =
            if cursor.take_token(&Token::Mul) { CopyValue::All } else { CopyValue::Columns(bare_list(cursor)?) };
        return made("force_quote", value);
    }
    if cursor.take_all(&["force", "not", "null"]) {
        return made("force_not_null", CopyValue::Columns(bare_list(cursor)?));
    }
    if cursor.take_all(&["force", "null"]) {
        return made("force_null", CopyValue::Columns(bare_list(cursor)?));
    }
    Err(cursor.unexpected())
}

fn text_option(cursor: &mut Cursor<'_>, name: &str, at: u32) -> SqlResult<CopyOption> {
    cursor.take("as");
    let value = cursor.string().ok_or_else(|| cursor.unexpected())?;
    Ok(CopyOption { name: name.to_owned(), value: CopyValue::Text(value), at })
}

fn bare_list(cursor: &mut Cursor<'_>) -> SqlResult<Vec<(String, u32)>> {
    let mut list = Vec::new();
    loop {
        let at = cursor.position();
        list.push((cursor.identifier()?, at));
        if !cursor.take_token(&Token::Comma) {
            return Ok(list);
        }
    }
}
