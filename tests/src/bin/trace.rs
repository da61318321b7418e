//! `trace`: records protocol traces from a real PostgreSQL into tests/protocol, keeping what is sent.
#![allow(clippy::print_stdout, reason = "its report is its output")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use toroid_tests::client::{Address, Client};
use toroid_tests::trace;

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1).and_then(|url| Address::parse(&url)) else {
        eprintln!(
            "trace postgresql://user@host:port/database\n\nWrites the replies of this PostgreSQL into tests/protocol/*.trace."
        );
        return ExitCode::from(2);
    };
    match record(&address) {
        Ok(count) => {
            println!("trace: recorded {count} groups");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn record(address: &Address) -> Result<usize, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol");
    let failed = |error: std::io::Error| error.to_string();
    let mut count = 0;
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let mut groups = trace::parse(&fs::read_to_string(&path).map_err(failed)?);
        let mut client = Client::connect(address).map_err(failed)?;
        for group in &mut groups {
            group.replies.clear();
            group.replies = trace::run(&mut client, group).map_err(|what| format!("{}: {what}", path.display()))?;
            count += 1;
        }
        fs::write(&path, trace::render(&groups)).map_err(failed)?;
    }
    Ok(count)
}
