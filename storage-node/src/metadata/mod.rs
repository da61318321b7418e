//! The metadata service, on the first node: makes the cluster map once, changes the catalog, and tells everybody.
//!
//! `state` is the pure state machine, `change` what schema changes do to a catalog; `service` moves bytes. A Raft group takes the place of the single state later.

mod change;
mod state;
mod service;

pub use service::serve;
pub use state::{Founding, Metadata};

#[cfg(test)]
mod tests;
