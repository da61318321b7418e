//! Parts of JSON text without building values: what `->` cuts out of json and, since jsonb is held in its normal form, of jsonb.

/// What a JSON text is at its outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

pub(super) fn kind(text: &str) -> Kind {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

/// One past the end of the string whose opening quote is at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// One past the end of the value at `at`; the text is known to be JSON.
fn value_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    let mut at = at;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' if depth == 0 => return at,
            b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    at + bytes.get(at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_whitespace()).count()
}

/// The members of an object: keys with their quotes, values as written.
pub(super) fn members(text: &str) -> Vec<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = skip_space(bytes, skip_space(bytes, 0) + 1);
    while bytes.get(at) == Some(&b'"') {
        let key_end = string_end(bytes, at);
        let value = skip_space(bytes, skip_space(bytes, key_end) + 1);
        let end = value_end(bytes, value);
        found.push((text.get(at..key_end).unwrap_or_default(), text.get(value..end).unwrap_or_default()));
        at = skip_space(bytes, skip_space(bytes, end) + 1);
    }
    found
}

/// The elements of an array, as written.
pub(super) fn elements(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = skip_space(bytes, skip_space(bytes, 0) + 1);
    while bytes.get(at).is_some_and(|b| *b != b']') {
        let end = value_end(bytes, at);
        found.push(text.get(at..end).unwrap_or_default());
        at = skip_space(bytes, skip_space(bytes, end) + 1);
    }
    found
}

/// A string without quotes and escapes.
pub(super) fn unquote(quoted: &str) -> String {
    let inner = quoted.trim();
    let inner = inner.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(inner);
    if !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut units: Vec<u16> = Vec::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = match (c, if c == '\\' { chars.next() } else { None }) {
            (_, Some('n')) => '\n',
            (_, Some('r')) => '\r',
            (_, Some('t')) => '\t',
            (_, Some('b')) => '\u{8}',
            (_, Some('f')) => '\u{c}',
            (_, Some('u')) => {
                let digits: String = chars.by_ref().take(4).collect();
                units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xfffd));
                continue;
            }
            (_, Some(other)) => other,
            (c, None) => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16_lossy(&units)
}

/// The member with a key; of several with the same the last.
pub(super) fn member<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    match kind(text) {
        Kind::Object => members(text).into_iter().rev().find(|(k, _)| unquote(k) == key).map(|(_, value)| value),
        _ => None,
    }
}

/// The element at a position; negative ones count from the end.
pub(super) fn element(text: &str, index: i64) -> Option<&str> {
    match kind(text) {
        Kind::Array => {
            let all = elements(text);
            let index = if index < 0 { index + all.len() as i64 } else { index };
            usize::try_from(index).ok().and_then(|index| all.get(index).copied())
        }
        _ => None,
    }
}

/// Follows a path of keys and positions.
pub(super) fn follow<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(text, |text, step| match kind(text) {
        Kind::Object => member(text, step),
        Kind::Array => element(text, step.trim().parse().ok()?),
        _ => None,
    })
}
