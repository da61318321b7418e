//! `isolation URL FILE…`: plays scenes of several sessions on a server, at every level, and prints what happened.
#![allow(clippy::print_stdout, reason = "its report is its output")]

use std::fs;
use std::process::ExitCode;
use toroid_tests::client::Address;
use toroid_tests::isolation::play_all;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(address) = arguments.next().and_then(|url| Address::parse(&url)) else {
        eprintln!(
            "isolation postgresql://user@host:port/database FILE…\n\nPrints what the sessions of these scenes see."
        );
        return ExitCode::from(2);
    };
    for path in arguments {
        let played =
            fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| play_all(&address, &text));
        match played {
            Ok(log) => print!("{log}"),
            Err(message) => {
                eprintln!("{path}: {message}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
