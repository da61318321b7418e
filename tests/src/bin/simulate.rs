//! `simulate --seeds N [--from N]`: runs seeds; `--seed N [--trace]`: replays one. Fails when anything happened that must not.
#![allow(clippy::print_stdout, reason = "a command that reports on its standard output")]

use std::process::ExitCode;
use std::time::Instant;
use toroid_tests::simulate::faults::show;
use toroid_tests::simulate::sabotage::Sabotage;
use toroid_tests::simulate::scenario::{Menu, Scenario};
use toroid_tests::simulate::shrink::shrink;
use toroid_tests::simulate::world::{Tally, run};

const USAGE: &str = "usage: simulate [--seeds N] [--from N] | --seed N [--trace] [--whole]; --menu nothing|connections|everything|commitments|sessions|schema, --sabotage NAME";
/// Lines of a shortened trace that are shown.
const SHOWN: usize = 120;

struct Options {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    trace: bool,
    whole: bool,
    menu: Menu,
    sabotage: Option<Sabotage>,
}

fn options() -> Option<Options> {
    let mut options =
        Options { seeds: 200, from: 1, seed: None, trace: false, whole: false, menu: Menu::Everything, sabotage: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seeds" => options.seeds = arguments.next()?.parse().ok()?,
            "--from" => options.from = arguments.next()?.parse().ok()?,
            "--seed" => options.seed = Some(arguments.next()?.parse().ok()?),
            "--trace" => options.trace = true,
            "--whole" => options.whole = true,
            "--menu" => {
                options.menu = match arguments.next()?.as_str() {
                    "nothing" => Menu::Nothing,
                    "connections" => Menu::Connections,
                    "everything" => Menu::Everything,
                    "commitments" => Menu::Commitments,
                    "sessions" => Menu::Sessions,
                    "schema" => Menu::Schema,
                    _ => return None,
                }
            }
            "--sabotage" => {
                let name = arguments.next()?;
                let named = |sabotage: &Sabotage| format!("{sabotage:?}").eq_ignore_ascii_case(&name);
                options.sabotage = Some(Sabotage::ALL.into_iter().find(named)?);
            }
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    match options.seed {
        Some(seed) => replay(seed, &options),
        None => seeds(&options),
    }
}

fn seeds(options: &Options) -> ExitCode {
    let begin = Instant::now();
    let (mut operations, mut faults, mut failed) = (0, 0, Vec::new());
    let mut total = Tally::default();
    for seed in options.from..options.from + options.seeds {
        let scenario = Scenario::draw(seed, options.menu);
        let ended = run(&scenario, options.sabotage, false);
        operations += ended.operations;
        faults += ended.faults;
        total.add(&ended.tally);
        if let Some(violation) = ended.violation {
            println!("seed {seed} FAILED: {violation}");
            if failed.is_empty() && !options.whole {
                explain(&scenario, options);
            }
            failed.push(seed);
        }
    }
    println!("{total:?}");
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{} seeds, {operations} operations, {faults} faults, {} failed, {:.1} seeds/s",
        options.seeds,
        failed.len(),
        options.seeds as f64 / seconds
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How to see a failure again, and the shortest trace of it.
fn explain(scenario: &Scenario, options: &Options) {
    println!(
        "replay: cargo run -p toroid-tests --bin simulate -- --seed {} --trace --menu {:?}",
        scenario.seed, options.menu
    );
    let small = shrink(scenario, options.sabotage);
    println!("{}", small.title());
    small.faults.iter().for_each(|planned| println!("  {}", show(planned)));
    small.errands.iter().for_each(|planned| println!("  {planned:?}"));
    let ended = run(&small, options.sabotage, true);
    let hidden = ended.trace.len().saturating_sub(SHOWN);
    println!("  … {hidden} lines before");
    ended.trace.iter().skip(hidden).for_each(|line| println!("  {line}"));
    println!("{}", ended.violation.unwrap_or_default());
}

fn replay(seed: u64, options: &Options) -> ExitCode {
    let scenario = Scenario::draw(seed, options.menu);
    println!("{}", scenario.title());
    let failed = run(&scenario, options.sabotage, false).violation.is_some();
    let scenario = if failed && !options.whole { shrink(&scenario, options.sabotage) } else { scenario };
    println!("{}", scenario.title());
    scenario.faults.iter().for_each(|planned| println!("  {}", show(planned)));
    scenario.errands.iter().for_each(|planned| println!("  {planned:?}"));
    let ended = run(&scenario, options.sabotage, options.trace);
    ended.trace.iter().for_each(|line| println!("{line}"));
    println!("{:?}, {} virtual ms, digest {:016x}", ended.tally, ended.lasted / 1_000, ended.digest);
    match ended.violation {
        Some(violation) => {
            println!("FAILED: {violation}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
