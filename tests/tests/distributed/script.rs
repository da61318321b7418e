//! The statements of `queries.sql` answer as PostgreSQL 15 does (`answers.txt`, written by `regenerate.sh`).

use super::cluster::Cluster;

const QUERIES: &str = include_str!("queries.sql");
const ANSWERS: &str = include_str!("answers.txt");

/// Statements, one a line; what Toroid alone understands stands in comments.
fn statements() -> impl Iterator<Item = String> {
    QUERIES
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("--"))
        .map(|line| line.replace("/*", "").replace("*/", "").trim_end_matches(';').to_owned())
}

/// Answers, each behind a line `> statement`; rows of a statement without ORDER BY in any order.
fn expected() -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for line in ANSWERS.lines() {
        match (line.strip_prefix("> "), all.last_mut()) {
            (Some(statement), _) => all.push((statement.to_owned(), Vec::new())),
            (None, Some((_, rows))) => rows.push(line.to_owned()),
            (None, None) => panic!("answers.txt begins with a row"),
        }
    }
    all
}

fn run_all(workers: u32) {
    let mut cluster = Cluster::new(workers);
    let mut failures = Vec::new();
    let expected = expected();
    let mut expected = expected.iter();
    for statement in statements() {
        let outcome = cluster.run(&statement);
        if statement.starts_with("create") || statement.starts_with("insert") {
            outcome.unwrap_or_else(|error| panic!("{statement}: {error}"));
            continue;
        }
        let (asked, rows) = expected.next().expect("answers.txt is not of these queries: run regenerate.sh");
        assert_eq!(*asked, statement, "answers.txt is not of these queries: run regenerate.sh");
        let mut answer = outcome.unwrap_or_else(|error| vec![format!("ERROR {}", error)]);
        let mut rows = rows.clone();
        if !statement.contains("order by") {
            answer.sort();
            rows.sort();
        }
        if answer != rows {
            failures.push(format!("{statement}\n  got      {answer:?}\n  expected {rows:?}"));
        }
    }
    assert!(failures.is_empty(), "{} differ with {workers} workers:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn one_worker_answers_as_postgresql() {
    run_all(1);
}

#[test]
fn three_workers_answer_as_postgresql() {
    run_all(3);
}
