//! The `toroid` command: one binary for everything that runs in a cluster.

mod allocator;
mod machine;
mod settings;
mod arguments;
mod stop;
mod observe;
mod process;
mod control;
mod admin;
mod serve;
mod storage_node;
mod proxy;
mod dev;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let gives_back = allocator::give_back();
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or_default();
    observe::log_to_stderr(matches!(command, Command::Dev(_)));
    if let Err(error) = gives_back {
        tracing::warn!(%error, "memory that idle threads have freed stays with the process");
    }
    let result = match command {
        Command::Dev(dev) => dev::run(&dev),
        Command::StorageNode(settings) => storage_node::run(settings),
        Command::Proxy(settings) => proxy::run(settings),
        Command::Status { json, group } => admin::status(&group, json),
        Command::Node(node) => admin::node(&node),
        Command::Copies { copies, min_copies, group } => admin::copies(copies, min_copies, &group),
        Command::Recover { accept_loss, group } => admin::recover(accept_loss, &group),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toroid: {error}");
            ExitCode::FAILURE
        }
    }
}
