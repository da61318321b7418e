//! The metadata group: makes the cluster map, changes the catalog, gives leases, and tells everybody.
//!
//! `state` is what the group agrees on and `change` what schema changes do to a catalog; `detector` knows who is silent, `planner` what should move;
//! `cuts` makes cuts for reads of several partitions, `deadlocks` finds circles of waits; `leader` decides and answers. All these are pure. `solo` is a group of one that keeps nothing, `raft` replicates the log where nodes keep it on disk;
//! `service` is the control port.

mod change;
pub mod state;
pub mod detector;
pub mod planner;
pub mod cuts;
pub mod deadlocks;
pub mod leader;
pub mod solo;
mod gauges;
mod outgoing;
mod clients;
mod raft;
mod service;
mod host;

pub use host::{Host, Hosted};
pub use raft::Seat;
pub use solo::{Outbox, Solo};
pub use state::Founding;

#[cfg(test)]
mod tests;
