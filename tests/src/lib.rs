//! What the black-box tests share: a small protocol client, SQL scripts and their answers, a server to run against, and tidy.
//!
//! Nothing here links against the product: it is reached through its command and its sockets alone.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod tidy;
pub mod message;
pub mod client;
pub mod script;
pub mod outcome;
pub mod session;
pub mod server;
pub mod trace;
pub mod answers;
pub mod generate;
