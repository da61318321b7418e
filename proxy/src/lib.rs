//! The proxy: PostgreSQL's front end of a cluster.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod bound;
pub mod virtual_table;
pub mod merge;
