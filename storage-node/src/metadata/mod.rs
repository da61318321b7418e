//! The metadata group: makes the cluster map, changes the catalog, gives leases, and tells everybody.
//!
//! `state` is what the group agrees on and `change` what schema changes do to a catalog; `detector` knows who is silent, `planner` what should move;
//! `leader` decides and answers. All these are pure. `solo` is a group of one; `service` moves bytes.

mod change;
pub mod state;
pub mod detector;
pub mod planner;
pub mod leader;
pub mod solo;
mod service;

pub use service::serve;
pub use solo::{Outbox, Solo};
pub use state::Founding;

#[cfg(test)]
mod tests;
