//! A place in a statement's tokens, for the small parsers of statements that sqlparser does not know.

use super::lex;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::limits::MAX_IDENTIFIER_BYTES;

/// A name as written, with schema or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub schema: Option<String>,
    pub name: String,
    pub at: u32,
}

#[derive(Clone)]
pub struct Cursor<'a> {
    text: &'a str,
    tokens: &'a [TokenWithSpan],
    next: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str, tokens: &'a [TokenWithSpan]) -> Cursor<'a> {
        let mut cursor = Cursor { text, tokens, next: 0 };
        cursor.skip_blanks();
        cursor
    }

    pub fn text(&self) -> &'a str {
        self.text
    }

    fn skip_blanks(&mut self) {
        while self.tokens.get(self.next).is_some_and(lex::is_blank) {
            self.next += 1;
        }
    }

    pub fn peek(&self) -> Option<&'a TokenWithSpan> {
        self.tokens.get(self.next).filter(|t| t.token != Token::SemiColon && t.token != Token::EOF)
    }

    pub fn advance(&mut self) -> Option<&'a TokenWithSpan> {
        let token = self.peek()?;
        self.next += 1;
        self.skip_blanks();
        Some(token)
    }

    pub fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// The byte where the next token begins.
    pub fn byte(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), lex::start)
    }

    pub fn position(&self) -> u32 {
        match self.tokens.get(self.next) {
            Some(token) => lex::position(token.span).unwrap_or(1),
            None => self.text.chars().count() as u32 + 1,
        }
    }

    fn word(&self) -> Option<&'a Word> {
        match &self.peek()?.token {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Takes the next word if it is this keyword.
    pub fn take(&mut self, keyword: &str) -> bool {
        let found = self.word().is_some_and(|w| w.quote_style.is_none() && w.value.eq_ignore_ascii_case(keyword));
        if found {
            self.advance();
        }
        found
    }

    /// Takes all of these keywords or none.
    pub fn take_all(&mut self, keywords: &[&str]) -> bool {
        let mut ahead = self.clone();
        let found = keywords.iter().all(|k| ahead.take(k));
        if found {
            *self = ahead;
        }
        found
    }

    pub fn expect(&mut self, keyword: &str) -> SqlResult<()> {
        if self.take(keyword) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub fn take_token(&mut self, token: &Token) -> bool {
        let found = self.peek().is_some_and(|t| t.token == *token);
        if found {
            self.advance();
        }
        found
    }

    pub fn expect_token(&mut self, token: &Token) -> SqlResult<()> {
        if self.take_token(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub fn expect_end(&self) -> SqlResult<()> {
        if self.at_end() { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The syntax error at the next token.
    pub fn unexpected(&self) -> SqlError {
        lex::error_at(self.text, self.tokens.get(self.next))
    }

    /// An identifier, folded as PostgreSQL does.
    pub fn identifier(&mut self) -> SqlResult<String> {
        let word = self.word().ok_or_else(|| self.unexpected())?;
        self.advance();
        Ok(fold(&word.value, word.quote_style))
    }

    /// `name` or `schema.name`.
    pub fn name(&mut self) -> SqlResult<Name> {
        let at = self.position();
        let first = self.identifier()?;
        if !self.take_token(&Token::Period) {
            return Ok(Name { schema: None, name: first, at });
        }
        Ok(Name { schema: Some(first), name: self.identifier()?, at })
    }

    /// A parenthesised list of identifiers with their positions; the opening parenthesis is next.
    pub fn identifiers(&mut self) -> SqlResult<Vec<(String, u32)>> {
        self.expect_token(&Token::LParen)?;
        let mut list = Vec::new();
        loop {
            let at = self.position();
            list.push((self.identifier()?, at));
            if !self.take_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(list)
    }

    /// A string constant.
    pub fn string(&mut self) -> Option<String> {
        let value = match &self.peek()?.token {
            Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) | Token::UnicodeStringLiteral(s) => s.clone(),
            Token::DollarQuotedString(s) => s.value.clone(),
            _ => return None,
        };
        self.advance();
        Some(value)
    }

    /// The tokens up to the parenthesis that closes the one just taken, which is taken too.
    pub fn until_closed(&mut self) -> SqlResult<&'a [TokenWithSpan]> {
        let from = self.next;
        let mut depth = 1;
        while let Some(token) = self.peek() {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let inside = self.tokens.get(from..self.next).unwrap_or_default();
                self.advance();
                return Ok(inside);
            }
            self.advance();
        }
        Err(self.unexpected())
    }
}

/// Folds what is not quoted to lower case and cuts to PostgreSQL's length.
pub fn fold(value: &str, quote: Option<char>) -> String {
    let mut name = if quote.is_some() { value.to_owned() } else { value.to_ascii_lowercase() };
    if name.len() > MAX_IDENTIFIER_BYTES {
        let cut = (0..=MAX_IDENTIFIER_BYTES).rev().find(|i| name.is_char_boundary(*i)).unwrap_or(0);
        name.truncate(cut);
    }
    name
}
