//! Every statement of tests/compare, run on a fresh cluster, gets the answer that PostgreSQL gave.

use std::fs;
use std::path::Path;
use toroid_tests::answers::{self, Allowed};
use toroid_tests::outcome::{self, Line, Outcome};
use toroid_tests::script;
use toroid_tests::server::Toroid;
use toroid_tests::session::{Protocol, Server, Session};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the extended protocol adds to the answers of the simple one.
fn simple_part(mut outcome: Outcome) -> Outcome {
    outcome.lines.retain(|line| !matches!(line, Line::Parameters(_) | Line::NoColumns));
    outcome
}

fn all_answers(protocol: Protocol) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare");
    let allowed = Allowed::parse(&read(&directory.join("differences.txt"))).expect("a list of differences");
    let mut scripts: Vec<_> =
        fs::read_dir(directory.join("sql")).expect("scripts").map(|entry| entry.expect("a script").path()).collect();
    scripts.sort();
    let toroid = Toroid::start(&[]);
    let (mut found, mut differing, mut names, mut statements) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for path in scripts {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let steps = script::parse(&read(&path)).unwrap_or_else(|what| panic!("{name}: {what}"));
        let recorded = read(&directory.join("expected").join(name.replace(".sql", ".out")));
        let expected = answers::parse(&recorded, &steps).unwrap_or_else(|what| panic!("{name}: {what}"));
        let mut session = Session::new(toroid.address.clone(), Server::Toroid, protocol);
        for (step, expected) in steps.iter().zip(expected) {
            statements += 1;
            let got = simple_part(session.run(step));
            let Some(what) = outcome::compare(&simple_part(expected), &got, step.unordered).hard else {
                continue;
            };
            let sql = answers::one_line(&step.sql);
            if !allowed.covers(&name, &sql, &got) {
                found.push(format!("{name}:{}: {sql}\n    {what}", step.line));
            }
            differing.push((name.clone(), sql));
        }
        names.push(name);
    }
    let stale = allowed.of(&names).filter(|listed| !differing.contains(listed));
    found.extend(stale.map(|(name, sql)| format!("{name}: listed as a difference, but alike: {sql}")));
    assert!(found.is_empty(), "{} of {statements} statements:\n{}", found.len(), found.join("\n"));
}

#[test]
fn statements_get_the_recorded_answers() {
    all_answers(Protocol::Simple);
}

#[test]
fn extended_queries_get_the_recorded_answers() {
    all_answers(Protocol::Extended);
}
