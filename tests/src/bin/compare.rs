//! `compare`: runs SQL scripts on PostgreSQL and on Toroid and says where they differ.
#![allow(clippy::print_stdout, reason = "its report is its output")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use toroid_tests::answers::{self, Allowed};
use toroid_tests::client::Address;
use toroid_tests::outcome::{self, Outcome, Soft};
use toroid_tests::script::{self, Step};
use toroid_tests::session::{Protocol, Server, Session};

const USAGE: &str = "\
compare [--postgres URL] [--toroid URL] [options] [script.sql …]

Runs the scripts (all of tests/compare/sql without names) on both servers and compares statement by statement.
With --postgres alone the answers are recorded (--record) or checked against those recorded.
With --toroid alone they are compared with the recorded answers.

  --record              write PostgreSQL's answers to tests/compare/expected
  --protocol KIND       simple (default), extended, or binary (extended, results in binary)
  --same                the second server is PostgreSQL too: it runs PostgreSQL's text
  --soft                show also where only messages, positions, notices or type modifiers differ
  --directory PATH      where the scripts are (default tests/compare of this source tree)

A URL is postgresql://user@host:port/database; ?host=/directory names a Unix socket.
Exit code 1: something differs that tests/compare/differences.txt does not allow, or no longer differs that it lists.";

struct Options {
    postgres: Option<Address>,
    toroid: Option<Address>,
    record: bool,
    same: bool,
    soft: bool,
    protocol: Protocol,
    directory: PathBuf,
    scripts: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        postgres: None,
        toroid: None,
        record: false,
        same: false,
        soft: false,
        protocol: Protocol::Simple,
        directory: Path::new(env!("CARGO_MANIFEST_DIR")).join("compare"),
        scripts: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let address = |url: String| Address::parse(&url).ok_or(format!("not an address: {url}"));
        match argument.as_str() {
            "--postgres" => options.postgres = Some(address(value()?)?),
            "--toroid" => options.toroid = Some(address(value()?)?),
            "--record" => options.record = true,
            "--same" => options.same = true,
            "--soft" => options.soft = true,
            "--directory" => options.directory = value()?.into(),
            "--protocol" => {
                options.protocol = match value()?.as_str() {
                    "simple" => Protocol::Simple,
                    "extended" => Protocol::Extended,
                    "binary" => Protocol::Binary,
                    other => return Err(format!("no protocol: {other}")),
                }
            }
            "--help" | "-h" => return Err(USAGE.to_owned()),
            flag if flag.starts_with('-') => return Err(format!("no option: {flag}\n\n{USAGE}")),
            script => options.scripts.push(script.to_owned()),
        }
    }
    match (&options.postgres, &options.toroid, options.record) {
        (None, None, _) => Err(USAGE.to_owned()),
        (_, Some(_), true) => Err("--record goes with --postgres alone".to_owned()),
        (None, Some(_), _) if options.protocol != Protocol::Simple => {
            Err("recorded answers are of the simple protocol".to_owned())
        }
        _ => Ok(options),
    }
}

/// What was counted over all scripts.
#[derive(Default)]
struct Counts {
    statements: usize,
    alike: usize,
    differ: usize,
    allowed: usize,
    /// Of those that differ: Toroid said 0A000.
    unsupported: usize,
    stale: usize,
    soft: BTreeMap<Soft, usize>,
}

fn main() -> ExitCode {
    match options().and_then(|options| compare(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn all_scripts(directory: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".sql"));
    names.sort();
    Ok(names)
}

fn compare(options: &Options) -> Result<bool, String> {
    let scripts = match options.scripts.is_empty() {
        true => all_scripts(&options.directory.join("sql"))?,
        false => options.scripts.clone(),
    };
    let allowed = Allowed::parse(&read(&options.directory.join("differences.txt"))?)?;
    let mut counts = Counts::default();
    let mut differing = Vec::new();
    for name in &scripts {
        let steps = script::parse(&read(&options.directory.join("sql").join(name))?)
            .map_err(|what| format!("{name}: {what}"))?;
        let recorded = options.directory.join("expected").join(name.replace(".sql", ".out"));
        let run = |address: &Address, server| run(address, server, options.protocol, &steps);
        let expected = match &options.postgres {
            Some(address) => run(address, Server::Postgres),
            None => answers::parse(&read(&recorded)?, &steps).map_err(|what| format!("{name}: {what}"))?,
        };
        if options.record {
            let pairs: Vec<_> = steps.into_iter().zip(expected).collect();
            fs::write(&recorded, answers::render(&pairs))
                .map_err(|error| format!("{}: {error}", recorded.display()))?;
            counts.statements += pairs.len();
            continue;
        }
        let got = match &options.toroid {
            Some(address) => run(address, if options.same { Server::Postgres } else { Server::Toroid }),
            None => answers::parse(&read(&recorded)?, &steps).map_err(|what| format!("{name}: {what}"))?,
        };
        for (step, (expected, got)) in steps.iter().zip(expected.iter().zip(&got)) {
            if judge(name, step, (expected, got), &allowed, options, &mut counts) {
                differing.push((name.clone(), answers::one_line(&step.sql)));
            }
        }
    }
    if options.record {
        println!("compare: recorded {} statements of {} scripts", counts.statements, scripts.len());
        return Ok(true);
    }
    if options.protocol == Protocol::Simple && options.toroid.is_some() {
        for stale in allowed.of(&scripts).filter(|listed| !differing.contains(listed)) {
            println!("{}: listed in differences.txt but does not differ: {}", stale.0, stale.1);
            counts.stale += 1;
        }
    }
    report(&counts, scripts.len());
    Ok(counts.differ + counts.stale == 0)
}

fn run(address: &Address, server: Server, protocol: Protocol, steps: &[Step]) -> Vec<Outcome> {
    let mut session = Session::new(address.clone(), server, protocol);
    steps.iter().map(|step| session.run(step)).collect()
}

/// Counts and shows one statement's comparison; whether it differs.
fn judge(
    name: &str,
    step: &Step,
    (expected, got): (&Outcome, &Outcome),
    allowed: &Allowed,
    options: &Options,
    counts: &mut Counts,
) -> bool {
    let comparison = outcome::compare(expected, got, step.unordered);
    counts.statements += 1;
    for (kind, what) in &comparison.soft {
        *counts.soft.entry(*kind).or_default() += 1;
        if options.soft {
            println!("{name}:{}: {}\n    {kind:?}: {what}", step.line, answers::one_line(&step.sql));
        }
    }
    let Some(what) = comparison.hard else {
        counts.alike += 1;
        return false;
    };
    if allowed.covers(name, &step.sql, got) {
        counts.allowed += 1;
        return true;
    }
    counts.differ += 1;
    counts.unsupported += usize::from(got.is_unsupported());
    println!("{name}:{}: {}\n    {what}", step.line, answers::one_line(&step.sql));
    for line in got.lines.iter().filter(|line| matches!(line, outcome::Line::Error { .. } | outcome::Line::Lost(_))) {
        println!("         got {line:?}");
    }
    true
}

fn report(counts: &Counts, scripts: usize) {
    let soft = |kind| counts.soft.get(&kind).copied().unwrap_or(0);
    println!(
        "compare: {} statements in {scripts} scripts: {} alike, {} differ ({} by 0A000), {} allowed to differ, {} listed that no longer differ",
        counts.statements, counts.alike, counts.differ, counts.unsupported, counts.allowed, counts.stale
    );
    println!(
        "compare: softly: {} messages, {} positions, {} notices, {} type modifiers differ",
        soft(Soft::Message),
        soft(Soft::Position),
        soft(Soft::Notice),
        soft(Soft::Modifier)
    );
}
