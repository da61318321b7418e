//! The metadata group's pure parts: schema changes, membership, leases, and what the planner makes of them.

mod cluster;
mod cuts;
mod cut_scenes;
mod schema;
mod provisional;
mod membership;
mod leases;
mod plans;
