//! A small scanner of Rust text: knows comments, strings, raw strings, char literals and lifetimes, and nothing of grammar.

/// A comment with the line it begins on (from 1), its text without slashes, and whether it is documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    pub line: usize,
    pub text: String,
    pub doc: bool,
}

/// A word or one punctuation character of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub line: usize,
    pub text: &'a str,
}

impl Token<'_> {
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// One source file.
pub struct Source {
    /// From the workspace's root, with slashes.
    pub path: String,
    pub text: String,
    /// The text with comments and the insides of literals blanked, line for line.
    pub code: String,
    pub comments: Vec<Comment>,
    /// Per line (from 0): inside an item under `#[cfg(test)]`.
    pub test_lines: Vec<bool>,
    /// A file of tests as a whole.
    pub all_test: bool,
}

impl Source {
    pub fn new(path: String, text: String) -> Source {
        let (code, comments) = blank(&text);
        let mut test_lines = vec![false; text.lines().count() + 1];
        for (first, last) in test_items(&tokens(&code)) {
            for line in first..=last.min(test_lines.len()) {
                test_lines[line - 1] = true;
            }
        }
        let all_test = path.split('/').rev().skip(1).any(|part| matches!(part, "tests" | "benches" | "examples"))
            && !path.starts_with("tests/src/")
            || path.ends_with("/tests.rs");
        Source { path, text, code, comments, test_lines, all_test }
    }

    pub fn tokens(&self) -> Vec<Token<'_>> {
        tokens(&self.code)
    }

    /// Whether line `line` (from 1) belongs to tests.
    pub fn is_test(&self, line: usize) -> bool {
        self.all_test || self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    /// Whether the file lies under one of these folders (or is one of these files).
    pub fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path
                .strip_prefix(place)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || place.ends_with('/'))
        })
    }
}

/// Splits blanked code into words and punctuation.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let length = if word > 0 { word } else { first.len_utf8() };
            if !first.is_whitespace() {
                found.push(Token { line: number + 1, text: &rest[..length] });
            }
            rest = &rest[length..];
        }
    }
    found
}

/// The index of the token that closes the bracket at `open`, or the last token.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len() - 1
}

/// Where the item that begins at `start` ends: at its first block's end or at a `;`, outside of parentheses and brackets.
pub fn item_end(tokens: &[Token<'_>], start: usize) -> Option<usize> {
    let mut index = start;
    while let Some(token) = tokens.get(index) {
        match token.text {
            "(" | "[" => index = closing(tokens, index),
            "{" => return Some(closing(tokens, index)),
            ";" => return Some(index),
            _ => {}
        }
        index += 1;
    }
    None
}

/// Whether the attribute that opens at `#` names `cfg` of `test`; gives the index after it.
fn test_attribute(tokens: &[Token<'_>], at: usize) -> Option<(bool, usize)> {
    if tokens.get(at)?.text != "#" || tokens.get(at + 1)?.text != "[" {
        return None;
    }
    let end = closing(tokens, at + 1);
    let has = |word: &str| tokens[at..end].iter().any(|t| t.text == word);
    Some((has("cfg") && has("test") && !has("not"), end + 1))
}

/// First and last line of each item under `#[cfg(test)]`.
fn test_items(tokens: &[Token<'_>]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match test_attribute(tokens, at) {
            Some((true, mut next)) => {
                while let Some((_, after)) = test_attribute(tokens, next) {
                    next = after;
                }
                let end = item_end(tokens, next).unwrap_or(tokens.len() - 1);
                found.push((tokens[at].line, tokens[end].line));
                at = end + 1;
            }
            Some((false, next)) => at = next,
            None => at += 1,
        }
    }
    found
}

/// Module files that this file declares under `#[cfg(test)]`, as paths without `.rs`.
pub fn test_files(source: &Source) -> Vec<String> {
    let tokens = source.tokens();
    let stem = source.path.trim_end_matches(".rs");
    let folder = match stem.rsplit_once('/') {
        Some((parent, "lib" | "main" | "mod")) => parent,
        _ => stem,
    };
    let declared = tokens.windows(3).filter(|w| w[0].text == "mod" && w[2].text == ";");
    declared.filter(|w| source.is_test(w[0].line)).map(|w| format!("{folder}/{}", w[1].text)).collect()
}

/// Blanks comments and the insides of literals, keeping lines and columns of bytes; collects the comments.
fn blank(text: &str) -> (String, Vec<Comment>) {
    let mut scan =
        Scan { text: text.as_bytes(), at: 0, line: 1, code: Vec::with_capacity(text.len()), comments: Vec::new() };
    while scan.at < scan.text.len() {
        scan.step();
    }
    (String::from_utf8_lossy(&scan.code).into_owned(), scan.comments)
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    code: Vec<u8>,
    comments: Vec<Comment>,
}

impl Scan<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn keep(&mut self) {
        let byte = self.peek(0);
        self.line += usize::from(byte == b'\n');
        self.code.push(byte);
        self.at += 1;
    }

    fn hide(&mut self) {
        let byte = self.peek(0);
        self.line += usize::from(byte == b'\n');
        self.code.push(if byte == b'\n' { b'\n' } else { b' ' });
        self.at += 1;
    }

    fn step(&mut self) {
        let after_word = self.at > 0 && is_word(self.text[self.at - 1]);
        match (self.peek(0), self.peek(1)) {
            (b'/', b'/') => self.line_comment(),
            (b'/', b'*') => self.block_comment(),
            (b'"', _) => self.string(),
            (b'\'', _) => self.quote(),
            (b'r', b'"' | b'#') if !after_word || matches!(self.text[self.at - 1], b'b' | b'c') => self.raw_string(),
            _ => self.keep(),
        }
    }

    fn line_comment(&mut self) {
        let (start, line) = (self.at, self.line);
        while self.at < self.text.len() && self.peek(0) != b'\n' {
            self.hide();
        }
        self.comment(start, line);
    }

    fn block_comment(&mut self) {
        let (start, line) = (self.at, self.line);
        let mut depth = 0;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => depth += 1,
                (b'*', b'/') => depth -= 1,
                _ => {
                    self.hide();
                    continue;
                }
            }
            self.hide();
            self.hide();
            if depth == 0 {
                break;
            }
        }
        self.comment(start, line);
    }

    fn comment(&mut self, start: usize, line: usize) {
        let text = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
        let doc = ["///", "//!", "/**", "/*!"].iter().any(|mark| text.starts_with(mark)) && !text.starts_with("////");
        let text = text.trim_start_matches(['/', '!', '*']).trim_end_matches(['*', '/']).trim().to_owned();
        self.comments.push(Comment { line, text, doc });
    }

    fn string(&mut self) {
        self.keep();
        while self.at < self.text.len() && self.peek(0) != b'"' {
            if self.peek(0) == b'\\' {
                self.hide();
            }
            self.hide();
        }
        self.keep_if_there();
    }

    fn raw_string(&mut self) {
        let mut hashes = 0;
        while self.peek(1 + hashes) == b'#' {
            hashes += 1;
        }
        if self.peek(1 + hashes) != b'"' {
            return self.keep();
        }
        for _ in 0..hashes + 2 {
            self.keep();
        }
        while self.at < self.text.len() && !(self.peek(0) == b'"' && (1..=hashes).all(|n| self.peek(n) == b'#')) {
            self.hide();
        }
        for _ in 0..=hashes {
            self.keep_if_there();
        }
    }

    /// A char literal, or the tick of a lifetime or label.
    fn quote(&mut self) {
        let width = match self.peek(1) {
            0xF0.. => 4,
            0xE0.. => 3,
            0xC0.. => 2,
            _ => 1,
        };
        let escaped = self.peek(1) == b'\\';
        self.keep();
        if escaped {
            self.hide();
            self.hide();
            while self.at < self.text.len() && self.peek(0) != b'\'' {
                self.hide();
            }
            self.keep_if_there();
        } else if self.peek(width) == b'\'' {
            for _ in 0..width {
                self.hide();
            }
            self.keep_if_there();
        }
    }

    fn keep_if_there(&mut self) {
        if self.at < self.text.len() {
            self.keep();
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        blank(text).0
    }

    #[test]
    fn strings_and_comments_are_blanked() {
        assert_eq!(code("a(\"b{\\\"\"); // c {"), "a(\"    \");       ");
        assert_eq!(code("x /* a /* b */ c */ y"), format!("x {:18}y", ""));
        assert_eq!(code("r#\"a\"{\"# b"), "r#\"   \"# b");
        assert_eq!(code("br\"{\" r#type"), "br\" \" r#type");
    }

    #[test]
    fn lifetimes_are_not_char_literals() {
        assert_eq!(
            code("fn f<'a>(x: &'a str) { '{' '\\'' '\\u{7d}' 'é' }"),
            "fn f<'a>(x: &'a str) { ' ' '  ' '      ' '  ' }"
        );
        assert_eq!(code("b'\"' 'label: loop"), "b' ' 'label: loop");
    }

    #[test]
    fn comments_keep_line_and_kind() {
        let comments = blank("//! Top.\nlet a; // why\n/// Doc.\n").1;
        let seen: Vec<_> = comments.iter().map(|c| (c.line, c.text.as_str(), c.doc)).collect();
        assert_eq!(seen, [(1, "Top.", true), (2, "why", false), (3, "Doc.", true)]);
    }

    #[test]
    fn test_regions_are_found() {
        let text = "fn a() {}\n#[cfg(test)]\n#[path = \"x\"]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(not(test))]\nfn d() {}\n";
        let source = Source::new("common/src/a.rs".into(), text.into());
        let marked: Vec<usize> = (1..=9).filter(|line| source.is_test(*line)).collect();
        assert_eq!(marked, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn files_of_tests_are_known() {
        let source = Source::new("common/src/key/mod.rs".into(), "#[cfg(test)]\nmod golden;\nmod code;\n".into());
        assert_eq!(test_files(&source), ["common/src/key/golden"]);
        assert!(Source::new("proxy/tests/x.rs".into(), String::new()).all_test);
        assert!(!Source::new("tests/src/x.rs".into(), String::new()).all_test);
    }
}
