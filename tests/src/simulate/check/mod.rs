//! What is judged: each key's history against a register that one client uses alone, what scans saw, transactions against their levels, advisory locks
//! against each other, what listeners heard against what was said, changes of the table
//! against what was told of them, the replicas against each other at the end, and all along what they may be at one moment.

pub mod advisory;
pub mod agree;
pub mod isolation;
pub mod linear;
pub mod notices;
pub mod schema;
pub mod scans;
pub mod state;
