//! A whole cluster in one thread, on virtual clocks and a virtual network, from one seed: what real processes rarely show.
//!
//! Real: the engine's workers, the wire format, the proxy's table of open requests with its routing and retry decisions, and the metadata
//! group's pure modules. Virtual: everything they stand on.
//!
//! - `clock`: true time, the agenda of what is to happen, and nodes' own clocks
//! - `network`: connections between hosts that may be split, slow or gone
//! - `disk`: a journal of which a crash leaves what was synced, and any part of the rest
//! - `workload`: what clients do, and the table and plans that they do it on
//! - `faults`: what goes wrong, and when
//! - `errands`: what operators ask for meanwhile
//! - `scenario`: everything that a seed decides before a run
//! - `sabotage`: guards that are turned off from outside, to show that the checks see it
//! - `trace`: what happened, line by line
//! - `history`: what clients saw
//! - `context`: what all parts of a run reach for
//! - `observe`: what must hold at every moment, judged from outside
//! - `node`: a storage node's process: its workers in their loops (`seat`), what runs beside them (`pool`), and its control task
//! - `proxy`: a proxy's process: its sessions' statements over virtual connections
//! - `group`: the metadata group's members, which agree by a small Raft over disks
//! - `check`: histories against a register, replicas against each other
//! - `world`: one run
//! - `shrink`: a failing scenario made as small as it still fails

pub mod clock;
pub mod network;
pub mod disk;
pub mod workload;
pub mod faults;
pub mod errands;
pub mod scenario;
pub mod sabotage;
pub mod trace;
pub mod history;
pub mod context;
pub mod observe;
pub mod node;
pub mod proxy;
pub mod group;
pub mod check;
pub mod world;
pub mod shrink;
