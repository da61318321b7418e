//! The proxy: PostgreSQL's front end of a cluster.
//!
//! The life of a statement: `server` accepts the connection, `session` reads its messages (`protocol`) and asks the conductor in `execute`, which
//! takes it through `parse`, `bind` and `point` (one table, executed by workers) or `merge` (distributed, through DataFusion), sends it
//! to workers through `cluster`, and gives the answer back to the session, which writes it with `encode`.
//!
//! The `mod` lines stand in dependency order: a module uses only those above it.

pub mod bound;
pub mod parse;
pub mod virtual_table;
pub mod bind;
pub mod point;
pub mod settings;
pub mod statement;
pub mod lower;
pub mod merge;
pub mod cluster;
pub mod relations;
pub mod ddl;
pub mod execute;
pub mod protocol;
pub mod encode;
pub mod copy;
pub mod session;
pub mod server;
pub mod proxy;
