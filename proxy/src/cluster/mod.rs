//! The proxy's side of the cluster: what it knows of map and catalog, and its connections to workers.
//!
//! A statement's request goes through the [`client::Client`] of its proxy thread, which has a connection of its own to every worker, so that no
//! request crosses a thread between socket and session. Fragments of distributed queries have connections of their own ([`fragments`]), so that large batches never
//! stand before small answers.

mod stream;
mod near;
mod connection;
mod lives;
mod changes;
mod metadata;
pub mod cuts;
pub mod client;
pub mod fragments;

pub use metadata::{Cluster, View};
