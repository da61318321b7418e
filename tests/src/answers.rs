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

/// Differences that are meant, each with its reason, by script and statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    reasons: BTreeMap<(String, String), String>,
}

impl Allowed {
    /// Reads lines `script.sql: statement`; the comment lines before one are its reason.
    pub fn parse(text: &str) -> Result<Allowed, String> {
        let mut allowed = Allowed::default();
        let mut reason = String::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix('#') {
                reason.push_str(comment.trim());
            } else if line.trim().is_empty() {
                reason.clear();
            } else {
                let (script, sql) = line.split_once(": ").ok_or_else(|| format!("no script's name in: {line}"))?;
                if reason.is_empty() {
                    return Err(format!("no reason for: {line}"));
                }
                allowed.reasons.insert((script.to_owned(), one_line(sql)), reason.clone());
            }
        }
        Ok(allowed)
    }

    pub fn contains(&self, script: &str, sql: &str) -> bool {
        self.reasons.contains_key(&(script.to_owned(), one_line(sql)))
    }

    /// The listed differences of these scripts.
    pub fn of<'a>(&'a self, scripts: &'a [String]) -> impl Iterator<Item = &'a (String, String)> {
        self.reasons.keys().filter(|(script, _)| scripts.contains(script))
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
    fn differences_need_a_reason() {
        let allowed = Allowed::parse("# It is distributed.\na.sql: SELECT   1\n\n").expect("a list");
        assert!(allowed.contains("a.sql", "SELECT\n1") && !allowed.contains("b.sql", "SELECT 1"));
        assert!(Allowed::parse("a.sql: SELECT 1\n").is_err());
    }
}
