//! What is judged: each key's history against a register that one client uses alone, and at the end the replicas against each other.

pub mod agree;
pub mod linear;
