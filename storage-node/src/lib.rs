//! A storage node: the shell around the engine.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod fragment;
