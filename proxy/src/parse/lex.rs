//! Tokens with byte offsets and PostgreSQL's positions, and the errors of the lexer and of the grammar.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError, Whitespace};
use toroid_common::error::{SqlError, SqlResult, SqlState};

/// The tokens of a text, blanks included, with locations as [`super`] describes them.
pub fn tokens(text: &str) -> SqlResult<Vec<TokenWithSpan>> {
    let dialect = PostgreSqlDialect {};
    let mut places = Places::new(text);
    let mut tokens = Vec::with_capacity(text.len() / 4);
    let result =
        Tokenizer::new(&dialect, text).tokenize_with_location_into_buf_with_mapper(&mut tokens, |mut token| {
            token.span = Span::new(places.find(token.span.start), places.find(token.span.end));
            token
        });
    match result {
        Ok(()) => {
            refuse_hexadecimal(text, &tokens)?;
            joined_strings(text, tokens)
        }
        Err(error) => Err(lexical_error(text, tokens.last().map_or(0, end), &error)),
    }
}

/// `0x1F` is no number yet in PostgreSQL 15.
fn refuse_hexadecimal(text: &str, tokens: &[TokenWithSpan]) -> SqlResult<()> {
    let is_number = |t: &&TokenWithSpan| {
        matches!(t.token, Token::HexStringLiteral(_)) && text.get(start(t)..).is_some_and(|s| s.starts_with('0'))
    };
    match tokens.iter().find(is_number) {
        None => Ok(()),
        Some(token) => {
            let near: String = text.get(start(token)..).unwrap_or_default().chars().take(2).collect();
            let message = format!("trailing junk after numeric literal at or near \"{near}\"");
            Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(position(token.span).unwrap_or(1)))
        }
    }
}

/// Strings with nothing but white space and a line's end between them are one; on one line they are an error.
fn joined_strings(source: &str, tokens: Vec<TokenWithSpan>) -> SqlResult<Vec<TokenWithSpan>> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // How long `out` was behind the last string, while only blanks with a line's end followed it.
    let mut string: Option<(usize, bool)> = None;
    for token in tokens {
        match &token.token {
            Token::SingleQuotedString(more) => {
                if let Some((_, false)) = string {
                    return Err(error_at(source, Some(&token)));
                }
                if let Some((length, true)) = string {
                    out.truncate(length);
                    if let Some(TokenWithSpan { token: Token::SingleQuotedString(text), span }) = out.last_mut() {
                        text.push_str(more);
                        span.end = token.span.end;
                        continue;
                    }
                }
                out.push(token);
                string = Some((out.len(), false));
            }
            Token::Whitespace(blank) => {
                let ends = matches!(blank, Whitespace::Newline | Whitespace::SingleLineComment { .. });
                string = string.map(|(length, ended)| (length, ended || ends));
                out.push(token);
            }
            _ => {
                string = None;
                out.push(token);
            }
        }
    }
    Ok(out)
}

/// Walks a text once and turns sqlparser's lines and columns, asked for in order, into offsets and positions.
struct Places<'a> {
    rest: std::str::Chars<'a>,
    line: u64,
    column: u64,
    byte: u64,
    position: u64,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Places<'a> {
        Places { rest: text.chars(), line: 1, column: 1, byte: 0, position: 1 }
    }

    fn find(&mut self, place: Location) -> Location {
        while (self.line, self.column) < (place.line, place.column) {
            let Some(c) = self.rest.next() else { break };
            self.byte += c.len_utf8() as u64;
            self.position += 1;
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        Location::new(self.byte + 1, self.position)
    }
}

/// Byte offset of a token's first byte.
pub fn start(token: &TokenWithSpan) -> usize {
    offset(token.span.start)
}

/// Byte offset behind a token's last byte.
pub fn end(token: &TokenWithSpan) -> usize {
    offset(token.span.end)
}

fn offset(location: Location) -> usize {
    usize::try_from(location.line).unwrap_or(1).saturating_sub(1)
}

/// White space and comments.
pub fn is_blank(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

/// PostgreSQL's position of a rewritten span; `None` for the empty one.
pub fn position(span: Span) -> Option<u32> {
    u32::try_from(span.start.column).ok().filter(|p| *p > 0)
}

/// `syntax error at or near "…"`, or at the end of input.
pub fn error_at(text: &str, token: Option<&TokenWithSpan>) -> SqlError {
    match token {
        Some(token) if token.token != Token::EOF && end(token) > start(token) => {
            let near = text.get(start(token)..end(token)).unwrap_or_default();
            let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{near}\""));
            error.at(position(token.span).unwrap_or(1))
        }
        _ => SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input").at(text.chars().count() as u32 + 1),
    }
}

/// The lexer always fails on the token that begins where the last good one ended.
fn lexical_error(text: &str, from: usize, error: &TokenizerError) -> SqlError {
    let near = text.get(from..).unwrap_or_default();
    if let [b'E' | b'e', b'\'', inside @ ..] = near.as_bytes()
        && let Some(error) = escape_error(inside)
    {
        return error.at(position_of(text, from));
    }
    let what = match near.as_bytes() {
        [b'/', b'*', ..] => "unterminated /* comment",
        [b'"', b'"', ..] => "zero-length delimited identifier",
        [b'"', ..] => "unterminated quoted identifier",
        [b'$', ..] => "unterminated dollar-quoted string",
        [b'\'', ..] | [_, b'\'', ..] | [b'U' | b'u', b'&', b'\'', ..] => "unterminated quoted string",
        _ => return generic(text, from, near, error),
    };
    SqlError::new(SqlState::SYNTAX_ERROR, format!("{what} at or near \"{near}\"")).at(position_of(text, from))
}

/// What is wrong with the bytes that `\x` and octal escapes make; `None` if the string does not end.
fn escape_error(inside: &[u8]) -> Option<SqlError> {
    let mut bytes = Vec::new();
    let mut rest = inside;
    loop {
        match rest {
            [b'\'', b'\'', after @ ..] => {
                bytes.push(b'\'');
                rest = after;
            }
            [b'\'', ..] => break,
            [b'\\', b'x', after @ ..] => rest = code(after, 16, 2, &mut bytes),
            [b'\\', b'0'..=b'7', ..] => rest = code(rest.get(1..)?, 8, 3, &mut bytes),
            [b'\\', _, after @ ..] => rest = after,
            [other, after @ ..] => {
                bytes.push(*other);
                rest = after;
            }
            [] => return None,
        }
    }
    let Err(invalid) = std::str::from_utf8(&bytes) else {
        return (!bytes.is_ascii()).then(|| SqlError::unsupported("a byte beyond ASCII by its code in a string"));
    };
    let end = invalid.error_len().map_or(bytes.len(), |length| invalid.valid_up_to() + length);
    let shown: Vec<String> =
        bytes.get(invalid.valid_up_to()..end)?.iter().map(|byte| format!("0x{byte:02x}")).collect();
    let message = format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" "));
    Some(SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message))
}

/// Appends the byte that up to `most` digits stand for, and answers what follows them.
fn code<'a>(digits: &'a [u8], radix: u32, most: usize, bytes: &mut Vec<u8>) -> &'a [u8] {
    let count = digits.iter().take(most).take_while(|b| char::from(**b).is_digit(radix)).count();
    let (own, rest) = digits.split_at(count);
    let value = own.iter().fold(0, |sum, b| sum * radix + char::from(*b).to_digit(radix).unwrap_or(0));
    bytes.push(value as u8);
    rest
}

fn generic(text: &str, from: usize, near: &str, error: &TokenizerError) -> SqlError {
    let word: String = near.chars().take_while(|c| !c.is_whitespace()).collect();
    SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{word}\""))
        .with_detail(error.message.clone())
        .at(position_of(text, from))
}

/// Characters from 1 for a byte offset.
pub fn position_of(text: &str, byte: usize) -> u32 {
    text.get(..byte).unwrap_or(text).chars().count() as u32 + 1
}
