//! What proxies and storage nodes must agree on. Pure: no I/O, no clock, no randomness, no threads.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod limits;
pub mod decode;
pub mod error;
pub mod id;
pub mod zone;
pub mod near;
pub mod env;
pub mod types;
pub mod row;
pub mod key;
pub mod hash;
pub mod secret;
pub mod ring;
pub mod func;
pub mod expr;
pub mod eval;
pub mod plan;
pub mod transaction;
pub mod catalog;
pub mod map;
pub mod wire;

pub use types::datum;
pub mod seek;
pub mod routing;
pub mod calls;
pub mod coordinator;
pub mod holding;
pub mod hearing;
