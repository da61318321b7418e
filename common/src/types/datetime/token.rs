//! Text of dates, times and intervals cut into tokens.

use super::Fault;

/// A piece of date or time text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// Digits, perhaps with a point.
    Number(&'a str),
    /// Digits with colons, perhaps with a point.
    Time(&'a str),
    /// Digits and words joined by `-`, `/` or `.`.
    Date(&'a str),
    /// Letters; zone names contain more.
    Word(&'a str),
    /// A sign and digits, colons, point.
    Signed(&'a str),
    /// A sign and letters: an infinity.
    SignedWord(&'a str),
}

/// Cuts text into tokens; blanks and punctuation between them mean nothing.
pub(crate) fn tokenize(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    let mut tokens = Vec::with_capacity(8);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, token) = match first {
            c if c.is_ascii_whitespace() => (1, None),
            '0'..='9' => number_or_date(rest),
            '.' => {
                let length = 1 + run(tail(rest, 1), |b| b.is_ascii_digit());
                (length, Some(Token::Number(head(rest, length))))
            }
            'a'..='z' | 'A'..='Z' => word_or_date(rest),
            '+' | '-' => signed(rest)?,
            c if c.is_ascii_punctuation() => (1, None),
            _ => return Err(Fault::Format),
        };
        tokens.extend(token);
        rest = tail(rest, length);
    }
    Ok(tokens)
}

fn head(text: &str, length: usize) -> &str {
    text.get(..length).unwrap_or(text)
}

fn tail(text: &str, length: usize) -> &str {
    text.get(length..).unwrap_or("")
}

fn run(text: &str, belongs: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|b| !belongs(b)).unwrap_or(text.len())
}

fn number_or_date(text: &str) -> (usize, Option<Token<'_>>) {
    let digits = run(text, |b| b.is_ascii_digit());
    let after = tail(text, digits);
    match after.bytes().next() {
        Some(b':') => {
            let length = run(text, |b| b.is_ascii_digit() || b == b':' || b == b'.');
            (length, Some(Token::Time(head(text, length))))
        }
        Some(delimiter @ (b'-' | b'/' | b'.')) => {
            let next = after.as_bytes().get(1).copied().unwrap_or(b' ');
            if next.is_ascii_digit() {
                let second = 1 + run(tail(after, 1), |b| b.is_ascii_digit());
                let again = tail(after, second).bytes().next() == Some(delimiter);
                if again {
                    let length = digits + run(after, |b| b.is_ascii_alphanumeric() || b == delimiter);
                    return (
                        cut_iso_separator(text, length),
                        Some(Token::Date(head(text, cut_iso_separator(text, length)))),
                    );
                }
                let length = digits + second;
                let whole = head(text, length);
                let token = if delimiter == b'.' { Token::Number(whole) } else { Token::Date(whole) };
                return (length, Some(token));
            }
            if next.is_ascii_alphabetic() && delimiter != b'.' {
                let length = digits + run(after, |b| b.is_ascii_alphanumeric() || b == delimiter);
                return (length, Some(Token::Date(head(text, length))));
            }
            // A point without digits after it belongs to the number.
            let length = if delimiter == b'.' { digits + 1 } else { digits };
            (length, Some(Token::Number(head(text, length))))
        }
        _ => (digits, Some(Token::Number(head(text, digits)))),
    }
}

/// `2024-01-31T10:00`: the T ends the date.
fn cut_iso_separator(text: &str, length: usize) -> usize {
    head(text, length)
        .bytes()
        .position(|b| b == b'T' || b == b't')
        .filter(|at| {
            text.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit)
                && text.as_bytes().get(at.wrapping_sub(1)).is_some_and(u8::is_ascii_digit)
        })
        .unwrap_or(length)
}

fn word_or_date(text: &str) -> (usize, Option<Token<'_>>) {
    let letters = run(text, |b| b.is_ascii_alphabetic());
    let after = tail(text, letters).as_bytes();
    match after {
        [b'-' | b'/' | b'.', next, ..] if next.is_ascii_digit() => {
            let length = run(text, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/' | b'.'));
            (length, Some(Token::Date(head(text, length))))
        }
        [b'/' | b'_', ..] => {
            let length = run(text, |b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'));
            (length, Some(Token::Word(head(text, length))))
        }
        [b'0'..=b'9', ..] if letters >= 3 => {
            // A POSIX zone such as EST5EDT.
            let length = run(text, |b| b.is_ascii_alphanumeric());
            (length, Some(Token::Word(head(text, length))))
        }
        _ => (letters, Some(Token::Word(head(text, letters)))),
    }
}

fn signed(text: &str) -> Result<(usize, Option<Token<'_>>), Fault> {
    let blanks = 1 + run(tail(text, 1), |b| b.is_ascii_whitespace());
    let after = tail(text, blanks);
    match after.bytes().next() {
        Some(b'0'..=b'9' | b'.') => {
            let length = blanks + run(after, |b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-'));
            Ok((length, Some(Token::Signed(head(text, length)))))
        }
        Some(b) if b.is_ascii_alphabetic() => {
            let length = blanks + run(after, |b| b.is_ascii_alphabetic());
            Ok((length, Some(Token::SignedWord(head(text, length)))))
        }
        _ => Err(Fault::Format),
    }
}
