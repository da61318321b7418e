//! A scripted executor behind a real front end, and a client that speaks messages written as text.

pub mod client;
pub mod fake;
