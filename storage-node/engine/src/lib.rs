//! The deterministic core of a storage node: a partition's rows and how they change. No clock, randomness, threads or I/O.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

#![forbid(unsafe_code)]

pub mod store;
