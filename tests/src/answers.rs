//! Recorded answers: what PostgreSQL said to a script, in a file beside it; and the list of allowed differences.

use crate::outcome::Outcome;
use crate::script::Step;
use std::collections::BTreeMap;

/// Writes the answers to a script's steps.
pub fn render(answers: &[(Step, Outcome)]) -> String {
    let mut text = String::new();
    for (step, outcome) in answers {
        for line in step.sql.lines() {
            text.push_str("? ");
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&outcome.render());
        text.push('\n');
    }
    text
}

/// Reads recorded answers for the steps of a script; they must be of the same statements in the same order.
pub fn parse(text: &str, steps: &[Step]) -> Result<Vec<Outcome>, String> {
    let mut blocks = text.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty());
    let mut outcomes = Vec::new();
    for step in steps {
        let stale = || format!("line {}: the recorded answers are of another statement: record again", step.line);
        let block = blocks.next().ok_or_else(stale)?;
        let is_sql = |line: &&str| line.starts_with('?');
        let sql: Vec<&str> = block.lines().take_while(is_sql).map(|line| line.get(2..).unwrap_or("")).collect();
        if !sql.iter().copied().eq(step.sql.lines()) {
            return Err(stale());
        }
        let rest: Vec<&str> = block.lines().skip_while(is_sql).collect();
        outcomes.push(Outcome::parse(&rest.join("\n")).ok_or_else(stale)?);
    }
    Ok(outcomes)
}

/// How a listed statement may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Toroid answers 0A000, naming what it does not support.
    Unsupported,
    /// Toroid answers otherwise, for the reason given.
    Meant,
}

/// Differences that are meant, each with its reason, by script and statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    listed: BTreeMap<(String, String), Difference>,
}

impl Allowed {
    /// Reads lines `0A000 script.sql: statement` and `meant script.sql: statement`; the comment lines before a group are its reason.
    pub fn parse(text: &str) -> Result<Allowed, String> {
        let mut allowed = Allowed::default();
        let mut reason = false;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                reason = line.len() > 1;
                continue;
            }
            let wrong = || format!("neither `0A000 script.sql: statement` nor `meant script.sql: statement`: {line}");
            let (kind, rest) = line.split_once(' ').ok_or_else(wrong)?;
            let (script, sql) = rest.split_once(": ").ok_or_else(wrong)?;
            let kind = match kind {
                "0A000" => Difference::Unsupported,
                "meant" => Difference::Meant,
                _ => return Err(wrong()),
            };
            if !reason {
                return Err(format!("no reason for: {line}"));
            }
            allowed.listed.insert((script.to_owned(), one_line(sql)), kind);
        }
        Ok(allowed)
    }

    /// Whether this statement may differ, and does so as listed.
    pub fn covers(&self, script: &str, sql: &str, got: &Outcome) -> bool {
        match self.listed.get(&(script.to_owned(), one_line(sql))) {
            Some(Difference::Unsupported) => got.is_unsupported(),
            Some(Difference::Meant) => true,
            None => false,
        }
    }

    /// The listed differences of these scripts.
    pub fn of<'a>(&'a self, scripts: &'a [String]) -> impl Iterator<Item = &'a (String, String)> {
        self.listed.keys().filter(|(script, _)| scripts.contains(script))
    }
}

/// A statement on one line, spaces counted as one.
pub fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Line;
    use crate::script;

    #[test]
    fn recorded_answers_are_read_back() {
        let steps = script::parse("SELECT 1;\nSELECT\n\n 2;\n").expect("a script");
        let outcome = |tag: &str| Outcome { lines: vec![Line::Tag(tag.to_owned())] };
        let answers: Vec<_> = steps.iter().cloned().zip([outcome("A"), outcome("B")]).collect();
        let text = render(&answers);
        assert_eq!(parse(&text, &steps), Ok(vec![outcome("A"), outcome("B")]));
        assert!(parse(&text, &script::parse("SELECT 1;\nSELECT 3;\n").expect("a script")).is_err());
        assert!(parse(&text, &script::parse("SELECT 1;\nSELECT\n\n 2;\nSELECT 3;\n").expect("a script")).is_err());
    }

    #[test]
    fn differences_need_a_reason_and_a_kind() {
        let allowed = Allowed::parse("# Later.\n0A000 a.sql: SELECT   1\nmeant a.sql: SELECT 2\n").expect("a list");
        let error = |state: &str| Outcome {
            lines: vec![Line::Error { state: state.to_owned(), message: String::new(), position: None }],
        };
        assert!(
            allowed.covers("a.sql", "SELECT\n1", &error("0A000"))
                && !allowed.covers("a.sql", "SELECT 1", &error("XX000"))
        );
        assert!(
            allowed.covers("a.sql", "SELECT 2", &error("XX000"))
                && !allowed.covers("b.sql", "SELECT 2", &error("XX000"))
        );
        assert!(Allowed::parse("meant a.sql: SELECT 1\n").is_err());
        assert!(Allowed::parse("# Why.\n\nmeant a.sql: SELECT 1\n").is_err());
        assert!(Allowed::parse("# Why.\na.sql: SELECT 1\n").is_err());
    }
}
