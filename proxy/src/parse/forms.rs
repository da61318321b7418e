//! Forms of expressions and of FROM that sqlparser does not read, written as others that mean the same: ONLY, TRIM (BOTH FROM …), SUBSTRING (… SIMILAR … ESCAPE …).

use super::lex;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};
use std::borrow::Cow;

/// The tokens of a statement with these forms replaced.
pub fn plain(tokens: Cow<'_, [TokenWithSpan]>) -> Cow<'_, [TokenWithSpan]> {
    let concerned = |t: &TokenWithSpan| {
        use Keyword as K;
        matches!(keyword(t), Some(K::ONLY | K::BOTH | K::LEADING | K::TRAILING | K::SIMILAR))
    };
    if !tokens.iter().any(concerned) {
        return tokens;
    }
    let meaning: Vec<&TokenWithSpan> = tokens.iter().filter(|t| !lex::is_blank(t)).collect();
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(meaning.len());
    // Whether each open parenthesis is that of a SUBSTRING.
    let mut open = Vec::new();
    for (place, token) in meaning.iter().enumerate() {
        let before = place.checked_sub(1).and_then(|i| meaning.get(i));
        let next = meaning.get(place + 1);
        match token.token {
            Token::LParen => open.push(before.and_then(|t| keyword(t)) == Some(Keyword::SUBSTRING)),
            Token::RParen => drop(open.pop()),
            _ => {}
        }
        match keyword(token) {
            Some(Keyword::ONLY) if before.is_some_and(|t| precedes_table(t)) => {}
            Some(Keyword::FROM) if place >= 2 && is_side(before) && is_open(meaning.get(place - 2)) => {}
            Some(Keyword::SIMILAR)
                if open.last() == Some(&true) && next.and_then(|t| keyword(t)) != Some(Keyword::TO) =>
            {
                out.push(comma(token));
            }
            Some(Keyword::ESCAPE) if open.last() == Some(&true) => out.push(comma(token)),
            _ => out.push((*token).clone()),
        }
    }
    Cow::Owned(out)
}

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

/// ONLY is a reserved word: before a table it says that tables below it in an inheritance, of which there are none, are not meant.
fn precedes_table(token: &TokenWithSpan) -> bool {
    matches!(keyword(token), Some(Keyword::FROM | Keyword::JOIN | Keyword::UPDATE)) || token.token == Token::Comma
}

fn is_side(token: Option<&&TokenWithSpan>) -> bool {
    let side = token.and_then(|t| keyword(t));
    matches!(side, Some(Keyword::BOTH | Keyword::LEADING | Keyword::TRAILING))
}

fn is_open(token: Option<&&TokenWithSpan>) -> bool {
    token.is_some_and(|t| t.token == Token::LParen)
}

fn comma(token: &TokenWithSpan) -> TokenWithSpan {
    TokenWithSpan { token: Token::Comma, span: token.span }
}
