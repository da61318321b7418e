//! What proxies and storage nodes both need of DataFusion: PostgreSQL's functions and aggregates, fragment leaves, their codec, and how threads share processors.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod schedule;
pub mod error;
pub mod memory;
pub mod source;
pub mod column;
pub mod scalar;
pub mod aggregate;
pub mod leaf;
pub mod codec;
