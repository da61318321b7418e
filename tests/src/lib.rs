//! What the black-box tests share: a small protocol client, SQL scripts and their answers, a server to run against, and tidy.
//!
//! The black-box part does not touch the product's crates: it is reached through its command and its sockets alone. `simulate` does: it runs
//! their pure parts in a world of its own.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod tidy;
pub mod random;
pub mod message;
pub mod client;
pub mod must;
pub mod script;
pub mod outcome;
pub mod session;
pub mod server;
pub mod trace;
pub mod answers;
pub mod isolation;
pub mod generate;
pub mod chaos;
pub mod simulate;
