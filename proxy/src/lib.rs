//! The proxy: PostgreSQL's front end of a cluster.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod bound;
pub mod parse;
pub mod virtual_table;
pub mod bind;
pub mod point;
pub mod lower;
pub mod merge;
pub mod cluster;
pub mod settings;
pub mod statement;
pub mod ddl;
pub mod execute;
pub mod protocol;
pub mod encode;
pub mod copy;
pub mod session;
pub mod server;
