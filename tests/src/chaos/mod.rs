//! Chaos on real processes: storage nodes and proxies, load with checkers, and faults between them.
//!
//! - `network`: where the processes live: namespaces of their own joined by a bridge, so that links can be cut; loopback where that is not allowed
//! - `deployment`: starts, kills, pauses and watches the processes
//! - `load`: clients that count what they were told, and what cannot be known
//! - `transactor`: a client that works in transactions, and what it was told of them
//! - `bank`: money and lists, and whether all of it adds up
//! - `migrations`: schema changes in transactions, and whether the tables are those that were committed
//! - `verdict`: what was acknowledged is there, once
//! - `faults`: what is done to the processes, and when they count as healed
//! - `scenario`: whole runs, with the figures that they print

pub mod network;
pub mod deployment;
pub mod load;
pub mod transactor;
pub mod bank;
pub mod migrations;
pub mod verdict;
pub mod faults;
pub mod scenario;
