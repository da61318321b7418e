//! Style as a test: what the source tree must look like, read textually so that it costs milliseconds and needs no build.
//!
//! `scan` turns a file into code without comments and literals; each other module holds the rules of one kind, and each rule has a
//! test that shows it failing.

pub mod scan;
pub mod arrows;
pub mod budget;
pub mod names;
pub mod prose;

use scan::Source;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One breach of one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub path: String,
    pub line: usize,
    pub rule: &'static str,
    pub what: String,
}

impl Violation {
    pub fn new(source: &Source, line: usize, rule: &'static str, what: impl Into<String>) -> Violation {
        Violation { path: source.path.clone(), line, rule, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.what)
    }
}

/// The workspace as tidy sees it: every Rust source and every manifest, by path from the root.
pub struct Tree {
    pub sources: Vec<Source>,
    pub manifests: Vec<(String, String)>,
}

impl Tree {
    /// Reads the workspace under `root`.
    pub fn read(root: &Path) -> io::Result<Tree> {
        let mut files = Vec::new();
        collect(root, &mut files)?;
        files.sort();
        let mut texts = Vec::new();
        for file in files {
            let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            texts.push((path, fs::read_to_string(&file)?));
        }
        Ok(Tree::of(texts))
    }

    /// A tree of the given texts: files ending in `.rs` are sources, `Cargo.toml` are manifests.
    pub fn of(texts: impl IntoIterator<Item = (String, String)>) -> Tree {
        let (mut sources, mut manifests) = (Vec::new(), Vec::new());
        for (path, text) in texts {
            match path.ends_with(".rs") {
                true => sources.push(Source::new(path, text)),
                false => manifests.push((path, text)),
            }
        }
        let outside: Vec<String> = sources.iter().flat_map(scan::test_files).collect();
        for source in &mut sources {
            let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
            if outside.iter().any(|test| stem == test || stem.starts_with(&format!("{test}/"))) {
                source.all_test = true;
            }
        }
        Tree { sources, manifests }
    }

    /// Every breach of every rule.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = arrows::check(self);
        for source in &self.sources {
            names::check(source, &mut found);
            budget::check(source, &mut found);
            prose::check(source, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") || name == "Cargo.toml" {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
fn sample(path: &str, text: &str) -> Vec<Violation> {
    Tree::of([(path.to_owned(), text.to_owned())]).violations()
}

/// The rules that a sample breaks, without its first-line rule when the sample has no first line.
#[cfg(test)]
fn broken(path: &str, text: &str) -> Vec<&'static str> {
    sample(path, &format!("//! Sample.\n{text}")).into_iter().map(|v| v.rule).collect()
}
