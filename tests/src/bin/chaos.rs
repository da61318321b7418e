//! Faults on real processes under load, and figures of how the cluster takes them: `chaos SCENARIO [--seconds N] [--rounds N] [--nodes N] …`
#![allow(clippy::print_stdout, reason = "its figures are what it is for")]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use toroid_tests::chaos::deployment::Shape;
use toroid_tests::chaos::network::Network;
use toroid_tests::chaos::scenario::{self, Run};

const HELP: &str = "\
chaos SCENARIO [--nodes 3] [--proxies 2] [--copies 2] [--partitions 64] [--workers 1] [--clients 8] [--seconds 180] [--rounds 20] [--seed 1]
Scenarios:
  mixed       random faults (SIGKILL, SIGSTOP, cut links, rolling restarts) for --seconds
  bank        transactions between accounts and lists, under the same faults and SIGKILL of proxies, for --seconds
  migrations  schema changes in transactions, under the same, for --seconds
  kill        how long statements stall after SIGKILL of a storage node, --rounds times
  stop        how long they stall while a node is asked to end, --rounds times
  proxies     SIGKILL of proxies, --rounds times
  grow        a node more, then a node less
  copies      throughput with one, two and three copies, --seconds each
TOROID_BIN names the binary. Links are cut only where network namespaces may be made; it says so when not.";

struct Options {
    scenario: String,
    run: Run,
    /// This process is in its private network already.
    inside: bool,
}

fn options() -> Result<Options, String> {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().ok_or(HELP)?;
    let shape = Shape { nodes: 3, proxies: 2, copies: 2, partitions: 64, workers: 1 };
    let mut run = Run { shape, clients: 8, seconds: 180, seed: 1, rounds: 20 };
    let mut inside = false;
    while let Some(flag) = arguments.next() {
        if flag == "--inside" {
            inside = true;
            continue;
        }
        let text = arguments.next().ok_or_else(|| format!("{flag} needs a number\n{HELP}"))?;
        let value: u64 = text.parse().map_err(|_| format!("{flag} {text}: not a number\n{HELP}"))?;
        match flag.as_str() {
            "--nodes" => run.shape.nodes = value.clamp(1, 100) as u8,
            "--proxies" => run.shape.proxies = value.clamp(1, 40) as u8,
            "--copies" => run.shape.copies = value.clamp(1, 8) as u8,
            "--partitions" => run.shape.partitions = value.clamp(1, 4_096) as u16,
            "--workers" => run.shape.workers = value.clamp(1, 16) as u16,
            "--clients" => run.clients = value.clamp(1, 1_000),
            "--seconds" => run.seconds = value.clamp(1, 3_600),
            "--rounds" => run.rounds = value.clamp(1, 1_000),
            "--seed" => run.seed = value,
            _ => return Err(format!("{flag} is unknown\n{HELP}")),
        }
    }
    Ok(Options { scenario, run, inside })
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(help) => {
            eprintln!("{help}");
            return ExitCode::from(2);
        }
    };
    let run = &options.run;
    let result = match options.scenario.as_str() {
        "mixed" | "bank" | "migrations" if !options.inside && Network::can_bridge() => {
            let own = std::env::current_exe().unwrap_or_else(|_| "chaos".into());
            let error =
                Command::new("unshare").arg("--net").arg(own).args(std::env::args().skip(1)).arg("--inside").exec();
            Err(error)
        }
        name @ ("mixed" | "bank" | "migrations") => {
            if !options.inside {
                println!("links are not cut: network namespaces may not be made here");
            }
            match name {
                "bank" => scenario::bank(run, options.inside),
                "migrations" => scenario::migrations(run, options.inside),
                _ => scenario::mixed(run, options.inside),
            }
        }
        "kill" => scenario::stalls(run, false),
        "stop" => scenario::stalls(run, true),
        "proxies" => scenario::proxies(run),
        "grow" => scenario::grow(run),
        "copies" => scenario::copies(run),
        other => {
            eprintln!("{other} is no scenario\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}
