//! `agree`: runs random queries on PostgreSQL and on Toroid and says where they differ.
#![allow(clippy::print_stdout, reason = "its report is its output")]

use std::process::ExitCode;
use toroid_tests::client::Address;
use toroid_tests::generate::Generator;
use toroid_tests::outcome::{self, Outcome};
use toroid_tests::script::Step;
use toroid_tests::session::{Protocol, Server, Session};

const USAGE: &str = "agree --postgres URL --toroid URL [--seed N] [--rounds N] [--queries N]

Each round has tables and queries of its own; round N of seed S is the first of seed S + N.
Exit code 1: an answer differs, other than that Toroid says 0A000.";

struct Options {
    postgres: Address,
    toroid: Address,
    seed: u64,
    rounds: u64,
    queries: u64,
}

fn options() -> Result<Options, String> {
    let (mut postgres, mut toroid) = (None, None);
    let (mut seed, mut rounds, mut queries) = (1, 1, 100);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        let number = || value.parse::<u64>().map_err(|_| format!("not a number: {value}"));
        match argument.as_str() {
            "--postgres" => postgres = Address::parse(&value),
            "--toroid" => toroid = Address::parse(&value),
            "--seed" => seed = number()?,
            "--rounds" => rounds = number()?,
            "--queries" => queries = number()?,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(Options { postgres: postgres.ok_or(USAGE)?, toroid: toroid.ok_or(USAGE)?, seed, rounds, queries })
}

fn main() -> ExitCode {
    match options() {
        Ok(options) if agree(&options) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn agree(options: &Options) -> bool {
    let mut postgres = Session::new(options.postgres.clone(), Server::Postgres, Protocol::Simple);
    let mut toroid = Session::new(options.toroid.clone(), Server::Toroid, Protocol::Simple);
    let (mut alike, mut unsupported, mut differ) = (0_u64, 0_u64, 0_u64);
    for seed in options.seed..options.seed + options.rounds {
        let mut generator = Generator::new(seed);
        for sql in generator.tables() {
            let step = step(sql, false);
            postgres.run(&step);
            toroid.run(&step);
        }
        for number in 0..options.queries {
            let generated = generator.query();
            let step = step(generated.sql, !generated.ordered);
            let (expected, got) = (postgres.run(&step), toroid.run(&step));
            if got.is_unsupported() {
                unsupported += 1;
                println!("seed {seed} query {number}: {}\n    {}", step.sql, state(&got));
            } else if let Some(what) = outcome::compare(&expected, &got, step.unordered).hard {
                differ += 1;
                println!("seed {seed} query {number} DIFFERS: {}\n    {what}", step.sql);
                println!("    expected {}\n    got {}", state(&expected), state(&got));
            } else {
                alike += 1;
            }
        }
    }
    println!("agree: {alike} alike, {differ} differ, {unsupported} by 0A000");
    differ == 0
}

fn state(outcome: &Outcome) -> String {
    let text = outcome.render();
    text.lines().filter(|line| !line.is_empty()).take(12).collect::<Vec<_>>().join(" / ")
}

fn step(sql: String, unordered: bool) -> Step {
    Step { sql, unordered, ..Step::default() }
}
