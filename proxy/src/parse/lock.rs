//! LOCK TABLE, and the locking clauses of SELECT: sqlparser knows two of four strengths and one table behind OF, so that each clause is written
//! as one that it reads, and stands where it expects it.

use super::cursor::Cursor;
use super::lex;
use crate::bound::{ObjectName, Session};
use sqlparser::ast::{Ident, LockClause, NonBlock};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use std::borrow::Cow;
use toroid_common::error::SqlResult;
use toroid_common::plan::{Strength, TableLock};

/// `LOCK [TABLE] [ONLY] name [*], … [IN mode MODE] [NOWAIT]`, behind its first word.
pub fn tables(cursor: &mut Cursor<'_>) -> SqlResult<Session> {
    cursor.take("table");
    let mut names = Vec::new();
    loop {
        cursor.take("only");
        let name = cursor.name()?;
        names.push(ObjectName { schema: name.schema, name: name.name });
        cursor.take_token(&Token::Mul);
        if !cursor.take_token(&Token::Comma) {
            break;
        }
    }
    let mode = if cursor.take("in") { mode(cursor)? } else { TableLock::AccessExclusive };
    let nowait = cursor.take("nowait");
    Ok(Session::LockTables { names, mode, nowait })
}

fn mode(cursor: &mut Cursor<'_>) -> SqlResult<TableLock> {
    let modes: [(&[&str], TableLock); 8] = [
        (&["access", "share", "mode"], TableLock::AccessShare),
        (&["row", "share", "mode"], TableLock::RowShare),
        (&["row", "exclusive", "mode"], TableLock::RowExclusive),
        (&["share", "update", "exclusive", "mode"], TableLock::ShareUpdateExclusive),
        (&["share", "mode"], TableLock::Share),
        (&["share", "row", "exclusive", "mode"], TableLock::ShareRowExclusive),
        (&["exclusive", "mode"], TableLock::Exclusive),
        (&["access", "exclusive", "mode"], TableLock::AccessExclusive),
    ];
    let found = modes.into_iter().find(|(words, _)| cursor.take_all(words));
    found.map(|(_, mode)| mode).ok_or_else(|| cursor.unexpected())
}

const STRENGTHS: [(&[Keyword], Strength); 4] = [
    (&[Keyword::UPDATE], Strength::Update),
    (&[Keyword::NO, Keyword::KEY, Keyword::UPDATE], Strength::NoKeyUpdate),
    (&[Keyword::SHARE], Strength::Share),
    (&[Keyword::KEY, Keyword::SHARE], Strength::KeyShare),
];

/// What a locking clause says.
pub struct Locking<'a> {
    pub strength: Strength,
    /// The names behind OF; none is every table.
    pub of: Vec<&'a Ident>,
    pub nonblock: Option<&'a NonBlock>,
}

/// Reads a clause as [`plain`] wrote it.
pub fn locking(clause: &LockClause) -> Option<Locking<'_>> {
    let mut parts = clause.of.as_ref()?.0.iter().filter_map(|part| part.as_ident());
    let strength = parts.next()?;
    let (_, strength) = STRENGTHS.iter().find(|(_, known)| known.clause() == strength.value)?;
    let of = parts.collect();
    Some(Locking { strength: *strength, of, nonblock: clause.nonblock.as_ref() })
}

/// The tokens of a statement with each locking clause written as `FOR UPDATE OF "strength"."table"."table" …`, at the end of its query.
pub fn plain(tokens: Cow<'_, [TokenWithSpan]>) -> Cow<'_, [TokenWithSpan]> {
    if !tokens.iter().any(|t| keyword(t) == Some(Keyword::FOR)) {
        return tokens;
    }
    let meaning: Vec<&TokenWithSpan> = tokens.iter().filter(|t| !lex::is_blank(t)).collect();
    if !(0..meaning.len()).any(|place| clause(&meaning, place).is_some()) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(meaning.len());
    // Clauses that wait for the end of their query, for each open parenthesis; none where it is not that of a query.
    let mut waiting: Vec<Option<Vec<TokenWithSpan>>> = vec![Some(Vec::new())];
    let mut place = 0;
    while let Some(token) = meaning.get(place) {
        if let Some(Some(waiting)) = waiting.last_mut()
            && let Some((written, length)) = clause(&meaning, place)
        {
            waiting.extend(written);
            place += length;
            continue;
        }
        match &token.token {
            Token::LParen => waiting.push(begins_query(meaning.get(place + 1)).then(Vec::new)),
            Token::RParen => out.extend(waiting.pop().flatten().unwrap_or_default()),
            Token::SemiColon => out.extend(waiting.drain(..).flatten().flatten()),
            Token::Word(word) if ends_query(word) => {
                out.extend(waiting.last_mut().and_then(|w| w.as_mut().map(std::mem::take)).unwrap_or_default());
            }
            _ => {}
        }
        out.push((*token).clone());
        place += 1;
    }
    out.extend(waiting.into_iter().flatten().flatten());
    Cow::Owned(out)
}

fn begins_query(token: Option<&&TokenWithSpan>) -> bool {
    token.is_some_and(|t| {
        let word = keyword(t);
        t.token == Token::LParen
            || matches!(word, Some(Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::TABLE))
    })
}

/// What may follow the query of an INSERT or CREATE TABLE AS.
fn ends_query(word: &Word) -> bool {
    word.quote_style.is_none() && matches!(word.keyword, Keyword::ON | Keyword::RETURNING | Keyword::WITH)
}

/// The clause that begins here, as it is to be written, and how many tokens it takes; FOR READ ONLY locks nothing.
fn clause(tokens: &[&TokenWithSpan], place: usize) -> Option<(Vec<TokenWithSpan>, usize)> {
    let keyword = |at: usize| tokens.get(at).and_then(|t| keyword(t));
    if keyword(place) != Some(Keyword::FOR) {
        return None;
    }
    let mut next = place + 1;
    if keyword(next) == Some(Keyword::READ) && keyword(next + 1) == Some(Keyword::ONLY) && ends(tokens, next + 2) {
        return Some((Vec::new(), 3));
    }
    let said = |words: &[Keyword]| words.iter().enumerate().all(|(i, word)| keyword(next + i) == Some(*word));
    let (words, strength) = STRENGTHS.iter().find(|(words, _)| said(words))?;
    let span = tokens.get(place)?.span;
    next += words.len();
    let word = |value: &str, keyword, quote_style| TokenWithSpan {
        token: Token::Word(Word { value: value.to_owned(), quote_style, keyword }),
        span,
    };
    let mut written = vec![
        word("FOR", Keyword::FOR, None),
        word("UPDATE", Keyword::UPDATE, None),
        word("OF", Keyword::OF, None),
        word(strength.clause(), Keyword::NoKeyword, Some('"')),
    ];
    if keyword(next) == Some(Keyword::OF) {
        loop {
            let name = tokens.get(next + 1).filter(|t| matches!(t.token, Token::Word(_)))?;
            written.push(TokenWithSpan { token: Token::Period, span: name.span });
            written.push((*name).clone());
            next += 2;
            if tokens.get(next).is_none_or(|t| t.token != Token::Comma) {
                break;
            }
        }
    }
    let wait: &[Keyword] = match keyword(next) {
        Some(Keyword::NOWAIT) => &[Keyword::NOWAIT],
        Some(Keyword::SKIP) if keyword(next + 1) == Some(Keyword::LOCKED) => &[Keyword::SKIP, Keyword::LOCKED],
        _ => &[],
    };
    written.extend(tokens.get(next..next + wait.len())?.iter().map(|t| (*t).clone()));
    next += wait.len();
    ends(tokens, next).then_some((written, next - place))
}

/// Whether a locking clause may end before this token.
fn ends(tokens: &[&TokenWithSpan], at: usize) -> bool {
    use Keyword as K;
    match tokens.get(at) {
        None => true,
        Some(token) => {
            matches!(token.token, Token::RParen | Token::SemiColon | Token::EOF)
                || matches!(
                    keyword(token),
                    Some(K::FOR | K::LIMIT | K::OFFSET | K::FETCH | K::ON | K::RETURNING | K::WITH)
                )
        }
    }
}

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}
