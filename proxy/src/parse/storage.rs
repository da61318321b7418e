//! Storage parameters without a value, `WITH (replicated)`, which sqlparser wants written as `replicated = true`.

use super::lex;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};
use std::borrow::Cow;

/// The tokens of a CREATE TABLE or ALTER TABLE with the values written out; those of other statements as they are.
pub fn with_values(tokens: &[TokenWithSpan]) -> Cow<'_, [TokenWithSpan]> {
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
    let word = Word { value: "true".to_owned(), quote_style: None, keyword: sqlparser::keywords::Keyword::TRUE };
    [TokenWithSpan { token: Token::Eq, span }, TokenWithSpan { token: Token::Word(word), span }]
}
