//! Statements of transactions (BEGIN and its kin, savepoints) and of what is told at their end (LISTEN, NOTIFY).

use super::cursor::Cursor;
use crate::bound::{Isolation, Session, TransactionModes};
use sqlparser::tokenizer::Token;
use toroid_common::error::{SqlError, SqlResult};

/// The statement, if its first word, which the cursor has passed, is one of these.
pub fn parse(cursor: &mut Cursor<'_>, verb: &str) -> SqlResult<Option<Session>> {
    Ok(Some(match verb {
        "begin" => {
            block(cursor);
            Session::Begin { tag: "BEGIN", modes: modes(cursor)? }
        }
        "start" => {
            cursor.expect("transaction")?;
            Session::Begin { tag: "START TRANSACTION", modes: modes(cursor)? }
        }
        "commit" | "end" => {
            refuse_prepared(cursor)?;
            block(cursor);
            Session::Commit { tag: "COMMIT", chain: chain(cursor)? }
        }
        "abort" => {
            block(cursor);
            Session::Rollback { tag: "ROLLBACK", chain: chain(cursor)? }
        }
        "rollback" => {
            refuse_prepared(cursor)?;
            block(cursor);
            if cursor.take("to") {
                cursor.take("savepoint");
                Session::RollbackTo { name: cursor.identifier()? }
            } else {
                Session::Rollback { tag: "ROLLBACK", chain: chain(cursor)? }
            }
        }
        "savepoint" => Session::Savepoint { name: cursor.identifier()? },
        "release" => {
            cursor.take("savepoint");
            Session::Release { name: cursor.identifier()? }
        }
        "listen" => Session::Listen { channel: cursor.identifier()? },
        "unlisten" if cursor.take_token(&Token::Mul) => Session::Unlisten { channel: None },
        "unlisten" => Session::Unlisten { channel: Some(cursor.identifier()?) },
        "notify" => {
            let channel = cursor.identifier()?;
            let payload = match cursor.take_token(&Token::Comma) {
                true => Some(cursor.string().ok_or_else(|| cursor.unexpected())?),
                false => None,
            };
            Session::Notify { channel, payload }
        }
        _ => return Ok(None),
    }))
}

/// WORK and TRANSACTION say nothing.
fn block(cursor: &mut Cursor<'_>) {
    let _ = cursor.take("work") || cursor.take("transaction");
}

fn chain(cursor: &mut Cursor<'_>) -> SqlResult<bool> {
    if !cursor.take("and") {
        return Ok(false);
    }
    let chain = !cursor.take("no");
    cursor.expect("chain")?;
    Ok(chain)
}

fn refuse_prepared(cursor: &mut Cursor<'_>) -> SqlResult<()> {
    match cursor.take("prepared") {
        true => Err(SqlError::unsupported("a prepared transaction")),
        false => Ok(()),
    }
}

/// The modes of a transaction, up to the statement's end.
pub(super) fn modes(cursor: &mut Cursor<'_>) -> SqlResult<TransactionModes> {
    let mut modes = TransactionModes::default();
    while !cursor.at_end() {
        if cursor.take("isolation") {
            cursor.expect("level")?;
            modes.isolation = Some(isolation(cursor)?);
        } else if cursor.take("read") {
            let only = cursor.take("only");
            if !only {
                cursor.expect("write")?;
            }
            modes.read_only = Some(only);
        } else if cursor.take("deferrable") {
            modes.deferrable = Some(true);
        } else if cursor.take("not") {
            cursor.expect("deferrable")?;
            modes.deferrable = Some(false);
        } else {
            return Err(cursor.unexpected());
        }
        if cursor.take_token(&Token::Comma) && cursor.at_end() {
            return Err(cursor.unexpected());
        }
    }
    Ok(modes)
}

fn isolation(cursor: &mut Cursor<'_>) -> SqlResult<Isolation> {
    if cursor.take("serializable") {
        Ok(Isolation::Serializable)
    } else if cursor.take("repeatable") {
        cursor.expect("read")?;
        Ok(Isolation::RepeatableRead)
    } else {
        cursor.expect("read")?;
        if cursor.take("uncommitted") {
            return Ok(Isolation::ReadUncommitted);
        }
        cursor.expect("committed")?;
        Ok(Isolation::ReadCommitted)
    }
}
