//! A storage node: the shell around the engine.
//!
//! The life of a request: `event_loop` reads it from its worker's own port, in the thread that will execute it; `toroid_engine::worker` executes
//! it and says what is to be sent; the loop writes that at the end of its turn. What takes long runs in `outside`, over roots that the worker
//! lends, and comes back as a `letter`. `metadata` makes map and catalog on the first node, `control` brings them to each node's workers.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod stream;
pub mod neighbours;
pub mod config;
pub mod data_dir;
pub mod clock;
pub mod checksum;
pub mod complaint;
pub mod prove;
pub mod frames;
pub mod letter;
pub mod fragment;
pub mod outside;
pub mod event_loop;
pub mod metadata;
pub mod control;
pub mod node;

pub use config::{Bootstrap, Host, NodeConfig, StartError};
pub use neighbours::Neighbours;
pub use node::{NodeHandle, start};
