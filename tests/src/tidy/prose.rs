//! What must be said, and what must not stand in comments.

use super::Violation;
use super::scan::{Comment, Source, closing};

const FIRST: &str = "first doc line";
const REASON: &str = "reason on allow";
const MARKS: &str = "no open ends";
const DEAD: &str = "no commented-out code";

pub fn check(source: &Source, found: &mut Vec<Violation>) {
    if !source.text.starts_with("//! ") {
        found.push(Violation::new(source, 1, FIRST, "the first line is a `//!` line that says what the module is for"));
    }
    reasons(source, found);
    for comment in &source.comments {
        if open_end(&comment.text) {
            found.push(Violation::new(source, comment.line, MARKS, "TODO or FIXME without the number of its issue"));
        }
        if looks_like_code(comment) {
            found.push(Violation::new(source, comment.line, DEAD, comment.text.clone()));
        }
    }
}

fn reasons(source: &Source, found: &mut Vec<Violation>) {
    let tokens = source.tokens();
    for at in 1..tokens.len() {
        let attribute = matches!(tokens[at].text, "allow" | "expect") && matches!(tokens[at - 1].text, "[" | ",");
        if !attribute || tokens.get(at + 1).is_none_or(|next| next.text != "(") || !in_attribute(&tokens, at) {
            continue;
        }
        let end = closing(&tokens, at + 1);
        if !tokens[at..end].iter().any(|token| token.text == "reason") {
            found.push(Violation::new(
                source,
                tokens[at].line,
                REASON,
                format!("{} without reason = \"…\"", tokens[at].text),
            ));
        }
    }
}

/// Whether the word at `at` stands in `#[…]`: the nearest unclosed `[` before it follows `#` or `#!`.
fn in_attribute(tokens: &[super::scan::Token<'_>], at: usize) -> bool {
    let mut depth = 0;
    for index in (0..at).rev() {
        match tokens[index].text {
            ")" | "]" | "}" => depth += 1,
            "[" if depth == 0 => return index > 0 && matches!(tokens[index - 1].text, "#" | "!"),
            "(" | "[" if depth > 0 => depth -= 1,
            "{" | ";" => return false,
            _ => {}
        }
    }
    false
}

fn open_end(text: &str) -> bool {
    let mark = ["TODO", "FIXME"].iter().any(|mark| text.contains(mark));
    let numbered = text.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    mark && !numbered
}

/// A guess: a plain comment that ends as a statement or block does and begins as one does.
fn looks_like_code(comment: &Comment) -> bool {
    let text = comment.text.as_str();
    if comment.doc || text.contains('\n') {
        return false;
    }
    if matches!(text, "}" | "});" | "};" | "},") {
        return true;
    }
    let word = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (first, rest) = text.split_at(word);
    let keyword = matches!(
        first,
        "let"
            | "use"
            | "pub"
            | "fn"
            | "return"
            | "impl"
            | "struct"
            | "match"
            | "for"
            | "while"
            | "if"
            | "mod"
            | "const"
    );
    let call = ["(", "::", "!(", ".", " = ", " += "].iter().any(|mark| rest.starts_with(mark)) && !first.is_empty();
    let ends_statement = text.ends_with(';') && (keyword || call);
    ends_statement || text.ends_with('{') && (keyword || text.contains("=> {") || first == "else")
}

#[cfg(test)]
mod tests {
    use crate::tidy::{broken, sample};

    #[test]
    fn modules_say_what_they_are_for() {
        assert_eq!(sample("proxy/src/a.rs", "use a::b;\n").len(), 1);
        assert_eq!(sample("proxy/src/a.rs", "").len(), 1);
        assert_eq!(sample("proxy/src/a.rs", "//! Says it.\n").len(), 0);
    }

    #[test]
    fn allows_give_reasons() {
        let bad = [
            "#[allow(dead_code)]\nfn f() {}",
            "#![allow(unused)]",
            "#[cfg_attr(test, allow(x))]\nfn f() {}",
            "#[expect(dead_code)]\nfn f() {}",
        ];
        for text in bad {
            assert_eq!(broken("proxy/src/a.rs", text), ["reason on allow"], "{text}");
        }
        let good = [
            "#[allow(dead_code, reason = \"read by the debugger\")]\nfn f() {}",
            "fn f() { [a, expect(b)] }",
            "#[derive(Debug)]\nstruct A;",
        ];
        for text in good {
            assert_eq!(broken("proxy/src/a.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn open_ends_name_their_issue() {
        assert_eq!(broken("proxy/src/a.rs", &format!("// {}: later", "TODO")), ["no open ends"]);
        assert_eq!(broken("proxy/src/a.rs", &format!("/// {} x", "FIXME")), ["no open ends"]);
        assert_eq!(broken("proxy/src/a.rs", &format!("// {} #12: later", "TODO")), [""; 0]);
    }

    #[test]
    fn dead_code_is_removed() {
        for text in ["// let a = b;", "// self.close(x);", "// }", "// if a {", "// foo::bar();", "// a = b;"] {
            assert_eq!(broken("proxy/src/a.rs", text), ["no commented-out code"], "{text}");
        }
        for text in [
            "// The root is cheap (nanoseconds);",
            "// see `a` = b",
            "/// let a = b;",
            "// for a later one",
            "// Wait; then go.",
        ] {
            assert_eq!(broken("proxy/src/a.rs", text), [""; 0], "{text}");
        }
    }
}
