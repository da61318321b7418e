//! The `toroid` command: one binary for everything that runs in a cluster.

mod allocator;
mod arguments;
mod observe;
mod dev;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::give_back_at_once();
    let arguments = Arguments::parse();
    observe::log_to_stderr();
    let result = match arguments.command.unwrap_or_default() {
        Command::Dev(dev) => dev::run(&dev),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toroid: {error}");
            ExitCode::FAILURE
        }
    }
}
