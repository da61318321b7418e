//! Forms that sqlparser wants written out: storage parameters without a value, `WITH (replicated)`, and the command TABLE; columns without a type.

use super::lex;
use sqlparser::ast::DataType;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};
use std::borrow::Cow;

/// The type of a column that CREATE TABLE AS only names.
pub const UNSAID: DataType = DataType::AnyType;

/// The columns of CREATE TABLE … (a, b) AS with [`UNSAID`] for their types; other tokens as they are.
pub fn with_types(tokens: Cow<'_, [TokenWithSpan]>) -> Cow<'_, [TokenWithSpan]> {
    let meaning: Vec<(usize, &TokenWithSpan)> = tokens.iter().enumerate().filter(|(_, t)| !lex::is_blank(t)).collect();
    if !meaning.first().is_some_and(|(_, t)| is_word(t, "create")) {
        return tokens;
    }
    let Some(open) = meaning.iter().position(|(_, t)| t.token == Token::LParen) else { return tokens };
    let mut names = Vec::new();
    for pair in meaning.get(open + 1..).unwrap_or_default().chunks(2) {
        let [(place, name), (_, next)] = pair else { return tokens };
        if !matches!(name.token, Token::Word(_)) {
            return tokens;
        }
        names.push(*place);
        match next.token {
            Token::Comma => {}
            Token::RParen => break,
            _ => return tokens,
        }
    }
    let mut behind = meaning.iter().skip(open + 2 * names.len() + 1).map(|(_, t)| t);
    if !behind.any(|t| is_word(t, "as")) || names.is_empty() {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + names.len());
    for (place, token) in tokens.iter().enumerate() {
        out.push(token.clone());
        if names.contains(&place) {
            for keyword in [Keyword::ANY, Keyword::TYPE] {
                let word = Word { value: format!("{keyword:?}"), quote_style: None, keyword };
                out.push(TokenWithSpan { token: Token::Word(word), span: token.span });
            }
        }
    }
    Cow::Owned(out)
}

/// The tokens of a CREATE TABLE or ALTER TABLE with the values written out; those of other statements as they are.
pub fn with_values(tokens: &[TokenWithSpan]) -> Cow<'_, [TokenWithSpan]> {
    if let Some(table) = tokens.iter().position(|t| !lex::is_blank(t)).filter(|i| is_table(tokens.get(*i))) {
        return Cow::Owned(select_all(tokens, table));
    }
    let mut meaning = tokens.iter().enumerate().filter(|(_, t)| !lex::is_blank(t));
    let first = meaning.next().is_some_and(|(_, t)| is_word(t, "create") || is_word(t, "alter"));
    let second = meaning.next().is_some_and(|(_, t)| is_word(t, "table"));
    if !first || !second {
        return Cow::Borrowed(tokens);
    }
    let Some(open) = opening(tokens) else { return Cow::Borrowed(tokens) };
    let mut out = tokens.get(..=open).unwrap_or_default().to_vec();
    let mut rest = tokens.get(open + 1..).unwrap_or_default().iter().filter(|t| !lex::is_blank(t)).peekable();
    let mut starts = true;
    while let Some(token) = rest.next() {
        out.push(token.clone());
        let ends = rest.peek().is_some_and(|t| matches!(t.token, Token::Comma | Token::RParen));
        if starts && ends && matches!(token.token, Token::Word(_)) {
            out.extend(value(token.span));
        }
        starts = token.token == Token::Comma;
        if token.token == Token::RParen {
            break;
        }
    }
    out.extend(rest.cloned());
    Cow::Owned(out)
}

fn is_table(token: Option<&TokenWithSpan>) -> bool {
    token.is_some_and(|t| is_word(t, "table"))
}

/// `TABLE t` is `SELECT * FROM t`.
fn select_all(tokens: &[TokenWithSpan], table: usize) -> Vec<TokenWithSpan> {
    let span = tokens.get(table).map_or(Span::empty(), |t| t.span);
    let word = |value: &str, keyword| {
        let word = Word { value: value.to_owned(), quote_style: None, keyword };
        TokenWithSpan { token: Token::Word(word), span }
    };
    let star = TokenWithSpan { token: Token::Mul, span };
    let mut out = vec![word("SELECT", Keyword::SELECT), star, word("FROM", Keyword::FROM)];
    out.extend(tokens.iter().skip(table + 1).cloned());
    out
}

/// The parenthesis behind WITH or SET.
fn opening(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut before = None;
    for (i, token) in tokens.iter().enumerate().filter(|(_, t)| !lex::is_blank(t)) {
        if token.token == Token::LParen && before.is_some_and(|b| is_word(b, "with") || is_word(b, "set")) {
            return Some(i);
        }
        before = Some(token);
    }
    None
}

fn is_word(token: &TokenWithSpan, keyword: &str) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword))
}

fn value(span: Span) -> [TokenWithSpan; 2] {
    let word = Word { value: "true".to_owned(), quote_style: None, keyword: Keyword::TRUE };
    [TokenWithSpan { token: Token::Eq, span }, TokenWithSpan { token: Token::Word(word), span }]
}
