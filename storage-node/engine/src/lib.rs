//! The deterministic core of a storage node: a partition's rows and how they change. No clock, randomness, threads or I/O.
//!
//! The life of a point write (`worker::Worker::step` with a frame of a proxy):
//!
//! 1. `worker::command::request` finds the plan and the partition, looks the request's identity up, checks epoch and catalog;
//! 2. `worker::command::{insert, update, delete}` compute the write set and the answer, `store::root::Root::check` judges it;
//! 3. `worker::replica::primary` appends it to the partition's `log` under the next LSN and applies it at once;
//! 4. at the end of the turn `worker::links` sends what was appended, to each backup's worker in one frame;
//! 5. the answer waits in the partition's `gate` until all backups have the entry, and leaves under the lease.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

#![forbid(unsafe_code)]

pub mod store;
pub mod log;
pub mod gate;
pub mod worker;
