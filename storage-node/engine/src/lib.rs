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
//! The life of a transaction at one partition (`worker::transaction`, `worker::task`):
//!
//! 1. `worker::command::attempt` judges each of its statements, and those of others while there are transactions: `claim` takes the locks that it
//!    needs (`lock`), it is computed on the root with the transaction's own writes laid over (`store::write_set`), and its changes are kept there;
//! 2. whoever is in somebody's way is parked (`worker::command::wait`), and attempted again from the start when its turn comes;
//! 3. `worker::command::transact` ends it: in one entry where it is the only participant, otherwise prepared and decided by entries that every
//!    replica remembers (`store::root::Transactions`), so that a new primary goes on with them, locks and all (`worker::command::role`);
//! 4. `worker::command::inquiry` asks and tells among partitions what became of it when its coordinator is silent.
//!
//! The life of a replica configuration (`worker::Event::MapChanged`):
//!
//! 1. `worker::command::map` compares the map with the last one, `role` makes of each replica what it is to be now: a backup that is promoted
//!    applies all it holds, a primary that is deposed sends back what waits in its gate;
//! 2. `worker::links` connects primaries to their followers, which tell where their logs end (`worker::command::follow`);
//! 3. the primary goes on from the last entry that both logs have (`log::common_prefix`), the follower cuts what it has behind that; a joining
//!    replica that is too far behind gets a root first (`store::checkpoint`, `root_piece`, `root_taken`), one that was dropped a moment ago
//!    still has what it held (`worker::replica::kept`);
//! 4. a new primary takes requests when all backups hold what it held when it was promoted;
//! 5. `worker::command::watch` asks for the next configuration: without who is silent, with who has caught up, or handed over as planned.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

#![forbid(unsafe_code)]

pub mod store;
pub mod log;
pub mod lock;
pub mod gate;
pub mod worker;
