//! Statements about the session and about upkeep: SET, SHOW, RESET, PREPARE, CLOSE, DISCARD, VACUUM, ANALYZE.

use super::cursor::Cursor;
use super::transaction::modes;
use super::{Command, copy, lock, transaction};
use crate::bound::Session;
use sqlparser::tokenizer::Token;
use toroid_common::error::{SqlError, SqlResult};

/// The command, if the statement begins as one of those that are parsed here. `end` is the statement's last byte.
pub fn parse(cursor: &mut Cursor<'_>, end: usize) -> SqlResult<Option<Command>> {
    let begun = cursor.clone();
    let Ok(verb) = cursor.identifier() else { return Ok(None) };
    let session = match verb.as_str() {
        "copy" => return copy::parse(cursor).map(Some),
        "vacuum" => return upkeep(cursor, "VACUUM").map(Some),
        "analyze" | "analyse" => return upkeep(cursor, "ANALYZE").map(Some),
        "checkpoint" => return upkeep(cursor, "CHECKPOINT").map(Some),
        "cluster" => return upkeep(cursor, "CLUSTER").map(Some),
        "reindex" => return upkeep(cursor, "REINDEX").map(Some),
        "set" => match set(cursor)? {
            Some(session) => session,
            None => return Ok(Some(Command::Nothing { tag: "SET CONSTRAINTS" })),
        },
        "reset" => Session::Reset { name: setting_or_all(cursor)? },
        "show" => Session::Show { name: setting_or_all(cursor)? },
        "prepare" => return prepare(cursor, end).map(Some),
        "deallocate" => deallocate(cursor)?,
        "discard" => discard(cursor)?,
        "close" => match cursor.take("all") {
            true => Session::Close { name: None },
            false => Session::Close { name: Some(cursor.identifier()?) },
        },
        "declare" | "fetch" | "move" => return Err(SqlError::unsupported("a cursor in SQL")),
        "lock" => lock::tables(cursor)?,
        "do" | "call" => return Err(SqlError::unsupported("a procedure")),
        verb => match transaction::parse(cursor, verb)? {
            Some(session) => session,
            None => {
                *cursor = begun;
                return Ok(None);
            }
        },
    };
    cursor.expect_end()?;
    Ok(Some(Command::Session(session)))
}

/// VACUUM and its kin: options and tables are read over, since there is nothing to do.
fn upkeep(cursor: &mut Cursor<'_>, tag: &'static str) -> SqlResult<Command> {
    while let Some(token) = cursor.advance() {
        let known = matches!(
            token.token,
            Token::Word(_) | Token::LParen | Token::RParen | Token::Comma | Token::Period | Token::Number(..)
        ) || matches!(token.token, Token::SingleQuotedString(_));
        if !known {
            return Err(super::lex::error_at(cursor.text(), Some(token)));
        }
    }
    Ok(Command::Nothing { tag })
}

/// `None` is SET CONSTRAINTS, which has no constraint to concern.
fn set(cursor: &mut Cursor<'_>) -> SqlResult<Option<Session>> {
    if cursor.take_all(&["session", "characteristics", "as", "transaction"]) {
        return Ok(Some(Session::SetTransaction { modes: modes(cursor)?, session: true }));
    }
    if cursor.take("transaction") {
        if cursor.take("snapshot") {
            return Err(SqlError::unsupported("SET TRANSACTION SNAPSHOT"));
        }
        return Ok(Some(Session::SetTransaction { modes: modes(cursor)?, session: false }));
    }
    if cursor.take("constraints") {
        while cursor.advance().is_some() {}
        return Ok(None);
    }
    let local = cursor.take("local");
    if !local && !cursor.clone().take_all(&["session", "authorization"]) {
        cursor.take("session");
    }
    let set = |name: &str, value| Ok(Some(Session::Set { name: name.to_owned(), value, local }));
    if cursor.take_all(&["time", "zone"]) {
        return set("timezone", time_zone(cursor)?);
    }
    if cursor.take("names") {
        let value = if cursor.at_end() { None } else { value(cursor)? };
        return set("client_encoding", value);
    }
    if cursor.take_all(&["session", "authorization"]) {
        return set("session_authorization", value(cursor)?);
    }
    if cursor.take("schema") {
        return set("search_path", value(cursor)?);
    }
    let name = setting(cursor)?;
    let assigned = cursor.take("to") || cursor.take_token(&Token::Eq);
    if !assigned && name != "role" {
        return Err(cursor.unexpected());
    }
    set(&name, value(cursor)?)
}

/// A setting's name, with a prefix and a point in between if it is an extension's.
fn setting(cursor: &mut Cursor<'_>) -> SqlResult<String> {
    let mut name = cursor.identifier()?;
    while cursor.take_token(&Token::Period) {
        name.push('.');
        name.push_str(&cursor.identifier()?);
    }
    Ok(name)
}

fn setting_or_all(cursor: &mut Cursor<'_>) -> SqlResult<Option<String>> {
    if cursor.take("all") {
        return Ok(None);
    }
    if cursor.take_all(&["time", "zone"]) {
        return Ok(Some("timezone".to_owned()));
    }
    if cursor.take_all(&["transaction", "isolation", "level"]) {
        return Ok(Some("transaction_isolation".to_owned()));
    }
    if cursor.take_all(&["session", "authorization"]) {
        return Ok(Some("session_authorization".to_owned()));
    }
    setting(cursor).map(Some)
}

/// A list of values joined as `SHOW` prints it; `None` is DEFAULT.
fn value(cursor: &mut Cursor<'_>) -> SqlResult<Option<String>> {
    if cursor.take("default") {
        return Ok(None);
    }
    let mut list = vec![one_value(cursor)?];
    while cursor.take_token(&Token::Comma) {
        list.push(one_value(cursor)?);
    }
    Ok(Some(list.join(", ")))
}

fn one_value(cursor: &mut Cursor<'_>) -> SqlResult<String> {
    if let Some(text) = cursor.string() {
        return Ok(text);
    }
    let minus = cursor.take_token(&Token::Minus);
    if !minus {
        cursor.take_token(&Token::Plus);
    }
    match cursor.peek().map(|t| &t.token) {
        Some(Token::Number(number, _)) => {
            cursor.advance();
            Ok(if minus { format!("-{number}") } else { number.clone() })
        }
        Some(Token::Word(_)) if !minus => cursor.identifier(),
        _ => Err(cursor.unexpected()),
    }
}

fn time_zone(cursor: &mut Cursor<'_>) -> SqlResult<Option<String>> {
    if cursor.take("local") {
        return Ok(None);
    }
    if cursor.take("interval") {
        let text = cursor.string().ok_or_else(|| cursor.unexpected())?;
        cursor.take_all(&["hour", "to", "minute"]);
        return Ok(Some(text));
    }
    value(cursor)
}

fn prepare(cursor: &mut Cursor<'_>, end: usize) -> SqlResult<Command> {
    if cursor.take("transaction") {
        return Err(SqlError::unsupported("a prepared transaction"));
    }
    let name = cursor.identifier()?;
    let mut types = Vec::new();
    if cursor.take_token(&Token::LParen) {
        let inside = cursor.until_closed()?;
        types = super::parse_with(cursor.text(), inside, |p| p.parse_comma_separated(|p| p.parse_data_type()))?;
    }
    cursor.expect("as")?;
    let text = cursor.text().get(cursor.byte()..end).unwrap_or_default().to_owned();
    let [statement] = <[_; 1]>::try_from(super::statements(&text)?).map_err(|_| cursor.unexpected())?;
    match statement.command {
        Command::Sql(_) => {}
        Command::Copy(_) | Command::Session(_) | Command::Prepare { .. } | Command::Nothing { .. } => {
            return Err(cursor.unexpected());
        }
    }
    while cursor.advance().is_some() {}
    Ok(Command::Prepare { name, types, text })
}

fn deallocate(cursor: &mut Cursor<'_>) -> SqlResult<Session> {
    cursor.take("prepare");
    if cursor.take("all") {
        return Ok(Session::Deallocate { name: None });
    }
    Ok(Session::Deallocate { name: Some(cursor.identifier()?) })
}

fn discard(cursor: &mut Cursor<'_>) -> SqlResult<Session> {
    let kinds = [
        ("all", "DISCARD ALL"),
        ("plans", "DISCARD PLANS"),
        ("sequences", "DISCARD SEQUENCES"),
        ("temp", "DISCARD TEMP"),
        ("temporary", "DISCARD TEMP"),
    ];
    for (what, tag) in kinds {
        if cursor.take(what) {
            return Ok(Session::Discard { all: what == "all", tag });
        }
    }
    Err(cursor.unexpected())
}
