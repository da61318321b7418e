//! Which crate may depend on which, and in which order a crate's modules stand.

use super::scan::{self, Source, Token};
use super::{Tree, Violation};

const ARROWS: &str = "crate arrows";
const ORDER: &str = "mod order";
const VERSIONS: &str = "workspace versions";

/// What a manifest may name: of our own crates only `ours`, of others none of `never`.
struct Arrow {
    manifest: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const RULES: &[Arrow] = &[
    Arrow { manifest: "common/Cargo.toml", ours: &[], never: &["tokio", "datafusion", "mio", "rand", "openraft"] },
    Arrow {
        manifest: "storage-node/engine/Cargo.toml",
        ours: &["toroid-common"],
        never: &["tokio", "datafusion", "mio", "rand", "openraft", "chrono"],
    },
    Arrow { manifest: "common/query/Cargo.toml", ours: &["toroid-common"], never: &["openraft"] },
    Arrow {
        manifest: "storage-node/Cargo.toml",
        ours: &["toroid-common", "toroid-query", "toroid-engine"],
        never: &["sqlparser", "pgwire"],
    },
    Arrow { manifest: "proxy/Cargo.toml", ours: &["toroid-common", "toroid-query"], never: &["openraft", "imbl"] },
    Arrow {
        manifest: "cli/Cargo.toml",
        ours: &["toroid-common", "toroid-proxy", "toroid-storage-node"],
        never: &["datafusion", "sqlparser", "openraft"],
    },
];

/// A dependency line of a manifest: (line, name, whole line).
fn dependencies(text: &str) -> Vec<(usize, &str, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).ends_with("dependencies") && !line.contains("workspace.");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            found.push((number + 1, name, line));
        }
    }
    found
}

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in &tree.manifests {
        manifest(path, text, &mut found);
    }
    for root in tree.sources.iter().filter(|s| s.path.ends_with("src/lib.rs") || s.path.ends_with("src/main.rs")) {
        mod_order(tree, root, &mut found);
    }
    found
}

fn manifest(path: &str, text: &str, found: &mut Vec<Violation>) {
    let mut breach = |line, rule, what| found.push(Violation { path: path.to_owned(), line, rule, what });
    for (line, name, whole) in dependencies(text) {
        if !whole.contains("workspace = true") {
            breach(
                line,
                VERSIONS,
                format!("{name} takes its version from [workspace.dependencies]: write {name}.workspace = true"),
            );
        }
        let Some(rule) = RULES.iter().find(|rule| rule.manifest == path) else { continue };
        let stranger = name.starts_with("toroid") && !rule.ours.contains(&name);
        let banned = rule.never.iter().any(|never| name == *never || name.starts_with(&format!("{never}-")));
        if stranger || banned {
            breach(line, ARROWS, format!("this crate must not depend on {name}"));
        }
    }
}

/// The modules of a crate's root in the order of their lines.
fn declared(root: &Source) -> Vec<String> {
    let tokens = root.tokens();
    let plain = tokens.windows(3).filter(|w| w[0].text == "mod" && w[1].is_word() && matches!(w[2].text, ";" | "{"));
    plain.map(|w| w[1].text.to_owned()).collect()
}

fn mod_order(tree: &Tree, root: &Source, found: &mut Vec<Violation>) {
    let modules = declared(root);
    let folder = root.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for source in &tree.sources {
        let Some(inside) = source.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let top = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let Some(place) = modules.iter().position(|module| module == top) else { continue };
        for (line, name) in uses_of_crate(&source.tokens()) {
            let used = modules.iter().position(|module| module == name);
            if used.is_some_and(|used| used > place) {
                let what = format!("{top} uses crate::{name}, which is declared below it in {}", root.path);
                found.push(Violation::new(source, line, ORDER, what));
            }
        }
    }
}

/// The first names after `crate::`, in paths and in groups such as `use crate::{a::b, c}`.
fn uses_of_crate<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let is_path = tokens[at].text == "crate" && tokens[at + 1..].iter().take(2).all(|t| t.text == ":");
        let Some(next) = tokens.get(at + 3).filter(|_| is_path) else { continue };
        if next.text != "{" {
            found.push((next.line, next.text));
            continue;
        }
        let end = scan::closing(tokens, at + 3);
        let mut depth = 0;
        for index in at + 3..end {
            match tokens[index].text {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            let begins = matches!(tokens[index].text, "{" | ",");
            if begins && depth == 1 && tokens[index + 1].is_word() {
                found.push((tokens[index + 1].line, tokens[index + 1].text));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
        check(&tree).into_iter().map(|v| format!("{}:{} {}", v.path, v.line, v.rule)).collect()
    }

    #[test]
    fn manifests_keep_the_arrows() {
        let bad = "[package]\nname = \"x\"\n[dependencies]\ntokio.workspace = true\ntoroid-engine.workspace = true\nbytes.workspace = true\n";
        assert_eq!(
            of(&[("common/Cargo.toml", bad)]),
            ["common/Cargo.toml:4 crate arrows", "common/Cargo.toml:5 crate arrows"]
        );
        assert_eq!(of(&[("storage-node/Cargo.toml", "[dev-dependencies]\ntoroid-proxy.workspace = true\n")]).len(), 1);
        assert_eq!(of(&[("proxy/Cargo.toml", "[dependencies]\ntoroid-storage-node.workspace = true\n")]).len(), 1);
        assert_eq!(of(&[("common/query/Cargo.toml", "[dependencies]\ntoroid-engine.workspace = true\n")]).len(), 1);
        assert_eq!(
            of(&[("storage-node/engine/Cargo.toml", "[dependencies]\ndatafusion-proto.workspace = true\n")]).len(),
            1
        );
        assert_eq!(of(&[("proxy/Cargo.toml", "[dependencies]\ntokio.workspace = true\n")]), [""; 0]);
    }

    #[test]
    fn versions_stand_in_the_workspace() {
        assert_eq!(
            of(&[("proxy/Cargo.toml", "[dependencies]\nbytes = \"1\"\n")]),
            ["proxy/Cargo.toml:2 workspace versions"]
        );
        assert_eq!(of(&[("Cargo.toml", "[workspace.dependencies]\nbytes = \"1\"\n")]), [""; 0]);
    }

    #[test]
    fn modules_use_only_those_above() {
        let root = ("common/src/lib.rs", "pub mod a;\npub mod b;\npub mod c;\n");
        assert_eq!(of(&[root, ("common/src/a.rs", "use crate::b::X;\n")]), ["common/src/a.rs:1 mod order"]);
        assert_eq!(
            of(&[root, ("common/src/b/deep.rs", "use crate::{a::X,\n c::{Y, b}};\n")]),
            ["common/src/b/deep.rs:2 mod order"]
        );
        assert_eq!(of(&[root, ("common/src/c.rs", "use crate::{a, b::{c}, c};\nfn f() { crate::a::g() }\n")]), [""; 0]);
    }
}
