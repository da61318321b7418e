//! Forms of expressions and of FROM that sqlparser does not read, written as others that mean the same: ONLY, TRIM (BOTH FROM …), SUBSTRING (… SIMILAR … ESCAPE …),
//! ON CONFLICT (…) WHERE …, DROP INDEX CONCURRENTLY, and ON CONFLICT behind a list of values without FROM.

use super::lex;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};
use std::borrow::Cow;
use std::ops::Range;

/// The tokens of a statement with these forms replaced.
pub fn plain(tokens: Cow<'_, [TokenWithSpan]>) -> Cow<'_, [TokenWithSpan]> {
    let concerned = |t: &TokenWithSpan| {
        use Keyword as K;
        matches!(
            keyword(t),
            Some(K::ONLY | K::BOTH | K::LEADING | K::TRAILING | K::SIMILAR | K::CONFLICT | K::CONCURRENTLY)
        )
    };
    if !tokens.iter().any(concerned) {
        return tokens;
    }
    let meaning: Vec<&TokenWithSpan> = tokens.iter().filter(|t| !lex::is_blank(t)).collect();
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(meaning.len());
    // Whether each open parenthesis is that of a SUBSTRING.
    let mut open = Vec::new();
    let mut left_out = 0..0;
    let mut concurrently = None;
    for (place, token) in meaning.iter().enumerate() {
        if left_out.contains(&place) {
            continue;
        }
        let before = place.checked_sub(1).and_then(|i| meaning.get(i));
        let next = meaning.get(place + 1);
        match token.token {
            Token::LParen => open.push(before.and_then(|t| keyword(t)) == Some(Keyword::SUBSTRING)),
            Token::RParen => drop(open.pop()),
            _ => {}
        }
        match keyword(token) {
            Some(Keyword::CONCURRENTLY) if is_drop_index(&out) => concurrently = Some(token.span),
            Some(Keyword::CONFLICT) => {
                if is_open(next) {
                    left_out = condition(&meaning, place + 1);
                }
                end_list(&mut out);
                out.push((*token).clone());
            }
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
    if let Some(span) = concurrently {
        // sqlparser reads this word for other systems, where an index is dropped at once: it is how the binder hears of CONCURRENTLY.
        let end = out.iter().position(|t| t.token == Token::SemiColon).unwrap_or(out.len());
        out.insert(end, TokenWithSpan { token: Token::make_keyword("PURGE"), span });
    }
    Cow::Owned(out)
}

fn is_drop_index(tokens: &[TokenWithSpan]) -> bool {
    matches!(tokens, [drop, index] if keyword(drop) == Some(Keyword::DROP) && keyword(index) == Some(Keyword::INDEX))
}

/// The condition behind the columns of ON CONFLICT, which chooses among partial indexes: there are none, and whole ones always serve.
fn condition(tokens: &[&TokenWithSpan], open: usize) -> Range<usize> {
    let is = |at: usize, wanted| tokens.get(at).and_then(|t| keyword(t)) == Some(wanted);
    let closed = (open..tokens.len()).find(|at| tokens.get(*at).is_some_and(|t| t.token == Token::RParen));
    let Some(start) = closed.map(|closed| closed + 1).filter(|at| is(*at, Keyword::WHERE)) else { return 0..0 };
    let end = (start..tokens.len())
        .find(|at| is(*at, Keyword::DO) && (is(at + 1, Keyword::NOTHING) || is(at + 1, Keyword::UPDATE)));
    end.map_or(0..0, |end| start..end)
}

/// Between a list of values and ON, the last token so far, comes a condition that always holds: sqlparser would take ON for the name of the last value.
fn end_list(tokens: &mut Vec<TokenWithSpan>) {
    use Keyword as K;
    let mut depth = 0;
    let clause = tokens.iter().enumerate().rev().find_map(|(place, token)| {
        match token.token {
            Token::RParen => depth += 1,
            Token::LParen => depth -= 1,
            _ => {}
        }
        let clause = keyword(token).filter(|_| depth == 0)?;
        let before = place.checked_sub(1).and_then(|i| tokens.get(i)).and_then(keyword);
        let distinct = clause == K::FROM && before == Some(K::DISTINCT);
        let ends_list = matches!(
            clause,
            K::FROM
                | K::WHERE
                | K::GROUP
                | K::HAVING
                | K::WINDOW
                | K::UNION
                | K::INTERSECT
                | K::EXCEPT
                | K::ORDER
                | K::LIMIT
                | K::OFFSET
                | K::FETCH
                | K::FOR
                | K::VALUES
                | K::TABLE
        );
        (clause == K::SELECT || ends_list && !distinct).then_some(clause)
    });
    if clause == Some(Keyword::SELECT)
        && tokens.last().is_some_and(|t| keyword(t) == Some(Keyword::ON))
        && let Some(on) = tokens.pop()
    {
        for word in ["WHERE", "TRUE"] {
            tokens.push(TokenWithSpan { token: Token::make_keyword(word), span: on.span });
        }
        tokens.push(on);
    }
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
