//! Names and calls that do not belong where they stand.

use super::Violation;
use super::scan::{Source, Token, closing};

const PURE: &str = "pure core";
const PLACES: &str = "library in its place";
const MACROS: &str = "no unfinished code";
const UNWRAP: &str = "no unwrap";
const MODULES: &str = "module names";

const PURE_CRATES: &[&str] = &["common/src", "common/tests", "common/benches", "storage-node/engine"];
const NO_UNWRAP: &[&str] = &["common", "storage-node", "proxy"];

/// Words that mean a clock, chance, threads, locks, sockets or another runtime.
const FORBIDDEN: &[&str] = &[
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "thread_rng",
    "tokio",
    "Mutex",
    "RwLock",
    "Condvar",
    "Barrier",
    "mpsc",
    "unsafe",
    "RandomState",
    "AHashMap",
    "AHashSet",
    "DefaultHasher",
    "datafusion",
    "openraft",
    "async_std",
    "crossbeam",
    "parking_lot",
    "getrandom",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
];

/// Sources of the pure crates that may name one atomic, with the reason.
const ADMITTED_ATOMICS: &[(&str, &str)] = &[(
    "common/src/env.rs",
    "random() gives each row and each call another value of the sequence that the statement's seed fixes, while threads share the environment",
)];

/// Last parts of `std::…` that reach out of the process.
const OUTWARD: &[&str] = &["thread", "process"];

/// A library's name, and the only places where it may stand.
const LIBRARIES: &[(&str, &[&str])] = &[
    (
        "datafusion",
        &[
            "common/query",
            "proxy/src/lower",
            "proxy/src/lower.rs",
            "proxy/src/merge",
            "proxy/src/merge.rs",
            "storage-node/src/fragment",
            "storage-node/src/fragment.rs",
        ],
    ),
    (
        "datafusion_proto",
        &[
            "common/query",
            "proxy/src/lower",
            "proxy/src/merge",
            "storage-node/src/fragment",
            "storage-node/src/fragment.rs",
        ],
    ),
    ("sqlparser", &["proxy/src/parse", "proxy/src/parse.rs", "proxy/src/bind", "proxy/src/bind.rs"]),
    ("openraft", &["storage-node/src/metadata"]),
    ("tokio", &["storage-node/src", "storage-node/tests", "proxy", "cli", "common/query", "tests"]),
];

const BANNED_MODULES: &[&str] = &["util", "utils", "helper", "helpers", "manager", "managers", "misc"];

pub fn check(source: &Source, found: &mut Vec<Violation>) {
    let tokens = source.tokens();
    if source.is_under(PURE_CRATES) && !source.path.starts_with("common/query") {
        pure(source, &tokens, found);
    }
    libraries(source, &tokens, found);
    unfinished(source, &tokens, found);
    if source.is_under(NO_UNWRAP) {
        unwraps(source, &tokens, found);
    }
    modules(source, &tokens, found);
}

fn text<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at).map_or("", |token| token.text)
}

fn pure(source: &Source, tokens: &[Token<'_>], found: &mut Vec<Violation>) {
    let atomics_admitted = ADMITTED_ATOMICS.iter().any(|(path, _)| source.path == *path);
    for (at, token) in tokens.iter().enumerate() {
        let next = |n: usize| text(tokens, at + n);
        let path = next(1) == ":" && next(2) == ":";
        let atomic = !atomics_admitted
            && token.text.strip_prefix("Atomic").is_some_and(|rest| rest.starts_with(|c: char| c.is_uppercase()));
        let chance = token.text == "rand" && path;
        let outward = token.text == "std"
            && path
            && (OUTWARD.contains(&next(3)) || next(3) == "fs" && !source.is_test(token.line));
        let now = matches!(token.text, "Utc" | "Local") && path && next(3) == "now";
        if FORBIDDEN.contains(&token.text) || atomic || chance || outward || now {
            let name = if outward { format!("std::{}", next(3)) } else { token.text.to_owned() };
            found.push(Violation::new(source, token.line, PURE, format!("{name} has no place in common and engine")));
        }
        let parts = match token.text {
            "HashMap" => 3,
            "HashSet" => 2,
            _ => continue,
        };
        if random_hash(tokens, at, parts) {
            let what = format!("{} with the random default hasher: name a fixed one, or use BTreeMap", token.text);
            found.push(Violation::new(source, token.line, PURE, what));
        }
    }
}

/// Whether the map or set named at `at` takes the default hasher: fewer type arguments than `parts`, or made by `new` and its like.
fn random_hash(tokens: &[Token<'_>], at: usize, parts: usize) -> bool {
    if text(tokens, at + 1) == ":" && text(tokens, at + 2) == ":" {
        return matches!(text(tokens, at + 3), "new" | "with_capacity" | "from" | "from_iter");
    }
    if text(tokens, at + 1) != "<" {
        return false;
    }
    let (mut depth, mut arguments, mut index) = (0usize, 1, at + 1);
    while let Some(token) = tokens.get(index) {
        match token.text {
            "<" => depth += 1,
            ">" if text(tokens, index - 1) != "-" => depth -= 1,
            "," if depth == 1 && text(tokens, index + 1) != ">" => arguments += 1,
            "(" | "[" => index = closing(tokens, index),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        index += 1;
    }
    arguments < parts
}

fn libraries(source: &Source, tokens: &[Token<'_>], found: &mut Vec<Violation>) {
    for (at, token) in tokens.iter().enumerate() {
        let Some((library, places)) = LIBRARIES.iter().find(|(library, _)| *library == token.text) else { continue };
        let named =
            text(tokens, at + 1) == ":" && text(tokens, at + 2) == ":" || at > 0 && text(tokens, at - 1) == "use";
        if named && !source.is_under(places) {
            found.push(Violation::new(
                source,
                token.line,
                PLACES,
                format!("{library} belongs to {}", places.join(", ")),
            ));
        }
    }
}

fn unfinished(source: &Source, tokens: &[Token<'_>], found: &mut Vec<Violation>) {
    for pair in tokens.windows(2).filter(|pair| pair[1].text == "!") {
        if matches!(pair[0].text, "todo" | "unimplemented" | "dbg") {
            found.push(Violation::new(source, pair[0].line, MACROS, format!("{}!", pair[0].text)));
        }
    }
}

fn unwraps(source: &Source, tokens: &[Token<'_>], found: &mut Vec<Violation>) {
    for (at, token) in tokens.iter().enumerate().skip(1) {
        let call = text(tokens, at - 1) == "." && text(tokens, at + 1) == "(";
        if !call || !matches!(token.text, "unwrap" | "expect") || source.is_test(token.line) {
            continue;
        }
        let argument = text(tokens, at + 2);
        // A parser's own `expect(token)?` is another matter: the one of Option and Result takes a text, and its value is at hand.
        let end = closing(tokens, at + 1);
        let own = text(tokens, end + 1) == "?";
        let panics = token.text == "unwrap" && argument == ")"
            || token.text == "expect" && !own && matches!(argument, "\"" | "&" | "concat");
        if !panics {
            continue;
        }
        let end = tokens[end].line;
        let excused = source.comments.iter().any(|comment| {
            (token.line - 1..=end).contains(&comment.line)
                && comment.text.strip_prefix("infallible:").is_some_and(|why| !why.trim().is_empty())
        });
        if !excused {
            let what = format!("{} outside tests: answer an error, or say `// infallible: why`", token.text);
            found.push(Violation::new(source, token.line, UNWRAP, what));
        }
    }
}

fn modules(source: &Source, tokens: &[Token<'_>], found: &mut Vec<Violation>) {
    for part in source.path.trim_end_matches(".rs").split('/').filter(|part| BANNED_MODULES.contains(part)) {
        found.push(Violation::new(source, 1, MODULES, format!("{part} says nothing of what is in it")));
    }
    for pair in tokens.windows(2).filter(|pair| pair[0].text == "mod" && BANNED_MODULES.contains(&pair[1].text)) {
        found.push(Violation::new(
            source,
            pair[0].line,
            MODULES,
            format!("{} says nothing of what is in it", pair[1].text),
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::tidy::broken;

    #[test]
    fn cores_have_no_clock_chance_or_threads() {
        let samples = [
            "use std::time::Instant;",
            "fn f() { std::thread::spawn(g) }",
            "let x = rand::random();",
            "use std::sync::Mutex;",
            "static N: AtomicU64 = X;",
            "unsafe fn f() {}",
            "fn f() { std::fs::read(p) }",
            "use std::net::TcpStream;",
            "type A = RandomState;",
            "use std::sync::mpsc::channel;",
            "let a = Utc::now();",
        ];
        for sample in samples {
            assert!(broken("storage-node/engine/src/a.rs", sample).contains(&"pure core"), "{sample}");
            assert!(
                broken("storage-node/engine/tests/a.rs", sample).contains(&"pure core") || sample.contains("fs::"),
                "{sample}"
            );
            assert!(!broken("storage-node/src/a.rs", sample).contains(&"pure core"), "{sample}");
        }
        assert_eq!(broken("common/src/a.rs", "// An Instant is not here.\nconst A: &str = \"Mutex\";"), [""; 0]);
        assert_eq!(broken("common/src/a.rs", "use std::sync::Arc;\nlet atomic = Atomicity;"), [""; 0]);
        assert_eq!(broken("common/src/env.rs", "struct Draws(AtomicU64);"), [""; 0]);
        assert!(broken("common/src/env.rs", "struct Draws(Mutex<u64>);").contains(&"pure core"));
    }

    #[test]
    fn cores_hash_without_chance() {
        for sample in ["fn f(a: HashMap<u8, (A, B)>) {}", "let a = HashMap::new();", "fn f(a: HashSet<Vec<u8>>) {}"] {
            assert_eq!(broken("common/src/a.rs", sample), ["pure core"], "{sample}");
            assert_eq!(broken("proxy/src/a.rs", sample), [""; 0], "{sample}");
        }
        assert_eq!(
            broken("common/src/a.rs", "fn f(a: HashMap<u8, fn(A) -> B, Fixed>, b: HashSet<u8, Fixed>) {}"),
            [""; 0]
        );
    }

    #[test]
    fn libraries_keep_their_places() {
        assert_eq!(broken("proxy/src/execute/a.rs", "use datafusion::prelude::col;"), ["library in its place"]);
        assert_eq!(broken("proxy/src/session.rs", "fn f(a: sqlparser::ast::Statement) {}"), ["library in its place"]);
        assert_eq!(broken("storage-node/src/listener.rs", "use openraft::Raft;"), ["library in its place"]);
        assert_eq!(broken("proxy/src/lower/a.rs", "use datafusion::prelude::col;"), [""; 0]);
        assert_eq!(broken("proxy/src/bind/a.rs", "use sqlparser::ast;"), [""; 0]);
        assert_eq!(broken("proxy/src/lowering.rs", "use datafusion::prelude::col;"), ["library in its place"]);
    }

    #[test]
    fn nothing_is_left_unfinished() {
        for sample in ["fn f() { todo!() }", "fn f() { unimplemented!(\"x\") }", "fn f() { dbg!(x); }"] {
            assert_eq!(broken("tests/src/a.rs", sample), ["no unfinished code"], "{sample}");
        }
    }

    #[test]
    fn unwraps_stay_in_tests() {
        let bad = ["fn f() { a.unwrap(); }", "fn f() { a\n.expect(\"b\"); }", "fn f() { a.unwrap() } // infallible:"];
        for sample in bad {
            assert_eq!(broken("proxy/src/a.rs", sample), ["no unwrap"], "{sample}");
        }
        let good = [
            "fn f() { a.unwrap_or(b); }",
            "fn f() { a.unwrap() } // infallible: just checked",
            "fn f() {\n// infallible: just checked\na.unwrap() }",
            "#[cfg(test)]\nmod tests { fn f() { a.unwrap() } }",
            "fn f() { self.expect(Token::Comma) }",
            "fn f() { cursor.expect(\"as\")?; }",
        ];
        for sample in good {
            assert_eq!(broken("proxy/src/a.rs", sample), [""; 0], "{sample}");
        }
        assert_eq!(broken("cli/src/a.rs", "fn f() { a.unwrap(); }"), [""; 0]);
    }

    #[test]
    fn modules_are_named_by_what_they_hold() {
        assert_eq!(broken("proxy/src/utils.rs", ""), ["module names"]);
        assert_eq!(broken("proxy/src/helpers/a.rs", ""), ["module names"]);
        assert_eq!(broken("proxy/src/lib.rs", "mod misc;"), ["module names"]);
        assert_eq!(broken("proxy/src/managed.rs", ""), [""; 0]);
    }
}
